//! From which address and port the tap reaches the application.
//!
//! The address is the client's own where that is one of this namespace, and otherwise the very address that the client
//! meant: never the loopback for a client from outside, which applications tend to trust. The port is from the range that
//! the kernel itself takes ephemeral ports from (ip_local_port_range, ip-sysctl.txt), so that no application's is taken.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::event::Ends;

/// How many ports are tried for one connection.
const TRIES: usize = 64;

#[derive(Debug)]
pub(super) struct Sources {
    range: (u16, u16),
    next: u16,
    used: HashSet<SocketAddr>,
    /// Whether an address is one of this namespace, as far as it was tried.
    local: HashMap<IpAddr, bool>,
}

impl Sources {
    /// Reads the range of the calling thread's network namespace.
    pub(super) fn here() -> Sources {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut numbers = text.split_ascii_whitespace().filter_map(|number| number.parse::<u16>().ok());
        let range = match (numbers.next(), numbers.next()) {
            (Some(low), Some(high)) if low < high && low > 0 => (low, high),
            // The kernel's own default.
            _ => (32768, 60999),
        };
        // Another tap of this namespace begins elsewhere.
        let span = u32::from(range.1 - range.0) + 1;
        let start = std::process::id().wrapping_mul(7919) % span;
        Sources { range, next: range.0 + start as u16, used: HashSet::new(), local: HashMap::new() }
    }

    fn step(&mut self) -> u16 {
        let port = self.next;
        self.next = if port >= self.range.1 { self.range.0 } else { port + 1 };
        port
    }

    /// A non-blocking socket that is bound to a source which no other connection of this tap has.
    pub(super) fn bound(&mut self, ends: &Ends, kind: SocketType) -> io::Result<(OwnedFd, SocketAddr)> {
        let family = if ends.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let client = ends.client.ip();
        let mut own = match self.local.get(&client) {
            Some(false) => false,
            Some(true) | None => client.is_ipv4() == ends.server.is_ipv4(),
        };
        for _ in 0..TRIES {
            let port = self.step();
            let source = with_port(if own { ends.client } else { ends.server }, port);
            if self.used.contains(&source) {
                continue;
            }
            let socket = socket_with(family, kind, flags, None)?;
            if kind == SocketType::STREAM {
                // A connection that ended a moment ago does not stand in the way (socket(7)).
                sockopt::set_socket_reuseaddr(&socket, true)?;
            }
            match bind(&socket, &source) {
                Ok(()) => {
                    if own {
                        self.remember(client, true);
                    }
                    self.used.insert(source);
                    return Ok((socket, source));
                }
                Err(Errno::ADDRNOTAVAIL) if own => {
                    self.remember(client, false);
                    own = false;
                }
                Err(Errno::ADDRINUSE) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::ADDRINUSE.into())
    }

    fn remember(&mut self, client: IpAddr, local: bool) {
        // Clients may come from anywhere: what was learnt is no treasure.
        if self.local.len() >= 4096 {
            self.local.clear();
        }
        self.local.insert(client, local);
    }

    pub(super) fn give_back(&mut self, source: SocketAddr) {
        self.used.remove(&source);
    }
}

/// The same address, and link where it has one, with another port.
fn with_port(address: SocketAddr, port: u16) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::new(address.ip(), port),
        SocketAddr::V6(six) => SocketAddrV6::new(*six.ip(), port, 0, six.scope_id()).into(),
    }
}
