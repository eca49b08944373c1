//! What is said on a connection, read from its bytes as they pass.
//!
//! A decoder is a state machine that is fed with (direction, time, bytes), in pieces of any size, and says what it
//! understood. It keeps a bounded amount of memory whatever comes. What it does not understand makes it give up, once:
//! from there on the connection is raw, and goes on as ever, since a decoder only looks.

mod bytes;
mod datagrams;
mod detect;
mod dns;
mod frames;
mod http1;
mod http2;
mod lines;
mod mask;
mod mysql;
mod postgres;
mod redis;
mod said;
mod tls;

pub use datagrams::Datagrams;
pub use said::{Kind, Protocol, Said, Value};

use crate::event::{Direction, Time};
use detect::Guess;

/// How much of a raw chunk is told.
const RAW_CHUNK: usize = 16 << 10;

/// What decoders do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The protocol; none: by what is seen.
    pub protocol: Option<Protocol>,
    /// Show passwords, cookies and their kin as they are.
    pub show_secrets: bool,
    /// Tell the bytes that no decoder understands.
    pub raw: bool,
}

/// A decoder does not understand what it was fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbled(pub(crate) &'static str);

/// Where a decoder puts what it understood.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub(crate) said: &'a mut Vec<Said>,
    pub(crate) show_secrets: bool,
}

impl Output<'_> {
    pub(crate) fn say(&mut self, said: Said) {
        self.said.push(said);
    }
}

/// One protocol's state machine.
pub(crate) trait Decoder: std::fmt::Debug + Send {
    /// Reads bytes of one direction.
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled>;

    /// How many bytes that come next in a direction it would only count, and need not be fed with.
    fn blind(&self, _direction: Direction) -> u64 {
        0
    }

