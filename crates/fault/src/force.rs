//! A plan in force: carried out, looked at, and taken back.

use snorkel_netns::{Netns, NetnsId, chain};

use crate::carrier::{Carrier, Released};
use crate::control::{Healed, LinkStatus};
use crate::filters::Filters;
use crate::guardian::Guardian;
use crate::journal::{About, Entry, Journal, Locked};
use crate::part::Judged;
use crate::plan::{Action, Flap, Plan, Point, Step};
use crate::{Error, FaultId, Result};

/// What it takes to carry out a plan.
pub struct Means<'a> {
    /// The fault's name.
    pub id: &'a FaultId,
    /// Where it is written down.
    pub journal: &'a Journal,
    /// Who takes back what the kernel does not, should this process die: links that are down, for which it is needed, and
    /// filters ([`crate::filters::needed`]).
    pub guardian: Option<&'a Guardian>,
    /// Opens a namespace of the snapshot, and proves that it is the one.
    pub open: &'a dyn Fn(NetnsId) -> Result<Netns>,
}

/// A plan that is carried out.
///
/// Gates and wires go with it, or with its process. Links that are down, and what is left of gates where they are filters, are
/// taken care of by [`Force::heal`], or by the guardian.
#[derive(Debug)]
pub struct Force {
    parts: Vec<(Point, Part)>,
    /// What is done at each link, in words.
    does: Vec<(Point, Vec<String>)>,
    /// Where the far ends of all wires are; nothing else holds it.
    private: Option<Netns>,
    flap: Option<Flap>,
    on: bool,
}

#[derive(Debug)]
enum Part {
    Carrier(Box<Carrier>),
    /// With what is written down of its filters, if it is filters.
    Judged(Box<Judged>, Option<Box<Filters>>),
}

impl Force {
    /// Carries out the plan and sees that it is in force. If anything fails, everything is taken back.
    pub fn apply(plan: &Plan, means: &Means<'_>) -> Result<Force> {
        let mut force = Force { parts: Vec::new(), does: plan.does(), private: None, flap: None, on: true };
        match force.take_all(plan, means).and_then(|()| force.verify()) {
            Ok(()) => Ok(force),
            Err(error) => {
                // What went wrong first is what is told.
                let _ = force.heal(means);
                Err(error)
            }
        }
    }

    fn take_all(&mut self, plan: &Plan, means: &Means<'_>) -> Result<()> {
        for (number, step) in plan.steps.iter().enumerate() {
            let part = self.take(number, step, means)?;
            self.parts.push((step.point.clone(), part));
        }
        Ok(())
    }

    fn take(&mut self, number: usize, step: &Step, means: &Means<'_>) -> Result<Part> {
        let place = &step.point.place;
        match &step.action {
            Action::Carrier { flap } => {
                self.flap = *flap;
                let guardian = means.guardian.ok_or_else(|| {
                    Error::Plan("a link is set down only under a guardian's eyes".to_owned())
                })?;
                let about = about(number, &step.point, means);
                let netns = (means.open)(place.netns)?;
                Ok(Part::Carrier(Box::new(Carrier::cut(means.journal, guardian, about, &netns)?)))
            }
            Action::Gate { rules, wires, flap } => {
                self.flap = *flap;
                let netns = (means.open)(place.netns)?;
                let private = match &mut self.private {
                    Some(private) => private,
                    none => none.insert(Netns::private()?),
                };
                let about = about(number, &step.point, means);
                let here = netns.try_clone()?;
                let mut filters = Filters::announce(place, &netns, about, means.journal, means.guardian)?;
                match Judged::begin(place, netns, private, rules, wires, filters.as_mut()) {
                    Ok(judged) => Ok(Part::Judged(Box::new(judged), filters.map(Box::new))),
                    Err(error) => {
                        self.disarm();
                        if let Some(filters) = filters {
                            forget(&filters, &here, means);
                        }
                        Err(error)
                    }
                }
            }
        }
    }

    /// Whether everything is as it should be; the first thing that is not.
    fn verify(&mut self) -> Result<()> {
        self.parts.iter_mut().try_for_each(|(_, part)| part.verify())
    }

    /// How it comes and goes, if it does.
    pub fn flap(&self) -> Option<Flap> {
        self.flap
    }

