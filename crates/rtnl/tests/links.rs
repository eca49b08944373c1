//! Links of several namespaces through one socket, with the real kernel. Needs root.

mod common;

use std::collections::HashSet;

use common::{index_of, named, private};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use snorkel_rtnl::{Error, Mac, MacvlanMode, NsId, OperState, Socket};

#[test]
fn a_fresh_namespace_has_its_loopback_only() {
    let (_netns, mut socket) = private();
    let links = socket.links(None).unwrap();
    let lo = named(&links, "lo");
    assert_eq!(links.len(), 1);
    assert!(lo.flags.loopback && !lo.flags.up);
    assert_eq!((lo.index.get(), lo.kind.as_deref(), lo.mtu, lo.link_nsid), (1, None, 65536, None));
    assert_eq!(socket.addresses(None).unwrap(), []);
}

#[test]
fn both_ends_of_a_veth_pair_over_two_namespaces_name_each_other() {
    let (host, mut socket) = private();
    let (blue, _) = private();
    let (green, _) = private();
    // Both containers' ends have the same number, and the same name.
    let to_blue = socket.add_veth("to-blue", "eth0", Some(&blue)).unwrap();
    let to_green = socket.add_veth("to-green", "eth0", Some(&green)).unwrap();

    let links = socket.links(None).unwrap();
    let host_id = socket.nsid(&host).unwrap();
    for (netns, near, name) in [(&blue, to_blue, "to-blue"), (&green, to_green, "to-green")] {
        let id = socket.nsid(netns).unwrap();
        let inside = socket.links(Some(id)).unwrap();
        let (near_end, far_end) = (named(&links, name), named(&inside, "eth0"));
        assert_eq!(near_end.index, near);
        assert_eq!((near_end.link, near_end.link_nsid), (Some(far_end.index), Some(id)));
        assert_eq!((far_end.link, far_end.link_nsid), (Some(near_end.index), Some(host_id)));
        assert_eq!((near_end.kind.as_deref(), far_end.kind.as_deref()), (Some("veth"), Some("veth")));
    }
    assert_ne!(socket.nsid(&blue).unwrap(), socket.nsid(&green).unwrap());
}

#[test]
fn a_veth_pair_in_one_namespace_names_no_other() {
    let (_netns, mut socket) = private();
    socket.add_veth("a", "b", None).unwrap();
    let links = socket.links(None).unwrap();
    let (a, b) = (named(&links, "a"), named(&links, "b"));
    assert_eq!((a.link, a.link_nsid), (Some(b.index), None));
    assert_eq!((b.link, b.link_nsid), (Some(a.index), None));
}

#[test]
fn ports_name_their_bridge_until_they_are_taken_out() {
    let (_netns, mut socket) = private();
    let (container, _) = private();
    let bridge = socket.add_bridge("br0").unwrap();
    for name in ["port1", "port2"] {
        let port = socket.add_veth(name, &format!("{name}-peer"), Some(&container)).unwrap();
        socket.set_master(port, Some(bridge)).unwrap();
    }
    let links = socket.links(None).unwrap();
    assert_eq!(named(&links, "br0").kind.as_deref(), Some("bridge"));
    assert_eq!(named(&links, "br0").master, None);
    assert_eq!(named(&links, "port1").master, Some(bridge));
    assert_eq!(named(&links, "port2").master, Some(bridge));

    socket.set_master(named(&links, "port1").index, None).unwrap();
    let links = socket.links(None).unwrap();
    assert_eq!(named(&links, "port1").master, None);
    assert_eq!(named(&links, "port2").master, Some(bridge));
}

#[test]
fn a_macvlan_in_another_namespace_names_its_parent() {
    let (host, mut socket) = private();
    let (container, _) = private();
    let parent = socket.add_veth("parent", "wire", None).unwrap();
    for (name, mode) in [("mv-bridge", MacvlanMode::Bridge), ("mv-private", MacvlanMode::Private)] {
        let child = socket.add_macvlan(name, parent, mode).unwrap();
        socket.move_to(child, &container).unwrap();
    }
    assert_eq!(socket.index_of("mv-bridge").unwrap(), None);

    let id = socket.nsid(&container).unwrap();
    let inside = socket.links(Some(id)).unwrap();
    let host_id = socket.nsid(&host).unwrap();
    for (name, mode) in [("mv-bridge", MacvlanMode::Bridge), ("mv-private", MacvlanMode::Private)] {
        let child = named(&inside, name);
        assert_eq!((child.kind.as_deref(), child.macvlan_mode), (Some("macvlan"), Some(mode)));
        assert_eq!((child.link, child.link_nsid), (Some(parent), Some(host_id)));
    }
}

