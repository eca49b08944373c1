//! What both formats' decoders have in common.

use std::sync::Arc;

use super::batch::Record;
use super::{pcap, pcapng};
use crate::file::block::{self, Order};
use crate::file::{About, ReadError};
use crate::packet::LinkType;

/// Why a decoder stopped where it did.
#[derive(Debug)]
pub(super) enum Pause {
    /// What begins here is not all there; `bytes` of it are needed to go on.
    Needs {
        /// How many.
        bytes: usize,
        /// What it is.
        what: &'static str,
        /// Whether its length is not yet known, and may be more.
        at_least: bool,
        /// How many more bytes of it were before these, and are gone.
        gone: u64,
    },
    /// That many bytes from here on nobody wants.
    Skip(u64),
    /// Something cannot be.
    Fault(Fault),
}

/// A fault whose place is not yet known to who found it.
#[derive(Debug)]
pub(super) enum Fault {
    /// A field says what cannot be.
    Damaged(String),
    /// It is of a kind that is not read.
    Unsupported(String),
}

impl Fault {
    pub(super) fn at(self, offset: u64) -> ReadError {
        match self {
            Fault::Damaged(what) => ReadError::Damaged { offset, what },
            Fault::Unsupported(what) => ReadError::Unsupported { offset, what },
        }
    }
}

/// A file's format, and how far its reading has come.
#[derive(Debug)]
pub(super) enum Decoder {
    Pcap(pcap::Decoder),
    Pcapng(Box<pcapng::Decoder>),
}

impl Decoder {
    /// The decoder for what begins with these (four) bytes.
    pub(super) fn of(magic: &[u8]) -> Result<Decoder, ReadError> {
        if magic.is_empty() {
            return Err(ReadError::Empty);
        }
        if magic.len() == 4 {
            if Order::Little.u32(magic) == block::SHB {
                return Ok(Decoder::Pcapng(Box::default()));
            }
            if let Some(decoder) = pcap::Decoder::of(magic) {
                return Ok(Decoder::Pcap(decoder));
            }
        }
        let magic: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
        Err(ReadError::NotACapture { magic: magic.join(" ") })
    }

    /// Indexes the packets in `bytes` from `from` on, as far as they are whole; says where it stopped, and why.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        from: usize,
        records: &mut Vec<Record>,
        about: &mut Arc<About>,
    ) -> (usize, Pause) {
        match self {
            Decoder::Pcap(decoder) => decoder.decode(bytes, from, records, about),
            Decoder::Pcapng(decoder) => decoder.decode(bytes, from, records, about),
        }
    }
}

/// How long a packet can be at most: what libpcap accepts (`max_snaplen_for_dlt` in its pcap-common.c), so that a length
/// which lies is found to lie.
pub(super) fn longest(link_type: LinkType) -> u32 {
    match link_type {
        // D-Bus messages.
        LinkType(231) => 128 << 20,
        // Elektrobit's high speed capture and replay.
        LinkType(279) => 8 << 20,
        // USBPcap.
        LinkType(249) => 1 << 20,
        _ => 256 << 10,
    }
}
