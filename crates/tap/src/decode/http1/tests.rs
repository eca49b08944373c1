//! Conversations, and what is said of them.

use std::time::Duration;

use super::super::testing::{all_ways, as_blind, converse};
use super::super::{Conversation, Kind, Options, Value};
use super::*;
use Direction::{ToClient, ToServer};

#[test]
fn a_connection_that_is_kept_has_an_exchange_for_each_request() {
    let said = all_ways(
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
fn only_what_is_counted_need_not_be_seen() {
    let mut conversation = Conversation::new(&Options::default());
    let mut blind = |direction, bytes: &[u8]| {
        conversation.feed(direction, Time(0), bytes, &mut Vec::new());
        conversation.blind(direction)
    };
    assert_eq!(blind(ToServer, b"POST / HTTP/1.1\r\nContent-Length: 7\r\n"), 0);
    assert_eq!(blind(ToServer, b"\r\nab"), 5);
    assert_eq!(blind(ToServer, b"cdefg"), 0);
    assert_eq!(blind(ToClient, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 0);
    assert_eq!(blind(ToClient, b"10\r\n"), 16);
    assert_eq!(blind(ToClient, b"0123456789abcdef"), 0);
    assert_eq!(blind(ToClient, b"\r\n0\r\n\r\n"), 0);
    assert_eq!(blind(ToServer, b"GET / HTTP/1.0\r\n\r\n"), 0);
    assert_eq!(blind(ToClient, b"HTTP/1.0 200 OK\r\n\r\nup to the end"), u64::MAX);
}

#[test]
fn sizes_and_times_are_told() {
    let pieces: [(_, &[u8]); 3] = [
        (ToServer, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
        (ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12"),
        (ToClient, b"34"),
    ];
    let said = converse(None, &pieces);
    assert_eq!(said, as_blind(None, &pieces));
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
        let said =
            all_ways(Some(Protocol::Http1), &[(ToServer, garbage), (ToServer, b"GET / HTTP/1.1\r\n\r\n")]);
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

#[test]
fn a_body_that_is_cut_short_is_told_with_what_there_was() {
    for (head, body) in [
        ("Content-Length: 10", "12345"),
        ("Transfer-Encoding: chunked", "7\r\n12345"),
        ("Transfer-Encoding: chunked", "5\r\n12345\r\n"),
    ] {
        let mut conversation = Conversation::new(&Options::default());
        let mut said = Vec::new();
        conversation.feed(ToServer, Time(0), b"GET / HTTP/1.1\r\n\r\n", &mut said);
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        conversation.feed(ToClient, Time(0), answer.as_bytes(), &mut said);
        conversation.finish(ToClient, Time(1), &mut said);
        let [.., note, exchange] = &said[..] else { panic!("{said:?}") };
        assert_eq!(note.text, "the body is cut short, after 5 bytes");
        assert_eq!(exchange.kind, Kind::Exchange);
        assert_eq!(exchange.fields["response_body"], Value::Number(5));
    }
}
