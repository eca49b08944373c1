//! From the expression's bytes to its words.
//!
//! The rules are those of libpcap's scanner: the longest match wins, and among equally long ones a keyword before an
//! address before a name. They are not always what one expects: `1.2.3.4.com` is a name, `1-2-3-4-5-6` is a hardware
//! address, `ip[0` has three words, `tcp-syn` one and `tcp-` two.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::error::{Error, brief};
use super::keyword::{Keyword, keyword, named_number};

/// A word of the expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Keyword(Keyword),
    /// `+`, `&`, `<=` and so on, by their text.
    Symbol(&'static str),
    Number(u32),
    /// A name: of a host, a port, a protocol; a backslash before it is gone.
    Name(String),
    /// Two to four numbers with dots between them.
    Dotted(String),
    V6(Ipv6Addr),
    Hardware([u8; 6]),
    /// `$` and one or two hexadecimal digits: an address on ARCnet.
    Arcnet,
    End,
}

/// A word and the bytes that it is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) token: Token,
    pub(super) span: Range<usize>,
}

/// The words of an expression, the last of them [`Token::End`].
pub(super) fn words(text: &str) -> Result<Vec<Word>, Error> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if matches!(bytes[at], b' ' | b'\r' | b'\n' | b'\t') {
            at += 1;
            continue;
        }
        let (token, length) = word(text, at)?;
        words.push(Word { token, span: at..at + length });
        at += length;
    }
    words.push(Word { token: Token::End, span: at..at });
    Ok(words)
}

/// The word that begins at `at`, and its length.
fn word(text: &str, at: usize) -> Result<(Token, usize), Error> {
    let bytes = &text.as_bytes()[at..];
    if bytes[0] == b'\\' {
        let length =
            bytes[1..].iter().take_while(|c| !matches!(c, b' ' | b'!' | b'(' | b')' | b'\n' | b'\t')).count();
        if length == 0 {
            return Err(Error::new(at..at + 1, "a backslash stands before nothing"));
        }
        return Ok((Token::Name(text[at + 1..at + 1 + length].to_owned()), 1 + length));
    }
    if bytes[0] == b'$' {
        let digits = bytes[1..].iter().take(2).take_while(|c| c.is_ascii_hexdigit()).count();
        if digits > 0 {
            return Ok((Token::Arcnet, 1 + digits));
        }
    }
    if let Some(symbol) = symbol(bytes) {
        // "::" is nowhere in the language but in an address.
        if symbol != ":" || v6_length(bytes) == 0 {
            return Ok((Token::Symbol(symbol), symbol.len()));
        }
    }

    let name = name_length(bytes);
    let hardware = hardware_length(bytes);
    let number = number_length(bytes);
    let dotted = dotted_length(bytes);
    let v6 = v6_length(bytes);
    let wrong = broken_hardware_length(bytes);
    let length = name.max(hardware).max(number).max(dotted).max(v6).max(wrong);
    let span = at..at + length;
    if length == 0 {
        let c = text[at..].chars().next().unwrap_or_default();
        return Err(Error::new(at..at + c.len_utf8(), format!("{c:?} has no meaning in a filter")));
    }
    let word = &text[span.clone()];
    let token = if name == length
        && let Some(keyword) = keyword(word)
    {
        Token::Keyword(keyword)
    } else if hardware == length {
        Token::Hardware(hardware_address(word))
    } else if number == length {
        Token::Number(self::number(word).map_err(|why| Error::new(span, format!("{} {why}", brief(word))))?)
    } else if dotted == length {
        Token::Dotted(word.to_owned())
    } else if v6 == length {
        match word.parse() {
            Ok(address) => Token::V6(address),
            Err(_) => return Err(Error::new(span, format!("{} is no IPv6 address", brief(word)))),
        }
    } else if wrong == length {
        return Err(Error::new(span, format!("{} is no Ethernet address", brief(word))));
    } else if let Some(number) = named_number(word) {
        Token::Number(number)
    } else {
        Token::Name(word.to_owned())
    };
    Ok((token, length))
}

/// The symbol at the beginning; `==` and `&&` mean the same as `=` and `and`.
fn symbol(bytes: &[u8]) -> Option<&'static str> {
    const SYMBOLS: [&str; 25] = [
        "&&", "||", ">=", "<=", "!=", "==", "<<", ">>", "+", "-", "*", "/", "%", ":", "[", "]", "!", "<",
        ">", "(", ")", "&", "|", "^", "=",
    ];
    SYMBOLS.into_iter().find(|symbol| bytes.starts_with(symbol.as_bytes()))
}

/// `[A-Za-z0-9]([-_.A-Za-z0-9]*[.A-Za-z0-9])?`
fn name_length(bytes: &[u8]) -> usize {
    if !bytes[0].is_ascii_alphanumeric() {
        return 0;
    }
    let run =
        bytes.iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')).count();
    let tail = bytes[..run].iter().rev().take_while(|c| matches!(c, b'-' | b'_')).count();
    run - tail
}

