//! Compression: blocks become zstd frames, each whole in itself.

use std::io;

use zstd::bulk;

/// How much is put into a frame at most: enough for nearly the ratio of one long frame at this level, little enough to be
/// lost by a kill.
pub(super) const FRAME: usize = 1 << 20;
/// zstd's fastest ordinary level: captures are written while they are taken.
const LEVEL: i32 = 1;

/// Makes frames.
pub(super) struct Compressor {
    inner: bulk::Compressor<'static>,
    frame: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn new() -> io::Result<Compressor> {
        let mut inner = bulk::Compressor::new(LEVEL)?;
        inner.include_checksum(true)?;
        Ok(Compressor { inner, frame: Vec::new() })
    }

    /// The bytes as one frame.
    pub(super) fn frame(&mut self, bytes: &[u8]) -> io::Result<&[u8]> {
        self.frame.clear();
        self.frame.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        self.inner.compress_to_buffer(bytes, &mut self.frame)?;
        Ok(&self.frame)
    }
}
