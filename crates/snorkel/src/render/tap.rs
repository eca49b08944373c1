//! The lines of a tap: one for each connection, and with `-v` what is said on them.
//!
//! DNS is short enough to be shown in any case: a line for each answer stands for the line of the flow.
//!
//! A line is of one connection and one direction, which is told by its arrow: → is what the client says, ← what it is
//! answered. What was said is made safe for a terminal.

use std::collections::HashSet;

use snorkel_capture::Timestamp;
use snorkel_capture::dissect::{Clock, TimeFormat, Zone};
use snorkel_tap::decode::{Kind, Protocol, Said, Value};
use snorkel_tap::event::{ConnectionId, Direction, End, Event, Summary, What};
use snorkel_tap::relay::Report;

use super::capture::{bytes, thousands};
use super::flows::time;
use super::style::{Style, Tone};
use super::text::printable;
use crate::commands::tap::Called;

/// How many bytes of hex stand on a line.
const HEX: usize = 16;

/// Makes lines of events.
pub(crate) struct Lines {
    clock: Clock,
    style: Style,
    verbose: bool,
    /// Flows whose answers were shown, by the number of their tap.
    answered: HashSet<(usize, ConnectionId)>,
}

impl Lines {
    /// `verbose`: the conversation, too.
    pub(crate) fn new(style: Style, verbose: bool) -> Lines {
        Lines {
            clock: Clock::new(TimeFormat::Clock, Zone::Local, false),
            style,
            verbose,
            answered: HashSet::new(),
        }
    }

    /// Whether more than the ends of connections is shown.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The lines of an event; none if it is not shown.
    pub(crate) fn event(&mut self, tap: usize, event: &Event, called: &Called) -> String {
        let mut out = Vec::new();
        self.clock.write(Timestamp(event.time.0), &mut out);
        let mut line = String::from_utf8_lossy(&out).into_owned();
        let (client, server) = (called.socket(tap, event.ends.client), called.socket(tap, event.ends.server));
        let ends = |arrow: &str| format!("{} {arrow} {}", printable(&client), printable(&server));
        match &event.what {
            What::Ended(Summary { end: End::Idle, .. }) if self.answered.remove(&(tap, event.connection)) => {
                return String::new();
            }
            What::Ended(summary) => {
                self.answered.remove(&(tap, event.connection));
                if self.verbose {
                    line.push_str(&format!("#{} ", event.connection.0));
                }
                line.push_str(&format!("{}  {}\n", ends("→"), self.summary(summary)));
            }
            What::Opened if self.verbose => {
                line.push_str(&format!("#{} {}  opened\n", event.connection.0, ends("→")));
            }
            What::Said(said) if self.verbose => {
                let arrow = arrow(said.direction);
                line.push_str(&format!("#{} {}  ", event.connection.0, ends(arrow)));
                self.said(said, &format!("    #{} {arrow} ", event.connection.0), &mut line);
            }
            What::Said(said) if is_answer(said) => {
                line.push_str(&format!("{}  ", ends("→")));
                self.said(said, "", &mut line);
                self.answered.insert((tap, event.connection));
            }
            _ => return String::new(),
        }
        line
    }

    fn summary(&self, summary: &Summary) -> String {
        let [to_server, to_client] = summary.bytes;
        let nanoseconds = |span: std::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let mut text = format!(
            "{} out, {} back, {}",
            bytes(to_server),
            bytes(to_client),
            time(nanoseconds(summary.lasted))
        );
        if let Some(first) = summary.first_byte {
            text.push_str(&format!(", first byte after {}", time(nanoseconds(first))));
        }
        let (tone, end) = match &summary.end {
            End::Closed => (Tone::Faint, "closed".to_owned()),
            End::Idle => (Tone::Faint, "silent since".to_owned()),
            End::Reset { by: Direction::ToServer } => (Tone::Doubtful, "reset by the client".to_owned()),
            End::Reset { by: Direction::ToClient } => (Tone::Doubtful, "reset by the application".to_owned()),
            End::Refused { error } => (Tone::Bad, format!("the application refused: {error}")),
            End::Failed { error } => (Tone::Bad, format!("failed: {error}")),
            End::Cut { why } => (Tone::Doubtful, format!("cut: {why}")),
        };
        text.push_str(", ");
        text.push_str(&self.style.paint(tone, printable(&end)));
        text
    }

