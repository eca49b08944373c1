//! What is said in datagrams: each is a message of its own, so nothing has to be put together.

use std::collections::VecDeque;

use super::{Garbled, Kind, Options, Protocol, RAW_CHUNK, Said, dns};
use crate::event::{Direction, Time};

/// How many questions without an answer are remembered.
const MAX_PENDING: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was seen.
    Unknown,
    Dns,
    Raw,
}

/// The datagrams of one flow.
#[derive(Debug)]
pub struct Datagrams {
    options: Options,
    state: State,
    /// Questions, by their id and when they were asked.
    pending: VecDeque<(u64, Time)>,
}

impl Datagrams {
    /// A flow that has not begun.
    pub fn new(options: &Options) -> Datagrams {
        let state = match options.protocol {
            None => State::Unknown,
            Some(Protocol::Dns) => State::Dns,
            Some(_) => State::Raw,
        };
        Datagrams { options: *options, state, pending: VecDeque::new() }
    }

    /// Reads a datagram; what was said in it goes behind what is in `said`.
    pub fn feed(&mut self, direction: Direction, time: Time, bytes: &[u8], said: &mut Vec<Said>) {
        let read = match self.state {
            State::Raw => Err(Garbled("")),
            State::Unknown | State::Dns => dns::message(direction, bytes),
        };
        match read {
            Ok(message) if self.state == State::Dns || dns::is_question(bytes) => {
                self.state = State::Dns;
                said.push(self.pair(message, time));
            }
            read => {
                if let (State::Dns, Err(Garbled(why))) = (self.state, read) {
                    let text = format!("raw from here: {why}");
                    said.push(Said::new(direction, Protocol::Dns, Kind::Raw, text));
                }
                self.state = State::Raw;
                self.pending.clear();
                self.raw(direction, bytes, said);
            }
        }
    }

    /// Whether all that was asked is answered, as far as it was understood.
    pub fn is_done(&self) -> bool {
        self.state == State::Dns && self.pending.is_empty()
    }

    /// Finds what a message answers.
    fn pair(&mut self, message: Said, time: Time) -> Said {
        let id = message.stream.unwrap_or_default();
        if message.kind == Kind::Request {
            if self.pending.len() >= MAX_PENDING {
                self.pending.pop_front();
            }
            self.pending.push_back((id, time));
            return message;
        }
        let begun = self.pending.iter().position(|(known, _)| *known == id);
        let begun = begun.and_then(|at| self.pending.remove(at));
        message.took(begun.map(|(_, begun)| time.since(begun)))
    }

    fn raw(&self, direction: Direction, bytes: &[u8], said: &mut Vec<Said>) {
        if self.options.raw {
            let mut raw = Said::new(direction, Protocol::Raw, Kind::Bytes, String::new());
            raw.bytes = bytes[..bytes.len().min(RAW_CHUNK)].to_vec();
            said.push(raw);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Direction::{ToClient, ToServer};

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x03lab\0\0\x01\0\x01";

    fn said(datagrams: &[(Direction, &[u8])]) -> (Vec<String>, bool) {
        let mut flow = Datagrams::new(&Options { raw: true, ..Options::default() });
        let mut said = Vec::new();
        for (at, (direction, bytes)) in datagrams.iter().enumerate() {
            flow.feed(*direction, Time(at as u64 * 1_000_000), bytes, &mut said);
        }
        let line = |said: &Said| format!("{} {:?} {}", said.text, said.took, said.bytes.len());
        (said.iter().map(line).collect(), flow.is_done())
    }

    #[test]
    fn a_question_is_paired_with_its_answer_whatever_comes_between() {
        let mut other = QUESTION.to_vec();
        other[1] = 0x35;
        let mut answer = QUESTION.to_vec();
        answer[2] = 0x81;
        answer[3] = 0x83;
        let mut last = answer.clone();
        last[1] = 0x35;
        let all = [(ToServer, QUESTION), (ToServer, &other), (ToClient, &answer)];
        let (lines, done) = said(&all);
        assert_eq!(lines, ["A web.lab None 0", "A web.lab None 0", "A web.lab: NXDOMAIN Some(2ms) 0"]);
        assert!(!done);
        assert!(said(&[&all[..], &[(ToClient, &last)]].concat()).1);
    }

    #[test]
    fn what_is_no_dns_is_raw_and_what_becomes_garbled_says_so_once() {
        assert_eq!(said(&[(ToServer, b"hello"), (ToClient, b"you")]).0, [" None 5", " None 3"]);
        let lines = said(&[(ToServer, QUESTION), (ToClient, b"x"), (ToServer, QUESTION)]).0;
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[1].starts_with("raw from here"), "{lines:?}");
    }

    proptest! {
        #[test]
        fn garbage_harms_nobody(datagrams in proptest::collection::vec((any::<bool>(), any::<Vec<u8>>()), 0..20)) {
            let mut flow = Datagrams::new(&Options { raw: true, ..Options::default() });
            let mut said = Vec::new();
            for (to_server, bytes) in &datagrams {
                flow.feed(if *to_server { ToServer } else { ToClient }, Time(1), bytes, &mut said);
            }
            prop_assert!(said.iter().filter(|said| said.kind == Kind::Raw).count() <= 1);
        }
    }
}
