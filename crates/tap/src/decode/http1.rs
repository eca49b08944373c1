//! HTTP/1.0 and 1.1 (RFC 9112): heads, bodies by length, by chunks and by the end of the connection, answers to pipelined
//! requests, and connections that become something else.

use std::collections::VecDeque;
use std::time::Duration;

use super::bytes::text;
use super::lines::Lines;
use super::{Decoder, Garbled, Kind, Output, Protocol, Said, mask};
use crate::event::{Direction, Time};

/// No line of a head is longer; servers take 8 KiB.
const MAX_LINE: usize = 64 << 10;
/// No head has more fields; servers take 100.
const MAX_FIELDS: usize = 256;
/// A line ends with CR and LF; that some say LF alone is not counted.
const LINE_END: u64 = 2;
/// So much of a field's value is shown.
const MAX_VALUE: usize = 8 << 10;
/// No client has more requests under way.
const MAX_PENDING: usize = 4096;

/// Where one direction is.
#[derive(Debug)]
enum Place {
    /// Before a request or status line.
    Start,
    /// Among the fields of a head.
    Head(Head),
    /// So many bytes of the body are missing.
    Body(u64),
    /// Before the size of a chunk.
    ChunkSize,
    /// So many bytes of the chunk are missing, with the line's end behind it.
    Chunk(u64),
    /// Behind the last chunk.
    Trailer,
    /// The body ends with the connection.
    UntilClose,
    /// No HTTP any more.
    Tunnel,
}

#[derive(Debug)]
struct Head {
    start: String,
    fields: Vec<(String, String)>,
    /// How long it is, with all ends of lines.
    bytes: u64,
}

impl Head {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a field that is a list names this.
    fn lists(&self, name: &str, item: &str) -> bool {
        let fields = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.flat_map(|(_, value)| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(item))
    }

    /// The length of the body, if it is told so. Two that differ are an attack or a mistake (RFC 9112, 6.3).
    fn length(&self) -> Result<Option<u64>, Garbled> {
        let mut lengths = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case("content-length"))
            .flat_map(|(_, value)| value.split(','))
            .map(|value| value.trim().parse::<u64>().map_err(|_| Garbled("a content-length is no number")));
        let Some(first) = lengths.next().transpose()? else { return Ok(None) };
        match lengths.all(|length| length == Ok(first)) {
            true => Ok(Some(first)),
            false => Err(Garbled("a message has two lengths")),
        }
    }
}

/// A request whose answer is not complete.
#[derive(Debug)]
struct Pending {
    text: String,
    is_head: bool,
    is_connect: bool,
    upgrade: Option<String>,
    begun: Time,
    body: u64,
    /// From its head to its end, once that has come.
    sent: Option<Duration>,
    /// Of its answer, once that has begun.
    status: Option<u16>,
    took: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Http1 {
    places: [Place; 2],
    lines: [Lines; 2],
    /// Bytes of the body that is under way, by direction.
    bodies: [u64; 2],
    pending: VecDeque<Pending>,
    next: Option<(Protocol, usize)>,
}

impl Http1 {
    pub(crate) fn new() -> Http1 {
        Http1 {
            places: [Place::Start, Place::Start],
            lines: Default::default(),
            bodies: [0; 2],
            pending: VecDeque::new(),
            next: None,
        }
    }

    /// A head is complete: says what it is, and where its body is.
    fn head(
        &mut self,
        direction: Direction,
        time: Time,
        head: Head,
        out: &mut Output<'_>,
    ) -> Result<Place, Garbled> {
        self.bodies[direction.index()] = 0;
        match direction {
            Direction::ToServer => self.request(time, &head, out),
            Direction::ToClient => self.response(time, &head, out),
        }
    }

