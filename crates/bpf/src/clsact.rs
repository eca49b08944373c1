//! Programs attached the old way, for kernels before 6.6: as filters (cls_bpf, direct action) at the place that a clsact
//! qdisc makes (tc-bpf(8)).
//!
//! No descriptor holds such a filter: dropping the value removes it, but a killed process leaves it behind. So programs
//! that are attached like this must do nothing by themselves once nobody is there (c/fault.c, `jump`), and their names say
//! whose they are: `snorkel:PROGRAM:OWNER`, with `:qdisc` behind it where the qdisc was made for them too. Qdiscs and filters
//! of others are never changed or removed.

use std::os::fd::BorrowedFd;

use snorkel_netns::Netns;
use snorkel_rtnl::{Filter, FilterId, FilterSide, IfIndex, Qdisc, Socket};

use crate::link::{Hook, Side};
use crate::sys;
use crate::{Error, Result};

/// The priority of a filter where there is no other. Newer filters run earlier and have smaller ones.
const FIRST_PRIORITY: u16 = 20_000;
/// How often a priority is chosen again that somebody else was faster to take.
const TRIES: usize = 64;
/// The first word of a filter's name, and the last one.
const SNORKEL: &str = "snorkel";
const QDISC: &str = "qdisc";

/// The filters of one link.
#[derive(Debug)]
pub(crate) struct Clsact {
    netns: Netns,
    link: IfIndex,
    owner: String,
    /// Whether the qdisc was made for filters of this kind.
    own_qdisc: bool,
    filters: Vec<Attached>,
}

#[derive(Debug)]
struct Attached {
    id: FilterId,
    program: u32,
    name: &'static str,
}

impl Clsact {
    /// Makes the place for filters at a link, or takes the one that is there.
    pub(crate) fn at(netns: &Netns, link: IfIndex, owner: &str) -> Result<Clsact> {
        let mut socket = Socket::open_in(netns)?;
        let there = socket.qdiscs(Some(link))?.into_iter().find(|qdisc| qdisc.holds_filters());
        let own_qdisc = match there.as_ref().map(|qdisc| qdisc.kind.as_str()) {
            Some("clsact") => is_own_qdisc(&mut socket, link)?,
            Some(kind) => {
                return Err(Error::Invalid {
                    what: format!("attach programs to link {link}"),
                    why: format!("a qdisc of the kind {kind} is there, which leaves no place at the egress"),
                });
            }
            None => match socket.add_qdisc(link, Qdisc::Clsact) {
                Ok(()) => true,
                // Somebody was faster: it is theirs.
                Err(e) if e.already_exists() => false,
                Err(e) if e.is_missing() => {
                    return Err(Error::NoHook { what: format!("attach programs to link {link}"), source: e });
                }
                Err(e) => return Err(e.into()),
            },
        };
        Ok(Clsact {
            netns: netns.try_clone()?,
            link,
            owner: owner.to_owned(),
            own_qdisc,
            filters: Vec::new(),
        })
    }

