//! The form of netlink messages: headers, attributes, requests, verdicts. Pure functions over bytes.
//!
//! Numbers are in the byte order of the machine, everything is aligned to four bytes (netlink(7), netlink(3),
//! linux/netlink.h). Nothing here panics, whatever the bytes are.

pub(crate) mod attribute;
pub(crate) mod message;
pub(crate) mod request;
pub(crate) mod verdict;

use std::net::IpAddr;

pub(crate) use attribute::{Attribute, attributes};
pub(crate) use message::{Message, messages};
pub(crate) use request::{Request, datagram};
pub(crate) use verdict::Verdict;

use crate::Family;

/// Bytes that are not what they should be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Everything in a netlink message begins at a multiple of this.
pub(crate) const ALIGNMENT: usize = 4;

/// Splits off the first `N` bytes.
pub(crate) fn take<'a, const N: usize>(
    bytes: &'a [u8],
    why: &'static str,
) -> Result<([u8; N], &'a [u8]), Malformed> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest)).ok_or(Malformed(why))
}

/// An address of this family, of exactly as many bytes.
pub(crate) fn ip(family: Family, bytes: &[u8]) -> Result<IpAddr, Malformed> {
    const WRONG: Malformed = Malformed("an address has the wrong length");
    match family {
        Family::Inet => <[u8; 4]>::try_from(bytes).map(IpAddr::from).map_err(|_| WRONG),
        Family::Inet6 => <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| WRONG),
    }
}
