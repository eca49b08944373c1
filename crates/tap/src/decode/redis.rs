//! Redis: RESP2 and RESP3 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), and inline commands.
//!
//! A value is a tree whose leaves may be large. Of a command the first words are kept, of a reply its beginning; the
//! rest is counted.

use std::collections::VecDeque;

use super::bytes::text;
use super::lines::Lines;
use super::mask::MASK;
use super::{Decoder, Garbled, Kind, Output, Protocol, Said};
use crate::event::{Direction, Time};

/// A line is a number, a simple string or an inline command (64 KiB at most, PROTO_INLINE_MAX_SIZE).
const MAX_LINE: usize = 64 << 10;
/// How much of a bulk string is kept.
const KEPT: usize = 128;
/// How many leaves of a value are kept.
const LEAVES: usize = 24;
/// How deep a value may be.
const MAX_DEPTH: usize = 32;
/// Commands without a reply that are remembered.
const MAX_PENDING: usize = 65_536;

/// A value that is being read.
#[derive(Debug, Default)]
struct Reading {
    /// How many values are missing at each level.
    open: Vec<u64>,
    leaves: Vec<String>,
    more: u64,
    first: u8,
    /// The number behind the first type byte.
    count: Option<u64>,
    begun: bool,
}

/// Where one direction is.
#[derive(Debug, Default)]
struct Stream {
    lines: Lines,
    reading: Reading,
    /// A bulk string: bytes missing with the line's end, and what is kept of it.
    bulk: Option<(u64, Vec<u8>, u64)>,
}

/// A value that is complete.
#[derive(Debug)]
struct Whole {
    kind: u8,
    leaves: Vec<String>,
    more: u64,
    count: Option<u64>,
}

#[derive(Debug)]
struct Pending {
    name: String,
    begun: Time,
}

#[derive(Debug, Default)]
pub(crate) struct Redis {
    streams: [Stream; 2],
    pending: VecDeque<Pending>,
    /// Replies are not answers: messages come by themselves.
    subscribed: bool,
}

impl Redis {
    pub(crate) fn new() -> Redis {
        Redis::default()
    }
}

impl Stream {
    /// Takes as much as makes the next value.
    fn next(&mut self, direction: Direction, input: &mut &[u8]) -> Result<Option<Whole>, Garbled> {
        loop {
            if let Some((missing, kept, length)) = &mut self.bulk {
                let taken = (*missing).min(input.len() as u64) as usize;
                // The last two bytes end the line.
                let wanted = KEPT.min(usize::try_from(*length).unwrap_or(KEPT)).saturating_sub(kept.len());
                kept.extend_from_slice(&input[..wanted.min(taken)]);
                *input = &input[taken..];
                *missing -= taken as u64;
                if *missing > 0 {
                    return Ok(None);
                }
                let leaf = leaf(kept, *length);
                self.bulk = None;
                if let Some(whole) = self.leaf(leaf) {
                    return Ok(Some(whole));
                }
                continue;
            }
            let Some(line) = self.lines.next(input, MAX_LINE)? else { return Ok(None) };
            let (kind, rest) = match line.split_first() {
                Some((kind, rest)) => (*kind, rest),
                None if direction == Direction::ToServer && !self.reading.begun => continue,
                None => return Err(Garbled("a value has no type")),
            };
            let number = || -> Result<i64, Garbled> {
                std::str::from_utf8(rest)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or(Garbled("a length is no number"))
            };
            if !self.reading.begun {
                if direction == Direction::ToServer && kind != b'*' {
                    return inline(&line).map(Some);
                }
                self.reading.begun = true;
                self.reading.first = kind;
            }
            let depth = self.reading.open.len();
            let whole = match kind {
                b'+' | b'-' | b':' | b',' | b'(' => self.leaf(leaf(rest, rest.len() as u64)),
                b'#' => self.leaf(if rest == b"t" { "true".into() } else { "false".into() }),
                b'_' => self.leaf("null".into()),
                b'$' | b'=' | b'!' => match number()? {
                    -1 => self.leaf("null".into()),
                    length @ 0..=0x2000_0000 => {
                        self.bulk = Some((length as u64 + 2, Vec::new(), length as u64));
                        None
                    }
                    _ => return Err(Garbled("a string has an impossible length")),
                },
                b'*' | b'~' | b'>' | b'%' | b'|' => match number()? {
                    -1 => self.leaf("null".into()),
                    0 => self.leaf("empty".into()),
                    count @ 1..=0x7fff_ffff => {
                        if depth >= MAX_DEPTH {
                            return Err(Garbled("a value is too deep"));
                        }
                        let pairs = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                        if depth == 0 {
                            self.reading.count = Some(count as u64);
                        }
                        // An attribute stands before the value that it belongs to (RESP3).
                        let behind = u64::from(kind == b'|');
                        self.reading.open.push(count as u64 * pairs + behind);
                        None
                    }
                    _ => return Err(Garbled("an array has an impossible length")),
                },
                _ => return Err(Garbled("a value has an unknown type")),
            };
            if whole.is_some() {
                return Ok(whole);
            }
        }
    }

