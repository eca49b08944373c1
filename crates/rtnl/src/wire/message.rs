//! A datagram is a row of messages, each with a header of 16 bytes (`struct nlmsghdr`).

use super::{ALIGNMENT, Malformed};

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// The number of the request that it answers; 0 if it answers none.
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl Message<'_> {
    /// Whether the kernel set this flag.
    pub(crate) fn has(&self, flag: libc::c_int) -> bool {
        libc::c_int::from(self.flags) & flag != 0
    }
}

/// The messages of a datagram; ends after the first one that is malformed.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let first = split(rest);
        rest = first.map_or(&[], |(_, rest)| rest);
        Some(first.map(|(message, _)| message))
    })
}

/// The first message and what comes after it.
fn split(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let Some((&header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Malformed("a message ends within its header"));
    };
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let payload = bytes
        .get(HEADER..length)
        .ok_or(Malformed("a message is longer than its datagram, or shorter than its header"))?;
    // The last message of a datagram may come without its padding.
    let rest = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
    let message = Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        payload,
    };
    Ok((message, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, datagram};
    use proptest::prelude::*;

    #[test]
    fn no_bytes_are_no_messages() {
        assert_eq!(messages(&[]).count(), 0);
    }

    #[test]
    fn a_length_that_lies_is_malformed() {
        for length in [0u32, 15, 17, u32::MAX] {
            let mut bytes = [0u8; HEADER];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            let all: Vec<_> = messages(&bytes).collect();
            assert!(matches!(all[..], [Err(Malformed(_))]), "{length}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER + 1);
        }

        #[test]
        fn what_is_encoded_is_decoded(
            wanted in prop::collection::vec(
                (any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            sequence: u32,
        ) {
            let requests: Vec<Request> = wanted.iter().map(|(kind, flags, payload)| {
                let mut request = Request::new(*kind, *flags);
                request.raw(payload);
                request
            }).collect();
            let datagram = datagram(&requests.iter().collect::<Vec<_>>(), sequence);
            let got: Result<Vec<_>, _> = messages(&datagram)
                .map(|m| m.map(|m| (m.kind, m.flags, m.sequence, m.payload.to_vec())))
                .collect();
            let wanted: Vec<_> = wanted.into_iter().map(|(k, f, p)| (k, f, sequence, p)).collect();
            prop_assert_eq!(got.unwrap(), wanted);
        }
    }
}
