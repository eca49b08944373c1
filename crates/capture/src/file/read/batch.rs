//! Packets by the hundred: a piece of a capture, and where the packets are in it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::file::About;
use crate::file::block::{Options, Order, option, padded};
use crate::packet::{Direction, Packet, Timestamp};

/// Where a packet is in its batch's bytes, and what was said of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) time: Timestamp,
    /// Where its bytes begin.
    pub(super) start: u32,
    pub(super) captured: u32,
    pub(super) original: u32,
    pub(super) interface: u32,
    /// How many bytes of options follow its own (and their padding).
    pub(super) options: u32,
    pub(super) direction: Option<Direction>,
    pub(super) order: Order,
}

/// Some packets that follow each other in a capture, with their bytes.
///
/// It belongs to nobody else: it can be taken to another thread, so that several can work on one capture. When it is
/// done with, [`super::Reader::next_batch`] uses its memory again.
#[derive(Debug, Default)]
pub struct Batch {
    /// All of it can be written to; `filled` tells how much is of the capture.
    pub(super) bytes: Vec<u8>,
    pub(super) filled: usize,
    pub(super) records: Vec<Record>,
    pub(super) about: Arc<About>,
}

impl Batch {
    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none, which is so only in a new one.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// One of the packets, counted from 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Packet<'_>> {
        self.records.get(index).map(|record| self.packet(record))
    }

    /// The packets, in the capture's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Packet<'_>> {
        self.records.iter().map(|record| self.packet(record))
    }

    /// The comments on one of the packets.
    pub fn comments(&self, index: usize) -> impl Iterator<Item = Cow<'_, str>> {
        let options = self.records.get(index).map(|record| {
            let start = record.start as usize + padded(record.captured as usize);
            Options::new(&self.bytes[start..start + record.options as usize], record.order)
        });
        let comments = options.into_iter().flatten().filter(|&(code, _)| code == option::COMMENT);
        comments.map(|(_, text)| String::from_utf8_lossy(text))
    }

    /// What the capture had said by the end of this batch: the interfaces that its packets name are all in it.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    #[inline]
    fn packet(&self, record: &Record) -> Packet<'_> {
        let start = record.start as usize;
        Packet {
            time: record.time,
            interface: record.interface as usize,
            direction: record.direction,
            original_length: record.original,
            data: &self.bytes[start..start + record.captured as usize],
        }
    }
}
