//! What a decoder understood: one message, or one thing worth knowing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::event::Direction;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.0 and 1.1 (RFC 9112).
    Http1,
    /// HTTP/2 with prior knowledge, and gRPC over it (RFC 9113).
    Http2,
    /// DNS (RFC 1035).
    Dns,
    /// Redis (RESP2 and RESP3).
    Redis,
    /// PostgreSQL's protocol, version 3.
    Postgres,
    /// MySQL's and MariaDB's protocol.
    MySql,
    /// TLS (RFC 8446 and before), of which only what is not encrypted.
    Tls,
    /// Nothing that is known.
    Raw,
}

impl Protocol {
    const NAMES: [(&'static str, Protocol); 9] = [
        ("http", Protocol::Http1),
        ("http2", Protocol::Http2),
        ("grpc", Protocol::Http2),
        ("dns", Protocol::Dns),
        ("redis", Protocol::Redis),
        ("postgres", Protocol::Postgres),
        ("mysql", Protocol::MySql),
        ("tls", Protocol::Tls),
        ("raw", Protocol::Raw),
    ];

    /// What can be typed for `--as`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Protocol::NAMES.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http1 => "HTTP",
            Protocol::Http2 => "HTTP/2",
            Protocol::Dns => "DNS",
            Protocol::Redis => "Redis",
            Protocol::Postgres => "PostgreSQL",
            Protocol::MySql => "MySQL",
            Protocol::Tls => "TLS",
            Protocol::Raw => "raw",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        Protocol::NAMES.iter().find(|(name, _)| *name == text).map(|(_, protocol)| *protocol).ok_or_else(
            || format!("no decoder '{text}'; there are {}", Protocol::names().collect::<Vec<_>>().join(", ")),
        )
    }
}

/// What kind of thing was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something is wanted.
    Request,
    /// An answer.
    Response,
    /// A request and its answer are complete.
    Exchange,
    /// Something else worth knowing.
    Note,
    /// The decoder gives up.
    Raw,
    /// Bytes that no decoder understands.
    Bytes,
}

/// A value beside the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number: of bytes, rows, nanoseconds.
    Number(u64),
    /// A text.
    Text(String),
    /// Names and values in their order, as of a header.
    Pairs(Vec<(String, String)>),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Who said it to whom.
    pub direction: Direction,
    /// In which protocol.
    pub protocol: Protocol,
    /// What kind of thing.
    pub kind: Kind,
    /// What: `GET /index.html`, `SET a b`, `200 OK`. It is not made safe for a terminal.
    pub text: String,
    /// How long after what it answers.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nanoseconds")]
    pub took: Option<Duration>,
    /// Which one it is where several are under way at once: a stream, a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<u64>,
    /// More, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<&'static str, Value>,
    /// The bytes of [`Kind::Bytes`].
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

fn nanoseconds<S: serde::Serializer>(took: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(took.map_or(0, |took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)))
}

impl Said {
    pub(crate) fn new(direction: Direction, protocol: Protocol, kind: Kind, text: impl Into<String>) -> Said {
        Said {
            direction,
            protocol,
            kind,
            text: text.into(),
            took: None,
            stream: None,
            fields: BTreeMap::new(),
            bytes: Vec::new(),
        }
    }

    pub(crate) fn took(mut self, took: Option<Duration>) -> Said {
        self.took = took;
        self
    }

    pub(crate) fn stream(mut self, stream: u64) -> Said {
        self.stream = Some(stream);
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Said {
        self.fields.insert(name, value.into());
        self
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

/// Nanoseconds.
impl From<Duration> for Value {
    fn from(span: Duration) -> Value {
        Value::Number(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<Vec<(String, String)>> for Value {
    fn from(pairs: Vec<(String, String)>) -> Value {
        Value::Pairs(pairs)
    }
}
