//! Connections that are led astray in a private namespace, with the real kernel. Needs root.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use common::{index_of, private};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::ip_original_dst;
use snorkel_netns::Netns;
use snorkel_rtnl::{Detour, Held, Hold, Nftables, Prefix, Queue, Ruling};

/// A namespace with somebody who listens, and a detour before him.
struct World {
    netns: Netns,
    peer: TcpListener,
    listener: TcpListener,
    queue: Queue,
    nftables: Nftables,
    detour: Detour,
    hold: Hold,
}

impl World {
    fn new() -> World {
        let (netns, mut socket) = private();
        let loopback = index_of(&mut socket, "lo");
        socket.set_up(loopback).unwrap();
        let [peer, listener] =
            [(); 2].map(|()| netns.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap());
        let queue = Queue::open_in(&netns).unwrap();
        let to = Prefix { address: IpAddr::from([127, 0, 0, 0]), length: 8 };
        let detour = Detour {
            table: "astray".into(),
            peers: vec![(to, Some(peer.local_addr().unwrap().port()))],
            queue: queue.number(),
            listener: listener.local_addr().unwrap().port(),
        };
        let mut nftables = Nftables::open_in(&netns).unwrap();
        nftables.add_detour_tables(&detour).unwrap();
        let hold = nftables.add_detour(&detour).unwrap();
        World { netns, peer, listener, queue, nftables, detour, hold }
    }

    /// A connection that is being opened to the peer.
    fn connect(&self) -> JoinHandle<std::io::Result<TcpStream>> {
        let (netns, to) = (self.netns.try_clone().unwrap(), self.peer.local_addr().unwrap());
        std::thread::spawn(move || netns.run(|| TcpStream::connect(to)).unwrap())
    }

    /// The packet that waits.
    fn held(&mut self) -> Held {
        loop {
            if let Some(held) = self.queue.take().unwrap().pop() {
                return held;
            }
            let mut fds = [PollFd::new(&self.queue, PollFlags::IN)];
            let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "no packet waits");
        }
    }

    /// Goes straight to the peer.
    fn is_straight(&self) {
        let stream = self.connect().join().unwrap().unwrap();
        assert_eq!(self.peer.accept().unwrap().1, stream.local_addr().unwrap());
    }
}

#[test]
fn what_is_decided_is_what_the_client_sees() {
    let mut world = World::new();
    assert_ne!(world.hold, Hold::Not, "this kernel can hold packets");
    for (ruling, kind) in [
        (Ruling::Mark(Detour::REFUSED), ErrorKind::ConnectionRefused),
        (Ruling::Mark(Detour::UNREACHABLE), ErrorKind::HostUnreachable),
    ] {
        let opening = world.connect();
        let held = world.held();
        assert_eq!(held.bytes[0] >> 4, 4);
        assert!(!opening.is_finished());
        world.queue.decide(held.id, ruling).unwrap();
        assert_eq!(opening.join().unwrap().unwrap_err().kind(), kind);
    }
    // It is led, and the listener can be told where it wanted to go.
    let opening = world.connect();
    let held = world.held();
    world.queue.decide(held.id, Ruling::Accept).unwrap();
    let (taken, from) = world.listener.accept().unwrap();
    assert_eq!(from, opening.join().unwrap().unwrap().local_addr().unwrap());
    let meant: SocketAddrV4 = ip_original_dst(taken.as_fd()).unwrap();
    assert_eq!(SocketAddr::from(meant), world.peer.local_addr().unwrap());
    // And what is the tap's own goes straight on.
    let opening = world.connect();
    let held = world.held();
    world.queue.decide(held.id, Ruling::Mark(Detour::OWN)).unwrap();
    let (_, from) = world.peer.accept().unwrap();
    assert_eq!(from, opening.join().unwrap().unwrap().local_addr().unwrap());
}

#[test]
fn a_detour_that_is_closed_keeps_what_it_led_and_goes_with_its_socket() {
    let mut world = World::new();
    let opening = world.connect();
    let held = world.held();
    world.queue.decide(held.id, Ruling::Accept).unwrap();
    let mut led = opening.join().unwrap().unwrap();
    let (mut taken, _) = world.listener.accept().unwrap();
    world.nftables.set_detour(&world.detour, world.hold, false).unwrap();
    world.is_straight();
    led.write_all(b"still").unwrap();
    let mut word = [0; 5];
    taken.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"still");
    world.nftables.set_detour(&world.detour, world.hold, true).unwrap();
    let opening = world.connect();
    let held = world.held();
    // One that waits when the queue and the table go is sent again by the kernel, and then nothing is in its way.
    let World { netns, peer, queue, nftables, .. } = world;
    drop((queue, nftables, held));
    let stream = opening.join().unwrap().unwrap();
    assert_eq!(peer.accept().unwrap().1, stream.local_addr().unwrap());
    assert_eq!(Nftables::open_in(&netns).unwrap().chains().unwrap(), []);
}

#[test]
fn two_queues_have_two_numbers() {
    let (netns, _) = private();
    let [one, two] = [(); 2].map(|()| Queue::open_in(&netns).unwrap());
    assert_ne!(one.number(), two.number());
}
