//! `impair`: packets fare worse than they should.

use snorkel_topology::Snapshot;

use super::block::{check_ports, matching};
use super::links::points;
use super::{Action, Effect, Kind, Names, Peer, Plan, Refused, Selection, Step, Toward, Way, Wire, refuse};
use crate::Impairment;
use crate::rule::{Direction, Protocol, Verdict, WireNumber};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Impair {
    /// Of whom.
    pub selection: Selection,
    /// What happens to packets that the target sends.
    pub out: Option<Impairment>,
    /// What happens to packets that the target gets.
    pub into: Option<Impairment>,
    /// Packets to and from whom; none: to and from everybody, also what is not IP.
    pub towards: Vec<Toward>,
    /// Of which protocol.
    pub protocol: Option<Protocol>,
    /// To and from which port of the target's own.
    pub port: Option<u16>,
    /// Whose packets fare as ever.
    pub spare: Vec<Peer>,
}

impl Impair {
    /// What is to be done for it.
    pub fn plan(&self, snapshot: &Snapshot, names: Names<'_>) -> Result<Plan, Refused> {
        check_ports(&self.towards, self.protocol, self.port)?;
        let ways = [(Direction::Out, &self.out), (Direction::In, &self.into)];
        let wires: Vec<Wire> = ways
            .iter()
            .filter_map(|(direction, impairment)| {
                let effect = Effect::Impair(Box::new((*impairment).clone()?));
                Some(Wire { direction: *direction, effect })
            })
            .collect();
        if wires.is_empty() {
            return refuse("what is to become of the packets? --delay, --loss, --rate, … or --profile");
        }
        // There are two at most.
        let wire_of = |direction| {
            let at = wires.iter().position(|wire| wire.direction == direction)?;
            u8::try_from(at).ok().map(WireNumber)
        };
        let mut notes = Vec::new();
        let points = points(snapshot, &self.selection, &mut notes)?;
        let mut rules = Vec::new();
        let spared: Vec<Toward> =
            self.spare.iter().map(|peer| Toward { way: Way::With, peer: peer.clone() }).collect();
        if !spared.is_empty() {
            for matching in matching(&spared, None, None, snapshot, names)? {
                if wire_of(matching.direction).is_some() {
                    rules.push(matching.rule(false, Verdict::Pass));
                }
            }
        }
        let before = rules.len();
        for matching in matching(&self.towards, self.protocol, self.port, snapshot, names)? {
            if let Some(wire) = wire_of(matching.direction) {
                rules.push(matching.rule(false, Verdict::Wire(wire)));
            }
        }
        if rules.len() == before {
            return refuse(
                "no packet goes that way: --to is what the target sends (out), --from what it gets (in)",
            );
        }
        let action = Action::Gate { rules, wires, flap: None };
        let steps = points.into_iter().map(|point| Step::new(point, action.clone()));
        Ok(Plan { kind: Kind::Impair, steps: steps.collect::<Result<_, _>>()?, notes })
    }
}
