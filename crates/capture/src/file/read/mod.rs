//! Reading a capture: a stream of bytes becomes packets.
//!
//! One buffer is filled, the whole blocks in it are indexed, and packets are lent out of it; what is left of the last
//! block begins the next buffer. So each byte is copied once by the kernel and not again, and a file of any size needs
//! the memory of one buffer. The buffer grows only for a block that is longer than it, as its bytes come in and up to
//! what a packet may have: a length that lies costs nothing.

mod batch;
mod clock;
mod decode;
mod names;
mod parallel;
mod pcap;
mod pcapng;
mod source;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

pub use batch::Batch;

use crate::file::{About, ReadError};
use crate::packet::Packet;
use decode::{Decoder, Pause};
use source::Source;

/// The usual size of a batch's buffer: small enough for the processor's second cache, with room for a few of the
/// longest packets.
const BUFFER: usize = 512 << 10;
/// Its size at first; it grows when a source fills it at once, as files do.
const FIRST: usize = 32 << 10;

/// A capture that is being read.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    decoder: Decoder,
    about: Arc<About>,
    /// The batch that `next` lends packets of, and how many it has lent.
    current: Batch,
    lent: usize,
    /// What was read, but belongs to the next batch.
    rest: Vec<u8>,
    /// The place of `rest` in the capture.
    offset: u64,
    /// How large the next batch's buffer is at least.
    room: usize,
    /// How many of the following bytes nobody wants.
    skip: u64,
    /// Why the decoder last stopped.
    wanted: Wanted,
    /// What is told once the packets before it are handed out.
    fault: Option<ReadError>,
    ended: bool,
}

/// What was not all there when the decoder last stopped.
#[derive(Debug, Default)]
struct Wanted {
    what: &'static str,
    /// Its length in bytes, or, if `at_least`, that of what tells the length.
    length: u64,
    at_least: bool,
    /// How many bytes of it are passed by, or will be once nothing is left to skip.
    gone: u64,
}

