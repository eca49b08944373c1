//! A host and a target in private namespaces with a veth pair between them, and faults at the host's end of it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use snorkel_bpf::gate::{Direction, Rule, Verdict, WireNumber};
use snorkel_fault::force::{Force, Means, Remains};
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Action, Effect, Kind, Place, Plan, Point, Step, Wire as WirePlan};
use snorkel_fault::wire::{Duty, Wire};
use snorkel_fault::{FaultId, Impairment};
use snorkel_netns::{Netns, NetnsId};
use snorkel_rtnl::{IfIndex, Netem, Socket};

const HOST: &str = "10.0.0.1";
const TARGET: &str = "10.0.0.2";
/// The MTU of links for jumbo frames.
pub(crate) const JUMBO: u32 = 9000;

/// The two, and the host's end.
pub(crate) struct World {
    host: Netns,
    target: Netns,
    between: Option<Netns>,
    port: IfIndex,
}

impl World {
    pub(crate) fn new() -> World {
        let (host, target) = (private(), private());
        let mut here = Socket::open_in(&host).unwrap();
        here.add_veth("port", "eth0", Some(&target)).unwrap();
        World::with_addresses(host, target, None)
    }

    /// One whose pair has no offloads at either end.
    pub(crate) fn bare() -> World {
        let world = World::new();
        no_offloads(&world.host, "port");
        no_offloads(&world.target, "eth0");
        world
    }

    /// One of two pairs without offloads, with a bridge between them.
    pub(crate) fn bridged() -> World {
        let (host, target, between) = (private(), private(), private());
        let mut socket = Socket::open_in(&between).unwrap();
        let bridge = socket.add_bridge("bridge").unwrap();
        socket.set_up(bridge).unwrap();
        for (netns, theirs, ours) in [(&host, "port", "to-host"), (&target, "eth0", "to-target")] {
            let link = socket.add_veth(ours, theirs, Some(netns)).unwrap();
            socket.set_master(link, Some(bridge)).unwrap();
            socket.set_up(link).unwrap();
            no_offloads(&between, ours);
            no_offloads(netns, theirs);
        }
        World::with_addresses(host, target, Some(between))
    }

    /// With a pair, or more, between a link `port` of the host and a link `eth0` of the target.
    fn with_addresses(host: Netns, target: Netns, between: Option<Netns>) -> World {
        let give = |netns: &Netns, name: &str, address: &str| {
            let mut socket = Socket::open_in(netns).unwrap();
            let link = socket.index_of(name).unwrap().expect("it was just made");
            socket.add_address(link, address.parse().unwrap(), 24).unwrap();
            socket.set_up(link).unwrap();
            link
        };
        give(&target, "eth0", TARGET);
        let port = give(&host, "port", HOST);
        World { host, target, between, port }
    }

    /// Has what the bridge sends to the host delayed, by the kernel alone; whether it can.
    pub(crate) fn delay_by_netem(&self, delay: Duration) -> bool {
        let mut socket = Socket::open_in(self.between.as_ref().expect("it has a bridge")).unwrap();
        let link = socket.index_of("to-host").unwrap().expect("it was made");
        match socket.add_netem(link, &Netem { delay, limit: 100_000, ..Netem::default() }) {
            Err(error) if error.is_missing() => false,
            added => added.map(|()| true).unwrap(),
        }
    }

    /// One whose pair takes jumbo frames.
    pub(crate) fn jumbo() -> World {
        let world = World::new();
        for (netns, name) in [(&world.host, "port"), (&world.target, "eth0")] {
            let mut socket = Socket::open_in(netns).unwrap();
            let link = socket.index_of(name).unwrap().expect("it was just made");
            socket.set_mtu(link, JUMBO).unwrap();
        }
        world
    }

    /// What is to be done at the host's end.
    pub(crate) fn plan(&self, action: &Action) -> Plan {
        let mut socket = Socket::open_in(&self.host).unwrap();
        let link = socket.links(None).unwrap().into_iter().find(|link| link.index == self.port);
        let point = Point {
            targets: vec!["target".to_owned()],
            home: self.target.id().unwrap(),
            link: "eth0".to_owned(),
            place: Place {
                netns: self.host.id().unwrap(),
                of: "host".to_owned(),
                index: self.port,
                name: "port".to_owned(),
                mac: link.expect("it was made").mac,
                inside: false,
            },
        };
        Plan { kind: Kind::Impair, steps: vec![Step { point, action: action.clone() }], notes: Vec::new() }
    }

