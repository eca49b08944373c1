//! Exchanges of HTTP as entries of an archive: HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), which
//! browsers and their kin read.
//!
//! An entry is made of what the decoders say: of a request, its answer, and the end of both. Bodies are counted, not
//! kept; secrets are masked by then, or not, as it was wanted. What is not known is -1, as the format has it.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use snorkel_tap::decode::{Kind, Protocol, Said, Value};
use snorkel_tap::event::{ConnectionId, Event, Time, What};

use super::objects::rfc3339;

/// What precedes the first entry of a file.
pub(super) fn head() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{{\"log\":{{\"version\":\"1.2\",\"creator\":{{\"name\":\"snorkel\",\"version\":\"{version}\"}},\"entries\":["
    )
}

/// What follows the last one.
pub(super) const END: &str = "\n]}}\n";

/// One exchange.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    started_date_time: String,
    /// Milliseconds, as all times.
    time: f64,
    request: Request,
    response: Response,
    cache: Empty,
    timings: Timings,
    #[serde(rename = "serverIPAddress")]
    server: String,
    connection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    http_version: String,
    cookies: Vec<Pair>,
    headers: Vec<Pair>,
    query_string: Vec<Pair>,
    headers_size: i64,
    body_size: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: u64,
    status_text: String,
    http_version: String,
    cookies: Vec<Pair>,
    headers: Vec<Pair>,
    content: Content,
    #[serde(rename = "redirectURL")]
    redirect: String,
    headers_size: i64,
    body_size: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    size: u64,
    mime_type: String,
}

#[derive(Debug, Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    send: f64,
    wait: f64,
    receive: f64,
    ssl: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Pair {
    name: String,
    value: String,
}

/// A request, and its answer as far as it has come.
#[derive(Debug)]
struct Pending {
    stream: Option<u64>,
    begun: Time,
    request: Said,
    response: Option<Said>,
}

/// Makes entries of the words of one tap.
#[derive(Debug, Default)]
pub(super) struct Archivist {
    pending: BTreeMap<ConnectionId, VecDeque<Pending>>,
}

