//! What a tap tells: connections that open and end, what was said on them, and what it could not do.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// Nanoseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Time(pub u64);

impl Time {
    /// How long after `earlier`; nothing if it was before.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From who opened the connection.
    ToServer,
    /// From who was called.
    ToClient,
}

impl Direction {
    /// Both, in the order in which connections keep them.
    pub const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

    /// 0 or 1.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        }
    }
}

/// A number of a connection or a flow of datagrams, counted from 1 in one tap, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConnectionId(pub u64);

/// Who speaks with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// Who opened the connection.
    pub client: SocketAddr,
    /// What it wanted to reach.
    pub server: SocketAddr,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum End {
    /// Both said that they had nothing more to say.
    Closed,
    /// Nobody has said anything for a while: flows of datagrams know no other end.
    Idle,
    /// One of them reset it.
    Reset {
        /// By whom: the direction that it would have sent in.
        by: Direction,
    },
    /// The application did not take it.
    Refused {
        /// What the kernel said.
        error: String,
    },
    /// Another error on one side.
    Failed {
        /// What it was.
        error: String,
    },
    /// The tap ended it: by a rule, or because it was told to end.
    Cut {
        /// Why.
        why: String,
    },
}

/// The account of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes that were passed on, [to the server, to the client].
    pub bytes: [u64; 2],
    /// From the opening to the end, in nanoseconds.
    #[serde(serialize_with = "nanoseconds")]
    pub lasted: Duration,
    /// From the opening to the first byte of the answer; none if there was no answer.
    #[serde(serialize_with = "some_nanoseconds")]
    pub first_byte: Option<Duration>,
    /// How it ended.
    #[serde(flatten)]
    pub end: End,
}

fn nanoseconds<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

fn some_nanoseconds<S: serde::Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => nanoseconds(span, to),
        None => to.serialize_none(),
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A connection is there.
    Opened,
    /// Bytes were passed on; told only if they are wanted.
    Bytes {
        /// Which way.
        direction: Direction,
        /// How many bytes of this direction were told, or would have been had there been room, before these.
        offset: u64,
        /// Which; never empty.
        bytes: Vec<u8>,
    },
    /// TCP's urgent byte was passed on (RFC 6093); told only if bytes are wanted.
    Urgent {
        /// Which way.
        direction: Direction,
        /// How many bytes stand before it, as of [`What::Bytes`]: it is one of the direction's, and counted with them.
        offset: u64,
        /// Which.
        byte: u8,
    },
    /// A datagram was passed on; told only if bytes are wanted.
    Datagram {
        /// Which way.
        direction: Direction,
        /// What it carries, whole; that may be nothing.
        bytes: Vec<u8>,
    },
    /// A side has nothing more to say; told only if bytes are wanted.
    Finished {
        /// Which way.
        direction: Direction,
        /// How many bytes it has said.
        offset: u64,
    },
    /// What a decoder made of bytes.
    Said(crate::decode::Said),
    /// It is over.
    Ended(Summary),
}

/// Something that happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: Time,
    /// On which connection.
    pub connection: ConnectionId,
    /// Between whom.
    pub ends: Ends,
    /// What.
    pub what: What,
}

/// What a relay says to whoever shows it.
#[derive(Debug)]
pub enum Word {
    /// Something happened on a connection.
    Event(Event),
    /// Something that the user must know, once.
    Warning(String),
    /// How the relay itself fares.
    Note(String),
}

/// What became of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was taken.
    Yes,
    /// There was no room for it.
    NoRoom,
}

/// Where a relay tells what happens. What nobody takes in time is counted, not waited for.
pub struct Teller {
    to: Box<dyn FnMut(Word) -> Told + Send>,
    untold: u64,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").field("untold", &self.untold).finish_non_exhaustive()
    }
}

impl Teller {
    /// A teller that hands words to this function. The relay waits for it, and all its connections with it.
    pub fn new(to: impl FnMut(Word) -> Told + Send + 'static) -> Teller {
        Teller { to: Box::new(to), untold: 0 }
    }

    /// Tells it, if there is room.
    pub fn tell(&mut self, word: Word) {
        if (self.to)(word) == Told::NoRoom {
            self.untold += 1;
        }
    }

    /// How many words found no room.
    pub fn untold(&self) -> u64 {
        self.untold
    }
}