    /// A leaf is complete; with it perhaps the whole value.
    fn leaf(&mut self, leaf: String) -> Option<Whole> {
        let reading = &mut self.reading;
        if reading.leaves.len() < LEAVES {
            reading.leaves.push(leaf)
        } else {
            reading.more += 1
        }
        while let Some(missing) = reading.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return None;
            }
            reading.open.pop();
        }
        let Reading { leaves, more, first, count, .. } = std::mem::take(reading);
        Some(Whole { kind: first, leaves, more, count })
    }
}

fn leaf(kept: &[u8], length: u64) -> String {
    let shown = text(kept, KEPT);
    if length > kept.len() as u64 && !shown.ends_with('…') {
        format!("{shown}… ({length} bytes)")
    } else {
        shown
    }
}

fn inline(line: &[u8]) -> Result<Whole, Garbled> {
    if !line.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | 0x80..)) {
        return Err(Garbled("an inline command has control characters"));
    }
    let words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    Ok(Whole {
        kind: b'*',
        leaves: words.map(|word| text(word, KEPT)).take(LEAVES).collect(),
        more: 0,
        count: None,
    })
}

/// The words of a command as they may be shown (AUTH, HELLO … AUTH, CONFIG SET requirepass, ACL SETUSER, MIGRATE … AUTH).
fn masked(words: &[String]) -> Vec<String> {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word));
    let mut shown = words.to_vec();
    let secret_from = if is(0, "AUTH") {
        Some(if words.len() > 2 { 2 } else { 1 })
    } else if is(0, "CONFIG") && is(1, "SET") {
        words
            .iter()
            .position(|w| {
                ["requirepass", "masterauth", "masteruser", "tls-key-file-pass"]
                    .iter()
                    .any(|s| w.eq_ignore_ascii_case(s))
            })
            .map(|at| at + 1)
    } else if is(0, "ACL") && is(1, "SETUSER") {
        Some(3)
    } else {
        None
    };
    if let Some(from) = secret_from {
        shown.iter_mut().skip(from).for_each(|word| *word = MASK.to_owned());
    }
    let is_auth = |word: &String| word.eq_ignore_ascii_case("AUTH") || word.eq_ignore_ascii_case("AUTH2");
    if (is(0, "HELLO") || is(0, "MIGRATE"))
        && let Some(at) = words.iter().position(is_auth)
    {
        let user = usize::from(is(0, "HELLO") || words[at].eq_ignore_ascii_case("AUTH2"));
        if let Some(word) = shown.get_mut(at + 1 + user) {
            *word = MASK.to_owned();
        }
    }
    shown
}

impl Decoder for Redis {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut input = bytes;
        while let Some(whole) = self.streams[direction.index()].next(direction, &mut input)? {
            match direction {
                Direction::ToServer => self.command(time, &whole, out)?,
                Direction::ToClient => self.reply(time, &whole, out),
            }
        }
        Ok(())
    }
}

impl Redis {
    fn command(&mut self, time: Time, whole: &Whole, out: &mut Output<'_>) -> Result<(), Garbled> {
        let words = if out.show_secrets { whole.leaves.clone() } else { masked(&whole.leaves) };
        let Some(name) = words.first().map(|name| name.to_ascii_uppercase()) else { return Ok(()) };
        self.subscribed |=
            matches!(name.as_str(), "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "MONITOR" | "SYNC" | "PSYNC");
        let mut line = name.clone();
        for word in &words[1..] {
            line.push(' ');
            line.push_str(&quoted(word));
        }
        if whole.more > 0 {
            line.push_str(&format!(" … ({} more)", whole.more));
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Garbled("commands without replies"));
        }
        self.pending.push_back(Pending { name: name.clone(), begun: time });
        out.say(Said::new(Direction::ToServer, Protocol::Redis, Kind::Request, line).with("command", name));
        Ok(())
    }

