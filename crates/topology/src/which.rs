//! Whose is it? From a link, an index, an address, a namespace or a process to the container, both ends and the bridge.
//!
//! A pure function over the snapshot. A number may be several things at once (an index, an inode, a process): all that
//! it is are answered, each said to be what it is.

mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::Serialize;
use snorkel_netns::{NetnsId, Pid};
use snorkel_rtnl::{IfIndex, Mac};

use crate::snapshot::{Bridge, Link, LinkRef, Namespace, Snapshot};

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A bare number: an index on the host, the inode of a namespace, or a PID, of which the snapshot must know
    /// ([`Snapshot::processes`]) unless an engine names it.
    Number(u64),
    /// `net:[4026531840]`: the inode of a network namespace, as /proc shows it.
    Inode(u64),
    /// An IP address.
    Address(IpAddr),
    /// An address and a port: who listens there, or whose published port it is. The unspecified address is what a
    /// socket for all addresses is bound to.
    Socket(SocketAddr),
    /// A hardware address.
    Mac(Mac),
    /// A link by name; on the host if it has one of that name, else wherever one is.
    Link(String),
    /// A link by name in the namespace of a target: `lab:switch/vethweb`.
    LinkOf(String, String),
}

impl FromStr for Thing {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Thing, Self::Err> {
        if let Ok(number) = text.parse() {
            return Ok(Thing::Number(number));
        }
        if let Some(inode) =
            text.strip_prefix("net:[").and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse().ok())
        {
            return Ok(Thing::Inode(inode));
        }
        // "10.0.0.2/16" is how tools print an address; its prefix is no part of the question.
        let address = text
            .split_once('/')
            .filter(|(_, p)| p.parse::<u8>().is_ok())
            .map_or(text, |(address, _)| address);
        if let Ok(address) = address.parse() {
            return Ok(Thing::Address(address));
        }
        if let Ok(socket) = text.parse() {
            return Ok(Thing::Socket(socket));
        }
        // "*:80" is how `ss` prints a socket that takes both families on every address.
        if let Some(port) = text.strip_prefix("*:").and_then(|port| port.parse().ok()) {
            return Ok(Thing::Socket(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)));
        }
        if let Some(mac) = text.parse::<Mac>().ok().filter(|mac| mac.as_bytes().len() >= 6) {
            return Ok(Thing::Mac(mac));
        }
        Ok(match text.rsplit_once('/') {
            Some((target, link)) => Thing::LinkOf(target.to_owned(), link.to_owned()),
            // "eth0@if7" is how `ip link` prints a name.
            None => Thing::Link(text.split_once('@').map_or(text, |(name, _)| name).to_owned()),
        })
    }
}

