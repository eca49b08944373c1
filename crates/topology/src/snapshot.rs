//! The values of a snapshot: what `--json` prints (its schema is documented in docs/json.md) and tests feed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use snorkel_engines::Container;
use snorkel_netns::{NetnsId, Pid};
use snorkel_rtnl::{IfIndex, Mac};

/// The version of the JSON form. It grows when a field changes its meaning or goes, not when one is added.
pub const SCHEMA: u32 = 1;

/// A machine's targets and network namespaces at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`] of the program that made it.
    pub schema: u32,
    /// The machine's host name.
    pub host: String,
    /// Everything whose network can be meant.
    pub targets: Vec<Target>,
    /// Every network namespace that was found, each once.
    pub namespaces: Vec<Namespace>,
    /// Processes that were asked for, where each of them is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Inmate>,
    /// What could not be read, a line each.
    pub warnings: Vec<String>,
}

/// A container, pod, named namespace or process whose network is meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// What can be typed for it: `docker:web`.
    pub name: String,
    /// The same without the engine, where nothing else that was found is called so.
    pub short: String,
    /// Whether its network is the host's own.
    pub host: bool,
    /// The network namespace; none if it is stopped or could not be read.
    pub netns: Option<NetnsId>,
    /// What the engine says of it.
    #[serde(flatten)]
    pub container: Container,
}

/// One network namespace and its links.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Namespace {
    /// Inode and cookie.
    pub id: NetnsId,
    /// Whether it is the host's own: the one that the snapshot was taken from.
    pub host: bool,
    /// Where it is mounted: `/run/netns/blue`.
    pub paths: Vec<PathBuf>,
    /// The process of lowest number in it.
    pub pid: Option<Pid>,
    /// The links in the order of their indexes.
    pub links: Vec<Link>,
    /// Sockets that wait for connections or packets; empty unless they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// Why the links are not known, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A process, whether or not it is the one by which an engine knows a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inmate {
    /// Its number on this host.
    pub pid: Pid,
    /// The network namespace that it is in.
    pub netns: NetnsId,
}

/// A network interface of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its number in its namespace.
    pub index: IfIndex,
    /// Its name; bytes that are not printable text stand as `\xNN`.
    pub name: String,
    /// Other names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// `veth`, `bridge`, `macvlan` and so on; none for hardware and loopback.
    pub kind: Option<String>,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Set up by the administrator (IFF_UP).
    pub up: bool,
    /// The other side is there (IFF_LOWER_UP).
    pub carrier: bool,
    /// RFC 2863 state as `ip link` prints it, in lower case.
    pub state: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Addresses, IPv4 first.
    pub addresses: Vec<Address>,
    /// The bridge (or bond) that it is a port of, in its own namespace.
    pub master: Option<Bridge>,
    /// The other end of a veth pair, if both ends name each other.
    pub peer: Option<Peer>,
    /// The link below a macvlan, ipvlan, vlan or vxlan.
    pub lower: Option<LinkRef>,
}

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address itself.
    pub address: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// A bridge or another master by number and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its number, in the namespace of its ports.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
}

/// A link of any namespace of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRef {
    /// The namespace it is in.
    pub netns: NetnsId,
    /// Its number there.
    pub index: IfIndex,
    /// Its name there.
    pub name: String,
    /// What its namespace is called: `host`, a target, or `net:[INODE]` if nobody owns it.
    pub of: String,
}

/// The other end of a veth pair and what it is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which link it is.
    #[serde(flatten)]
    pub link: LinkRef,
    /// The bridge that end is a port of.
    pub bridge: Option<Bridge>,
}

/// A socket that waits for connections or packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address it is bound to; the unspecified one for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it takes no IPv4, being bound to `[::]`; also false where the kernel could not be asked.
    #[serde(default)]
    pub v6_only: bool,
    /// A process that holds it, where that could be read.
    pub pid: Option<Pid>,
    /// That process's command name.
    pub command: Option<String>,
}

impl Snapshot {
    /// The namespace of this identity.
    pub fn namespace(&self, id: NetnsId) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.id == id)
    }

    /// The targets on this namespace.
    pub fn targets_on(&self, id: NetnsId) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.netns == Some(id))
    }

    /// What a namespace is called where a link in it is named: `host`, a target on it, or its inode.
    pub fn name_of(&self, id: NetnsId) -> String {
        if self.namespace(id).is_some_and(|namespace| namespace.host) {
            return "host".to_owned();
        }
        self.targets_on(id).next().map_or_else(|| id.to_string(), |target| target.name.clone())
    }

    /// Calls every target by what selects it among all of them.
    pub(crate) fn name_targets(&mut self) {
        let lent = self.targets.iter_mut().map(|target| {
            let empty = Container::new(target.container.engine, String::new());
            std::mem::replace(&mut target.container, empty)
        });
        let containers: Vec<Container> = lent.collect();
        let names = snorkel_engines::called(&containers);
        for ((target, container), called) in self.targets.iter_mut().zip(containers).zip(names) {
            (target.container, target.name, target.short) = (container, called.name, called.short);
        }
    }

    /// Says of every link at another's far end whose it is, now that all targets are known.
    pub(crate) fn name_far_ends(&mut self) {
        // As `name_of`, for all of them at once.
        let mut names: HashMap<NetnsId, String> = HashMap::with_capacity(self.namespaces.len());
        names.extend(self.namespaces.iter().filter(|n| n.host).map(|host| (host.id, "host".to_owned())));
        for target in &self.targets {
            if let Some(netns) = target.netns {
                names.entry(netns).or_insert_with(|| target.name.clone());
            }
        }
        for link in self.namespaces.iter_mut().flat_map(|namespace| &mut namespace.links) {
            for far in link.peer.iter_mut().map(|peer| &mut peer.link).chain(&mut link.lower) {
                far.of = names.get(&far.netns).cloned().unwrap_or_else(|| far.netns.to_string());
            }
        }
    }

    /// Keeps only the targets that are wanted, and their namespaces.
    pub fn narrow(&mut self, wanted: impl FnMut(&Target) -> bool) {
        self.targets.retain(wanted);
        let meant: HashSet<NetnsId> = self.targets.iter().filter_map(|target| target.netns).collect();
        self.namespaces.retain(|namespace| meant.contains(&namespace.id));
    }
}

impl Namespace {
    /// The link of this index.
    pub fn link(&self, index: IfIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// Whether a namespace has no link but its loopback, as with `--network none`.
pub fn is_loopback_only(namespace: &Namespace) -> bool {
    namespace.links.iter().all(|link| link.loopback)
}
