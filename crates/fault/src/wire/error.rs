//! What can go wrong with a wire; each variant names the operation and its object.

use std::io;

/// The result of this module's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a wire.
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
    /// rtnetlink refused.
    #[error(transparent)]
    Rtnl(#[from] snorkel_rtnl::Error),
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
    /// The kernel cuts packets up only behind the wire, so that they would be counted wrong.
    #[error("the wire {link} keeps offloads that cannot be turned off: {}", .left.join(", "))]
    Offloads {
        /// The public end's name.
        link: String,
        /// The features' names, as `ethtool -k` has them.
        left: Vec<String>,
    },
    /// What the kernel has is not what it was told.
    #[error("the wire {link} is not as it was made: {why}")]
    NotAsMade {
        /// The public end's name.
        link: String,
        /// What differs.
        why: String,
    },
}

impl Error {
    pub(super) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Os { what: what.into(), source: source.into() }
    }

    /// Whether the kernel refused for want of rights.
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Os { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Error::Rtnl(error) => error.is_permission(),
            Error::Netns(error) => error.is_permission(),
            Error::Offloads { .. } | Error::NotAsMade { .. } => false,
        }
    }
}