#[test]
fn up_is_the_wish_and_lower_up_the_peers_answer() {
    let (_netns, mut socket) = private();
    let a = socket.add_veth("a", "b", None).unwrap();
    let b = index_of(&mut socket, "b");
    socket.set_up(a).unwrap();
    let links = socket.links(None).unwrap();
    assert!(named(&links, "a").flags.up && !named(&links, "a").flags.lower_up);
    assert_eq!(named(&links, "b").operstate, OperState::Down);

    socket.set_up(b).unwrap();
    let links = socket.links(None).unwrap();
    assert!(named(&links, "a").flags.lower_up && named(&links, "b").flags.lower_up);

    socket.set_down(b).unwrap();
    let links = socket.links(None).unwrap();
    assert!(!named(&links, "b").flags.up && !named(&links, "a").flags.lower_up);
}

#[test]
fn name_hardware_address_and_mtu_are_as_they_were_set() {
    let (_netns, mut socket) = private();
    let link = socket.add_bridge("before").unwrap();
    let mac: Mac = "02:00:00:aa:bb:cc".parse().unwrap();
    socket.rename(link, "after").unwrap();
    socket.set_mac(link, &mac).unwrap();
    socket.set_mtu(link, 1400).unwrap();
    let links = socket.links(None).unwrap();
    let after = named(&links, "after");
    assert_eq!((after.index, after.mtu, after.mac.as_ref()), (link, 1400, Some(&mac)));
    socket.remove(link).unwrap();
    assert_eq!(socket.links(None).unwrap().len(), 1);
}

#[test]
fn the_id_of_a_namespace_that_is_gone_is_an_error_not_an_empty_list() {
    let (_netns, mut socket) = private();
    for list in [
        |socket: &mut Socket, id| socket.links(Some(id)).map(|_| ()),
        |socket: &mut Socket, id| socket.addresses(Some(id)).map(|_| ()),
    ] {
        let error = list(&mut socket, NsId::new(4242)).unwrap_err();
        assert!(matches!(error, Error::Os { .. }), "{error:?}");
        assert!(error.to_string().contains("id 4242"), "{error}");
        // The socket goes on working.
        assert_eq!(socket.links(None).unwrap().len(), 1);
    }
}

#[test]
fn an_id_is_given_once_and_stays() {
    let (host, mut socket) = private();
    let (container, _) = private();
    // To be asked for it alone gives it none.
    assert_eq!(socket.known_nsid(&container).unwrap(), None);
    assert_eq!(socket.known_nsid(&container).unwrap(), None);
    let id = socket.nsid(&container).unwrap();
    assert!(id.is_assigned());
    assert_eq!(socket.known_nsid(&container).unwrap(), Some(id));
    assert_eq!(socket.nsid(&container).unwrap(), id);
    assert_eq!(socket.nsid(&container.try_clone().unwrap()).unwrap(), id);
    assert_ne!(socket.nsid(&host).unwrap(), id);
    // Another socket in the same namespace has the same id; one in another namespace has ids of its own.
    assert_eq!(Socket::open_in(&host).unwrap().nsid(&container).unwrap(), id);
}

#[test]
fn an_id_that_is_wished_for_is_given_unless_there_is_one_or_it_is_taken() {
    let (_host, mut socket) = private();
    let (blue, _) = private();
    let (green, _) = private();
    let wish = NsId::new(7);
    assert_eq!(socket.give_nsid(&blue, wish).unwrap(), wish);
    assert_eq!(socket.give_nsid(&blue, NsId::new(8)).unwrap(), wish);
    let other = socket.give_nsid(&green, wish).unwrap();
    assert!(other.is_assigned() && other != wish, "{other}");
    assert_eq!((socket.nsid(&blue).unwrap(), socket.nsid(&green).unwrap()), (wish, other));
}

#[test]
fn many_threads_asking_at_once_are_told_the_same_id() {
    let (host, _) = private();
    let (container, _) = private();
    let ask = || Socket::open_in(&host).unwrap().nsid(&container).unwrap();
    let ids: HashSet<NsId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1);
}

