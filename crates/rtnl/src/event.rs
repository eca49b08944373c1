//! A change that the kernel tells unasked.

use serde::{Deserialize, Serialize};

use crate::NsId;

/// Something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// Whether it is gone; else it is new, or other than it was.
    pub removed: bool,
    /// In which namespace; `None` is the subscription's own. Of a namespace id: in which namespace it was given.
    pub nsid: Option<NsId>,
}

/// What kind of thing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A link.
    Link,
    /// An address.
    Address,
    /// A route.
    Route,
    /// A neighbour.
    Neighbour,
    /// The id of a namespace.
    Nsid,
    /// It is not known what: events came faster than they were read, and some are lost. Look at everything again.
    Overrun,
}
