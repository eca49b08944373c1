//! What tests and bench with the real kernel have in common: a target and a host in private namespaces, with a wire at the
//! host's side of the target's link.
#![allow(dead_code, reason = "each file uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails, and says why"
)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use snorkel_bpf::gate::{AttachPoint, Direction, Gate, Rule, Verdict, WireEnds, WireNumber};
use snorkel_fault::plan::{Action, Kind, Place, Plan, Point, Step};
use snorkel_fault::wire::{Backend, Duty, Wire};
use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, Socket};

/// The target's addresses and the host's.
pub(crate) const TARGET4: &str = "10.0.0.2";
pub(crate) const TARGET6: &str = "fd00::2";
pub(crate) const HOST4: &str = "10.0.0.1";
pub(crate) const HOST6: &str = "fd00::1";

/// A host and a target with a veth pair between them, and a namespace for wires.
pub(crate) struct World {
    pub(crate) host: Netns,
    pub(crate) target: Netns,
    pub(crate) private: Netns,
    /// The host's side of the pair.
    pub(crate) port: IfIndex,
    /// The target's side.
    pub(crate) eth0: IfIndex,
}

impl World {
    pub(crate) fn new() -> World {
        let private = || {
            Netns::private()
                .expect("this makes network namespaces: run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")
        };
        let (host, target) = (private(), private());
        for netns in [&host, &target] {
            // Nothing is to be sent that no test asked for: addresses are used at once, routers are not looked for.
            let values = [("accept_dad", "0"), ("router_solicitations", "0"), ("addr_gen_mode", "1")];
            netns
                .run(|| {
                    for (name, value) in values {
                        std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), value).unwrap();
                    }
                })
                .unwrap();
        }
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
        let world = World { host, target, private: private(), port, eth0 };
        // Both know each other's hardware addresses: of what waits for one the kernel keeps some hundred packets only (arp(7),
        // unres_qlen), and a test sends more.
        for (target, host) in [(TARGET4, HOST4), (TARGET6, HOST6)] {
            let (from, to) = (world.udp_in_target(target), world.udp_in_host(host));
            from.send_to(b"hello", to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 10]).expect("it must come");
        }
        world
    }

    /// Turns the offloads of the pair's both ends off.
    pub(crate) fn without_offloads(self) -> World {
        Socket::open_in(&self.host).unwrap().turn_offloads_off(self.port).unwrap();
        Socket::open_in(&self.target).unwrap().turn_offloads_off(self.eth0).unwrap();
        self
    }

    /// Sets the MTU of the pair.
    pub(crate) fn with_mtu(self, mtu: u32) -> World {
        Socket::open_in(&self.host).unwrap().set_mtu(self.port, mtu).unwrap();
        Socket::open_in(&self.target).unwrap().set_mtu(self.eth0, mtu).unwrap();
        self
    }

    /// Leads all IP packets between the target and the host, in one direction, through a wire.
    pub(crate) fn wire(&self, direction: Direction, duty: &Duty, backend: Backend) -> (Gate, Wire) {
        let mut wire = Wire::make_with(&self.host, &self.private, duty, backend).unwrap();
        wire.read_back().unwrap();
        let ends = WireEnds {
            public: wire.public(),
            private: wire.private(),
            private_netns: &self.private,
            // What is answered comes back the other way.
            direction: match (duty, direction) {
                (Duty::Impair(_), same) => same,
                (Duty::Reject, Direction::In) => Direction::Out,
                (Duty::Reject, Direction::Out) => Direction::In,
            },
            kernel_queue: wire.kernel_queue(),
        };
        // Not what a host sends by itself when it has a new address of IPv6, which goes to a group.
        let peers = ["10.0.0.0/24", "fd00::/64"].map(|network| network.parse().unwrap()).to_vec();
        let rule = Rule { peers, ..Rule::all(direction, Verdict::Wire(WireNumber(0))) };
        let mut gate = Gate::load(&[rule], &[ends]).unwrap();
        gate.attach(&AttachPoint { netns: &self.host, link: self.port, inside: false, owner: "test" })
            .unwrap();
        gate.verify().unwrap();
        (gate, wire)
    }

    /// What is to be done at the host's end.
    pub(crate) fn plan(&self, action: Action) -> Plan {
        let links = Socket::open_in(&self.host).unwrap().links(None).unwrap();
        let mac = links.into_iter().find(|link| link.index == self.port).unwrap().mac;
        let netns = self.host.id().unwrap();
        let (of, name) = ("host".to_owned(), "port".to_owned());
        let place = Place { netns, of, index: self.port, name, mac, inside: false };
        let home = self.target.id().unwrap();
        let point = Point { targets: vec!["target".to_owned()], home, link: "eth0".to_owned(), place };
        Plan { kind: Kind::Impair, steps: vec![Step { point, action }], notes: Vec::new() }
    }

    /// How many IPv4 packets the host has received, joined ones as one (proc_pid_net(5), snmp).
    pub(crate) fn received(&self) -> u64 {
        let text = self.host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap().unwrap();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Ip: "))
            .map(|line| line.split(' ').collect())
            .collect();
        let column = rows[0].iter().position(|name| *name == "InReceives").unwrap();
        rows[1][column].parse().unwrap()
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

fn udp(netns: &Netns, address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
    // A test that waits for what never comes ends with an error, and does not hang.
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Nothing is lost because it is read late.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20).unwrap();
    socket
}

/// Waits until what `look` sees is so; fails with what it saw last.
#[track_caller]
pub(crate) fn eventually<T: std::fmt::Debug>(mut look: impl FnMut() -> T, so: impl Fn(&T) -> bool) -> T {
    for _ in 0..400_000 {
        let seen = look();
        if so(&seen) {
            return seen;
        }
        std::thread::yield_now();
    }
    panic!("it never came: {:?}", look());
}
