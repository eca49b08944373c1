//! What stands between a relay and the world: where connections come from, and how the application is reached.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::event::Ends;

/// The way to the application.
pub trait Gate {
    /// Begins a connection to what the client meant, without waiting for it: a non-blocking socket, and its own address.
    fn connect(&mut self, meant: &Ends) -> io::Result<(OwnedFd, SocketAddr)>;

    /// A connection whose own address was this is over.
    fn ended(&mut self, own: SocketAddr);

    /// The application did not take a connection to this address.
    fn refused(&mut self, server: SocketAddr);

    /// Leads new connections past the relay (it can take no more), or to it again.
    fn set_open(&mut self, open: bool);

    /// Looks at the world from time to time; when to do that again.
    fn look(&mut self) -> Option<Duration>;

    /// Takes the way back: from now on no new connection comes.
    fn close(&mut self);
}
