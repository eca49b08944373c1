//! What the kernel's datagrams mean for the request that is under way. Pure: it is fed bytes, the socket is elsewhere.
//!
//! A dump is any number of messages and an end, in any number of datagrams. It may be interrupted: then a message
//! carries `NLM_F_DUMP_INTR`, what was read is no consistent list, and it must be read again (netlink(7)).

use crate::parse::Refusal;
use crate::wire::{Malformed, Verdict, messages};

/// A dump that is being read.
pub(crate) struct Dump<T, P> {
    sequence: u32,
    expected: u16,
    parse: P,
    items: Vec<T>,
    interrupted: bool,
    refusal: Option<Refusal>,
}

/// How far a dump has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to come.
    More,
    /// That was the end.
    Ended(Verdict),
    /// A datagram could not be read; whether the end was in it is unknown.
    Lost,
}

/// What a dump came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// All of it.
    Complete(Vec<T>),
    /// It changed while it was being read.
    Interrupted,
    /// Something in it was not taken.
    Refused(Refusal),
    /// The kernel gave up; the errno is not 0.
    Failed(Verdict),
}

impl<T, P: FnMut(&[u8]) -> Result<Option<T>, Refusal>> Dump<T, P> {
    /// The answer to the request of this number, which consists of messages of the `expected` kind.
    pub(crate) fn new(sequence: u32, expected: u16, parse: P) -> Self {
        Dump { sequence, expected, parse, items: Vec::new(), interrupted: false, refusal: None }
    }

    /// Takes in a datagram. What answers another request is passed over.
    pub(crate) fn feed(&mut self, datagram: &[u8]) -> Progress {
        for message in messages(datagram) {
            let message = match message {
                Ok(message) => message,
                Err(malformed) => return self.lost(malformed),
            };
            if message.sequence != self.sequence {
                continue;
            }
            self.interrupted |= message.has(libc::NLM_F_DUMP_INTR);
            let verdict = match libc::c_int::from(message.kind) {
                libc::NLMSG_NOOP => continue,
                libc::NLMSG_DONE => Verdict::of_done(&message),
                libc::NLMSG_ERROR => Verdict::of_error(&message),
                _ => {
                    self.item(message.kind, message.payload);
                    continue;
                }
            };
            return match verdict {
                Ok(verdict) => Progress::Ended(verdict),
                Err(malformed) => self.lost(malformed),
            };
        }
        Progress::More
    }

    /// Sums up; `verdict` as [`Dump::feed`] gave it, `None` if the end was lost.
    pub(crate) fn outcome(self, verdict: Option<Verdict>) -> Outcome<T> {
        match (verdict, self.refusal) {
            (Some(verdict), _) if verdict.errno != 0 => Outcome::Failed(verdict),
            (_, Some(refusal)) => Outcome::Refused(refusal),
            (Some(_), None) if !self.interrupted => Outcome::Complete(self.items),
            _ => Outcome::Interrupted,
        }
    }

    fn item(&mut self, kind: u16, payload: &[u8]) {
        if self.refusal.is_some() {
            // The rest is read to its end, so that the socket is free for the next request.
            return;
        }
        if kind != self.expected {
            self.refusal = Some(Refusal::Malformed("a list holds a message of another kind"));
            return;
        }
        match (self.parse)(payload) {
            Ok(item) => self.items.extend(item),
            Err(refusal) => self.refusal = Some(refusal),
        }
    }

    fn lost(&mut self, malformed: Malformed) -> Progress {
        self.refusal.get_or_insert(malformed.into());
        Progress::Lost
    }
}

/// What a datagram says to a request that wants one answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The payload of the message that was asked for.
    Is(&'a [u8]),
    /// An end without an answer; success if the errno is 0.
    Ended(Verdict),
}

