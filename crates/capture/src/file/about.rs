//! What a capture says beside its packets: who made it, where packets were seen, whose addresses those are.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::packet::{Interface, Timestamp};

/// What made (a section of) a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The machine: `shb_hardware`.
    pub hardware: Option<String>,
    /// Its operating system: `shb_os`; on writing also each interface's `if_os`.
    pub os: Option<String>,
    /// The program: `shb_userappl`.
    pub application: Option<String>,
    /// Comments on the whole of it.
    pub comments: Vec<String>,
}

/// What happened on an interface between two moments: an interface statistics block. Counters that nobody knows are
/// `None`, which is not the same as 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the counters were read.
    pub time: Timestamp,
    /// When the capture began: `isb_starttime`.
    pub start: Option<Timestamp>,
    /// When it ended: `isb_endtime`.
    pub end: Option<Timestamp>,
    /// Packets that the interface saw: `isb_ifrecv`.
    pub received: Option<u64>,
    /// Packets that were lost because nobody fetched them in time: `isb_ifdrop`.
    pub dropped: Option<u64>,
    /// Packets that passed the filter: `isb_filteraccept`.
    pub filter_accepted: Option<u64>,
    /// Packets that the operating system lost: `isb_osdrop`.
    pub os_dropped: Option<u64>,
    /// Packets that reached the program: `isb_usrdeliv`.
    pub delivered: Option<u64>,
    /// Comments on them.
    pub comments: Vec<String>,
}

/// Names of addresses.
pub type Names = HashMap<IpAddr, String>;

/// What a capture says beside its packets, as far as it has been read.
///
/// With each interface block that is met the lists grow; what is in them never changes its index.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The interfaces of all sections, in the order they appeared: [`crate::Packet::interface`] is an index into it.
    pub interfaces: Vec<Interface>,
    /// For each of the interfaces the last statistics that were met.
    pub statistics: Vec<Option<Statistics>>,
    /// Names of addresses; where there are several for one address, the first.
    pub names: Names,
    /// What made the section that was met last.
    pub section: Section,
}
