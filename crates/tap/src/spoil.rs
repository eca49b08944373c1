//! What a tap does to connections on purpose: makes them late, slow, cut into pieces, silent, or dead.
//!
//! Every decision that is left to chance comes from a seed and the number of the connection, so that a run can be had
//! again.

use std::time::{Duration, Instant};

use crate::decode::{Kind, Protocol, Said};
use crate::event::{ConnectionId, Direction};

/// How many bytes may wait in a direction because they are held back.
pub(crate) const HELD: usize = 1 << 20;
/// The largest piece of `slice`.
const PIECE: u64 = 16;

/// When a connection is to be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// When so many bytes have been passed on, both ways together.
    Bytes(u64),
    /// So long after it was opened.
    Time(Duration),
}

/// What is done instead of passing a request on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// Both sides are reset.
    Reset,
    /// The tap answers: with this status (HTTP) or an error (Redis), and the connection ends.
    Respond(u16),
}

/// A rule for requests of decoded protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// With `*` for anything: `POST /pay`, `SET *`.
    pub pattern: String,
    /// What is done.
    pub instead: Instead,
}

/// What is to be spoilt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spoil {
    /// Answers come this much later.
    pub latency: Duration,
    /// Bytes a second in each direction of each connection; none: no limit.
    pub bandwidth: Option<u64>,
    /// Bytes arrive in pieces of a few.
    pub slice: bool,
    /// Connections are reset then.
    pub reset_after: Option<After>,
    /// The part of connections, 0 to 1, that is reset as soon as it is opened.
    pub drop: f64,
    /// Nothing is passed on.
    pub stall: bool,
    /// Requests that are not passed on.
    pub rules: Vec<Rule>,
    /// Where chance begins.
    pub seed: u64,
}

impl Spoil {
    /// Whether anything at all is to be done.
    pub fn is_some(&self) -> bool {
        *self != Spoil { seed: self.seed, ..Spoil::default() }
    }

    /// What is done instead of passing this on.
    pub(crate) fn instead(&self, said: &Said) -> Option<&Rule> {
        (said.kind == Kind::Request)
            .then(|| self.rules.iter().find(|rule| matches(&rule.pattern, &said.text)))
            .flatten()
    }
}

/// The answer of the tap itself, in the protocol of the request; none where there is no word for it.
pub(crate) fn answer(protocol: Protocol, status: u16) -> Option<Vec<u8>> {
    match protocol {
        Protocol::Http1 => {
            let body = "this answer was made by snorkel tap\n";
            Some(
                format!(
                    "HTTP/1.1 {status} {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    reason(status),
                    body.len()
                )
                .into_bytes(),
            )
        }
        Protocol::Redis => Some(format!("-ERR {status} by snorkel tap\r\n").into_bytes()),
        _ => None,
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Spoilt",
    }
}

/// Whether a text fits a pattern in which `*` stands for anything, also nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            back = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, from)) = back {
            back = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for pieces and parts of connections.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One connection's part of it.
#[derive(Debug)]
pub(crate) struct Course {
    chance: Chance,
    latency: Duration,
    bandwidth: Option<u64>,
    slice: bool,
    /// The line is busy until then, by direction.
    busy: [Instant; 2],
    /// How many bytes may still be read before it is reset.
    pub(crate) left: Option<u64>,
    /// When it is reset.
    pub(crate) until: Option<Instant>,
    /// Nothing is passed on.
    pub(crate) stall: bool,
}

/// A piece of bytes: how many, and not before when.
pub(crate) type Piece = (usize, Instant);

