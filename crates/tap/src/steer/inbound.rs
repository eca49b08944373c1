//! The gate of a tap on ports of a network namespace.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt};
use serde::Serialize;
use snorkel_bpf::tap::{Steering, Transport};
use snorkel_netns::Netns;

use super::claim::claim;
use super::listening::Listening;
use super::sources::Sources;
use crate::event::Ends;
use crate::relay::Gate;
use crate::{Error, Result};

/// How often it is looked who listens, while somebody does and while nobody does.
pub(super) const LOOK: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(50)];
/// How many connections the kernel may keep until they are taken; it gives at most net.core.somaxconn.
const BACKLOG: i32 = 16384;

/// A port that is tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Door {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its number.
    pub port: u16,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{}/{transport}", self.port)
    }
}

/// What is to be known of a tap before its first connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// Ports on which nobody listens now.
    pub silent: Vec<String>,
    /// What else.
    pub remarks: Vec<String>,
    /// Why applications do not see the client's address as their peer's; none if they do.
    pub anonymous: Option<String>,
}

/// The gate.
#[derive(Debug)]
pub struct Inbound {
    steering: Option<Steering>,
    doors: Vec<Door>,
    listening: Listening,
    sources: Sources,
    cookie: u64,
    _claims: Vec<OwnedFd>,
}

impl Inbound {
    /// Opens the doors in `netns`, which must be the calling thread's. The sockets are the relay's to listen on.
    ///
    /// `cgroup`: a folder of the unified hierarchy, in which applications are told who the client is.
    pub fn open(
        netns: &Netns,
        doors: &[Door],
        cgroup: Option<&File>,
    ) -> Result<(Inbound, Vec<OwnedFd>, Notes)> {
        let claims = doors.iter().map(|door| claim(&door.to_string())).collect::<Result<Vec<_>>>()?;
        let cookie = snorkel_netns::cookie_here().unwrap_or(0);
        let mut steering = Steering::load()?;
        let v4 = listener((Ipv4Addr::LOCALHOST, 0).into())
            .map_err(|e| Error::os("listen on the loopback of the target (is it up?)", e))?;
        let v6 = match listener((Ipv6Addr::LOCALHOST, 0).into()) {
            Ok(v6) => Some(v6),
            // Without IPv6 nobody comes over it.
            Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => None,
            Err(e) => return Err(Error::os("listen on the IPv6 loopback of the target", e)),
        };
        for door in doors {
            steering.open_door(door.transport, door.port, &v4, v6.as_ref())?;
        }
        let mut listening = Listening::default();
        listening.refresh(doors, &mut steering)?;
        let anonymous = name_clients(&mut steering, Transport::Tcp, cgroup, cookie);
        let silent = listening.missing(doors).into_iter().map(ToString::to_string).collect();
        // Last: from here on connections come.
        steering.attach(netns)?;
        let inbound = Inbound {
            steering: Some(steering),
            doors: doors.to_vec(),
            listening,
            sources: Sources::here(),
            cookie,
            _claims: claims,
        };
        Ok((
            inbound,
            [Some(v4), v6].into_iter().flatten().collect(),
            Notes { silent, anonymous, ..Notes::default() },
        ))
    }

    fn refresh(&mut self) {
        let Some(steering) = &mut self.steering else { return };
        if let Err(error) = self.listening.refresh(&self.doors, steering) {
            tracing::debug!("who listens is not known: {}", snorkel_netns::chain(&error));
        }
    }
}

/// A socket that listens there; port 0 is an ephemeral one.
pub(super) fn listener(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    bind(&socket, &address)?;
    // The sockets that it gives are copies of it: what an end says small it means to be there soon, and what is idle long
    // may be dead (tcp(7), socket(7)).
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

impl Gate for Inbound {
    fn connect(&mut self, meant: &Ends) -> io::Result<(OwnedFd, SocketAddr)> {
        let door = Door { transport: Transport::Tcp, port: meant.server.port() };
        if !self.doors.contains(&door) {
            // Somebody found the listener itself.
            return Err(Errno::CONNREFUSED.into());
        }
        // Connections that ended a moment ago can make a source unusable for this very peer.
        for _ in 0..16 {
            let (socket, own) = self.sources.bound(meant, SocketType::STREAM)?;
            if let Some(steering) = &mut self.steering {
                let noted = steering.add_own(Transport::Tcp, own, meant.client, self.cookie);
                noted.map_err(|error| io::Error::other(snorkel_netns::chain(&error)))?;
            }
            match connect(&socket, &meant.server) {
                Ok(()) | Err(Errno::INPROGRESS) => return Ok((socket, own)),
                Err(error) => {
                    self.ended(own);
                    if error != Errno::ADDRNOTAVAIL {
                        return Err(error.into());
                    }
                }
            }
        }
        Err(Errno::ADDRNOTAVAIL.into())
    }

    fn ended(&mut self, own: SocketAddr) {
        if let Some(steering) = &mut self.steering {
            steering.remove_own(Transport::Tcp, own);
        }
        self.sources.give_back(own);
    }

    fn refused(&mut self, _server: SocketAddr) {
        self.refresh();
    }

    fn set_open(&mut self, open: bool) {
        let Some(steering) = &mut self.steering else { return };
        for door in &self.doors {
            if let Err(error) = steering.set_open(door.transport, door.port, open) {
                tracing::warn!("{}", snorkel_netns::chain(&error));
            }
        }
    }

    fn close(&mut self) {
        self.steering = None;
    }

    fn look(&mut self) -> Option<Duration> {
        self.refresh();
        let all = self.listening.are_all(&self.doors);
        self.steering.is_some().then(|| LOOK[usize::from(!all)])
    }
}

/// Has the application told who its clients are; why it cannot be, if it cannot.
pub(super) fn name_clients(
    steering: &mut Steering,
    transport: Transport,
    cgroup: Option<&File>,
    cookie: u64,
) -> Option<String> {
    match cgroup.map(|cgroup| steering.name_clients(transport, cgroup)) {
        Some(Ok(())) if cookie != 0 => None,
        Some(Ok(())) => Some("the kernel has no cookies of network namespaces (before 5.14)".to_owned()),
        Some(Err(error)) => Some(snorkel_netns::chain(&error)),
        None => Some("no unified cgroup hierarchy is mounted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_gives_sends_at_once_and_is_kept_alive() {
        let listener = listener((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let at = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        let _client = std::net::TcpStream::connect(at).unwrap();
        let accepted = rustix::net::accept(&listener).unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
    }
}
