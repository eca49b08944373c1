//! Filters at a link: gates on kernels without tcx (before 6.6), which do nothing any more once their process is dead, and stay.
//!
//! So a guardian is told of them, and they are written down, before they are put there; and they bear the fault's name, by which
//! whoever finds the entry takes them away. The qdisc that has them goes with the last one, so the journal is locked where they
//! come and go.

use snorkel_bpf::gate::{self, AttachPoint, Method};
use snorkel_netns::{Netns, NetnsId, chain};

use crate::Result;
use crate::guardian::Guardian;
use crate::journal::{About, Entry, Journal, Locked};
use crate::plan::{Action, Place, Plan};

/// The environment's word for gates as filters, as on kernels before 6.6.
const OLD_WAY: &str = "SNORKEL_FAULT_CLSACT";

/// What is written down of a gate's filters.
#[derive(Debug)]
pub(crate) struct Filters {
    entry: Entry,
    journal: Journal,
}

impl Filters {
    /// Tells of filters that are about to stand at a link; `None` if the kernel has a better way there.
    pub(crate) fn announce(
        place: &Place,
        netns: &Netns,
        about: About,
        journal: &Journal,
        guardian: Option<&Guardian>,
    ) -> Result<Option<Filters>> {
        if method(place, netns)? == Method::Tcx {
            return Ok(None);
        }
        let locked = journal.make()?;
        let entry = Entry::of_filters(about, gate::brings_qdisc(netns, place.index)?)?;
        if let Some(guardian) = guardian
            && let Err(error) = guardian.guard(&entry, netns)
        {
            // The next command sweeps, then; and everything passes without that.
            tracing::debug!("{}", chain(&error));
        }
        let filters = Filters { entry, journal: journal.clone() };
        if let Err(error) = locked.write(&filters.entry) {
            // What went wrong first is what is told.
            let _ = filters.forget(&locked, guardian);
            return Err(error);
        }
        Ok(Some(filters))
    }

    /// The name that they bear.
    pub(crate) fn owner(&self) -> &str {
        self.entry.fault.as_str()
    }

    /// Keeps all others from putting filters anywhere, and from taking any away.
    pub(crate) fn lock(&self) -> Result<Locked> {
        self.journal.make()
    }

    /// Forgets them, which stand there no more.
    pub(crate) fn forget(&self, locked: &Locked, guardian: Option<&Guardian>) -> Result<()> {
        locked.remove(&self.entry)?;
        if let Some(guardian) = guardian {
            guardian.release(&self.entry);
        }
        Ok(())
    }
}

/// Whether gates of these plans would be filters, so that a guardian is to sweep them should their process be killed.
pub fn needed(plans: &[Plan], open: &dyn Fn(NetnsId) -> Result<Netns>) -> bool {
    let gates =
        plans.iter().flat_map(|plan| &plan.steps).filter(|step| matches!(step.action, Action::Gate { .. }));
    // One link is as good as another: it is the kernel that can do better or not.
    let way = |place: &Place| method(place, &open(place.netns)?);
    gates.map(|step| &step.point.place).find_map(|place| way(place).ok()) == Some(Method::Clsact)
}

/// Where the gate of a place stands.
pub(crate) fn attach_point<'a>(place: &Place, netns: &'a Netns, owner: &'a str) -> AttachPoint<'a> {
    AttachPoint { netns, link: place.index, inside: place.inside, owner }
}

/// How gates are attached there: as the kernel allows, or the old way if a test asks for it.
fn method(place: &Place, netns: &Netns) -> Result<Method> {
    let old_way = std::env::var_os(OLD_WAY).is_some();
    if old_way { Ok(Method::Clsact) } else { Ok(attach_point(place, netns, "").method()?) }
}
