//! Compression: blocks become one zstd frame, of which every flush is a whole piece.
//!
//! Source: RFC 8878. A frame without a checksum ends with its last block, and an empty last block is three bytes
//! ([`END`]). So a file can be ended after any flush, and be taken up again by writing over these three bytes: it is a
//! whole frame at any time. Several frames in a file would do as well, but Wireshark before 4.2 reads only the first.

use std::io;

use zstd::stream::raw::{Encoder, InBuffer, Operation, OutBuffer};

/// How much is put into a flush at most: enough for nearly the ratio of no flushes, little enough to be lost by a kill.
pub(super) const PIECE: usize = 1 << 20;
/// zstd's fastest ordinary level: captures are written while they are taken.
const LEVEL: i32 = 1;
/// The header of a block that is the last one, raw, and empty (3.1.1.2), in little-endian order.
pub(super) const END: [u8; 3] = [1, 0, 0];
/// How much room is added when the compressor asks for more.
const ROOM: usize = 128 << 10;

/// Makes the pieces of a frame.
pub(super) struct Compressor {
    inner: Encoder<'static>,
    piece: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn new() -> io::Result<Compressor> {
        // No checksum and no size of what is compressed, unless they are asked for.
        Ok(Compressor { inner: Encoder::new(LEVEL)?, piece: Vec::new() })
    }

    /// The bytes as the frame's next piece.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> io::Result<&[u8]> {
        self.piece.clear();
        let mut input = InBuffer::around(bytes);
        loop {
            if self.piece.capacity() - self.piece.len() < ROOM {
                self.piece.reserve(ROOM);
            }
            let begun = self.piece.len();
            let mut output = OutBuffer::around_pos(&mut self.piece, begun);
            if input.pos() < bytes.len() {
                self.inner.run(&mut input, &mut output)?;
            } else if self.inner.flush(&mut output)? == 0 {
                return Ok(&self.piece);
            }
        }
    }
}
