//! The world as it is when a fault begins, and whom a name in it means.

use std::net::IpAddr;

use snorkel_engines::{Query, TargetSpec};
use snorkel_netns::{Netns, NetnsId};
use snorkel_topology::{Snapshot, Survey, Surveyor, locate};

use crate::cli::Globals;
use crate::commands::{unlisted, warn_snapshot};
use crate::failure::Failure;

/// A snapshot, and the way back from it to what it shows.
pub(crate) struct World {
    /// What there is.
    pub(crate) snapshot: Snapshot,
    query: Query,
}

impl World {
    /// Looks at everything; these targets are looked for also where no engine lists them.
    pub(crate) fn look(globals: &Globals, targets: &[TargetSpec]) -> Result<World, Failure> {
        let query = globals.query(&[]);
        let mut snapshot = Surveyor::new(Survey { query: query.clone(), listeners: false }).take()?;
        warn_snapshot(&snapshot);
        unlisted::join(&mut snapshot, &query, targets);
        Ok(World { snapshot, query })
    }

    /// Opens a namespace of the snapshot; it is the very one, or an error.
    pub(crate) fn open(&self, id: NetnsId) -> Result<Netns, snorkel_fault::Error> {
        // The host's own is the one that this process is in.
        locate::namespace(&self.query, &self.snapshot, id)
            .map_err(|error| snorkel_fault::Error::Plan(snorkel_netns::chain(&error)))
    }

    /// The addresses of a name that no target has.
    pub(crate) fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        Err(format!("names like {name} are not looked up yet"))
    }
}
