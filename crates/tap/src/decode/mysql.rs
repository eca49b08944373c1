//! MySQL's and MariaDB's protocol (MySQL internals, "Client/Server Protocol"): the greeting, who logs in, queries, and
//! what became of them. The answer to the greeting's challenge is never kept.

use std::collections::VecDeque;

use super::bytes::{Bytes, text};
use super::frames::{Frame, Frames};
use super::postgres::without_password;
use super::{Decoder, Garbled, Kind, Output, Protocol, Said};
use crate::event::{Direction, Time};

const KEPT: usize = 4096;
const SHOWN: usize = 1000;
const MAX_PENDING: usize = 65_536;

const CLIENT_CONNECT_WITH_DB: u32 = 1 << 3;
const CLIENT_PROTOCOL_41: u32 = 1 << 9;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_SECURE_CONNECTION: u32 = 1 << 15;
const CLIENT_LENENC: u32 = 1 << 21;
const CLIENT_DEPRECATE_EOF: u32 = 1 << 24;

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Login,
    Authentication,
    Commands,
}

/// What is read of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Its first packet.
    First,
    /// So many descriptions of columns are missing.
    Columns(u64),
    /// EOF behind them.
    EndOfColumns,
    Rows,
}

#[derive(Debug)]
struct Pending {
    text: String,
    begun: Time,
    /// The answer is a set of rows, or OK, or an error.
    is_query: bool,
}

#[derive(Debug)]
pub(crate) struct MySql {
    frames: [Frames; 2],
    phase: Phase,
    capabilities: u32,
    pending: VecDeque<Pending>,
    answer: Answer,
    rows: u64,
    next: Option<(Protocol, usize)>,
}

impl MySql {
    pub(crate) fn new() -> MySql {
        MySql {
            frames: Default::default(),
            phase: Phase::Greeting,
            capabilities: 0,
            pending: VecDeque::new(),
            answer: Answer::First,
            rows: 0,
            next: None,
        }
    }

    fn greeting(&mut self, frame: &Frame, out: &mut Output<'_>) -> Result<(), Garbled> {
        let mut body = Bytes(&frame.body);
        match body.u8()? {
            10 => {
                let version = text(body.text_z()?, 64);
                out.say(
                    Said::new(
                        Direction::ToClient,
                        Protocol::MySql,
                        Kind::Note,
                        format!("greets as {version}"),
                    )
                    .with("server_version", version),
                );
                self.phase = Phase::Login;
            }
            0xff => {
                out.say(Said::new(Direction::ToClient, Protocol::MySql, Kind::Response, error(&mut body)?))
            }
            _ => return Err(Garbled("the greeting is of an unknown version")),
        }
        Ok(())
    }

    /// Who logs in. `true`: the rest is TLS.
    fn login(&mut self, frame: &Frame, out: &mut Output<'_>) -> Result<bool, Garbled> {
        let mut body = Bytes(&frame.body);
        let low = body.u16_le()?;
        if u32::from(low) & CLIENT_PROTOCOL_41 == 0 {
            return Err(Garbled("the client is older than 4.1"));
        }
        let capabilities = u32::from(low) | u32::from(body.u16_le()?) << 16;
        self.capabilities = capabilities;
        body.take(4 + 1 + 23)?;
        let note = |text: String| Said::new(Direction::ToServer, Protocol::MySql, Kind::Note, text);
        if body.is_empty() && capabilities & CLIENT_SSL != 0 {
            out.say(note("goes on with TLS".to_owned()));
            return Ok(true);
        }
        let user = text(body.text_z()?, 64);
        // The challenge's answer.
        let length = if capabilities & (CLIENT_LENENC | CLIENT_SECURE_CONNECTION) != 0 {
            usize::from(body.u8()?)
        } else {
            body.0.iter().position(|byte| *byte == 0).unwrap_or(0) + 1
        };
        let database = match body.take(length) {
            Ok(_) if capabilities & CLIENT_CONNECT_WITH_DB != 0 => {
                body.text_z().map(|name| text(name, 64)).unwrap_or_default()
            }
            _ => String::new(),
        };
        let on = if database.is_empty() { String::new() } else { format!(" on {database}") };
        out.say(note(format!("logs in as {user}{on}")).with("user", user).with("database", database));
        self.phase = Phase::Authentication;
        Ok(false)
    }

