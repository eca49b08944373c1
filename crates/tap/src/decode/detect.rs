//! Which protocol is spoken, by its first bytes.

use super::Protocol;
use crate::event::Direction;

/// What can be said of the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    Is(Protocol),
    /// More must be seen.
    NotYet,
    /// None that is known.
    Nothing,
}

/// As much of a beginning as is ever waited for.
const ENOUGH: usize = 64;
/// What a client of HTTP/2 says first (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods of HTTP that are in use (RFC 9110, RFC 5789, RFC 4918).
const METHODS: [&[u8]; 15] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"TRACE ",
    b"CONNECT ",
    b"PATCH ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"REPORT ",
];

/// Guesses from all that one direction has said. `answered`: the other one has spoken as well.
pub(crate) fn guess(direction: Direction, seen: &[u8], answered: bool) -> Guess {
    let guesses = match direction {
        Direction::ToServer => [preface, http1, tls, postgres, redis, dns].map(|guess| guess(seen)).to_vec(),
        Direction::ToClient => vec![mysql(seen), settings(seen)],
    };
    if let Some(is) = guesses.iter().find(|guess| matches!(guess, Guess::Is(_))) {
        return *is;
    }
    if guesses.contains(&Guess::NotYet) && seen.len() < ENOUGH && !answered {
        return Guess::NotYet;
    }
    Guess::Nothing
}

/// `NotYet` if what was seen is the beginning of `whole`.
fn begins(seen: &[u8], whole: &[u8]) -> Option<Guess> {
    (seen.len() < whole.len() && whole.starts_with(seen)).then_some(Guess::NotYet)
}

fn preface(seen: &[u8]) -> Guess {
    if seen.starts_with(PREFACE) {
        return Guess::Is(Protocol::Http2);
    }
    begins(seen, PREFACE).unwrap_or(Guess::Nothing)
}

fn http1(seen: &[u8]) -> Guess {
    if METHODS.iter().any(|method| seen.starts_with(method)) {
        return Guess::Is(Protocol::Http1);
    }
    METHODS.iter().find_map(|method| begins(seen, method)).unwrap_or(Guess::Nothing)
}

/// A handshake record with a client hello (RFC 8446, 5.1 and 4).
fn tls(seen: &[u8]) -> Guess {
    match seen {
        [0x16, 3, 0..=4, _, _, 1, ..] => Guess::Is(Protocol::Tls),
        [0x16] | [0x16, 3] | [0x16, 3, 0..=4] | [0x16, 3, 0..=4, _] | [0x16, 3, 0..=4, _, _] => Guess::NotYet,
        _ => Guess::Nothing,
    }
}

/// A length, then version 3.0 or one of the special codes (PostgreSQL 17 documentation, 53.7 Message Formats).
fn postgres(seen: &[u8]) -> Guess {
    match seen {
        [0, 0, 0..=0x27, length, code @ ..] if *length >= 8 || seen[2] > 0 => match code {
            [0, 3, 0, 0..=2, ..] | [0x04, 0xd2, 0x16, 0x2e..=0x30, ..] => Guess::Is(Protocol::Postgres),
            [] | [0] | [0, 3] | [0, 3, 0] | [0x04] | [0x04, 0xd2] | [0x04, 0xd2, 0x16] => Guess::NotYet,
            _ => Guess::Nothing,
        },
        [0] | [0, 0] | [0, 0, 0..=0x27] => Guess::NotYet,
        _ => Guess::Nothing,
    }
}

