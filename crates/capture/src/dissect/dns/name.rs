//! Names in messages of DNS, which may go on anywhere earlier in the message (RFC 1035, section 4.1.4).

use serde::{Serialize, Serializer};

use crate::dissect::text;

/// A name: where it begins, and the message that it may point into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Name<'a> {
    /// The name at this place, and where the message goes on behind it.
    pub(crate) fn read(message: &'a [u8], at: usize) -> Option<(Self, usize)> {
        let mut end = at;
        loop {
            let length = usize::from(*message.get(end)?);
            end += match length {
                0 => 1,
                0xc0.. => 2,
                1..=0x3f => {
                    end += 1 + length;
                    continue;
                }
                _ => return None,
            };
            return (end <= message.len()).then_some((Name { message, at }, end));
        }
    }

    /// The labels with a dot behind each. What points anywhere but backwards, or is longer than a name may be, ends
    /// in `<BAD PTR>`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (mut at, mut lowest, mut written) = (self.at, self.at, 0);
        loop {
            match self.message.get(at).copied() {
                Some(0) => break,
                Some(pointer @ 0xc0..) => {
                    let Some(&low) = self.message.get(at + 1) else { return text::put(out, "<BAD PTR>") };
                    at = usize::from(u16::from_be_bytes([pointer & 0x3f, low]));
                    if at >= lowest {
                        return text::put(out, "<BAD PTR>");
                    }
                    lowest = at;
                }
                Some(length @ 1..=0x3f) => {
                    let length = usize::from(length);
                    written += length + 1;
                    let Some(label) = self.message.get(at + 1..at + 1 + length).filter(|_| written < 256)
                    else {
                        return text::put(out, "<BAD PTR>");
                    };
                    for (at, part) in label.split(|byte| *byte == b'.').enumerate() {
                        if at > 0 {
                            text::put(out, "\\.");
                        }
                        text::escaped(out, part);
                    }
                    out.push(b'.');
                    at += length + 1;
                }
                _ => return text::put(out, "<BAD PTR>"),
            }
        }
        if written == 0 {
            out.push(b'.');
        }
    }
}

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::string(|out| self.write(out)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Name;
    use crate::dissect::text::string;

    fn written(message: &[u8], at: usize) -> Option<String> {
        Name::read(message, at).map(|(name, _)| string(|out| name.write(out)))
    }

    #[test]
    fn a_name_goes_on_where_it_points() {
        let message = b"\x03www\x07example\x00\x03api\xc0\x04";
        assert_eq!(written(message, 0).unwrap(), "www.example.");
        assert_eq!(written(message, 13).unwrap(), "api.example.");
        assert_eq!(Name::read(message, 13).unwrap().1, message.len());
        assert_eq!(written(b"\x00", 0).unwrap(), ".");
    }

    #[test]
    fn loops_and_forward_pointers_end() {
        assert_eq!(written(b"\xc0\x00", 0).unwrap(), "<BAD PTR>");
        assert_eq!(written(b"\x01a\xc0\x00", 0).unwrap(), "a.<BAD PTR>");
        assert_eq!(written(b"\xc0\x02\x01a\x00", 0).unwrap(), "<BAD PTR>");
        assert_eq!(written(b"\x05ab", 0), None);
    }

    #[test]
    fn what_is_not_a_letter_is_escaped() {
        assert_eq!(written(b"\x06a.b\x1b\\c\x00", 0).unwrap(), "a\\.b\\x1b\\\\c.");
    }

    proptest! {
        #[test]
        fn any_message_gives_a_short_name(message: Vec<u8>, at in 0usize..64) {
            if let Some(name) = written(&message, at) {
                prop_assert!(name.len() < 4 * 256 + 10);
            }
        }
    }
}