/// Looks in a datagram for the answer to the request of this number; `None` if it is not in there.
pub(crate) fn answer(
    datagram: &[u8],
    sequence: u32,
    expected: Option<u16>,
) -> Result<Option<Answer<'_>>, Malformed> {
    for message in messages(datagram) {
        let message = message?;
        if message.sequence != sequence {
            continue;
        }
        match libc::c_int::from(message.kind) {
            libc::NLMSG_NOOP => (),
            libc::NLMSG_ERROR => return Verdict::of_error(&message).map(Answer::Ended).map(Some),
            _ if Some(message.kind) == expected => return Ok(Some(Answer::Is(message.payload))),
            _ => return Err(Malformed("it is of another kind than what was asked for")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    const ITEM: u16 = libc::RTM_NEWLINK;

    fn message(kind: u16, flags: libc::c_int, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut request = Request::new(kind, flags as u16);
        request.raw(payload);
        request.with_sequence(sequence)
    }

    fn done(errno: i32) -> Vec<u8> {
        message(libc::NLMSG_DONE as u16, libc::NLM_F_MULTI, 5, &errno.to_ne_bytes())
    }

    fn read(datagrams: &[Vec<u8>]) -> (Option<Progress>, Outcome<Vec<u8>>) {
        let parse = |payload: &[u8]| match payload {
            b"bad." => Err(Refusal::Malformed("bad")),
            b"skip" => Ok(None),
            other => Ok(Some(other.to_vec())),
        };
        let mut dump = Dump::new(5, ITEM, parse);
        let mut last = None;
        for datagram in datagrams {
            match dump.feed(datagram) {
                Progress::Ended(verdict) => return (None, dump.outcome(Some(verdict))),
                progress => last = Some(progress),
            }
        }
        (last, dump.outcome(None))
    }

    #[test]
    fn a_list_over_several_datagrams_is_whole() {
        let first = [message(ITEM, 2, 5, b"one."), message(ITEM, 2, 5, b"skip")].concat();
        let second = [message(ITEM, 2, 5, b"two."), done(0)].concat();
        assert_eq!(read(&[first, second]).1, Outcome::Complete(vec![b"one.".to_vec(), b"two.".to_vec()]));
    }

    #[test]
    fn an_error_at_the_end_is_no_empty_list() {
        let failed = Outcome::Failed(Verdict { errno: libc::EINVAL, note: None });
        assert_eq!(read(&[done(-libc::EINVAL)]).1, failed);
    }

    #[test]
    fn an_interrupted_list_is_not_taken_wherever_the_flag_stands() {
        let intr = libc::NLM_F_DUMP_INTR;
        let in_an_item = [message(ITEM, intr, 5, b"one."), done(0)].concat();
        let at_the_end = message(libc::NLMSG_DONE as u16, intr, 5, &[0; 4]);
        assert_eq!(read(&[in_an_item]).1, Outcome::Interrupted);
        assert_eq!(read(&[at_the_end]).1, Outcome::Interrupted);
    }

    #[test]
    fn what_answers_another_request_is_passed_over() {
        let stale = [message(ITEM, libc::NLM_F_MULTI, 4, b"old."), message(3, 0, 4, &[0; 4])].concat();
        let own = [message(ITEM, 0, 5, b"new."), done(0)].concat();
        assert_eq!(read(&[stale, own]).1, Outcome::Complete(vec![b"new.".to_vec()]));
    }

    #[test]
    fn one_bad_item_spoils_the_list_but_it_is_read_to_its_end() {
        let datagram = [message(ITEM, 0, 5, b"bad."), message(ITEM, 0, 5, b"one."), done(0)].concat();
        assert_eq!(read(&[datagram]), (None, Outcome::Refused(Refusal::Malformed("bad"))));
    }

    #[test]
    fn an_item_of_another_kind_spoils_the_list() {
        let datagram = [message(ITEM + 1, 0, 5, b"one."), done(0)].concat();
        assert!(matches!(read(&[datagram]).1, Outcome::Refused(_)));
    }

    #[test]
    fn a_datagram_that_cannot_be_read_loses_the_dump() {
        let mut datagram = message(ITEM, 0, 5, b"one.");
        datagram.pop();
        let (last, outcome) = read(&[datagram]);
        assert_eq!(last, Some(Progress::Lost));
        assert!(matches!(outcome, Outcome::Refused(_)));
    }

    #[test]
    fn an_answer_is_found_behind_an_old_one() {
        let datagram = [message(ITEM, 0, 4, b"old."), message(ITEM, 0, 5, b"new.")].concat();
        assert_eq!(answer(&datagram, 5, Some(ITEM)), Ok(Some(Answer::Is(b"new."))));
        assert_eq!(answer(&datagram, 6, Some(ITEM)), Ok(None));
        assert!(answer(&datagram, 5, None).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = read(std::slice::from_ref(&bytes));
            let _ = answer(&bytes, 0, None);
        }
    }
}
