//! Whom `--to` means: addresses, as they are when the tap begins.

use snorkel_engines::{Query, TargetSpec};
use snorkel_fault::plan::Peer;
use snorkel_rtnl::Prefix;
use snorkel_tap::steer;
use snorkel_topology::Snapshot;
use snorkel_topology::locate::locate;

use super::{Networks, Purpose, join};
use crate::cli::Globals;
use crate::commands::hold::World;
use crate::commands::warn_engines;
use crate::failure::Failure;

/// Adds the networks of these targets, with their peers; gives the snapshot in which they were found.
pub(super) fn join_all(
    networks: &mut Networks,
    targets: &[String],
    peers: &[Peer],
    globals: &Globals,
    query: &Query,
) -> Result<Snapshot, Failure> {
    let parsed = targets.iter().map(|text| {
        let spec = text.parse::<TargetSpec>();
        spec.map_err(|error| Failure::new(error.to_string()).hint("with --to a target stands without a port"))
    });
    let targets = parsed.collect::<Result<Vec<_>, _>>()?;
    let world = World::look(globals, &targets)?;
    for target in &targets {
        let located = locate(query, target)?;
        warn_engines(&located.warnings);
        let network = join(networks, located, Purpose::Outbound)?;
        // Each target resolves names for itself.
        let names = |name: &str| world.addresses(name, std::slice::from_ref(target));
        for peer in peers {
            for block in peer.networks(&world.snapshot, &names)? {
                let to = Prefix { address: block.address, length: block.prefix };
                let peer = steer::Peer { to, port: peer.port };
                if !network.peers.contains(&peer) {
                    network.peers.push(peer);
                }
            }
        }
    }
    Ok(world.snapshot)
}

/// As it can be typed.
pub(super) fn text(peer: &Peer) -> String {
    match peer.port {
        Some(port) if peer.who.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{}]:{port}", peer.who),
        Some(port) => format!("{}:{port}", peer.who),
        None => peer.who.clone(),
    }
}
