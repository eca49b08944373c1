//! One question and its answer on a connection of its own, waited for without a runtime.
//!
//! A target is looked up this way: a runtime, and a client that could keep its connection, would take a tenth of an entry's
//! whole time. It is asked in HTTP/1.0 (RFC 1945), in which an answer comes in one piece and ends with its connection where
//! it does not tell its length. Whoever answers in another way is asked again, by the client that knows them all.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketAddrUnix, SocketFlags};

use super::{Client, LONGEST_BODY, LONGEST_HEAD, MOST_HEADERS, Reply};
use crate::asking::go_on;
use crate::fault::{Fault, Result};
use crate::owner;
use crate::unixsockets::{connect, is_timeout, left};

/// What Docker says of a container is some five thousand bytes.
const AT_ONCE: usize = 8 << 10;

/// What came of a question.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    /// Whose engine it is.
    pub(crate) uid: u32,
    /// When the conversation began, if what was done meanwhile is left out: that was not the engine's time.
    pub(crate) begun: Instant,
}

/// Asks. Once the question is out, and while the engine thinks about it, `meanwhile` is done.
pub(crate) fn ask(path: &Path, target: &str, time: Duration, meanwhile: impl FnOnce()) -> Result<Answered> {
    debug_assert!(!target.contains(|c: char| c.is_whitespace() || c.is_control()), "{target:?} is no target");
    let begun = Instant::now();
    let request = format!("GET {target}");
    tracing::debug!(socket = %path.display(), %request, "asking");
    let stream = SocketAddrUnix::new(path)
        .map_err(io::Error::from)
        .and_then(|address| connect(&address, begun + time, SocketFlags::CLOEXEC))
        .map_err(|source| match is_timeout(&source) {
            true => Fault::TimedOut(time),
            false => Fault::Connect { path: path.to_owned(), source },
        })?;
    let uid = owner::of_engine(&stream, path)?;
    let mut question = Question { stream, request, time, until: begun + time, said: Vec::new() };
    question.put()?;
    let interrupted = Instant::now();
    meanwhile();
    let begun = begun + interrupted.elapsed();
    question.until = begun + time;
    let head = question.head()?;
    let reply = if head.is_plain {
        question.reply(head)?
    } else {
        // Who serves one after the other waits for this connection's end.
        drop(question);
        go_on(begun, time, async { Client::connect_to(path, uid).await?.get(target).await })?
    };
    Ok(Answered { reply, uid, begun })
}

struct Question {
    stream: UnixStream,
    request: String,
    time: Duration,
    until: Instant,
    /// What has come so far.
    said: Vec<u8>,
}

/// What stands before an answer's body.
#[derive(Debug)]
struct Head {
    status: StatusCode,
    /// Its own length.
    length: usize,
    /// The body's, if it is told.
    body: Option<usize>,
    /// Whether a body in one piece follows, as HTTP/1.0 has it.
    is_plain: bool,
}

impl Question {
    fn broken(&self, why: &dyn std::fmt::Display) -> Fault {
        Fault::Broken { request: self.request.clone(), why: why.to_string() }
    }

    fn put(&mut self) -> Result<()> {
        // What a name service would make of the host matters to nobody: the socket is the host.
        let words = format!("{} HTTP/1.0\r\nHost: localhost\r\n\r\n", self.request);
        self.stream.write_all(words.as_bytes()).map_err(|e| self.broken(&e))
    }

    /// Reads some more; `false` at the end.
    fn read(&mut self) -> Result<bool> {
        self.said.reserve(AT_ONCE);
        loop {
            let left = left(self.until).map_err(|_| Fault::TimedOut(self.time))?;
            let read = set_socket_timeout(&self.stream, Timeout::Recv, Some(left))
                .and_then(|()| rustix::io::read(&self.stream, spare_capacity(&mut self.said)));
            match read {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Fault::TimedOut(self.time)),
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn head(&mut self) -> Result<Head> {
        loop {
            if let Some(head) = head(&self.said).map_err(|why| self.broken(&why))? {
                return Ok(head);
            }
            if self.said.len() > LONGEST_HEAD {
                return Err(self.broken(&"its headers have no end"));
            }
            if !self.read()? {
                return Err(self.broken(&"it ended before its headers did"));
            }
        }
    }

    fn reply(mut self, head: Head) -> Result<Reply> {
        let too_long = |request: String| Fault::TooLong { request, limit: LONGEST_BODY };
        let most = head.length + LONGEST_BODY;
        // One byte too many tells that an answer without a length is too long.
        let end = head.body.map_or(most + 1, |body| head.length.saturating_add(body));
        if end > most + 1 {
            return Err(too_long(self.request));
        }
        while self.said.len() < end {
            if !self.read()? {
                if head.body.is_some() {
                    return Err(self.broken(&"it ended before the length that it told"));
                }
                break;
            }
        }
        self.said.truncate(end);
        if self.said.len() > most {
            return Err(too_long(self.request));
        }
        let body = bytes::Bytes::from(self.said).slice(head.length..);
        let is_whole = head.body.is_some();
        Ok(Reply { request: self.request, status: head.status, body, is_whole })
    }
}

/// Reads the head of an answer; `None` as long as it is not whole.
fn head(said: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(said) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("it has no status")?;
    let (mut body, mut in_pieces) = (None, false);
    for header in answer.headers.iter() {
        in_pieces |= header.name.eq_ignore_ascii_case("transfer-encoding");
        if header.name.eq_ignore_ascii_case("content-length") {
            let told = content_length(header.value).ok_or("its length is no number")?;
            if body.is_some_and(|body| body != told) {
                return Err("it tells two lengths".to_owned());
            }
            body = Some(told);
        }
    }
    let is_refused = matches!(status, StatusCode::UPGRADE_REQUIRED | StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    Ok(Some(Head { status, length, body, is_plain: !in_pieces && !status.is_informational() && !is_refused }))
}

/// Digits and nothing else (RFC 9110, section 8.6). More than can be counted is more than anybody wants.
fn content_length(value: &[u8]) -> Option<usize> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let counted = digits
        .iter()
        .try_fold(0usize, |all, digit| all.checked_mul(10)?.checked_add(usize::from(digit - b'0')));
    Some(counted.unwrap_or(usize::MAX))
}

/// A way in for a fuzzer.
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = head(bytes);
}
