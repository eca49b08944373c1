//! What can go wrong with a fault; each variant names the operation, its object and, where known, the remedy.

use std::io;

use crate::FaultId;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what}")]
    Os {
        /// The operation and its object.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What was asked for makes no sense, or not for these targets.
    #[error("{0}")]
    Plan(String),
    /// The very same is in force.
    #[error("this is in force already, as {id} (process {pid}, `{words}`)")]
    Already {
        /// The fault that was there first.
        id: FaultId,
        /// Its holder.
        pid: i32,
        /// What was typed for it.
        words: String,
    },
    /// It was made, looked at again, and is not there.
    #[error("it is not in force: {0}")]
    NotInForce(String),
    /// The link is gone: its target has stopped or was started again.
    #[error("{0} is gone")]
    Gone(String),
    /// A directory or file of the journal is not as this program makes it.
    #[error("the journal {path} is not to be trusted: {why}")]
    Distrusted {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A holder could not be asked, or did not do what it was asked.
    #[error("the holder of {id} gave no answer: {why}")]
    Holder {
        /// Its fault.
        id: FaultId,
        /// What happened instead.
        why: String,
    },
    /// A namespace or a process.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
    /// A program of the kernel's.
    #[error(transparent)]
    Bpf(#[from] snorkel_bpf::Error),
    /// A wire.
    #[error(transparent)]
    Wire(#[from] crate::wire::Error),
    /// A link.
    #[error(transparent)]
    Rtnl(#[from] snorkel_rtnl::Error),
}

impl Error {
    /// Wraps what the kernel said into what was being done.
    pub(crate) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Os { what: what.into(), source: source.into() }
    }
}