    /// Adds a program before all others of a side, and gives the filter's rank there: newer is larger. `ready` is told the
    /// rank before the program runs.
    pub(crate) fn add_first(
        &mut self,
        name: &'static str,
        program: BorrowedFd<'_>,
        side: Side,
        ready: impl Fn(u32) -> Result<()>,
    ) -> Result<()> {
        let hook = Hook { link: self.link, side };
        let program_id =
            sys::program_id(program).map_err(|e| Error::os(format!("attach {name} to {hook}"), e))?;
        let mut socket = Socket::open_in(&self.netns)?;
        for _ in 0..TRIES {
            let there = socket.filters(self.link, filter_side(side))?;
            let id = place_before(&there, filter_side(side)).ok_or_else(|| Error::Invalid {
                what: format!("attach {name} to {hook}"),
                why: "a filter of priority 1 is there, and nothing can stand before it".into(),
            })?;
            ready(u32::from(u16::MAX - id.priority))?;
            let mut label = [SNORKEL, name, &self.owner].join(":");
            if self.own_qdisc {
                label = [&label, QDISC].join(":");
            }
            match socket.add_bpf_filter(self.link, id, program, &label) {
                Ok(()) => {
                    self.filters.push(Attached { id, program: program_id, name });
                    return Ok(());
                }
                Err(e) if e.already_exists() => (),
                // Without the classifier the kernel says that there is no such kind.
                Err(e) if e.is_missing() => {
                    return Err(Error::NoHook { what: format!("attach {name} to {hook}"), source: e });
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::Unsettled { what: format!("attach {name} to {hook}"), tries: TRIES })
    }

    /// Checks that every filter is where it was put, with its program.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut socket = Socket::open_in(&self.netns)?;
        let there = filters(&mut socket, self.link)?;
        for own in &self.filters {
            let found = there.iter().find(|filter| filter.id == own.id);
            if found.and_then(|filter| filter.program) != Some(own.program) {
                return Err(Error::NotInForce {
                    what: format!("{} at the {:?} of link {}", own.name, own.id.side, self.link)
                        .to_lowercase(),
                    why: match found {
                        Some(_) => "its filter has another program".into(),
                        None => "its filter is not there".into(),
                    },
                });
            }
        }
        Ok(())
    }

    /// Removes the filters, and the qdisc if it was made for them and is empty.
    fn remove(&mut self) -> Result<()> {
        let mut socket = Socket::open_in(&self.netns)?;
        let there = filters(&mut socket, self.link)?;
        for own in self.filters.drain(..) {
            // By now it may be somebody else's, of the same number.
            if there.iter().any(|filter| filter.id == own.id && filter.program == Some(own.program)) {
                match socket.remove_bpf_filter(self.link, own.id) {
                    Err(e) if !e.is_missing() => return Err(e.into()),
                    _ => (),
                }
            }
        }
        remove_qdisc_if_empty(&mut socket, self.link, self.own_qdisc)
    }
}

/// Whether a clsact qdisc would come with the first filter at a link, and go with the last: there is none yet, or it was made
/// for filters of this kind.
pub fn brings_qdisc(netns: &Netns, link: IfIndex) -> Result<bool> {
    let mut socket = Socket::open_in(netns)?;
    let there = socket.qdiscs(Some(link))?.iter().any(|qdisc| qdisc.holds_filters());
    Ok(!there || is_own_qdisc(&mut socket, link)?)
}

/// Removes from a link the filters by which gates of an owner stood there ([`Method::Clsact`](super::gate::Method::Clsact)),
/// once their process is dead; how many there were. The qdisc goes with the last filter, if `own_qdisc`, what
/// [`brings_qdisc`] said before, or a filter says that it was made for them.
pub fn sweep(netns: &Netns, link: IfIndex, owner: &str, own_qdisc: bool) -> Result<usize> {
    let mut socket = Socket::open_in(netns)?;
    let (mut removed, mut own_qdisc) = (0, own_qdisc);
    for filter in filters(&mut socket, link)? {
        let Some(mark) = Mark::of(&filter).filter(|mark| mark.owner == owner) else { continue };
        own_qdisc |= mark.with_qdisc;
        match socket.remove_bpf_filter(link, filter.id) {
            Ok(()) => removed += 1,
            // It is gone by now: with its link, with its qdisc, or alone.
            Err(e) if e.is_missing() || e.is_invalid() => (),
            Err(e) => return Err(e.into()),
        }
    }
    remove_qdisc_if_empty(&mut socket, link, own_qdisc)?;
    Ok(removed)
}

impl Drop for Clsact {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let error = snorkel_netns::chain(&error);
            tracing::warn!(link = %self.link, error, "filters could not be removed; they lead to nothing");
        }
    }
}

