//! The first line of HTTP/1 messages (RFC 9112), and the host they are for. Connections are not put together: what is
//! shown is what the one segment holds in which a message begins.

use serde::{Serialize, Serializer};

use super::text;

/// A request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Http<'a> {
    /// `GET /pay HTTP/1.1`.
    Request {
        /// The request's line without its end, as far as it was kept.
        #[serde(serialize_with = "serialize_text", rename = "request")]
        line: &'a [u8],
        /// The value of its `Host` field; empty if it is not in this segment.
        #[serde(serialize_with = "serialize_text", skip_serializing_if = "<[u8]>::is_empty")]
        host: &'a [u8],
    },
    /// `HTTP/1.1 200 OK`.
    Status {
        /// The status line without its end, as far as it was kept.
        #[serde(serialize_with = "serialize_text", rename = "status")]
        line: &'a [u8],
        /// The status itself, if there are three digits.
        code: Option<u16>,
    },
}

pub(crate) fn serialize_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::string(|out| text::escaped(out, bytes)))
}

/// The methods that are known, each with the blank that follows it; the last is the preface of HTTP/2.
const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
    b"PRI * HTTP/2.0",
];

/// How much of a line is shown.
const LONGEST: usize = 512;

/// A message's beginning, if this is one.
pub(crate) fn parse(data: &[u8]) -> Option<Http<'_>> {
    let status = data.starts_with(b"HTTP/1.");
    if !status && !METHODS.iter().any(|method| data.starts_with(method)) {
        return None;
    }
    let shown = &data[..data.len().min(LONGEST)];
    let end = shown.iter().position(|byte| *byte == b'\n');
    let line = end.and_then(|end| shown.get(..end)).unwrap_or(shown);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if status {
        let digits = line.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        return Some(Http::Status { line, code: digits.and_then(|digits| digits.parse().ok()) });
    }
    // A word that happens to be a method's, in some other protocol's text, is not followed by a version.
    if end.is_some()
        && !line.windows(6).rev().take(12).any(|window| window == b"HTTP/1" || window == b"HTTP/2")
    {
        return None;
    }
    let rest = end.and_then(|end| data.get(end + 1..)).unwrap_or_default();
    Some(Http::Request { line, host: host(rest).unwrap_or_default() })
}

/// The value of the `Host` field among a request's fields.
fn host(fields: &[u8]) -> Option<&[u8]> {
    let mut lines = fields.split(|byte| *byte == b'\n').take_while(|line| !matches!(line, [] | [b'\r']));
    let value = lines.find_map(|line| match line.split_at_checked(5) {
        Some((name, value)) if name.eq_ignore_ascii_case(b"host:") => Some(value),
        _ => None,
    })?;
    Some(value.trim_ascii())
}

impl Http<'_> {
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "HTTP ");
        match *self {
            Http::Request { line, host } => {
                text::escaped(out, line);
                if !host.is_empty() {
                    text::put(out, ", host ");
                    text::escaped(out, host);
                }
            }
            Http::Status { line, .. } => text::escaped(out, line.strip_prefix(b"HTTP/1.1 ").unwrap_or(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Http, parse};

    #[test]
    fn a_request_tells_its_line_and_its_host() {
        let request = parse(b"GET /pay HTTP/1.1\r\nAccept: */*\r\nhOST:  shop:8080 \r\n\r\nHost: no");
        assert_eq!(request, Some(Http::Request { line: b"GET /pay HTTP/1.1", host: b"shop:8080" }));
    }

    #[test]
    fn fields_behind_the_head_are_not_the_requests() {
        let request = parse(b"POST / HTTP/1.0\r\n\r\nHost: body");
        assert_eq!(request, Some(Http::Request { line: b"POST / HTTP/1.0", host: b"" }));
    }

    #[test]
    fn an_answer_tells_its_status() {
        let answer = parse(b"HTTP/1.1 503 Service Unavailable\r\n");
        assert_eq!(answer, Some(Http::Status { line: b"HTTP/1.1 503 Service Unavailable", code: Some(503) }));
    }

    #[test]
    fn other_text_is_none() {
        assert_eq!(parse(b"GET key\r\n"), None);
        assert_eq!(parse(b"GETTING"), None);
        assert_eq!(parse(b""), None);
    }
}
