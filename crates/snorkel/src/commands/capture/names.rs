//! Whose the addresses are that packets carry: what the snapshot knows, each within the network where it holds.
//!
//! Two containers can have the same address in two networks. So a name is claimed within its own namespace, on the
//! bridge (or below the link) that it is plugged into, and, if its other end is on the host, in all that the host routes;
//! a link's packets are named from the nearest of these.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use snorkel_capture::names::{Names, Scope};
use snorkel_netns::NetnsId;
use snorkel_rtnl::IfIndex;
use snorkel_topology::{Link, Snapshot};

use super::spots::{Spot, label};

/// What the host itself reaches.
const ROUTED: Scope = Scope(0);

/// A network that several links are plugged into: a namespace of its own kind, or a link of it (a bridge, a lower link).
type Network = (NetnsId, Option<IfIndex>);

/// The names of a snapshot's addresses.
#[derive(Debug)]
pub(crate) struct Whose {
    names: Names,
    scopes: HashMap<Network, Scope>,
    /// Every address that has a name somewhere.
    all: BTreeSet<IpAddr>,
    /// The interfaces of which it was said what they see.
    captured: Vec<usize>,
}

impl Whose {
    /// Learns all that the snapshot knows.
    pub(crate) fn new(snapshot: &Snapshot) -> Whose {
        let mut whose =
            Whose { names: Names::new(), scopes: HashMap::new(), all: BTreeSet::new(), captured: Vec::new() };
        for namespace in &snapshot.namespaces {
            let name = match snapshot.targets_on(namespace.id).find(|target| !target.host) {
                Some(target) => label(target),
                None if namespace.host => "host".to_owned(),
                None => continue,
            };
            for link in namespace.links.iter().filter(|link| !link.loopback) {
                let mut scopes: Vec<Scope> = networks(snapshot, namespace.id, link)
                    .into_iter()
                    .map(|network| whose.scope(network))
                    .collect();
                scopes.push(whose.scope((namespace.id, None)));
                // A bridge's own address is one of its network.
                scopes.push(whose.scope((namespace.id, Some(link.index))));
                let reached = namespace.host || link.peer.as_ref().is_some_and(|peer| peer.link.of == "host");
                for address in &link.addresses {
                    let local = is_link_local(address.address);
                    for scope in scopes.iter().copied().chain((reached && !local).then_some(ROUTED)) {
                        whose.names.add(scope, address.address, &name);
                    }
                    whose.all.insert(address.address);
                }
                if let Some(mac) = link.mac.as_ref().and_then(|mac| mac.as_bytes().try_into().ok()) {
                    scopes.into_iter().for_each(|scope| whose.names.add_mac(scope, mac, &name));
                }
            }
        }
        whose
    }

    /// Says what the packets of this interface's link are named from.
    pub(crate) fn sees(&mut self, snapshot: &Snapshot, interface: usize, spot: &Spot) {
        let link = |id, index| snapshot.namespace(id).and_then(|namespace| namespace.link(index));
        let mut scopes = vec![self.scope((spot.home, None))];
        if let Some(link) = link(spot.netns, spot.index) {
            for network in networks(snapshot, spot.netns, link) {
                scopes.push(self.scope(network));
            }
        }
        scopes.push(ROUTED);
        self.names.sees(interface, scopes);
        self.captured.push(interface);
    }

    /// Says that this number stands for a whole namespace: what any of its links sees.
    pub(crate) fn sees_from(&mut self, snapshot: &Snapshot, interface: usize, home: NetnsId) {
        let mut scopes = vec![self.scope((home, None))];
        for link in snapshot.namespace(home).into_iter().flat_map(|namespace| &namespace.links) {
            for network in networks(snapshot, home, link) {
                scopes.push(self.scope(network));
            }
        }
        scopes.push(ROUTED);
        self.names.sees(interface, scopes);
        self.captured.push(interface);
    }

    /// For lines.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// For a file, in which a name holds everywhere: addresses that have the same name wherever one of the captured links
    /// sees them.
    pub(crate) fn unambiguous(&self) -> Vec<(IpAddr, String)> {
        let name = |address: &IpAddr| {
            let mut names = self.captured.iter().filter_map(|interface| self.names.of(*interface, *address));
            let first = names.next()?;
            names.all(|name| name == first).then(|| (*address, first.to_owned()))
        };
        self.all.iter().filter_map(name).collect()
    }

    fn scope(&mut self, network: Network) -> Scope {
        let next = Scope(self.scopes.len() as u64 + 1);
        *self.scopes.entry(network).or_insert(next)
    }
}

/// The networks that a link is plugged into: its bridge, its other end's bridge, the other end alone, the link below.
fn networks(snapshot: &Snapshot, netns: NetnsId, link: &Link) -> Vec<Network> {
    let mut networks = Vec::new();
    networks.extend(link.master.as_ref().map(|bridge| (netns, Some(bridge.index))));
    if let Some(peer) = &link.peer {
        let far = snapshot.namespace(peer.link.netns).and_then(|far| far.link(peer.link.index));
        match far.and_then(|far| far.master.as_ref()) {
            Some(bridge) => networks.push((peer.link.netns, Some(bridge.index))),
            None => networks.push((peer.link.netns, Some(peer.link.index))),
        }
    }
    networks.extend(link.lower.as_ref().map(|lower| (lower.netns, Some(lower.index))));
    networks
}

/// fe80::/10 and 169.254.0.0/16: the same address may be on every link.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}
