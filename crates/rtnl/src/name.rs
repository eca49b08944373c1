//! Names of links as text that is safe to print, and back to the bytes that the kernel knows.
//!
//! The kernel forbids little in a name: no slash, colon or white space, at most 15 bytes (net/core/dev.c,
//! `dev_valid_name`). Whoever is root in a container may call a link `a\e[31mb`. So every byte that a terminal might
//! obey is written `\xNN`; so is the backslash, which makes the text unequivocal: two links never read alike.

/// The longest name of a link, in bytes (`IFNAMSIZ` without the zero).
pub(crate) const NAME_MAX: usize = 15;
/// The longest alternative name of a link, in bytes (`ALTIFNAMSIZ` without the zero).
pub(crate) const ALT_NAME_MAX: usize = 127;

/// Makes bytes printable: what is not UTF-8, controls, or reorders or hides text becomes `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) {
                text.push(c);
            } else {
                let mut utf8 = [0; 4];
                c.encode_utf8(&mut utf8).bytes().for_each(|byte| push_hex(&mut text, byte));
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_hex(&mut text, byte));
    }
    text
}

/// The bytes that a printable name stands for. A backslash that begins no `\xNN` stands for itself.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if let [b'\\', b'x', high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            bytes.push(high << 4 | low);
            rest = tail;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

/// Whether a character shows as itself wherever it is printed.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\\'
            // Zero width, direction marks and overrides, separators, invisible operators, byte order mark.
            | '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_hex(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.push_str("\\x");
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 15)]);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["eth0", "veth2e7d114", "br-6f0c", "wlan0.100", "größe"] {
            assert_eq!(escape(name.as_bytes()), name);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        assert_eq!(escape(b"a\x1b[31mb"), r"a\x1b[31mb");
        assert_eq!(escape(b"a\xffb"), r"a\xffb");
        assert_eq!(escape("a\u{202e}b".as_bytes()), r"a\xe2\x80\xaeb");
        assert_eq!(escape("a\u{85}b".as_bytes()), r"a\xc2\x85b");
    }

    #[test]
    fn a_link_cannot_pose_as_another_by_spelling_out_an_escape() {
        assert_ne!(escape(br"a\x1b"), escape(b"a\x1b"));
    }

    #[test]
    fn half_an_escape_stands_for_itself() {
        for text in ["\\", r"\x", r"\x1", r"\xg0", r"a\b"] {
            assert_eq!(unescape(text), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(bytes: Vec<u8>) {
            let text = escape(&bytes);
            prop_assert!(text.chars().all(|c| !c.is_control()));
            prop_assert_eq!(unescape(&text), bytes);
        }
    }
}
