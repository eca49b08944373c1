//! `partition`: groups that do not reach each other.
//!
//! Two targets reach each other if a group has both of them; so groups may overlap. Packets are dropped where they are
//! sent and, should another address stand in them there, where they arrive. Targets on one namespace are one.

use std::collections::{BTreeMap, BTreeSet};

use snorkel_engines::TargetSpec;
use snorkel_netns::NetnsId;
use snorkel_topology::Snapshot;

use super::links::{namespace, points, select};
use super::peer::{addresses, sorted};
use super::{Action, Kind, Links, Plan, Refused, Selection, Step, refuse};
use crate::rule::{Direction, Network, Ports, Rule, Verdict};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The groups, two at least. One member may be `host`.
    pub groups: Vec<Vec<String>>,
    /// The first group does not reach the second, but the second may send to the first.
    pub one_way: bool,
}

/// Reads `A,B C,D E`, or `A,B -> C`.
pub fn partition_words(words: &[String]) -> Result<Partition, String> {
    let arrow = |word: &str| word == "->" || word == "→";
    let mut groups: Vec<Vec<String>> = Vec::new();
    let one_way = words.iter().any(|word| arrow(word));
    for word in words.iter().filter(|word| !arrow(word)) {
        let members: Vec<String> = word.split(',').map(str::to_owned).collect();
        if members.iter().any(String::is_empty) {
            return Err(format!("'{word}' has a member without a name"));
        }
        groups.push(members);
    }
    if one_way {
        let in_the_middle = words.len() == 3 && words.get(1).is_some_and(|word| arrow(word));
        if !in_the_middle {
            return Err("one way goes from one group to one other: A,B -> C".to_owned());
        }
    }
    if groups.len() < 2 {
        return Err("two groups at least are needed: A,B C".to_owned());
    }
    Ok(Partition { groups, one_way })
}

/// All targets on one namespace.
struct Unit {
    specs: Vec<TargetSpec>,
    groups: BTreeSet<usize>,
    addresses: Vec<Network>,
    host: bool,
}

impl Partition {
    /// What is to be done for it.
    pub fn plan(&self, snapshot: &Snapshot) -> Result<Plan, Refused> {
        let units = self.units(snapshot)?;
        let mut notes = Vec::new();
        let mut steps = Vec::new();
        for (home, unit) in units.iter().filter(|(_, unit)| !unit.host) {
            let against = |direction| self.against(&units, *home, direction);
            let rules: Vec<Rule> = [Direction::Out, Direction::In]
                .into_iter()
                .filter_map(|direction| {
                    let peers = against(direction);
                    (!peers.is_empty()).then(|| Rule {
                        direction,
                        peers,
                        protocol: None,
                        ports: Ports::default(),
                        opening: false,
                        verdict: Verdict::Drop,
                    })
                })
                .collect();
            if rules.is_empty() {
                continue;
            }
            let selection =
                Selection { targets: unit.specs.clone(), links: Links::All, host_is_meant: false };
            for point in points(snapshot, &selection, &mut notes)? {
                let action = Action::Gate { rules: rules.clone(), wires: Vec::new(), flap: None };
                steps.push(Step::new(point, action)?);
            }
        }
        if steps.is_empty() {
            return refuse(
                "nobody would be parted from anybody: every two of them are in a group together, or on one network",
            );
        }
        Ok(Plan { kind: Kind::Partition, steps, notes })
    }

    /// The members by their namespaces.
    fn units(&self, snapshot: &Snapshot) -> Result<BTreeMap<NetnsId, Unit>, Refused> {
        let mut units: BTreeMap<NetnsId, Unit> = BTreeMap::new();
        for (group, member) in self
            .groups
            .iter()
            .enumerate()
            .flat_map(|(at, group)| group.iter().map(move |member| (at, member)))
        {
            let (place, spec) = if member == "host" {
                match snapshot.namespaces.iter().find(|namespace| namespace.host) {
                    Some(host) => (host, None),
                    None => return refuse("the host's own addresses are not known"),
                }
            } else {
                let spec: TargetSpec =
                    member.parse().map_err(|error| crate::Error::Plan(format!("{error}")))?;
                (namespace(snapshot, select(snapshot, &spec)?)?, Some(spec))
            };
            let known = match units.entry(place.id) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => new.insert(Unit {
                    specs: Vec::new(),
                    groups: BTreeSet::new(),
                    addresses: addresses(place, member)?,
                    host: place.host,
                }),
            };
            known.groups.insert(group);
            known.specs.extend(spec.filter(|spec| !known.specs.contains(spec)));
        }
        Ok(units)
    }

    /// Whose packets in this direction are dropped at a member: the addresses of all that it is parted from.
    fn against(&self, units: &BTreeMap<NetnsId, Unit>, home: NetnsId, direction: Direction) -> Vec<Network> {
        let Some(unit) = units.get(&home) else { return Vec::new() };
        let parted = |other: &Unit| match (self.one_way, direction) {
            (false, _) => unit.groups.is_disjoint(&other.groups),
            (true, Direction::Out) => is_sender(unit) && is_receiver(other),
            (true, Direction::In) => is_receiver(unit) && is_sender(other),
        };
        let others = units.iter().filter(|(id, other)| **id != home && parted(other));
        sorted(others.flat_map(|(_, other)| other.addresses.iter().copied()).collect())
    }
}

fn is_sender(unit: &Unit) -> bool {
    unit.groups.contains(&0)
}

fn is_receiver(unit: &Unit) -> bool {
    unit.groups.contains(&1)
}
