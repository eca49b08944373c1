//! ICMPv6 (RFC 4443), neighbour discovery (RFC 4861), multicast listeners (RFC 2710, RFC 3810).

use std::net::Ipv6Addr;

use serde::Serialize;

use super::bytes::{Bytes, be16, part};
use super::ether::{MacAddress, serialize_mac};
use super::icmp::{self, Quoted, rest_word};
use super::layers::{Layer, Step, cut, end};
use super::line::View;
use super::text;

/// An ICMPv6 message.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Icmp6<'a> {
    /// The type: 1 unreachable, 128 echo request, 135 neighbour solicitation and so on.
    #[serde(rename = "type")]
    pub kind: u8,
    /// What the type says further.
    pub code: u8,
    /// Of the message.
    pub checksum: u16,
    /// Identifier, of an echo.
    pub id: Option<u16>,
    /// Sequence number, of an echo.
    pub seq: Option<u16>,
    /// Largest packet that fits, of "packet too big".
    pub mtu: Option<u32>,
    /// The address that is asked for or advertised, the listener's group, where a redirect leads.
    pub target: Option<Ipv6Addr>,
    /// The hardware address that goes with it, where an option says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_layer: Option<Hardware>,
    /// What an error is about.
    pub about: Option<Quoted>,
    /// Bytes of it.
    pub length: usize,
    /// The four bytes behind the checksum.
    #[serde(skip)]
    pub rest: [u8; 4],
    /// What stands behind them, as far as it was kept.
    #[serde(skip)]
    pub payload: &'a [u8],
}

/// A hardware address in an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Hardware(#[serde(serialize_with = "serialize_mac")] pub MacAddress);

pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let Some(header) = bytes.array::<8>() else { return cut("icmp6") };
    let (kind, rest) = (header[0], part::<8, 4>(header, 4));
    let payload = bytes.kept();
    let echo = matches!(kind, 128 | 129);
    let about = matches!(kind, 1..=4).then(|| Quoted::read(bytes)).flatten();
    let target = matches!(kind, 130..=132 | 135..=137)
        .then(|| bytes.array::<16>().map(|target| Ipv6Addr::from(*target)))
        .flatten();
    // Before their options, a router's advertisement has two timers and a redirect a second address.
    bytes.up_to(match kind {
        134 => 8,
        137 => 16,
        _ => 0,
    });
    let link_layer = if (133..=137).contains(&kind) { link_layer(bytes.kept()) } else { None };
    end(Layer::Icmp6(Icmp6 {
        kind,
        code: header[1],
        checksum: be16(header, 2),
        id: echo.then(|| be16(header, 4)),
        seq: echo.then(|| be16(header, 6)),
        mtu: (kind == 2).then(|| rest_word(&rest)),
        target,
        link_layer,
        about,
        length,
        rest,
        payload,
    }))
}

/// The source's or target's link-layer address in the options of neighbour discovery.
fn link_layer(mut options: &[u8]) -> Option<Hardware> {
    while let [kind, words, ..] = options {
        if *words == 0 {
            return None;
        }
        let (option, rest) = options.split_at_checked(usize::from(*words) * 8)?;
        if let (1 | 2, [_, _, address @ ..]) = (kind, option) {
            return address.first_chunk().map(|address| Hardware(*address));
        }
        options = rest;
    }
    None
}

impl Icmp6<'_> {
    pub(crate) fn line(&self, view: &View<'_>, out: &mut Vec<u8>) {
        text::put(out, "ICMP6 ");
        text::put(
            out,
            match self.kind {
                1 => "destination unreachable",
                2 => "packet too big mtu ",
                3 if self.code == 1 => "time exceeded reassembly",
                3 => "time exceeded in-transit",
                4 => "parameter problem offset ",
                128 => "echo request",
                129 => "echo reply",
                130 => "multicast listener query",
                131 => "multicast listener report",
                132 => "multicast listener done",
                133 => "router solicitation",
                134 => "router advertisement",
                135 => "neighbor solicitation who has ",
                136 => "neighbor advertisement tgt is ",
                137 => "redirect to ",
                143 => "multicast listener report v2 ",
                _ => "",
            },
        );
        match self.kind {
            1 => {
                text::put(
                    out,
                    match self.code {
                        0 => " unreachable route ",
                        1 => " unreachable prohibited ",
                        2 => " beyond scope ",
                        3 => " unreachable address ",
                        4 => " unreachable port ",
                        5 => " source address failed policy ",
                        6 => " reject route ",
                        _ => " ",
                    },
                );
                if let Some(quoted) = self.about {
                    quoted.destination(view, out);
                }
            }
            2 | 4 => text::decimal(out, rest_word(&self.rest)),
            3 => {
                if let Some(quoted) = self.about {
                    text::put(out, " to ");
                    quoted.destination(view, out);
                }
            }
            130..=132 | 135..=137 => {
                if matches!(self.kind, 130..=132) && self.target.is_some() {
                    text::put(out, " group ");
                }
                match self.target {
                    Some(target) => view.ip(out, target.into()),
                    None => text::put(out, "[|icmp6]"),
                }
                self.link_layer_line(out);
            }
            133 | 134 => self.link_layer_line(out),
            143 => {
                text::decimal(out, u32::from(be16(&self.rest, 2)));
                text::put(out, " group record(s)");
            }
            128 | 129 => {}
            other => icmp::unnamed(other, self.code, out),
        }
        icmp::ending(self.id.zip(self.seq), self.length, out);
    }

    fn link_layer_line(&self, out: &mut Vec<u8>) {
        if let Some(Hardware(address)) = self.link_layer {
            text::put(out, " (");
            text::mac(out, address);
            out.push(b')');
        }
    }
}