/// An array of bulk strings, or the one inline command that everybody types.
fn redis(seen: &[u8]) -> Guess {
    for inline in [&b"PING\r\n"[..], b"ping\r\n", b"PING\n", b"INFO\r\n"] {
        if seen.starts_with(inline) {
            return Guess::Is(Protocol::Redis);
        }
    }
    let Some(rest) = seen.strip_prefix(b"*") else {
        return begins(seen, b"PING\r\n").or_else(|| begins(seen, b"ping\r\n")).unwrap_or(Guess::Nothing);
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match &rest[digits..] {
        [b'\r', b'\n', b'$', ..] if digits > 0 => Guess::Is(Protocol::Redis),
        [] | [b'\r'] | [b'\r', b'\n'] if digits < 8 => Guess::NotYet,
        _ => Guess::Nothing,
    }
}

/// A length, then a query with one question and no answer (RFC 1035, 4.1.1 and 4.2.2).
fn dns(seen: &[u8]) -> Guess {
    match seen {
        [high, low, _, _, flags, _, 0, 1, 0, 0, 0, 0, 0, 0..=2, ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            // A standard query; what follows the header is at least a root name and its type and class.
            if flags & 0xf8 == 0 && (17..=1024).contains(&length) {
                Guess::Is(Protocol::Dns)
            } else {
                Guess::Nothing
            }
        }
        [high, ..] if *high <= 4 && seen.len() < 14 => Guess::NotYet,
        _ => Guess::Nothing,
    }
}

/// The greeting: a packet with number 0, protocol version 10, and a version in digits.
fn mysql(seen: &[u8]) -> Guess {
    match seen {
        [_, _, 0, 0, 10, b'0'..=b'9', ..] => Guess::Is(Protocol::MySql),
        // The server refuses before it greets: ERR packet.
        [_, _, 0, 0, 0xff, ..] => Guess::Is(Protocol::MySql),
        [_] | [_, _] | [_, _, 0] | [_, _, 0, 0] | [_, _, 0, 0, 10] => Guess::NotYet,
        _ => Guess::Nothing,
    }
}

/// The frame that a server of HTTP/2 begins with, which may come before the client's preface (RFC 9113, 3.4 and 6.5): a
/// length of whole settings, type 4, no flags, stream 0.
fn settings(seen: &[u8]) -> Guess {
    match seen {
        [0, high, low, 4, 0, 0, 0, 0, 0, ..] if u16::from_be_bytes([*high, *low]).is_multiple_of(6) => {
            Guess::Is(Protocol::Http2)
        }
        [0] | [0, _] | [0, _, _] => Guess::NotYet,
        [0, _, _, 4, rest @ ..] if rest.len() < 5 && rest.iter().all(|byte| *byte == 0) => Guess::NotYet,
        _ => Guess::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_known_by_its_beginning() {
        let client: [(&[u8], Guess); 12] = [
            (b"GET / HTTP/1.1\r\n", Guess::Is(Protocol::Http1)),
            (PREFACE, Guess::Is(Protocol::Http2)),
            (b"PRI * HTTP", Guess::NotYet),
            (b"P", Guess::NotYet),
            (b"\x16\x03\x01\x02\x00\x01\x00", Guess::Is(Protocol::Tls)),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Guess::Is(Protocol::Postgres)),
            (b"\x00\x00\x00\x29\x00\x03\x00\x00user\0", Guess::Is(Protocol::Postgres)),
            (b"*3\r\n$3\r\nSET\r\n", Guess::Is(Protocol::Redis)),
            (b"PING\r\n", Guess::Is(Protocol::Redis)),
            (b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", Guess::Is(Protocol::Dns)),
            (b"SSH-2.0-OpenSSH", Guess::Nothing),
            (b"hello\n", Guess::Nothing),
        ];
        for (seen, expected) in client {
            assert_eq!(guess(Direction::ToServer, seen, false), expected, "{seen:?}");
        }
        let greeting = b"\x4a\x00\x00\x00\x0a8.0.36\0";
        assert_eq!(guess(Direction::ToClient, greeting, false), Guess::Is(Protocol::MySql));
        assert_eq!(guess(Direction::ToClient, b"220 mail ready", false), Guess::Nothing);
        // A server of HTTP/2 need not wait for the client's preface.
        let settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64";
        assert_eq!(guess(Direction::ToClient, settings, false), Guess::Is(Protocol::Http2));
        assert_eq!(guess(Direction::ToClient, &settings[..6], false), Guess::NotYet);
        assert_eq!(
            guess(Direction::ToClient, b"\x00\x00\x07\x04\x00\x00\x00\x00\x00", false),
            Guess::Nothing
        );
    }
}
