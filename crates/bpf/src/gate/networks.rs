//! The networks of all rules in one table, so that one look tells of which sets an address is.
//!
//! The kernel's table finds the longest prefix that an address has (`BPF_MAP_TYPE_LPM_TRIE`), and only that. So what stands
//! there counts for the network itself and for all that lie around it.

use super::rule::Network;

/// A set of networks by its number, as a bit: the kernel's table has 32 of them.
pub(super) type Sets = u32;

/// Each network once, with the sets that have it or one around it. A set's number is its place; there are at most 32.
pub(super) fn table(sets: &[&[Network]]) -> Vec<(Network, Sets)> {
    let of = |(number, set): (usize, &&[Network])| -> Vec<(Network, Sets)> {
        set.iter().map(|network| (network.masked(), 1 << number)).collect()
    };
    let mut all: Vec<(Network, Sets)> = sets.iter().enumerate().flat_map(of).collect();
    // A network comes before those that lie in it: they begin with its address at the earliest, and have a longer prefix.
    all.sort_unstable();
    let mut table: Vec<(Network, Sets)> = Vec::new();
    // The places of those around the next one, the largest first.
    let mut around: Vec<usize> = Vec::new();
    for (network, sets) in all {
        if let Some((last, known)) = table.last_mut()
            && *last == network
        {
            *known |= sets;
            continue;
        }
        while around.last().is_some_and(|place| !table[*place].0.contains(network.address)) {
            around.pop();
        }
        let inherited = around.last().map_or(0, |place| table[*place].1);
        around.push(table.len());
        table.push((network, sets | inherited));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// Few addresses, so that networks lie in each other.
    fn address() -> impl Strategy<Value = IpAddr> {
        let bits = prop::sample::select(vec![0u32, 1, 0x0a00_0000, 0x0a00_0001, 0x0aff_0000, u32::MAX]);
        (bits, any::<bool>()).prop_map(|(bits, v4)| {
            if v4 {
                Ipv4Addr::from_bits(bits).into()
            } else {
                Ipv6Addr::from_bits(u128::from(bits) << 96 | 7).into()
            }
        })
    }

    fn network() -> impl Strategy<Value = Network> {
        (address(), 0u8..=32).prop_map(|(address, prefix)| Network { address, prefix })
    }

    proptest! {
        #[test]
        fn the_longest_prefix_tells_of_all_sets(
            sets in prop::collection::vec(prop::collection::vec(network(), 0..6), 0..8),
            address in address(),
        ) {
            let slices: Vec<&[Network]> = sets.iter().map(Vec::as_slice).collect();
            let table = table(&slices);
            let found = table.iter().filter(|(network, _)| network.contains(address));
            let told = found.max_by_key(|(network, _)| network.prefix).map_or(0, |(_, sets)| *sets);
            let has = |set: &[Network]| set.iter().any(|network| network.contains(address));
            let wanted = (0..sets.len()).filter(|set| has(&sets[*set])).fold(0, |all, set| all | 1 << set);
            prop_assert_eq!(told, wanted);
            let mut once: Vec<Network> = table.iter().map(|(network, _)| *network).collect();
            once.dedup();
            prop_assert_eq!(once.len(), table.len());
        }
    }
}
