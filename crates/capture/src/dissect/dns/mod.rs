//! DNS (RFC 1035, RFC 6891, RFC 9460): questions and answers in tcpdump's notation, for multicast DNS and LLMNR too.

mod name;
mod record;

use serde::{Serialize, Serializer};

pub use self::name::Name;
pub use self::record::{Question, Record};
use super::bytes::{Bytes, be16};
use super::layers::{Layer, Next, Step, cut, end};
use super::text;

/// How many records of one message are shown: names may be compressed, so that a message can be far longer in text.
const MOST: usize = 64;

/// A message.
#[derive(Debug, Clone, Copy)]
pub struct Dns<'a> {
    /// Chosen by who asks; the answer repeats it.
    pub id: u16,
    /// The sixteen bits behind it, as on the wire.
    pub flags: u16,
    /// How many questions, answers, authorities and additional records there are, as the message says.
    pub counts: [u16; 4],
    /// Bytes of the message on the link.
    pub length: usize,
    message: &'a [u8],
}

/// The message in a datagram.
pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let (message, length) = (bytes.kept(), bytes.length());
    let Some(header) = bytes.array::<12>() else {
        // What has no room for a header is no message, and perhaps means to be something else.
        return if length < 12 { (None, Next::Done) } else { cut("domain") };
    };
    let counts = [4, 6, 8, 10].map(|at| be16(header, at));
    end(Layer::Dns(Dns { id: be16(header, 0), flags: be16(header, 2), counts, length, message }))
}

/// The message at the beginning of a segment: behind its length, if this is where one begins. A segment in the middle
/// of a long answer has no mark, so a length that leaves doubt needs a header that makes sense.
pub(crate) fn over_tcp<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let segment = bytes.length();
    let Some(length) = bytes.u16().map(usize::from) else { return (None, Next::Done) };
    let Some(header) = bytes.peek::<12>() else { return (None, Next::Done) };
    let sensible = header[3] & 0x70 == 0 && be16(header, 4) <= 1 && header[2] & 0x70 == 0;
    if length < 12 || (length + 2 != segment && !sensible) {
        return (None, Next::Done);
    }
    bytes.claim(length);
    parse(bytes)
}

impl<'a> Dns<'a> {
    /// Whether it is an answer.
    pub fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// What is asked for: 0 is a query, 4 a notification, 5 an update.
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11 & 15) as u8
    }

    /// How it went: 0 well, 2 the server failed, 3 no such name, 5 refused.
    pub fn rcode(&self) -> u8 {
        (self.flags & 15) as u8
    }

    /// Its questions, as far as they were kept.
    pub fn questions(&self) -> impl Iterator<Item = Question<'a>> + use<'a> {
        let (message, count) = (self.message, self.counts[0]);
        let mut at = 12;
        (0..count).map_while(move |_| {
            let (question, next) = Question::read(message, at)?;
            at = next;
            Some(question)
        })
    }

    /// Its answers, as far as they were kept.
    pub fn answers(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let (message, count) = (self.message, self.counts[1]);
        let mut at = Some(12);
        for _ in 0..self.counts[0] {
            let Some((_, next)) = at.and_then(|at| Question::read(message, at)) else {
                at = None;
                break;
            };
            at = Some(next);
        }
        (0..count).map_while(move |_| {
            let (record, next) = Record::read(message, at?)?;
            at = Some(next);
            Some(record)
        })
    }

    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "DNS ");
        text::decimal(out, u32::from(self.id));
        if self.opcode() != 0 {
            out.push(b' ');
            text::put(out, opcode(self.opcode()));
        }
        if self.is_response() {
            if self.rcode() != 0 {
                out.push(b' ');
                text::put(out, rcode(self.rcode()));
            }
            for (bit, set, mark) in
                [(0x400, true, b'*'), (0x80, false, b'-'), (0x200, true, b'|'), (0x20, true, b'$')]
            {
                if (self.flags & bit != 0) == set {
                    out.push(mark);
                }
            }
        } else {
            for (bit, mark) in [(0x100, b'+'), (0x10, b'%')] {
                if self.flags & bit != 0 {
                    out.push(mark);
                }
            }
            self.write_extra_counts(out);
        }
        let mut shown = 0;
        for question in self.questions().take(MOST) {
            text::put(out, if shown == 0 { " " } else { ", " });
            question.write(out);
            shown += 1;
        }
        if self.is_response() {
            for (at, count) in self.counts[1..].iter().enumerate() {
                out.push(if at == 0 { b' ' } else { b'/' });
                text::decimal(out, u32::from(*count));
            }
            for (at, record) in self.answers().take(MOST).enumerate() {
                text::put(out, if at == 0 { " " } else { ", " });
                record.write(out);
                shown += 1;
            }
        }
        let expected = usize::from(self.counts[0]);
        let expected = if self.is_response() { expected + usize::from(self.counts[1]) } else { expected };
        if shown < expected {
            text::put(out, if shown >= MOST { " ..." } else { " [|domain]" });
        }
        text::put(out, " (");
        text::length(out, self.length);
        out.push(b')');
    }

    /// A query in which anything but one question stands says so.
    fn write_extra_counts(&self, out: &mut Vec<u8>) {
        for (count, usual, word) in [
            (self.counts[0], 1, "q]"),
            (self.counts[1], 0, "a]"),
            (self.counts[2], 0, "n]"),
            (self.counts[3], 0, "au]"),
        ] {
            if count != usual {
                text::put(out, " [");
                text::decimal(out, u32::from(count));
                text::put(out, word);
            }
        }
    }
}

fn opcode(opcode: u8) -> &'static str {
    match opcode {
        1 => "inverse query",
        2 => "stat",
        4 => "notify",
        5 => "update",
        6 => "stateful",
        _ => "unknown operation",
    }
}

fn rcode(rcode: u8) -> &'static str {
    match rcode {
        0 => "NoError",
        1 => "FormErr",
        2 => "ServFail",
        3 => "NXDomain",
        4 => "NotImp",
        5 => "Refused",
        6 => "YXDomain",
        7 => "YXRRSet",
        8 => "NXRRSet",
        9 => "NotAuth",
        10 => "NotZone",
        _ => "unknown error",
    }
}

impl Serialize for Dns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            id: u16,
            response: bool,
            opcode: u8,
            rcode: &'static str,
            authoritative: bool,
            truncated: bool,
            recursion_desired: bool,
            recursion_available: bool,
            counts: [u16; 4],
            questions: Vec<Question<'a>>,
            answers: Vec<Record<'a>>,
            length: usize,
        }
        let bit = |bit: u16| self.flags & bit != 0;
        Fields {
            id: self.id,
            response: self.is_response(),
            opcode: self.opcode(),
            rcode: rcode(self.rcode()),
            authoritative: bit(0x400),
            truncated: bit(0x200),
            recursion_desired: bit(0x100),
            recursion_available: bit(0x80),
            counts: self.counts,
            questions: self.questions().take(MOST).collect(),
            answers: self.answers().take(MOST).collect(),
            length: self.length,
        }
        .serialize(serializer)
    }
}