    /// Whether it is in force at the moment.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Lets it rest, or puts it in force again. All links are tried; the first error is told.
    pub fn turn(&mut self, on: bool, journal: &Journal) -> Result<()> {
        self.on = on;
        let mut first = Ok(());
        if !on {
            // Packets pass before anything is waited for.
            self.disarm();
        }
        for (_, part) in &mut self.parts {
            if let Part::Carrier(carrier) = part {
                first = first.and(carrier.want(on));
            }
        }
        let filters = self.parts.iter().any(|(_, part)| matches!(part, Part::Judged(_, Some(_))));
        let locked = (filters && !on).then(|| journal.make()).transpose();
        for (_, part) in &mut self.parts {
            if let (Part::Judged(judged, filters), Some(private)) = (part, &self.private) {
                let filters = filters.as_deref_mut();
                first = first.and(if on {
                    judged.go_on(private, filters)
                } else {
                    judged.rest(filters, locked.as_ref().ok().and_then(Option::as_ref))
                });
            }
        }
        first.and(locked.map(drop))
    }

    /// Lets all packets pass, as far as it decides on packets; the first step of its end.
    pub fn disarm(&self) {
        for (_, part) in &self.parts {
            if let Err(error) = part.disarm() {
                tracing::debug!("{}", chain(&error));
            }
        }
    }

    /// Forgets the links that are gone, and says which: their targets have ended or were started again.
    pub fn forget_gone(&mut self, means: &Means<'_>) -> Vec<Point> {
        let mut gone = Vec::new();
        for (point, mut part) in std::mem::take(&mut self.parts) {
            let parts = if part.is_there() { &mut self.parts } else { &mut gone };
            parts.push((point, part));
        }
        // Nothing is left to be taken back but the entries in the journal.
        heal(gone, means, &mut Remains::default()).into_iter().map(|(point, _)| point).collect()
    }

    /// Whether there is nothing left that it could be in force at.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The namespaces in which something would be told if a link went.
    pub fn places(&self) -> Vec<NetnsId> {
        let mut places: Vec<NetnsId> = self.parts.iter().map(|(point, _)| point.place.netns).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// How it stands, link by link.
    pub fn status(&mut self) -> Vec<LinkStatus> {
        let (on, does) = (self.on, &self.does);
        self.parts
            .iter_mut()
            .map(|(point, part)| {
                let verified = part.verify();
                let (how, counted) = match part {
                    Part::Carrier(_) => ("carrier", Ok((Vec::new(), Vec::new()))),
                    Part::Judged(judged, _) => ("packets", judged.statuses()),
                };
                let trouble = verified.err().or(counted.as_ref().err().map(|e| Error::NotInForce(chain(e))));
                let (rules, wires) = counted.unwrap_or_default();
                LinkStatus {
                    targets: point.targets.clone(),
                    link: point.link.clone(),
                    at: point.place.name.clone(),
                    of: point.place.of.clone(),
                    how: how.to_owned(),
                    does: does
                        .iter()
                        .find(|(at, _)| at == point)
                        .map(|(_, words)| words.clone())
                        .unwrap_or_default(),
                    trouble: trouble.filter(|_| on).map(|error| chain(&error)),
                    rules,
                    wires,
                }
            })
            .collect()
    }

    /// Takes everything back. All is tried. When this returns packets flow as before; what the kernel needs longer to take
    /// away, and changes nothing any more, goes with the second value.
    pub fn heal(mut self, means: &Means<'_>) -> (Healed, Remains) {
        let mut healed = Healed { id: means.id.clone(), did: Vec::new(), troubles: Vec::new() };
        let mut remains = Remains { judged: Vec::new(), private: self.private.take() };
        for (point, done) in heal(std::mem::take(&mut self.parts), means, &mut remains) {
            match done {
                Ok(did) => healed.did.push(format!("{point}: {did}")),
                Err(trouble) => healed.troubles.push(format!("{point}: {trouble}")),
            }
        }
        (healed, remains)
    }
}

/// Takes all of them back, the last first; what was done to each, or why it was not, in words.
fn heal(
    mut parts: Vec<(Point, Part)>,
    means: &Means<'_>,
    remains: &mut Remains,
) -> Vec<(Point, Result<String, String>)> {
    // Packets pass before anything is waited for.
    let disarmed: Vec<Result<()>> = parts.iter().map(|(_, part)| part.disarm()).collect();
    let written = parts.iter().any(|(_, part)| part.entry().is_some());
    let locked = written.then(|| means.journal.make()).transpose();
    let each = parts.iter_mut().zip(disarmed).rev();
    let mut done: Vec<_> = each.map(|((_, part), disarmed)| part.heal(disarmed, &locked)).collect();
    done.reverse();
    // The guardian is told when nobody waits for the lock any more; and not of what it will have to do.
    if locked.map(drop).is_ok()
        && let Some(guardian) = means.guardian
    {
        let ended = parts.iter().zip(&done).filter(|(_, done)| done.is_ok());
        ended.filter_map(|((_, part), _)| part.entry()).for_each(|entry| guardian.release(entry));
    }
    let (points, parts): (Vec<Point>, Vec<Part>) = parts.into_iter().unzip();
    remains.judged.extend(parts.into_iter().rev().filter_map(Part::remains));
    points.into_iter().zip(done).collect()
}

/// Has the journal and the guardian forget filters of which nothing has come. What went wrong before is what is told.
fn forget(filters: &Filters, netns: &Netns, means: &Means<'_>) {
    let forgotten = means.journal.make().and_then(|locked| filters.end(netns, &locked));
    if forgotten.is_ok()
        && let Some(guardian) = means.guardian
    {
        guardian.release(&filters.entry);
    }
}

/// What is left of a fault that has ended: programs that let everything pass, and wires that nothing enters. To take a
/// program off takes the kernel a grace period of RCU, some 15 ms. It goes with the value, and with the process.
#[derive(Debug, Default)]
pub struct Remains {
    judged: Vec<Judged>,
    #[expect(dead_code, reason = "its end is what matters")]
    private: Option<Netns>,
}

impl Part {
    /// Whether it is as it should be.
    fn verify(&mut self) -> Result<()> {
        match self {
            Part::Carrier(carrier) => carrier.verify(),
            Part::Judged(judged, _) => judged.verify(),
        }
    }

