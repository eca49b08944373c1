//! Where packets are taken from: the links that the words of a command line mean, a pure function over the snapshot.

use serde::{Deserialize, Serialize};
use snorkel_capture::{Interface, LinkType};
use snorkel_engines::{Container, SelectError};
use snorkel_netns::NetnsId;
use snorkel_rtnl::IfIndex;
use snorkel_topology::{Link, Namespace, Snapshot, Target};

use super::wanted::{Side, Wanted, Words};
use crate::failure::Failure;
use crate::render::snapshot::is_running;

/// One link whose packets are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spot {
    /// The target by which it was meant, qualified.
    pub(crate) target: String,
    /// The namespace that the link is in.
    pub(crate) netns: NetnsId,
    /// The link in it.
    pub(crate) index: IfIndex,
    /// The link's own name.
    pub(crate) link: String,
    /// The namespace of the target, which is another if this is the link's other end.
    pub(crate) home: NetnsId,
    /// How it stands in a file and before a line.
    pub(crate) interface: Interface,
}

impl Spot {
    /// Whether it is the end that the target itself has.
    pub(crate) fn is_own_end(&self) -> bool {
        self.netns == self.home
    }
}

/// The links that are meant. A link's two ends, if both are wanted, stand next to each other, the container's first.
pub(crate) fn spots(snapshot: &Snapshot, wanted: &Wanted) -> Result<Vec<Spot>, Failure> {
    let mut spots = Vec::new();
    for target in targets(snapshot, &wanted.targets)? {
        add_new(&mut spots, of_target(snapshot, target, wanted)?);
    }
    Ok(spots)
}

/// As [`spots`], for a capture that follows: what does not run yet is no mistake, since it may start later, and one target
/// that cannot be captured is no reason to do without the others. Also gives why those that cannot be cannot.
pub(crate) fn spots_of_now(
    snapshot: &Snapshot,
    wanted: &Wanted,
) -> Result<(Vec<Spot>, Vec<Failure>), Failure> {
    let containers: Vec<Container> = snapshot.targets.iter().map(|target| target.container.clone()).collect();
    let is_there = |word: &&Words| match word {
        Words::One(spec) => !matches!(
            snorkel_engines::select(spec, &containers),
            Err(SelectError::NotFound { .. } | SelectError::Stopped { .. })
        ),
        _ => true,
    };
    let words: Vec<Words> = wanted.targets.iter().filter(is_there).cloned().collect();
    let (mut spots, mut failures) = (Vec::new(), Vec::new());
    for target in targets(snapshot, &words)? {
        match of_target(snapshot, target, wanted) {
            Ok(some) => add_new(&mut spots, some),
            Err(failure) => failures.push(failure),
        }
    }
    Ok((spots, failures))
}

/// Containers that share a network share its links: each is taken once.
fn add_new(spots: &mut Vec<Spot>, some: Vec<Spot>) {
    for spot in some {
        if !spots.iter().any(|known| known.netns == spot.netns && known.index == spot.index) {
            spots.push(spot);
        }
    }
}

