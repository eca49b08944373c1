//! The one cursor that every dissector reads through: what was kept of a header's bytes, and how many there were.
//!
//! A capture may have kept less of a packet than was on the link (the snap length), and a header may claim more than
//! there was. Both are kept apart here: `kept` can be read, `length` is what the link carried and what is printed.

/// The bytes of a packet from some header on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    kept: &'a [u8],
    length: usize,
}

impl<'a> Bytes<'a> {
    /// `kept` of `length` bytes; a length below what was kept is raised to it.
    pub(crate) fn new(kept: &'a [u8], length: usize) -> Self {
        Bytes { kept, length: length.max(kept.len()) }
    }

    /// What can be read.
    #[inline]
    pub(crate) fn kept(&self) -> &'a [u8] {
        self.kept
    }

    /// How many bytes there were on the link.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The next `N` bytes, if they were kept.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.kept.split_first_chunk::<N>()?;
        self.kept = rest;
        self.length -= N;
        Some(head)
    }

    /// The next `N` bytes, without going past them.
    #[inline]
    pub(crate) fn peek<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.kept.first_chunk::<N>()
    }

    /// The next `count` bytes, if they were kept.
    #[inline]
    pub(crate) fn slice(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.kept.split_at_checked(count)?;
        self.kept = rest;
        self.length -= count;
        Some(head)
    }

    /// Up to `count` bytes, fewer where the capture or the packet ends.
    #[inline]
    pub(crate) fn up_to(&mut self, count: usize) -> &'a [u8] {
        let head = self.kept.get(..count).unwrap_or(self.kept);
        self.kept = self.kept.get(count..).unwrap_or_default();
        self.length = self.length.saturating_sub(count);
        head
    }

    /// The next byte.
    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    /// The next two bytes in network order.
    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// The next four bytes in network order.
    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Forgets what lies behind the first `length` bytes: padding, another header's.
    #[inline]
    pub(crate) fn clip(&mut self, length: usize) {
        if length < self.length {
            self.length = length;
            self.kept = self.kept.get(..length).unwrap_or(self.kept);
        }
    }
}

impl Bytes<'_> {
    /// Believes a header that says how long its payload is, also where the link carried less.
    #[inline]
    pub(crate) fn claim(&mut self, length: usize) {
        self.kept = self.kept.get(..length).unwrap_or(self.kept);
        self.length = length;
    }
}

/// Two bytes of a header in network order, `at` bytes from its beginning. The header's size is known when compiling,
/// so that an index beyond it does not compile away unseen.
#[inline]
pub(crate) fn be16<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// Four bytes of a header in network order.
#[inline]
pub(crate) fn be32<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// `M` bytes of a header.
#[inline]
pub(crate) fn part<const N: usize, const M: usize>(header: &[u8; N], at: usize) -> [u8; M] {
    let mut part = [0; M];
    part.copy_from_slice(&header[at..at + M]);
    part
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn what_was_kept_and_what_there_was_go_down_together() {
        let mut bytes = Bytes::new(&[1, 2, 3, 4], 10);
        assert_eq!(bytes.u16(), Some(0x0102));
        assert_eq!((bytes.kept().len(), bytes.length()), (2, 8));
        assert_eq!(bytes.u32(), None);
        bytes.clip(2);
        assert_eq!(bytes.up_to(5), &[3, 4]);
        assert_eq!(bytes.length(), 0);
    }

    #[test]
    fn a_length_that_is_less_than_what_was_kept_is_a_lie() {
        assert_eq!(Bytes::new(&[0; 4], 0).length(), 4);
    }
}
