//! From a target's name to a namespace that can be entered: the short way, without the links.
//!
//! Between the engine's word ("web is process 4711") and the entry, the process may end and its PID go to another. So
//! the process is opened first (pidfd), then it is proved that it is the container's: it lies in a cgroup that carries
//! the container's id, or the engine, asked *again*, still names it. Only what is read after that, with the pidfd still
//! alive, is of the container.

use std::path::PathBuf;

use snorkel_engines::{Answer, Container, Engine, Query, TargetSpec, Warning};
use snorkel_netns::{Error as NetnsError, Netns, NetnsId, Pid, Process};

use crate::{Error, Result, Snapshot};

/// An id of fewer characters than docker's short form proves nothing when it turns up in a cgroup's path.
const ID_THAT_PROVES: usize = 12;

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
    let container = snorkel_engines::select(spec, &containers)?.clone();
    open(query, container, warnings)
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
    let ended = |e: NetnsError| match e {
        NetnsError::Gone(pid) => Error::Ended { target: container.qualified(), pid },
        other => other.into(),
    };
    let process = Process::open(pid).map_err(ended)?;
    // A process that was named by its PID is by definition the one that has it.
    if container.engine == Engine::Pid {
        return Ok(process);
    }
    let cgroup = process.read("cgroup").map_err(ended)?;
    if container.id.len() >= ID_THAT_PROVES && cgroup.contains(&container.id) {
        return Ok(process);
    }
    match snorkel_engines::recheck(query, container) {
        Ok(Some(again)) if again.pid == Some(pid) => {
            process.check_alive().map_err(ended)?;
            Ok(process)
        }
        Ok(Some(again)) if again.pid.is_none() => Err(Error::Ended { target: container.qualified(), pid }),
        _ => Err(Error::Recycled {
            target: container.qualified(),
            pid,
            cgroup: cgroup.lines().next_back().unwrap_or_default().to_owned(),
        }),
    }
}