    fn request(&mut self, time: Time, head: &Head, out: &mut Output<'_>) -> Result<Place, Garbled> {
        let mut words = head.start.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Garbled("a request line has not three words"));
        };
        if !version.starts_with("HTTP/1.") || method.is_empty() || !method.bytes().all(is_token) {
            return Err(Garbled("a request line is none"));
        }
        let shown = if out.show_secrets { target.to_owned() } else { mask::target(target) };
        let name = text(format!("{method} {shown}").as_bytes(), 2048);
        let place = match (head.lists("transfer-encoding", "chunked"), head.length()?) {
            (true, _) => Place::ChunkSize,
            (false, Some(length)) if length > 0 => Place::Body(length),
            _ => Place::Start,
        };
        let upgrade = head.lists("connection", "upgrade").then(|| head.get("upgrade")).flatten();
        if self.pending.len() >= MAX_PENDING {
            return Err(Garbled("requests without answers"));
        }
        self.pending.push_back(Pending {
            text: name.clone(),
            is_head: method == "HEAD",
            is_connect: method == "CONNECT",
            upgrade: upgrade.map(|upgrade| text(upgrade.as_bytes(), 64)),
            begun: time,
            body: 0,
            sent: matches!(place, Place::Start).then_some(Duration::ZERO),
            status: None,
            took: None,
        });
        let mut said = Said::new(Direction::ToServer, Protocol::Http1, Kind::Request, name)
            .with("method", method)
            .with("target", shown)
            .with("version", version)
            .with("head_bytes", head.bytes);
        if let Some(host) = head.get("host") {
            said = said.with("host", text(host.as_bytes(), 256));
        }
        out.say(said.with("headers", shown_fields(head, out.show_secrets)));
        Ok(place)
    }

    fn response(&mut self, time: Time, head: &Head, out: &mut Output<'_>) -> Result<Place, Garbled> {
        let mut words = head.start.splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = match status.parse::<u16>() {
            Ok(status @ 100..=999) if version.starts_with("HTTP/1.") && !head.start.is_empty() => status,
            _ => return Err(Garbled("a status line is none")),
        };
        let reason = text(words.next().unwrap_or_default().as_bytes(), 256);
        let pending = self.pending.front_mut();
        let took = pending.as_ref().map(|pending| time.since(pending.begun));
        let name = format!("{status} {reason}").trim_end().to_owned();
        let said = Said::new(Direction::ToClient, Protocol::Http1, Kind::Response, name)
            .took(took)
            .with("status", u64::from(status))
            .with("reason", reason)
            .with("version", version)
            .with("head_bytes", head.bytes)
            .with("headers", shown_fields(head, out.show_secrets));
        out.say(match &pending {
            Some(pending) => said.with("request", pending.text.clone()),
            None => said,
        });
        let (is_head, is_connect) =
            pending.as_ref().map_or((false, false), |pending| (pending.is_head, pending.is_connect));
        if status == 101 || (is_connect && (200..300).contains(&status)) {
            let to = pending.and_then(|pending| pending.upgrade.clone()).unwrap_or_else(|| "a tunnel".into());
            out.say(Said::new(
                Direction::ToClient,
                Protocol::Http1,
                Kind::Note,
                format!("the connection becomes {to}"),
            ));
            self.pending.clear();
            return Ok(Place::Tunnel);
        }
        if (100..200).contains(&status) {
            // An interim answer: the real one follows.
            return Ok(Place::Start);
        }
        if let Some(pending) = pending {
            (pending.status, pending.took) = (Some(status), took);
        }
        if is_head || status == 204 || status == 304 {
            self.complete(time, out);
            return Ok(Place::Start);
        }
        Ok(match (head.lists("transfer-encoding", "chunked"), head.length()?) {
            (true, _) => Place::ChunkSize,
            (false, Some(0)) => {
                self.complete(time, out);
                Place::Start
            }
            (false, Some(length)) => Place::Body(length),
            (false, None) => Place::UntilClose,
        })
    }

    /// A body has ended.
    fn end_of_body(&mut self, direction: Direction, time: Time, out: &mut Output<'_>) {
        match direction {
            Direction::ToServer => {
                let body = self.bodies[direction.index()];
                if let Some(pending) = self.pending.back_mut() {
                    (pending.body, pending.sent) = (body, Some(time.since(pending.begun)));
                }
            }
            Direction::ToClient => self.complete(time, out),
        }
    }

    /// An answer is complete, and with it an exchange.
    fn complete(&mut self, time: Time, out: &mut Output<'_>) {
        let body = std::mem::take(&mut self.bodies[Direction::ToClient.index()]);
        let Some(pending) = self.pending.pop_front() else { return };
        let status = pending.status.unwrap_or_default();
        let text = format!("{} → {status}", pending.text);
        let mut said = Said::new(Direction::ToClient, Protocol::Http1, Kind::Exchange, text)
            .took(Some(time.since(pending.begun)))
            .with("status", u64::from(status))
            .with("request_body", pending.body)
            .with("response_body", body)
            .with("waited_ns", pending.took.unwrap_or_default());
        if let Some(sent) = pending.sent {
            said = said.with("sent_ns", sent);
        }
        out.say(said);
    }
}

