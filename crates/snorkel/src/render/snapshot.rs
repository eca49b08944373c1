//! The listing: one row a link, the targets that share a namespace one below the other.

use std::collections::{BTreeMap, HashMap};

use snorkel_engines::{Engine, State};
use snorkel_netns::NetnsId;
use snorkel_topology::{Link, Namespace, Snapshot, Target};

use super::style::{Style, Tone};
use super::table::{Cell, table};

/// How much of it is shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// Also ids, hardware addresses, MTU, loopbacks and every address.
    pub(crate) wide: bool,
    /// Also what does not run.
    pub(crate) all: bool,
}

const NARROW: [&str; 9] = ["NAME", "ENGINE", "PID", "NETNS", "LINK", "ADDRESS", "PEER", "BRIDGE", "STATE"];
const WIDE: [&str; 14] = [
    "NAME", "ENGINE", "PID", "NETNS", "LINK", "ADDRESS", "PEER", "BRIDGE", "STATE", "KIND", "MAC", "MTU",
    "ID", "IMAGE",
];

/// The targets of the snapshot as a table.
pub(crate) fn listing(snapshot: &Snapshot, shape: Shape, style: Style) -> String {
    let namespaces: HashMap<NetnsId, &Namespace> =
        snapshot.namespaces.iter().map(|namespace| (namespace.id, namespace)).collect();
    let mut rows = Vec::new();
    for (netns, targets) in groups(snapshot, shape.all) {
        let namespace = netns.and_then(|id| namespaces.get(&id).copied());
        for (place, target) in targets.into_iter().enumerate() {
            rows.extend(rows_of(target, namespace, place, shape));
        }
    }
    let header: &[&str] = if shape.wide { &WIDE } else { &NARROW };
    table(header, &rows, style)
}

/// The targets that are shown, those of one namespace together, each group where its first target stands.
fn groups(snapshot: &Snapshot, all: bool) -> Vec<(Option<NetnsId>, Vec<&Target>)> {
    let mut groups: Vec<(Option<NetnsId>, Vec<&Target>)> = Vec::new();
    let mut places: HashMap<NetnsId, usize> = HashMap::new();
    for target in snapshot.targets.iter().filter(|target| all || is_running(target)) {
        let last = groups.len();
        match target.netns.map_or(last, |netns| *places.entry(netns).or_insert(last)) {
            new if new == last => groups.push((target.netns, vec![target])),
            shared => groups[shared].1.push(target),
        }
    }
    groups
}

/// Whether there is something to work in.
pub(crate) fn is_running(target: &Target) -> bool {
    matches!(target.container.state, State::Running | State::Paused)
}

/// Why links are not known, where the table has a `?`: each reason once.
pub(crate) fn unread(snapshot: &Snapshot) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<NetnsId>> = BTreeMap::new();
    for namespace in &snapshot.namespaces {
        if let Some(error) = &namespace.error {
            reasons.entry(error).or_default().push(namespace.id);
        }
    }
    let line = |(error, ids): (&str, Vec<NetnsId>)| match ids[..] {
        [id] => format!("the links of {id} are not known: {error}"),
        _ => format!("the links of {} network namespaces are not known: {error}", ids.len()),
    };
    reasons.into_iter().map(line).collect()
}

fn rows_of(target: &Target, namespace: Option<&Namespace>, place: usize, shape: Shape) -> Vec<Vec<Cell>> {
    let container = &target.container;
    let netns = match (namespace, target.host) {
        (_, true) => Cell::new("host").tone(Tone::Doubtful),
        (Some(namespace), _) => Cell::new(namespace.id.inode.to_string()),
        (None, _) => Cell::new("-"),
    };
    let head = [
        Cell::new(&target.short),
        Cell::new(container.engine.to_string()),
        Cell::new(process(target)),
        netns,
    ];
    let tail = [
        Cell::new(container.id.get(..12).unwrap_or(&container.id)),
        Cell::new(container.image.as_deref().unwrap_or("-")),
    ];
    let with = |link: [Cell; 5], extra: [Cell; 3], first: bool| {
        let mut row: Vec<Cell> = if first { head.to_vec() } else { vec![Cell::default(); head.len()] };
        row.extend(link);
        if shape.wide {
            row.extend(extra);
            row.extend(if first { tail.to_vec() } else { vec![Cell::default(); tail.len()] });
        }
        row
    };
    let dash = || Cell::new("-");
    let alone = |link: Cell| {
        let state = state_without_link(target);
        vec![with([link, dash(), dash(), dash(), state], [dash(), dash(), dash()], true)]
    };
    let Some(namespace) = namespace.filter(|_| !target.host) else { return alone(dash()) };
    if namespace.error.is_some() {
        return alone(Cell::new("?").tone(Tone::Bad));
    }
    if place > 0 {
        return alone(Cell::new("(shared)").tone(Tone::Faint));
    }
    let only_loopback = snorkel_topology::is_loopback_only(namespace);
    let links: Vec<&Link> =
        namespace.links.iter().filter(|link| shape.wide || only_loopback || !link.loopback).collect();
    if links.is_empty() {
        return alone(dash());
    }
    let row = |(number, link): (usize, &&Link)| {
        let extra = [
            Cell::new(link.kind.as_deref().unwrap_or("-")),
            link.mac.as_ref().map_or_else(dash, |mac| Cell::new(mac.to_string())),
            Cell::new(link.mtu.to_string()),
        ];
        let cells = [
            Cell::new(&link.name),
            Cell::new(addresses(link, shape.wide)),
            Cell::new(peer(link)),
            Cell::new(bridge(link)),
            state(target, link),
        ];
        with(cells, extra, number == 0)
    };
    links.iter().enumerate().map(row).collect()
}

