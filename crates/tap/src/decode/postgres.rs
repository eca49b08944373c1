//! PostgreSQL's protocol, version 3 (PostgreSQL 17 documentation, chapter 53): start, authentication, simple and extended
//! queries, errors, numbers of rows. What a password is said with is never kept.

use std::collections::VecDeque;

use super::bytes::{Bytes, text};
use super::frames::{Frame, Frames};
use super::{Decoder, Garbled, Kind, Output, Protocol, Said};
use crate::event::{Direction, Time};

/// How much of a message is read.
const KEPT: usize = 4096;
/// No message is longer (PQ_LARGE_MESSAGE_LIMIT, 1 GB).
const MAX_LENGTH: usize = 0x4000_0000;
/// How much of a statement is shown.
const SHOWN: usize = 1000;
const MAX_PENDING: usize = 65_536;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// A statement that waits for its end.
#[derive(Debug)]
struct Pending {
    text: String,
    begun: Time,
}

#[derive(Debug)]
pub(crate) struct Postgres {
    frames: [Frames; 2],
    /// The client has not said its first whole message, which has no type.
    starting: bool,
    /// The client asked for encryption, and the server answers with one byte.
    asked_ssl: bool,
    pending: VecDeque<Pending>,
    /// Prepared statements by name, as far as they were seen.
    prepared: VecDeque<(String, String)>,
    /// What the portal that was bound last will execute.
    bound: String,
    rows: u64,
    next: Option<(Protocol, usize)>,
}

impl Postgres {
    pub(crate) fn new() -> Postgres {
        Postgres {
            frames: Default::default(),
            starting: true,
            asked_ssl: false,
            pending: VecDeque::new(),
            prepared: VecDeque::new(),
            bound: String::new(),
            rows: 0,
            next: None,
        }
    }

    fn start(&mut self, frame: &Frame, out: &mut Output<'_>) -> Result<(), Garbled> {
        let mut body = Bytes(&frame.body);
        let note = |text: String| Said::new(Direction::ToServer, Protocol::Postgres, Kind::Note, text);
        match body.u32()? {
            SSL_REQUEST => {
                self.asked_ssl = true;
                out.say(note("asks for TLS".to_owned()));
            }
            GSS_REQUEST => {
                self.asked_ssl = true;
                out.say(note("asks for GSSAPI encryption".to_owned()));
            }
            CANCEL => out.say(note("asks to cancel what another connection does".to_owned())),
            version if version >> 16 == 3 => {
                let mut parameters = Vec::new();
                while let Ok(name) = body.text_z() {
                    if name.is_empty() {
                        break;
                    }
                    let value = body.text_z()?;
                    parameters.push((text(name, 64), text(value, 256)));
                }
                let get = |wanted: &str| {
                    parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
                };
                let user = get("user").unwrap_or_default();
                let database = get("database").unwrap_or_else(|| user.clone());
                out.say(
                    note(format!("starts as {user} on {database}"))
                        .with("user", user)
                        .with("database", database)
                        .with("headers", parameters),
                );
                self.starting = false;
            }
            _ => return Err(Garbled("the version is not 3")),
        }
        Ok(())
    }

    fn pend(&mut self, text: String, time: Time) -> Result<(), Garbled> {
        if self.pending.len() >= MAX_PENDING {
            return Err(Garbled("queries without answers"));
        }
        self.pending.push_back(Pending { text, begun: time });
        Ok(())
    }

    fn client_says(&mut self, frame: &Frame, time: Time, out: &mut Output<'_>) -> Result<(), Garbled> {
        let mut body = Bytes(&frame.body);
        let said = |kind, text: String| Said::new(Direction::ToServer, Protocol::Postgres, kind, text);
        match frame.head[0] {
            b'Q' => {
                let query = statement(frame, &mut body);
                out.say(said(Kind::Request, query.clone()).with("query", query.clone()));
                self.pend(query, time)?;
            }
            b'P' => {
                let name = text(body.text_z()?, 64);
                let query = statement(frame, &mut body);
                let line =
                    if name.is_empty() { format!("parse {query}") } else { format!("parse {name}: {query}") };
                out.say(said(Kind::Note, line).with("query", query.clone()));
                self.prepared.retain(|(known, _)| *known != name);
                if self.prepared.len() >= 256 {
                    self.prepared.pop_front();
                }
                self.prepared.push_back((name, query));
            }
            b'B' => {
                let _portal = body.text_z()?;
                let name = text(body.text_z()?, 64);
                let known = self.prepared.iter().find(|(known, _)| *known == name);
                self.bound = known.map_or_else(|| format!("statement {name}"), |(_, query)| query.clone());
            }
            b'E' => {
                let query = self.bound.clone();
                out.say(said(Kind::Request, query.clone()).with("query", query.clone()));
                self.pend(query, time)?;
            }
            b'F' => {
                out.say(said(Kind::Request, "function call".to_owned()));
                self.pend("function call".to_owned(), time)?;
            }
            b'X' => out.say(said(Kind::Note, "says good-bye".to_owned())),
            // A password, or an answer to a question about one.
            b'p' => out.say(said(Kind::Note, "authenticates with ***".to_owned())),
            b'f' => out.say(said(Kind::Note, "copy failed".to_owned())),
            b'd' | b'c' | b'C' | b'D' | b'H' | b'S' => {}
            _ => return Err(Garbled("a message has an unknown type")),
        }
        Ok(())
    }