impl Archivist {
    /// The entries that this event completes.
    pub(super) fn take(&mut self, event: &Event) -> Vec<Entry> {
        match &event.what {
            What::Said(said) if matches!(said.protocol, Protocol::Http1 | Protocol::Http2) => {
                self.said(event, said).into_iter().collect()
            }
            What::Ended(_) => {
                let left = self.pending.remove(&event.connection).unwrap_or_default();
                left.into_iter().map(|pending| entry(event, pending, None)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn said(&mut self, event: &Event, said: &Said) -> Option<Entry> {
        let requests = self.pending.entry(event.connection).or_default();
        // Of HTTP/1 answers come in the order of requests.
        let at = requests.iter().position(|pending| pending.stream == said.stream);
        match said.kind {
            Kind::Request => {
                requests.push_back(Pending {
                    stream: said.stream,
                    begun: event.time,
                    request: said.clone(),
                    response: None,
                });
                None
            }
            Kind::Response => {
                let pending = &mut requests[at?];
                let status = number(said, "status").unwrap_or_default();
                // What follows is no HTTP any more: there will be no end of it.
                let tunnel = status == 101
                    || (text(&pending.request, "method") == "CONNECT" && (200..300).contains(&status));
                if tunnel || !(100..200).contains(&status) {
                    pending.response = Some(said.clone());
                }
                tunnel.then(|| requests.remove(at?).map(|pending| entry(event, pending, None))).flatten()
            }
            Kind::Exchange => requests.remove(at?).map(|pending| entry(event, pending, Some(said))),
            // A stream was reset.
            Kind::Note if said.stream.is_some() && said.fields.contains_key("error") => {
                requests.remove(at?).map(|pending| entry(event, pending, None))
            }
            _ => None,
        }
    }
}

/// The entry of an exchange; `exchange`: what was said when it was complete, which it may never have been.
fn entry(event: &Event, pending: Pending, exchange: Option<&Said>) -> Entry {
    let Pending { begun, request, response, .. } = pending;
    let all = nanoseconds(event.time.since(begun));
    let of = |name| exchange.and_then(|exchange| number(exchange, name));
    let answered = response.as_ref().and_then(|response| response.took).map(nanoseconds);
    let begins = of("waited_ns").or(answered).unwrap_or(all).min(all);
    // An answer may come before the request is complete.
    let sent = of("sent_ns").unwrap_or(0).min(begins);
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    let version = |said: &Said| match said.protocol {
        Protocol::Http2 => "HTTP/2".to_owned(),
        _ => text(said, "version").to_owned(),
    };
    let http_version = version(&request);
    let size = |name| of(name).map_or(-1, signed);
    let comment = match (&response, exchange) {
        (None, _) => Some("there was no answer".to_owned()),
        (Some(response), None) if number(response, "status") != Some(101) => {
            Some("the answer was not complete".to_owned())
        }
        _ => None,
    };
    Entry {
        started_date_time: format!("{}Z", rfc3339(begun).get(..23).unwrap_or_default()),
        time: milliseconds(all),
        request: Request {
            method: text(&request, "method").to_owned(),
            url: url(event, &request),
            cookies: cookies(&request, "cookie"),
            query_string: query(text(&request, "target")),
            headers: pairs(&request),
            headers_size: number(&request, "head_bytes").map_or(-1, signed),
            body_size: size("request_body"),
            http_version: http_version.clone(),
        },
        response: Response {
            status: response.as_ref().and_then(|said| number(said, "status")).unwrap_or_default(),
            status_text: response.as_ref().map_or("", |said| text(said, "reason")).to_owned(),
            http_version: response.as_ref().map_or(http_version, version),
            cookies: response.as_ref().map(|said| cookies(said, "set-cookie")).unwrap_or_default(),
            content: Content {
                size: of("response_body").unwrap_or_default(),
                mime_type: response
                    .as_ref()
                    .and_then(|said| header(said, "content-type"))
                    .unwrap_or_default(),
            },
            redirect: response.as_ref().and_then(|said| header(said, "location")).unwrap_or_default(),
            headers: response.as_ref().map(pairs).unwrap_or_default(),
            headers_size: response.as_ref().and_then(|said| number(said, "head_bytes")).map_or(-1, signed),
            body_size: size("response_body"),
        },
        cache: Empty {},
        timings: Timings {
            blocked: -1.0,
            dns: -1.0,
            connect: -1.0,
            send: milliseconds(sent),
            wait: milliseconds(begins - sent),
            receive: milliseconds(all - begins),
            ssl: -1.0,
        },
        server: event.ends.server.ip().to_canonical().to_string(),
        connection: event.connection.0.to_string(),
        comment,
    }
}

fn nanoseconds(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn text<'a>(said: &'a Said, name: &str) -> &'a str {
    match said.fields.get(name) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

fn number(said: &Said, name: &str) -> Option<u64> {
    match said.fields.get(name) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

fn headers(said: &Said) -> &[(String, String)] {
    match said.fields.get("headers") {
        Some(Value::Pairs(pairs)) => pairs,
        _ => &[],
    }
}

fn header(said: &Said, name: &str) -> Option<String> {
    headers(said).iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

fn pairs(said: &Said) -> Vec<Pair> {
    let pair = |(name, value): &(String, String)| Pair { name: name.clone(), value: value.clone() };
    headers(said).iter().map(pair).collect()
}

/// The absolute address of what is wanted.
fn url(event: &Event, request: &Said) -> String {
    let target = text(request, "target");
    if target.contains("://") {
        return target.to_owned();
    }
    let host = match text(request, "host") {
        "" => event.ends.server.to_string(),
        host => host.to_owned(),
    };
    // `*`, and the host and port of CONNECT, are no paths.
    let path = if target.starts_with('/') { target } else { "/" };
    format!("http://{host}{path}")
}

fn query(target: &str) -> Vec<Pair> {
    let Some((_, query)) = target.split_once('?') else { return Vec::new() };
    let query = query.split('#').next().unwrap_or_default();
    let parameter = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        Pair { name: plain(name), value: plain(value) }
    };
    query.split('&').filter(|parameter| !parameter.is_empty()).map(parameter).collect()
}

/// Cookies of `cookie` fields, or of each `set-cookie` the one that it sets.
fn cookies(said: &Said, field: &str) -> Vec<Pair> {
    let fields = headers(said).iter().filter(|(name, _)| name.eq_ignore_ascii_case(field));
    let most = if field == "cookie" { usize::MAX } else { 1 };
    let cookie = |cookie: &str| {
        let (name, value) = cookie.trim().split_once('=').unwrap_or((cookie.trim(), ""));
        Pair { name: name.to_owned(), value: value.to_owned() }
    };
    fields.flat_map(|(_, value)| value.split(';').take(most)).map(cookie).collect()
}

/// What a form's encoding stands for (`application/x-www-form-urlencoded`).
fn plain(encoded: &str) -> String {
    let bytes = encoded.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = encoded.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use snorkel_tap::decode::{Conversation, Options};
    use snorkel_tap::event::{Direction, End, Ends, Summary};

    use super::*;
    use Direction::{ToClient, ToServer};

    /// The entries of a conversation whose pieces come a millisecond apart, and which ends then.
    fn entries(pieces: &[(Direction, &[u8])]) -> Vec<Json> {
        let ends = Ends { client: "10.0.0.3:40000".parse().unwrap(), server: "10.0.0.2:80".parse().unwrap() };
        let event = |at: usize, what| Event {
            time: Time(1_700_000_000_000_000_000 + at as u64 * 1_000_000),
            connection: ConnectionId(3),
            ends,
            what,
        };
        let mut conversation = Conversation::new(&Options::default());
        let (mut archivist, mut entries) = (Archivist::default(), Vec::new());
        for (at, (direction, bytes)) in pieces.iter().enumerate() {
            let mut all = Vec::new();
            conversation.feed(*direction, event(at, What::Opened).time, bytes, &mut all);
            for said in all {
                entries.extend(archivist.take(&event(at, What::Said(said))));
            }
        }
        let summary =
            Summary { bytes: [0; 2], lasted: std::time::Duration::ZERO, first_byte: None, end: End::Closed };
        entries.extend(archivist.take(&event(pieces.len(), What::Ended(summary))));
        assert!(archivist.pending.is_empty());
        entries.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect()
    }

    #[test]
    fn an_exchange_is_an_entry_with_all_that_the_format_demands() {
        let request = b"POST /pay?to=caf%C3%A9+x&token=abc HTTP/1.1\r\nHost: web\r\nCookie: a=1; b=2\r\nContent-Length: 4\r\n\r\n12";
        let entries = entries(&[
            (ToServer, request),
            (ToServer, b"34"),
            (
                ToClient,
                b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n",
            ),
            (ToClient, b"abc"),
        ]);
        let head = request.len() - 2;
        assert_eq!(entries.len(), 1);
        assert_eq!(
            entries[0],
            json!({
                "startedDateTime": "2023-11-14T22:13:20.000Z",
                "time": 3.0,
                "request": {
                    "method": "POST",
                    "url": "http://web/pay?to=caf%C3%A9+x&token=***",
                    "httpVersion": "HTTP/1.1",
                    "cookies": [{"name": "a", "value": "***"}, {"name": "b", "value": "***"}],
                    "headers": [
                        {"name": "Host", "value": "web"},
                        {"name": "Cookie", "value": "a=***; b=***"},
                        {"name": "Content-Length", "value": "4"},
                    ],
                    "queryString": [{"name": "to", "value": "café x"}, {"name": "token", "value": "***"}],
                    "headersSize": head,
                    "bodySize": 4,
                },
                "response": {
                    "status": 302,
                    "statusText": "Found",
                    "httpVersion": "HTTP/1.1",
                    "cookies": [],
                    "headers": [
                        {"name": "Location", "value": "/x"},
                        {"name": "Content-Type", "value": "text/html"},
                        {"name": "Content-Length", "value": "3"},
                    ],
                    "content": {"size": 3, "mimeType": "text/html"},
                    "redirectURL": "/x",
                    "headersSize": 80,
                    "bodySize": 3,
                },
                "cache": {},
                "timings": {
                    "blocked": -1.0, "dns": -1.0, "connect": -1.0, "send": 1.0, "wait": 1.0, "receive": 1.0,
                    "ssl": -1.0,
                },
                "serverIPAddress": "10.0.0.2",
                "connection": "3",
            })
        );
    }

    #[test]
    fn answers_find_their_requests_and_what_is_unanswered_says_so() {
        let entries = entries(&[
            (ToServer, b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"),
            (ToClient, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
            (ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        ]);
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (&entry["request"]["url"], &entry["response"]["status"], &entry["comment"]))
            .collect();
        let url = |path| json!(format!("http://10.0.0.2:80/{path}"));
        assert_eq!(
            seen,
            [
                (&url("a"), &json!(204), &Json::Null),
                (&url("b"), &json!(200), &json!("the answer was not complete")),
                (&url("c"), &json!(0), &json!("there was no answer")),
            ]
        );
    }

    #[test]
    fn an_upgrade_is_complete_when_it_is_agreed_on() {
        let entries = entries(&[
            (ToServer, b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
            (ToClient, b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi"),
        ]);
        assert_eq!((entries.len(), &entries[0]["response"]["status"]), (1, &json!(101)));
        assert_eq!(entries[0]["comment"], Json::Null);
    }

    #[test]
    fn a_file_of_entries_is_a_whole_one() {
        let file: Json = serde_json::from_str(&format!("{}{END}", head())).unwrap();
        assert_eq!((&file["log"]["version"], &file["log"]["entries"]), (&json!("1.2"), &json!([])));
    }
}
