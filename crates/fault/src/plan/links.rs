//! Which links are meant, and from where each can be disturbed.

use snorkel_engines::{Container, TargetSpec};
use snorkel_topology::{Link, Namespace, Snapshot, Target};

use super::{Place, Point, Refused, refuse};

/// Which targets, and which of their links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// As they were named.
    pub targets: Vec<TargetSpec>,
    /// Which of their links.
    pub links: Links,
    /// Whether the host's own network may be meant.
    pub host_is_meant: bool,
}

/// Which links of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Links {
    /// The one that it has besides the loopback; several are an error.
    TheOne,
    /// All but the loopback.
    All,
    /// These.
    Named(Vec<String>),
}

/// The target that a name means.
pub(super) fn select<'a>(snapshot: &'a Snapshot, spec: &TargetSpec) -> Result<&'a Target, Refused> {
    let containers: Vec<Container> = snapshot.targets.iter().map(|target| target.container.clone()).collect();
    let container =
        snorkel_engines::select(spec, &containers).map_err(|error| crate::Error::Plan(error.to_string()))?;
    let found = snapshot.targets.iter().find(|target| {
        target.container.id == container.id && target.container.qualified_id() == container.qualified_id()
    });
    // It was selected out of these very targets.
    found.map_or_else(|| refuse(format!("no target '{spec}'")), Ok)
}

/// The links that are meant, each once, with a note for each target that is hit without having been named.
pub(super) fn points(
    snapshot: &Snapshot,
    selection: &Selection,
    notes: &mut Vec<String>,
) -> Result<Vec<Point>, Refused> {
    if selection.targets.is_empty() {
        return refuse("a target is needed");
    }
    let mut points: Vec<Point> = Vec::new();
    let mut named = Vec::new();
    for spec in &selection.targets {
        let target = select(snapshot, spec)?;
        named.push(target.name.clone());
        let namespace = namespace(snapshot, target)?;
        if namespace.host {
            check_host(target, selection)?;
        }
        for link in links(target, namespace, &selection.links)? {
            let point = point(snapshot, target, namespace, link);
            match points.iter_mut().find(|known| known.home == point.home && known.link == point.link) {
                Some(known) if !known.targets.contains(&target.name) => {
                    known.targets.push(target.name.clone())
                }
                Some(_) => {}
                None => points.push(point),
            }
        }
    }
    for point in &mut points {
        let others: Vec<String> = snapshot
            .targets_on(point.home)
            .map(|target| target.name.clone())
            .filter(|name| !point.targets.contains(name))
            .collect();
        let is_host = snapshot.namespace(point.home).is_some_and(|namespace| namespace.host);
        if !others.is_empty() && !is_host {
            let hit = format!(
                "{} shares its network with {}: hit too",
                point.targets.join(", "),
                others.join(", ")
            );
            if !notes.contains(&hit) {
                notes.push(hit);
            }
            point.targets.extend(others);
        }
        if is_plugged_into_another(snapshot, point) {
            notes.push(format!("the far end of {} is in {}", point.link, point.place.of));
        }
    }
    Ok(points)
}

/// Whether the far end is neither on the host nor in a bridge: then somebody else's network is disturbed as well.
fn is_plugged_into_another(snapshot: &Snapshot, point: &Point) -> bool {
    let place = &point.place;
    let far = snapshot.namespace(place.netns).and_then(|namespace| namespace.link(place.index));
    !place.inside && place.of != "host" && far.is_some_and(|link| link.master.is_none())
}

/// The namespace of a target, with its links.
pub(super) fn namespace<'a>(snapshot: &'a Snapshot, target: &Target) -> Result<&'a Namespace, Refused> {
    let name = &target.name;
    let Some(namespace) = target.netns.and_then(|id| snapshot.namespace(id)) else {
        return refuse(format!("{name} has no network: {}", target.container.status));
    };
    match &namespace.error {
        Some(error) => refuse(format!("the links of {name} are not known: {error}")),
        None => Ok(namespace),
    }
}

fn check_host(target: &Target, selection: &Selection) -> Result<(), Refused> {
    let name = &target.name;
    if !selection.host_is_meant {
        return refuse(format!(
            "{name} has no network of its own, it shares the host's: all of the host would be hit; \
             --i-mean-the-host says that this is meant"
        ));
    }
    match selection.links {
        Links::Named(_) => Ok(()),
        _ => refuse(format!("{name} shares the host's network: name the links that are meant, with --link")),
    }
}

fn links<'a>(target: &Target, namespace: &'a Namespace, wanted: &Links) -> Result<Vec<&'a Link>, Refused> {
    let others: Vec<&Link> = namespace.links.iter().filter(|link| !link.loopback).collect();
    let names = || others.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, others.as_slice()) {
        (Links::TheOne | Links::All, []) => refuse(format!("{} has no link but its loopback", target.name)),
        (Links::TheOne, [_, _, ..]) => refuse(format!(
            "{} has several links: {}; --link says which, --all means all of them",
            target.name,
            names()
        )),
        (Links::TheOne | Links::All, _) => Ok(others),
        (Links::Named(wanted), _) => wanted
            .iter()
            .map(|name| {
                let fits = |link: &&&Link| link.name == *name || link.alt_names.contains(name);
                match namespace.links.iter().find(|link| fits(&link)) {
                    Some(link) if link.loopback => refuse(format!(
                        "{} is the loopback of {}: it leads nowhere else",
                        link.name, target.name
                    )),
                    Some(link) => Ok(link),
                    None => refuse(format!("{} has no link '{name}'; it has {}", target.name, names())),
                }
            })
            .collect(),
    }
}

fn point(snapshot: &Snapshot, target: &Target, namespace: &Namespace, link: &Link) -> Point {
    let far = link.peer.as_ref().and_then(|peer| {
        let far = snapshot.namespace(peer.link.netns)?.link(peer.link.index)?;
        Some((&peer.link, far))
    });
    let place = match far {
        Some((at, far)) => Place {
            netns: at.netns,
            of: at.of.clone(),
            index: at.index,
            name: far.name.clone(),
            mac: far.mac.clone(),
            inside: false,
        },
        None => Place {
            netns: namespace.id,
            of: target.name.clone(),
            index: link.index,
            name: link.name.clone(),
            mac: link.mac.clone(),
            inside: true,
        },
    };
    Point { targets: vec![target.name.clone()], home: namespace.id, link: link.name.clone(), place }
}