impl Decoder for Http1 {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let at = direction.index();
        let mut input = bytes;
        while !input.is_empty() {
            let place = std::mem::replace(&mut self.places[at], Place::Tunnel);
            self.places[at] = match place {
                Place::Start => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Start,
                    // Before a request an empty line is to be ignored (RFC 9112, 2.2).
                    Some(line) if line.is_empty() && direction == Direction::ToServer => Place::Start,
                    Some(line) => Place::Head(Head {
                        start: String::from_utf8_lossy(&line).into_owned(),
                        fields: Vec::new(),
                        bytes: line.len() as u64 + LINE_END,
                    }),
                },
                Place::Head(mut head) => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Head(head),
                    Some(line) if line.is_empty() => {
                        head.bytes += LINE_END;
                        self.head(direction, time, head, out)?
                    }
                    Some(line) => {
                        head.bytes += line.len() as u64 + LINE_END;
                        let line = String::from_utf8_lossy(&line);
                        let (name, value) =
                            line.split_once(':').ok_or(Garbled("a header field has no colon"))?;
                        if head.fields.len() >= MAX_FIELDS {
                            return Err(Garbled("a head has too many fields"));
                        }
                        head.fields.push((name.trim_end().to_owned(), value.trim().to_owned()));
                        Place::Head(head)
                    }
                },
                Place::Body(left) => {
                    let left = left - skip(&mut input, left, &mut self.bodies[at]);
                    if left == 0 {
                        self.end_of_body(direction, time, out);
                        Place::Start
                    } else {
                        Place::Body(left)
                    }
                }
                Place::ChunkSize => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::ChunkSize,
                    Some(line) => match chunk_size(&line)? {
                        0 => Place::Trailer,
                        size => Place::Chunk(size),
                    },
                },
                Place::Chunk(0) => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Chunk(0),
                    Some(line) if line.is_empty() => Place::ChunkSize,
                    Some(_) => return Err(Garbled("a chunk is longer than it says")),
                },
                Place::Chunk(left) => Place::Chunk(left - skip(&mut input, left, &mut self.bodies[at])),
                Place::Trailer => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Trailer,
                    Some(line) if line.is_empty() => {
                        self.end_of_body(direction, time, out);
                        Place::Start
                    }
                    Some(_) => Place::Trailer,
                },
                Place::UntilClose => {
                    skip(&mut input, u64::MAX, &mut self.bodies[at]);
                    Place::UntilClose
                }
                Place::Tunnel => {
                    input = &[];
                    Place::Tunnel
                }
            };
            if matches!(self.places[Direction::ToClient.index()], Place::Tunnel)
                && direction == Direction::ToClient
            {
                self.next = Some((Protocol::Raw, input.len()));
                return Ok(());
            }
        }
        Ok(())
    }

    fn finish(&mut self, direction: Direction, time: Time, out: &mut Output<'_>) {
        if direction == Direction::ToClient && matches!(self.places[direction.index()], Place::UntilClose) {
            self.complete(time, out);
        }
    }

    fn next(&mut self) -> Option<(Protocol, usize)> {
        self.next.take()
    }
}

/// Takes up to `most` bytes, counts them, and says how many they were.
fn skip(input: &mut &[u8], most: u64, count: &mut u64) -> u64 {
    let taken = most.min(input.len() as u64);
    *input = &input[taken as usize..];
    *count = count.saturating_add(taken);
    taken
}

/// `1a; extension`.
fn chunk_size(line: &[u8]) -> Result<u64, Garbled> {
    let no = Garbled("a chunk has no size");
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(no);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| no)?;
    u64::from_str_radix(digits, 16).map_err(|_| no)
}

