//! What can go wrong with namespaces and processes; each variant names the operation and its object.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::Pid;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a namespace or a process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process has this PID (any more).
    #[error("process {0} is gone")]
    Gone(Pid),
    /// The PID belongs to another process now than the one that was looked up.
    #[error("process {pid} is not the one that was looked up: {why}")]
    Recycled {
        /// The PID in question.
        pid: Pid,
        /// What shows it.
        why: String,
    },
    /// The path names something that is not a network namespace.
    #[error("{path} is not a network namespace: {why}")]
    NotANetns {
        /// The path as it was given.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The command could not be executed; the namespaces had been joined by then.
    #[error("cannot execute {}", .command.to_string_lossy().escape_debug())]
    Exec {
        /// The command as it was given.
        command: OsString,
        /// What the kernel said of the last candidate; not found if there was none.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {what}")]
    Os {
        /// The operation and its object, as in "open the network namespace of process 4711".
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Wraps what the kernel said into what was being done.
    pub fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os { what: what.into(), source: source.into() }
    }

    /// Whether the kernel refused for want of rights (EPERM, EACCES).
    pub fn is_permission(&self) -> bool {
        matches!(self, Error::Os { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// An error and its causes on one line. What an error says of its cause itself is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let more = cause.to_string();
        if !line.contains(&more) {
            line = format!("{line}: {more}");
        }
        below = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_tells_every_cause_once() {
        let cause = || io::Error::from_raw_os_error(libc::EPERM);
        let told = "cannot enter: Operation not permitted (os error 1)";
        assert_eq!(chain(&Error::os("enter", cause())), told);
        // The cause is in the text already, as with errors of some libraries.
        assert_eq!(chain(&Error::os(format!("enter: {}", cause()), cause())), told);
    }
}
