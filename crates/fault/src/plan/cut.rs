//! `cut`: nothing gets through.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use snorkel_topology::Snapshot;

use super::links::points;
use super::{Action, Effect, Kind, Plan, Refused, Selection, Step, Wire, refuse};
use crate::rule::{Direction, Network, Rule, Verdict, WireNumber};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Of whom.
    pub selection: Selection,
    /// How the target is to feel it.
    pub how: CutHow,
    /// In turns, if at all.
    pub flap: Option<Flap>,
}

/// How a cut is felt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutHow {
    /// The cable is out: no carrier.
    #[default]
    Carrier,
    /// Silence.
    Drop,
    /// Somebody says no: RST, and ICMP's "unreachable".
    Reject,
}

/// A cut that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flap {
    /// So long it is in force,
    pub on: Duration,
    /// and so long it is not.
    pub off: Duration,
}

impl fmt::Display for Flap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on, {:?} off", self.on, self.off)
    }
}

impl Cut {
    /// What is to be done for it.
    pub fn plan(&self, snapshot: &Snapshot) -> Result<Plan, Refused> {
        let mut notes = Vec::new();
        if let Some(host) = self.hosts_own(snapshot)? {
            return refuse(format!(
                "{host} shares the host's network, and the host's own links are never cut: nobody could come back"
            ));
        }
        let points = points(snapshot, &self.selection, &mut notes)?;
        let mut steps = Vec::new();
        for point in points {
            let action = match self.how {
                CutHow::Carrier if point.place.inside => {
                    return refuse(format!(
                        "{} of {} has no other end that could be set down; --how drop does without",
                        point.link,
                        point.targets.join(", ")
                    ));
                }
                CutHow::Carrier => Action::Carrier { flap: self.flap },
                CutHow::Drop => Action::Gate {
                    rules: vec![
                        Rule::all(Direction::Out, Verdict::Drop),
                        Rule::all(Direction::In, Verdict::Drop),
                    ],
                    wires: Vec::new(),
                    flap: self.flap,
                },
                CutHow::Reject => Action::Gate {
                    // Who is to hear that nobody wants to talk must be found first: ARP passes.
                    rules: vec![
                        Rule {
                            peers: all_of_ip(),
                            ..Rule::all(Direction::Out, Verdict::Wire(WireNumber(0)))
                        },
                        Rule { peers: all_of_ip(), ..Rule::all(Direction::In, Verdict::Wire(WireNumber(1))) },
                    ],
                    wires: [Direction::Out, Direction::In]
                        .map(|direction| Wire { direction, effect: Effect::Reject })
                        .to_vec(),
                    flap: self.flap,
                },
            };
            steps.push(Step::new(point, action)?);
        }
        Ok(Plan { kind: Kind::Cut, steps, notes })
    }

    /// One of the targets that is on the host's own network.
    fn hosts_own(&self, snapshot: &Snapshot) -> Result<Option<String>, Refused> {
        for spec in &self.selection.targets {
            let target = super::links::select(snapshot, spec)?;
            if target.host {
                return Ok(Some(target.name.clone()));
            }
        }
        Ok(None)
    }
}

/// Every address there is.
fn all_of_ip() -> Vec<Network> {
    let none = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    none.map(|address| Network { address, prefix: 0 }).to_vec()
}

impl FromStr for CutHow {
    type Err = String;
    fn from_str(text: &str) -> Result<CutHow, String> {
        match text {
            "carrier" => Ok(CutHow::Carrier),
            "drop" => Ok(CutHow::Drop),
            "reject" => Ok(CutHow::Reject),
            other => Err(format!("'{other}' is none of carrier, drop, reject")),
        }
    }
}