/// The running targets that the words mean, each once.
fn targets<'a>(snapshot: &'a Snapshot, words: &[Words]) -> Result<Vec<&'a Target>, Failure> {
    let containers: Vec<Container> = snapshot.targets.iter().map(|target| target.container.clone()).collect();
    let mut found: Vec<&Target> = Vec::new();
    for word in words {
        match word {
            Words::One(spec) => {
                let container = snorkel_engines::select(spec, &containers).map_err(|error| match &error {
                    SelectError::NotFound { .. } => Failure::from(error).hint("snorkel ls -a"),
                    _ => Failure::from(error),
                })?;
                found.extend(snapshot.targets.iter().find(|target| {
                    target.container.id == container.id
                        && target.container.qualified_id() == container.qualified_id()
                }));
            }
            many => {
                found.extend(snapshot.targets.iter().filter(|target| is_running(target) && many.fit(target)))
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|target| seen.insert(target.container.qualified_id()));
    Ok(found)
}

fn of_target(snapshot: &Snapshot, target: &Target, wanted: &Wanted) -> Result<Vec<Spot>, Failure> {
    let name = &target.name;
    let Some(namespace) = target.netns.and_then(|id| snapshot.namespace(id)) else {
        return Err(Failure::new(format!("{name} has no network to capture: {}", target.container.status)));
    };
    if let Some(error) = &namespace.error {
        return Err(Failure::new(format!("the links of {name} are not known: {error}")));
    }
    if namespace.host && wanted.links.is_empty() {
        return Err(Failure::new(format!("{name} has no network of its own, it shares the host's"))
            .hint("name the host's links that you want with -i, or -i any"));
    }
    let mut spots = Vec::new();
    for link in links(name, namespace, &wanted.links)? {
        if wanted.side != Side::Host {
            spots.push(own_end(snapshot, target, namespace, link));
        }
        if wanted.side != Side::Container && !link.loopback {
            spots.push(other_end(snapshot, target, namespace, link)?);
        }
    }
    Ok(spots)
}

fn links<'a>(target: &str, namespace: &'a Namespace, names: &[String]) -> Result<Vec<&'a Link>, Failure> {
    let have = || namespace.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        let links: Vec<&Link> = namespace.links.iter().filter(|link| !link.loopback).collect();
        if links.is_empty() {
            return Err(
                Failure::new(format!("{target} has no link but its loopback")).hint("-i lo captures that")
            );
        }
        return Ok(links);
    }
    let mut links: Vec<&Link> = Vec::new();
    for name in names {
        if name == "any" {
            return Ok(namespace.links.iter().collect());
        }
        let link = namespace
            .links
            .iter()
            .find(|link| link.name == *name || link.alt_names.contains(name))
            .ok_or_else(|| {
                Failure::new(format!("{target} has no link '{name}'")).hint(format!("-i {}", have()))
            })?;
        if !links.contains(&link) {
            links.push(link);
        }
    }
    Ok(links)
}

fn own_end(snapshot: &Snapshot, target: &Target, namespace: &Namespace, link: &Link) -> Spot {
    let peer = link.peer.as_ref().map(|peer| format!("peer {} of {}", peer.link.name, peer.link.of));
    spot(snapshot, target, namespace.id, link, format!("{}/{}", label(target), link.name), peer)
}

fn other_end(
    snapshot: &Snapshot,
    target: &Target,
    namespace: &Namespace,
    link: &Link,
) -> Result<Spot, Failure> {
    let missing = |why: &str| {
        Failure::new(format!("{}/{} has no other end: {why}", target.name, link.name))
            .hint("--side container, or -i with the links that have one")
    };
    let peer = link.peer.as_ref().ok_or_else(|| {
        missing(&match &link.kind {
            Some(kind) if kind != "veth" => format!("it is a {kind}"),
            Some(_) => "the link that it names does not name it back".to_owned(),
            None => "it is no virtual link".to_owned(),
        })
    })?;
    let far = snapshot
        .namespace(peer.link.netns)
        .and_then(|far| far.link(peer.link.index))
        .ok_or_else(|| missing("its namespace was not read"))?;
    let whose = match snapshot.targets.iter().find(|target| target.name == peer.link.of) {
        Some(target) => label(target),
        None => peer.link.of.clone(),
    };
    let plugged =
        peer.bridge.as_ref().map(|bridge| format!(", on bridge {}", bridge.name)).unwrap_or_default();
    let words = format!("peer {} of {}{plugged}", link.name, target.name);
    let mut spot = spot(snapshot, target, peer.link.netns, far, format!("{whose}/{}", far.name), Some(words));
    spot.home = namespace.id;
    Ok(spot)
}