    /// Whether its link is still there.
    fn is_there(&mut self) -> bool {
        match self {
            Part::Carrier(carrier) => carrier.is_there(),
            Part::Judged(judged, _) => judged.is_there(),
        }
    }

    /// What is written down of it, if the kernel does not take it back with the process.
    fn entry(&self) -> Option<&Entry> {
        match self {
            Part::Carrier(carrier) => Some(carrier.entry()),
            Part::Judged(_, filters) => filters.as_ref().map(|filters| &filters.entry),
        }
    }

    /// Lets all packets pass, if it decides on packets.
    fn disarm(&self) -> Result<()> {
        match self {
            Part::Carrier(_) => Ok(()),
            Part::Judged(judged, _) => judged.disarm(),
        }
    }

    /// Takes it back once it is disarmed; what was done, in words, or why it was not.
    fn heal(&mut self, disarmed: Result<()>, locked: &Result<Option<Locked>>) -> Result<String, String> {
        match self {
            Part::Carrier(carrier) => match locked {
                Ok(Some(locked)) => {
                    let became = carrier.heal(locked).map_err(|e| chain(&e))?;
                    Ok(released(&carrier.link_name(), became))
                }
                Ok(None) => Err("the journal is not locked".to_owned()),
                Err(error) => Err(chain(error)),
            },
            Part::Judged(judged, filters) => {
                if disarmed.is_err() {
                    // Then whatever time it takes the kernel.
                    judged.detach();
                }
                if let Some(filters) = filters {
                    let locked = locked.as_ref().ok().and_then(Option::as_ref);
                    judged.end(filters, locked).map_err(|e| chain(&e))?;
                }
                Ok("packets pass again".to_owned())
            }
        }
    }

    /// What takes the kernel longer to take away.
    fn remains(self) -> Option<Judged> {
        match self {
            Part::Carrier(_) => None,
            Part::Judged(judged, _) => Some(*judged),
        }
    }
}

fn about(number: usize, point: &Point, means: &Means<'_>) -> About {
    let place = &point.place;
    About {
        fault: means.id.clone(),
        number,
        guardian: means.guardian.map(Guardian::who),
        netns: place.netns,
        index: place.index,
        link: place.name.clone(),
        mac: place.mac.clone(),
        target: point.to_string(),
    }
}

/// What became of a link, in words.
pub fn released(link: &str, released: Released) -> String {
    match released {
        Released::Up => format!("{link} is up again"),
        Released::WasUp => format!("{link} had been set up by somebody else"),
        Released::LeftDown => format!("{link} was down before, and is left down"),
        Released::HeldDown => format!("{link} stays down: another fault wants it so"),
        Released::Gone => format!("{link} is gone"),
        Released::Swept(0) => format!("{link} had no filters yet"),
        Released::Swept(1) => format!("{link} is rid of a dead filter"),
        Released::Swept(filters) => format!("{link} is rid of {filters} dead filters"),
    }
}
