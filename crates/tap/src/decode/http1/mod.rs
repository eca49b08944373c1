//! HTTP/1.0 and 1.1 (RFC 9112): heads, bodies by length, by chunks and by the end of the connection, answers to pipelined
//! requests, and connections that become something else.

mod exchange;
mod head;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::lines::Lines;
use super::{Decoder, Garbled, Kind, Output, Protocol, Said};
use crate::event::{Direction, Time};
use exchange::Pending;
use head::Head;

/// No line of a head is longer; servers take 8 KiB.
const MAX_LINE: usize = 64 << 10;

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
            let blind = self.blind(direction).min(input.len() as u64);
            if blind > 0 {
                self.pass(direction, time, blind, out);
                input = &input[blind as usize..];
                continue;
            }
            let place = std::mem::replace(&mut self.places[at], Place::Tunnel);
            self.places[at] = match place {
                Place::Start => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Start,
                    // Before a request an empty line is to be ignored (RFC 9112, 2.2).
                    Some(line) if line.is_empty() && direction == Direction::ToServer => Place::Start,
                    Some(line) => Place::Head(Head::new(&line)),
                },
                Place::Head(mut head) => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Head(head),
                    Some(line) if head.line(&line)? => self.head(direction, time, head, out)?,
                    Some(_) => Place::Head(head),
                },
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
                Place::Trailer => match self.lines[at].next(&mut input, MAX_LINE)? {
                    None => Place::Trailer,
                    Some(line) if line.is_empty() => {
                        self.end_of_body(direction, time, out);
                        Place::Start
                    }
                    Some(_) => Place::Trailer,
                },
                passed @ (Place::Body(_) | Place::Chunk(_) | Place::UntilClose | Place::Tunnel) => passed,
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

    fn blind(&self, direction: Direction) -> u64 {
        match self.places[direction.index()] {
            Place::Body(left) | Place::Chunk(left) => left,
            Place::UntilClose | Place::Tunnel => u64::MAX,
            Place::Start | Place::Head(_) | Place::ChunkSize | Place::Trailer => 0,
        }
    }

    fn pass(&mut self, direction: Direction, time: Time, count: u64, out: &mut Output<'_>) {
        let body = &mut self.bodies[direction.index()];
        *body = body.saturating_add(count);
        let place = &mut self.places[direction.index()];
        match place {
            Place::Body(left) if *left <= count => {
                *place = Place::Start;
                self.end_of_body(direction, time, out);
            }
            Place::Body(left) | Place::Chunk(left) => *left = left.saturating_sub(count),
            _ => {}
        }
    }

    fn finish(&mut self, direction: Direction, time: Time, out: &mut Output<'_>) {
        if direction == Direction::ToServer {
            return;
        }
        match self.places[direction.index()] {
            Place::UntilClose => self.complete(time, out),
            Place::Body(_) | Place::ChunkSize | Place::Chunk(_) | Place::Trailer => {
                let text = format!("the body is cut short, after {} bytes", self.bodies[direction.index()]);
                out.say(Said::new(direction, Protocol::Http1, Kind::Note, text));
                self.complete(time, out);
            }
            Place::Start | Place::Head(_) | Place::Tunnel => {}
        }
    }

    fn next(&mut self) -> Option<(Protocol, usize)> {
        self.next.take()
    }
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
