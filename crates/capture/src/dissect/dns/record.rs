//! Questions and resource records, with the data of those types that containers ask for.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};

use super::name::Name;
use crate::dissect::bytes::{be16, be32};
use crate::dissect::text;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Question<'a> {
    /// The name.
    pub name: Name<'a>,
    /// The type of record: 1 is A, 28 AAAA.
    #[serde(rename = "type", serialize_with = "serialize_type")]
    pub kind: u16,
    /// The class: 1 is the Internet. In multicast DNS the highest bit asks for a unicast answer.
    pub class: u16,
}

/// A resource record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whose it is.
    pub name: Name<'a>,
    /// The type: 1 is A, 28 AAAA.
    pub kind: u16,
    /// The class: 1 is the Internet. In multicast DNS the highest bit flushes caches.
    pub class: u16,
    /// For how many seconds it may be kept.
    pub ttl: u32,
    message: &'a [u8],
    data: (usize, usize),
}

impl<'a> Question<'a> {
    pub(crate) fn read(message: &'a [u8], at: usize) -> Option<(Self, usize)> {
        let (name, at) = Name::read(message, at)?;
        let fixed = message.get(at..)?.first_chunk::<4>()?;
        Some((Question { name, kind: be16(fixed, 0), class: be16(fixed, 2) }, at + 4))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        type_name(out, self.kind);
        write_class(out, self.class & 0x7fff);
        text::put(out, "? ");
        self.name.write(out);
    }
}

impl<'a> Record<'a> {
    pub(crate) fn read(message: &'a [u8], at: usize) -> Option<(Self, usize)> {
        let (name, at) = Name::read(message, at)?;
        let fixed = message.get(at..)?.first_chunk::<10>()?;
        let (start, end) = (at + 10, at + 10 + usize::from(be16(fixed, 8)));
        message.get(start..end)?;
        let record = Record {
            name,
            kind: be16(fixed, 0),
            class: be16(fixed, 2),
            ttl: be32(fixed, 4),
            message,
            data: (start, end),
        };
        Some((record, end))
    }

    /// Type and data, as tcpdump writes them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        type_name(out, self.kind);
        // The class of an OPT record is a size, its time to live are flags.
        if self.kind != 41 {
            write_class(out, self.class & 0x7fff);
        }
        let before = out.len();
        out.push(b' ');
        let start = out.len();
        self.write_data(out);
        if out.len() == start {
            out.truncate(before);
        }
    }

    fn name_at(&self, at: usize) -> Option<Name<'a>> {
        let data = self.message.get(..self.data.1)?;
        Name::read(data, self.data.0 + at).map(|(name, _)| name)
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        let data = self.message.get(self.data.0..self.data.1).unwrap_or_default();
        let name = |out: &mut Vec<u8>, at| match self.name_at(at) {
            Some(name) => name.write(out),
            None => text::put(out, "<BAD PTR>"),
        };
        match (self.kind, data) {
            (1, &[a, b, c, d]) => text::ipv4(out, Ipv4Addr::new(a, b, c, d)),
            (28, data) => {
                if let Ok(address) = <[u8; 16]>::try_from(data) {
                    text::ipv6(out, Ipv6Addr::from(address));
                }
            }
            (2 | 5 | 12 | 39, _) => name(out, 0),
            (15, &[high, low, ..]) => {
                name(out, 2);
                out.push(b' ');
                text::decimal(out, u32::from(u16::from_be_bytes([high, low])));
            }
            (16, mut strings) => {
                let mut first = true;
                while let Some((&length, rest)) = strings.split_first() {
                    let Some((string, rest)) = rest.split_at_checked(usize::from(length)) else { break };
                    text::put(out, if first { "\"" } else { " \"" });
                    text::escaped(out, string);
                    out.push(b'"');
                    (first, strings) = (false, rest);
                }
            }
            (33, data) => {
                if let Some(head) = data.first_chunk::<6>() {
                    name(out, 6);
                    out.push(b':');
                    text::decimal(out, u32::from(be16(head, 4)));
                    out.push(b' ');
                    text::decimal(out, u32::from(be16(head, 0)));
                    out.push(b' ');
                    text::decimal(out, u32::from(be16(head, 2)));
                }
            }
            (64 | 65, &[high, low, ..]) => {
                text::decimal(out, u32::from(u16::from_be_bytes([high, low])));
                out.push(b' ');
                name(out, 2);
            }
            _ => {}
        }
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            name: Name<'a>,
            #[serde(rename = "type", serialize_with = "serialize_type")]
            kind: u16,
            ttl: u32,
            data: String,
        }
        let data = text::string(|out| self.write_data(out));
        Fields { name: self.name, kind: self.kind, ttl: self.ttl, data }.serialize(serializer)
    }
}

fn write_class(out: &mut Vec<u8>, class: u16) {
    match class {
        1 => {}
        255 => text::put(out, " (Class ANY)"),
        other => {
            text::put(out, " (Class ");
            text::decimal(out, u32::from(other));
            out.push(b')');
        }
    }
}

fn serialize_type<S: Serializer>(kind: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::string(|out| type_name(out, *kind)))
}

/// A type's name in IANA's list.
fn type_name(out: &mut Vec<u8>, kind: u16) {
    text::put(
        out,
        match kind {
            1 => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            12 => "PTR",
            13 => "HINFO",
            15 => "MX",
            16 => "TXT",
            24 => "SIG",
            25 => "KEY",
            28 => "AAAA",
            29 => "LOC",
            33 => "SRV",
            35 => "NAPTR",
            37 => "CERT",
            39 => "DNAME",
            41 => "OPT",
            43 => "DS",
            44 => "SSHFP",
            46 => "RRSIG",
            47 => "NSEC",
            48 => "DNSKEY",
            50 => "NSEC3",
            51 => "NSEC3PARAM",
            52 => "TLSA",
            64 => "SVCB",
            65 => "HTTPS",
            99 => "SPF",
            249 => "TKEY",
            250 => "TSIG",
            251 => "IXFR",
            252 => "AXFR",
            255 => "ANY",
            257 => "CAA",
            _ => {
                text::put(out, "Type");
                return text::decimal(out, u32::from(kind));
            }
        },
    );
}
