//! New connections: taken, as long as there are descriptors for them, and their application reached.

use std::cmp::Reverse;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with, sockopt};

use super::connection::{Connection, Side, Socket};
use super::half::{Half, reset_on_close};
use super::observer::{Observer, tell};
use super::token::Token;
use super::{Gate, Relay, now};
use crate::event::{ConnectionId, End, Ends, Summary, What, Word};
use crate::spoil;

/// Descriptors that are not for connections: the program's own, and some to spare.
const SPARE: usize = 64;
const TOO_FEW: &str = "this process may have no more file descriptors";

impl<G: Gate> Relay<G> {
    /// Takes all connections that wait. Those that come while descriptors run short were led here before the way was
    /// closed: what is to spare is for them.
    pub(super) fn accept(&mut self, at: usize) {
        loop {
            let Some(listener) = self.listeners.get(at) else { return };
            let why = match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, Some(client))) => {
                    if let Ok(client) = SocketAddr::try_from(client) {
                        self.take(socket, client);
                    }
                    if self.is_short() {
                        self.run_short(TOO_FEW);
                    }
                    continue;
                }
                Ok((_, None)) => continue,
                // Nobody waits; or the kernel has no memory now, and the listener will be found readable again.
                Err(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS) => return,
                Err(Errno::MFILE) => TOO_FEW,
                Err(Errno::NFILE) => "the machine may have no more open files",
                // The connection was gone before it was taken, or it is the network's error (accept(2)).
                Err(_) => continue,
            };
            self.run_short(why);
            return self.turn_away();
        }
    }

    /// Whether there are too few descriptors left for two sockets.
    pub(super) fn is_short(&self) -> bool {
        2 * self.connections.len() + self.pipes.descriptors() + SPARE + 2 > self.limit
    }

    /// Leads new connections past the relay as long as it can take no more.
    pub(super) fn run_short(&mut self, why: &str) {
        if self.short {
            return;
        }
        self.short = true;
        self.gate.set_open(false);
        if !self.said_short {
            self.said_short = true;
            self.teller.tell(Word::Warning(format!(
                "{why}: with {} connections open, new ones go to the application directly until some end; those that are open live on",
                self.connections.len()
            )));
        }
    }

    /// Resets what waits and cannot be taken, with the descriptor that is kept for this (accept(2) has no other way).
    fn turn_away(&mut self) {
        for at in 0..self.listeners.len() {
            self.reserve = None;
            while let Ok(socket) = accept_with(&self.listeners[at], SocketFlags::CLOEXEC) {
                // As from a host that has no room.
                let _ = reset_on_close(&socket);
                drop(socket);
            }
            self.reserve = self.control.try_clone().ok();
        }
    }

    /// Leads new connections here again.
    pub(super) fn run_on(&mut self) {
        self.short = false;
        self.gate.set_open(true);
    }

    /// Begins a connection.
    fn take(&mut self, socket: OwnedFd, client: SocketAddr) {
        let begun = Instant::now();
        let Ok(server) = self.gate.meant(socket.as_fd()) else { return };
        let ends = Ends { client, server };
        self.report.connections += 1;
        let id = ConnectionId(self.report.connections);
        if self.looks {
            tell((id, ends), now(), What::Opened, &mut self.teller);
        }
        let never =
            |end: End| What::Ended(Summary { bytes: [0; 2], lasted: begun.elapsed(), first_byte: None, end });
        let spoil = if self.options.spoil.is_some() {
            match spoil::Course::new(&self.options.spoil, id, begun) {
                Ok(spoil) => Some(Box::new(spoil)),
                Err(()) => {
                    let _ = reset_on_close(&socket);
                    let why = "dropped by --drop-connection".to_owned();
                    return tell((id, ends), now(), never(End::Cut { why }), &mut self.teller);
                }
            }
        } else {
            None
        };
        let (upstream, own) = match self.gate.connect(&ends) {
            Ok(connected) => connected,
            Err(error) => {
                let _ = reset_on_close(&socket);
                let short = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                let end = if error.raw_os_error() == Some(libc::ECONNREFUSED) {
                    self.gate.refused(server);
                    End::Refused { error: error.to_string() }
                } else {
                    End::Failed { error: error.to_string() }
                };
                tell((id, ends), now(), never(end), &mut self.teller);
                if short {
                    self.run_short(TOO_FEW);
                }
                return;
            }
        };
        // What an end says small it means to be there soon (tcp(7)).
        let _ = sockopt::set_tcp_nodelay(&upstream, true);
        let mut to_server = Half::new();
        if let Some(proxy) = self.options.proxy {
            to_server.push_own(proxy.header(&ends));
        }
        let until = spoil.as_ref().and_then(|spoil| spoil.until);
        let key = self.connections.add(Connection {
            id,
            ends,
            own,
            begun,
            first_byte: None,
            sockets: [Socket::new(socket), Socket::new(upstream)],
            halves: [to_server, Half::new()],
            connected: false,
            queued: false,
            observer: Observer::new(&self.options),
            spoil,
            answered: None,
        });
        if let Some(until) = until {
            self.timers.push(Reverse((until, key)));
        }
        let Some(connection) = self.connections.get(key) else { return };
        use epoll::EventFlags as On;
        for (side, socket) in [Side::Client, Side::Server].into_iter().zip(&connection.sockets) {
            let data = epoll::EventData::new_u64(Token::Socket(key, side).number());
            let on = On::IN | On::OUT | On::RDHUP | On::PRI | On::ET;
            if let Err(error) = epoll::add(&self.epoll, &socket.fd, data, on) {
                let error = format!("cannot watch a socket: {}", io::Error::from(error));
                return self.end(key, End::Failed { error }, true);
            }
        }
    }
}
