//! TCP (RFC 9293) and its options (RFC 7323, RFC 2018, RFC 8684 and others).

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::bytes::{Bytes, be16, be32};
use super::layers::{Layer, Next, Step, cut, end};
use super::line::View;
use super::{dns, http, text, tls};

/// A segment.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tcp<'a> {
    /// Port it comes from.
    pub source: u16,
    /// Port it goes to.
    pub destination: u16,
    /// Sequence number, as on the wire.
    pub seq: u32,
    /// Acknowledgement number, as on the wire, also where the flag is not set.
    pub ack: u32,
    /// The flags.
    pub flags: TcpFlags,
    /// Window, as on the wire: not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Bytes of payload by what IP says, kept or not.
    pub length: usize,
    /// The options' bytes that were kept.
    #[serde(serialize_with = "serialize_options", skip_serializing_if = "<[u8]>::is_empty")]
    pub options: &'a [u8],
    /// Whether all of the options were kept.
    #[serde(skip)]
    pub options_whole: bool,
    /// The payload's bytes that were kept.
    #[serde(skip)]
    pub payload: &'a [u8],
}

/// The flags of a segment: the byte of RFC 9293, and above it the bit that was NS and becomes AE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u16 = 0x01;
    /// The beginning of a connection.
    pub const SYN: u16 = 0x02;
    /// The end of a connection that went wrong.
    pub const RST: u16 = 0x04;
    /// Push.
    pub const PSH: u16 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u16 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x20;

    /// Whether any of these flags is set.
    #[inline]
    pub fn any(self, flags: u16) -> bool {
        self.0 & flags != 0
    }

    /// tcpdump's letters in tcpdump's order.
    #[inline]
    fn letters(self, out: &mut Vec<u8>) {
        match self.0 {
            0x10 => out.push(b'.'),
            0x18 => text::put(out, "P."),
            0 => text::put(out, "none"),
            other => {
                for (bit, letter) in b"FSRP.UEWe".iter().enumerate() {
                    if other & 1 << bit != 0 {
                        out.push(*letter);
                    }
                }
            }
        }
    }
}

impl Serialize for TcpFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::string(|out| self.letters(out)))
    }
}

/// One option of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// End of the list.
    End,
    /// Padding.
    Nop,
    /// Largest segment that the sender of the option takes.
    Mss(u16),
    /// By how many bits windows are to be shifted.
    WindowScale(u8),
    /// Selective acknowledgements are understood.
    SackPermitted,
    /// Blocks that arrived: pairs of four-byte edges, as on the wire.
    Sack(&'a [u8]),
    /// Value and echo.
    Timestamps(u32, u32),
    /// Any other kind, with its bytes.
    Other(u8, &'a [u8]),
    /// A length that cannot be: the list ends here.
    Bad,
}

/// The options of a segment, one after the other.
#[derive(Debug, Clone)]
pub struct TcpOptions<'a>(&'a [u8]);

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        let (&kind, rest) = self.0.split_first()?;
        if kind < 2 {
            self.0 = if kind == 0 { &[] } else { rest };
            return Some(if kind == 0 { TcpOption::End } else { TcpOption::Nop });
        }
        let value = rest
            .split_first()
            .and_then(|(&length, _)| self.0.get(2..usize::from(length)).map(|value| (value, length)));
        let Some((value, length)) = value else {
            self.0 = &[];
            return Some(TcpOption::Bad);
        };
        self.0 = self.0.get(usize::from(length)..).unwrap_or_default();
        Some(match (kind, value) {
            (2, &[high, low]) => TcpOption::Mss(u16::from_be_bytes([high, low])),
            (3, &[shift]) => TcpOption::WindowScale(shift),
            (4, []) => TcpOption::SackPermitted,
            (5, edges) if edges.len() % 8 == 0 => TcpOption::Sack(edges),
            (8, value) => match value.first_chunk::<8>() {
                Some(both) if value.len() == 8 => TcpOption::Timestamps(be32(both, 0), be32(both, 4)),
                _ => TcpOption::Other(kind, value),
            },
            _ => TcpOption::Other(kind, value),
        })
    }
}

#[inline]
pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let Some(header) = bytes.array::<20>() else {
        return match bytes.array::<4>() {
            Some(ports) => (Some(Layer::Ports(be16(ports, 0), be16(ports, 2))), Next::Cut("tcp")),
            None => cut("tcp"),
        };
    };
    let offset_and_flags = be16(header, 12);
    let header_length = usize::from(offset_and_flags >> 12) * 4;
    if header_length < 20 || header_length > length {
        return end(Layer::Malformed("tcp header length", header_length as u32));
    }
    let options = bytes.up_to(header_length - 20);
    let segment = Tcp {
        source: be16(header, 0),
        destination: be16(header, 2),
        seq: be32(header, 4),
        ack: be32(header, 8),
        flags: TcpFlags(offset_and_flags & 0x1ff),
        window: be16(header, 14),
        urgent: be16(header, 18),
        length: length - header_length,
        options,
        options_whole: options.len() == header_length - 20,
        payload: bytes.kept(),
    };
    let next = if segment.payload.is_empty() {
        Next::Done
    } else {
        Next::TcpData(segment.source, segment.destination)
    };
    (Some(Layer::Tcp(segment)), next)
}

