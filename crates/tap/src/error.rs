//! What can go wrong with a tap; each variant names the operation and its object.

use std::io;

use snorkel_bpf::tap::TapError;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a tap.
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
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
    /// The kernel could not be asked who listens.
    #[error(transparent)]
    Rtnl(#[from] snorkel_rtnl::Error),
    /// The programs could not be used.
    #[error(transparent)]
    Bpf(#[from] TapError),
    /// Another tap is there already.
    #[error("{port} is tapped already, by process {holder}")]
    Taken {
        /// `80/tcp`, `to 10.0.0.1:80`.
        port: String,
        /// The other tap: its PID and command, or what is known of it.
        holder: String,
    },
    /// The kernel has no tables that go with their owner.
    #[error(
        "connections to somebody else can be tapped only where a rule goes with its process: the kernel must be 5.12 or newer"
    )]
    NoOwner(#[source] snorkel_rtnl::Error),
    /// The thread in the namespace is gone without a word.
    #[error("the relay ended unexpectedly: {0}")]
    Gone(&'static str),
}

impl Error {
    pub(crate) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Os { what: what.into(), source: source.into() }
    }
}
