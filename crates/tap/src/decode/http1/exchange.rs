//! Requests, their answers, and what both are together.

use std::time::Duration;

use super::super::bytes::text;
use super::super::{Garbled, Kind, Output, Protocol, Said, mask};
use super::head::Head;
use super::{Http1, Place};
use crate::event::{Direction, Time};

/// No client has more requests under way.
const MAX_PENDING: usize = 4096;

/// A request whose answer is not complete.
#[derive(Debug)]
pub(super) struct Pending {
    text: String,
    is_head: bool,
    is_connect: bool,
    upgrade: Option<String>,
    begun: Time,
    body: u64,
    /// From its head to its end, once that has come.
    sent: Option<Duration>,
    /// Of its answer, once that has begun.
    status: Option<u16>,
    took: Option<Duration>,
}

impl Http1 {
    pub(super) fn request(
        &mut self,
        time: Time,
        head: &Head,
        out: &mut Output<'_>,
    ) -> Result<Place, Garbled> {
        let mut words = head.start.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Garbled("a request line has not three words"));
        };
        if !version.starts_with("HTTP/1.") || method.is_empty() || !method.bytes().all(is_token) {
            return Err(Garbled("a request line is none"));
        }
        let shown = if out.show_secrets { target.to_owned() } else { mask::target(target) };
        let name = text(format!("{method} {shown}").as_bytes(), 2048);
        let place = match (head.lists("transfer-encoding", "chunked"), head.length()?) {
            (true, _) => Place::ChunkSize,
            (false, Some(length)) if length > 0 => Place::Body(length),
            _ => Place::Start,
        };
        let upgrade = head.lists("connection", "upgrade").then(|| head.get("upgrade")).flatten();
        if self.pending.len() >= MAX_PENDING {
            return Err(Garbled("requests without answers"));
        }
        self.pending.push_back(Pending {
            text: name.clone(),
            is_head: method == "HEAD",
            is_connect: method == "CONNECT",
            upgrade: upgrade.map(|upgrade| text(upgrade.as_bytes(), 64)),
            begun: time,
            body: 0,
            sent: matches!(place, Place::Start).then_some(Duration::ZERO),
            status: None,
            took: None,
        });
        let mut said = Said::new(Direction::ToServer, Protocol::Http1, Kind::Request, name)
            .with("method", method)
            .with("target", shown)
            .with("version", version)
            .with("head_bytes", head.bytes);
        if let Some(host) = head.get("host") {
            said = said.with("host", text(host.as_bytes(), 256));
        }
        out.say(said.with("headers", head.shown(out.show_secrets)));
        Ok(place)
    }

    pub(super) fn response(
        &mut self,
        time: Time,
        head: &Head,
        out: &mut Output<'_>,
    ) -> Result<Place, Garbled> {
        let mut words = head.start.splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = match status.parse::<u16>() {
            Ok(status @ 100..=999) if version.starts_with("HTTP/1.") && !head.start.is_empty() => status,
            _ => return Err(Garbled("a status line is none")),
        };
        let reason = text(words.next().unwrap_or_default().as_bytes(), 256);
        let pending = self.pending.front_mut();
        let took = pending.as_ref().map(|pending| time.since(pending.begun));
        let name = format!("{status} {reason}").trim_end().to_owned();
        let said = Said::new(Direction::ToClient, Protocol::Http1, Kind::Response, name)
            .took(took)
            .with("status", u64::from(status))
            .with("reason", reason)
            .with("version", version)
            .with("head_bytes", head.bytes)
            .with("headers", head.shown(out.show_secrets));
        out.say(match &pending {
            Some(pending) => said.with("request", pending.text.clone()),
            None => said,
        });
        let (is_head, is_connect) =
            pending.as_ref().map_or((false, false), |pending| (pending.is_head, pending.is_connect));
        if status == 101 || (is_connect && (200..300).contains(&status)) {
            let to = pending.and_then(|pending| pending.upgrade.clone()).unwrap_or_else(|| "a tunnel".into());
            out.say(Said::new(
                Direction::ToClient,
                Protocol::Http1,
                Kind::Note,
                format!("the connection becomes {to}"),
            ));
            self.pending.clear();
            return Ok(Place::Tunnel);
        }
        if (100..200).contains(&status) {
            // An interim answer: the real one follows.
            return Ok(Place::Start);
        }
        if let Some(pending) = pending {
            (pending.status, pending.took) = (Some(status), took);
        }
        if is_head || status == 204 || status == 304 {
            self.complete(time, out);
            return Ok(Place::Start);
        }
        Ok(match (head.lists("transfer-encoding", "chunked"), head.length()?) {
            (true, _) => Place::ChunkSize,
            (false, Some(0)) => {
                self.complete(time, out);
                Place::Start
            }
            (false, Some(length)) => Place::Body(length),
            (false, None) => Place::UntilClose,
        })
    }

    /// A body has ended.
    pub(super) fn end_of_body(&mut self, direction: Direction, time: Time, out: &mut Output<'_>) {
        match direction {
            Direction::ToServer => {
                let body = self.bodies[direction.index()];
                if let Some(pending) = self.pending.back_mut() {
                    (pending.body, pending.sent) = (body, Some(time.since(pending.begun)));
                }
            }
            Direction::ToClient => self.complete(time, out),
        }
    }

    /// An answer is complete, and with it an exchange.
    pub(super) fn complete(&mut self, time: Time, out: &mut Output<'_>) {
        let body = std::mem::take(&mut self.bodies[Direction::ToClient.index()]);
        let Some(pending) = self.pending.pop_front() else { return };
        let status = pending.status.unwrap_or_default();
        let text = format!("{} → {status}", pending.text);
        let mut said = Said::new(Direction::ToClient, Protocol::Http1, Kind::Exchange, text)
            .took(Some(time.since(pending.begun)))
            .with("status", u64::from(status))
            .with("request_body", pending.body)
            .with("response_body", body)
            .with("waited_ns", pending.took.unwrap_or_default());
        if let Some(sent) = pending.sent {
            said = said.with("sent_ns", sent);
        }
        out.say(said);
    }
}

/// `tchar` of RFC 9110, 5.6.2, as far as methods use it.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