/// What a segment carries, told by its first bytes: connections are not put together here.
pub(crate) fn data<'a>(source: u16, destination: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    let kept = bytes.kept();
    if source == 53 || destination == 53 {
        return dns::over_tcp(bytes);
    }
    let layer = match kept.first() {
        Some(b'A'..=b'Z') => http::parse(kept).map(Layer::Http),
        Some(20..=24) => tls::parse(kept, bytes.length()).map(Layer::Tls),
        _ => None,
    };
    (layer, Next::Done)
}

impl<'a> Tcp<'a> {
    /// Its options, one after the other.
    pub fn options(&self) -> TcpOptions<'a> {
        TcpOptions(self.options)
    }

    /// What stands behind the addresses. Numbers are relative to the view's base.
    #[inline]
    pub(crate) fn line(&self, view: &View<'_>, out: &mut Vec<u8>) {
        text::put(out, "TCP [");
        self.flags.letters(out);
        out.push(b']');
        if self.length > 0 || self.flags.any(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
            text::put(out, " seq ");
            let seq = self.seq.wrapping_sub(view.base.seq);
            text::decimal(out, seq);
            if self.length > 0 {
                out.push(b':');
                text::decimal(out, seq.wrapping_add(self.length as u32));
            }
        }
        if self.flags.any(TcpFlags::ACK) {
            text::put(out, " ack ");
            text::decimal(out, self.ack.wrapping_sub(view.base.ack));
        }
        text::put(out, " win ");
        text::decimal(out, u32::from(self.window));
        if self.flags.any(TcpFlags::URG) {
            text::put(out, " urg ");
            text::decimal(out, u32::from(self.urgent));
        }
        // Time stamps between their padding are on nearly every segment, and say little.
        let usual = matches!(self.options, [1, 1, 8, 10, ..]) && self.options.len() == 12;
        if !(self.options.is_empty() && self.options_whole) && (!usual || view.style.verbose) {
            self.write_options(view, out);
        }
        text::put(out, " length ");
        text::length(out, self.length);
    }

    fn write_options(&self, view: &View<'_>, out: &mut Vec<u8>) {
        let all = view.style.verbose || self.flags.any(TcpFlags::SYN);
        let before = out.len();
        text::put(out, " options [");
        let opened = out.len();
        for option in self.options() {
            let matters =
                all || !matches!(option, TcpOption::Nop | TcpOption::End | TcpOption::Timestamps(..));
            if matters {
                if out.len() > opened {
                    out.push(b',');
                }
                // Edges lie in the other direction's sequence space.
                option.write(out, view.base.ack);
            }
        }
        if !self.options_whole {
            text::put(out, "[|tcp]");
        }
        if out.len() > opened { out.push(b']') } else { out.truncate(before) }
    }
}

impl TcpOption<'_> {
    /// tcpdump's words for it.
    fn write(&self, out: &mut Vec<u8>, base: u32) {
        match *self {
            TcpOption::End => text::put(out, "eol"),
            TcpOption::Nop => text::put(out, "nop"),
            TcpOption::Mss(size) => {
                text::put(out, "mss ");
                text::decimal(out, u32::from(size));
            }
            TcpOption::WindowScale(shift) => {
                text::put(out, "wscale ");
                text::decimal(out, u32::from(shift));
            }
            TcpOption::SackPermitted => text::put(out, "sackOK"),
            TcpOption::Sack(edges) => {
                text::put(out, "sack ");
                let (blocks, _) = edges.as_chunks::<8>();
                text::length(out, blocks.len());
                out.push(b' ');
                for block in blocks {
                    out.push(b'{');
                    text::decimal(out, be32(block, 0).wrapping_sub(base));
                    out.push(b':');
                    text::decimal(out, be32(block, 4).wrapping_sub(base));
                    out.push(b'}');
                }
            }
            TcpOption::Timestamps(value, echo) => {
                text::put(out, "TS val ");
                text::decimal(out, value);
                text::put(out, " ecr ");
                text::decimal(out, echo);
            }
            TcpOption::Other(kind, value) => {
                match kind {
                    19 => text::put(out, "md5"),
                    28 => text::put(out, "uto"),
                    29 => text::put(out, "tcp-ao"),
                    30 => text::put(out, "mptcp"),
                    34 => text::put(out, "tfo"),
                    _ => {
                        text::put(out, "opt-");
                        text::decimal(out, u32::from(kind));
                    }
                }
                if !value.is_empty() {
                    text::put(out, " 0x");
                    value.iter().for_each(|byte| text::hex_byte(out, *byte));
                }
            }
            TcpOption::Bad => text::put(out, "bad opt"),
        }
    }
}

fn serialize_options<S: Serializer>(options: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for option in TcpOptions(options) {
        list.serialize_element(&text::string(|out| option.write(out, 0)))?;
    }
    list.end()
}