fn filters(socket: &mut Socket, link: IfIndex) -> Result<Vec<Filter>> {
    let mut all = Vec::new();
    for side in FilterSide::ALL {
        all.extend(socket.filters(link, side)?);
    }
    Ok(all)
}

/// Removes a clsact qdisc that is `own` and has no filter. One that somebody adds a filter to at this very moment goes
/// with that filter: the kernel has no way to ask for "only if it is empty".
fn remove_qdisc_if_empty(socket: &mut Socket, link: IfIndex, own: bool) -> Result<()> {
    if !own || !filters(socket, link)?.is_empty() {
        return Ok(());
    }
    match socket.remove_clsact(link) {
        // The link is gone, or somebody else removed it.
        Err(e) if !e.is_missing() && !e.is_invalid() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Whether the clsact qdisc of a link was made for filters of this kind, by what they say.
fn is_own_qdisc(socket: &mut Socket, link: IfIndex) -> Result<bool> {
    Ok(filters(socket, link)?.iter().filter_map(Mark::of).any(|mark| mark.with_qdisc))
}

/// What a filter's name says, if it is one of snorkel's.
struct Mark<'a> {
    owner: &'a str,
    with_qdisc: bool,
}

impl<'a> Mark<'a> {
    fn of(filter: &'a Filter) -> Option<Mark<'a>> {
        let mut words = filter.name.as_deref()?.split(':');
        if words.next() != Some(SNORKEL) {
            return None;
        }
        let (_program, owner) = (words.next()?, words.next()?);
        Some(Mark { owner, with_qdisc: words.next() == Some(QDISC) })
    }
}

/// A place before all filters of a side; `None` if there is none.
fn place_before(there: &[Filter], side: FilterSide) -> Option<FilterId> {
    let Some(first) = there.iter().map(|filter| filter.id.priority).min() else {
        return Some(FilterId { side, priority: FIRST_PRIORITY, handle: 1 });
    };
    if first > 1 {
        return Some(FilterId { side, priority: first - 1, handle: 1 });
    }
    // Among programs of one priority the newest runs first (net/sched/cls_bpf.c, cls_bpf_change). A second of ours would
    // have the rank of the first.
    let same: Vec<&Filter> = there.iter().filter(|filter| filter.id.priority == first).collect();
    let programs = same.iter().all(|filter| filter.kind == "bpf" && filter.protocol == 3);
    let handle = (1..).find(|handle| same.iter().all(|filter| filter.id.handle != *handle))?;
    (programs && same.iter().all(|filter| Mark::of(filter).is_none())).then_some(FilterId {
        side,
        priority: first,
        handle,
    })
}

fn filter_side(side: Side) -> FilterSide {
    match side {
        Side::Ingress => FilterSide::Ingress,
        Side::Egress => FilterSide::Egress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(priority: u16, handle: u32, kind: &str, name: Option<&str>) -> Filter {
        let id = FilterId { side: FilterSide::Ingress, priority, handle };
        Filter { id, kind: kind.into(), protocol: 3, program: None, name: name.map(Into::into) }
    }

    fn chosen(there: &[Filter]) -> Option<(u16, u32)> {
        place_before(there, FilterSide::Ingress).map(|id| (id.priority, id.handle))
    }

    #[test]
    fn a_new_filter_stands_before_all_others() {
        assert_eq!(chosen(&[]), Some((FIRST_PRIORITY, 1)));
        assert_eq!(chosen(&[filter(49152, 1, "u32", None), filter(7, 9, "bpf", None)]), Some((6, 1)));
    }

    #[test]
    fn before_the_first_priority_only_a_program_among_programs_can_stand_and_once() {
        assert_eq!(chosen(&[filter(1, 1, "bpf", Some("cil_from_container"))]), Some((1, 2)));
        assert_eq!(chosen(&[filter(1, 1, "flower", None)]), None);
        assert_eq!(
            chosen(&[filter(1, 1, "bpf", None), filter(1, 2, "bpf", Some("snorkel:gate_out:f3k"))]),
            None
        );
    }
}
