//! How the kernel ends its answer: `NLMSG_ERROR` (0 is success) or, after a dump, `NLMSG_DONE`.
//!
//! Both carry an errno below zero and, with `NETLINK_EXT_ACK`, attributes that say in words what was wrong
//! (netlink(7), linux/netlink.h). A dump's failure stands in `NLMSG_DONE`: who ignores it takes it for an empty answer.

use super::message::HEADER;
use super::{ALIGNMENT, Malformed, Message, attributes, take};

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the words.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What the kernel says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The errno; 0 is success.
    pub(crate) errno: i32,
    /// The kernel's words, printable; of a warning if the errno is 0.
    pub(crate) note: Option<String>,
}

impl Verdict {
    /// Reads the payload of an `NLMSG_ERROR`.
    pub(crate) fn of_error(message: &Message<'_>) -> Result<Verdict, Malformed> {
        let (errno, echo) = take::<4>(message.payload, "an error message has no errno")?;
        // What follows is the request's header, and, unless capped, the rest of the request.
        let (length, _) = take::<4>(echo, "an error message does not name its request")?;
        let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX);
        let echoed = if message.has(libc::NLM_F_CAPPED) { HEADER } else { length };
        let words = echoed.checked_next_multiple_of(ALIGNMENT).and_then(|start| echo.get(start..));
        Ok(Verdict::new(errno, message, words.unwrap_or(&[])))
    }

    /// Reads the payload of an `NLMSG_DONE`.
    pub(crate) fn of_done(message: &Message<'_>) -> Result<Verdict, Malformed> {
        let (errno, words) = take::<4>(message.payload, "the end of a dump has no errno")?;
        Ok(Verdict::new(errno, message, words))
    }

    fn new(errno: [u8; 4], message: &Message<'_>, words: &[u8]) -> Verdict {
        // The words are a courtesy: where they cannot be read, the errno still counts.
        let note = message.has(libc::NLM_F_ACK_TLVS).then(|| {
            attributes(words)
                .map_while(Result::ok)
                .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)
                .map(|attribute| crate::name::escape(attribute.text()))
        });
        // Above zero (a dump's byte count, of old kernels) is no error.
        let errno = i32::from_ne_bytes(errno);
        Verdict { errno: if errno < 0 { errno.saturating_neg() } else { 0 }, note: note.flatten() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, messages};

    fn verdict(kind: libc::c_int, flags: libc::c_int, fill: impl FnOnce(&mut Request)) -> Option<Verdict> {
        let mut request = Request::new(kind as u16, flags as u16);
        fill(&mut request);
        let bytes = request.with_sequence(9);
        let message = messages(&bytes).next()?.ok()?;
        match kind {
            libc::NLMSG_ERROR => Verdict::of_error(&message).ok(),
            _ => Verdict::of_done(&message).ok(),
        }
    }

    #[test]
    fn the_words_are_found_behind_a_capped_and_a_whole_echo() {
        let said = Verdict { errno: libc::EOPNOTSUPP, note: Some("Unknown device type".into()) };
        let mut echo = Request::new(libc::RTM_NEWLINK, 0);
        echo.put_text(3, b"a name of some length");
        let echo = echo.with_sequence(9);
        for (flags, echo) in [(libc::NLM_F_CAPPED, &echo[..HEADER]), (0, &echo[..])] {
            let got = verdict(libc::NLMSG_ERROR, flags | libc::NLM_F_ACK_TLVS, |r| {
                r.raw(&(-libc::EOPNOTSUPP).to_ne_bytes()).raw(echo).put_text(1, b"Unknown device type");
            });
            assert_eq!(got, Some(said.clone()));
        }
    }

    #[test]
    fn a_dumps_end_carries_its_error() {
        let got = verdict(libc::NLMSG_DONE, 0, |r| {
            r.raw(&(-libc::EINVAL).to_ne_bytes());
        });
        assert_eq!(got, Some(Verdict { errno: libc::EINVAL, note: None }));
    }

    #[test]
    fn the_smallest_number_is_no_overflow() {
        let got = verdict(libc::NLMSG_DONE, 0, |r| {
            r.raw(&i32::MIN.to_ne_bytes());
        });
        assert_eq!(got.map(|v| v.errno), Some(i32::MAX));
    }

    #[test]
    fn an_end_without_errno_is_malformed() {
        assert_eq!(verdict(libc::NLMSG_DONE, 0, |_| ()), None);
        assert_eq!(verdict(libc::NLMSG_ERROR, 0, |_| ()), None);
    }
}
