//! Who gets which address, link and port: a pure function of the specification.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::spec::{Kind, LabSpec, NodeSpec, ResolvConf};
use crate::wire::Port;
use crate::{Error, Result};

/// The bridge in the switch.
pub(crate) const BRIDGE: &str = "lab0";
/// The search domain.
pub(crate) const DOMAIN: &str = "lab";
/// The name of the switch itself.
pub(crate) const SWITCH: &str = "switch";
/// The link in the switch that macvlans sit on, and its port on the bridge.
pub(crate) const UPLINK: (&str, &str) = ("uplink", "vethuplink");

/// A lab as it will be.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: LabSpec,
    pub(crate) nodes: Vec<PlannedNode>,
}

/// A node as it will be.
#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) spec: NodeSpec,
    /// Empty if the namespace is another node's.
    pub(crate) links: Vec<PlannedLink>,
    /// The place in [`Plan::nodes`] of the node whose namespace it shares.
    pub(crate) owner: Option<usize>,
}

/// One link of a node into the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedLink {
    /// `eth0`, `eth1`, …
    pub(crate) name: String,
    /// The other end of the veth pair, on the bridge; for a macvlan the name that it is born with in the switch.
    pub(crate) port: String,
    pub(crate) macvlan: bool,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

impl Plan {
    /// Checks the specification and hands out addresses in the order of the nodes.
    pub(crate) fn new(spec: LabSpec) -> Result<Plan> {
        spec.check()?;
        let mut next = 1u32;
        let mut nodes = Vec::with_capacity(spec.nodes.len());
        for node in &spec.nodes {
            let owner = match &node.share {
                None => None,
                Some(share) => {
                    let owner = spec.nodes.iter().position(|other| other.name == *share);
                    Some(owner.ok_or_else(|| Error::Spec(format!("{share} is not there")))?)
                }
            };
            let count = if owner.is_some() { 0 } else { node.links };
            let links = (0..count)
                .map(|index| {
                    let macvlan = node.macvlan && index == 0;
                    let link = PlannedLink {
                        name: format!("eth{index}"),
                        port: if macvlan { format!("mv{}", node.name) } else { node.port(index) },
                        macvlan,
                        // The check above made sure that there is room for every link.
                        v4: Ipv4Addr::from(u32::from(spec.address).wrapping_add(next)),
                        v6: Ipv6Addr::from(u128::from(spec.address6).wrapping_add(u128::from(next))),
                    };
                    next += 1;
                    link
                })
                .collect();
            nodes.push(PlannedNode { spec: node.clone(), links, owner });
        }
        Ok(Plan { spec, nodes })
    }

    /// The node's addresses; those of the namespace's owner if it has none of its own.
    pub(crate) fn addresses(&self, node: &PlannedNode) -> Vec<IpAddr> {
        let links = match node.owner.and_then(|owner| self.nodes.get(owner)) {
            Some(owner) => &owner.links,
            None => &node.links,
        };
        links.iter().flat_map(|link| [IpAddr::V4(link.v4), IpAddr::V6(link.v6)]).collect()
    }

    /// The ports that the bridge will have.
    pub(crate) fn bridge_ports(&self) -> Vec<String> {
        let links = || self.nodes.iter().flat_map(|node| &node.links);
        let mut ports: Vec<String> =
            links().filter(|link| !link.macvlan).map(|link| link.port.clone()).collect();
        if self.has_uplink() {
            ports.push(UPLINK.1.to_owned());
        }
        ports
    }

    /// Whether there is a macvlan that needs something to sit on.
    pub(crate) fn has_uplink(&self) -> bool {
        self.nodes.iter().flat_map(|node| &node.links).any(|link| link.macvlan)
    }

    /// `/etc/hosts` of a node.
    pub(crate) fn hosts(&self, node: &PlannedNode) -> String {
        let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
        let name = &node.spec.name;
        for address in self.addresses(node) {
            text.push_str(&format!("{address}\t{name} {name}.{DOMAIN}\n"));
        }
        text
    }

    /// What lies at `/etc/resolv.conf` of a node.
    pub(crate) fn resolv_conf(&self, node: &PlannedNode) -> ResolvConf {
        node.spec.resolv_conf.clone().unwrap_or_else(|| {
            ResolvConf::Text(format!("nameserver {}\nsearch {DOMAIN}\n", self.spec.address))
        })
    }
}

/// The ports that a node of this kind listens on.
pub(crate) fn ports_of(kind: Kind) -> Vec<Port> {
    let port = |port, protocol: &str| Port { port, protocol: protocol.to_owned() };
    match kind {
        Kind::Web => vec![port(80, "tcp")],
        Kind::Db => vec![port(7, "tcp"), port(5432, "tcp"), port(7, "udp")],
        Kind::Switch => vec![port(53, "udp"), port(53, "tcp")],
        Kind::Idle => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_switch_in_order() {
        let mut spec = LabSpec::default();
        spec.nodes[1].links = 2;
        let plan = Plan::new(spec).unwrap();
        let all: Vec<String> = plan
            .nodes
            .iter()
            .flat_map(|node| &node.links)
            .map(|l| format!("{} {} {} {}", l.name, l.port, l.v4, l.v6))
            .collect();
        assert_eq!(
            all,
            [
                "eth0 vethweb 198.19.0.2 fd88::2",
                "eth0 vethdb 198.19.0.3 fd88::3",
                "eth1 vethdb.1 198.19.0.4 fd88::4",
                "eth0 vethclient 198.19.0.5 fd88::5",
            ]
        );
    }

    #[test]
    fn who_shares_a_namespace_has_its_addresses_and_no_link() {
        let mut side = NodeSpec::new("side", Kind::Idle);
        side.share = Some("web".into());
        let mut spec = LabSpec::default();
        spec.nodes.insert(0, side);
        let plan = Plan::new(spec).unwrap();
        assert!(plan.nodes[0].links.is_empty());
        assert_eq!(plan.addresses(&plan.nodes[0]), plan.addresses(&plan.nodes[1]));
        assert_eq!(plan.bridge_ports(), ["vethweb", "vethdb", "vethclient"]);
    }

    #[test]
    fn a_thousand_nodes_have_a_thousand_addresses() {
        let plan = Plan::new(LabSpec::idle(1000)).unwrap();
        let mut all: Vec<IpAddr> = plan.nodes.iter().flat_map(|node| plan.addresses(node)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2000);
        assert!(all.contains(&"198.19.3.233".parse().unwrap()));
    }

    #[test]
    fn a_macvlan_needs_the_uplink_and_no_port_of_its_own() {
        let mut spec = LabSpec::default();
        spec.nodes[0].macvlan = true;
        let plan = Plan::new(spec).unwrap();
        assert_eq!(plan.bridge_ports(), ["vethdb", "vethclient", "vethuplink"]);
    }
}
