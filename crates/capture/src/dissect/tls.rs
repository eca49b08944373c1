//! The beginnings of TLS connections (RFC 8446, RFC 6066): which server is meant, which protocols are offered, alerts.

use serde::Serialize;

use super::bytes::Bytes;
use super::http::serialize_text;
use super::text;

/// A record of TLS at the beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tls<'a> {
    /// The record's content: 20 change cipher spec, 21 alert, 22 handshake, 23 application data, 24 heartbeat.
    pub content: u8,
    /// The handshake message: 1 client hello, 2 server hello, 11 certificate and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<u8>,
    /// The highest version that the hello speaks of: 0x0303 is TLS 1.2, 0x0304 TLS 1.3.
    pub version: u16,
    /// The name of the server that the client asks for; empty if it names none in this segment.
    #[serde(serialize_with = "serialize_text", skip_serializing_if = "<[u8]>::is_empty")]
    pub sni: &'a [u8],
    /// The protocols that are offered or chosen: a list of names, each with its length before it, as on the wire.
    #[serde(serialize_with = "serialize_alpn", skip_serializing_if = "<[u8]>::is_empty")]
    pub alpn: &'a [u8],
    /// An alert's level and description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<(u8, u8)>,
    /// Whether the hello goes on in another segment, or was not kept whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// Bytes of the record, as it says.
    pub length: u16,
}

/// A record, if this looks like one.
pub(crate) fn parse(data: &[u8], length: usize) -> Option<Tls<'_>> {
    let mut bytes = Bytes::new(data, length);
    let &[content, 3, minor @ 0..=4, high, low] = bytes.array::<5>()? else { return None };
    let record = u16::from_be_bytes([high, low]);
    // The largest record there may be: 2^14 and what its protection adds.
    if record == 0 || record > (1 << 14) + 2048 {
        return None;
    }
    let mut tls = Tls {
        content,
        handshake: None,
        version: u16::from_be_bytes([3, minor]),
        sni: &[],
        alpn: &[],
        alert: None,
        continues: false,
        length: record,
    };
    match content {
        21 if record == 2 => tls.alert = bytes.array::<2>().map(|&[level, what]| (level, what)),
        22 => {
            bytes.clip(usize::from(record));
            let mut hello = bytes;
            // What is encrypted looks like any message; only the lengths of plain ones fit.
            let &[kind, zero, high, low] = hello.array::<4>()?;
            let message = usize::from(u16::from_be_bytes([high, low]));
            if zero == 0 && matches!(kind, 0..=24) {
                tls.handshake = Some(kind);
                if matches!(kind, 1 | 2) {
                    tls.continues = hello.kept().len() < message;
                    hello.clip(message);
                    let _ = tls.hello(kind, &mut hello);
                }
            }
        }
        _ => {}
    }
    Some(tls)
}

impl<'a> Tls<'a> {
    /// Reads a hello as far as it goes: where it is cut off, what was found before counts.
    fn hello(&mut self, kind: u8, bytes: &mut Bytes<'a>) -> Option<()> {
        self.version = bytes.u16()?;
        bytes.slice(32)?;
        let session = bytes.u8()?;
        bytes.slice(usize::from(session))?;
        if kind == 1 {
            let suites = bytes.u16()?;
            bytes.slice(usize::from(suites))?;
            let compressions = bytes.u8()?;
            bytes.slice(usize::from(compressions))?;
        } else {
            bytes.slice(3)?;
        }
        let extensions = bytes.u16()?;
        bytes.clip(usize::from(extensions));
        loop {
            let (extension, length) = (bytes.u16()?, bytes.u16()?);
            let value = bytes.up_to(usize::from(length));
            match extension {
                // A list of names of which only host names were ever defined: length, type 0, length, name.
                0 => {
                    if let [_, _, 0, high, low, name @ ..] = value {
                        let length = usize::from(u16::from_be_bytes([*high, *low]));
                        self.sni = name.get(..length).unwrap_or(name);
                    }
                }
                16 => self.alpn = value.get(2..).unwrap_or_default(),
                // The client lists versions behind a length; the server names the one that it chose.
                43 => {
                    let list = if kind == 1 { value.get(1..).unwrap_or_default() } else { value };
                    let (versions, _) = list.as_chunks::<2>();
                    let real = versions.iter().map(|version| u16::from_be_bytes(*version));
                    // Values that only keep servers tolerant (RFC 8701) are no versions.
                    self.version = real.filter(|version| version >> 8 == 3).max().unwrap_or(self.version);
                }
                _ => {}
            }
        }
    }

    /// The protocols of [`Tls::alpn`].
    pub fn protocols(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        protocols(self.alpn)
    }

    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "TLS ");
        match (self.content, self.handshake) {
            (20, _) => text::put(out, "change cipher spec"),
            (21, _) => text::put(out, "alert"),
            (22, Some(kind)) => text::put(
                out,
                match kind {
                    0 => "hello request",
                    1 => "client hello",
                    2 => "server hello",
                    4 => "new session ticket",
                    8 => "encrypted extensions",
                    11 => "certificate",
                    12 => "server key exchange",
                    13 => "certificate request",
                    14 => "server hello done",
                    15 => "certificate verify",
                    16 => "client key exchange",
                    20 => "finished",
                    22 => "certificate status",
                    _ => "handshake",
                },
            ),
            (22, None) => text::put(out, "handshake, encrypted"),
            (23, _) => text::put(out, "application data"),
            _ => text::put(out, "heartbeat"),
        }
        if let (22, Some(1 | 2)) = (self.content, self.handshake) {
            out.push(b' ');
            match self.version {
                0x0300 => text::put(out, "SSL3"),
                0x0301 => text::put(out, "1.0"),
                0x0302 => text::put(out, "1.1"),
                0x0303 => text::put(out, "1.2"),
                0x0304 => text::put(out, "1.3"),
                other => text::hex_word(out, other),
            }
        }
        if !self.sni.is_empty() {
            text::put(out, ", server ");
            text::escaped(out, self.sni);
        }
        for (at, protocol) in self.protocols().enumerate() {
            text::put(out, if at == 0 { ", alpn " } else { "," });
            text::escaped(out, protocol);
        }
        if let Some((level, description)) = self.alert {
            text::put(out, if level == 2 { " fatal " } else { " warning " });
            text::put(out, alert(description));
            if alert(description).is_empty() {
                text::decimal(out, u32::from(description));
            }
        }
        if self.continues {
            text::put(out, " ...");
        }
    }
}

fn alert(description: u8) -> &'static str {
    match description {
        0 => "close notify",
        10 => "unexpected message",
        20 => "bad record mac",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown",
        47 => "illegal parameter",
        48 => "unknown ca",
        49 => "access denied",
        50 => "decode error",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        86 => "inappropriate fallback",
        90 => "user canceled",
        109 => "missing extension",
        110 => "unsupported extension",
        112 => "unrecognized name",
        116 => "certificate required",
        120 => "no application protocol",
        _ => "",
    }
}

fn protocols(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = list.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        list = rest;
        Some(name)
    })
}

fn serialize_alpn<S: serde::Serializer>(list: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(protocols(list).map(|name| text::string(|out| text::escaped(out, name))))
}