    fn server_says(&mut self, frame: &Frame, time: Time, out: &mut Output<'_>) -> Result<(), Garbled> {
        let mut body = Bytes(&frame.body);
        let said = |kind, text: String| Said::new(Direction::ToClient, Protocol::Postgres, kind, text);
        match frame.head[0] {
            b'R' => match body.u32()? {
                0 => out.say(said(Kind::Note, "authenticated".to_owned())),
                3 => out.say(said(Kind::Note, "asks for a password in clear".to_owned())),
                5 => out.say(said(Kind::Note, "asks for a password, MD5".to_owned())),
                10 => {
                    let mechanism = text(body.text_z().unwrap_or_default(), 64);
                    out.say(said(Kind::Note, format!("asks for a password, {mechanism}")));
                }
                _ => {}
            },
            b'D' => self.rows += 1,
            b'C' => {
                let tag = text(body.text_z()?, 64);
                let rows = std::mem::take(&mut self.rows);
                let pending = self.pending.front();
                let took = pending.map(|pending| time.since(pending.begun));
                let affected = tag.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
                let mut answer = said(Kind::Response, tag).took(took).with("rows", affected.unwrap_or(rows));
                if let Some(pending) = pending {
                    answer = answer.with("query", pending.text.clone());
                }
                out.say(answer);
                // A simple query may hold several statements: it is over when the server is ready. An extended one is
                // over here.
                if self.pending.len() > 1 {
                    self.pending.pop_front();
                }
            }
            b'I' | b's' => {
                let took = self.pending.front().map(|pending| time.since(pending.begun));
                let what = if frame.head[0] == b'I' { "empty query" } else { "more rows follow" };
                out.say(
                    said(Kind::Response, what.to_owned())
                        .took(took)
                        .with("rows", std::mem::take(&mut self.rows)),
                );
            }
            kind @ (b'E' | b'N') => {
                let (mut severity, mut code, mut message) = (String::new(), String::new(), String::new());
                while let Ok(field) = body.u8() {
                    if field == 0 {
                        break;
                    }
                    let Ok(value) = body.text_z() else { break };
                    match field {
                        b'S' => severity = text(value, 32),
                        b'C' => code = text(value, 8),
                        b'M' => message = text(value, 500),
                        _ => {}
                    }
                }
                self.rows = 0;
                let line = format!("{severity} {code}: {message}");
                if kind == b'N' {
                    out.say(said(Kind::Note, line));
                } else {
                    let took = self.pending.front().map(|pending| time.since(pending.begun));
                    let mut answer =
                        said(Kind::Response, line).took(took).with("code", code).with("error", message);
                    if let Some(pending) = self.pending.front() {
                        answer = answer.with("query", pending.text.clone());
                    }
                    out.say(answer);
                }
            }
            b'Z' => self.pending.clear(),
            b'A' => {
                let _pid = body.u32()?;
                out.say(said(Kind::Note, format!("notification on {}", text(body.text_z()?, 64))));
            }
            // Parameters, keys, descriptions, confirmations, copies, negotiation.
            b'S' | b'K' | b'T' | b't' | b'n' | b'1' | b'2' | b'3' | b'G' | b'H' | b'W' | b'd' | b'c'
            | b'V' | b'v' => {}
            _ => return Err(Garbled("a message has an unknown type")),
        }
        Ok(())
    }
}

/// A statement as it may be shown: one that sets a password is not.
fn statement(frame: &Frame, body: &mut Bytes<'_>) -> String {
    let cut = frame.length > frame.body.len();
    let whole = match body.text_z() {
        Ok(query) => text(query, SHOWN),
        // It goes on behind what was kept.
        Err(_) if cut => format!("{}…", text(body.0, SHOWN)),
        Err(_) => text(body.0, SHOWN),
    };
    without_password(&whole)
}

/// `ALTER ROLE me PASSWORD '***'`.
pub(super) fn without_password(query: &str) -> String {
    let lower = query.to_ascii_lowercase();
    for word in ["password", "identified by", "identified with"] {
        if let Some(at) = lower.find(word) {
            let behind = at + word.len();
            if query[behind..].contains(['\'', '"', '$']) {
                return format!("{} ***", &query[..behind]);
            }
        }
    }
    query.to_owned()
}

