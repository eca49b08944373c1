//! The pcap format: a header, and packets with a header each.
//!
//! Source: draft-ietf-opsawg-pcap; its variants as libpcap's sf-pcap.c reads them: either byte order, micro- and
//! nanoseconds, Kuznetzov's modified records, and the versions before 2.4, in which a packet's two lengths stand the
//! other way round.

use std::sync::Arc;

use super::batch::Record;
use super::decode::{Fault, Pause, longest};
use crate::file::About;
use crate::file::block::Order;
use crate::packet::{Direction, Interface, LinkType, Timestamp};

/// The file's header.
const HEADER: usize = 24;

/// `PACKET_OUTGOING` of linux/if_packet.h, in a modified record.
const OUTGOING: u8 = 4;

/// Which of a packet's two lengths stands first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// Version 2.3 was written both ways: the smaller one is the captured length.
    Either,
}

/// How far the reading of a pcap file has come.
#[derive(Debug)]
pub(super) struct Decoder {
    order: Order,
    /// Nanoseconds in the unit of a time stamp's second half.
    unit: u64,
    /// Length of a packet's header.
    header: usize,
    lengths: Lengths,
    /// What the packets are cut to; 0 until the file's header was read.
    snaplen: u32,
    longest: u32,
}

impl Decoder {
    /// A decoder, if these 4 bytes are a pcap file's first.
    pub(super) fn of(magic: &[u8]) -> Option<Decoder> {
        [Order::Little, Order::Big].into_iter().find_map(|order| {
            let (unit, header) = match order.u32(magic) {
                0xa1b2_c3d4 => (1000, 16),
                0xa1b2_3c4d => (1, 16),
                0xa1b2_cd34 => (1000, 24),
                _ => return None,
            };
            Some(Decoder { order, unit, header, lengths: Lengths::CapturedFirst, snaplen: 0, longest: 0 })
        })
    }

    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        from: usize,
        records: &mut Vec<Record>,
        about: &mut Arc<About>,
    ) -> (usize, Pause) {
        let mut at = from;
        if self.snaplen == 0 {
            let Some(header) = bytes[at..].first_chunk() else {
                return (
                    at,
                    Pause::Needs { bytes: HEADER, what: "the file's header", at_least: false, gone: 0 },
                );
            };
            match self.begin(header) {
                Ok(interface) => {
                    let about = Arc::make_mut(about);
                    about.interfaces.push(interface);
                    about.statistics.push(None);
                }
                Err(fault) => return (at, Pause::Fault(fault)),
            }
            at += HEADER;
        }
        loop {
            let rest = &bytes[at..];
            if rest.len() < self.header {
                let what = "a packet's header";
                return (at, Pause::Needs { bytes: self.header, what, at_least: false, gone: 0 });
            }
            let (captured, original) = self.lengths(rest);
            if captured > self.longest {
                let what =
                    format!("a packet says that it has {captured} bytes, the most is {}", self.longest);
                return (at, Pause::Fault(Fault::Damaged(what)));
            }
            let whole = self.header + captured as usize;
            if rest.len() < whole {
                return (at, Pause::Needs { bytes: whole, what: "a packet", at_least: false, gone: 0 });
            }
            records.push(Record {
                time: self.time(rest),
                start: (at + self.header) as u32,
                // libpcap too hands out no more than the header promises.
                captured: captured.min(self.snaplen),
                original: original.max(captured),
                interface: 0,
                options: 0,
                direction: (self.header == 24).then(|| match rest[22] {
                    OUTGOING => Direction::Outbound,
                    _ => Direction::Inbound,
                }),
                order: self.order,
            });
            at += whole;
        }
    }

    fn begin(&mut self, header: &[u8; HEADER]) -> Result<Interface, Fault> {
        let (major, minor) = (self.order.u16(&header[4..]), self.order.u16(&header[6..]));
        self.lengths = match (major, minor) {
            // 543.0 is what DG/UX's tcpdump writes.
            (2, 0..=2) | (543, 0) => Lengths::OriginalFirst,
            (2, 3) => Lengths::Either,
            (2, 4) => Lengths::CapturedFirst,
            _ => return Err(Fault::Unsupported(format!("pcap of version {major}.{minor}"))),
        };
        let snaplen = self.order.u32(&header[16..]);
        let network = self.order.u32(&header[20..]);
        // The upper bits tell of a frame check sequence (4 bits its length, 1 bit that it is told, 1 bit reserved).
        if network & 0x03ff_0000 != 0 {
            return Err(Fault::Unsupported(format!(
                "the reserved bits of the link type {network:#x} are set"
            )));
        }
        // DLT_RAW of Linux and others, as old programs wrote it.
        let link_type = if network & 0xffff == 12 { LinkType::RAW } else { LinkType(network as u16) };
        self.longest = longest(link_type);
        self.snaplen = if snaplen == 0 || snaplen > i32::MAX as u32 { u32::MAX } else { snaplen };
        Ok(Interface {
            name: String::new(),
            description: String::new(),
            link_type,
            snaplen: if self.snaplen == u32::MAX { 0 } else { snaplen },
            mac: None,
            filter: None,
        })
    }

    /// A packet's captured and original length.
    #[inline]
    fn lengths(&self, header: &[u8]) -> (u32, u32) {
        let (first, second) = (self.order.u32(&header[8..]), self.order.u32(&header[12..]));
        match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::Either => (first.min(second), first.max(second)),
        }
    }

    #[inline]
    fn time(&self, header: &[u8]) -> Timestamp {
        let (seconds, rest) = (u64::from(self.order.u32(header)), u64::from(self.order.u32(&header[4..])));
        // Fits: 2^32 seconds are 4.3e18 nanoseconds.
        Timestamp(seconds * 1_000_000_000 + rest * self.unit)
    }
}
