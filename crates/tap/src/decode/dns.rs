//! DNS (RFC 1035): questions and answers; over TCP with lengths before them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::bytes::{Bytes, text};
use super::frames::Frames;
use super::{Decoder, Garbled, Kind, Output, Protocol, Said};
use crate::event::{Direction, Time};

const MAX_PENDING: usize = 4096;
/// How many records of an answer are shown.
const SHOWN: u16 = 16;
/// More jumps than a name has labels are a loop.
const MAX_JUMPS: usize = 128;

/// What was asked, and has no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    frames: [Frames; 2],
    pending: VecDeque<(u16, Time)>,
}

impl Dns {
    pub(crate) fn new() -> Dns {
        Dns::default()
    }

    fn say(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut said = message(direction, bytes)?;
        let id = said.stream.unwrap_or_default() as u16;
        if said.kind == Kind::Request {
            if self.pending.len() >= MAX_PENDING {
                self.pending.pop_front();
            }
            self.pending.push_back((id, time));
        } else if let Some(at) = self.pending.iter().position(|(known, _)| *known == id) {
            let begun = self.pending.remove(at).map(|(_, begun)| begun);
            said = said.took(begun.map(|begun| time.since(begun)));
        }
        out.say(said);
        Ok(())
    }
}

impl Decoder for Dns {
    fn feed(
        &mut self,
        direction: Direction,
        time: Time,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), Garbled> {
        let mut input = bytes;
        let length =
            |head: &[u8]| Ok(head.first_chunk().map_or(0, |length| u16::from_be_bytes(*length).into()));
        while let Some(frame) = self.frames[direction.index()].next(&mut input, 2, usize::MAX, length)? {
            self.say(direction, time, &frame.body, out)?;
        }
        Ok(())
    }
}

/// Whether a message begins as a standard query with one question does: by that a flow is taken for DNS.
pub(crate) fn is_question(message: &[u8]) -> bool {
    matches!(message, [_, _, flags, _, 0, 1, 0, 0, 0, 0, 0, 0..=2, ..] if flags & 0xf8 == 0)
}

/// One message, of any transport.
pub(crate) fn message(direction: Direction, bytes: &[u8]) -> Result<Said, Garbled> {
    let mut rest = Bytes(bytes);
    let (id, flags) = (rest.u16()?, rest.u16()?);
    let (questions, answers) = (rest.u16()?, rest.u16()?);
    rest.take(4)?;
    let mut asked = Vec::new();
    for _ in 0..questions.min(SHOWN) {
        let name = name(bytes, &mut rest)?;
        let (kind, _class) = (rest.u16()?, rest.u16()?);
        asked.push(format!("{} {name}", kind_name(kind)));
    }
    let asked = asked.join(", ");
    if flags & 0x8000 == 0 {
        let opcode = flags >> 11 & 15;
        let line = match opcode {
            0 => asked.clone(),
            4 => format!("notify {asked}"),
            5 => format!("update {asked}"),
            other => format!("opcode {other} {asked}"),
        };
        return Ok(Said::new(direction, Protocol::Dns, Kind::Request, line)
            .stream(id.into())
            .with("question", asked));
    }
    let mut told = Vec::new();
    // What is cut off by the transport is not shown.
    for _ in 0..answers.min(SHOWN) {
        match record(bytes, &mut rest) {
            Ok(record) => told.push(record),
            Err(_) => break,
        }
    }
    let code = flags & 15;
    let line = match (code, told.is_empty()) {
        (0, true) => "no records".to_owned(),
        (0, false) => told.iter().map(|(kind, data)| format!("{kind} {data}")).collect::<Vec<_>>().join(", "),
        (code, _) => code_name(code),
    };
    let more = if answers > SHOWN { format!(", … ({} more)", answers - SHOWN) } else { String::new() };
    let cut = if flags & 0x0200 != 0 { " (truncated)" } else { "" };
    let mut said = Said::new(direction, Protocol::Dns, Kind::Response, format!("{asked}: {line}{more}{cut}"))
        .stream(id.into())
        .with("question", asked)
        .with("answers", told);
    if code != 0 {
        said = said.with("error", code_name(code));
    }
    Ok(said)
}

