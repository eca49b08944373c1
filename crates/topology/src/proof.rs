//! Whether a process is the container's, as its engine says.
//!
//! An engine's word may be old: it repeats for ever what it wrote down before its own helper died. So what the kernel
//! says of the process comes first: the cgroup that it lies in, whose child it is, when it was started. Only where these
//! neither prove nor refute it, the engine's word counts, given twice.

use std::cell::LazyCell;

use snorkel_engines::{Container, Engine, Fault};
use snorkel_netns::{Error as NetnsError, Pid, Process};

use crate::{Error, Result};

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
    // This process may lie in a container itself; then everything beside it does, too.
    let around = LazyCell::new(|| std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let bearing = bearing(container, &cgroup, |id| around.contains(id));
    let doubt = Doubt { process, cgroup };
    match bearing {
        Bearing::Own => return Ok(Look::Proved(doubt.process)),
        Bearing::Foreign => {
            let why = format!("it lies in another's cgroup, {}", doubt.last_cgroup());
            return Err(doubt.refuted(container, why));
        }
        Bearing::Silent => {}
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
        self.open(container, "the engine, asked again, does not confirm it")
    }

    /// The engine cannot be asked again.
    pub(crate) fn unasked(&self, container: &Container, fault: &Fault) -> Error {
        self.open(container, &format!("the engine could not be asked again: {fault}"))
    }

    fn open(&self, container: &Container, and: &str) -> Error {
        self.refuted(container, format!("it lies in the cgroup {} and {and}", self.last_cgroup()))
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

/// What a process's cgroups say of whose it is.
#[derive(Debug, PartialEq, Eq)]
enum Bearing {
    /// They are the container's.
    Own,
    /// They are another container's.
    Foreign,
    /// They carry no container's mark.
    Silent,
}

/// Reads it off `/proc/PID/cgroup`, in each hierarchy by the deepest folder that carries a container's mark: containers
/// lie in containers, and what lies deepest is whose the process is. `is_around` tells whether who asks lies in the container
/// of an id.
fn bearing(container: &Container, cgroup: &str, is_around: impl Fn(&str) -> bool) -> Bearing {
    let mut bearing = Bearing::Silent;
    // HIERARCHY:CONTROLLERS:PATH; the path may hold colons (cgroups(7)).
    for path in cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        match path.rsplit('/').find_map(|folder| Some((folder, generated_id(folder)?))) {
            // The monitor is not the container.
            Some((folder, id)) if id == container.id && !folder.contains("conmon-") => {
                bearing = Bearing::Own;
            }
            Some((_, id)) if id != container.id && !is_around(id) => return Bearing::Foreign,
            Some(_) => {}
            None if is_named(container, path) => bearing = Bearing::Own,
            None => {}
        }
    }
    bearing
}

/// Whether containerd keeps there what has an id that people chose: in `/NAMESPACE/ID`, at the top.
fn is_named(container: &Container, path: &str) -> bool {
    let mut folders = path.split('/').filter(|folder| !matches!(*folder, "" | ".."));
    container.engine == Engine::Containerd
        && container.scope.is_some()
        && folders.next() == container.scope.as_deref()
        && folders.next() == Some(&container.id)
}

/// The id that an engine made up in a folder's name, as cgroup drivers write it: `ID`, `docker-ID.scope`,
/// `libpod-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `system.slice:docker:ID`.
fn generated_id(folder: &str) -> Option<&str> {
    folder.rsplit(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == GENERATED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use snorkel_engines::State;

    fn container(id: &str) -> Container {
        Container { state: State::Running, ..Container::new(Engine::Docker, id) }
    }

    #[test]
    fn the_deepest_mark_of_a_cgroup_says_whose_it_is() {
        let (own, other) = ("0123456789abcdef".repeat(4), "a".repeat(64));
        let by_id = container(&own);
        for (path, says) in [
            ("/docker/OWN", Bearing::Own),
            ("/docker/OWN/init.scope", Bearing::Own),
            ("/system.slice/docker-OWN.scope", Bearing::Own),
            ("/machine.slice/libpod-OWN.scope/container", Bearing::Own),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-OWN.scope/container",
                Bearing::Own,
            ),
            ("/a.slice/libpod-payload-OWN", Bearing::Own),
            ("/kubepods.slice/kubepods-pod0f8d.slice/cri-containerd-OWN.scope", Bearing::Own),
            ("/kubepods/besteffort/pod0f8d/OWN", Bearing::Own),
            ("/kubepods-pod0f8d.slice/crio-OWN.scope", Bearing::Own),
            ("/kubepods-pod0f8d.slice:cri-containerd:OWN", Bearing::Own),
            ("/system.slice:docker:OWN", Bearing::Own),
            ("/docker/OTHER/docker/OWN", Bearing::Own),
            ("/docker/OWN/docker/OTHER", Bearing::Foreign),
            ("/system.slice/docker-OTHER.scope", Bearing::Foreign),
            ("/machine.slice/libpod-conmon-OWN.scope", Bearing::Silent),
            ("/system.slice/ssh.service", Bearing::Silent),
            ("/", Bearing::Silent),
        ] {
            let path = path.replace("OWN", &own).replace("OTHER", &other);
            assert_eq!(bearing(&by_id, &format!("0::{path}\n"), |_| false), says, "{path}");
        }
        let both = format!("2:cpu:/docker/{own}\n1:cpuset:/docker/{other}\n0::/\n");
        assert_eq!(bearing(&by_id, &both, |_| false), Bearing::Foreign);
        // Who asks lies in that container, too.
        let within = format!("0::/docker/{other}/init.scope\n");
        assert_eq!(bearing(&by_id, &within, |id| within.contains(id)), Bearing::Silent);
    }

    #[test]
    fn an_id_that_people_chose_proves_nothing_by_turning_up_in_a_path() {
        let inner = "a".repeat(64);
        let chosen = container("rev2-frontend-1");
        for path in ["/rev2-frontend-10", "/rev2-frontend-1", "/x/rev2-frontend-1.scope"] {
            assert_eq!(bearing(&chosen, &format!("0::{path}\n"), |_| false), Bearing::Silent, "{path}");
        }
        let nested = format!("0::/rev2-frontend-10/{inner}\n");
        assert_eq!(bearing(&chosen, &nested, |_| false), Bearing::Foreign);
        let task = Container { scope: Some("default".into()), ..Container::new(Engine::Containerd, "web") };
        for (path, says) in [
            ("/default/web", Bearing::Own),
            ("/../../default/web", Bearing::Own),
            ("/default/web/inner", Bearing::Own),
            ("/default/web2", Bearing::Silent),
            ("/other/web", Bearing::Silent),
            ("/other/default/web", Bearing::Silent),
            ("/web/default", Bearing::Silent),
        ] {
            assert_eq!(bearing(&task, &format!("0::{path}\n"), |_| false), says, "{path}");
        }
        assert_eq!(bearing(&task, &format!("0::/default/web/{inner}\n"), |_| false), Bearing::Foreign);
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
