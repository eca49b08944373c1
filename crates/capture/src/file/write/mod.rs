//! Writing pcapng: one file of packets, which can be read up to its last whole block at any time.
//!
//! Blocks are made in a buffer and leave it whole, many at a time. A packet that is long is not copied into the buffer:
//! it goes to the kernel from where it is (writev(2)), together with those before and behind it. On a full disk the file
//! is cut behind the last whole block.

mod compress;
mod encode;
mod lent;
mod lost;
mod patience;
mod sink;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use crate::file::{Section, Statistics, WriteError};
use crate::packet::{Interface, Packet};
use compress::Compressor;
use lent::Lent;
pub use lost::Lost;
pub use patience::{Asked, Patience};
pub(super) use sink::Sink;
use sink::last_block;
pub use stream::Stream;

/// What is gathered before it is written: what stays in a processor's cache, beside the packets that it is made of.
const BUFFER: usize = 64 << 10;
/// From this length on a packet is not copied into the buffer.
const LONG: usize = 8 << 10;
/// What is kept of a packet at most: Wireshark (`WTAP_MAX_PACKET_SIZE_STANDARD`) and libpcap (`MAXIMUM_SNAPLEN`) refuse
/// a file with a longer one.
pub(super) const LONGEST: usize = 256 << 10;

/// A pcapng file that is being written. Dropped without [`Writer::finish`] it loses what it had gathered.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    compressor: Option<Compressor>,
    /// Whole blocks that are not yet written.
    buffer: Vec<u8>,
    /// Names that were told before the first interface: Wireshark's editcap does not write a file on that has them there.
    early: Vec<u8>,
    /// `if_os` of all interfaces.
    os: Option<String>,
    interfaces: usize,
    /// Packets that were accepted and are not known to be lost.
    packets: u64,
    /// What stopped the writing.
    broken: Option<io::ErrorKind>,
}

impl Writer {
    /// Begins a file with a section header. `name` is how messages call it.
    ///
    /// Nothing is written before the first [`Writer::flush`], or before there is enough of it.
    pub fn new(to: impl Into<OwnedFd>, name: impl Into<String>, section: &Section) -> Writer {
        let mut buffer = Vec::with_capacity(BUFFER + 2 * LONG);
        encode::section(&mut buffer, section);
        Writer {
            sink: Sink::new(to.into(), name.into()),
            compressor: None,
            buffer,
            early: Vec::new(),
            os: section.os.clone(),
            interfaces: 0,
            packets: 0,
            broken: None,
        }
    }

    /// From here on a reader of a pipe is waited for so long. Without that as long as it takes.
    pub fn patient(mut self, patience: Patience) -> Writer {
        self.sink.set_patience(patience);
        self
    }

    /// It is a FIFO that nobody has open for reading: what is written waits until somebody has.
    pub(super) fn unread(mut self) -> Writer {
        self.sink.set_unread();
        self
    }

    /// From here on what is written is compressed by zstd. To be said before anything is written.
    ///
    /// After each flush the file is a whole one: that of a process which was killed unpacks up to its last flush.
    pub fn compressed(mut self) -> io::Result<Writer> {
        self.compressor = Some(Compressor::new()?);
        Ok(self)
    }

    /// Announces an interface, which may be done at any time before its first packet. Gives its number:
    /// [`Packet::interface`] of its packets.
    pub fn interface(&mut self, interface: &Interface) -> Result<usize, WriteError> {
        encode::interface(&mut self.buffer, interface, self.os.as_deref());
        self.interfaces += 1;
        self.buffer.append(&mut self.early);
        self.written_if_full()?;
        Ok(self.interfaces - 1)
    }

    /// How many interfaces were announced.
    pub fn interfaces(&self) -> usize {
        self.interfaces
    }

    /// Writes names of addresses; those that come before the first interface are written behind it.
    pub fn names<'a>(
        &mut self,
        names: impl IntoIterator<Item = (IpAddr, &'a str)>,
    ) -> Result<(), WriteError> {
        encode::names(if self.interfaces == 0 { &mut self.early } else { &mut self.buffer }, names);
        self.written_if_full()
    }

    /// Writes a packet: as [`Writer::packets`].
    #[inline]
    pub fn packet(&mut self, packet: &Packet<'_>) -> Result<(), WriteError> {
        self.packets(std::slice::from_ref(packet))
    }

