//! RTM_NEWNSID: `struct rtgenmsg` and `NETNSA_*` (linux/net_namespace.h).

use crate::NsId;
use crate::wire::{Malformed, attributes, take};

/// `NETNSA_NSID` of linux/net_namespace.h.
pub(crate) const NETNSA_NSID: u16 = 1;
/// `NETNSA_FD` of linux/net_namespace.h.
pub(crate) const NETNSA_FD: u16 = 3;
/// `NETNSA_NSID_NOT_ASSIGNED` of linux/net_namespace.h.
pub(crate) const NOT_ASSIGNED: i32 = -1;

/// Reads the id of a namespace; `None` if it has none yet.
pub(crate) fn nsid(payload: &[u8]) -> Result<Option<NsId>, Malformed> {
    let (_, rest) = take::<4>(payload, "a namespace id ends within its header")?;
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind == NETNSA_NSID {
            let id = NsId::new(attribute.i32()?);
            return Ok(id.is_assigned().then_some(id));
        }
    }
    Err(Malformed("the answer holds no namespace id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    fn encode(id: i32) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWNSID, 0);
        message.raw(&[0; 4]).put_i32(NETNSA_NSID, id);
        message.with_sequence(1)[16..].to_vec()
    }

    #[test]
    fn no_id_yet_is_not_an_id() {
        assert_eq!(nsid(&encode(NOT_ASSIGNED)), Ok(None));
        assert!(nsid(&[0; 4]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = nsid(&bytes);
        }

        #[test]
        fn what_is_encoded_is_decoded(id in 0..=i32::MAX) {
            prop_assert_eq!(nsid(&encode(id)), Ok(Some(NsId::new(id))));
        }
    }
}
