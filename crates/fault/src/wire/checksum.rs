//! The sum of the internet (RFC 1071), and that of SCTP.

/// The check sum of parts of which each but the last has an even length, as it stands in a header. Over a header or a segment
/// that has its sum in it already, with the pseudo-header, it is zero if that is right.
///
/// Words are added as they lie in memory, since the sum is the same in either order of bytes (RFC 1071 section 2 B), and four
/// bytes at a time: what does not fit 16 bits is folded back in the end.
pub(super) fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u64;
    for part in parts {
        let (words, rest) = part.as_chunks::<4>();
        // No packet has so many that this would overflow.
        sum += words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_ne_bytes(last));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_ne_bytes()
}

/// SCTP's check sum, as it stands in a header, of a packet that has zero in its place: CRC32c (RFC 9260 appendix A).
pub(super) fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)];
    (!bytes.iter().fold(u32::MAX, step)).to_le_bytes()
}

/// What each byte does to a CRC32c, whose polynomial is 0x1edc6f41, the bits in reverse.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word, as the RFC has it.
    fn plain(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    proptest! {
        #[test]
        fn parts_have_the_sum_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..3000), cut in 0usize..1500) {
            let (one, other) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            prop_assert_eq!(checksum(&[one, other]), plain(&bytes));
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(checksum(&[&[0, 1, 0xf2, 3], &[0xf4, 0xf5, 0xf6, 0xf7]]), [!0xdd, !0xf2]);
    }

    #[test]
    fn the_examples_of_crc32c() {
        // RFC 3720 B.4.
        assert_eq!(crc32c(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    }
}