fn name(message: &[u8], at: &mut Bytes<'_>) -> Result<String, Garbled> {
    let mut labels = Vec::new();
    let mut jumps = 0;
    // Behind a jump the reading goes on elsewhere, and `at` stays behind the jump.
    let mut elsewhere: Option<Bytes<'_>> = None;
    loop {
        let length = match &mut elsewhere {
            Some(place) => place.u8()?,
            None => at.u8()?,
        };
        match length {
            0 => break,
            1..=63 => labels.push(match &mut elsewhere {
                Some(place) => text(place.take(length.into())?, 63),
                None => text(at.take(length.into())?, 63),
            }),
            0xc0.. => {
                let low = match &mut elsewhere {
                    Some(place) => place.u8()?,
                    None => at.u8()?,
                };
                jumps += 1;
                if jumps > MAX_JUMPS {
                    return Err(Garbled("a name refers to itself"));
                }
                let to = usize::from(length & 0x3f) << 8 | usize::from(low);
                elsewhere = Some(Bytes(message.get(to..).unwrap_or_default()));
            }
            _ => return Err(Garbled("a label has an unknown kind")),
        }
        if labels.len() > 128 {
            return Err(Garbled("a name has too many labels"));
        }
    }
    Ok(if labels.is_empty() { ".".to_owned() } else { labels.join(".") })
}

/// Its kind and its data.
fn record(message: &[u8], at: &mut Bytes<'_>) -> Result<(String, String), Garbled> {
    name(message, at)?;
    let kind = at.u16()?;
    at.take(6)?;
    let length = at.u16()?;
    let mut data = Bytes(at.take(length.into())?);
    let shown = match kind {
        1 => data.u32().map(|address| Ipv4Addr::from(address).to_string())?,
        28 => {
            let words = [data.u32()?, data.u32()?, data.u32()?, data.u32()?];
            let address = words.iter().fold(0u128, |all, word| all << 32 | u128::from(*word));
            Ipv6Addr::from(address).to_string()
        }
        2 | 5 | 12 => name(message, &mut data)?,
        15 => format!("{} {}", data.u16()?, name(message, &mut data)?),
        33 => {
            let (priority, weight, port) = (data.u16()?, data.u16()?, data.u16()?);
            format!("{priority} {weight} {port} {}", name(message, &mut data)?)
        }
        16 => {
            let length = data.u8()?;
            format!("{:?}", text(data.take(length.into())?, 255))
        }
        _ => format!("{length} bytes"),
    };
    Ok((kind_name(kind), shown))
}

fn kind_name(kind: u16) -> String {
    let name = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        41 => "OPT",
        43 => "DS",
        46 => "RRSIG",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

fn code_name(code: u16) -> String {
    let name = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        other => return format!("RCODE{other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::all_ways;
    use super::*;
    use Direction::{ToClient, ToServer};

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u16).to_be_bytes()[..], message].concat()
    }

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x03lab\0\0\x01\0\x01";
    const ANSWER: &[u8] =
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03web\x03lab\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc6\x13\0\x02";

    #[test]
    fn questions_and_answers_are_read_over_tcp() {
        let none = [&b"\x12\x35\x81\x83\0\x01\0\0\0\0\0\0"[..], &QUESTION[12..]].concat();
        let said = all_ways(
            None,
            &[(ToServer, &framed(QUESTION)), (ToClient, &framed(ANSWER)), (ToClient, &framed(&none))],
        );
        assert_eq!(said, ["→ A web.lab", "← A web.lab: A 198.19.0.2", "← A web.lab: NXDOMAIN"]);
    }

    #[test]
    fn a_name_that_refers_to_itself_ends() {
        let looped = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01";
        assert_eq!(message(ToServer, looped), Err(Garbled("a name refers to itself")));
    }
}
