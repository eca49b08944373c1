//! What a gate costs: to load, attach and verify; for packets that match nothing; and a wire against a plain veth pair.
//! Prints ratios of one run, the median of several rounds, of time on the clock and of processor time, which others who use the
//! machine hardly change: a packet's way through the kernel is paid by the thread that sends it. Needs root.
//! `cargo bench -p snorkel-bpf [-- attach|bulk|small…]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot be made ends, and says why"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{Wire, World, net, rule};
use snorkel_bpf::gate::{Direction, Gate, Ports, Protocol, Rule, Verdict, WireNumber};

const ROUNDS: usize = 15;
const BULK: usize = 1 << 30;
const SMALL: usize = 200_000;

fn median<T: PartialOrd + Copy>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    all[all.len() / 2]
}

/// How long a bulk transfer from the target to the host takes.
fn bulk(world: &World, total: usize) -> Duration {
    let address: IpAddr = common::HOST4.parse().unwrap();
    let listener = world.host.run(|| TcpListener::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
    let there = listener.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut buffer = vec![0; 1 << 18];
        while stream.read(&mut buffer).unwrap() > 0 {}
    });
    let mut stream = world.target.run(|| TcpStream::connect(there)).unwrap().unwrap();
    let block = vec![7; 1 << 18];
    let start = Instant::now();
    for _ in 0..total / block.len() {
        stream.write_all(&block).unwrap();
    }
    drop(stream);
    reader.join().unwrap();
    start.elapsed()
}

/// How long so many small datagrams take from the target to a host's port where nobody reads.
fn small(world: &World) -> Duration {
    let (from, to) = (world.udp_in_target(common::TARGET4), world.udp_in_host(common::HOST4));
    from.connect(to.local_addr().unwrap()).unwrap();
    let start = Instant::now();
    for _ in 0..SMALL {
        from.send(b"0123456789abcdef").unwrap();
    }
    start.elapsed()
}

/// The processor time that this process has had.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Measures with and without by turns, and prints how much slower it is with.
fn compare(what: &str, with: impl Fn() -> Gate, run: impl Fn() -> Duration) {
    let measure = || {
        let before = spent();
        let took = run();
        [took, spent() - before]
    };
    let mut all = [const { [const { Vec::new() }; 2] }; 2];
    let mut note = |which: usize, [took, spent]: [Duration; 2]| {
        all[which][0].push(took);
        all[which][1].push(spent);
    };
    run();
    for _ in 0..ROUNDS {
        note(0, measure());
        let gate = with();
        note(1, measure());
        drop(gate);
    }
    let [without, with] = all.map(|times| times.map(median));
    let ratio = |at: usize| without[at].as_secs_f64() / with[at].as_secs_f64() * 100.0;
    println!(
        "{what:<58} {:>9.1?} {:>9.1?} {:>6.1} % {:>9.1?} {:>9.1?} {:>6.1} %",
        without[0],
        with[0],
        ratio(0),
        without[1],
        with[1],
        ratio(1)
    );
}

fn unmatched(rules: usize, peers: &str) -> Vec<Rule> {
    let one = |direction| Rule {
        peers: vec![net(peers)],
        protocol: Some(Protocol::Tcp),
        ports: Ports { peer: Some(9), own: None },
        ..rule(direction, Verdict::Drop)
    };
    Direction::ALL.into_iter().flat_map(|direction| vec![one(direction); rules]).collect()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    let world = World::new();
    let wire = world.wire("wire");
    if wanted("attach") {
        attach(&world, &wire);
    }
    println!("median of {ROUNDS} rounds by turns");
    println!("{:<58} {:>9} {:>9} {:>8} {:>9} {:>9}", "", "without", "with", "", "processor", "with");
    for (what, rules) in [
        ("no rule", vec![]),
        ("1 rule", unmatched(1, "10.7.0.0/16")),
        ("16 rules", unmatched(16, "10.7.0.0/16")),
    ] {
        let with = || world.gate(&rules, &[]);
        if wanted("bulk") {
            let what = format!("bulk TCP, a gate of {what} that does not match");
            compare(&what, with, || bulk(&world, BULK));
        }
        if wanted("small") {
            let what = format!("small UDP, a gate of {what} that does not match");
            compare(&what, with, || small(&world));
        }
    }
    let into = [Rule { protocol: Some(Protocol::Udp), ..rule(Direction::Out, Verdict::Wire(WireNumber(0))) }];
    if wanted("small") {
        compare(
            "small UDP, a wire that turns round at once",
            || world.gate(&into, &[wire.ends(Direction::Out)]),
            || small(&world),
        );
    }
}

fn attach(world: &World, wire: &Wire) {
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let into =
            Rule { protocol: Some(Protocol::Udp), ..rule(Direction::Out, Verdict::Wire(WireNumber(0))) };
        let start = Instant::now();
        let mut gate = Gate::load(&[into], &[wire.ends(Direction::Out)]).unwrap();
        times[0].push(start.elapsed());
        gate.attach(&world.at()).unwrap();
        times[1].push(start.elapsed());
        gate.verify().unwrap();
        times[2].push(start.elapsed());
        let start = Instant::now();
        drop(gate);
        times[3].push(start.elapsed());
    }
    let [load, attach, verify, detach] = times.map(median);
    println!(
        "loaded after {load:.1?}, attached after {attach:.1?}, verified after {verify:.1?}; detached in {detach:.1?}"
    );
}
