//! The name server of the machine's resolv.conf: it knows one name, and denies every other at once.
//!
//! Without an answer, Docker's and Podman's own name servers, which ask it for what they do not know, would let their
//! clients run into a time-out. The messages are those of RFC 1035, sections 4.1.1 and 4.1.2.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// Where it listens: an address for documentation (RFC 5737), on the machine's loopback link (`furnish.sh`).
const ADDRESS: [u8; 4] = [192, 0, 2, 53];
/// The name that it knows, with its own address: whoever can resolve it asks the machine's own name server.
const NAME: &[u8] = b"\x08resolver\x07testbed\x07invalid\x00";

/// The running name server; it stops, and lets go of the machine's network, when the value is dropped.
#[derive(Debug)]
pub(crate) struct Resolver {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts it in the network namespace of the process behind the pidfd `holder`.
    #[track_caller]
    pub(crate) fn start(holder: BorrowedFd<'_>) -> Resolver {
        let socket = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_thread_name_spaces(holder, ThreadNameSpaceType::NETWORK)?;
                UdpSocket::bind((Ipv4Addr::from(ADDRESS), 53))
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let socket = socket.unwrap_or_else(|e| panic!("cannot open the machine's name server's socket: {e}"));
        let (end, stop) = pipe_with(PipeFlags::CLOEXEC).unwrap_or_else(|e| panic!("cannot make a pipe: {e}"));
        let thread = std::thread::spawn(move || serve(&socket, &end));
        Resolver { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers until the other end of `end` is closed.
fn serve(socket: &UdpSocket, end: &OwnedFd) {
    let mut query = [0; 1500];
    loop {
        let mut either =
            [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN), PollFd::new(end, PollFlags::empty())];
        if poll(&mut either, None).is_err() {
            continue;
        }
        if !either[1].revents().is_empty() {
            return;
        }
        // An error here tells of an earlier answer that nobody wanted any more.
        if let Ok((length, from)) = socket.recv_from(&mut query)
            && let Some(answer) = answer(&query[..length])
        {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to one query; `None` if that is not one with one question.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let header = query.get(..HEADER)?;
    if header[2] & 0x80 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let mut end = HEADER;
    while let length @ 1..=63 = *query.get(end)? {
        end += 1 + usize::from(length);
    }
    let question = query.get(HEADER..end + 5)?;
    let (name, kind) = question.split_at(question.len() - 4);
    let known = name.eq_ignore_ascii_case(NAME);
    let has_address = known && kind == [0, 1, 0, 1];
    // An answer (QR), authoritative, recursion available if it was asked for; "no such name" is code 3.
    let mut answer = vec![header[0], header[1], 0x84 | (header[2] & 1), 0x80 | if known { 0 } else { 3 }];
    answer.extend([0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(question);
    if has_address {
        // The name by a pointer to the question, type A, class IN, an hour to live, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
        answer.extend(ADDRESS);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_cut_or_is_an_answer_gets_none() {
        let query = [b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0", NAME, b"\x00\x01\x00\x01"].concat();
        for length in 0..query.len() {
            assert_eq!(answer(&query[..length]), None, "{length}");
        }
        assert!(answer(&query).is_some_and(|a| a.ends_with(&ADDRESS)));
        let mut reply = query;
        reply[2] |= 0x80;
        assert_eq!(answer(&reply), None);
    }
}
