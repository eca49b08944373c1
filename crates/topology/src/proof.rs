//! Whether a process is the container's, as its engine says.
//!
//! An engine's word may be old: it repeats for ever what it wrote down before its own helper died. So what the kernel
//! says of the process comes first: the cgroup that it lies in, whose child it is, when it was started. Only where these
//! neither prove nor refute it, the engine's word counts, given twice.

use snorkel_engines::{Container, Engine};
use snorkel_netns::{Error as NetnsError, Pid, Process};

use crate::{Error, Result};

/// An id of fewer characters than docker's short form proves nothing when it turns up in a cgroup's path.
const ID_THAT_PROVES: usize = 12;
/// Engines make up ids of so many hexadecimal digits.
const GENERATED: usize = 64;
/// Engines note the start of a container soon after the kernel started its process; by so many seconds the other way
/// round it may be for clocks that are read at different times.
const SLACK: i64 = 5;

/// What the process itself tells.
#[derive(Debug)]
pub(crate) enum Look {
    /// It is the container's.
    Proved(Process),
    /// It may be.
    Open(Doubt),
}

/// A process that may be the container's.
#[derive(Debug)]
pub(crate) struct Doubt {
    process: Process,
    cgroup: String,
}

/// Opens the process that the engine named, and looks at it.
pub(crate) fn look(container: &Container, pid: Pid) -> Result<Look> {
    let gone = |e| ended(container, e);
    let process = Process::open(pid).map_err(gone)?;
    process.check_alive().map_err(gone)?;
    // A process that was named by its PID is by definition the one that has it.
    if container.engine == Engine::Pid {
        return Ok(Look::Proved(process));
    }
    // What runs a lab is its switch as well.
    if let Some(keeper) = container.keeper
        && (pid == keeper || process.parent().map_err(gone)? == Some(keeper))
    {
        return Ok(Look::Proved(process));
    }
    let cgroup = process.read("cgroup").map_err(gone)?;
    if container.id.len() >= ID_THAT_PROVES && cgroup.contains(&container.id) {
        return Ok(Look::Proved(process));
    }
    let doubt = Doubt { process, cgroup };
    // This process may lie in a container itself; then everything beside it does, too.
    let around = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if generated_ids(&doubt.cgroup).any(|id| id != container.id && !around.contains(id)) {
        return Err(doubt.refuted(container, format!("it lies in another's cgroup, {}", doubt.last_cgroup())));
    }
    if let Some(started) = container.started {
        let late = doubt.process.started().map_err(gone)?.as_secs().cast_signed() - started;
        if late > SLACK {
            return Err(doubt.refuted(container, format!("it was started {late} s after the container was")));
        }
    }
    Ok(Look::Open(doubt))
}

impl Doubt {
    /// The process in question.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Decides by what the engine says of the container now; nothing: it has none of that id any more.
    pub(crate) fn settle(self, container: &Container, again: Option<&Container>) -> Result<Process> {
        match again.map(|again| again.pid) {
            Some(Some(pid)) if pid == self.process.pid() => {
                self.process.check_alive().map_err(|e| ended(container, e))?;
                Ok(self.process)
            }
            Some(None) => Err(Error::Ended { target: container.qualified(), pid: self.process.pid() }),
            _ => Err(self.unconfirmed(container)),
        }
    }

    /// It is not the container's, for this reason.
    pub(crate) fn refuted(&self, container: &Container, why: String) -> Error {
        Error::Recycled { target: container.qualified(), pid: self.process.pid(), why }
    }

    /// The engine does not say it again.
    pub(crate) fn unconfirmed(&self, container: &Container) -> Error {
        let why = format!(
            "it lies in the cgroup {} and the engine, asked again, does not confirm it",
            self.last_cgroup()
        );
        self.refuted(container, why)
    }

    fn last_cgroup(&self) -> &str {
        self.cgroup.lines().next_back().unwrap_or_default()
    }
}

fn ended(container: &Container, error: NetnsError) -> Error {
    match error {
        NetnsError::Gone(pid) => Error::Ended { target: container.qualified(), pid },
        other => other.into(),
    }
}

/// The ids in a cgroup file that an engine has made up.
fn generated_ids(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == GENERATED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use snorkel_engines::State;

    fn container(id: &str) -> Container {
        Container { state: State::Running, ..Container::new(Engine::Docker, id) }
    }

    #[test]
    fn ids_in_a_cgroup_are_found_whatever_stands_around_them() {
        let (a, b) = ("a".repeat(64), "0123456789abcdef".repeat(4));
        let cgroup = format!(
            "1:cpu:/docker/{a}\n0::/machine.slice/libpod-{b}.scope/container\n2::/kubepods/pod0f8d\n"
        );
        assert_eq!(generated_ids(&cgroup).collect::<Vec<_>>(), [a, b]);
    }

    #[test]
    fn a_process_that_came_after_the_container_is_not_its_own() {
        let own = Process::open(Pid::own()).unwrap().started().unwrap().as_secs().cast_signed();
        let started = |seconds| Container { started: Some(seconds), ..container("f00") };
        assert!(matches!(look(&started(own), Pid::own()), Ok(Look::Open(_))));
        // As with podman init: the process is there long before the container is said to start.
        assert!(matches!(look(&started(own + 3600), Pid::own()), Ok(Look::Open(_))));
        let error = look(&started(own - 60), Pid::own()).unwrap_err();
        assert!(error.to_string().contains("it was started 60 s after the container was"), "{error}");
    }

    #[test]
    fn a_child_of_what_runs_the_container_is_its_own() {
        let keeper = Process::open(Pid::own()).unwrap().parent().unwrap();
        assert!(matches!(look(&Container { keeper, ..container("box") }, Pid::own()), Ok(Look::Proved(_))));
        let stranger = Container { keeper: Pid::new(i32::MAX), ..container("box") };
        assert!(matches!(look(&stranger, Pid::own()), Ok(Look::Open(_))));
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_reaped_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::new(child.id().cast_signed()).unwrap();
        let process = rustix::process::Pid::from_raw(pid.get()).unwrap();
        let ends = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(process), ends).unwrap();
        let error = look(&container("f00"), pid).unwrap_err();
        assert!(matches!(error, Error::Ended { .. }), "{error}");
        child.wait().unwrap();
    }
}