fn spot(
    snapshot: &Snapshot,
    target: &Target,
    netns: NetnsId,
    link: &Link,
    name: String,
    peer: Option<String>,
) -> Spot {
    let container = &target.container;
    let mut description = target.name.clone();
    if !target.name.ends_with(&container.id) {
        description.push_str(&format!(", id {}", container.id));
    }
    description.push_str(&format!(", {netns}"));
    if let Some(peer) = peer {
        description.push_str(", ");
        description.push_str(&peer);
    }
    let own = target.netns == Some(netns);
    let others: Vec<&str> = snapshot
        .targets_on(netns)
        .filter(|other| own && other.container.qualified_id() != container.qualified_id() && !other.host)
        .map(|other| other.name.as_str())
        .collect();
    if !others.is_empty() {
        description.push_str(&format!(", shared with {}", others.join(", ")));
    }
    Spot {
        target: target.name.clone(),
        netns,
        index: link.index,
        link: link.name.clone(),
        home: netns,
        interface: Interface {
            name,
            description,
            // The ring knows better when it is open.
            link_type: LinkType::ETHERNET,
            snaplen: 0,
            mac: link.mac.as_ref().and_then(|mac| mac.as_bytes().try_into().ok()),
            filter: None,
        },
    }
}

/// What a target is called before a line: as `ls` calls it, and not as the host itself is called.
pub(crate) fn label(target: &Target) -> String {
    if target.short == "host" { target.name.clone() } else { target.short.clone() }
}

#[cfg(test)]
mod tests {
    use snorkel_engines::{Engine, State};
    use snorkel_netns::Pid;
    use snorkel_topology::{Bridge, LinkRef, Peer};

    use super::*;

    const HOST: NetnsId = NetnsId { inode: 1, cookie: 1 };

    fn link(index: u32, name: &str) -> Link {
        Link {
            index: IfIndex::new(index).unwrap(),
            name: name.to_owned(),
            alt_names: Vec::new(),
            kind: Some("veth".to_owned()),
            loopback: name == "lo",
            up: true,
            carrier: true,
            state: "up".to_owned(),
            mtu: 1500,
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            addresses: Vec::new(),
            master: None,
            peer: None,
            lower: None,
        }
    }

    fn joined(mut link: Link, netns: NetnsId, of: &str, index: u32, name: &str) -> Link {
        let far =
            LinkRef { netns, index: IfIndex::new(index).unwrap(), name: name.to_owned(), of: of.to_owned() };
        let bridge = Bridge { index: IfIndex::new(9).unwrap(), name: "docker0".to_owned() };
        link.peer = Some(Peer { link: far, bridge: (of == "host").then_some(bridge) });
        link
    }

    fn namespace(id: NetnsId, links: Vec<Link>) -> Namespace {
        Namespace {
            id,
            host: id == HOST,
            paths: Vec::new(),
            pid: None,
            links,
            listeners: Vec::new(),
            error: None,
        }
    }

    fn target(name: &str, engine: Engine, netns: NetnsId) -> Target {
        let mut container = Container::new(engine, format!("id-of-{name}"));
        container.names = vec![name.to_owned()];
        container.state = State::Running;
        container.pid = Pid::new(100);
        Target {
            name: container.qualified(),
            short: name.to_owned(),
            host: netns == HOST,
            netns: Some(netns),
            container,
        }
    }

    /// web and its sidecar on one network with two links, lone on a macvlan, mute with a loopback only, agent on the
    /// host's; every one of them has an eth0 of index 2.
    fn world() -> Snapshot {
        let of = |inode| NetnsId { inode, cookie: inode };
        let mut alone = link(2, "eth0");
        alone.kind = Some("macvlan".to_owned());
        let web = vec![
            link(1, "lo"),
            joined(link(2, "eth0"), HOST, "host", 7, "veth7"),
            joined(link(3, "eth1"), HOST, "host", 8, "veth8"),
        ];
        let host = vec![
            link(1, "lo"),
            joined(link(7, "veth7"), of(10), "docker:web", 2, "eth0"),
            joined(link(8, "veth8"), of(10), "docker:web", 3, "eth1"),
        ];
        Snapshot {
            targets: vec![
                target("agent", Engine::Docker, HOST),
                target("web", Engine::Docker, of(10)),
                target("sidecar", Engine::Docker, of(10)),
                target("lone", Engine::Podman, of(11)),
                target("mute", Engine::Docker, of(12)),
            ],
            namespaces: vec![
                namespace(HOST, host),
                namespace(of(10), web),
                namespace(of(11), vec![link(1, "lo"), alone]),
                namespace(of(12), vec![link(1, "lo")]),
            ],
            ..Snapshot::default()
        }
    }

