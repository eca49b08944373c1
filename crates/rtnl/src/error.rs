//! What can go wrong on a netlink socket; each variant names the operation and its object.

use std::io;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a netlink socket.
///
/// `what` is always the operation and its object, as in "create the veth pair a/b".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or a system call failed.
    #[error("cannot {what}{}", .note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default())]
    Os {
        /// The operation and its object.
        what: String,
        /// The kernel's own words (its extended acknowledgement), where it gave any.
        note: Option<String>,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// The answer is none that the protocol describes.
    #[error("cannot {what}: the kernel's answer makes no sense: {why}")]
    Malformed {
        /// The operation and its object.
        what: String,
        /// What is wrong with the answer.
        why: &'static str,
    },
    /// What was asked for changed while it was being read, each time.
    #[error("cannot {what}: it changed while it was being read, {tries} times in a row")]
    Unsettled {
        /// The operation and its object.
        what: String,
        /// How often it was tried.
        tries: usize,
    },
    /// This kernel cannot answer for another namespace: ask through a socket made inside it.
    #[error("cannot {what}: this kernel answers only for the socket's own namespace")]
    Unsupported {
        /// The operation and its object.
        what: String,
    },
    /// The request makes no sense, and was not sent.
    #[error("cannot {what}: {why}")]
    Invalid {
        /// The operation and its object.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
}

impl Error {
    /// Wraps what a system call said into what was being done.
    pub(crate) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os { what: what.into(), note: None, source: source.into() }
    }

    /// The errno, if the error carries one.
    fn errno(&self) -> Option<i32> {
        match self {
            Error::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the kernel refused for want of rights (EPERM, EACCES).
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Netns(inner) => inner.is_permission(),
            _ => matches!(self.errno(), Some(libc::EPERM | libc::EACCES)),
        }
    }

    /// Whether the link, address, route or process is not there (ENODEV, ENOENT, ESRCH, ENXIO, EADDRNOTAVAIL).
    pub fn is_missing(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::ENXIO | libc::EADDRNOTAVAIL)
        )
    }

    /// Whether the kernel, or this part of it, cannot do that (EOPNOTSUPP, EAFNOSUPPORT).
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT))
            || matches!(self, Error::Unsupported { .. })
    }

    /// Whether the kernel took the request for one that makes no sense, as it does of a qdisc that is gone (EINVAL).
    pub fn is_invalid(&self) -> bool {
        self.errno() == Some(libc::EINVAL)
    }

    /// Whether there is one of that name already (EEXIST).
    pub fn already_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_error_names_operation_object_and_the_kernels_words() {
        let error = Error::Os {
            what: "create the veth pair a/b".into(),
            note: Some("Unknown device type".into()),
            source: io::Error::from_raw_os_error(libc::EEXIST),
        };
        assert_eq!(error.to_string(), "cannot create the veth pair a/b (Unknown device type)");
        assert_eq!(error.source().map(ToString::to_string), Some("File exists (os error 17)".into()));
        assert!(error.already_exists() && !error.is_missing() && !error.is_permission());
    }

    #[test]
    fn want_of_rights_is_seen_through_the_layers() {
        let inner = snorkel_netns::Error::os("enter", io::Error::from_raw_os_error(libc::EPERM));
        assert!(Error::from(inner).is_permission());
        assert!(Error::os("set link 3 up", io::Error::from_raw_os_error(libc::EPERM)).is_permission());
    }
}
