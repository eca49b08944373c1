//! What is read of an OCI runtime spec (opencontainers/runtime-spec, `config.md` and `config-linux.md`): the network
//! namespace that the container joins, and the host's files that are mounted as its resolv.conf and hosts.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Container;
use crate::http::null_is_default as null;

/// A spec, as containerd stores it and CRI runtimes show it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Spec {
    #[serde(default, deserialize_with = "null")]
    mounts: Vec<Mount>,
    linux: Option<Linux>,
}

#[derive(Debug, Deserialize)]
struct Mount {
    #[serde(default, deserialize_with = "null")]
    destination: String,
    #[serde(default, deserialize_with = "null")]
    source: String,
}

#[derive(Debug, Deserialize)]
struct Linux {
    #[serde(default, deserialize_with = "null")]
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type", default, deserialize_with = "null")]
    kind: String,
    #[serde(default, deserialize_with = "null")]
    path: String,
}

impl Spec {
    /// Adds to a container what its spec says of its network.
    pub(crate) fn complete(&self, container: &mut Container) {
        let mounted = |on: &str| {
            let mount = self.mounts.iter().find(|m| m.destination == on)?;
            Some(PathBuf::from(&mount.source)).filter(|p| p.is_absolute())
        };
        container.resolv_conf = container.resolv_conf.take().or_else(|| mounted("/etc/resolv.conf"));
        container.hosts = container.hosts.take().or_else(|| mounted("/etc/hosts"));
        let Some(linux) = &self.linux else { return };
        match linux.namespaces.iter().find(|n| n.kind == "network") {
            // Without one of its own it stays in the host's.
            None => container.network_mode = container.network_mode.take().or_else(|| Some("host".into())),
            // /proc/PID/ns/net leads wherever the number leads by now.
            Some(network)
                if Path::new(&network.path).is_absolute() && !network.path.starts_with("/proc/") =>
            {
                if container.is_alive_by_state() {
                    container.netns_path = Some(PathBuf::from(&network.path));
                }
            }
            Some(_) => {}
        }
    }
}
