//! Calling a lab up, finding it again, and taking it down.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::de::DeserializeOwned;
use snorkel_netns::control::{self, NoAnswer};
use snorkel_netns::{Pid, Process, notify};

use crate::plan::Plan;
use crate::spec::LabSpec;
use crate::wire::{Down, Lab, MAX_ANSWER, Outcome, Refusal, Request, SOCKET_PREFIX, WATCH_PREFIX};
use crate::{Error, Result};

/// The one argument that an executable gets which is to become a holder.
pub const HOLDER_ARGUMENT: &str = "lab-holder";
/// The environment's word for the executable that becomes the holder.
pub(crate) const HOLDER_VARIABLE: &str = "SNORKEL_LAB_HOLDER";
/// A holder that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A thousand nodes need some seconds to go.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// Calls a lab up and returns when every node is ready: its servers listen, its addresses are usable.
pub fn up(spec: &LabSpec) -> Result<Lab> {
    launch(spec).map(|(lab, _)| lab)
}

/// As [`up`], with the pipe on which a tied lab's life hangs.
pub(crate) fn launch(spec: &LabSpec) -> Result<(Lab, ChildStdin)> {
    // A mistake in the specification shows before anything is started.
    let name = Plan::new(spec.clone())?.spec.name;
    let exe = spec
        .holder_exe
        .clone()
        .or_else(|| std::env::var_os(HOLDER_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let not = |why: String| Error::Holder { exe: exe.clone(), why };
    let mut child = Command::new(&exe)
        .arg(HOLDER_ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| not(format!("it cannot be run: {e}")))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(not("it has no pipes".to_owned()));
    };
    let mut line = serde_json::to_vec(spec).map_err(|e| Error::Spec(e.to_string()))?;
    line.push(b'\n');
    // If this fails the answer, or that there is none, says more than the broken pipe.
    let _ = input.write_all(&line);
    let mut answer = Vec::new();
    let read = BufReader::new(output).take(MAX_ANSWER).read_until(b'\n', &mut answer);
    // The child has forked the holder and ended, or it is no holder and has lost its output.
    let ended = child.wait().map_err(|e| Error::os(format!("wait for {}", exe.display()), e))?;
    read.map_err(|e| not(format!("its answer cannot be read: {e}")))?;
    match serde_json::from_slice(&answer) {
        Ok(Outcome::Up(lab)) if lab.name == name => {
            tell_watchers();
            Ok((lab, input))
        }
        Ok(Outcome::Up(lab)) => Err(not(format!("it called {} up instead of {name}", lab.name))),
        Ok(Outcome::Failed(report)) => Err(report.into()),
        Err(_) if answer.is_empty() => Err(not(format!("it ended without an answer ({ended})"))),
        Err(e) => Err(not(format!("its answer is not understood: {e}"))),
    }
}

/// The labs that are up in the network namespace of the calling thread, by name.
///
/// One that ends meanwhile is left out; so is one that is held by somebody who is neither root nor the caller, or
/// that does not answer, with a warning.
pub fn list() -> Result<Vec<Lab>> {
    let (labs, faults) = list_with_faults()?;
    faults.iter().for_each(|fault| tracing::warn!("{}", snorkel_netns::chain(fault)));
    Ok(labs)
}

/// As [`list`], with what went wrong with the others in the place of warnings.
pub fn list_with_faults() -> Result<(Vec<Lab>, Vec<Error>)> {
    let names = control::names(SOCKET_PREFIX).map_err(|e| Error::os("list the labs", e))?;
    let (mut labs, mut faults) = (Vec::new(), Vec::new());
    for name in names {
        match find(&name) {
            Ok(lab) => labs.push(lab),
            Err(Error::NoSuchLab(_)) => {}
            Err(error) => faults.push(error),
        }
    }
    Ok((labs, faults))
}

/// The lab of this name; [`Error::NoSuchLab`] if there is none, or none yet.
pub fn find(name: &str) -> Result<Lab> {
    let lab: Lab = ask(name, Request::List, PATIENCE)?;
    if lab.name != name {
        return Err(Error::Garbled {
            name: name.to_owned(),
            why: format!("it says that it is {}", lab.name),
        });
    }
    Ok(lab)
}

/// Takes a lab down, and returns when the last of its processes is gone; [`Error::NoSuchLab`] if there is none.
pub fn down(name: &str) -> Result<Down> {
    let lab = find(name)?;
    // Opened before anybody is asked to end: what is waited for are these very processes.
    let processes: Vec<Process> = lab
        .nodes
        .iter()
        .flat_map(|node| [node.pid, node.nested])
        .flatten()
        .filter_map(|pid| Process::open(pid).ok())
        .collect();
    let down = match ask(name, Request::Down, LONG_PATIENCE) {
        Ok(down) => down,
        // Somebody else has taken it down in between, and is waited for too.
        Err(Error::NoSuchLab(_) | Error::Os { .. }) if gone(&processes, PATIENCE).is_empty() => Down {
            name: lab.name,
            ended: lab.nodes.into_iter().map(|node| node.name).collect(),
            had_exited: Vec::new(),
        },
        Err(error) => return Err(error),
    };
    let left = gone(&processes, LONG_PATIENCE);
    tell_watchers();
    if left.is_empty() {
        Ok(down)
    } else {
        Err(Error::Left { name: name.to_owned(), pids: left.into_iter().map(Pid::get).collect() })
    }
}

/// Tells those who watch that there is a lab more or less. Of one that is not taken down but dies, or one of whose containers
/// does, the kernel tells: namespaces go (`RTM_DELNSID`).
fn tell_watchers() {
    if let Err(error) = notify::all(WATCH_PREFIX) {
        tracing::warn!(%error, "those who watch are not told of the lab");
    }
}

/// Waits until the processes have ended (a pidfd becomes readable then, pidfd_open(2)); those that have not in time.
fn gone(processes: &[Process], patience: Duration) -> Vec<Pid> {
    let deadline = Instant::now() + patience;
    let mut left = Vec::new();
    for process in processes {
        loop {
            let fd = process.as_fd();
            let rest = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(rest).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
            match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(count) if count > 0 => break,
                Ok(_) | Err(_) => {
                    left.push(process.pid());
                    break;
                }
            }
        }
    }
    left
}

/// Asks the holder of a lab, and only if it can be trusted: the PIDs it names are entered by root.
fn ask<T: DeserializeOwned>(name: &str, request: Request, patience: Duration) -> Result<T> {
    let what = || format!("ask the holder of lab {name}");
    let line = serde_json::to_vec(&request).map_err(|e| Error::os(what(), e))?;
    let answer = control::ask(&format!("{SOCKET_PREFIX}{name}"), &line, patience, MAX_ANSWER);
    let answer = answer.map_err(|no| match no {
        NoAnswer::Nobody => Error::NoSuchLab(name.to_owned()),
        NoAnswer::Stranger(uid) => Error::Stranger { name: name.to_owned(), uid },
        NoAnswer::Os(e) => Error::os(what(), e),
    })?;
    serde_json::from_slice(&answer).map_err(|e| match serde_json::from_slice::<Refusal>(&answer) {
        Ok(refusal) => Error::Refused { name: name.to_owned(), why: refusal.error },
        Err(_) => Error::Garbled { name: name.to_owned(), why: e.to_string() },
    })
}