    fn found(words: &[&str], links: &[&str], side: Side) -> Result<Vec<String>, String> {
        let wanted = Wanted {
            targets: words.iter().map(|word| word.parse().unwrap()).collect(),
            links: links.iter().map(|link| (*link).to_owned()).collect(),
            side,
        };
        let spots = spots(&world(), &wanted).map_err(|failure| failure.to_string())?;
        Ok(spots.into_iter().map(|spot| spot.interface.name).collect())
    }

    #[test]
    fn all_links_but_the_loopback_unless_they_are_named() {
        assert_eq!(found(&["web"], &[], Side::Container).unwrap(), ["web/eth0", "web/eth1"]);
        assert_eq!(found(&["web"], &["eth1"], Side::Container).unwrap(), ["web/eth1"]);
        assert_eq!(found(&["web"], &["any"], Side::Container).unwrap(), ["web/lo", "web/eth0", "web/eth1"]);
        assert_eq!(found(&["mute"], &["lo"], Side::Container).unwrap(), ["mute/lo"]);
        assert!(found(&["mute"], &[], Side::Container).unwrap_err().contains("no link but its loopback"));
        assert!(found(&["web"], &["eth7"], Side::Container).unwrap_err().contains("no link 'eth7'"));
    }

    #[test]
    fn both_ends_stand_next_to_each_other() {
        assert_eq!(
            found(&["web"], &[], Side::Both).unwrap(),
            ["web/eth0", "host/veth7", "web/eth1", "host/veth8"]
        );
        assert_eq!(found(&["web"], &["eth1"], Side::Host).unwrap(), ["host/veth8"]);
        let error = found(&["lone"], &[], Side::Both).unwrap_err();
        assert!(error.contains("podman:lone/eth0 has no other end: it is a macvlan"), "{error}");
    }

    #[test]
    fn a_shared_network_is_captured_once() {
        assert_eq!(found(&["sidecar", "web"], &["eth0"], Side::Container).unwrap(), ["sidecar/eth0"]);
        let all = found(&["*"], &["eth0"], Side::Container);
        assert!(all.unwrap_err().contains("has no link"), "agent has no eth0, and that is said");
        assert_eq!(
            found(&["docker:w*", "lon?"], &["eth0"], Side::Container).unwrap(),
            ["web/eth0", "lone/eth0"]
        );
    }

    #[test]
    fn the_hosts_network_is_not_captured_by_accident() {
        assert!(found(&["agent"], &[], Side::Container).unwrap_err().contains("shares the host's"));
        assert_eq!(found(&["agent"], &["veth7"], Side::Container).unwrap(), ["agent/veth7"]);
    }

    #[test]
    fn who_follows_takes_those_that_can_be_captured_and_hears_of_the_others() {
        let wanted = |word: &str| Wanted {
            targets: vec![word.parse().unwrap()],
            links: Vec::new(),
            side: Side::Container,
        };
        let (spots, failures) = spots_of_now(&world(), &wanted("*")).unwrap();
        let names: Vec<&str> = spots.iter().map(|spot| spot.interface.name.as_str()).collect();
        assert_eq!(names, ["web/eth0", "web/eth1", "lone/eth0"]);
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert!(failures[0].contains("agent has no network of its own"), "{failures:?}");
        assert!(failures[1].contains("mute has no link but its loopback"), "{failures:?}");
        assert_eq!(failures.len(), 2, "{failures:?}");
        let (spots, failures) = spots_of_now(&world(), &wanted("later")).unwrap();
        assert!(spots.is_empty() && failures.is_empty());
    }

    #[test]
    fn a_description_says_whose_link_it_is() {
        let wanted =
            Wanted { targets: vec!["web".parse().unwrap()], links: vec!["eth0".into()], side: Side::Both };
        let spots = spots(&world(), &wanted).unwrap();
        assert_eq!(
            spots[0].interface.description,
            "docker:web, id id-of-web, net:[10], peer veth7 of host, shared with docker:sidecar"
        );
        assert_eq!(
            spots[1].interface.description,
            "docker:web, id id-of-web, net:[1], peer eth0 of docker:web, on bridge docker0"
        );
        assert!(spots[0].is_own_end() && !spots[1].is_own_end());
    }
}
