//! What can go wrong with a lab; each variant names the operation and its object.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use snorkel_netns::chain;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A lab of this name is up already, or on its way up, in this network namespace.
    #[error("lab {0} is already up")]
    AlreadyUp(String),
    /// No lab of this name is up in this network namespace.
    #[error("no lab {0} is up")]
    NoSuchLab(String),
    /// The specification asks for something that cannot be.
    #[error("a lab cannot be made like this: {0}")]
    Spec(String),
    /// A right is missing.
    #[error("{capability} is missing: it is needed to {what_for}")]
    Capability {
        /// Its name, as in capabilities(7).
        capability: String,
        /// The operation that the kernel refused.
        what_for: String,
    },
    /// The socket belongs to somebody whose word is not to be trusted.
    #[error("lab {name} is held by user {uid}, who is neither root nor the one who asks")]
    Stranger {
        /// The lab's name.
        name: String,
        /// Who holds it.
        uid: u32,
    },
    /// The executable that should have become the holder did not answer as one.
    #[error("{} does not work as the holder of a lab: {why}", exe.display())]
    Holder {
        /// The executable.
        exe: PathBuf,
        /// What it did instead.
        why: String,
    },
    /// The holder does not do what it was asked.
    #[error("the holder of lab {name} refuses: {why}")]
    Refused {
        /// The lab's name.
        name: String,
        /// In the holder's words.
        why: String,
    },
    /// The holder answered something that is not understood.
    #[error("the holder of lab {name} gave an answer that is not understood: {why}")]
    Garbled {
        /// The lab's name.
        name: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Processes of the lab were asked to end and are still there.
    #[error("lab {name} was taken down, but these processes are still there: {pids:?}")]
    Left {
        /// The lab's name.
        name: String,
        /// Who is left.
        pids: Vec<i32>,
    },
    /// The holder or a node could not do its part; the text is the whole chain of causes.
    #[error("{0}")]
    Failed(String),
    /// An error with a namespace.
    #[error(transparent)]
    Netns(#[from] snorkel_netns::Error),
    /// An error with rtnetlink.
    #[error(transparent)]
    Rtnl(#[from] snorkel_rtnl::Error),
    /// A system call failed.
    #[error("cannot {what}")]
    Os {
        /// The operation and its object.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Wraps what the kernel said into what was being done.
    pub(crate) fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Os { what: what.into(), source: source.into() }
    }

    /// As [`Error::os`], but a refusal becomes the capability that would have been needed.
    pub(crate) fn needing(capability: &str, what: &str, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        if source.raw_os_error() == Some(libc::EPERM) {
            Error::Capability { capability: capability.to_owned(), what_for: what.to_owned() }
        } else {
            Error::os(what, source)
        }
    }
}

/// An error on its way from a node to the holder, and from the holder to the one who called it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    AlreadyUp(String),
    Spec(String),
    Capability { capability: String, what_for: String },
    Failed(String),
}

impl Report {
    /// The error, with the name of the node that it happened to.
    pub(crate) fn of_node(node: &str, error: &Error) -> Report {
        match Report::from(error) {
            Report::Failed(text) => Report::Failed(format!("node {node}: {text}")),
            other => other,
        }
    }
}

impl From<&Error> for Report {
    fn from(error: &Error) -> Report {
        match error {
            Error::AlreadyUp(name) => Report::AlreadyUp(name.clone()),
            Error::Spec(why) => Report::Spec(why.clone()),
            Error::Capability { capability, what_for } => {
                Report::Capability { capability: capability.clone(), what_for: what_for.clone() }
            }
            other => Report::Failed(chain(other)),
        }
    }
}

impl From<Report> for Error {
    fn from(report: Report) -> Error {
        match report {
            Report::AlreadyUp(name) => Error::AlreadyUp(name),
            Report::Spec(why) => Error::Spec(why),
            Report::Capability { capability, what_for } => Error::Capability { capability, what_for },
            Report::Failed(text) => Error::Failed(text),
        }
    }
}
