//! What can go wrong with a ring; each variant names the operation and its object.

use std::io;

/// The result of this module's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a ring or a session of rings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what}")]
    Os {
        /// The operation and its object, as in "open a packet socket for eth0".
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The right to see packets is missing.
    #[error(
        "cannot open a packet socket for {link}: CAP_NET_RAW in the network namespace's user namespace is needed"
    )]
    Rights {
        /// The link as it was named.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
    /// There is no such link in the namespace.
    #[error("there is no link {link} in this network namespace")]
    NoLink {
        /// The link as it was named.
        link: String,
    },
    /// The filter has more instructions than the kernel takes.
    #[error("the filter is too long for the kernel: {instructions} instructions, {limit} at most")]
    FilterTooLong {
        /// How many it has, with those that were put in front.
        instructions: usize,
        /// `BPF_MAXINSNS`.
        limit: usize,
    },
    /// The filter looks at a field that the kernel cannot see on a link of this kind.
    #[error("the filter reads byte {offset} of the cooked header, which the kernel cannot see on {link}")]
    FilterNotForLink {
        /// The link as it was named.
        link: String,
        /// The offset in the `LINUX_SLL2` header.
        offset: u32,
    },
    /// Not even the smallest ring could be had.
    #[error("there is no memory for a ring on {link}: the kernel refused even {bytes} bytes")]
    NoMemory {
        /// The link as it was named.
        link: String,
        /// The smallest size that was tried.
        bytes: usize,
    },
    /// The budget does not reach for so many rings.
    #[error("{total} bytes are too few for {links} rings of at least {least} bytes each: {at_most} at most")]
    Budget {
        /// The whole budget in bytes.
        total: usize,
        /// How many rings were wanted.
        links: usize,
        /// The smallest ring in bytes.
        least: usize,
        /// How many rings the budget allows.
        at_most: usize,
    },
    /// The budget is more than so many rings can take.
    #[error("{links} rings take no more than {most} bytes together, and {total} are too many")]
    TooLarge {
        /// The whole budget in bytes.
        total: usize,
        /// How many rings were wanted.
        links: usize,
        /// What they take at most, in bytes.
        most: usize,
    },
}

impl Error {
    /// Wraps what the kernel said into what was being done.
    pub(super) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os { what: what.into(), source: source.into() }
    }
}