    /// Puts it in force, and makes sure of it.
    pub(crate) fn apply(&self, action: &Action) -> Held {
        self.carry_out(&self.plan(action))
    }

    /// The same of a plan that is made.
    pub(crate) fn carry_out(&self, plan: &Plan) -> Held {
        let host = self.host.try_clone().unwrap();
        let force = with_means(&host, |means| Force::apply(plan, means).unwrap());
        Held { force, host }
    }

    /// Sockets for datagrams from the target to the host.
    pub(crate) fn datagrams(&self) -> (UdpSocket, UdpSocket) {
        let bind = |netns: &Netns, address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20).unwrap();
            socket
        };
        let (from, to) = (bind(&self.target, TARGET), bind(&self.host, HOST));
        from.connect(to.local_addr().unwrap()).unwrap();
        (from, to)
    }

    /// A connection from the target to the host; the target's end first.
    pub(crate) fn connection(&self) -> (TcpStream, TcpStream) {
        let listener = self.host.run(|| TcpListener::bind((HOST, 0))).unwrap().unwrap();
        let there = listener.local_addr().unwrap();
        let from = self.target.run(|| TcpStream::connect(there)).unwrap().unwrap();
        (from, listener.accept().unwrap().0)
    }
}

fn private() -> Netns {
    Netns::private().expect("a namespace can be made; this needs root")
}

fn no_offloads(netns: &Netns, name: &str) {
    let mut socket = Socket::open_in(netns).unwrap();
    let link = socket.index_of(name).unwrap().expect("it was just made");
    socket.turn_offloads_off(link).unwrap();
}

/// A fault in force. It has to be ended ([`Held::end`]).
pub(crate) struct Held {
    force: Force,
    host: Netns,
}

impl Held {
    /// When this returns packets pass; what is left goes with the value.
    pub(crate) fn heal(self) -> Remains {
        let (healed, remains) = with_means(&self.host, |means| self.force.heal(means));
        assert!(healed.troubles.is_empty(), "{healed:?}");
        remains
    }

    /// Ends it altogether.
    pub(crate) fn end(self) {
        drop(self.heal());
    }

    /// How many packets have gone into its wires and are neither out again nor waiting: none once everything has come.
    pub(crate) fn lost(&mut self) -> u64 {
        let mut least = u64::MAX;
        // What waits in a slow wire comes in the end.
        for _ in 0..200 {
            let wires = self.force.status().into_iter().flat_map(|link| link.wires);
            let now = wires.map(|wire| wire.entered.saturating_sub(wire.returned)).sum();
            least = least.min(now);
            if least == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        least
    }
}

fn with_means<T>(host: &Netns, act: impl FnOnce(&Means<'_>) -> T) -> T {
    let id: FaultId = "fbench".parse().unwrap();
    let open = |_: NetnsId| Ok(host.try_clone()?);
    // Only links that are set down are written down, and on kernels without tcx.
    let journal = Journal::at(Path::new("/run/snorkel"));
    act(&Means { id: &id, journal: &journal, guardian: None, open: &open })
}

/// All that the target sends goes through a wire that does this.
pub(crate) fn impair(impairment: Impairment) -> Action {
    wires(vec![(Direction::Out, impairment)])
}

/// All that goes these ways goes through wires that do this.
pub(crate) fn wires(ways: Vec<(Direction, Impairment)>) -> Action {
    // There are two ways.
    let number = |at: usize| WireNumber(at as u8);
    let rules = ways.iter().enumerate().map(|(at, (way, _))| Rule::all(*way, Verdict::Wire(number(at))));
    let rules = rules.collect();
    let wire = |(direction, impairment)| WirePlan { direction, effect: Effect::Impair(Box::new(impairment)) };
    Action::Gate { rules, wires: ways.into_iter().map(wire).collect(), flap: None }
}

/// Packets are judged by these rules.
pub(crate) fn judge(rules: Vec<Rule>) -> Action {
    Action::Gate { rules, wires: Vec::new(), flap: None }
}

/// Nothing gets through.
pub(crate) fn drop_all() -> Action {
    judge(Direction::ALL.map(|direction| Rule::all(direction, Verdict::Drop)).to_vec())
}

/// Who carries impairments out on this kernel.
pub(crate) fn backend() -> &'static str {
    let (public, private) = (private(), private());
    let late = Impairment { delay: crate::MILLISECOND, ..Impairment::default() };
    let wire = Wire::make(&public, &private, &Duty::Impair(late)).expect("a wire can be made");
    if wire.kernel_queue() { "netem" } else { "snorkel's own scheduler: this kernel has no netem" }
}