#[test]
fn names_with_strange_bytes_are_printable_and_can_be_found() {
    let (_netns, mut socket) = private();
    for name in [r"a\x1b[31mb", r"q\xffz", r"a\xe2\x80\xaeb", r"\x5cx1b", "größe", "a'b\"$(c)"] {
        let made = socket.add_bridge(name).unwrap();
        assert!(socket.links(None).unwrap().iter().any(|link| link.name == name), "{name}");
        assert_eq!(socket.index_of(name).unwrap(), Some(made), "{name}");
        socket.remove(made).unwrap();
    }
    for nonsense in ["", "nosuchlink", "a/b", r"a\x00b", &"long".repeat(20), &"longer".repeat(20_000)] {
        assert_eq!(socket.index_of(nonsense).unwrap(), None, "{nonsense}");
    }
}

#[test]
fn three_hundred_links_are_listed_whole() {
    let (_netns, mut socket) = private();
    let (container, mut inner) = private();
    for number in 0..300 {
        socket.add_veth(&format!("v{number}"), &format!("p{number}"), Some(&container)).unwrap();
    }
    let id = socket.nsid(&container).unwrap();
    let near = socket.links(None).unwrap();
    let far = socket.links(Some(id)).unwrap();
    assert_eq!((near.len(), far.len()), (301, 301));
    for number in 0..300 {
        let (v, p) = (named(&near, &format!("v{number}")), named(&far, &format!("p{number}")));
        assert_eq!((v.link, p.link), (Some(p.index), Some(v.index)));
    }
    // The same through a socket inside, but for the ids, which are those of the socket's namespace.
    let names =
        |links: &[snorkel_rtnl::Link]| links.iter().map(|l| (l.index, l.name.clone())).collect::<Vec<_>>();
    assert_eq!(names(&inner.links(None).unwrap()), names(&far));
}

#[test]
fn errors_say_what_was_done_to_what_and_what_the_kernel_said() {
    let (_netns, mut socket) = private();
    socket.add_veth("a", "b", None).unwrap();
    let error = socket.add_veth("a", "c", None).unwrap_err();
    assert!(error.already_exists(), "{error:?}");
    assert!(error.to_string().starts_with("cannot create the veth pair a/c"), "{error}");

    let error = socket.remove(snorkel_rtnl::IfIndex::new(4242).unwrap()).unwrap_err();
    assert!(error.is_missing(), "{error:?}");

    let a = index_of(&mut socket, "a");
    let error = socket.set_mtu(a, 1).unwrap_err();
    let Error::Os { note: Some(note), .. } = &error else { panic!("the kernel gave no words: {error:?}") };
    assert!(error.to_string().contains(note.as_str()) && !note.is_empty());
}

#[test]
fn without_rights_the_error_says_so() {
    let (netns, _) = private();
    let error = netns
        .run(|| {
            // This thread only, which ends with the closure.
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, none).unwrap();
            Socket::open().unwrap().add_bridge("br0").unwrap_err()
        })
        .unwrap();
    assert!(error.is_permission(), "{error:?}");
}

#[test]
fn a_link_counts_what_comes_and_goes_whoever_asks() {
    let (netns, mut socket) = private();
    let lo = index_of(&mut socket, "lo");
    socket.set_up(lo).unwrap();
    let before = socket.counters(lo).unwrap().unwrap();
    netns
        .run(|| {
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = udp.local_addr().unwrap();
            (0..10).for_each(|_| assert_eq!(udp.send_to(&[0; 100], to).unwrap(), 100));
        })
        .unwrap();
    let more = |now: snorkel_rtnl::LinkCounters| {
        let (received, sent) = (now.received, now.sent);
        assert_eq!((received.packets, received.bytes), (sent.packets, sent.bytes));
        (sent.packets - before.sent.packets, sent.bytes - before.sent.bytes)
    };
    // A loopback counts no header of its own.
    assert_eq!(more(socket.counters(lo).unwrap().unwrap()), (10, 10 * (20 + 8 + 100)));
    // By a descriptor that was passed on, and without any right.
    let descriptor = std::os::fd::OwnedFd::from(socket);
    let asked = std::thread::spawn(move || {
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
            .unwrap();
        let mut socket = Socket::adopt(descriptor).unwrap();
        (socket.counters(lo).unwrap(), socket.counters(snorkel_rtnl::IfIndex::new(77).unwrap()).unwrap())
    });
    let (now, nothing) = asked.join().unwrap();
    assert_eq!((more(now.unwrap()).0, nothing), (10, None));
}
