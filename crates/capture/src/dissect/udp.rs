//! UDP (RFC 768), and which datagrams are read further: by port, since nothing else tells.

use serde::Serialize;

use super::bytes::{Bytes, be16};
use super::layers::{Layer, Next, Step, cut};
use super::{dns, text, tunnel};

/// A datagram.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Udp<'a> {
    /// Port it comes from.
    pub source: u16,
    /// Port it goes to.
    pub destination: u16,
    /// Bytes of payload, as the header says.
    pub length: usize,
    /// Whether the header says more than there was on the link, or less than a header.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bad_length: bool,
    /// The payload's bytes that were kept.
    #[serde(skip)]
    pub payload: &'a [u8],
}

#[inline]
pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>, fragment: bool) -> Step<'a> {
    let on_link = bytes.length();
    let Some(header) = bytes.array::<8>() else {
        return match bytes.array::<4>() {
            Some(ports) => (Some(Layer::Ports(be16(ports, 0), be16(ports, 2))), Next::Cut("udp")),
            None => cut("udp"),
        };
    };
    let (source, destination) = (be16(header, 0), be16(header, 2));
    // A length of nought is a jumbogram's (RFC 2675), or one that the kernel has yet to cut.
    let stated = match be16(header, 4) {
        0 => on_link,
        stated => usize::from(stated),
    };
    bytes.clip(stated.saturating_sub(8));
    let datagram = Udp {
        source,
        destination,
        length: stated.saturating_sub(8),
        // The rest of a fragment is elsewhere.
        bad_length: stated < 8 || (stated > on_link && !fragment),
        payload: bytes.kept(),
    };
    let next = if stated < 8 { Next::Done } else { Next::UdpData(source, destination) };
    (Some(Layer::Udp(datagram)), next)
}

/// What a datagram carries, by its ports.
#[inline]
pub(crate) fn data<'a>(source: u16, destination: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    const NAMES: [u16; 3] = [53, 5353, 5355];
    if NAMES.contains(&destination) || NAMES.contains(&source) {
        return dns::parse(bytes);
    }
    match destination {
        // IANA's port, and the one that Linux took before there was one: overlays still use it.
        4789 | 8472 => tunnel::vxlan(bytes),
        6081 => tunnel::geneve(bytes),
        _ => (None, Next::Done),
    }
}

impl Udp<'_> {
    #[inline]
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, if self.bad_length { "UDP bad length " } else { "UDP length " });
        text::length(out, self.length);
    }
}