    /// Writes packets. Of one longer than 256 KiB the first 256 KiB are kept, as if the snap length were that.
    ///
    /// They may be kept in memory until [`Writer::flush`]. An error tells how many packets are not in the file, which
    /// includes those that were accepted and not yet written. If the interface of one is unknown, none is accepted.
    pub fn packets(&mut self, packets: &[Packet<'_>]) -> Result<(), WriteError> {
        let known = self.interfaces;
        if let Some(Packet { interface, .. }) = packets.iter().find(|packet| packet.interface >= known) {
            return Err(WriteError::UnknownInterface { interface: *interface, known });
        }
        let mut lent = Lent::default();
        for (at, packet) in packets.iter().enumerate() {
            self.packets += 1;
            let captured = packet.data.len().min(LONGEST);
            if captured < LONG || self.compressor.is_some() {
                encode::packet(&mut self.buffer, packet, captured);
            } else {
                self.buffer.extend_from_slice(&encode::packet_header(packet, captured));
                lent.add(self.buffer.len(), &packet.data[..captured]);
                let (tail, length) = encode::packet_tail(captured, packet.direction);
                self.buffer.extend_from_slice(&tail[..length]);
            }
            if lent.is_enough() || self.is_full() {
                self.write_with(&mut lent).map_err(|error| error.and(&packets[at + 1..]))?;
            }
        }
        if lent.is_empty() { Ok(()) } else { self.write_with(&mut lent) }
    }

    /// Writes an interface's counters.
    pub fn statistics(&mut self, interface: usize, statistics: &Statistics) -> Result<(), WriteError> {
        if interface >= self.interfaces {
            return Err(WriteError::UnknownInterface { interface, known: self.interfaces });
        }
        encode::statistics(&mut self.buffer, interface as u32, statistics);
        self.written_if_full()
    }

    /// Writes what was gathered: whoever reads the file or the pipe sees it then.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.buffer.is_empty() { Ok(()) } else { self.write() }
    }

    /// Writes the rest and gives what the file has come to.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        self.flush()?;
        if self.compressor.is_some() {
            self.sink
                .end_pieces(&compress::END)
                .map_err(|stopped| self.sink.fault(stopped.error, Lost::default()))?;
        }
        Ok(self.written())
    }

    /// What has been written, or will be with the next flush.
    pub fn written(&self) -> Written {
        Written { packets: self.packets, bytes: self.size() }
    }

    /// The file's length in bytes, with what is gathered (not yet compressed) counted as it is.
    pub fn size(&self) -> u64 {
        self.sink.taken() + self.buffer.len() as u64
    }

    /// How long the file will be with a packet more, if it is not compressed.
    #[inline]
    pub(super) fn size_with(&self, packet: &Packet<'_>) -> u64 {
        self.size() + encode::packet_length(packet.data.len().min(LONGEST), packet.direction) as u64
    }

    /// How many bytes are gathered that will be fewer in the file.
    pub(super) fn uncompressed(&self) -> u64 {
        if self.compressor.is_some() { self.buffer.len() as u64 } else { 0 }
    }

    #[inline]
    fn written_if_full(&mut self) -> Result<(), WriteError> {
        if self.is_full() { self.write() } else { Ok(()) }
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.buffer.len() >= if self.compressor.is_some() { compress::PIECE } else { BUFFER }
    }

    fn write(&mut self) -> Result<(), WriteError> {
        self.write_with(&mut Lent::default())
    }

    /// Writes what was gathered, with what was lent for it.
    fn write_with(&mut self, lent: &mut Lent<'_>) -> Result<(), WriteError> {
        let slices = lent.between(&self.buffer);
        if let Some(kind) = self.broken {
            // The disk may have room again, but a gap in the middle is worse than an end. Statistics may still fit, but
            // not behind a compressed piece that is missing.
            let lost = encode::whole(&slices, 0).1;
            if lost.total() > 0 || self.compressor.is_some() {
                self.packets -= lost.total();
                self.buffer.clear();
                return Err(self.sink.fault(kind.into(), lost));
            }
        }
        let result = match &mut self.compressor {
            None => {
                let lost = |kept| encode::whole(&slices, kept).1;
                self.sink.write(&slices, last_block).map_err(|stopped| (lost(stopped.kept), stopped.error))
            }
            // What is compressed is in the buffer as a whole.
            Some(compressor) => {
                let written = compressor.piece(&self.buffer).and_then(|piece| {
                    self.sink.write_piece(piece, &compress::END).map_err(|stopped| stopped.error)
                });
                written.map_err(|error| (encode::whole(&slices, 0).1, error))
            }
        };
        self.buffer.clear();
        lent.clear();
        result.map_err(|(lost, error)| {
            self.packets -= lost.total();
            self.broken = Some(error.kind());
            self.sink.fault(error, lost)
        })
    }
}

/// What a file has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Packets in it.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
