//! The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: the lengths alone tell the codes.

use std::sync::LazyLock;

use super::super::Garbled;

/// How many bits each symbol's code has; the last is the end of the string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const END: u16 = 256;
const LONGEST: usize = 30;

/// For each length: the first code, where its symbols begin in `symbols`, and how many there are.
struct Code {
    first: [u32; LONGEST + 1],
    begin: [u16; LONGEST + 1],
    count: [u16; LONGEST + 1],
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut code = Code {
        first: [0; LONGEST + 1],
        begin: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        symbols: Vec::new(),
    };
    let mut next = 0u32;
    for length in 1..=LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.begin[length] = code.symbols.len() as u16;
        let of_length = (0..=END).filter(|symbol| usize::from(LENGTHS[usize::from(*symbol)]) == length);
        code.symbols.extend(of_length);
        code.count[length] = code.symbols.len() as u16 - code.begin[length];
        next += u32::from(code.count[length]);
    }
    code
});

/// Decodes a string.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, Garbled> {
    let code = &*CODE;
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut bits, mut length) = (0u32, 0usize);
    for byte in bytes {
        for place in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> place & 1);
            length += 1;
            if length > LONGEST {
                return Err(Garbled("a Huffman code is none"));
            }
            let behind = bits.wrapping_sub(code.first[length]);
            if bits >= code.first[length] && behind < u32::from(code.count[length]) {
                match code.symbols[usize::from(code.begin[length]) + behind as usize] {
                    END => return Err(Garbled("a Huffman string ends within itself")),
                    symbol => text.push(symbol as u8),
                }
                (bits, length) = (0, 0);
            }
        }
    }
    // What is left is less than a byte of ones (RFC 7541, 5.2).
    if length >= 8 || bits != (1 << length) - 1 {
        return Err(Garbled("a Huffman string is not filled up with ones"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_the_standard_are_decoded() {
        // RFC 7541, C.4 and C.6.
        for (bytes, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ] {
            assert_eq!(decode(bytes).unwrap(), text.as_bytes());
        }
        assert!(decode(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode(&[0]).is_err());
    }
}
