//! What is given to the programs when they are loaded: rules, wires and sets of networks, in the layouts of c/fault.h.

use std::net::IpAddr;

use aya::Pod;
use aya::maps::LpmTrie;
use aya::maps::lpm_trie::Key;

use super::layout::{MAX_RULES, MAX_WIRES, RawRule, RawWire};
use super::networks::{Sets, table};
use super::rule::{Network, Rule};
use super::{Direction, WireEnds};
use crate::object::{Object, Setup, map_error};
use crate::{Error, Result};

/// How many stamps of packets on their way a gate with wires keeps; the oldest go first.
const STAMPS: u32 = 16384;

/// The constants of c/fault.c, and what its sets are filled with.
#[derive(Debug)]
pub(super) struct Constants<'a> {
    rules: [[RawRule; MAX_RULES]; 2],
    rule_total: [u32; 2],
    asked: [u32; 2],
    wires: [RawWire; MAX_WIRES],
    wire_total: u32,
    /// Those that rules ask for, each once; a set's number is its place.
    sets: Vec<&'a [Network]>,
    networks: Vec<(Network, Sets)>,
}

impl<'a> Constants<'a> {
    /// The rules and wires have been checked: there are not too many.
    pub(super) fn new(rules: &'a [Rule], wires: &[WireEnds<'_>]) -> Constants<'a> {
        let mut constants = Constants {
            rules: [[RawRule::default(); MAX_RULES]; 2],
            rule_total: [0; 2],
            asked: [0; 2],
            wires: [RawWire::default(); MAX_WIRES],
            // At most MAX_WIRES.
            wire_total: wires.len() as u32,
            sets: Vec::new(),
            networks: Vec::new(),
        };
        for direction in Direction::ALL {
            let own = direction.index();
            for rule in rules.iter().filter(|rule| rule.direction == direction) {
                let raw = RawRule::new(rule, constants.set(&rule.peers));
                constants.asked[own] |= u32::from(raw.asks);
                constants.rules[own][constants.rule_total[own] as usize] = raw;
                constants.rule_total[own] += 1;
            }
        }
        // No more than there are rules.
        constants.networks = table(&constants.sets);
        for (raw, ends) in constants.wires.iter_mut().zip(wires) {
            *raw = RawWire {
                public: ends.public.get(),
                private: ends.private.get(),
                direction: ends.direction as u32,
                kernel_queue: u32::from(ends.kernel_queue),
            };
        }
        constants
    }

    /// The number of the set of these networks.
    fn set(&mut self, networks: &'a [Network]) -> u32 {
        let known = self.sets.iter().position(|set| *set == networks);
        let place = known.unwrap_or_else(|| {
            self.sets.push(networks);
            self.sets.len() - 1
        });
        // There are no more sets than rules.
        place as u32
    }

    /// The constants and the sizes of the maps, for the loader.
    pub(super) fn setup(&self) -> Setup<'_> {
        // A map has at least one entry.
        let total = |ipv4: bool| {
            let own = self.networks.iter().filter(|(network, _)| network.address.is_ipv4() == ipv4);
            u32::try_from(own.count().max(1)).unwrap_or(u32::MAX)
        };
        let mut setup = Setup::default();
        setup
            .global("rules", self.rules.as_flattened())
            .global("rule_total", &self.rule_total)
            .global("asked", &self.asked)
            .global("wires", &self.wires)
            .global("wire_total", std::slice::from_ref(&self.wire_total))
            .entries("networks4", total(true))
            .entries("networks6", total(false))
            .entries("stamps", if self.wire_total > 0 { STAMPS } else { 1 });
        setup
    }

    /// Puts the networks into their maps.
    pub(super) fn fill_sets(&self, object: &mut Object) -> Result<()> {
        for (network, sets) in &self.networks {
            match network.address {
                IpAddr::V4(address) => add(object, "networks4", network, address.octets(), *sets)?,
                IpAddr::V6(address) => add(object, "networks6", network, address.octets(), *sets)?,
            }
        }
        Ok(())
    }
}

fn add<const N: usize>(
    object: &mut Object,
    map: &str,
    network: &Network,
    address: [u8; N],
    sets: Sets,
) -> Result<(), Error>
where
    [u8; N]: Pod,
{
    let what = || format!("give the gate the network {network}");
    let mut trie = LpmTrie::<_, [u8; N], Sets>::try_from(object.map_mut(map)?).map_err(map_error(what()))?;
    trie.insert(&Key::new(network.prefix.into(), address), sets, 0).map_err(map_error(what()))
}
