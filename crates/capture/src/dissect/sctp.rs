//! SCTP (RFC 9260): the common header and the chunks, each with the numbers that tell how an association fares.

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::bytes::{Bytes, be16, be32};
use super::layers::{Layer, Next, Step, cut, end};
use super::text;

/// How many chunks of one packet are shown.
const MOST: usize = 16;

/// A packet of SCTP.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sctp<'a> {
    /// Port it comes from.
    pub source: u16,
    /// Port it goes to.
    pub destination: u16,
    /// Verification tag.
    pub tag: u32,
    /// Bytes of the chunks' part that were kept.
    #[serde(serialize_with = "serialize_chunks")]
    pub chunks: &'a [u8],
    /// Bytes of the chunks.
    pub length: usize,
}

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The type: 0 DATA, 1 INIT, 3 SACK and so on.
    pub kind: u8,
    /// What it means depends on the type.
    pub flags: u8,
    /// Bytes with its header, as it says.
    pub length: u16,
    /// Its value, as far as it was kept.
    pub value: &'a [u8],
}

/// The chunks, one after the other; a length that cannot be ends them.
#[derive(Debug, Clone)]
pub struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (header, rest) = self.0.split_first_chunk::<4>()?;
        let length = be16(header, 2);
        let of_value = usize::from(length).checked_sub(4)?;
        self.0 = rest.get(of_value.next_multiple_of(4)..).unwrap_or_default();
        let value = rest.get(..of_value).unwrap_or(rest);
        Some(Chunk { kind: header[0], flags: header[1], length, value })
    }
}

pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<12>() else {
        return match bytes.array::<4>() {
            Some(ports) => (Some(Layer::Ports(be16(ports, 0), be16(ports, 2))), Next::Cut("sctp")),
            None => cut("sctp"),
        };
    };
    end(Layer::Sctp(Sctp {
        source: be16(header, 0),
        destination: be16(header, 2),
        tag: be32(header, 4),
        chunks: bytes.kept(),
        length: bytes.length(),
    }))
}

impl<'a> Sctp<'a> {
    /// Its chunks.
    pub fn chunks(&self) -> Chunks<'a> {
        Chunks(self.chunks)
    }

    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "SCTP");
        for chunk in self.chunks().take(MOST) {
            out.push(b' ');
            chunk.write(out);
        }
        if self.chunks.len() < self.length {
            text::put(out, " [|sctp]");
        }
    }
}

impl Chunk<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        text::put(
            out,
            match self.kind {
                0 => "DATA",
                1 => "INIT",
                2 => "INIT ACK",
                3 => "SACK",
                4 => "HB REQ",
                5 => "HB ACK",
                6 => "ABORT",
                7 => "SHUTDOWN",
                8 => "SHUTDOWN ACK",
                9 => "OP ERR",
                10 => "COOKIE ECHO",
                11 => "COOKIE ACK",
                12 => "ECN ECHO",
                13 => "CWR",
                14 => "SHUTDOWN COMPLETE",
                64 => "I-DATA",
                130 => "RE-CONFIG",
                192 => "FORWARD TSN",
                _ => "chunk ",
            },
        );
        if !matches!(self.kind, 0..=14 | 64 | 130 | 192) {
            text::decimal(out, u32::from(self.kind));
        }
        match self.kind {
            0 => {
                // Begin and end of a message, and whether it may overtake others.
                for (bit, letter) in [(2, b'B'), (1, b'E'), (4, b'U')] {
                    if self.flags & bit != 0 {
                        text::put(out, " ");
                        out.push(letter);
                    }
                }
                if let Some(head) = self.value.first_chunk::<12>() {
                    field(out, " tsn ", be32(head, 0));
                    field(out, " sid ", u32::from(be16(head, 4)));
                    field(out, " sseq ", u32::from(be16(head, 6)));
                    field(out, " ppid ", be32(head, 8));
                }
                field(out, " length ", u32::from(self.length.saturating_sub(16)));
            }
            1 | 2 => {
                if let Some(head) = self.value.first_chunk::<16>() {
                    field(out, " tag ", be32(head, 0));
                    field(out, " rwnd ", be32(head, 4));
                    field(out, " os ", u32::from(be16(head, 8)));
                    field(out, " mis ", u32::from(be16(head, 10)));
                    field(out, " tsn ", be32(head, 12));
                }
            }
            3 => {
                if let Some(head) = self.value.first_chunk::<12>() {
                    field(out, " ack ", be32(head, 0));
                    field(out, " rwnd ", be32(head, 4));
                    field(out, " gaps ", u32::from(be16(head, 8)));
                    field(out, " dups ", u32::from(be16(head, 10)));
                }
            }
            7 | 192 => {
                if let Some(head) = self.value.first_chunk::<4>() {
                    field(out, " ack ", be32(head, 0));
                }
            }
            _ => {}
        }
        out.push(b']');
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: u32) {
    text::put(out, name);
    text::decimal(out, value);
}

fn serialize_chunks<S: Serializer>(chunks: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for chunk in Chunks(chunks).take(MOST) {
        list.serialize_element(&text::string(|out| chunk.write(out)))?;
    }
    list.end()
}