    fn command(&mut self, frame: &Frame, time: Time, out: &mut Output<'_>) -> Result<(), Garbled> {
        let Some((command, rest)) = frame.body.split_first() else { return Ok(()) };
        let query = || without_password(&text(rest, SHOWN));
        let (line, is_query, answered) = match command {
            0x01 => {
                out.say(Said::new(Direction::ToServer, Protocol::MySql, Kind::Note, "says good-bye"));
                return Ok(());
            }
            0x02 => (format!("USE {}", text(rest, 64)), false, true),
            0x03 => (query(), true, true),
            0x04 => ("field list".to_owned(), false, true),
            0x09 => ("statistics".to_owned(), false, true),
            0x0e => ("ping".to_owned(), false, true),
            0x11 => ("change user".to_owned(), false, true),
            0x16 => (format!("prepare {}", query()), false, true),
            0x17 => {
                let number = Bytes(rest).u32_le()?;
                (format!("execute statement {number}"), true, true)
            }
            0x18 | 0x19 => ("".to_owned(), false, false),
            0x1a => ("reset statement".to_owned(), false, true),
            0x1f => ("reset connection".to_owned(), false, true),
            other @ 0..=0x20 => (format!("command {other}"), false, true),
            _ => return Err(Garbled("an unknown command")),
        };
        if !answered {
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Garbled("commands without answers"));
        }
        out.say(
            Said::new(Direction::ToServer, Protocol::MySql, Kind::Request, line.clone())
                .with("query", line.clone()),
        );
        self.answer = Answer::First;
        self.rows = 0;
        self.pending.push_back(Pending { text: line, begun: time, is_query });
        Ok(())
    }

    fn reply(&mut self, frame: &Frame, time: Time, out: &mut Output<'_>) -> Result<(), Garbled> {
        let mut body = Bytes(&frame.body);
        let first = frame.body.first().copied().unwrap_or(0);
        if self.phase == Phase::Authentication {
            let said = |text: String| Said::new(Direction::ToClient, Protocol::MySql, Kind::Note, text);
            match first {
                0 => {
                    out.say(said("logged in".to_owned()));
                    self.phase = Phase::Commands;
                }
                0xff => {
                    body.u8()?;
                    out.say(said(error(&mut body)?));
                }
                0xfe => out.say(said("asks for another way to log in".to_owned())),
                _ => {}
            }
            return Ok(());
        }
        let is_query = self.pending.front().is_some_and(|pending| pending.is_query);
        match self.answer {
            Answer::First if first == 0xff => {
                body.u8()?;
                let error = error(&mut body)?;
                self.done(error.clone(), Some(error), None, time, out);
            }
            Answer::First if !is_query => self.done("OK".to_owned(), None, None, time, out),
            Answer::First if first == 0 => {
                body.u8()?;
                let affected = length(&mut body)?;
                self.done("OK".to_owned(), None, Some(affected), time, out);
            }
            Answer::First if first == 0xfb => {
                self.done("asks for a local file".to_owned(), None, None, time, out)
            }
            Answer::First => {
                let columns = length(&mut body)?;
                self.answer = Answer::Columns(columns);
            }
            Answer::Columns(1) if self.capabilities & CLIENT_DEPRECATE_EOF != 0 => self.answer = Answer::Rows,
            Answer::Columns(0 | 1) => self.answer = Answer::EndOfColumns,
            Answer::Columns(left) => self.answer = Answer::Columns(left - 1),
            Answer::EndOfColumns => self.answer = Answer::Rows,
            Answer::Rows if first == 0xff => {
                body.u8()?;
                let error = error(&mut body)?;
                self.done(error.clone(), Some(error), None, time, out);
            }
            // EOF, or the OK that has taken its place: shorter than any row that begins so.
            Answer::Rows if first == 0xfe && frame.length < 0xff_ffff => {
                let rows = self.rows;
                self.done("rows".to_owned(), None, Some(rows), time, out);
            }
            Answer::Rows => self.rows += 1,
        }
        Ok(())
    }

    fn done(
        &mut self,
        line: String,
        error: Option<String>,
        rows: Option<u64>,
        time: Time,
        out: &mut Output<'_>,
    ) {
        let pending = self.pending.pop_front();
        self.answer = Answer::First;
        self.rows = 0;
        let mut said = Said::new(Direction::ToClient, Protocol::MySql, Kind::Response, line)
            .took(pending.as_ref().map(|pending| time.since(pending.begun)));
        if let Some(error) = error {
            said = said.with("error", error);
        }
        if let Some(rows) = rows {
            said = said.with("rows", rows);
        }
        if let Some(pending) = pending {
            said = said.with("query", pending.text);
        }
        out.say(said);
    }
}