/// `[0-9]+|0[xX][0-9A-Fa-f]+`
fn number_length(bytes: &[u8]) -> usize {
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
        let digits = hex_run(&bytes[2..]);
        if digits > 0 {
            return 2 + digits;
        }
    }
    bytes.iter().take_while(|c| c.is_ascii_digit()).count()
}

/// How many hexadecimal digits the bytes begin with.
fn hex_run(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|c| c.is_ascii_hexdigit()).count()
}

/// The value of a number: octal after a 0, hexadecimal after 0x.
fn number(word: &str) -> Result<u32, &'static str> {
    let (digits, radix) = match word.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&word[2..], 16),
        [b'0', _, ..] => (&word[1..], 8),
        _ => (word, 10),
    };
    if !digits.bytes().all(|c| char::from(c).is_digit(radix)) {
        return Err("begins with 0, so it is octal, and has a digit that is not");
    }
    u32::from_str_radix(digits, radix).map_err(|_| "does not fit into 32 bits")
}

/// Two to four numbers with dots between them.
fn dotted_length(bytes: &[u8]) -> usize {
    let mut length = number_length(bytes);
    let mut parts = 1;
    while length > 0 && parts < 4 && bytes.get(length) == Some(&b'.') {
        let more = bytes.get(length + 1..).filter(|rest| !rest.is_empty()).map_or(0, number_length);
        if more == 0 {
            break;
        }
        length += 1 + more;
        parts += 1;
    }
    if parts > 1 { length } else { 0 }
}

/// Four numbers with dots between them: the tail of an IPv6 address.
fn quad_length(bytes: &[u8]) -> usize {
    let length = if bytes.is_empty() { 0 } else { dotted_length(bytes) };
    if bytes[..length].iter().filter(|c| **c == b'.').count() == 3 { length } else { 0 }
}

/// The longest IPv6 address at the beginning: eight groups, fewer around one `::`, the last two perhaps dotted.
fn v6_length(bytes: &[u8]) -> usize {
    let mut best = 0;
    let mut at = 0;
    let mut groups = 0;
    let mut gap = false;
    if bytes.starts_with(b"::") {
        gap = true;
        at = 2;
        best = 2;
    }
    loop {
        // Seven groups around a gap and eight without one, of which a dotted tail takes the place of two.
        let full = if gap { 7 } else { 8 };
        if groups >= full {
            return best;
        }
        let rest = &bytes[at..];
        let quad = quad_length(rest);
        if quad > 0 && (if gap { groups <= 5 } else { groups == 6 }) {
            best = best.max(at + quad);
        }
        let run = hex_run(rest);
        if run == 0 {
            return best;
        }
        groups += 1;
        if gap || groups == 8 {
            best = best.max(at + run.min(4));
        }
        if run > 4 || rest.get(run) != Some(&b':') {
            return best;
        }
        at += run + 1;
        if !gap && bytes.get(at) == Some(&b':') && groups <= 7 {
            gap = true;
            at += 1;
            best = best.max(at);
        }
    }
}

/// Six bytes with `:`, `-` or `.` between them, three double bytes with dots, or twelve digits.
fn hardware_length(bytes: &[u8]) -> usize {
    let mut best = 0;
    for separator in [b':', b'-', b'.'] {
        let mut at = 0;
        for part in 0..6 {
            let run = bytes.get(at..).map_or(0, hex_run);
            if part == 5 {
                if run > 0 {
                    best = best.max(at + run.min(2));
                }
            } else if (1..=2).contains(&run) && bytes.get(at + run) == Some(&separator) {
                at += run + 1;
            } else {
                break;
            }
        }
    }
    if hex_run(bytes) == 4
        && bytes.get(4) == Some(&b'.')
        && hex_run(&bytes[5..]) == 4
        && bytes.get(9) == Some(&b'.')
    {
        let run = hex_run(&bytes[10..]);
        if run >= 4 {
            best = best.max(14);
        }
    }
    if hex_run(bytes) >= 12 {
        best = best.max(12);
    }
    best
}

/// Bytes with colons between and after them that are no address of any kind.
fn broken_hardware_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut parts = 0;
    loop {
        let run = hex_run(&bytes[at..]);
        let colons = match run {
            1 | 2 => bytes[at + run..].iter().take_while(|c| **c == b':').count(),
            _ => 0,
        };
        if colons == 0 {
            return if parts >= 2 { at } else { 0 };
        }
        at += run + colons;
        parts += 1;
    }
}

/// The bytes of a hardware address that [`hardware_length`] has found.
fn hardware_address(word: &str) -> [u8; 6] {
    let mut address = [0; 6];
    let mut digits = word.bytes().filter(u8::is_ascii_hexdigit).count();
    let mut bytes = word.bytes().peekable();
    let value = |c: u8| char::from(c).to_digit(16).map_or(0, |digit| digit as u8);
    for byte in &mut address {
        while bytes.next_if(|c| !c.is_ascii_hexdigit()).is_some() {}
        let Some(first) = bytes.next() else { break };
        *byte = value(first);
        digits -= 1;
        if digits > 0
            && let Some(second) = bytes.next_if(u8::is_ascii_hexdigit)
        {
            *byte = *byte << 4 | value(second);
            digits -= 1;
        }
    }
    address
}
