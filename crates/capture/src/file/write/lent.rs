//! Long packets that are written from where they lie, between the bytes of a buffer.

/// After so many bytes they are written: a system call and the first and the last page of what it writes, which it shares
/// with those before and behind it, cost nothing beside so many.
const ENOUGH: usize = 1 << 20;

/// Bytes that belong between those of a buffer.
#[derive(Debug, Default)]
pub(super) struct Lent<'a> {
    /// Each with its place in the buffer, in order.
    pieces: Vec<(usize, &'a [u8])>,
    bytes: usize,
}

impl<'a> Lent<'a> {
    /// Adds bytes that belong before those which the buffer gets from here on.
    pub(super) fn add(&mut self, at: usize, piece: &'a [u8]) {
        self.pieces.push((at, piece));
        self.bytes += piece.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether it is time to write them.
    pub(super) fn is_enough(&self) -> bool {
        self.bytes >= ENOUGH
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    /// The buffer's bytes and those that were lent, as they follow each other.
    pub(super) fn between<'b>(&self, buffer: &'b [u8]) -> Vec<&'b [u8]>
    where
        'a: 'b,
    {
        let mut slices = Vec::with_capacity(2 * self.pieces.len() + 1);
        let mut begin = 0;
        for (at, piece) in &self.pieces {
            slices.extend([&buffer[begin..*at], piece]);
            begin = *at;
        }
        slices.push(&buffer[begin..]);
        slices
    }
}
