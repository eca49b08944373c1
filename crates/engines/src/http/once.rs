//! One question and its answer on a connection of its own, waited for without a runtime.
//!
//! A target is looked up this way: a runtime, and a client that could keep its connection, would take a tenth of an entry's
//! whole time. It is HTTP/1.0 (RFC 1945), whose answers are never in chunks, and end with their connection where they do
//! not tell their length.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{LONGEST_BODY, LONGEST_HEAD, MOST_HEADERS, Reply};
use crate::fault::{Fault, Result};
use crate::owner;

/// What Docker says of a container is some five thousand bytes.
const AT_ONCE: usize = 8 << 10;

/// Asks, and gives the answer and whose engine it is. Once the question is out, and while the engine thinks about it,
/// `meanwhile` is done.
pub(crate) fn ask(
    path: &Path,
    target: &str,
    time: Duration,
    meanwhile: impl FnOnce(),
) -> Result<(Reply, u32)> {
    let until = Instant::now() + time;
    let stream = connect(path, time)?;
    let uid = owner::of_engine(&stream, path)?;
    let request = format!("GET {target}");
    tracing::debug!(socket = %path.display(), %request, "asking");
    let mut conversation = Conversation { stream, request, time, until, said: Vec::with_capacity(AT_ONCE) };
    // What a name service would make of the host matters to nobody: the socket is the host.
    let question = format!("{} HTTP/1.0\r\nHost: localhost\r\n\r\n", conversation.request);
    conversation.stream.write_all(question.as_bytes()).map_err(|e| conversation.broken(&e))?;
    meanwhile();
    let head = conversation.head()?;
    Ok((conversation.reply(head)?, uid))
}

/// A connection on which nothing waits for longer. To connect waits as well where too many others do (unix(7)).
fn connect(path: &Path, time: Duration) -> Result<UnixStream> {
    let connected = (|| {
        let address = SocketAddrUnix::new(path)?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(time))?;
        rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
        Ok(UnixStream::from(socket))
    })();
    connected.map_err(|error| match error {
        Errno::AGAIN => Fault::TimedOut(time),
        error => Fault::Connect { path: path.to_owned(), source: error.into() },
    })
}

struct Conversation {
    stream: UnixStream,
    request: String,
    time: Duration,
    until: Instant,
    /// What has come so far.
    said: Vec<u8>,
}

/// What stands before the answer's body.
struct Head {
    status: StatusCode,
    /// Its own length.
    length: usize,
    /// The body's, if it is told.
    body: Option<usize>,
}

impl Conversation {
    fn broken(&self, why: &dyn std::fmt::Display) -> Fault {
        Fault::Broken { request: self.request.clone(), why: why.to_string() }
    }

    /// Reads some more; `false` at the end.
    fn read(&mut self) -> Result<bool> {
        self.said.reserve(AT_ONCE);
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Which would be for ever, as a time-out.
                return Err(Fault::TimedOut(self.time));
            }
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
        let limit = head.body.unwrap_or(LONGEST_BODY);
        let too_long = |request: String| Fault::TooLong { request, limit: LONGEST_BODY };
        if limit > LONGEST_BODY {
            return Err(too_long(self.request));
        }
        let end = head.length + limit;
        // One byte more tells whether an answer without a length is at its end.
        let wanted = end + usize::from(head.body.is_none());
        while self.said.len() < wanted {
            if !self.read()? {
                match head.body {
                    None => break,
                    Some(_) => return Err(self.broken(&"it ended before the length that it told")),
                }
            }
        }
        if head.body.is_none() && self.said.len() > end {
            return Err(too_long(self.request));
        }
        self.said.truncate(end);
        let body = bytes::Bytes::from(self.said).slice(head.length..);
        Ok(Reply { request: self.request, status: head.status, body })
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
    let mut body = None;
    for header in answer.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("it is in pieces, which were not asked for".to_owned());
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let told = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            body = Some(told.ok_or("its length is no number")?);
        }
    }
    Ok(Some(Head { status, length, body }))
}