impl Course {
    /// For one connection; `Err` if it is to be reset at once.
    pub(crate) fn new(spoil: &Spoil, id: ConnectionId, now: Instant) -> Result<Course, ()> {
        let mut chance = Chance(spoil.seed ^ id.0.wrapping_mul(0xd134_2543_de82_ef95));
        // 53 bits make an even number between 0 and 1.
        if ((chance.next() >> 11) as f64) < spoil.drop * (1u64 << 53) as f64 {
            return Err(());
        }
        let (left, until) = match spoil.reset_after {
            Some(After::Bytes(bytes)) => (Some(bytes), None),
            Some(After::Time(span)) => (None, now.checked_add(span)),
            None => (None, None),
        };
        Ok(Course {
            chance,
            latency: spoil.latency,
            bandwidth: spoil.bandwidth,
            slice: spoil.slice,
            busy: [now; 2],
            left,
            until,
            stall: spoil.stall,
        })
    }

    /// Whether bytes go otherwise than at once.
    pub(crate) fn shapes(&self) -> bool {
        !self.latency.is_zero() || self.bandwidth.is_some() || self.slice
    }

    /// Into which pieces bytes that came now are cut, and when each may go.
    pub(crate) fn pieces(&mut self, direction: Direction, mut bytes: usize, now: Instant) -> Vec<Piece> {
        let latency = if direction == Direction::ToClient { self.latency } else { Duration::ZERO };
        let mut pieces = Vec::new();
        while bytes > 0 {
            let size = match (self.slice, self.bandwidth) {
                (true, _) => (1 + self.chance.next() % PIECE) as usize,
                // A twentieth of a second's worth: slow, and yet even.
                (false, Some(rate)) => usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1),
                (false, None) => bytes,
            };
            let size = size.min(bytes);
            let busy = &mut self.busy[direction.index()];
            let begin = (*busy).max(now);
            let takes = self
                .bandwidth
                .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(size as f64 / rate.max(1) as f64));
            // Pieces that go together would be put together again by whoever reads them.
            let apart = if self.slice { Duration::from_micros(500) } else { Duration::ZERO };
            *busy = begin + takes.max(apart);
            pieces.push((size, *busy + latency));
            bytes -= size;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fits) in [
            ("POST /pay", "POST /pay", true),
            ("POST /pay", "POST /pay/1", false),
            ("POST /pay*", "POST /pay/1", true),
            ("SET *", "SET a b", true),
            ("*", "", true),
            ("", "x", false),
            ("*a*b", "xxaxxbxb", true),
            ("*a*b", "xxaxxbxc", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn the_same_seed_drops_the_same_connections_and_about_as_many_as_asked() {
        let spoil = Spoil { drop: 0.1, seed: 7, ..Spoil::default() };
        let now = Instant::now();
        let dropped = |seed| {
            let spoil = Spoil { seed, ..spoil.clone() };
            (0..2000u64).filter(|id| Course::new(&spoil, ConnectionId(*id), now).is_err()).collect::<Vec<_>>()
        };
        assert_eq!(dropped(7), dropped(7));
        assert_ne!(dropped(7), dropped(8));
        // Six standard deviations around 200.
        assert!((120..280).contains(&dropped(7).len()), "{}", dropped(7).len());
    }

    proptest! {
        #[test]
        fn pieces_are_all_of_the_bytes_in_order_of_time(
            bytes in 0usize..100_000, slice: bool, rate in proptest::option::of(1000u64..10_000_000), ms in 0u64..500
        ) {
            let latency = Duration::from_millis(ms);
            let spoil = Spoil { latency, bandwidth: rate, slice, ..Spoil::default() };
            let now = Instant::now();
            let mut course = Course::new(&spoil, ConnectionId(1), now).unwrap();
            let pieces = course.pieces(Direction::ToClient, bytes, now);
            prop_assert_eq!(pieces.iter().map(|(size, _)| size).sum::<usize>(), bytes);
            prop_assert!(pieces.windows(2).all(|pair| pair[0].1 <= pair[1].1));
            prop_assert!(pieces.iter().all(|(size, due)| *size > 0 && *due >= now + latency));
            if let (Some(rate), Some((_, last))) = (rate, pieces.last()) {
                let least = Duration::from_secs_f64(bytes as f64 / rate as f64 * 0.99);
                prop_assert!(*last >= now + latency + least);
            }
        }
    }
}
