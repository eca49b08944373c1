//! What a capture begins with: the world as it is, and the rings that were opened in it.

use std::os::fd::{AsFd, OwnedFd};

use snorkel_capture::ring::Ring;
use snorkel_netns::{NetnsId, Process};
use snorkel_topology::{Snapshot, Survey, Surveyor};

use super::Capture;
use super::filter::Filters;
use super::follow::{Follower, Message};
use super::names::Whose;
use super::opening::{Opener, Settings, share};
use super::spots::{Spot, spots};
use crate::commands::{unlisted, warn_all, warn_snapshot};
use crate::failure::Failure;

/// The world, and whose its addresses are.
pub(super) struct World {
    pub(super) snapshot: Snapshot,
    pub(super) whose: Whose,
}

impl World {
    pub(super) fn new(snapshot: Snapshot) -> World {
        World { whose: Whose::new(&snapshot), snapshot }
    }
}

/// A process by which a captured network is inhabited.
pub(super) struct Member {
    /// Its pidfd.
    pub(super) process: OwnedFd,
    /// What it is called.
    pub(super) target: String,
    /// The network.
    pub(super) home: NetnsId,
}

/// What was opened at first.
pub(super) struct Begun {
    pub(super) world: World,
    pub(super) rings: Vec<(Ring, Spot)>,
    pub(super) members: Vec<Member>,
    pub(super) follower: Option<Follower>,
}

/// Opens everything here and now.
pub(super) fn once(survey: Survey, capture: &Capture, settings: Settings) -> Result<Begun, Failure> {
    let query = survey.query.clone();
    let mut snapshot = Surveyor::new(survey).take()?;
    warn_snapshot(&snapshot);
    let wanted = capture.wanted();
    unlisted::join(&mut snapshot, &query, wanted.named());
    let wanted = spots(&snapshot, &wanted)?;
    if wanted.is_empty() {
        return Err(Failure::new("no running target fits").hint("snorkel ls, or --follow to wait for one"));
    }
    let filters = Filters::new(&capture.filter, settings.snaplen, &snapshot)?;
    let total = usize::try_from(settings.bytes).unwrap_or(usize::MAX);
    let bytes = share(total, wanted.len())?;
    let mut opener = Opener::new(&query, &snapshot, &filters, settings.snaplen, bytes);
    let rings = wanted.into_iter().map(|spot| opener.open(spot)).collect::<Result<Vec<_>, _>>()?;
    let members = members(&snapshot, &rings)?;
    Ok(Begun { rings, members, world: World::new(snapshot), follower: None })
}

/// The processes by whose end a network is deserted: those of all targets on it.
fn members(snapshot: &Snapshot, rings: &[(Ring, Spot)]) -> Result<Vec<Member>, Failure> {
    let mut members = Vec::new();
    for target in &snapshot.targets {
        let (Some(home), Some(pid)) = (target.netns, target.container.pid) else { continue };
        let mut of_home = rings.iter().filter(|(_, spot)| spot.home == home);
        // Everything on the host shares its network; there only those that were named matter.
        if of_home.clone().next().is_none()
            || (target.host && !of_home.any(|(_, spot)| spot.target == target.name))
        {
            continue;
        }
        // One that has ended by now is no member any more.
        let Ok(process) = Process::open(pid) else { continue };
        members.push(Member {
            process: process.as_fd().try_clone_to_owned()?,
            target: target.name.clone(),
            home,
        });
    }
    Ok(members)
}

/// Has everything opened by another process, now and later.
pub(super) fn following() -> Result<Begun, Failure> {
    let mut follower = Follower::start()?;
    let (mut rings, mut members, mut world) = (Vec::new(), Vec::new(), None);
    loop {
        match follower.next()? {
            Some((Message::Snapshot(snapshot), _)) => {
                warn_snapshot(&snapshot);
                world = Some(World::new(*snapshot));
            }
            Some((Message::Ring { spot, handed }, Some(socket))) => {
                rings.push((Ring::adopt(socket, handed)?, *spot))
            }
            Some((Message::Member { target, home }, Some(process))) => {
                members.push(Member { process, target, home })
            }
            Some((Message::Warning(warning), _)) => warn_all([&warning]),
            Some((Message::Failed { message, hint }, _)) => {
                let failure = Failure::new(message);
                return Err(match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                });
            }
            Some((Message::Ready, _)) => break,
            Some((Message::Ring { .. } | Message::Member { .. }, None)) => {}
            None => return Err(Failure::new("the process that opens links has ended")),
        }
    }
    let world = world.unwrap_or_else(|| World::new(Snapshot::default()));
    Ok(Begun { world, rings, members, follower: Some(follower) })
}
