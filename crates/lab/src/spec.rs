//! What a lab should be made of, and whether that can be.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A bridge takes no more ports than this (`BR_MAX_PORTS` of net/bridge/br_private.h, less the reserved port 0).
pub(crate) const MAX_PORTS: usize = 1023;
/// An interface's name has at most 15 bytes (`IFNAMSIZ` less the zero).
const MAX_LINK_NAME: usize = 15;
/// Names that mean something else in a lab.
const RESERVED: [&str; 3] = ["switch", "lab", "localhost"];

/// What a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An HTTP server on port 80.
    Web,
    /// Echo: TCP on 7 and 5432, UDP on 7.
    Db,
    /// Does nothing.
    Idle,
    /// The holder, in whose namespace the bridge and the DNS server are. Every lab has exactly one; not for a [`NodeSpec`].
    Switch,
}

/// What lies at `/etc/resolv.conf` of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvConf {
    /// Nothing.
    Missing,
    /// A file with this text.
    Text(String),
    /// A FIFO: who opens it to read waits forever.
    Fifo,
    /// A character device that never ends (`/dev/zero`).
    Device,
    /// A symbolic link to this path; read without care it leads out of the root.
    SymlinkOut(PathBuf),
    /// A sparse file of so many bytes.
    Huge(u64),
}

/// One node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name: lower-case letters, digits and `-`; the host name, and part of the port's name on the bridge.
    pub name: String,
    /// What it is there for.
    pub kind: Kind,
    /// How many links it has on the bridge: `eth0`, `eth1`, … Not looked at when the namespace is another node's.
    pub links: usize,
    /// The node whose network namespace it shares, like the containers of a pod.
    pub share: Option<String>,
    /// Its `eth0` is a macvlan on an uplink in the switch instead of one end of a veth pair.
    pub macvlan: bool,
    /// It holds another network namespace, with a veth pair of its own to it (10.89.0.1 here, 10.89.0.2 there).
    pub nested: bool,
    /// What lies at `/etc/resolv.conf`; `None` for the lab's own server and search list.
    pub resolv_conf: Option<ResolvConf>,
    /// Labels besides `snorkel.lab`.
    pub labels: BTreeMap<String, String>,
}

impl NodeSpec {
    /// A node with one link and nothing special.
    pub fn new(name: impl Into<String>, kind: Kind) -> NodeSpec {
        NodeSpec {
            name: name.into(),
            kind,
            links: 1,
            share: None,
            macvlan: false,
            nested: false,
            resolv_conf: None,
            labels: BTreeMap::new(),
        }
    }
}

/// What a lab should be made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// Its name: lower-case letters, digits and `-`.
    pub name: String,
    /// Its nodes, besides the switch.
    pub nodes: Vec<NodeSpec>,
    /// The bridge's address, which is the DNS server's and the gateway; the nodes get those that follow.
    pub address: Ipv4Addr,
    /// How many bits of it name the network.
    pub prefix: u8,
    /// The bridge's IPv6 address.
    pub address6: Ipv6Addr,
    /// How many bits of that name the network.
    pub prefix6: u8,
    /// The lab goes when the process that called it up does ([`crate::Scoped`]).
    pub tied: bool,
    /// The executable that becomes the holder; it is run with the one argument [`crate::HOLDER_ARGUMENT`] and must
    /// call [`crate::holder_main`]. Without one: `SNORKEL_LAB_HOLDER` of the environment, or the running executable.
    #[serde(skip)]
    pub holder_exe: Option<PathBuf>,
}

impl Default for LabSpec {
    /// `web`, `db` and `client`.
    fn default() -> LabSpec {
        LabSpec::of(vec![
            NodeSpec::new("web", Kind::Web),
            NodeSpec::new("db", Kind::Db),
            NodeSpec::new("client", Kind::Idle),
        ])
    }
}