impl Reader {
    /// Opens a capture; `-` is standard input. Waits until its first bytes are there.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        if path.as_os_str() == "-" {
            return Reader::new(io::stdin());
        }
        let open = || {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(file)
        };
        let file = open().map_err(|source| ReadError::Open { path: path.to_owned(), source })?;
        source::announce(&file);
        let told_last = names::at_end(&file);
        let mut reader = Reader::new(file)?;
        if !told_last.is_empty() {
            Arc::make_mut(&mut reader.about).names = told_last;
        }
        Ok(reader)
    }

    /// Reads a capture from wherever bytes come from. It need not be buffered.
    pub fn new(from: impl Read + Send + 'static) -> Result<Reader, ReadError> {
        let source = Source::new(Box::new(from))?;
        let decoder = Decoder::of(source.magic())?;
        Ok(Reader {
            source,
            decoder,
            about: Arc::default(),
            current: Batch::default(),
            lent: 0,
            rest: Vec::new(),
            offset: 0,
            room: FIRST,
            skip: 0,
            wanted: Wanted::default(),
            fault: None,
            ended: false,
        })
    }

    /// The next packet; `None` after the last one. An error comes after all packets that were before the fault, and is
    /// the last thing that comes.
    #[expect(clippy::should_implement_trait, reason = "what is lent borrows from the reader")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, ReadError> {
        if self.lent == self.current.len() && !self.refill()? {
            return Ok(None);
        }
        self.lent += 1;
        Ok(self.current.get(self.lent - 1))
    }

    /// The packets that follow, as many as can be had without waiting and fit into a buffer, at least one; `None` after
    /// the last ones. Errors as in [`Reader::next`].
    ///
    /// `used`'s memory is used again; what it held is lost. Packets that [`Reader::next`] had begun to lend are left out
    /// if it has lent them, and come first if not.
    pub fn next_batch(&mut self, used: Batch) -> Result<Option<Batch>, ReadError> {
        let mut batch = used;
        if self.lent < self.current.len() {
            std::mem::swap(&mut batch, &mut self.current);
            batch.records.drain(..self.lent);
            self.current.records.clear();
            self.lent = 0;
            return Ok(Some(batch));
        }
        Ok(self.fill(&mut batch)?.then_some(batch))
    }

    /// The comments on the packet that was lent last.
    pub fn comments(&self) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
        // Of a batch of which nothing was lent there is no such index.
        self.current.comments(self.lent.wrapping_sub(1))
    }

    /// What the capture says beside its packets, as far as it has been read. It can be some packets ahead of what
    /// [`Reader::next`] has lent.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    #[cold]
    fn refill(&mut self) -> Result<bool, ReadError> {
        let mut batch = std::mem::take(&mut self.current);
        let filled = self.fill(&mut batch);
        self.current = batch;
        self.lent = 0;
        filled
    }

    /// Fills a batch with at least one packet; `false` at the end.
    fn fill(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        batch.records.clear();
        batch.filled = 0;
        if self.ended {
            return self.fault.take().map_or(Ok(false), Err);
        }
        let room = self.room.max(self.rest.len() + self.room / 4);
        if batch.bytes.len() < room {
            batch.bytes.resize(room, 0);
        }
        batch.bytes[..self.rest.len()].copy_from_slice(&self.rest);
        batch.filled = self.rest.len();
        // What is at the start of the buffer and dealt with.
        let mut done = 0;
        let fault = loop {
            let got = match self.source.read(&mut batch.bytes[batch.filled..]) {
                Ok(got) => got,
                Err(source) => break self.end(batch, Some(source), done),
            };
            if got == 0 {
                break self.end(batch, None, done);
            }
            batch.filled += got;
            match self.advance(batch, &mut done) {
                Ok(_) if !batch.records.is_empty() => break None,
                Ok(needed) => {
                    // No packet yet, or not the whole of it: drop what is dealt with, make room for what is missing.
                    if done > 0 {
                        batch.bytes.copy_within(done..batch.filled, 0);
                        batch.filled -= done;
                        self.offset += done as u64;
                        done = 0;
                    }
                    if batch.filled == batch.bytes.len() {
                        let room = needed.min(batch.bytes.len() * 2).max(batch.filled + FIRST);
                        batch.bytes.resize(room, 0);
                    }
                }
                Err(fault) => break Some(fault),
            }
        };
        if batch.filled == batch.bytes.len() {
            self.room = (self.room * 2).min(BUFFER);
        }
        if fault.is_some() {
            self.ended = true;
            self.fault = fault;
        }
        self.rest.clear();
        if self.ended {
            if batch.records.is_empty() {
                return self.fault.take().map_or(Ok(false), Err);
            }
        } else {
            self.rest.extend_from_slice(&batch.bytes[done..batch.filled]);
            self.offset += done as u64;
        }
        batch.about = Arc::clone(&self.about);
        Ok(true)
    }

    /// Indexes what is in the buffer from `done` on, and moves `done` behind it. Gives how many bytes from there on are
    /// needed to go on.
    fn advance(&mut self, batch: &mut Batch, done: &mut usize) -> Result<usize, ReadError> {
        loop {
            let skipped = self.skip.min((batch.filled - *done) as u64);
            self.skip -= skipped;
            *done += skipped as usize;
            if self.skip > 0 {
                return Ok(0);
            }
            let bytes = &batch.bytes[..batch.filled];
            let (place, pause) = self.decoder.decode(bytes, *done, &mut batch.records, &mut self.about);
            *done = place;
            match pause {
                Pause::Needs { bytes, what, at_least, gone } => {
                    self.wanted = Wanted { what, length: gone + bytes as u64, at_least, gone };
                    return Ok(bytes);
                }
                Pause::Skip(bytes) => {
                    // Its last 4 bytes are looked at.
                    self.wanted = Wanted { what: "a block", length: bytes + 4, at_least: false, gone: bytes };
                    self.skip = bytes;
                }
                Pause::Fault(fault) => return Err(fault.at(self.offset + place as u64)),
            }
        }
    }

    /// The bytes are at their end: is that where the capture ends?
    fn end(&mut self, batch: &Batch, error: Option<io::Error>, done: usize) -> Option<ReadError> {
        self.ended = true;
        let left = batch.filled - done;
        let offset = self.offset + done as u64;
        if let Some(source) = error {
            let offset = offset + left as u64;
            let short = self.source.is_compressed() && source.kind() == io::ErrorKind::UnexpectedEof;
            return Some(if short {
                ReadError::CompressedShort { offset }
            } else {
                ReadError::Read { offset, source }
            });
        }
        let Wanted { what, length: wanted, at_least, gone } = self.wanted;
        let gone = gone - self.skip;
        let (offset, got) = (offset - gone, left as u64 + gone);
        (got > 0).then_some(ReadError::Truncated { offset, what, wanted, at_least, got })
    }
}
