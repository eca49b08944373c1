//! What follows the fixed part of a message is a row of attributes: length, type, payload (`struct nlattr`).

use super::{ALIGNMENT, Malformed};

/// The length of `struct nlattr`.
const HEADER: usize = 4;
/// The upper two bits of the type are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// `IFLA_*`, `IFA_*`, `RTA_*` and so on, without the flags.
    pub(crate) kind: u16,
    /// The value.
    pub(crate) payload: &'a [u8],
}

/// The attributes in these bytes; ends after the first one that is malformed.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // Fewer bytes than a header are padding; the kernel itself ignores them (lib/nlattr.c).
        if rest.len() < HEADER {
            return None;
        }
        let first = split(rest);
        rest = first.map_or(&[], |(_, rest)| rest);
        Some(first.map(|(attribute, _)| attribute))
    })
}

/// The first attribute and what comes after it.
fn split(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    const LIES: Malformed = Malformed("an attribute is longer than its message, or shorter than its header");
    let Some((&[l0, l1, k0, k1], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(LIES);
    };
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let payload = bytes.get(HEADER..length).ok_or(LIES)?;
    let rest = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
    Ok((Attribute { kind: u16::from_ne_bytes([k0, k1]) & TYPE_MASK, payload }, rest))
}

impl<'a> Attribute<'a> {
    /// The value as one byte.
    pub(crate) fn u8(&self) -> Result<u8, Malformed> {
        self.exactly().map(|[byte]| byte)
    }

    /// The value as a number of 32 bits.
    pub(crate) fn u32(&self) -> Result<u32, Malformed> {
        self.exactly().map(u32::from_ne_bytes)
    }

    /// The value as a signed number of 32 bits.
    pub(crate) fn i32(&self) -> Result<i32, Malformed> {
        self.exactly().map(i32::from_ne_bytes)
    }

    /// The value as a string of C, without the zero that ends it.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.payload.split(|&byte| byte == 0).next().unwrap_or(&[])
    }

    /// The value as attributes of its own.
    pub(crate) fn nested(&self) -> impl Iterator<Item = Result<Attribute<'a>, Malformed>> + use<'a> {
        attributes(self.payload)
    }

    fn exactly<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed("a number has the wrong length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, messages};
    use proptest::prelude::*;

    #[test]
    fn a_length_that_lies_is_malformed() {
        for length in [0u16, 3, 5, u16::MAX] {
            let [l0, l1] = length.to_ne_bytes();
            let bytes = [l0, l1, 1, 0];
            let all: Vec<_> = attributes(&bytes).collect();
            assert!(matches!(all[..], [Err(Malformed(_))]), "{length}");
        }
    }

    #[test]
    fn the_flags_of_a_type_are_not_part_of_it() {
        let [k0, k1] = (0x8000u16 | 18).to_ne_bytes();
        let [l0, l1] = 4u16.to_ne_bytes();
        let bytes = [l0, l1, k0, k1];
        assert_eq!(attributes(&bytes).next(), Some(Ok(Attribute { kind: 18, payload: &[] })));
    }

    #[test]
    fn numbers_must_have_their_length() {
        let three = Attribute { kind: 1, payload: &[1, 2, 3] };
        assert!(three.u8().is_err() && three.u32().is_err() && three.i32().is_err());
    }

    #[test]
    fn a_string_ends_at_its_zero() {
        assert_eq!(Attribute { kind: 1, payload: b"eth0\0rest" }.text(), b"eth0");
        assert_eq!(Attribute { kind: 1, payload: b"eth0" }.text(), b"eth0");
        assert_eq!(Attribute { kind: 1, payload: b"" }.text(), b"");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / HEADER + 1);
        }

        #[test]
        fn what_is_encoded_is_decoded(
            wanted in prop::collection::vec((0u16..=TYPE_MASK, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let mut request = Request::new(0, 0);
            request.nest(7, |nest| wanted.iter().for_each(|(kind, payload)| { nest.put(*kind, payload); }));
            let bytes = request.with_sequence(1);
            let message = messages(&bytes).next().unwrap().unwrap();
            let nest = attributes(message.payload).next().unwrap().unwrap();
            prop_assert_eq!(nest.kind, 7);
            let got: Result<Vec<_>, _> =
                nest.nested().map(|a| a.map(|a| (a.kind, a.payload.to_vec()))).collect();
            prop_assert_eq!(got.unwrap(), wanted);
        }
    }
}