    fn reply(&mut self, time: Time, whole: &Whole, out: &mut Output<'_>) {
        let push = whole.kind == b'>' || self.subscribed;
        let pending = if push && self.pending.is_empty() { None } else { self.pending.pop_front() };
        // CONFIG GET requirepass tells the password.
        let secret =
            !out.show_secrets && pending.as_ref().is_some_and(|p| p.name == "CONFIG" || p.name == "ACL");
        let shown = match whole.kind {
            b'*' | b'~' | b'>' | b'%' | b'|' if secret => {
                format!("{MASK} ({} values)", whole.count.unwrap_or(0))
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let more =
                    if whole.more > 0 { format!(", … ({} more)", whole.more) } else { String::new() };
                format!(
                    "[{}{more}]",
                    whole.leaves.iter().map(|leaf| quoted(leaf)).collect::<Vec<_>>().join(", ")
                )
            }
            b'-' | b'!' => format!("error: {}", whole.leaves.first().map_or("", |leaf| leaf)),
            _ => whole.leaves.first().cloned().unwrap_or_default(),
        };
        let kind = if pending.is_some() { Kind::Response } else { Kind::Note };
        let mut said = Said::new(Direction::ToClient, Protocol::Redis, kind, shown)
            .took(pending.as_ref().map(|pending| time.since(pending.begun)));
        if matches!(whole.kind, b'-' | b'!') {
            said = said.with("error", whole.leaves.first().cloned().unwrap_or_default());
        }
        if let Some(pending) = pending {
            said = said.with("command", pending.name);
        }
        out.say(said);
    }
}

/// A word with a space in it stands in quotes.
fn quoted(word: &str) -> String {
    if word.is_empty() || word.contains([' ', '"', '\r', '\n', '\t']) {
        format!("{word:?}")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::all_ways;
    use super::*;
    use Direction::{ToClient, ToServer};

    #[test]
    fn commands_and_replies_of_both_versions_are_read() {
        let said = all_ways(
            None,
            &[
                (ToServer, b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
                (ToClient, b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"),
                (ToServer, b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$3\r\nb c\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
                (ToClient, b"+OK\r\n$3\r\nb c\r\n"),
                (ToServer, b"PING\r\n*1\r\n$4\r\nWHAT\r\n"),
                (ToClient, b"+PONG\r\n-ERR unknown command\r\n"),
                (ToServer, b"*2\r\n$4\r\nMGET\r\n$1\r\nx\r\n"),
                (ToClient, b"*3\r\n$-1\r\n*1\r\n:7\r\n#t\r\n"),
                (ToClient, b">2\r\n+message\r\n+x\r\n"),
            ],
        );
        assert_eq!(
            said,
            [
                "→ HELLO 3",
                "← [server, redis, proto, 3]",
                "→ SET a \"b c\"",
                "→ GET a",
                "← OK",
                "← b c",
                "→ PING",
                "→ WHAT",
                "← PONG",
                "← error: ERR unknown command",
                "→ MGET x",
                "← [null, 7, true]",
                "← [message, x]",
            ]
        );
    }

    #[test]
    fn passwords_are_masked() {
        for (command, shown) in [
            ("AUTH secret", "AUTH ***"),
            ("AUTH me secret", "AUTH me ***"),
            ("HELLO 3 AUTH me secret", "HELLO 3 AUTH me ***"),
            ("CONFIG SET requirepass secret", "CONFIG SET requirepass ***"),
            ("ACL SETUSER me on >secret", "ACL SETUSER me *** ***"),
            ("SET secret x", "SET secret x"),
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(masked(&words).join(" "), shown);
        }
    }

    #[test]
    fn a_large_value_is_counted_and_not_kept() {
        let mut redis = Redis::new();
        let mut said = Vec::new();
        let mut out = Output { said: &mut said, show_secrets: false };
        redis.feed(ToServer, Time(0), b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n", &mut out).unwrap();
        for _ in 0..100 {
            redis.feed(ToServer, Time(0), &[b'x'; 10_000], &mut out).unwrap();
        }
        redis.feed(ToServer, Time(0), b"\r\n", &mut out).unwrap();
        assert!(said[0].text.ends_with("xxx… (1000000 bytes)\""), "{}", said[0].text);
        assert!(said[0].text.len() < 200);
    }

    #[test]
    fn what_is_no_redis_is_raw_from_there() {
        for garbage in [&b"*2\r\n?\r\n"[..], b"*x\r\n", b"$-7\r\n", b"*1\r\n$99999999999\r\n"] {
            let said = all_ways(Some(Protocol::Redis), &[(ToClient, garbage)]);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("raw from here"), "{said:?}");
        }
    }
}