impl Thing {
    /// The process that it may be.
    pub fn as_process(&self) -> Option<Pid> {
        match self {
            Thing::Number(number) => i32::try_from(*number).ok().and_then(Pid::new),
            _ => None,
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Number(number) => number.fmt(f),
            Thing::Inode(inode) => write!(f, "net:[{inode}]"),
            Thing::Address(address) => address.fmt(f),
            Thing::Socket(socket) => socket.fmt(f),
            Thing::Mac(mac) => mac.fmt(f),
            Thing::Link(name) => f.write_str(name),
            Thing::LinkOf(target, name) => write!(f, "{target}/{name}"),
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What the thing turned out to be: `link`, `index`, `address`, `hardware address`, `namespace`, `process`,
    /// `listener`, `published port`.
    pub found_as: &'static str,
    /// The targets whose network it is; several if they share a namespace, none if nobody owns it.
    pub targets: Vec<String>,
    /// Their namespace.
    pub netns: NetnsId,
    /// Whether that is the host's own.
    pub host: bool,
    /// The container's end of the link; none where a whole namespace was meant.
    pub inside: Option<Link>,
    /// The other end: the peer of a veth, or the link that a macvlan sits on.
    pub outside: Option<LinkRef>,
    /// The bridge that the outer end is plugged into.
    pub bridge: Option<Bridge>,
    /// More about it: the process that listens, the port that is published.
    pub note: Option<String>,
}

/// Nothing in the snapshot is that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing here is '{thing}' ({namespaces} network namespaces were read){}", hint(.suggestions))]
pub struct Unknown {
    /// What was asked.
    pub thing: String,
    /// How many namespaces were looked through.
    pub namespaces: usize,
    /// Links of similar names.
    pub suggestions: Vec<String>,
}

fn hint(suggestions: &[String]) -> String {
    if suggestions.is_empty() { String::new() } else { format!("; did you mean {}?", suggestions.join(", ")) }
}

/// Everything that the thing is; never empty.
pub fn which(snapshot: &Snapshot, thing: &Thing) -> Result<Vec<Finding>, Unknown> {
    let found = match thing {
        Thing::Number(number) => by_number(snapshot, *number),
        Thing::Inode(inode) => by_inode(snapshot, *inode),
        Thing::Address(address) => by_address(snapshot, *address),
        Thing::Socket(asked) => socket::find(snapshot, *asked),
        Thing::Mac(mac) => by_links(snapshot, "hardware address", |link| link.mac.as_ref() == Some(mac)),
        Thing::Link(name) => by_name(snapshot, name),
        Thing::LinkOf(target, name) => by_name_of(snapshot, target, name),
    };
    if found.is_empty() { Err(unknown(snapshot, thing)) } else { Ok(found) }
}

fn unknown(snapshot: &Snapshot, thing: &Thing) -> Unknown {
    let mut suggestions = Vec::new();
    if let Thing::Link(name) | Thing::LinkOf(_, name) = thing {
        let links = snapshot.namespaces.iter().flat_map(|namespace| &namespace.links);
        let mut near: Vec<(usize, &str)> =
            links.map(|link| (strsim::damerau_levenshtein(&link.name, name), link.name.as_str())).collect();
        // Of a short name not all may be another's.
        near.retain(|(distance, _)| *distance <= 2 && *distance < name.chars().count());
        near.sort_unstable();
        near.dedup();
        suggestions = near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect();
    }
    Unknown { thing: thing.to_string(), namespaces: snapshot.namespaces.len(), suggestions }
}

fn is_named(link: &Link, name: &str) -> bool {
    link.name == name || link.alt_names.iter().any(|other| other == name)
}

/// The host's link of that name, or if it has none, those of all other namespaces.
fn by_name(snapshot: &Snapshot, name: &str) -> Vec<Finding> {
    let on_host: Vec<Finding> = links(snapshot)
        .filter(|(namespace, link)| namespace.host && is_named(link, name))
        .map(|(namespace, link)| about_link(snapshot, "link", namespace, link))
        .collect();
    if !on_host.is_empty() {
        return on_host;
    }
    by_links(snapshot, "link", |link| is_named(link, name))
}

fn by_name_of(snapshot: &Snapshot, target: &str, name: &str) -> Vec<Finding> {
    let meant: Vec<NetnsId> = if target == "host" {
        snapshot.namespaces.iter().filter(|namespace| namespace.host).map(|namespace| namespace.id).collect()
    } else {
        let named =
            snapshot.targets.iter().filter(|t| t.name == target || t.container.short_name() == target);
        named.filter_map(|t| t.netns).collect()
    };
    links(snapshot)
        .filter(|(namespace, link)| meant.contains(&namespace.id) && is_named(link, name))
        .map(|(namespace, link)| about_link(snapshot, "link", namespace, link))
        .collect()
}

fn by_links(snapshot: &Snapshot, found_as: &'static str, wanted: impl Fn(&Link) -> bool) -> Vec<Finding> {
    links(snapshot)
        .filter(|(_, link)| wanted(link))
        .map(|(namespace, link)| about_link(snapshot, found_as, namespace, link))
        .collect()
}

/// A loopback address is every namespace's own: without a namespace beside it, only the host's is meant.
fn by_address(snapshot: &Snapshot, address: IpAddr) -> Vec<Finding> {
    links(snapshot)
        .filter(|(namespace, _)| namespace.host || !address.is_loopback())
        .filter(|(_, link)| link.addresses.iter().any(|a| a.address == address))
        .map(|(namespace, link)| about_link(snapshot, "address", namespace, link))
        .collect()
}

/// An index means the host's link, as `ip link` on the host shows it; the same number elsewhere is another link.
fn by_number(snapshot: &Snapshot, number: u64) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(index) = u32::try_from(number).ok().and_then(IfIndex::new) {
        for namespace in snapshot.namespaces.iter().filter(|namespace| namespace.host) {
            found.extend(namespace.link(index).map(|link| about_link(snapshot, "index", namespace, link)));
        }
    }
    found.extend(by_inode(snapshot, number));
    if let Some(pid) = Thing::Number(number).as_process() {
        let meant = snapshot.targets.iter().filter(|t| t.container.pid == Some(pid)).filter_map(|t| t.netns);
        let others = snapshot.processes.iter().filter(|p| p.pid == pid).map(|p| p.netns);
        let mut meant: Vec<NetnsId> = meant.chain(others).collect();
        meant.sort_unstable();
        meant.dedup();
        for id in meant {
            found.extend(about_namespace(snapshot, "process", id).map(|finding| match finding.host {
                true => Finding { targets: names_of(snapshot, pid), ..finding },
                false => finding,
            }));
        }
    }
    found
}

fn by_inode(snapshot: &Snapshot, inode: u64) -> Vec<Finding> {
    let meant = snapshot.namespaces.iter().filter(|namespace| namespace.id.inode == inode);
    meant.filter_map(|namespace| about_namespace(snapshot, "namespace", namespace.id)).collect()
}

fn links(snapshot: &Snapshot) -> impl Iterator<Item = (&Namespace, &Link)> {
    snapshot.namespaces.iter().flat_map(|namespace| namespace.links.iter().map(move |link| (namespace, link)))
}

/// Turns a link into an answer. The outer end of a veth (on the host, or plugged into a bridge) stands for the
/// container at the other end.
fn about_link(snapshot: &Snapshot, found_as: &'static str, namespace: &Namespace, link: &Link) -> Finding {
    let other = link.peer.as_ref().and_then(|peer| {
        let namespace = snapshot.namespace(peer.link.netns)?;
        Some((namespace, namespace.link(peer.link.index)?))
    });
    let is_outer = |namespace: &Namespace, link: &Link| namespace.host || link.master.is_some();
    let (namespace, inside) = match other {
        Some((far, inner)) if is_outer(namespace, link) && !is_outer(far, inner) => (far, inner),
        _ => (namespace, link),
    };
    let outside = inside.peer.as_ref().map(|peer| peer.link.clone()).or_else(|| inside.lower.clone());
    let bridge = inside.peer.as_ref().and_then(|peer| peer.bridge.clone()).or_else(|| inside.master.clone());
    Finding {
        found_as,
        targets: names_on(snapshot, namespace.id),
        netns: namespace.id,
        host: namespace.host,
        inside: Some(inside.clone()),
        outside,
        bridge,
        note: None,
    }
}

/// Turns a namespace into an answer; with its one link where it has just one besides the loopback.
fn about_namespace(snapshot: &Snapshot, found_as: &'static str, id: NetnsId) -> Option<Finding> {
    let namespace = snapshot.namespace(id)?;
    let mut links = namespace.links.iter().filter(|link| !link.loopback);
    if let (Some(link), None, false) = (links.next(), links.next(), namespace.host) {
        return Some(about_link(snapshot, found_as, namespace, link));
    }
    Some(Finding {
        found_as,
        targets: names_on(snapshot, id),
        netns: id,
        host: namespace.host,
        inside: None,
        outside: None,
        bridge: None,
        note: None,
    })
}

/// Whose network it is. The host's is nobody's but the host's, however many targets run in it.
fn names_on(snapshot: &Snapshot, id: NetnsId) -> Vec<String> {
    if snapshot.namespace(id).is_some_and(|namespace| namespace.host) {
        return Vec::new();
    }
    snapshot.targets_on(id).map(|target| target.name.clone()).collect()
}

/// The targets whose process it is.
fn names_of(snapshot: &Snapshot, pid: Pid) -> Vec<String> {
    let meant = snapshot.targets.iter().filter(|target| target.container.pid == Some(pid));
    meant.map(|target| target.name.clone()).collect()
}