impl LabSpec {
    /// A lab named `lab` of these nodes.
    pub fn of(nodes: Vec<NodeSpec>) -> LabSpec {
        LabSpec {
            name: "lab".to_owned(),
            nodes,
            address: Ipv4Addr::new(198, 19, 0, 1),
            prefix: 16,
            address6: Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1),
            prefix6: 64,
            tied: false,
            holder_exe: None,
        }
    }

    /// A lab of `count` nodes that do nothing: `n0001`, `n0002`, …
    pub fn idle(count: usize) -> LabSpec {
        LabSpec::of((1..=count).map(|n| NodeSpec::new(format!("n{n:04}"), Kind::Idle)).collect())
    }

    /// The same under another name.
    pub fn named(mut self, name: impl Into<String>) -> LabSpec {
        self.name = name.into();
        self
    }

    /// Whether such a lab can be.
    pub(crate) fn check(&self) -> Result<()> {
        let no = |why: String| Err(Error::Spec(why));
        if !is_name(&self.name) || self.name.len() > 63 {
            return no(format!("{:?} is no name for a lab (a-z, 0-9 and '-', at most 63)", self.name));
        }
        if self.prefix > 30 || self.prefix6 > 112 {
            return no(format!("/{} and /{} leave no room for nodes", self.prefix, self.prefix6));
        }
        let mut seen: HashMap<&str, &NodeSpec> = HashMap::new();
        for node in &self.nodes {
            let name = node.name.as_str();
            if !is_name(name) || RESERVED.contains(&name) {
                return no(format!("{name:?} is no name for a node"));
            }
            if node.kind == Kind::Switch {
                return no(format!("{name} cannot be a switch: a lab has its own"));
            }
            let last_port = node.port(node.links.saturating_sub(1));
            if last_port.len() > MAX_LINK_NAME {
                return no(format!(
                    "the name of {name} is too long: no interface can be named {last_port} ({MAX_LINK_NAME} bytes)"
                ));
            }
            if seen.insert(name, node).is_some() {
                return no(format!("two nodes are named {name}"));
            }
            if node.share.is_some() && (node.macvlan || node.nested) {
                return no(format!(
                    "{name} shares a namespace: macvlan and nested are for the one who has it"
                ));
            }
        }
        for node in &self.nodes {
            let Some(share) = &node.share else { continue };
            match seen.get(share.as_str()) {
                None => {
                    return no(format!("{} shares the namespace of {share}, which is not there", node.name));
                }
                Some(owner) if owner.share.is_some() => {
                    return no(format!(
                        "{} shares the namespace of {share}, which has none of its own",
                        node.name
                    ));
                }
                Some(_) => {}
            }
        }
        let ports = self.ports();
        if ports > MAX_PORTS {
            return no(format!("{ports} ports are more than the {MAX_PORTS} of a bridge"));
        }
        let room = (1u64 << (32 - u32::from(self.prefix))) - 2;
        let host_part = u64::from(u32::from(self.address)) & (room + 1);
        if host_part == 0 || host_part + self.addresses() as u64 > room {
            return no(format!("{}/{} has no room for so many nodes", self.address, self.prefix));
        }
        Ok(())
    }

    /// How many links get an address of the lab's network.
    fn addresses(&self) -> usize {
        self.nodes.iter().filter(|node| node.share.is_none()).map(|node| node.links).sum()
    }

    /// How many ports the bridge will have.
    fn ports(&self) -> usize {
        let own = |node: &&NodeSpec| node.share.is_none();
        let macvlans = self.nodes.iter().filter(own).filter(|node| node.macvlan && node.links > 0).count();
        self.addresses() - macvlans + usize::from(macvlans > 0)
    }
}

impl NodeSpec {
    /// The name of the other end of `eth<index>`, in the switch.
    pub(crate) fn port(&self, index: usize) -> String {
        match index {
            0 => format!("veth{}", self.name),
            _ => format!("veth{}.{index}", self.name),
        }
    }
}

/// Whether this can be a host name, and part of a socket's name, without further thought.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: &LabSpec, because: &str) {
        match spec.check() {
            Err(Error::Spec(why)) => assert!(why.contains(because), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    fn with(change: impl FnOnce(&mut LabSpec)) -> LabSpec {
        let mut spec = LabSpec::default();
        change(&mut spec);
        spec
    }

    #[test]
    fn the_default_and_a_thousand_idle_nodes_can_be() {
        LabSpec::default().check().unwrap();
        LabSpec::idle(1000).check().unwrap();
        LabSpec::idle(0).check().unwrap();
        LabSpec::idle(MAX_PORTS).check().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        refused(&LabSpec::idle(MAX_PORTS + 1), "1024 ports");
        refused(&with(|s| s.name = "a/b".into()), "no name for a lab");
        refused(&with(|s| s.name.clear()), "no name for a lab");
        refused(&with(|s| s.nodes[1].name = "web".into()), "two nodes are named web");
        refused(&with(|s| s.nodes[1].name = "switch".into()), "no name for a node");
        refused(&with(|s| s.nodes[1].name = "twelve-bytes".into()), "too long");
        refused(&with(|s| s.nodes[1].kind = Kind::Switch), "cannot be a switch");
        refused(&with(|s| s.nodes[1].share = Some("nobody".into())), "not there");
        refused(&with(|s| s.nodes[1].share = Some("db".into())), "none of its own");
        refused(&with(|s| s.prefix = 30), "no room");
        refused(&with(|s| s.prefix = 32), "no room");
    }

    #[test]
    fn many_links_make_the_names_of_their_ports_longer() {
        let spec = with(|s| {
            s.nodes[1].name = "elevenbytes".into();
            s.nodes[1].links = 2;
        });
        refused(&spec, "too long");
    }
}
