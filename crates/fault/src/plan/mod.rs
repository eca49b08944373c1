//! What is to be done for a fault: a pure function over the snapshot and what was asked.
//!
//! A plan is what `--dry-run` prints and what is carried out (`force.rs`): for each link of each target the place where it
//! is disturbed, and how.

mod block;
mod cut;
mod impair;
mod links;
mod partition;
mod peer;
mod text;

#[cfg(test)]
mod tests;

pub use block::{Block, Toward, Way};
pub use cut::{Cut, CutHow, Flap};
pub use impair::Impair;
pub use links::{Links, Selection};
pub use partition::{Partition, partition_words};
pub use peer::{Names, Peer};

use serde::{Deserialize, Serialize};
use snorkel_netns::NetnsId;
use snorkel_rtnl::{IfIndex, Mac};

use crate::Impairment;
use crate::rule::{Direction, Rule, Verdict};

/// What kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing gets through.
    Cut,
    /// Some packets do not.
    Block,
    /// Groups that do not reach each other.
    Partition,
    /// Packets fare worse than they should.
    Impair,
}

impl Kind {
    /// The command of that name.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Cut => "cut",
            Kind::Block => "block",
            Kind::Partition => "partition",
            Kind::Impair => "impair",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// For what kind of fault.
    pub kind: Kind,
    /// One for each link.
    pub steps: Vec<Step>,
    /// What whoever asked should know: other targets that are hit too.
    pub notes: Vec<String>,
}

/// What is to be done at one link.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whose link.
    pub point: Point,
    /// What is done to it.
    pub action: Action,
}

/// A target's link, and where it can be disturbed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// All targets whose link it is: those that were asked for first.
    pub targets: Vec<String>,
    /// Their namespace.
    pub home: NetnsId,
    /// The link's name in it.
    pub link: String,
    /// The place.
    pub place: Place,
}

/// Where a program is attached, or what is set down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace.
    pub netns: NetnsId,
    /// What that is called: `host`, or a target.
    pub of: String,
    /// The link's number in it.
    pub index: IfIndex,
    /// The link's name in it.
    pub name: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Whether it is the target's own link, since that has no other end.
    pub inside: bool,
}

/// What is done at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The link is set down.
    Carrier {
        /// In turns, if at all.
        flap: Option<Flap>,
    },
    /// Packets are judged.
    Gate {
        /// In this order; what none of them fits passes.
        rules: Vec<Rule>,
        /// Where [`crate::rule::Verdict::Wire`] leads to.
        wires: Vec<Wire>,
        /// In turns, if at all.
        flap: Option<Flap>,
    },
}

/// A wire for packets of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Wire {
    /// Of the packets that are led through it.
    pub direction: Direction,
    /// What happens to them in it.
    pub effect: Effect,
}

/// What a wire does.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// It treats them badly.
    Impair(Box<Impairment>),
    /// It sends the answer of somebody who does not want them.
    Reject,
}

/// Why there is no plan.
pub type Refused = crate::Error;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(crate::Error::Plan(why.into()))
}

impl Step {
    /// What is to be done at a link, if it can be. Programs read packets from their Ethernet header on, and wires are
    /// Ethernet: where packets have no such header nothing can be done but to drop them all.
    fn new(point: Point, action: Action) -> Result<Step, Refused> {
        /// Bytes of an Ethernet address.
        const ADDRESS: usize = 6;
        let is_ethernet = point.place.mac.as_ref().is_some_and(|mac| mac.as_bytes().len() == ADDRESS);
        let reads = match &action {
            Action::Carrier { .. } => false,
            Action::Gate { rules, .. } => {
                rules.iter().any(|rule| *rule != Rule::all(rule.direction, Verdict::Drop))
            }
        };
        if reads && !is_ethernet {
            return refuse(format!(
                "{} of {} carries packets without an Ethernet header, as tun and WireGuard do: there only `cut --how drop` \
                 works; --link names the links that are meant",
                point.link,
                point.targets.join(", ")
            ));
        }
        Ok(Step { point, action })
    }
}

impl Plan {
    /// Whether a link is set down, which takes a guardian.
    pub fn sets_links_down(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Carrier { .. }))
    }

    /// All targets that are hit, each once.
    pub fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        for target in self.steps.iter().flat_map(|step| &step.point.targets) {
            if !targets.contains(target) {
                targets.push(target.clone());
            }
        }
        targets
    }

    /// The same for the same fault, whatever chance it has drawn, and for no other.
    pub fn key(&self) -> String {
        let line = |step: &Step| {
            let place = &step.point.place;
            let mut action = step.action.clone();
            if let Action::Gate { wires, .. } = &mut action {
                for wire in wires {
                    if let Effect::Impair(impairment) = &mut wire.effect {
                        impairment.seed = 0;
                    }
                }
            }
            format!("{:?} {} {} {action:?}", place.netns, place.index, place.inside)
        };
        let mut lines: Vec<String> = self.steps.iter().map(line).collect();
        lines.sort();
        format!("{}\n{}", self.kind.word(), lines.join("\n"))
    }
}