impl Decoder for Postgres {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut input = bytes;
        if direction == Direction::ToClient && self.asked_ssl {
            let Some((answer, rest)) = input.split_first() else { return Ok(()) };
            self.asked_ssl = false;
            let note = |text: &str| Said::new(direction, Protocol::Postgres, Kind::Note, text);
            match answer {
                b'S' => {
                    out.say(note("goes on with TLS"));
                    self.next = Some((Protocol::Tls, rest.len()));
                    return Ok(());
                }
                b'G' => {
                    out.say(note("goes on with GSSAPI encryption"));
                    self.next = Some((Protocol::Raw, rest.len()));
                    return Ok(());
                }
                b'N' => {
                    out.say(note("goes on in clear"));
                    input = rest;
                }
                // An old server answers with an error message.
                b'E' => {}
                _ => return Err(Garbled("no answer to the question for encryption")),
            }
        }
        loop {
            let starting = self.starting && direction == Direction::ToServer;
            let head = if starting { 4 } else { 5 };
            let length = |head: &[u8]| {
                let length = head.last_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
                let most = if starting { 10_000 } else { MAX_LENGTH };
                match length.checked_sub(4) {
                    Some(length) if length <= most => Ok(length),
                    _ => Err(Garbled("a message has an impossible length")),
                }
            };
            let Some(frame) = self.frames[direction.index()].next(&mut input, head, KEPT, length)? else {
                return Ok(());
            };
            match direction {
                _ if starting => self.start(&frame, out)?,
                Direction::ToServer => self.client_says(&frame, time, out)?,
                Direction::ToClient => self.server_says(&frame, time, out)?,
            }
        }
    }

    fn next(&mut self) -> Option<(Protocol, usize)> {
        self.next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::all_ways;
    use super::*;
    use Direction::{ToClient, ToServer};

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend((body.len() as u32 + 4).to_be_bytes());
        message.extend(body);
        message
    }

    fn start(body: &[u8]) -> Vec<u8> {
        message(0, body)[1..].to_vec()
    }

    #[test]
    fn a_session_is_read_and_its_password_is_not() {
        let hello = [&196_608u32.to_be_bytes()[..], b"user\0me\0database\0shop\0\0"].concat();
        let client = [message(b'p', b"topsecret\0"), message(b'Q', b"SELECT 1\0")].concat();
        let rows = [
            message(b'T', b"\0\0"),
            message(b'D', b"\0\x01"),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ]
        .concat();
        let extended = [
            message(b'P', b"s1\0UPDATE t SET a = $1\0\0\0"),
            message(b'B', b"\0s1\0\0\0\0\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat();
        let updated =
            [message(b'1', b""), message(b'2', b""), message(b'C', b"UPDATE 3\0"), message(b'Z', b"I")]
                .concat();
        let wrong = message(b'Q', b"SELEC\0");
        let error = [message(b'E', b"SERROR\0C42601\0Msyntax error\0\0"), message(b'Z', b"I")].concat();
        let said = all_ways(
            None,
            &[
                (ToServer, &start(&SSL_REQUEST.to_be_bytes())),
                (ToClient, b"N"),
                (ToServer, &start(&hello)),
                (ToClient, &message(b'R', &3u32.to_be_bytes())),
                (ToServer, &client),
                (ToClient, &message(b'R', &0u32.to_be_bytes())),
                (ToClient, &rows),
                (ToServer, &extended),
                (ToClient, &updated),
                (ToServer, &wrong),
                (ToClient, &error),
                (ToServer, &message(b'X', b"")),
            ],
        );
        assert_eq!(
            said,
            [
                "→ asks for TLS",
                "← goes on in clear",
                "→ starts as me on shop",
                "← asks for a password in clear",
                "→ authenticates with ***",
                "→ SELECT 1",
                "← authenticated",
                "← SELECT 1",
                "→ parse s1: UPDATE t SET a = $1",
                "→ UPDATE t SET a = $1",
                "← UPDATE 3",
                "→ SELEC",
                "← ERROR 42601: syntax error",
                "→ says good-bye",
            ]
        );
    }

    #[test]
    fn statements_that_set_a_password_do_not_show_it() {
        for (typed, shown) in [
            ("ALTER ROLE me PASSWORD 'secret'", "ALTER ROLE me PASSWORD ***"),
            ("CREATE USER u IDENTIFIED BY 'secret'", "CREATE USER u IDENTIFIED BY ***"),
            ("SELECT password FROM t", "SELECT password FROM t"),
        ] {
            assert_eq!(without_password(typed), shown);
        }
    }

    #[test]
    fn what_is_no_postgres_is_raw_from_there() {
        let hello = start(&[&196_608u32.to_be_bytes()[..], b"user\0me\0\0"].concat());
        for garbage in [&b"\xff\0\0\0\x04"[..], b"Q\0\0\0\x01"] {
            let said = all_ways(None, &[(ToServer, &hello), (ToServer, garbage)]);
            assert!(said[1].contains("raw from here"), "{said:?}");
        }
    }
}
