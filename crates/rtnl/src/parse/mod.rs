//! What the messages mean: one parser for each kind of object. Pure functions over the payload of a message.
//!
//! A parser gives `None` for an object of a family that is not meant, and refuses what it cannot read: half an object
//! is worse than an error. Nothing here panics, whatever the bytes are.

mod address;
mod event;
mod link;
mod neighbour;
mod nsid;
mod route;

pub(crate) use address::{IFA_TARGET_NETNSID, address};
pub(crate) use event::{SOL_NETLINK, control, event};
pub(crate) use link::{IFLA_MACVLAN_MODE, link};
pub(crate) use neighbour::neighbour;
pub(crate) use nsid::{NETNSA_FD, NETNSA_NSID, NOT_ASSIGNED, nsid};
pub(crate) use route::route;

use crate::exchange::{Dump, answer};
use crate::wire::{Attribute, Malformed, Verdict, messages};
use crate::{Family, IfIndex, Mac, NsId};

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

/// Feeds bytes to every parser, as a datagram, as a message's payload, and as control messages.
pub(crate) fn everything(bytes: &[u8]) {
    let _ = control(bytes);
    everything_of(bytes);
    // A few suffice: what follows takes in the whole datagram for each.
    for message in messages(bytes).flatten().take(8) {
        let _ = event(&message, None);
        let _ = (Verdict::of_error(&message), Verdict::of_done(&message));
        everything_of(message.payload);
        let mut dump = Dump::new(message.sequence, message.kind, |payload| link(payload, None));
        let _ = dump.feed(bytes);
        let _ = answer(bytes, message.sequence, Some(message.kind));
    }
    let _ = crate::name::unescape(&crate::name::escape(bytes));
}

fn everything_of(payload: &[u8]) {
    for asked in [None, Some(NsId::new(0))] {
        let _ = link(payload, asked);
        let _ = address(payload, asked);
    }
    let _ = route(payload, Family::Inet);
    let _ = route(payload, Family::Inet6);
    let _ = neighbour(payload);
    let _ = nsid(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            everything(&bytes);
        }
    }
}
