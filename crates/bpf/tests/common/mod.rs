//! What the tests with the real kernel have in common: a target and a host in private namespaces, and ways to send.
#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails, and says why"
)]

pub(crate) mod os;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use snorkel_bpf::gate::{AttachPoint, Direction, Gate, Method, Network, Rule, Verdict, WireEnds};
use snorkel_bpf::probe::{self, Answer};
use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, Socket};

/// The target's addresses and the host's.
pub(crate) const TARGET4: &str = "10.0.0.2";
pub(crate) const TARGET6: &str = "fd00::2";
pub(crate) const HOST4: &str = "10.0.0.1";
pub(crate) const HOST6: &str = "fd00::1";

/// A host and a target with a veth pair between them.
pub(crate) struct World {
    pub(crate) host: Netns,
    pub(crate) target: Netns,
    /// The host's side of the pair.
    pub(crate) port: IfIndex,
    /// The target's side.
    pub(crate) eth0: IfIndex,
}

/// A veth pair as a fault makes it for a wire.
pub(crate) struct Wire {
    pub(crate) private_netns: Netns,
    pub(crate) public: IfIndex,
    pub(crate) private: IfIndex,
}

impl World {
    pub(crate) fn new() -> World {
        let host = Netns::private()
            .expect("this test makes network namespaces: run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)");
        let target = Netns::private().unwrap();
        os::no_ipv6_chatter(&host);
        os::no_ipv6_chatter(&target);
        let mut here = Socket::open_in(&host).unwrap();
        let mut there = Socket::open_in(&target).unwrap();
        let port = here.add_veth("port", "eth0", Some(&target)).unwrap();
        let eth0 = there.index_of("eth0").unwrap().unwrap();
        for (socket, link, addresses) in
            [(&mut here, port, [HOST4, HOST6]), (&mut there, eth0, [TARGET4, TARGET6])]
        {
            for address in addresses {
                let address: IpAddr = address.parse().unwrap();
                socket.add_address(link, address, if address.is_ipv4() { 24 } else { 64 }).unwrap();
            }
            let lo = socket.index_of("lo").unwrap().unwrap();
            socket.set_up(lo).unwrap();
            socket.set_up(link).unwrap();
        }
        World { host, target, port, eth0 }
    }

    pub(crate) fn at(&self) -> AttachPoint<'_> {
        AttachPoint { netns: &self.host, link: self.port, inside: false, owner: "test" }
    }

    /// Loads a gate and puts it at the host's side.
    pub(crate) fn gate(&self, rules: &[Rule], wires: &[WireEnds<'_>]) -> Gate {
        let mut gate = Gate::load(rules, wires).unwrap();
        gate.attach(&self.at()).unwrap();
        gate.verify().unwrap();
        gate
    }

    /// A wire whose private end turns packets round at once, named after `name`.
    pub(crate) fn wire(&self, name: &str) -> Wire {
        let private_netns = Netns::private().unwrap();
        os::no_ipv6_at_all(&private_netns);
        os::no_ipv6_for_new_links(&self.host);
        let mut here = Socket::open_in(&self.host).unwrap();
        let mut there = Socket::open_in(&private_netns).unwrap();
        let public = here.add_veth(name, name, Some(&private_netns)).unwrap();
        let private = there.index_of(name).unwrap().unwrap();
        os::no_offloads(&self.host, name);
        for (socket, link) in [(&mut here, public), (&mut there, private)] {
            socket.set_mtu(link, 65535).unwrap();
            socket.set_up(link).unwrap();
        }
        Wire { private_netns, public, private }
    }

    /// A UDP socket in the target.
    pub(crate) fn udp_in_target(&self, address: &str) -> UdpSocket {
        udp(&self.target, address)
    }

    /// A UDP socket of the host.
    pub(crate) fn udp_in_host(&self, address: &str) -> UdpSocket {
        udp(&self.host, address)
    }
}

impl Wire {
    pub(crate) fn ends(&self, direction: Direction) -> WireEnds<'_> {
        WireEnds {
            public: self.public,
            private: self.private,
            private_netns: &self.private_netns,
            direction,
            kernel_queue: true,
        }
    }
}

pub(crate) fn udp(netns: &Netns, address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
    // A test that waits for what never comes ends with an error, and does not hang.
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// What a socket has received by the time a last datagram comes, without that one.
pub(crate) fn received_before(socket: &UdpSocket, last: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).expect("the last datagram must come");
        if &buffer[..length] == last {
            return all;
        }
        all.push(buffer[..length].to_vec());
    }
}

/// Sends a mebibyte or so from one namespace to another over TCP, and waits until it has arrived.
pub(crate) fn tcp_transfer(from: &Netns, to: &Netns, address: &str, total: usize) {
    let address: IpAddr = address.parse().unwrap();
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
    let there = listener.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    let mut stream = from.run(|| TcpStream::connect(there)).unwrap().unwrap();
    stream.write_all(&vec![7; total]).unwrap();
    drop(stream);
    assert_eq!(reader.join().unwrap(), total);
}

/// Waits until what `look` sees is so; fails with what it saw last.
#[track_caller]
pub(crate) fn eventually<T: std::fmt::Debug>(mut look: impl FnMut() -> T, so: impl Fn(&T) -> bool) -> T {
    for _ in 0..200_000 {
        let seen = look();
        if so(&seen) {
            return seen;
        }
        std::thread::yield_now();
    }
    panic!("it never came: {:?}", look());
}

/// The packets that each rule has decided on.
pub(crate) fn packets(gate: &Gate) -> Vec<u64> {
    gate.counts().unwrap().iter().map(|count| count.packets).collect()
}

/// A packet socket on a link, which sends frames as they are.
pub(crate) fn frames(netns: &Netns, link: IfIndex) -> OwnedFd {
    netns.run(|| os::packet_socket(link)).unwrap()
}

/// The ways in which the kernel can hold a gate. One that is said to have tcx (by `make test-kernels`), or not, has to be so.
pub(crate) fn methods() -> Vec<Method> {
    let tcx = match probe::tcx() {
        Answer::Yes => true,
        Answer::No(_) => false,
        Answer::Unknown(why) => panic!("{why}"),
    };
    if let Ok(all) = std::env::var("SNORKEL_TEST_KERNEL_HAS") {
        assert_eq!(tcx, all.split(' ').any(|word| word == "tcx"), "{all}");
    }
    if tcx { vec![Method::Tcx, Method::Clsact] } else { vec![Method::Clsact] }
}

pub(crate) fn rule(direction: Direction, verdict: Verdict) -> Rule {
    Rule::all(direction, verdict)
}

pub(crate) fn net(text: &str) -> Network {
    text.parse().unwrap()
}