/// `ERROR 1064 (42000): …`, behind the byte that says that it is one.
fn error(body: &mut Bytes<'_>) -> Result<String, Garbled> {
    let code = body.u16_le()?;
    let (state, message) = match body.0 {
        [b'#', rest @ ..] if rest.len() >= 5 => (text(&rest[..5], 5), &rest[5..]),
        rest => (String::new(), rest),
    };
    let state = if state.is_empty() { state } else { format!(" ({state})") };
    Ok(format!("ERROR {code}{state}: {}", text(message, 500)))
}

/// A length-encoded integer.
fn length(body: &mut Bytes<'_>) -> Result<u64, Garbled> {
    Ok(match body.u8()? {
        0xfc => u64::from(body.u16_le()?),
        0xfd => {
            let [a, b, c] = [body.u8()?, body.u8()?, body.u8()?];
            u64::from(u32::from_le_bytes([a, b, c, 0]))
        }
        0xfe => u64::from(body.u32_le()?) | u64::from(body.u32_le()?) << 32,
        small => u64::from(small),
    })
}

impl Decoder for MySql {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut input = bytes;
        loop {
            let length = |head: &[u8]| match head {
                [a, b, c, _] => Ok(u32::from_le_bytes([*a, *b, *c, 0]) as usize),
                _ => Ok(0),
            };
            let Some(frame) = self.frames[direction.index()].next(&mut input, 4, KEPT, length)? else {
                return Ok(());
            };
            match (direction, self.phase) {
                (Direction::ToClient, Phase::Greeting) => self.greeting(&frame, out)?,
                (Direction::ToServer, Phase::Login) => {
                    if self.login(&frame, out)? {
                        self.next = Some((Protocol::Tls, input.len()));
                        return Ok(());
                    }
                }
                (Direction::ToServer, Phase::Commands) => self.command(&frame, time, out)?,
                // More of what a password is said with.
                (Direction::ToServer, Phase::Authentication) => {}
                (Direction::ToServer, Phase::Greeting) => return Err(Garbled("the client speaks first")),
                (Direction::ToClient, _) => self.reply(&frame, time, out)?,
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

    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32).to_le_bytes();
        [&length[..3], &[number], body].concat()
    }

    #[test]
    fn a_session_is_read_and_its_password_is_not() {
        let capabilities = CLIENT_PROTOCOL_41 | CLIENT_CONNECT_WITH_DB | CLIENT_SECURE_CONNECTION;
        let login = [
            &capabilities.to_le_bytes()[..],
            &[0, 0, 0, 1, 33],
            &[0; 23],
            b"me\0",
            &[20],
            &[b's'; 20],
            b"shop\0",
        ]
        .concat();
        let rows = [
            packet(1, &[1]),
            packet(2, b"\x03def"),
            packet(3, &[0xfe, 0, 0, 2, 0]),
            packet(4, b"\x011"),
            packet(5, b"\x012"),
            packet(6, &[0xfe, 0, 0, 2, 0]),
        ]
        .concat();
        let said = all_ways(
            None,
            &[
                (ToClient, &packet(0, b"\x0a8.0.36\0rest of it")),
                (ToServer, &packet(1, &login)),
                (ToClient, &packet(2, &[0, 0, 0, 2, 0, 0, 0])),
                (ToServer, &packet(0, b"\x03SELECT a FROM t")),
                (ToClient, &rows),
                (ToServer, &packet(0, b"\x03UPDATE t SET a=1")),
                (ToClient, &packet(1, &[0, 7, 0, 2, 0, 0, 0])),
                (ToServer, &packet(0, b"\x03SELEC")),
                (ToClient, &packet(1, b"\xff\x28\x04#42000You have an error")),
                (ToServer, &packet(0, b"\x01")),
            ],
        );
        assert_eq!(
            said,
            [
                "← greets as 8.0.36",
                "→ logs in as me on shop",
                "← logged in",
                "→ SELECT a FROM t",
                "← rows",
                "→ UPDATE t SET a=1",
                "← OK",
                "→ SELEC",
                "← ERROR 1064 (42000): You have an error",
                "→ says good-bye",
            ]
        );
    }
}