    /// What was said: its first line goes on after the ends, the others begin with `before`.
    fn said(&self, said: &Said, before: &str, out: &mut String) {
        if said.kind == Kind::Bytes {
            out.push_str(&format!("{}\n", bytes(said.bytes.len() as u64)));
            return raw(&said.bytes, before, out);
        }
        let tone = match said.kind {
            Kind::Request => Tone::Heading,
            Kind::Response if said.fields.contains_key("error") => Tone::Bad,
            Kind::Response => Tone::Good,
            _ => Tone::Faint,
        };
        out.push_str(&format!("{} ", said.protocol));
        if let Some(stream) = said.stream {
            out.push_str(&format!("({stream}) "));
        }
        out.push_str(&self.style.paint(tone, printable(&said.text)));
        if let Some(took) = said.took {
            out.push_str(&format!(", {}", time(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))));
        }
        for (name, value) in &said.fields {
            match (*name, value) {
                ("request_body", Value::Number(size)) if *size > 0 => {
                    out.push_str(&format!(", {} sent", bytes(*size)))
                }
                ("response_body", Value::Number(size)) => {
                    out.push_str(&format!(", {} received", bytes(*size)))
                }
                ("rows", Value::Number(rows)) => out.push_str(&format!(", {} rows", thousands(*rows))),
                (
                    "version" | "alpn" | "subject" | "issuer" | "grpc_status" | "grpc_message",
                    Value::Text(text),
                ) if said.protocol != Protocol::Http1 => {
                    out.push_str(&format!(", {} {}", name.replace('_', "-"), printable(text)));
                }
                _ => {}
            }
        }
        out.push('\n');
        if let Some(Value::Pairs(headers)) = said.fields.get("headers") {
            for (name, value) in headers {
                let line = format!("{before}{}: {}", printable(name), printable(value));
                out.push_str(&format!("{}\n", self.style.paint(Tone::Faint, line)));
            }
        }
    }
}

/// Whether it is told without `-v`, for the whole of what was asked and answered.
pub(crate) fn is_answer(said: &Said) -> bool {
    said.protocol == Protocol::Dns && said.kind == Kind::Response
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "→",
        Direction::ToClient => "←",
    }
}

/// Text as text, line by line; anything else as hex.
fn raw(data: &[u8], before: &str, out: &mut String) {
    match text(data) {
        Some(text) => {
            for line in text.lines() {
                out.push_str(&format!("{before}{}\n", printable(line)));
            }
        }
        None => {
            for (row, chunk) in data.chunks(HEX).enumerate() {
                let hex: Vec<String> =
                    chunk.chunks(2).map(|pair| pair.iter().map(|b| format!("{b:02x}")).collect()).collect();
                let ascii: String = chunk
                    .iter()
                    .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
                    .collect();
                out.push_str(&format!("{before}0x{:04x}:  {:<39}  {ascii}\n", row * HEX, hex.join(" ")));
            }
        }
    }
}

/// The bytes as text, if they are one; a character may be cut at their end.
fn text(data: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => {
            std::str::from_utf8(&data[..e.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_text).then_some(text)
}

/// What a tap did, at its end.
pub(crate) fn account(report: &Report) -> String {
    let mut text = format!("{} connections", thousands(report.connections));
    if report.cut > 0 {
        text.push_str(&format!(", {} of them cut at the end", thousands(report.cut)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_the_rest_is_hex() {
        let shown = |data: &[u8]| {
            let mut out = String::new();
            raw(data, "> ", &mut out);
            out
        };
        assert_eq!(shown(b"one\r\ntwo\n"), "> one\n> two\n");
        assert_eq!(shown("naïv".as_bytes()), "> naïv\n");
        assert_eq!(shown(b"\0\x01AB"), "> 0x0000:  0001 4142                                ..AB\n");
        assert_eq!(shown(b"\x1b[2J"), "> 0x0000:  1b5b 324a                                .[2J\n");
    }
}
