//! What is found at targets' links that looks like a fault and is none of snorkel's: a link that is down, a qdisc that
//! delays or slows, filters, rules of tools that are known to leave some. It is only looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use snorkel_netns::{Netns, NetnsId};
use snorkel_rtnl::{FilterSide, IfIndex, Nftables, Socket};
use snorkel_topology::{Link, Namespace, Snapshot};

use crate::Result;
use crate::journal::Entry;

/// Qdiscs that somebody put there to make a link worse.
const BAD_QDISCS: [&str; 2] = ["netem", "tbf"];
/// How chains begin that known tools leave in nftables or iptables (chaos-mesh, blockade, litmus, pumba).
const BAD_CHAINS: [(&str, &str); 5] = [
    ("CHAOS-", "chaos-mesh"),
    ("blockade-", "blockade"),
    ("BLOCKADE", "blockade"),
    ("LITMUS", "litmus"),
    ("PUMBA", "pumba"),
];

/// Something that snorkel did not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The targets that are concerned; none if it is not about a link of theirs.
    pub targets: Vec<String>,
    /// The link, and whose it is: `veth7 of host`.
    pub at: String,
    /// What it is.
    pub what: String,
}

/// Looks at all links of targets, at both ends, and at the rules of every namespace. `journalled` are links that are
/// down for a fault of snorkel's. What cannot be looked at is a line of warning.
pub fn find(
    snapshot: &Snapshot,
    journalled: &[Entry],
    open: &dyn Fn(NetnsId) -> Result<Netns>,
) -> (Vec<Found>, Vec<String>) {
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    let mut ends: BTreeMap<NetnsId, Vec<End>> = BTreeMap::new();
    for namespace in
        snapshot.namespaces.iter().filter(|namespace| !namespace.host && namespace.error.is_none())
    {
        let targets: Vec<String> =
            snapshot.targets_on(namespace.id).map(|target| target.name.clone()).collect();
        if targets.is_empty() {
            continue;
        }
        for link in namespace.links.iter().filter(|link| !link.loopback) {
            for end in both_ends(snapshot, namespace, link, &targets) {
                let by_fault = journalled.iter().any(|entry| entry.is_of(end.netns, end.index));
                if !end.up && !by_fault {
                    found.push(end.is("it is down"));
                }
                ends.entry(end.netns).or_default().push(end);
            }
        }
    }
    for (id, ends) in &ends {
        match open(*id).and_then(|netns| in_namespace(&netns, &snapshot.name_of(*id), ends)) {
            Ok(more) => found.extend(more),
            Err(error) => warnings.push(format!(
                "{} was not looked through: {}",
                snapshot.name_of(*id),
                snorkel_netns::chain(&error)
            )),
        }
    }
    found.sort_by(|a, b| (&a.at, &a.what).cmp(&(&b.at, &b.what)));
    found.dedup();
    (found, warnings)
}

/// One end of a target's link.
struct End {
    netns: NetnsId,
    index: IfIndex,
    name: String,
    of: String,
    up: bool,
    targets: Vec<String>,
}

impl End {
    fn is(&self, what: impl Into<String>) -> Found {
        Found {
            targets: self.targets.clone(),
            at: format!("{} of {}", self.name, self.of),
            what: what.into(),
        }
    }
}

fn both_ends(snapshot: &Snapshot, namespace: &Namespace, link: &Link, targets: &[String]) -> Vec<End> {
    let end = |netns: NetnsId, link: &Link, of: String| End {
        netns,
        index: link.index,
        name: link.name.clone(),
        of,
        up: link.up,
        targets: targets.to_vec(),
    };
    let mut ends = vec![end(namespace.id, link, targets.first().cloned().unwrap_or_default())];
    if let Some(peer) = &link.peer
        && let Some(far) = snapshot.namespace(peer.link.netns).and_then(|far| far.link(peer.link.index))
    {
        ends.push(end(peer.link.netns, far, peer.link.of.clone()));
    }
    ends
}

/// The qdiscs and filters of these links, and the rules of their namespace.
fn in_namespace(netns: &Netns, name: &str, ends: &[End]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut socket = Socket::open_in(netns)?;
    let of = |index: IfIndex| ends.iter().find(|end| end.index == index);
    for qdisc in socket.qdiscs(None)? {
        let Some(end) = of(qdisc.link) else { continue };
        if BAD_QDISCS.contains(&qdisc.kind.as_str()) {
            found.push(end.is(format!("a {} qdisc", qdisc.kind)));
        }
        if qdisc.holds_filters() {
            for side in FilterSide::ALL {
                let filters = socket.filters(qdisc.link, side)?;
                let strange = filters.iter().filter(|filter| !is_ours(filter.name.as_deref())).count();
                if strange > 0 {
                    let side = format!("{side:?}").to_lowercase();
                    found.push(end.is(format!("{strange} filters of tc at its {side}")));
                }
            }
        }
    }
    let chains = Nftables::open_in(netns).and_then(|mut nftables| nftables.chains());
    // A kernel without nftables has no chain.
    for chain in chains.unwrap_or_default() {
        if let Some((_, tool)) = BAD_CHAINS.iter().find(|(prefix, _)| chain.name.starts_with(prefix)) {
            found.push(Found {
                targets: Vec::new(),
                at: name.to_owned(),
                what: format!("the chain {} of table {}, as {tool} leaves it", chain.name, chain.table),
            });
        }
    }
    Ok(found)
}

fn is_ours(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("snorkel:"))
}
