//! How connections end, and the relay itself.

use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;

use super::connection::Side;
use super::half::reset_on_close;
use super::observer::tell;
use super::slab::Key;
use super::{Gate, Relay, now};
use crate::event::{Direction, End, What, Word};

impl<G: Gate> Relay<G> {
    /// Does what the control socket says.
    pub(super) fn obey(&mut self) {
        let mut word = [0];
        match rustix::io::read(&self.control, &mut word) {
            Ok(1) if word[0] == b's' => self.stop(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                self.stop();
                self.cut_all("the tap was told to end at once");
                self.ending = Some(Instant::now());
                // Nothing more can come from there.
                let _ = epoll::delete(&self.epoll, &self.control);
            }
        }
    }

    /// Takes no more connections.
    pub(super) fn stop(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.gate.close();
        // Those that the kernel has taken for it already are its own to serve.
        for at in 0..self.listeners.len() {
            self.accept(at);
        }
        self.listeners.clear();
        if self.connections.len() > 0 {
            self.teller.tell(Word::Note(format!(
                "no new connections are taken; {} may go on for {:?}, the next Ctrl-C ends them",
                self.connections.len(),
                self.options.drain
            )));
        }
        self.ending = Some(Instant::now() + self.options.drain);
    }

    pub(super) fn cut_all(&mut self, why: &str) {
        for key in self.connections.keys() {
            self.report.cut += 1;
            self.end(key, End::Cut { why: why.to_owned() }, true);
        }
    }

    /// An error of one side ends the connection, and the other side sees a reset.
    pub(super) fn fail(&mut self, key: Key, side: Side, error: Errno) {
        let Some(connection) = self.connections.get(key) else { return };
        let refused = side == Side::Server && !connection.connected && error == Errno::CONNREFUSED;
        let (end, server) = (connection.end_by(side, error), connection.ends.server);
        if refused {
            self.gate.refused(server);
        }
        self.end(key, end, true);
    }

    /// A direction's end was passed on.
    pub(super) fn finished(&mut self, key: Key, direction: Direction) {
        let Some(connection) = self.connections.get(key) else { return };
        let at = (connection.id, connection.ends);
        if let Some(observer) = &mut connection.observer {
            observer.finish(at, direction, now(), &mut self.teller);
        }
        if let Some(why) = connection.answered.take() {
            self.end(key, End::Cut { why }, false);
        }
    }

    /// Ends a connection; `reset`: both sides see it as reset.
    pub(super) fn end(&mut self, key: Key, end: End, reset: bool) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        for half in &mut connection.halves {
            half.release(&mut self.pipes);
        }
        if reset {
            for socket in &connection.sockets {
                // One that is gone needs no reset.
                let _ = reset_on_close(&socket.fd);
            }
        } else if let End::Cut { .. } = end {
            let _ = reset_on_close(&connection.sockets[Side::Server.index()].fd);
        }
        let at = (connection.id, connection.ends);
        let summary = connection.summary(end);
        let own = connection.own;
        drop(connection);
        self.gate.ended(own);
        tell(at, now(), What::Ended(summary), &mut self.teller);
        if self.short && self.ending.is_none() && !self.is_short() {
            self.run_on();
        }
    }
}
