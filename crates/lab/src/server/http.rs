//! As much of an HTTP/1.1 server (RFC 9112) as a test needs: every request is answered with a greeting.
//!
//! Connections are kept alive. A body with a length is skipped; one whose end cannot be told without decoding ends
//! the connection after the answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};

/// No head is longer.
const MAX_HEAD: u64 = 16 << 10;

/// What must be known of a request to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The answer has a head only.
    pub(crate) is_head: bool,
    /// The connection goes on after the answer.
    pub(crate) keep: bool,
    /// How many bytes of body follow.
    pub(crate) body: u64,
}

/// Reads a request's head, up to and with the empty line; `None` if it is none.
pub(crate) fn parse_head(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut request = lines.next()?.split(' ');
    let (method, _target, version) = (request.next()?, request.next()?, request.next()?);
    if request.next().is_some() || method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut keep = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    let mut body = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            body = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            keep = false;
        } else if name.eq_ignore_ascii_case("connection") {
            if value.eq_ignore_ascii_case("close") {
                keep = false;
            } else if value.eq_ignore_ascii_case("keep-alive") {
                keep = true;
            }
        }
    }
    Some(Head { is_head: method == "HEAD", keep, body })
}

/// The whole answer.
pub(crate) fn response(name: &str, peer: IpAddr, head: Option<Head>) -> Vec<u8> {
    let (status, body) = match head {
        Some(_) => ("200 OK", format!("hello from {name}, you are {peer}\n")),
        None => ("400 Bad Request", "this is not HTTP/1.1\n".to_owned()),
    };
    let connection = if head.is_some_and(|head| head.keep) { "keep-alive" } else { "close" };
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    if !head.is_some_and(|head| head.is_head) {
        text.push_str(&body);
    }
    text.into_bytes()
}

/// Answers the requests of one connection.
pub(crate) fn serve(name: &str, stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(stream);
    loop {
        let Some(bytes) = read_head(&mut reader)? else { return Ok(()) };
        let head = parse_head(&bytes);
        reader.get_mut().write_all(&response(name, peer, head))?;
        let Some(head) = head.filter(|head| head.keep) else { return Ok(()) };
        let skipped = io::copy(&mut reader.by_ref().take(head.body), &mut io::sink())?;
        if skipped < head.body {
            return Ok(());
        }
    }
}

/// Reads up to the empty line; `None` if the peer has finished without a word.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut left = reader.take(MAX_HEAD);
    loop {
        let before = head.len();
        if left.read_until(b'\n', &mut head)? == 0 {
            return Ok((!head.is_empty()).then_some(head));
        }
        let line = head.get(before..).unwrap_or_default();
        // An empty line before the request is tolerated (RFC 9112, 2.2).
        if before == 0 && matches!(line, b"\n" | b"\r\n") {
            head.clear();
        } else if matches!(line, b"\n" | b"\r\n") {
            return Ok(Some(head));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Option<Head> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn heads_say_whether_the_connection_is_kept() {
        let plain = Head { is_head: false, keep: true, body: 0 };
        assert_eq!(head("GET / HTTP/1.1\r\nHost: web\r\n\r\n"), Some(plain));
        assert_eq!(head("GET / HTTP/1.0\r\n\r\n"), Some(Head { keep: false, ..plain }));
        assert_eq!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), Some(plain));
        assert_eq!(head("GET / HTTP/1.1\nconnection: close\n\n"), Some(Head { keep: false, ..plain }));
        assert_eq!(head("POST /x HTTP/1.1\r\nContent-Length: 12\r\n\r\n"), Some(Head { body: 12, ..plain }));
        assert_eq!(head("HEAD / HTTP/1.1\r\n\r\n"), Some(Head { is_head: true, ..plain }));
    }

    #[test]
    fn what_is_no_request_is_answered_as_such() {
        for text in [
            "",
            "hello",
            "GET /",
            "GET / HTTP/2",
            "get / HTTP/1.1",
            "GET / HTTP/1.1\r\nContent-Length: x\r\n",
        ] {
            assert_eq!(head(text), None, "{text:?}");
        }
        let answer = response("web", "198.19.0.4".parse().unwrap(), None);
        assert!(answer.starts_with(b"HTTP/1.1 400 "));
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let keep = Head { is_head: false, keep: true, body: 0 };
        let text = String::from_utf8(response("web", "fd88::4".parse().unwrap(), Some(keep))).unwrap();
        let (top, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "hello from web, you are fd88::4\n");
        assert!(top.contains(&format!("Content-Length: {}", body.len())));
    }

    #[test]
    fn heads_are_cut_where_they_end_and_where_they_are_too_long() {
        let mut two = io::Cursor::new(b"\r\nGET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n".to_vec());
        assert_eq!(read_head(&mut two).unwrap().unwrap(), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(read_head(&mut two).unwrap().unwrap(), b"GET /2 HTTP/1.1\r\n\r\n");
        assert_eq!(read_head(&mut two).unwrap(), None);
        let mut endless = io::Cursor::new(vec![b'x'; 1 << 20]);
        assert_eq!(read_head(&mut endless).unwrap().unwrap().len() as u64, MAX_HEAD);
    }

    proptest! {
        #[test]
        fn no_request_is_too_strange(bytes in any::<Vec<u8>>(), text in "[A-Z]{1,4} /[ -~]{0,40}HTTP/1.1\r\n[ -~\r\n]{0,80}") {
            parse_head(&bytes);
            parse_head(text.as_bytes());
            read_head(&mut io::Cursor::new(&bytes)).unwrap();
        }
    }
}
