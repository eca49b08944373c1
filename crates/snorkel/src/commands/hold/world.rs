//! The world as it is when a fault begins, and whom a name in it means.

use std::net::IpAddr;

use snorkel_engines::{Query, TargetSpec};
use snorkel_fault::dns;
use snorkel_netns::enter::{Guest, Names};
use snorkel_netns::{Netns, NetnsId};
use snorkel_topology::locate::Place;
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

    /// The addresses of a name that no target has: looked up as the first of the targets would, from inside its network;
    /// as the host would where that is not to be known.
    pub(crate) fn addresses(&self, name: &str, targets: &[TargetSpec]) -> Result<Vec<IpAddr>, String> {
        let told = |error: &dyn std::error::Error| snorkel_netns::chain(error);
        let Some(located) = targets.first().and_then(|spec| locate::locate(&self.query, spec).ok()) else {
            let (hosts, resolv_conf) = host_files();
            return dns::look_up(name, &hosts, &resolv_conf);
        };
        let (hosts, resolv_conf) = match &located.place {
            Place::Process(process) => {
                let names = match Guest::of(process) {
                    Ok(guest) => Names::of_container(&guest).0,
                    Err(error) => return Err(told(&error)),
                };
                (text(names.hosts), text(names.resolv_conf))
            }
            Place::Netns(..) => host_files(),
        };
        let netns = located.netns().map_err(|error| told(&error))?;
        netns.run(|| dns::look_up(name, &hosts, &resolv_conf)).map_err(|error| told(&error))?
    }
}

/// hosts and resolv.conf of the host.
fn host_files() -> (String, String) {
    let read = |path| text(std::fs::read(path).unwrap_or_default());
    (read("/etc/hosts"), read("/etc/resolv.conf"))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
