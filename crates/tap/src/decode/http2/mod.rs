//! HTTP/2 with prior knowledge (RFC 9113), and gRPC over it: streams, methods, paths, status, trailers.

mod hpack;
mod huffman;

use std::collections::BTreeMap;
use std::time::Duration;

use super::bytes::{Bytes, text};
use super::detect::PREFACE;
use super::frames::{Frame, Frames};
use super::{Decoder, Garbled, Kind, Output, Protocol, Said, mask};
use crate::event::{Direction, Time};
use hpack::{Header, Hpack};

/// How much of a frame's body is read; blocks of headers are read whole or not at all.
const KEPT: usize = 64 << 10;
/// No frame is larger than peers ever allow in practice.
const MAX_FRAME: usize = 1 << 20;
/// No block of headers is larger.
const MAX_BLOCK: usize = 256 << 10;
/// So much of a field's value is shown.
const MAX_VALUE: usize = 8 << 10;
/// Streams that are open at once.
const MAX_STREAMS: usize = 4096;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A stream that is not over.
#[derive(Debug)]
struct Stream {
    text: String,
    begun: Time,
    waited: Option<Duration>,
    /// From the request's head to its end, once that has come.
    sent: Option<Duration>,
    status: Option<String>,
    grpc: Option<String>,
    is_grpc: bool,
    /// Bytes of data, by direction.
    data: [u64; 2],
    /// Which directions have ended.
    ended: [bool; 2],
}

/// A block of headers that goes on in further frames.
#[derive(Debug)]
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    ends_stream: bool,
}

#[derive(Debug)]
pub(crate) struct Http2 {
    frames: [Frames; 2],
    /// How much of the preface is missing.
    preface: usize,
    hpack: [Hpack; 2],
    blocks: [Option<Block>; 2],
    streams: BTreeMap<u32, Stream>,
}

impl Http2 {
    pub(crate) fn new() -> Http2 {
        Http2 {
            frames: Default::default(),
            preface: PREFACE.len(),
            hpack: [Hpack::new(), Hpack::new()],
            blocks: [None, None],
            streams: BTreeMap::new(),
        }
    }

