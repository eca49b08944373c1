//! A command for whose length a fault is held.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use snorkel_netns::enter::{self, die_of};

use crate::failure::{Failure, Outcome};

/// The command is there but cannot be executed, and there is no such command: the shells' words.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The command, while it runs.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pidfd: OwnedFd,
}

impl Running {
    /// Starts it, with the caller's terminal and files, and with the signals that are held back here.
    pub(super) fn start(words: &[OsString], held: &enter::Signals) -> Result<Running, Failure> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Failure::new("a command is needed behind --"))?;
        let mut command = Command::new(program);
        command.args(arguments);
        held.give_back(&mut command);
        let child = command.spawn().map_err(|error| {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            Failure::new(format!("cannot execute {}: {error}", program.to_string_lossy())).code(code)
        })?;
        let pidfd = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Running { child, pidfd })
    }

    /// Passes a signal on. What the terminal sends the command has got itself.
    pub(super) fn pass_on(&self, signal: enter::Signal) {
        if let Some(number) = Signal::from_named_raw(signal.number)
            && !signal.by_kernel
        {
            // One that has ended does not mind.
            let _ = pidfd_send_signal(&self.pidfd, number);
        }
    }

    /// How it ended; to be asked when it has.
    pub(super) fn wait(&mut self) -> Result<ExitStatus, Failure> {
        Ok(self.child.wait()?)
    }
}

/// Readable when it has ended.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Ends as the command did.
pub(super) fn end_as(status: ExitStatus) -> Outcome {
    if let Some(signal) = status.signal() {
        die_of(signal);
        return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)));
    }
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
