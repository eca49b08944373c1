//! `block`: some packets do not get through.

use snorkel_topology::Snapshot;

use super::links::points;
use super::{Action, Effect, Kind, Names, Peer, Plan, Refused, Selection, Step, Wire, refuse};
use crate::rule::{Direction, Network, Ports, Protocol, Rule, Verdict, WireNumber};

/// Which way, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// What the target sends.
    To,
    /// What the target gets.
    From,
    /// Both.
    With,
}

impl Way {
    /// The directions of packets.
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Way::To => &[Direction::Out],
            Way::From => &[Direction::In],
            Way::With => &[Direction::Out, Direction::In],
        }
    }
}

/// Somebody at the other side, and which way packets go that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toward {
    /// Which way.
    pub way: Way,
    /// Who.
    pub peer: Peer,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of whom.
    pub selection: Selection,
    /// Packets to and from whom; none: to and from everybody.
    pub towards: Vec<Toward>,
    /// Of which protocol.
    pub protocol: Option<Protocol>,
    /// To and from which port of the target's own.
    pub port: Option<u16>,
    /// Whether the sender is told.
    pub reject: bool,
    /// Whether connections that exist go on.
    pub new: bool,
}

impl Block {
    /// What is to be done for it.
    pub fn plan(&self, snapshot: &Snapshot, names: Names<'_>) -> Result<Plan, Refused> {
        self.check()?;
        let mut notes = Vec::new();
        let points = points(snapshot, &self.selection, &mut notes)?;
        let mut rules = Vec::new();
        for matching in matching(&self.towards, self.protocol, self.port, snapshot, names)? {
            let verdict = match (self.reject, matching.direction) {
                (false, _) => Verdict::Drop,
                (true, Direction::Out) => Verdict::Wire(WireNumber(0)),
                (true, Direction::In) => Verdict::Wire(WireNumber(1)),
            };
            rules.push(matching.rule(self.new, verdict));
        }
        let wires = if self.reject {
            [Direction::Out, Direction::In]
                .map(|direction| Wire { direction, effect: Effect::Reject })
                .to_vec()
        } else {
            Vec::new()
        };
        let action = Action::Gate { rules, wires, flap: None };
        let steps = points.into_iter().map(|point| Step::new(point, action.clone()));
        Ok(Plan { kind: Kind::Block, steps: steps.collect::<Result<_, _>>()?, notes })
    }

    fn check(&self) -> Result<(), Refused> {
        if self.towards.is_empty() && self.protocol.is_none() && self.port.is_none() {
            return refuse(
                "what is to be blocked? --to, --from or --with a peer, --proto, --port; `cut` blocks everything",
            );
        }
        if self.new && matches!(self.protocol, Some(Protocol::Udp | Protocol::Icmp)) {
            return refuse(
                "--new goes by the packet that opens a TCP connection; UDP and ICMP have no such packet, so with them \
                 old and new cannot be told apart",
            );
        }
        check_ports(&self.towards, self.protocol, self.port)
    }
}

/// Ports are TCP's and UDP's.
pub(super) fn check_ports(
    towards: &[Toward],
    protocol: Option<Protocol>,
    own: Option<u16>,
) -> Result<(), Refused> {
    let has_port = own.is_some() || towards.iter().any(|toward| toward.peer.port.is_some());
    if has_port && protocol == Some(Protocol::Icmp) {
        return refuse("ICMP has no ports");
    }
    Ok(())
}

/// Packets that are meant.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub(super) direction: Direction,
    pub(super) peers: Vec<Network>,
    pub(super) protocol: Option<Protocol>,
    pub(super) ports: Ports,
}

impl Matching {
    pub(super) fn rule(self, opening: bool, verdict: Verdict) -> Rule {
        let Matching { direction, peers, protocol, ports } = self;
        // What opens a connection is TCP's.
        let protocol = if opening { Some(Protocol::Tcp) } else { protocol };
        Rule { direction, peers, protocol, ports, opening, verdict }
    }
}

/// What packets the words mean: one for each direction of each peer, those of everybody if there is none.
pub(super) fn matching(
    towards: &[Toward],
    protocol: Option<Protocol>,
    own: Option<u16>,
    snapshot: &Snapshot,
    names: Names<'_>,
) -> Result<Vec<Matching>, Refused> {
    let mut all = Vec::new();
    for toward in towards {
        let peers = toward.peer.networks(snapshot, names)?;
        for direction in toward.way.directions() {
            all.push(Matching {
                direction: *direction,
                peers: peers.clone(),
                protocol,
                ports: Ports { peer: toward.peer.port, own },
            });
        }
    }
    if towards.is_empty() {
        for direction in Way::With.directions() {
            let ports = Ports { peer: None, own };
            all.push(Matching { direction: *direction, peers: Vec::new(), protocol, ports });
        }
    }
    Ok(all)
}
