//! Opening what is to be captured: namespaces, rings, and the processes that live there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use snorkel_capture::filter::Filter;
use snorkel_capture::ring::{Budget, Link, Ring, link_type};
use snorkel_engines::Query;
use snorkel_netns::{Netns, NetnsId};
use snorkel_topology::{Snapshot, locate};

use super::filter::{Compiled, Filters};
use super::spots::Spot;
use crate::failure::Failure;

/// What rings are to be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Memory of all rings together.
    pub(super) bytes: u64,
    /// Bytes kept of each packet; 0: all.
    pub(super) snaplen: u32,
}

/// What each of so many links gets of the memory, in bytes.
pub(super) fn share(total: usize, links: usize) -> Result<usize, Failure> {
    Budget { total }.share(links).map_err(|error| {
        let hint = match error {
            snorkel_capture::ring::Error::TooLarge { most, .. } => format!("--buffer {}GiB", most >> 30),
            _ => "a larger --buffer".to_owned(),
        };
        Failure::from(error).hint(hint)
    })
}

/// Opens rings on the spots of one snapshot.
pub(super) struct Opener<'a> {
    query: &'a Query,
    snapshot: &'a Snapshot,
    filters: &'a Filters,
    snaplen: u32,
    /// Memory of each ring.
    bytes: usize,
    /// A namespace is opened, and proved to be the target's, once.
    namespaces: HashMap<NetnsId, Netns>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(
        query: &'a Query,
        snapshot: &'a Snapshot,
        filters: &'a Filters,
        snaplen: u32,
        bytes: usize,
    ) -> Opener<'a> {
        Opener { query, snapshot, filters, snaplen, bytes, namespaces: HashMap::new() }
    }

    /// Opens a ring, from then on packets gather in it; the spot comes back with what the socket knows of the link.
    pub(super) fn open(&mut self, mut spot: Spot) -> Result<(Ring, Spot), Failure> {
        let netns = match self.namespaces.entry(spot.netns) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(locate::namespace(self.query, self.snapshot, spot.netns)?),
        };
        let link = Link::Index(spot.index);
        // Nearly every link is an Ethernet one; of what kind this one is the socket knows.
        let compiled = self.filters.compile(link_type(netns, link)?, netmask(self.snapshot, &spot))?;
        let program = match compiled {
            Compiled::Kernel(program) => Some(program),
            Compiled::Everything | Compiled::Here(_) => None,
        };
        let settings = snorkel_capture::ring::Settings {
            snaplen: self.snaplen,
            filter: program.as_deref(),
            bytes: self.bytes,
            ..snorkel_capture::ring::Settings::default()
        };
        let ring = Ring::open(netns, link, &settings)?;
        if ring.shrunk() {
            tracing::warn!(
                "{}: only {} KiB of memory for its ring",
                spot.interface.name,
                ring.bytes() / 1024
            );
        }
        spot.interface.link_type = ring.link_type();
        spot.interface.snaplen = ring.snaplen();
        spot.interface.filter = self.filters.text().map(str::to_owned);
        Ok((ring, spot))
    }
}

/// The filter of a ring, if the kernel does not run it.
pub(super) fn filter_here(
    filters: &Filters,
    snapshot: &Snapshot,
    spot: &Spot,
) -> Result<Option<Filter>, Failure> {
    Ok(match filters.compile(spot.interface.link_type, netmask(snapshot, spot))? {
        Compiled::Here(filter) => Some(filter),
        Compiled::Everything | Compiled::Kernel(_) => None,
    })
}

/// The mask of a link's IPv4 network, if it has one.
pub(super) fn netmask(snapshot: &Snapshot, spot: &Spot) -> Option<u32> {
    let link = snapshot.namespace(spot.netns)?.link(spot.index)?;
    let address = link.addresses.iter().find(|address| matches!(address.address, IpAddr::V4(_)))?;
    Some(u32::MAX.checked_shl(32 - u32::from(address.prefix)).unwrap_or(0))
}
