//! A packet's bytes under its line, laid out as tcpdump lays them out.

use super::text;

/// Which bytes are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hex {
    /// None.
    #[default]
    None,
    /// In hexadecimal (`-x`).
    Plain,
    /// In hexadecimal and ASCII (`-X`).
    Ascii,
}

/// Lines of sixteen bytes: offset, eight pairs, and for [`Hex::Ascii`] the printable ones as characters.
pub(crate) fn write(bytes: &[u8], hex: Hex, out: &mut Vec<u8>) {
    if hex == Hex::None {
        return;
    }
    for (at, row) in bytes.chunks(16).enumerate() {
        text::put(out, "\t");
        let offset = at * 16;
        if offset > 0xffff {
            text::put(out, "0x");
            text::hex(out, offset as u32);
        } else {
            text::hex_word(out, offset as u16);
        }
        text::put(out, ": ");
        for pair in row.chunks(2) {
            out.push(b' ');
            pair.iter().for_each(|byte| text::hex_byte(out, *byte));
        }
        if hex == Hex::Ascii {
            // Forty columns of hexadecimal, and two between it and the characters.
            let width = row.len() * 2 + row.len().div_ceil(2);
            out.extend(std::iter::repeat_n(b' ', 42 - width));
            out.extend(row.iter().map(|byte| if (0x21..0x7f).contains(byte) { *byte } else { b'.' }));
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{Hex, write};

    #[test]
    fn rows_are_laid_out_as_tcpdump_lays_them_out() {
        let bytes: Vec<u8> = b"GET / HTTP/1.1\r\n\x1b[m".to_vec();
        let mut out = Vec::new();
        write(&bytes, Hex::Ascii, &mut out);
        let expected = "\t0x0000:  4745 5420 2f20 4854 5450 2f31 2e31 0d0a  GET./.HTTP/1.1..\n\
                        \t0x0010:  1b5b 6d                                  .[m\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