    fn frame(
        &mut self,
        direction: Direction,
        time: Time,
        frame: &Frame,
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut head = Bytes(&frame.head);
        let (_, kind, flags) = (head.u24()?, head.u8()?, head.u8()?);
        let stream = head.u32()? & 0x7fff_ffff;
        let at = direction.index();
        if self.blocks[at].is_some() && kind != 9 {
            return Err(Garbled("a block of headers is interrupted"));
        }
        let mut body = Bytes(&frame.body);
        match kind {
            // DATA
            0 => {
                let padding = if flags & PADDED != 0 { usize::from(body.u8()?) + 1 } else { 0 };
                if let Some(known) = self.streams.get_mut(&stream) {
                    known.data[at] += frame.length.saturating_sub(padding) as u64;
                }
                if flags & END_STREAM != 0 {
                    self.end(direction, stream, time, out);
                }
            }
            // HEADERS
            1 => {
                let padding = if flags & PADDED != 0 { usize::from(body.u8()?) } else { 0 };
                if flags & PRIORITY != 0 {
                    body.take(5)?;
                }
                self.block(direction, stream, body.0, padding, flags, time, frame, out)?;
            }
            // RST_STREAM
            3 => {
                let code = body.u32()?;
                let what = self
                    .streams
                    .remove(&stream)
                    .map_or_else(String::new, |known| format!("{}: ", known.text));
                let line = format!("{what}stream reset, {}", error(code));
                out.say(
                    Said::new(direction, Protocol::Http2, Kind::Note, line)
                        .stream(stream.into())
                        .with("error", error(code)),
                );
            }
            // SETTINGS: the size of the table in which the other direction's headers are kept.
            4 if flags & 1 == 0 => {
                while !body.is_empty() {
                    let (setting, value) = (body.u16()?, body.u32()?);
                    if setting == 1 {
                        self.hpack[direction.opposite().index()].allow(value);
                    }
                }
            }
            // PUSH_PROMISE
            5 => {
                let padding = if flags & PADDED != 0 { usize::from(body.u8()?) } else { 0 };
                let promised = body.u32()? & 0x7fff_ffff;
                self.block(direction, promised, body.0, padding, flags & !END_STREAM, time, frame, out)?;
            }
            // GOAWAY
            7 => {
                let (_, code) = (body.u32()?, body.u32()?);
                let why = text(body.0, 200);
                let why = if why.is_empty() { why } else { format!(" ({why})") };
                let line = format!("goes away, {}{why}", error(code));
                out.say(Said::new(direction, Protocol::Http2, Kind::Note, line));
            }
            // CONTINUATION
            9 => {
                let Some(block) = &mut self.blocks[at] else {
                    return Err(Garbled("headers go on that never began"));
                };
                if block.stream != stream || frame.length > frame.body.len() {
                    return Err(Garbled("headers go on in another stream"));
                }
                if block.bytes.len() + frame.body.len() > MAX_BLOCK {
                    return Err(Garbled("headers are too long"));
                }
                block.bytes.extend_from_slice(&frame.body);
                if flags & END_HEADERS != 0
                    && let Some(block) = self.blocks[at].take()
                {
                    self.headers(direction, &block, time, out)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "a frame's fields, as they are read")]
    fn block(
        &mut self,
        direction: Direction,
        stream: u32,
        bytes: &[u8],
        padding: usize,
        flags: u8,
        time: Time,
        frame: &Frame,
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        if frame.length > frame.body.len() {
            return Err(Garbled("headers are too long"));
        }
        let end = bytes.len().checked_sub(padding).ok_or(Garbled("more padding than there is"))?;
        let block = Block { stream, bytes: bytes[..end].to_vec(), ends_stream: flags & END_STREAM != 0 };
        if flags & END_HEADERS != 0 {
            return self.headers(direction, &block, time, out);
        }
        self.blocks[direction.index()] = Some(block);
        Ok(())
    }

    fn headers(
        &mut self,
        direction: Direction,
        block: &Block,
        time: Time,
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let headers = self.hpack[direction.index()].decode(&block.bytes)?;
        match direction {
            Direction::ToServer if !self.streams.contains_key(&block.stream) => {
                self.request(block.stream, &headers, time, out)?;
            }
            // Trailers of a request say nothing that is shown.
            Direction::ToServer => {}
            Direction::ToClient => self.response(block, &headers, time, out),
        }
        if block.ends_stream {
            self.end(direction, block.stream, time, out);
        }
        Ok(())
    }

    fn request(
        &mut self,
        stream: u32,
        headers: &[Header],
        time: Time,
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let (Some(method), path) = (get(headers, ":method"), get(headers, ":path").unwrap_or("*")) else {
            return Err(Garbled("a request has no method"));
        };
        if self.streams.len() >= MAX_STREAMS {
            return Err(Garbled("too many streams are open"));
        }
        let path = if out.show_secrets { path.to_owned() } else { mask::target(path) };
        let is_grpc = get(headers, "content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
        let line = text(format!("{method} {path}").as_bytes(), 2048);
        let mut said = Said::new(Direction::ToServer, Protocol::Http2, Kind::Request, line.clone())
            .stream(stream.into())
            .with("method", method)
            .with("target", path.clone())
            .with("headers", shown(headers, out.show_secrets));
        if let Some(host) = get(headers, ":authority").or_else(|| get(headers, "host")) {
            said = said.with("host", text(host.as_bytes(), 256));
        }
        if let Some((service, call)) = path.trim_start_matches('/').split_once('/').filter(|_| is_grpc) {
            said = said.with("grpc_service", service).with("grpc_method", call);
        }
        out.say(said);
        self.streams.insert(
            stream,
            Stream {
                text: line,
                begun: time,
                waited: None,
                sent: None,
                status: None,
                grpc: None,
                is_grpc,
                data: [0; 2],
                ended: [false; 2],
            },
        );
        Ok(())
    }

    fn response(&mut self, block: &Block, headers: &[Header], time: Time, out: &mut Output<'_>) {
        let known = self.streams.get_mut(&block.stream);
        let took = known.as_ref().map(|known| time.since(known.begun));
        let request = known.as_ref().map(|known| known.text.clone());
        let status = get(headers, ":status").map(|status| text(status.as_bytes(), 16));
        let grpc = get(headers, "grpc-status").map(grpc_status);
        let line = match (&status, &grpc) {
            (Some(status), None) => status.clone(),
            (Some(status), Some(grpc)) => format!("{status}, gRPC {grpc}"),
            (None, Some(grpc)) => format!("trailers, gRPC {grpc}"),
            (None, None) => "trailers".to_owned(),
        };
        let kind = if status.is_some() { Kind::Response } else { Kind::Note };
        let mut said = Said::new(Direction::ToClient, Protocol::Http2, kind, line)
            .stream(block.stream.into())
            .took(took)
            .with("headers", shown(headers, out.show_secrets));
        if let Some(status) = status.as_deref().and_then(|status| status.parse::<u64>().ok()) {
            said = said.with("status", status);
        }
        if let Some(grpc) = &grpc {
            said = said.with("grpc_status", grpc.clone());
        }
        if let Some(message) = get(headers, "grpc-message").filter(|message| !message.is_empty()) {
            said = said.with("grpc_message", text(message.as_bytes(), 200));
        }
        if let Some(request) = request {
            said = said.with("request", request);
        }
        out.say(said);
        if let Some(known) = known {
            known.waited = known.waited.or(took);
            // 1xx is not the answer.
            known.status = status.filter(|status| !status.starts_with('1')).or(known.status.take());
            known.grpc = grpc.or(known.grpc.take());
        }
    }

    /// A direction of a stream has ended; with the answer the exchange is complete.
    fn end(&mut self, direction: Direction, stream: u32, time: Time, out: &mut Output<'_>) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.ended[direction.index()] = true;
        if direction == Direction::ToServer {
            known.sent = Some(time.since(known.begun));
        }
        if !known.ended[Direction::ToClient.index()] {
            return;
        }
        let Some(known) = self.streams.remove(&stream) else { return };
        let status = known.status.unwrap_or_else(|| "no status".to_owned());
        let grpc =
            known.grpc.filter(|_| known.is_grpc).map(|grpc| format!(", gRPC {grpc}")).unwrap_or_default();
        let mut said = Said::new(
            Direction::ToClient,
            Protocol::Http2,
            Kind::Exchange,
            format!("{} → {status}{grpc}", known.text),
        )
        .stream(stream.into())
        .took(Some(time.since(known.begun)))
        .with("request_body", known.data[0])
        .with("response_body", known.data[1]);
        if let Ok(status) = status.parse::<u64>() {
            said = said.with("status", status);
        }
        if let Some(sent) = known.sent {
            said = said.with("sent_ns", sent);
        }
        if let Some(waited) = known.waited {
            said = said.with("waited_ns", waited);
        }
        out.say(said);
    }
}

impl Decoder for Http2 {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut input = bytes;
        if direction == Direction::ToServer && self.preface > 0 {
            let taken = self.preface.min(input.len());
            let at = PREFACE.len() - self.preface;
            if input[..taken] != PREFACE[at..at + taken] {
                return Err(Garbled("the preface is missing"));
            }
            self.preface -= taken;
            input = &input[taken..];
        }
        loop {
            let length = |head: &[u8]| match head {
                [a, b, c, ..] => match u32::from_be_bytes([0, *a, *b, *c]) as usize {
                    length if length <= MAX_FRAME => Ok(length),
                    _ => Err(Garbled("a frame is too long")),
                },
                _ => Ok(0),
            };
            let Some(frame) = self.frames[direction.index()].next(&mut input, 9, KEPT, length)? else {
                return Ok(());
            };
            self.frame(direction, time, &frame, out)?;
        }
    }
}

fn get<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The fields that are not the protocol's own.
fn shown(headers: &[Header], show_secrets: bool) -> Vec<(String, String)> {
    let fields = headers.iter().filter(|(name, _)| !name.starts_with(':'));
    let shown = |(name, value): &Header| {
        let value = text(value.as_bytes(), MAX_VALUE);
        (text(name.as_bytes(), 128), if show_secrets { value } else { mask::field(name, value) })
    };
    fields.map(shown).collect()
}

/// RFC 9113, 7.
fn error(code: u32) -> String {
    let name = match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        2 => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        5 => "STREAM_CLOSED",
        7 => "REFUSED_STREAM",
        8 => "CANCEL",
        11 => "ENHANCE_YOUR_CALM",
        other => return format!("error {other}"),
    };
    name.to_owned()
}

/// `5 NOT_FOUND` (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
fn grpc_status(status: &str) -> String {
    let names = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    match status.parse::<usize>().ok().and_then(|number| names.get(number)) {
        Some(name) => format!("{status} {name}"),
        None => text(status.as_bytes(), 16),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::all_ways;
    use super::*;
    use Direction::{ToClient, ToServer};

    fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    }

    /// Literals without an index.
    fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let string = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        headers.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
    }

