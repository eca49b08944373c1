//! Where a capture's bytes come from: a file, a pipe, what gzip or zstd made of one.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};

use crate::file::ReadError;

/// How much of a compressed file is fetched at a time.
const COMPRESSED: usize = 128 << 10;

/// The largest window that zstd may ask for, as a power of 2: `zstd -d` has the same limit unless told otherwise.
const ZSTD_WINDOW: u32 = 27;

/// The bytes of a capture, unpacked.
pub(super) struct Source {
    inner: Box<dyn Read + Send>,
    /// What was read to find out what it is, and is not yet handed out.
    first: Vec<u8>,
    compressed: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("compressed", &self.compressed).finish_non_exhaustive()
    }
}

impl Source {
    /// Looks at the first bytes, and puts a decompressor in front where they ask for one.
    pub(super) fn new(mut raw: Box<dyn Read + Send>) -> Result<Source, ReadError> {
        let failed = |source| ReadError::Read { offset: 0, source };
        let first = peek(&mut raw).map_err(failed)?;
        let gzip = first.starts_with(&[0x1f, 0x8b]);
        // A frame, or a skippable one, with which pzstd begins (RFC 8878, 3.1).
        let zstd = first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || (first.len() == 4 && first[0] & 0xf0 == 0x50 && first[1..] == [0x2a, 0x4d, 0x18]);
        if !gzip && !zstd {
            return Ok(Source { inner: raw, first, compressed: false });
        }
        let packed = BufReader::with_capacity(COMPRESSED, Cursor::new(first).chain(raw));
        let mut inner: Box<dyn Read + Send> = if gzip {
            Box::new(flate2::bufread::MultiGzDecoder::new(packed))
        } else {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(failed)?;
            Box::new(decoder)
        };
        let first = peek(&mut inner).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::CompressedShort { offset: 0 },
            _ => failed(e),
        })?;
        Ok(Source { inner, first, compressed: true })
    }

    /// The first bytes, at most four: fewer only if there are no more.
    pub(super) fn magic(&self) -> &[u8] {
        &self.first
    }

    /// Whether a decompressor is at work.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.first[..length]);
            self.first.drain(..length);
            return Ok(length);
        }
        loop {
            match self.inner.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// The first four bytes, or all that there are.
fn peek(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(4);
    source.take(4).read_to_end(&mut first)?;
    Ok(first)
}

/// Tells the kernel that a file will be read from front to back (posix_fadvise(2)); whether it listens does not matter.
pub(super) fn announce(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}
