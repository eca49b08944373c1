//! What can go wrong between a target's name and its network.

use snorkel_engines::{SelectError, Warning};
use snorkel_netns::{Error as NetnsError, NetnsId, Pid};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error on the way from a name to a namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name fits none, several, or only a stopped one.
    #[error("{source}")]
    Select {
        /// Which of these.
        source: SelectError,
        /// What went wrong with engines: what was not found may be one of theirs.
        warnings: Vec<Warning>,
    },
    /// The engine that is to have it did not tell what it has.
    #[error("{} could not be asked, so whether there is a target '{target}' is not known: {}", .why.engine, .why.what)]
    Unasked {
        /// The target as it was named.
        target: String,
        /// What went wrong with its engine.
        why: Box<Warning>,
        /// What went wrong besides.
        warnings: Vec<Warning>,
    },
    /// The container has no network of its own that could be entered.
    #[error("{target} has no network: {why}")]
    NoNetwork {
        /// The target's qualified name.
        target: String,
        /// Why, in the engine's words.
        why: String,
    },
    /// The container ended between look-up and entry.
    #[error("{target} ended while it was being looked up: process {pid} is gone")]
    Ended {
        /// The target's qualified name.
        target: String,
        /// The process that the engine had named.
        pid: Pid,
    },
    /// The process that has the PID now is not of the container.
    #[error(
        "process {pid} does not belong to {target} (any more): the engine named it, but {why}; nothing was entered"
    )]
    Recycled {
        /// The target's qualified name.
        target: String,
        /// The PID in question.
        pid: Pid,
        /// What shows it.
        why: String,
    },
    /// A namespace of a snapshot is not what it was.
    #[error("{netns} is gone, or another namespace has its number by now; look again")]
    Changed {
        /// The namespace of the snapshot.
        netns: NetnsId,
    },
    /// A namespace or a process could not be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel's routing socket failed.
    #[error(transparent)]
    Rtnl(#[from] snorkel_rtnl::Error),
}

impl Error {
    /// What went wrong with engines on the way, beside what the error itself says.
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Error::Select { warnings, .. } | Error::Unasked { warnings, .. } => warnings,
            _ => &[],
        }
    }
}
