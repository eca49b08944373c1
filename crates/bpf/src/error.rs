//! What can go wrong with programs and their links; each variant names the operation, its object and the remedy.

use std::io;

use aya::programs::ProgramError;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How much of the verifier's log an error carries: its end, where the reason is.
const LOG_LINES: usize = 12;

/// An error with a program, a map or a link.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what}{}", remedy(.source))]
    Os {
        /// The operation and its object, as in "attach gate_in to link 7".
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's verifier refused a program.
    #[error("cannot {what}: the kernel's verifier refuses it; the end of its log:\n{log}")]
    Verifier {
        /// The operation and its object.
        what: String,
        /// The last lines of the log.
        log: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The committed object cannot be used.
    #[error("cannot {what}")]
    Object {
        /// The operation and its object.
        what: String,
        /// What the loader said.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The committed object lacks something: it was not made from these sources.
    #[error("the object {object} has no {what}; 'make bpf' makes it from the sources again")]
    Lacks {
        /// The object.
        object: String,
        /// The map or program.
        what: String,
    },
    /// What was asked for makes no sense, and nothing was done.
    #[error("cannot {what}: {why}")]
    Invalid {
        /// The operation and its object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is in force is not what was put there.
    #[error("{what} is not in force: {why}")]
    NotInForce {
        /// What should be.
        what: String,
        /// What was found instead.
        why: String,
    },
    /// What was to let everything pass does not.
    #[error("a gate that was disarmed is still in force: {what}")]
    StillInForce {
        /// What it did.
        what: String,
    },
    /// The kernel has no place where the programs could be attached.
    #[error(
        "cannot {what}: this kernel has neither tcx (since 6.6) nor clsact with cls_bpf (CONFIG_NET_CLS_BPF)"
    )]
    NoHook {
        /// The operation and its object.
        what: String,
        /// What came of the last try.
        #[source]
        source: snorkel_rtnl::Error,
    },
    /// A chain of programs changed each time between the look at it and the attachment.
    #[error("cannot {what}: others changed the chain of programs {tries} times in a row; try again")]
    Unsettled {
        /// The operation and its object.
        what: String,
        /// How often it was tried.
        tries: usize,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
    /// Traffic control refused.
    #[error(transparent)]
    Rtnl(#[from] snorkel_rtnl::Error),
}

impl Error {
    /// Wraps what the kernel said into what was being done.
    pub(crate) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Os { what: what.into(), source: source.into() }
    }

    /// What the loader said, told apart: rights, the verifier, the object.
    pub(crate) fn loading(what: impl Into<String>, error: impl Into<aya::EbpfError>) -> Error {
        let what = what.into();
        match error.into() {
            aya::EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log }) => {
                let log = end_of(&verifier_log.to_string());
                if log.is_empty() || io_error.raw_os_error() == Some(libc::EPERM) {
                    return Error::os(what, io_error);
                }
                Error::Verifier { what, log, source: io_error }
            }
            source => match errno(&source) {
                Some(errno) if errno == libc::EPERM => Error::os(what, io::Error::from_raw_os_error(errno)),
                _ => Error::Object { what, source: Box::new(source) },
            },
        }
    }

    /// Whether the kernel refused for want of rights (EPERM, EACCES).
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Netns(inner) => inner.is_permission(),
            Error::Rtnl(inner) => inner.is_permission(),
            other => errno(other).is_some_and(|errno| matches!(errno, libc::EPERM | libc::EACCES)),
        }
    }
}

/// The last lines of a log that say something.
fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// The errno at the bottom of an error.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut below = Some(error);
    while let Some(error) = below {
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(found);
        }
        below = error.source();
    }
    None
}

/// What to do about an errno, where that is known.
fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (it takes CAP_BPF and CAP_NET_ADMIN, before Linux 5.8 CAP_SYS_ADMIN, in the host's user namespace)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_rights_is_named_with_its_remedy() {
        let error = Error::os("load the program gate_in", io::Error::from_raw_os_error(libc::EPERM));
        assert!(error.is_permission());
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
        let other = Error::os("load the program gate_in", io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(other.to_string(), "cannot load the program gate_in");
        assert!(!other.is_permission());
    }

    #[test]
    fn of_the_verifiers_log_the_end_is_told() {
        let log: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let end = end_of(&log);
        assert!(end.starts_with("line 88\n") && end.ends_with("line 99"), "{end}");
        assert_eq!(end_of("\n \n"), "");
    }
}
