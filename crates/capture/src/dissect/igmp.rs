//! IGMP (RFC 1112, RFC 2236, RFC 9776).

use std::net::Ipv4Addr;

use serde::Serialize;

use super::bytes::{Bytes, be16, part};
use super::layers::{Layer, Step, cut, end};
use super::line::View;
use super::text;

/// An IGMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Igmp {
    /// The type: 0x11 query, 0x12, 0x16 and 0x22 reports of versions 1, 2 and 3, 0x17 leave.
    #[serde(rename = "type")]
    pub kind: u8,
    /// The group; none in a report of version 3.
    pub group: Option<Ipv4Addr>,
    /// Number of group records in a report of version 3.
    pub records: Option<u16>,
    /// Bytes of it.
    pub length: usize,
}

pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let Some(header) = bytes.array::<8>() else { return cut("igmp") };
    let third = header[0] == 0x22;
    end(Layer::Igmp(Igmp {
        kind: header[0],
        group: (!third).then(|| Ipv4Addr::from(part::<8, 4>(header, 4))),
        records: third.then(|| be16(header, 6)),
        length,
    }))
}

impl Igmp {
    pub(crate) fn line(&self, view: &View<'_>, out: &mut Vec<u8>) {
        text::put(
            out,
            match self.kind {
                0x11 => "IGMP query",
                0x12 => "IGMP v1 report",
                0x16 => "IGMP v2 report",
                0x17 => "IGMP leave",
                0x22 => "IGMP v3 report ",
                _ => "IGMP type 0x",
            },
        );
        if !matches!(self.kind, 0x11 | 0x12 | 0x16 | 0x17 | 0x22) {
            text::hex_byte(out, self.kind);
        }
        if let Some(records) = self.records {
            text::decimal(out, u32::from(records));
            text::put(out, " group record(s)");
        }
        if let Some(group) = self.group.filter(|group| !group.is_unspecified()) {
            out.push(b' ');
            view.ip(out, group.into());
        }
        text::put(out, " length ");
        text::length(out, self.length);
    }
}
