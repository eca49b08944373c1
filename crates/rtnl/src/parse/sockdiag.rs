//! An IPv6 socket of a sock_diag dump: `struct inet_diag_msg` and `INET_DIAG_*` (linux/inet_diag.h).

use super::Refusal;
use crate::wire::{attributes, take};

/// The length of `struct inet_diag_msg`, whose last four bytes are the socket's inode.
const MESSAGE: usize = 72;
/// `INET_DIAG_SKV6ONLY`: told of sockets that wait.
const SKV6ONLY: u16 = 11;

/// Reads a socket; its inode if it takes no IPv4.
pub(crate) fn v6_only(payload: &[u8]) -> Result<Option<u64>, Refusal> {
    let (message, rest) = take::<MESSAGE>(payload, "a socket ends within its header")?;
    let [.., i0, i1, i2, i3] = message;
    let inode = u32::from_ne_bytes([i0, i1, i2, i3]);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind == SKV6ONLY {
            return Ok((attribute.u8()? != 0).then_some(u64::from(inode)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    fn encode(inode: u32, only: u8) -> Vec<u8> {
        let mut message = Request::new(0, 0);
        message.raw(&[0xff; MESSAGE - 4]).raw(&inode.to_ne_bytes()).put(SKV6ONLY, &[only]);
        message.with_sequence(1)[16..].to_vec()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = v6_only(&bytes);
        }

        #[test]
        fn what_is_encoded_is_decoded(inode: u32) {
            prop_assert_eq!(v6_only(&encode(inode, 1)), Ok(Some(u64::from(inode))));
            prop_assert_eq!(v6_only(&encode(inode, 0)), Ok(None));
        }
    }
}
