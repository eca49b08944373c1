//! What the messages mean: one parser for each kind of object. Pure functions over the payload of a message.
//!
//! A parser gives `None` for an object of a family that is not meant, and refuses what it cannot read: half an object
//! is worse than an error. Nothing here panics, whatever the bytes are.

mod address;
mod event;
mod link;
mod neighbour;
mod netem;
mod nsid;
mod route;
mod sockdiag;
mod tc;

pub(crate) use address::{IFA_TARGET_NETNSID, address};
pub(crate) use event::{SOL_NETLINK, control, event};
pub(crate) use link::{IFLA_MACVLAN_MODE, link};
pub(crate) use neighbour::neighbour;
pub(crate) use netem::netem;
pub(crate) use nsid::{NETNSA_FD, NETNSA_NSID, NOT_ASSIGNED, nsid};
pub(crate) use route::route;
pub(crate) use sockdiag::v6_only;
pub(crate) use tc::{filter, qdisc};

use crate::wire::{Attribute, Malformed};
use crate::{IfIndex, Mac, NsId};

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It cannot be read.
    Malformed(&'static str),
    /// It is not of the namespace that was asked about: the kernel does not know the attribute that names one.
    WrongNamespace,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        Refusal::Malformed(malformed.0)
    }
}

/// The index of a link, which is never 0.
fn index(raw: u32) -> Result<IfIndex, Malformed> {
    IfIndex::new(raw).ok_or(Malformed("the index of a link is out of range"))
}

/// A hardware address; none for a link whose kind has none, such as tun.
fn mac(attribute: &Attribute<'_>) -> Result<Option<Mac>, Malformed> {
    if attribute.payload.is_empty() {
        return Ok(None);
    }
    Mac::new(attribute.payload).map(Some).ok_or(Malformed("a hardware address is too long"))
}

/// Whether an object is of the namespace that was asked about.
///
/// The kernel repeats the id in each answer (`IFLA_TARGET_NETNSID`, `IFA_TARGET_NETNSID`). One that is too old to know
/// the attribute ignores it, and answers for the asking socket's own namespace.
fn check_namespace(asked: Option<NsId>, answered: Option<i32>) -> Result<(), Refusal> {
    match asked {
        Some(id) if answered != Some(id.get()) => Err(Refusal::WrongNamespace),
        _ => Ok(()),
    }
}
