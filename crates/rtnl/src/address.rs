//! An address of a link, as RTM_GETADDR tells of it (rtnetlink(7), linux/if_addr.h).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Family, IfIndex, Scope};

/// An address that a link has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The link.
    pub index: IfIndex,
    /// IPv4 or IPv6.
    pub family: Family,
    /// The link's own address.
    pub address: IpAddr,
    /// The address of the other side of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// How many bits of the address are those of its network.
    pub prefix: u8,
    /// How far the address counts.
    pub scope: Scope,
    /// The alias that it was added under (IPv4 only), written like the name of a link.
    pub label: Option<String>,
    /// It is not in use yet: whether another host has it is still being found out (IPv6).
    pub tentative: bool,
    /// It is not in use: another host has it (IPv6).
    pub dad_failed: bool,
}