/// `tchar` of RFC 9110, 5.6.2, as far as methods use it.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn shown_fields(head: &Head, show_secrets: bool) -> Vec<(String, String)> {
    let shown = |(name, value): &(String, String)| {
        let value = text(value.as_bytes(), MAX_VALUE);
        (text(name.as_bytes(), 128), if show_secrets { value } else { mask::field(name, value) })
    };
    head.fields.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{both_ways, converse};
    use super::super::{Conversation, Options, Value};
    use super::*;
    use Direction::{ToClient, ToServer};

    #[test]
    fn a_connection_that_is_kept_has_an_exchange_for_each_request() {
        let said = both_ways(
            None,
            &[
                (ToServer, b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n"),
                (ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
                (ToServer, b"POST /b HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
                (ToServer, b"0\r\n\r\nHEAD /c HTTP/1.1\r\n\r\n"),
                (
                    ToClient,
                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nX: y\r\n\r\n",
                ),
                (ToClient, b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n"),
            ],
        );
        assert_eq!(
            said,
            [
                "→ GET /a",
                "← 200 OK",
                "← GET /a → 200",
                "→ POST /b",
                "→ HEAD /c",
                "← 100 Continue",
                "← 201 Created",
                "← POST /b → 201",
                "← 404 Not Found",
                "← HEAD /c → 404",
            ]
        );
    }

    #[test]
    fn sizes_and_times_are_told() {
        let said = converse(
            None,
            &[
                (ToServer, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
                (ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12"),
                (ToClient, b"34"),
            ],
        );
        let exchange = said.last().unwrap();
        assert_eq!(exchange.kind, Kind::Exchange);
        assert_eq!(exchange.took, Some(Duration::from_millis(2)));
        assert_eq!(exchange.fields["request_body"], Value::Number(3));
        assert_eq!(exchange.fields["response_body"], Value::Number(4));
        assert_eq!(exchange.fields["waited_ns"], Value::Number(1_000_000));
    }

    #[test]
    fn a_body_that_ends_with_the_connection_ends_with_it() {
        let mut conversation = Conversation::new(&Options::default());
        let mut said = Vec::new();
        conversation.feed(ToServer, Time(0), b"GET / HTTP/1.0\r\n\r\n", &mut said);
        conversation.feed(ToClient, Time(1), b"HTTP/1.0 200 OK\r\n\r\nall the rest", &mut said);
        assert_eq!(said.len(), 2);
        conversation.finish(ToClient, Time(2), &mut said);
        assert_eq!(said[2].fields["response_body"], Value::Number(12));
    }

    #[test]
    fn what_it_becomes_is_raw() {
        let mut conversation = Conversation::new(&Options { raw: true, ..Options::default() });
        let mut said = Vec::new();
        let request = b"GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
        conversation.feed(ToServer, Time(0), request, &mut said);
        conversation.feed(
            ToClient,
            Time(1),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
            &mut said,
        );
        conversation.feed(ToServer, Time(2), b"\x81\x82mask", &mut said);
        assert_eq!(said[2].text, "the connection becomes websocket");
        assert_eq!((said[3].kind, &said[3].bytes[..]), (Kind::Bytes, &b"\x81\x02hi"[..]));
        assert_eq!((said[4].direction, &said[4].bytes[..]), (ToServer, &b"\x81\x82mask"[..]));
    }

    #[test]
    fn what_is_no_http_is_raw_from_there() {
        for garbage in [
            &b"\0\x01\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            let said = both_ways(
                Some(Protocol::Http1),
                &[(ToServer, garbage), (ToServer, b"GET / HTTP/1.1\r\n\r\n")],
            );
            assert_eq!(said.iter().filter(|line| line.contains("raw from here")).count(), 1, "{said:?}");
            assert!(said.last().unwrap().contains("raw from here"), "{said:?}");
        }
    }

    #[test]
    fn secrets_are_masked_unless_they_are_wanted() {
        let request = b"GET /?token=abc HTTP/1.1\r\nAuthorization: Bearer abc\r\nCookie: a=abc\r\n\r\n";
        for (show_secrets, count) in [(false, 0), (true, 3)] {
            let mut said = Vec::new();
            let mut conversation = Conversation::new(&Options { show_secrets, ..Options::default() });
            conversation.feed(ToServer, Time(0), request, &mut said);
            let shown = format!("{:?} {:?}", said[0].text, said[0].fields["headers"]);
            assert_eq!(shown.matches("abc").count(), count, "{shown}");
        }
    }
}
