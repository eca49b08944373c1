//! What a namespace costs: links and addresses by id through one socket, against a socket made inside each.
//!
//! Needs root; works in namespaces of its own. `cargo bench -p snorkel-rtnl [-- COUNT…]`; 10, 100 and 1000 by default.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails shows why")]

use std::time::{Duration, Instant};

use snorkel_netns::Netns;
use snorkel_rtnl::{NsId, Socket};

const ROUNDS: usize = 21;

fn main() {
    let wanted: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let wanted = if wanted.is_empty() { vec![10, 100, 1000] } else { wanted };
    println!("microseconds per namespace, median of {ROUNDS} rounds; each namespace has lo and one veth");
    for count in wanted {
        measure(count);
    }
}

fn measure(count: usize) {
    let host = Netns::private().expect("this makes network namespaces: run it as root");
    let mut socket = Socket::open_in(&host).unwrap();
    let containers: Vec<Netns> = (0..count).map(|number| furnish(&mut socket, number)).collect();
    // The kernel looks an id up by walking over all of them from 0: the host, which all others are plugged into, first.
    socket.nsid(&host).unwrap();
    let cold = time(|| {
        containers.iter().for_each(|container| {
            socket.nsid(container).unwrap();
        })
    });
    let ids: Vec<NsId> = containers.iter().map(|container| socket.nsid(container).unwrap()).collect();
    let mut inside: Vec<Socket> = containers.iter().map(|c| Socket::open_in(c).unwrap()).collect();

    println!("\n{count} namespaces");
    row(count, "the host's own links, all at once", || {
        assert_eq!(socket.links(None).unwrap().len(), count + 1);
    });
    println!("{:>9.1}  ids, given (once)", per(cold, count));
    row(count, "ids, asked", || {
        containers.iter().for_each(|container| {
            socket.nsid(container).unwrap();
        });
    });
    row(count, "links by id", || {
        ids.iter().for_each(|id| assert_eq!(socket.links(Some(*id)).unwrap().len(), 2));
    });
    row(count, "addresses by id", || {
        ids.iter().for_each(|id| assert!(!socket.addresses(Some(*id)).unwrap().is_empty()));
    });
    row(count, "ids, links, addresses by id: the whole of one way", || {
        containers.iter().for_each(|container| {
            let id = socket.nsid(container).unwrap();
            assert_eq!(socket.links(Some(id)).unwrap().len(), 2);
            assert!(!socket.addresses(Some(id)).unwrap().is_empty());
        });
    });
    let apart = Netns::private().unwrap();
    let mut asker = Socket::open_in(&apart).unwrap();
    asker.nsid(&host).unwrap();
    let from_apart: Vec<NsId> = containers.iter().map(|c| asker.nsid(c).unwrap()).collect();
    row(count, "links by id, asked from an empty namespace", || {
        from_apart.iter().for_each(|id| assert_eq!(asker.links(Some(*id)).unwrap().len(), 2));
    });
    row(count, "ids, links, addresses by id, asked from an empty namespace", || {
        containers.iter().for_each(|container| {
            let id = asker.nsid(container).unwrap();
            assert_eq!(asker.links(Some(id)).unwrap().len(), 2);
            assert!(!asker.addresses(Some(id)).unwrap().is_empty());
        });
    });
    row(count, "enter on a thread, nothing else", || {
        containers.iter().for_each(|container| container.run(|| ()).unwrap());
    });
    row(count, "enter, socket, links, addresses: the whole of the other way", || {
        containers.iter().for_each(|container| {
            let mut socket = Socket::open_in(container).unwrap();
            assert_eq!(socket.links(None).unwrap().len(), 2);
            assert!(!socket.addresses(None).unwrap().is_empty());
        });
    });
    row(count, "links, addresses through sockets inside, kept open", || {
        inside.iter_mut().for_each(|socket| {
            assert_eq!(socket.links(None).unwrap().len(), 2);
            assert!(!socket.addresses(None).unwrap().is_empty());
        });
    });
    row(count, "routes, neighbours through sockets inside, kept open", || {
        inside.iter_mut().for_each(|socket| {
            assert!(!socket.routes().unwrap().is_empty());
            socket.neighbours().unwrap();
        });
    });
}

fn furnish(socket: &mut Socket, number: usize) -> Netns {
    let container = Netns::private().unwrap();
    let near = socket.add_veth(&format!("v{number}"), "eth0", Some(&container)).unwrap();
    socket.set_up(near).unwrap();
    let mut inner = Socket::open_in(&container).unwrap();
    let far = inner.index_of("eth0").unwrap().unwrap();
    inner.set_up(far).unwrap();
    inner.add_address(far, [10, 1, 0, 2].into(), 24).unwrap();
    inner.add_route(None, [10, 1, 0, 1].into()).unwrap();
    container
}

fn row(count: usize, what: &str, mut work: impl FnMut()) {
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| time(&mut work)).collect();
    rounds.sort();
    println!("{:>9.1}  {what}", per(rounds[ROUNDS / 2], count));
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn per(duration: Duration, count: usize) -> f64 {
    duration.as_secs_f64() * 1e6 / count as f64
}
