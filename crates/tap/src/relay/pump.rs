//! Bytes on their way: what a socket can do is done, direction by direction, a turn at a time.

use std::cmp::Reverse;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::connection::Side;
use super::half::{Course, Fault, Filled, Step};
use super::observer::tell;
use super::slab::Key;
use super::{Gate, Relay, now};
use crate::decode;
use crate::event::{Direction, End, What};
use crate::spoil::{self, Instead};

/// How many steps a direction may take before others have their turn.
const TURN: usize = 16;
/// Fewer bytes than that are sooner copied than led through a pipe.
const WORTH_A_PIPE: u64 = 64 << 10;

impl<G: Gate> Relay<G> {
    /// Takes note of what a socket can do, and does it.
    pub(super) fn event(&mut self, key: Key, side: Side, flags: epoll::EventFlags) {
        use epoll::EventFlags as On;
        let Some(connection) = self.connections.get(key) else { return };
        let socket = &mut connection.sockets[side.index()];
        if flags.contains(On::ERR)
            && let Ok(Err(error)) = sockopt::socket_error(&socket.fd)
        {
            return self.fail(key, side, error);
        }
        socket.ending |= flags.intersects(On::RDHUP | On::HUP | On::ERR);
        socket.readable |= socket.ending || flags.contains(On::IN);
        socket.writable |= flags.intersects(On::OUT | On::HUP | On::ERR);
        if flags.contains(On::PRI) {
            connection.halves[side.speaks().index()].take_urgent(connection.sockets[side.index()].fd.as_fd());
            connection.sockets[side.index()].readable = true;
        }
        if side == Side::Server && !connection.connected && flags.contains(On::OUT) {
            connection.connected = true;
        }
        self.pump(key);
    }

    /// Moves what can be moved, in both directions.
    pub(super) fn pump(&mut self, key: Key) {
        let mut again = false;
        for direction in Direction::BOTH {
            let Some(connection) = self.connections.get(key) else { return };
            if !connection.connected || connection.spoil.as_ref().is_some_and(|spoil| spoil.stall) {
                return;
            }
            match self.turn(key, direction) {
                Ok(true) => again = true,
                Ok(false) => {
                    if let Some(connection) = self.connections.get(key) {
                        connection.halves[direction.index()].rest(&mut self.pipes);
                    }
                }
                Err((side, error)) => return self.fail(key, side, error),
            }
        }
        let Some(connection) = self.connections.get(key) else { return };
        if connection.is_done() {
            return self.end(key, End::Closed, false);
        }
        if again && !connection.queued {
            connection.queued = true;
            self.queue.push_back(key);
        }
    }

