//! TLS (RFC 8446, RFC 5246), as far as it is not encrypted: the hellos, and up to version 1.2 the certificate.

use super::bytes::{Bytes, text};
use super::frames::Frames;
use super::{Decoder, Garbled, Kind, Output, Protocol, Said};
use crate::event::{Direction, Time};

/// No record is longer (RFC 5246, 6.2.3: 2^14 and 2048).
const MAX_RECORD: usize = (1 << 14) + 2048;
/// How much of a handshake message is read; a chain of certificates may be longer, and its first is wanted.
const KEPT: usize = 16 << 10;

#[derive(Debug, Default)]
pub(crate) struct Tls {
    records: [Frames; 2],
    handshakes: [Frames; 2],
    /// By direction: what follows is encrypted.
    sealed: [bool; 2],
    begun: Option<Time>,
}

impl Tls {
    pub(crate) fn new() -> Tls {
        Tls::default()
    }

    fn handshake(
        &mut self,
        direction: Direction,
        time: Time,
        kind: u8,
        body: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        match kind {
            1 => {
                self.begun = Some(time);
                out.say(client_hello(direction, body)?);
            }
            2 => {
                let took = self.begun.map(|begun| time.since(begun));
                let (said, encrypted) = server_hello(direction, body)?;
                out.say(said.took(took));
                self.sealed[direction.index()] |= encrypted;
            }
            11 => {
                if let Some(said) = certificate(direction, body) {
                    out.say(said);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Decoder for Tls {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let at = direction.index();
        let mut input = bytes;
        let length = |head: &[u8]| match head {
            [20..=24, 3, 0..=4, high, low] => match usize::from(u16::from_be_bytes([*high, *low])) {
                length if length <= MAX_RECORD => Ok(length),
                _ => Err(Garbled("a record is too long")),
            },
            _ => Err(Garbled("a record is none of TLS")),
        };
        while !self.sealed[at] {
            let Some(record) = self.records[at].next(&mut input, 5, MAX_RECORD, length)? else { break };
            match record.head[0] {
                // ChangeCipherSpec: what this side says from here on is encrypted.
                20 => self.sealed[at] = true,
                21 => {
                    if let [level, what] = record.body[..] {
                        let level = if level == 2 { "fatal" } else { "warning" };
                        let line = format!("alert, {level}: {}", alert(what));
                        out.say(
                            Said::new(direction, Protocol::Tls, Kind::Note, line).with("alert", alert(what)),
                        );
                    }
                }
                22 => {
                    let mut part = &record.body[..];
                    loop {
                        let length = |head: &[u8]| match head {
                            [_, a, b, c] => Ok(u32::from_be_bytes([0, *a, *b, *c]) as usize),
                            _ => Ok(0),
                        };
                        let Some(message) = self.handshakes[at].next(&mut part, 4, KEPT, length)? else {
                            break;
                        };
                        self.handshake(direction, time, message.head[0], &message.body, out)?;
                        if self.sealed[at] {
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn blind(&self, direction: Direction) -> u64 {
        if self.sealed[direction.index()] { u64::MAX } else { 0 }
    }
}

fn version(number: u16) -> String {
    match number {
        0x0300 => "SSL 3.0".to_owned(),
        0x0301..=0x0304 => format!("1.{}", number - 0x0301),
        other => format!("{other:#06x}"),
    }
}

/// GREASE values say nothing (RFC 8701).
fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a
}

fn client_hello(direction: Direction, body: &[u8]) -> Result<Said, Garbled> {
    let mut rest = Bytes(body);
    let mut best = rest.u16()?;
    rest.take(32)?;
    let session = rest.u8()?;
    rest.take(session.into())?;
    let ciphers = rest.u16()?;
    rest.take(ciphers.into())?;
    let compressions = rest.u8()?;
    rest.take(compressions.into())?;
    let (mut name, mut alpn) = (None, Vec::new());
    for_extensions(&mut rest, |kind, mut data| {
        match kind {
            0 => {
                data.u16()?;
                if data.u8()? == 0 {
                    let length = data.u16()?;
                    name = Some(text(data.take(length.into())?, 255));
                }
            }
            16 => {
                data.u16()?;
                while !data.is_empty() && alpn.len() < 8 {
                    let length = data.u8()?;
                    alpn.push(text(data.take(length.into())?, 32));
                }
            }
            43 => {
                data.u8()?;
                while let Ok(offered) = data.u16() {
                    if !is_grease(offered) {
                        best = best.max(offered);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let line = format!("client hello for {}", name.as_deref().unwrap_or("no name"));
    let mut said = Said::new(direction, Protocol::Tls, Kind::Request, line).with("version", version(best));
    if let Some(name) = name {
        said = said.with("server_name", name);
    }
    if !alpn.is_empty() {
        said = said.with("alpn", alpn.join(","));
    }
    Ok(said)
}

/// And whether what follows is encrypted.
fn server_hello(direction: Direction, body: &[u8]) -> Result<(Said, bool), Garbled> {
    /// The random of a HelloRetryRequest (RFC 8446, 4.1.3) begins so.
    const RETRY: [u8; 4] = [0xcf, 0x21, 0xad, 0x74];
    let mut rest = Bytes(body);
    let mut chosen = rest.u16()?;
    let random = rest.take(32)?;
    let session = rest.u8()?;
    rest.take(session.into())?;
    let cipher = rest.u16()?;
    rest.u8()?;
    let mut alpn = None;
    for_extensions(&mut rest, |kind, mut data| {
        match kind {
            16 => {
                data.u16()?;
                let length = data.u8()?;
                alpn = Some(text(data.take(length.into())?, 32));
            }
            43 => chosen = data.u16()?,
            _ => {}
        }
        Ok(())
    })?;
    let retry = random.starts_with(&RETRY);
    let line = if retry { "hello, asks for another key" } else { "server hello" };
    let mut said = Said::new(direction, Protocol::Tls, Kind::Response, line)
        .with("version", version(chosen))
        .with("cipher", format!("{cipher:#06x}"));
    if let Some(alpn) = alpn {
        said = said.with("alpn", alpn);
    }
    Ok((said, chosen >= 0x0304 && !retry))
}

fn for_extensions(
    rest: &mut Bytes<'_>,
    mut each: impl FnMut(u16, Bytes<'_>) -> Result<(), Garbled>,
) -> Result<(), Garbled> {
    if rest.is_empty() {
        return Ok(());
    }
    let length = rest.u16()?;
    let mut all = Bytes(rest.take(length.into())?);
    while !all.is_empty() {
        let (kind, length) = (all.u16()?, all.u16()?);
        each(kind, Bytes(all.take(length.into())?))?;
    }
    Ok(())
}

/// The first certificate of a chain: its subject and its issuer. None if it cannot be read.
fn certificate(direction: Direction, body: &[u8]) -> Option<Said> {
    let mut rest = Bytes(body);
    rest.u24().ok()?;
    let length = rest.u24().ok()? as usize;
    let first = rest.0.get(..length.min(rest.0.len()))?;
    let (issuer, subject) = names(first)?;
    let line = format!("certificate of {subject}");
    Some(
        Said::new(direction, Protocol::Tls, Kind::Note, line).with("subject", subject).with("issuer", issuer),
    )
}

/// Issuer and subject of an X.509 certificate (RFC 5280, 4.1), in DER.
fn names(certificate: &[u8]) -> Option<(String, String)> {
    let (_, whole, _) = value(certificate)?;
    let (_, mut fields, _) = value(whole)?;
    // An explicit version may stand before the serial number.
    if fields.first() == Some(&0xa0) {
        fields = value(fields)?.2;
    }
    let after_serial = value(fields)?.2;
    let after_algorithm = value(after_serial)?.2;
    let (_, issuer, rest) = value(after_algorithm)?;
    let after_validity = value(rest)?.2;
    let (_, subject, _) = value(after_validity)?;
    Some((distinguished(issuer), distinguished(subject)))
}

/// `CN=web, O=Shop`.
fn distinguished(mut name: &[u8]) -> String {
    let mut parts = Vec::new();
    while let Some((_, set, rest)) = value(name) {
        name = rest;
        let attribute = value(set).and_then(|(_, pair, _)| {
            let (_, kind, rest) = value(pair)?;
            let (_, data, _) = value(rest)?;
            Some((kind, data))
        });
        let Some((kind, data)) = attribute else { continue };
        let kind = match kind {
            [0x55, 4, 3] => "CN",
            [0x55, 4, 6] => "C",
            [0x55, 4, 7] => "L",
            [0x55, 4, 8] => "ST",
            [0x55, 4, 10] => "O",
            [0x55, 4, 11] => "OU",
            _ => continue,
        };
        parts.push(format!("{kind}={}", text(data, 128)));
        if parts.len() == 16 {
            break;
        }
    }
    parts.join(", ")
}

/// The first value of some DER: its tag, its content, what follows. A content that is cut off is given as far as it goes.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let length = if *first < 0x80 {
        usize::from(*first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        let (digits, behind) = rest.split_at_checked(count)?;
        rest = behind;
        digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
    };
    let (content, behind) = rest.split_at(length.min(rest.len()));
    Some((*tag, content, behind))
}

fn alert(what: u8) -> String {
    let name = match what {
        0 => "close notify",
        10 => "unexpected message",
        20 => "bad record",
        40 => "handshake failure",
        42 => "bad certificate",
        45 => "certificate expired",
        46 => "certificate unknown",
        47 => "illegal parameter",
        48 => "unknown CA",
        49 => "access denied",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        112 => "unrecognised name",
        116 => "certificate required",
        120 => "no application protocol",
        other => return format!("alert {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::super::testing::{all_ways, converse};
    use super::*;
    use Direction::{ToClient, ToServer};

    fn block(length: usize, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[4 - length..], body].concat()
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3][..], &block(2, body)].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &block(2, body)].concat()
    }

    fn hello() -> Vec<u8> {
        let name = extension(0, &block(2, &[&[0][..], &block(2, b"shop.example")].concat()));
        let alpn = extension(16, &block(2, &[block(1, b"h2"), block(1, b"http/1.1")].concat()));
        let versions = extension(43, &block(1, &[0x7a, 0x7a, 3, 4, 3, 3]));
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &block(2, &[0x13, 1]),
            &[1, 0],
            &block(2, &[name, alpn, versions].concat()),
        ]
        .concat();
        record(22, &[&[1][..], &block(3, &body)].concat())
    }

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag][..], &block(1, content)].concat()
    }

    #[test]
    fn names_versions_and_certificates_are_read_where_they_are_in_clear() {
        let name =
            |cn: &[u8]| der(0x30, &der(0x31, &der(0x30, &[der(6, &[0x55, 4, 3]), der(12, cn)].concat())));
        let fields = [
            der(0xa0, &der(2, &[2])),
            der(2, &[1]),
            der(0x30, &[]),
            name(b"Our CA"),
            der(0x30, &[]),
            name(b"shop.example"),
        ]
        .concat();
        let certificate = der(0x30, &der(0x30, &fields));
        let chain = [&[11][..], &block(3, &block(3, &block(3, &certificate)))].concat();
        let server = [&[3, 3][..], &[9; 32], &[0], &[0xc0, 0x2f], &[0]].concat();
        let server = [&[2][..], &block(3, &server)].concat();
        let pieces = [(ToServer, &hello()[..]), (ToClient, &record(22, &[server, chain].concat())[..])];
        let said = all_ways(None, &pieces);
        assert_eq!(
            said,
            ["→ client hello for shop.example", "← server hello", "← certificate of CN=shop.example"]
        );
        let said = converse(None, &pieces);
        assert_eq!(said[0].fields["alpn"], Value::Text("h2,http/1.1".into()));
        assert_eq!(said[0].fields["version"], Value::Text("1.3".into()));
        assert_eq!(said[1].fields["version"], Value::Text("1.2".into()));
        assert_eq!(said[2].fields["issuer"], Value::Text("CN=Our CA".into()));
    }

    #[test]
    fn what_is_encrypted_is_not_read() {
        let pieces = [
            (ToServer, &hello()[..]),
            (ToServer, &record(20, &[1])[..]),
            (ToServer, &record(22, &[0xff; 64])[..]),
            (ToServer, &record(23, &[0xff; 64])[..]),
        ];
        assert_eq!(all_ways(None, &pieces).len(), 1);
    }
}