/// The process; with its command where it is all that is known.
fn process(target: &Target) -> String {
    match (target.container.pid, target.container.engine, target.container.names.first()) {
        (Some(pid), Engine::Pid, Some(command)) => format!("{pid} ({command})"),
        (Some(pid), ..) => pid.to_string(),
        (None, ..) => "-".to_owned(),
    }
}

/// The first address of each family; all of them in the wide form.
fn addresses(link: &Link, wide: bool) -> String {
    let global = |address: &&snorkel_topology::Address| {
        wide || !matches!(address.address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local())
    };
    let shown: Vec<String> =
        link.addresses.iter().filter(global).map(|a| format!("{}/{}", a.address, a.prefix)).collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

/// The host link at the other end, with its namespace's name where that is not the host.
fn peer(link: &Link) -> String {
    match link.peer.as_ref().map(|peer| &peer.link).or(link.lower.as_ref()) {
        None => "-".to_owned(),
        Some(other) if other.of == "host" => other.name.clone(),
        Some(other) => format!("{}/{}", other.of, other.name),
    }
}

/// The bridge at the other end, or the one that the link itself is a port of.
fn bridge(link: &Link) -> String {
    let bridge = link.peer.as_ref().and_then(|peer| peer.bridge.as_ref()).or(link.master.as_ref());
    bridge.map_or_else(|| "-".to_owned(), |bridge| bridge.name.clone())
}

fn state(target: &Target, link: &Link) -> Cell {
    let (word, tone) = match (link.up, link.carrier) {
        (true, true) => ("up", Tone::Good),
        (true, false) => ("no-carrier", Tone::Bad),
        (false, _) => ("down", Tone::Bad),
    };
    match target.container.state {
        State::Paused => Cell::new(format!("{word}, paused")).tone(Tone::Doubtful),
        _ => Cell::new(word).tone(tone),
    }
}

fn state_without_link(target: &Target) -> Cell {
    match target.container.state {
        State::Running => Cell::new("running").tone(Tone::Good),
        State::Paused => Cell::new("paused").tone(Tone::Doubtful),
        _ => Cell::new(&target.container.status).tone(Tone::Faint),
    }
}

#[cfg(test)]
mod tests {
    use snorkel_engines::{Container, Engine};

    use super::*;

    /// A snapshot of processes in namespaces whose links could not be read.
    fn refused(inodes: &[u64]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for inode in inodes {
            let id = NetnsId { inode: *inode, cookie: 1 };
            let container =
                Container { state: State::Running, ..Container::new(Engine::Pid, inode.to_string()) };
            snapshot.targets.push(Target {
                name: container.qualified(),
                short: container.id.clone(),
                host: false,
                netns: Some(id),
                container,
            });
            snapshot.namespaces.push(Namespace {
                id,
                host: false,
                paths: Vec::new(),
                pid: None,
                links: Vec::new(),
                listeners: Vec::new(),
                error: Some("cannot read the links: a long reason".into()),
            });
        }
        snapshot
    }

    #[test]
    fn links_that_are_not_known_are_a_question_mark_and_the_reason_stands_once() {
        let snapshot = refused(&[4026532001, 4026532002]);
        let table = listing(&snapshot, Shape::default(), Style::PLAIN);
        assert!(!table.contains("reason"), "{table}");
        let rows: Vec<Vec<&str>> =
            table.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows.iter().map(|row| row[4]).collect::<Vec<_>>(), ["?", "?"], "{table}");
        assert_eq!(
            unread(&snapshot),
            ["the links of 2 network namespaces are not known: cannot read the links: a long reason"]
        );
        assert_eq!(
            unread(&refused(&[7])),
            ["the links of net:[7] are not known: cannot read the links: a long reason"]
        );
    }
}