    /// One direction's turn; whether it has more to do at once.
    fn turn(&mut self, key: Key, direction: Direction) -> Result<bool, (Side, Errno)> {
        let (source, sink) = match direction {
            Direction::ToServer => (Side::Client, Side::Server),
            Direction::ToClient => (Side::Server, Side::Client),
        };
        let of = |fault: Fault| match fault {
            Fault::Source(error) => (source, error),
            Fault::Sink(error) => (sink, error),
        };
        for _ in 0..TURN {
            let Some(connection) = self.connections.get(key) else { return Ok(false) };
            let spoiled = connection.spoil.as_ref().is_some_and(|spoil| spoil.shapes());
            let blind = connection.blind(direction);
            let [client, server] = &mut connection.sockets;
            let (from, to) = match direction {
                Direction::ToServer => (client, server),
                Direction::ToClient => (server, client),
            };
            let half = &mut connection.halves[direction.index()];
            if half.course == Course::Done {
                return Ok(false);
            }
            let mut waits = false;
            if half.waiting() > 0 || half.course == Course::Ending {
                if !to.writable {
                    return Ok(false);
                }
                match half.drain(to.fd.as_fd(), &mut self.pipes).map_err(of)? {
                    Step::Moved => {
                        self.moved(key, direction);
                        continue;
                    }
                    Step::Full => {
                        to.writable = false;
                        return Ok(false);
                    }
                    Step::Wait(due) => {
                        self.timers.push(Reverse((due, key)));
                        waits = true;
                        if !spoiled || half.waiting() >= spoil::HELD {
                            return Ok(false);
                        }
                    }
                    Step::End | Step::Empty => {}
                }
            }
            if half.course != Course::Open {
                if half.course == Course::Done {
                    self.finished(key, direction);
                }
                return Ok(false);
            }
            if connection.answered.is_some() {
                return Ok(false);
            }
            if !from.readable {
                return Ok(false);
            }
            if waits {
                // What is held back goes before the urgent byte, and that before what would be read now.
                if half.is_at_urgent(from.fd.as_fd()) {
                    return Ok(false);
                }
            } else {
                let (step, sent) = half.send_urgent(from.fd.as_fd(), to.fd.as_fd()).map_err(of)?;
                if step == Step::Full {
                    to.writable = false;
                    return Ok(false);
                }
                if let Some((byte, observer)) = sent.zip(connection.observer.as_mut()) {
                    let at = (connection.id, connection.ends);
                    observer.tell_urgent(at, direction, now(), byte, &mut self.teller);
                }
            }
            let filled = if blind < WORTH_A_PIPE || half.is_marked() {
                Filled::Nothing
            } else {
                match half.fill(from.fd.as_fd(), blind, &mut self.pipes) {
                    // Without a pipe bytes can still be copied.
                    Err(Fault::Source(Errno::MFILE | Errno::NFILE)) => Filled::Nothing,
                    filled => filled.map_err(of)?,
                }
            };
            let step = match filled {
                Filled::Bytes(count) => {
                    if let Some(observer) = &mut connection.observer {
                        let (at, time) = ((connection.id, connection.ends), now());
                        for said in observer.pass(direction, time, count as u64) {
                            tell(at, time, What::Said(said), &mut self.teller);
                        }
                    }
                    Step::Moved
                }
                Filled::Empty => Step::Empty,
                Filled::Nothing => {
                    let step = self.copy(key, direction).map_err(of)?;
                    if let Some(connection) = self.connections.get(key)
                        && connection.halves[direction.index()].is_emptied()
                    {
                        let source = &mut connection.sockets[source.index()];
                        source.readable = source.ending;
                    }
                    step
                }
            };
            match step {
                Step::Empty => {
                    if let Some(connection) = self.connections.get(key) {
                        connection.sockets[source.index()].readable = false;
                    }
                    return Ok(false);
                }
                Step::Full => {
                    if let Some(connection) = self.connections.get(key) {
                        connection.sockets[sink.index()].writable = false;
                    }
                    return Ok(false);
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Reads bytes into memory, shows them, and passes them on or lets them wait.
    fn copy(&mut self, key: Key, direction: Direction) -> Result<Step, Fault> {
        let Some(connection) = self.connections.get(key) else { return Ok(Step::End) };
        let mut most = self.scratch.len();
        if let Some(left) = connection.spoil.as_ref().and_then(|spoil| spoil.left) {
            most = most.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1);
        }
        let half = &mut connection.halves[direction.index()];
        let [client, server] = &connection.sockets;
        let (from, to) = match direction {
            Direction::ToServer => (client.fd.as_fd(), server.fd.as_fd()),
            Direction::ToClient => (server.fd.as_fd(), client.fd.as_fd()),
        };
        let (step, read) = half.read(from, &mut self.scratch[..most])?;
        if read == 0 {
            return Ok(step);
        }
        let bytes = &self.scratch[..read];
        let mut instead = None;
        if let Some(observer) = &mut connection.observer {
            let time = now();
            let at = (connection.id, connection.ends);
            let said: Vec<_> = observer.see(at, direction, time, bytes, &mut self.teller).collect();
            for said in said {
                if instead.is_none()
                    && let Some(rule) = self.options.spoil.instead(&said)
                {
                    instead = Some((rule.instead.clone(), rule.pattern.clone(), said.protocol));
                }
                tell(at, time, What::Said(said), &mut self.teller);
            }
        }
        if let Some((instead, pattern, protocol)) = instead {
            self.do_instead(key, instead, &pattern, protocol);
            return Ok(Step::Moved);
        }
        let Some(spoil) = &mut connection.spoil else {
            let step = half.write_through(to, bytes)?;
            self.moved(key, direction);
            return Ok(step);
        };
        if let Some(left) = &mut spoil.left {
            *left -= (read as u64).min(*left);
        }
        let step = if spoil.shapes() {
            let mut at = 0;
            for (size, due) in spoil.pieces(direction, read, Instant::now()) {
                half.push(&bytes[at..at + size], Some(due));
                at += size;
            }
            Step::Moved
        } else {
            half.write_through(to, bytes)?
        };
        self.moved(key, direction);
        Ok(step)
    }

    /// Does what a rule says instead of passing a request on.
    fn do_instead(&mut self, key: Key, instead: Instead, pattern: &str, protocol: decode::Protocol) {
        let Some(connection) = self.connections.get(key) else { return };
        let answer = match instead {
            Instead::Reset => None,
            Instead::Respond(status) => spoil::answer(protocol, status),
        };
        match answer {
            None => self.end(key, End::Cut { why: format!("reset, matching '{pattern}'") }, true),
            Some(answer) => {
                connection.answered = Some(format!("answered, matching '{pattern}'"));
                let at = (connection.id, connection.ends);
                if let Some(observer) = &mut connection.observer {
                    observer.tell_bytes(at, Direction::ToClient, now(), &answer, &mut self.teller);
                }
                // What the application has said before is still the client's.
                connection.halves[Direction::ToClient.index()].push_own(answer);
                connection.halves[Direction::ToServer.index()].discard(&mut self.pipes);
                connection.halves[Direction::ToClient.index()].course = Course::Ending;
            }
        }
    }

    /// Bytes of a direction were passed on.
    fn moved(&mut self, key: Key, direction: Direction) {
        let Some(connection) = self.connections.get(key) else { return };
        if direction == Direction::ToClient
            && connection.first_byte.is_none()
            && connection.halves[direction.index()].passed > 0
        {
            connection.first_byte = Some(connection.begun.elapsed());
        }
        if connection.spoil.as_ref().is_some_and(|spoil| spoil.left == Some(0))
            && connection.halves.iter().all(|half| half.waiting() == 0)
        {
            self.end(key, End::Cut { why: "reset by --reset-after".to_owned() }, true);
        }
    }
}
