//! Who answers on an address and a port: published ports by the engines' word, sockets that wait by the kernel's.

use std::net::{IpAddr, SocketAddr};

use super::{Finding, about_link, about_namespace, names_of};
use crate::snapshot::{Listener, Namespace, Snapshot};

/// The processes, by command name, that hold a port of the host for an engine that publishes it: they pass on what
/// comes, or only keep others from the port.
const PROXIES: [&str; 8] = [
    "docker-proxy",
    "dockerd",
    "conmon",
    "rootlesskit",
    "rootlessport",
    "rootlessport-c",
    "slirp4netns",
    "pasta",
];

/// Everything that takes what is sent there.
pub(super) fn find(snapshot: &Snapshot, asked: SocketAddr) -> Vec<Finding> {
    let asked = SocketAddr::new(asked.ip().to_canonical(), asked.port());
    let listeners = listeners(snapshot, asked);
    let (mut found, proxies) = published(snapshot, asked, &listeners);
    for (namespace, listener) in listeners {
        let is_proxy = namespace.host && proxies.iter().any(|proxy| std::ptr::eq(*proxy, listener));
        if !is_proxy {
            found.extend(about(snapshot, namespace, listener, asked.ip()));
        }
    }
    found
}

/// The sockets that take it, in every namespace that has the address; of several in one namespace, those that the
/// kernel prefers: bound to the very address before bound to all, of its own family before of both
/// (`compute_score` of net/ipv4/inet_hashtables.c and udp.c).
fn listeners(snapshot: &Snapshot, asked: SocketAddr) -> Vec<(&Namespace, &Listener)> {
    let mut found = Vec::new();
    for namespace in snapshot.namespaces.iter().filter(|namespace| is_meant(namespace, asked.ip())) {
        let waiting = namespace.listeners.iter().filter(|listener| listener.port == asked.port());
        let ranked: Vec<_> = waiting.filter_map(|l| Some((rank(l, asked.ip())?, l))).collect();
        let best = |protocol: &str| {
            ranked.iter().filter(|(_, l)| l.protocol == protocol).map(|(rank, _)| *rank).max()
        };
        let kept = ranked.iter().filter(|(rank, listener)| best(&listener.protocol) == Some(*rank));
        found.extend(kept.map(|(_, listener)| (namespace, *listener)));
    }
    found
}

/// How well the socket fits the address; none if it does not take what is sent there.
fn rank(listener: &Listener, asked: IpAddr) -> Option<u8> {
    let bound = listener.address.to_canonical();
    match bound.is_unspecified() {
        _ if bound == asked => Some(2),
        true if bound.is_ipv4() == asked.is_ipv4() => Some(1),
        // [::] takes IPv4 as well, unless the socket says otherwise (ipv6(7), IPV6_V6ONLY).
        true if asked.is_ipv4() && !listener.v6_only => Some(0),
        _ => None,
    }
}

/// Whether the address is one of the namespace's. A loopback address and the unspecified one are every namespace's own:
/// only the host's are meant from here.
fn is_meant(namespace: &Namespace, address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() {
        return namespace.host;
    }
    namespace.links.iter().any(|link| link.addresses.iter().any(|a| a.address == address))
}

/// The ports of the host that engines lead from there to a container, and the sockets that are the engines' own part
/// in it.
fn published<'a>(
    snapshot: &Snapshot,
    asked: SocketAddr,
    listeners: &[(&Namespace, &'a Listener)],
) -> (Vec<Finding>, Vec<&'a Listener>) {
    let mut found: Vec<Finding> = Vec::new();
    let mut proxies = Vec::new();
    if !snapshot.namespaces.iter().any(|namespace| namespace.host && is_meant(namespace, asked.ip())) {
        return (found, proxies);
    }
    // What is published on [::] takes no IPv4: an engine that leads both there says so twice.
    let fits =
        |bound: IpAddr| bound == asked.ip() || (bound.is_unspecified() && bound.is_ipv4() == asked.is_ipv4());
    for target in &snapshot.targets {
        let Some(netns) = target.netns else { continue };
        for port in &target.container.ports {
            if port.host_port != asked.port() || !port.host_ip.is_none_or(fits) {
                continue;
            }
            let Some(finding) = about_namespace(snapshot, "published port", netns) else { continue };
            let protocol = port.protocol.to_string();
            let is_proxy = |listener: &Listener| {
                let command = listener.command.as_deref();
                // Of whom nothing is known, nothing can be said but that the port is the engine's.
                listener.protocol == protocol && command.is_none_or(|name| PROXIES.contains(&name))
            };
            let own: Vec<&Listener> =
                listeners.iter().filter(|(n, l)| n.host && is_proxy(l)).map(|(_, l)| *l).collect();
            let note = format!(
                "{} publishes {}/{protocol} as port {} of the host{}",
                target.name,
                port.container_port,
                port.host_port,
                own.iter().find_map(|l| through(l)).unwrap_or_default()
            );
            let finding = Finding { targets: vec![target.name.clone()], note: Some(note), ..finding };
            if !found.contains(&finding) {
                found.push(finding);
            }
            proxies.extend(own);
        }
    }
    (found, proxies)
}

/// By way of which process of the engine's.
fn through(listener: &Listener) -> Option<String> {
    Some(format!(", held by {} (process {})", listener.command.as_ref()?, listener.pid?))
}

fn about(snapshot: &Snapshot, namespace: &Namespace, listener: &Listener, asked: IpAddr) -> Option<Finding> {
    let link = namespace.links.iter().find(|link| link.addresses.iter().any(|a| a.address == asked));
    let mut finding = match link {
        Some(link) if !link.loopback => about_link(snapshot, "listener", namespace, link),
        _ => about_namespace(snapshot, "listener", namespace.id)?,
    };
    let holder = listener.pid.map_or_else(String::new, |pid| {
        let command = listener.command.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        format!(" by process {pid}{command}")
    });
    if let (true, Some(pid)) = (finding.host, listener.pid) {
        finding.targets = names_of(snapshot, pid);
    }
    let bound = SocketAddr::new(listener.address, listener.port);
    finding.note = Some(format!("{bound}/{} is listened on{holder}", listener.protocol));
    Some(finding)
}
