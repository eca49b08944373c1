//! From a target's name to a namespace that can be entered: the short way, without the links.
//!
//! Between the engine's word ("web is process 4711") and the entry, the process may end and its PID go to another. So
//! the process is opened first (pidfd), then it is proved that it is the container's: it lies in a cgroup that carries
//! the container's id, it is a child of what runs the container, or the engine, asked *again*, still names it and nothing
//! speaks against it (`proof.rs`). Only what is read after that, with the pidfd still alive, is of the container.

use std::path::PathBuf;

use snorkel_engines::{Answer, Container, Engine, Query, SelectError, TargetSpec, Warning};
use snorkel_netns::{Netns, NetnsId, Pid, Process};

use crate::proof::{self, Look};
use crate::{Error, Result, Snapshot};

/// Where a target lives: what can be entered.
#[derive(Debug)]
pub enum Place {
    /// A process of the container, opened and proved to be its own.
    Process(Process),
    /// A network namespace by the path that names it, with no process known.
    Netns(Netns, PathBuf),
}

/// A target that was found and can be entered.
#[derive(Debug)]
pub struct Located {
    /// What the engine says of it.
    pub container: Container,
    /// Its way in.
    pub place: Place,
    /// What went wrong with other engines meanwhile.
    pub warnings: Vec<Warning>,
}

impl Located {
    /// The target's qualified name.
    pub fn name(&self) -> String {
        self.container.qualified()
    }

    /// Its network namespace.
    pub fn netns(&self) -> Result<Netns> {
        match &self.place {
            Place::Process(process) => Ok(process.netns()?),
            Place::Netns(netns, _) => Ok(netns.try_clone()?),
        }
    }
}

/// Finds the one target that the name means.
pub fn locate(query: &Query, spec: &TargetSpec) -> Result<Located> {
    locate_meanwhile(query, spec, || ())
}

/// As [`locate`]; while the engines think about their answers, `meanwhile` is done on the calling thread. It is not done
/// if nobody is waited for.
pub fn locate_meanwhile(query: &Query, spec: &TargetSpec, meanwhile: impl FnOnce()) -> Result<Located> {
    let Answer { containers, warnings } = snorkel_engines::lookup_meanwhile(query, spec, meanwhile);
    match snorkel_engines::select(spec, &containers) {
        Ok(container) => open(query, container.clone(), warnings),
        Err(source) => Err(not_selected(query, spec, source, warnings)),
    }
}

/// What is not found is missing only if its engine has told all that it has.
fn not_selected(query: &Query, spec: &TargetSpec, source: SelectError, mut warnings: Vec<Warning>) -> Error {
    let of = |engine: Engine| {
        let sockets = match engine {
            Engine::Docker => &query.endpoints.docker,
            Engine::Podman => &query.endpoints.podman,
            // What stands before the slash of their names is not a socket's.
            _ => return None,
        };
        Some(sockets.iter().filter(|e| e.scope == spec.scope).map(|e| e.path.clone()).collect::<Vec<_>>())
    };
    let is_its = |warning: &Warning| {
        warning.unfinished
            && spec.engine() == Some(warning.engine)
            && of(warning.engine).is_none_or(|sockets| warning.socket.iter().all(|s| sockets.contains(s)))
    };
    match warnings.iter().position(is_its).filter(|_| matches!(source, SelectError::NotFound { .. })) {
        Some(at) => Error::Unasked { why: Box::new(warnings.remove(at)), target: spec.to_string(), warnings },
        None => Error::Select { source, warnings },
    }
}

/// Opens what the engine named and proves that it is the container's.
pub fn open(query: &Query, container: Container, warnings: Vec<Warning>) -> Result<Located> {
    let target = container.qualified();
    let place = match (container.pid, &container.netns_path) {
        (Some(pid), _) => Place::Process(prove(query, &container, pid)?),
        (None, Some(path)) => Place::Netns(Netns::open(path)?, path.clone()),
        (None, None) => return Err(Error::NoNetwork { target, why: container.status }),
    };
    Ok(Located { container, place, warnings })
}

/// Opens a namespace of a snapshot: by way of a target on it, which is proved to be itself, or where the snapshot found
/// it. It is the very namespace of the snapshot, or an error.
pub fn namespace(query: &Query, snapshot: &Snapshot, id: NetnsId) -> Result<Netns> {
    let Some(namespace) = snapshot.namespace(id) else { return Err(Error::Changed { netns: id }) };
    let netns = match snapshot.targets_on(id).find(|target| !target.host) {
        Some(target) => open(query, target.container.clone(), Vec::new())?.netns()?,
        None if namespace.host => Netns::current()?,
        None => match (namespace.paths.first(), namespace.pid) {
            (Some(path), _) => Netns::open(path)?,
            (None, Some(pid)) => Process::open(pid)?.netns()?,
            (None, None) => return Err(Error::Changed { netns: id }),
        },
    };
    // Inodes are used again; with the cookie there is no doubt.
    if netns.id()? == id { Ok(netns) } else { Err(Error::Changed { netns: id }) }
}

fn prove(query: &Query, container: &Container, pid: Pid) -> Result<Process> {
    match proof::look(container, pid)? {
        Look::Proved(process) => Ok(process),
        Look::Open(doubt) => match snorkel_engines::recheck(query, container) {
            Ok(again) => doubt.settle(container, again.as_ref()),
            Err(fault) => Err(doubt.unasked(container, &fault)),
        },
    }
}