    #[test]
    fn streams_with_trailers_are_read() {
        let grpc = block(&[
            (":method", "POST"),
            (":path", "/shop.Cart/Add"),
            ("content-type", "application/grpc"),
            ("authorization", "Bearer abc"),
        ]);
        let (first, second) = grpc.split_at(20);
        let client = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 0, 1, first),
            frame(9, END_HEADERS, 1, second),
            frame(0, END_STREAM, 1, &[7; 12]),
            frame(1, END_HEADERS | END_STREAM, 3, &[0x82, 0x84]),
        ]
        .concat();
        let server = [
            frame(4, 0, 0, &[]),
            frame(1, END_HEADERS, 1, &[0x88]),
            frame(0, 0, 1, &[1; 9]),
            frame(
                1,
                END_HEADERS | END_STREAM,
                1,
                &block(&[("grpc-status", "5"), ("grpc-message", "no cart")]),
            ),
            frame(1, END_HEADERS | END_STREAM, 3, &[0x8d]),
            frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
        ]
        .concat();
        let said = all_ways(None, &[(ToServer, &client), (ToClient, &server)]);
        assert_eq!(
            said,
            [
                "→ POST /shop.Cart/Add",
                "→ GET /",
                "← 200",
                "← trailers, gRPC 5 NOT_FOUND",
                "← POST /shop.Cart/Add → 200, gRPC 5 NOT_FOUND",
                "← 404",
                "← GET / → 404",
                "← goes away, NO_ERROR",
            ]
        );
    }

    #[test]
    fn what_is_no_http2_is_raw_from_there() {
        let garbage = [PREFACE, b"\xff\xff\xff\0\0\0\0\0\0"].concat();
        let said = all_ways(None, &[(ToServer, &garbage)]);
        assert!(said[0].contains("raw from here"), "{said:?}");
    }
}