    /// So many bytes have passed that it was not fed with; no more than it is blind for.
    fn pass(&mut self, _direction: Direction, _time: Time, _count: u64, _out: &mut Output<'_>) {}

    /// A direction has ended.
    fn finish(&mut self, _direction: Direction, _time: Time, _out: &mut Output<'_>) {}

    /// What follows speaks another protocol, because both agreed on it; and how many bytes of the last piece are of that.
    fn next(&mut self) -> Option<(Protocol, usize)> {
        None
    }
}

#[derive(Debug)]
enum State {
    /// Too little was seen to know.
    Unknown {
        seen: [Vec<u8>; 2],
    },
    Decoding {
        protocol: Protocol,
        decoder: Box<dyn Decoder>,
    },
    Raw,
}

/// One connection's conversation.
#[derive(Debug)]
pub struct Conversation {
    options: Options,
    state: State,
}

impl Conversation {
    /// A conversation that has not begun.
    pub fn new(options: &Options) -> Conversation {
        let state = match options.protocol.map(|protocol| (protocol, decoder(protocol))) {
            Some((protocol, Some(decoder))) => State::Decoding { protocol, decoder },
            Some((_, None)) => State::Raw,
            None => State::Unknown { seen: [Vec::new(), Vec::new()] },
        };
        Conversation { options: *options, state }
    }

    /// Reads bytes of one direction, in their order; what was said in them goes behind what is in `said`.
    pub fn feed(&mut self, direction: Direction, time: Time, bytes: &[u8], said: &mut Vec<Said>) {
        match &mut self.state {
            State::Raw => self.raw(direction, bytes, said),
            State::Decoding { .. } => self.decode(direction, time, bytes, said),
            State::Unknown { seen } => {
                let before = std::mem::take(&mut seen[direction.index()]);
                let mut all = before;
                all.extend_from_slice(bytes);
                match detect::guess(direction, &all, !seen[direction.opposite().index()].is_empty()) {
                    Guess::NotYet => seen[direction.index()] = all,
                    Guess::Is(protocol) => {
                        let other = std::mem::take(&mut seen[direction.opposite().index()]);
                        self.begin(protocol);
                        // Whoever spoke first has said too little to be known, and the other one answered.
                        self.feed_some(direction.opposite(), time, &other, said);
                        self.feed_some(direction, time, &all, said);
                    }
                    Guess::Nothing => {
                        let other = std::mem::take(&mut seen[direction.opposite().index()]);
                        self.state = State::Raw;
                        self.feed_some(direction.opposite(), time, &other, said);
                        self.feed_some(direction, time, &all, said);
                    }
                }
            }
        }
    }

    fn feed_some(&mut self, direction: Direction, time: Time, bytes: &[u8], said: &mut Vec<Said>) {
        if !bytes.is_empty() {
            self.feed(direction, time, bytes, said);
        }
    }

    /// A direction has ended.
    pub fn finish(&mut self, direction: Direction, time: Time, said: &mut Vec<Said>) {
        match &mut self.state {
            State::Decoding { decoder, .. } => {
                decoder.finish(
                    direction,
                    time,
                    &mut Output { said, show_secrets: self.options.show_secrets },
                );
            }
            State::Unknown { seen } => {
                let bytes = std::mem::take(&mut seen[direction.index()]);
                if !bytes.is_empty() {
                    self.state = State::Raw;
                    self.feed(direction, time, &bytes, said);
                }
            }
            State::Raw => {}
        }
    }

    /// How many bytes that come next in a direction nobody wants to see: [`Conversation::pass`] does as well for them.
    pub fn blind(&self, direction: Direction) -> u64 {
        match &self.state {
            State::Unknown { .. } => 0,
            State::Decoding { decoder, .. } => decoder.blind(direction),
            State::Raw => {
                if self.options.raw {
                    0
                } else {
                    u64::MAX
                }
            }
        }
    }

    /// So many bytes of one direction have passed unseen; no more than it is blind for.
    pub fn pass(&mut self, direction: Direction, time: Time, count: u64, said: &mut Vec<Said>) {
        if let State::Decoding { decoder, .. } = &mut self.state {
            decoder.pass(
                direction,
                time,
                count,
                &mut Output { said, show_secrets: self.options.show_secrets },
            );
        }
    }

    fn begin(&mut self, protocol: Protocol) {
        self.state = match decoder(protocol) {
            Some(decoder) => State::Decoding { protocol, decoder },
            None => State::Raw,
        };
    }

    fn decode(&mut self, direction: Direction, time: Time, bytes: &[u8], said: &mut Vec<Said>) {
        let State::Decoding { protocol, decoder } = &mut self.state else { return };
        let mut out = Output { said, show_secrets: self.options.show_secrets };
        match decoder.feed(direction, time, bytes, &mut out) {
            Ok(()) => {
                if let Some((next, left)) = decoder.next() {
                    self.begin(next);
                    self.feed_some(direction, time, &bytes[bytes.len() - left.min(bytes.len())..], said);
                }
            }
            Err(Garbled(why)) => {
                said.push(Said::new(direction, *protocol, Kind::Raw, format!("raw from here: {why}")));
                self.state = State::Raw;
                self.raw(direction, bytes, said);
            }
        }
    }

    fn raw(&mut self, direction: Direction, bytes: &[u8], said: &mut Vec<Said>) {
        if self.options.raw {
            for chunk in bytes.chunks(RAW_CHUNK) {
                let mut raw = Said::new(direction, Protocol::Raw, Kind::Bytes, String::new());
                raw.bytes = chunk.to_vec();
                said.push(raw);
            }
        }
    }
}

fn decoder(protocol: Protocol) -> Option<Box<dyn Decoder>> {
    Some(match protocol {
        Protocol::Http1 => Box::new(http1::Http1::new()),
        Protocol::Http2 => Box::new(http2::Http2::new()),
        Protocol::Dns => Box::new(dns::Dns::new()),
        Protocol::Redis => Box::new(redis::Redis::new()),
        Protocol::Postgres => Box::new(postgres::Postgres::new()),
        Protocol::MySql => Box::new(mysql::MySql::new()),
        Protocol::Tls => Box::new(tls::Tls::new()),
        Protocol::Raw => return None,
    })
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the decoders' tests share.

    use super::*;

    /// Feeds a conversation in these pieces; what was said.
    pub(crate) fn converse(protocol: Option<Protocol>, pieces: &[(Direction, &[u8])]) -> Vec<Said> {
        let mut conversation = Conversation::new(&Options { protocol, ..Options::default() });
        let mut said = Vec::new();
        for (at, (direction, bytes)) in pieces.iter().enumerate() {
            conversation.feed(*direction, Time(at as u64 * 1_000_000), bytes, &mut said);
        }
        said
    }

    /// The same, byte for byte.
    pub(crate) fn byte_by_byte(protocol: Option<Protocol>, pieces: &[(Direction, &[u8])]) -> Vec<Said> {
        let mut conversation = Conversation::new(&Options { protocol, ..Options::default() });
        let mut said = Vec::new();
        for (at, (direction, bytes)) in pieces.iter().enumerate() {
            for byte in *bytes {
                conversation.feed(*direction, Time(at as u64 * 1_000_000), &[*byte], &mut said);
            }
        }
        said
    }

    /// The same, byte for byte, but for those that need not be seen.
    pub(crate) fn as_blind(protocol: Option<Protocol>, pieces: &[(Direction, &[u8])]) -> Vec<Said> {
        let mut conversation = Conversation::new(&Options { protocol, ..Options::default() });
        let mut said = Vec::new();
        for (at, (direction, bytes)) in pieces.iter().enumerate() {
            let (time, mut rest) = (Time(at as u64 * 1_000_000), *bytes);
            while !rest.is_empty() {
                let blind = conversation.blind(*direction).min(rest.len() as u64) as usize;
                if blind > 0 {
                    conversation.pass(*direction, time, blind as u64, &mut said);
                } else {
                    conversation.feed(*direction, time, &rest[..1], &mut said);
                }
                rest = &rest[blind.max(1)..];
            }
        }
        said
    }

    /// `→ GET /x`: what was said, a line each.
    pub(crate) fn lines(said: &[Said]) -> Vec<String> {
        let arrow = |direction| if direction == Direction::ToServer { "→" } else { "←" };
        said.iter().map(|said| format!("{} {}", arrow(said.direction), said.text)).collect()
    }

    /// How the pieces are cut, and whether those pass unseen that need not be seen, must make no difference.
    pub(crate) fn all_ways(protocol: Option<Protocol>, pieces: &[(Direction, &[u8])]) -> Vec<String> {
        let whole = converse(protocol, pieces);
        for other in [byte_by_byte(protocol, pieces), as_blind(protocol, pieces)] {
            assert_eq!(lines(&whole), lines(&other));
        }
        lines(&whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Protocol; 8] = [
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Dns,
        Protocol::Redis,
        Protocol::Postgres,
        Protocol::MySql,
        Protocol::Tls,
        Protocol::Raw,
    ];

    proptest! {
        #[test]
        fn garbage_harms_no_decoder(
            pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
            which in 0usize..9,
            raw: bool,
        ) {
            let protocol = ALL.get(which).copied();
            let mut conversation = Conversation::new(&Options { protocol, raw, ..Options::default() });
            let mut said = Vec::new();
            for (to_server, bytes) in &pieces {
                let direction = if *to_server { Direction::ToServer } else { Direction::ToClient };
                let unseen = conversation.blind(direction).min(bytes.len() as u64);
                conversation.pass(direction, Time(1), unseen, &mut said);
                conversation.feed(direction, Time(1), &bytes[unseen as usize..], &mut said);
            }
            for direction in Direction::BOTH {
                conversation.finish(direction, Time(2), &mut said);
            }
            prop_assert!(said.iter().filter(|said| said.kind == Kind::Raw).count() <= 1);
        }
    }

    #[test]
    fn what_nobody_understands_is_told_whole_and_in_order() {
        let mut conversation = Conversation::new(&Options { raw: true, ..Options::default() });
        let mut said = Vec::new();
        for piece in [&b"\x01"[..], b"\x02", b"no protocol of this world\n"] {
            conversation.feed(Direction::ToServer, Time(0), piece, &mut said);
        }
        let all: Vec<u8> = said.iter().flat_map(|said| said.bytes.clone()).collect();
        assert_eq!(all, b"\x01\x02no protocol of this world\n");
    }
}
