//! The gate of a tap on UDP ports of a network namespace.
//!
//! It is that of TCP ports, with three differences. Each datagram is looked up, not only the first, unless the
//! application has a socket that is connected to the client: that one's datagrams never come here. Nobody accepts
//! anything, so a process that receives is told the client's address for the tap's, and where it answers to it, its answer
//! is for the tap. And the answer reaches the client from the port that the application is bound to.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketType, connect};
use snorkel_bpf::tap::{Steering, Transport};
use snorkel_netns::Netns;

use super::claim::claim;
use super::inbound::{Door, LOOK, Notes, name_clients};
use super::listening::Listening;
use super::sources::Sources;
use crate::datagram::socket::{Sender, receiver};
use crate::event::Ends;
use crate::{Error, Result};

/// The gate.
#[derive(Debug)]
pub struct Datagrams {
    steering: Option<Steering>,
    doors: Vec<Door>,
    listening: Listening,
    sources: Sources,
    sender: Sender,
    cookie: u64,
    _claims: Vec<OwnedFd>,
}

impl Datagrams {
    /// Opens the doors in `netns`, which must be the calling thread's. The sockets are the relay's to receive from.
    ///
    /// `cgroup`: a folder of the unified hierarchy, in which applications are told who the client is.
    pub fn open(
        netns: &Netns,
        doors: &[Door],
        cgroup: Option<&File>,
    ) -> Result<(Datagrams, Vec<OwnedFd>, Notes)> {
        let claims = doors.iter().map(|door| claim(&door.to_string())).collect::<Result<Vec<_>>>()?;
        let cookie = snorkel_netns::cookie_here().unwrap_or(0);
        let mut steering = Steering::load()?;
        let v4 = receiver(Ipv4Addr::LOCALHOST.into())
            .map_err(|e| Error::os("receive on the loopback of the target (is it up?)", e))?;
        let v6 = match receiver(IpAddr::from(Ipv6Addr::LOCALHOST)) {
            Ok(v6) => Some(v6),
            // Without IPv6 nobody comes over it.
            Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => None,
            Err(e) => return Err(Error::os("receive on the IPv6 loopback of the target", e)),
        };
        let sender = Sender::here().map_err(|e| Error::os("open a raw socket to answer clients", e))?;
        for door in doors {
            steering.open_door(door.transport, door.port, &v4, v6.as_ref())?;
        }
        let mut listening = Listening::default();
        listening.refresh(doors, &mut steering)?;
        let anonymous = name_clients(&mut steering, Transport::Udp, cgroup, cookie);
        let silent = listening.missing(doors).into_iter().map(ToString::to_string).collect();
        // Last: from here on datagrams come.
        steering.attach(netns)?;
        let sources = Sources::here();
        let (steering, doors) = (Some(steering), doors.to_vec());
        let gate = Datagrams { steering, doors, listening, sources, sender, cookie, _claims: claims };
        let notes = Notes { silent, anonymous, ..Notes::default() };
        Ok((gate, [Some(v4), v6].into_iter().flatten().collect(), notes))
    }

    /// A socket to what the client meant, and its own address, which the program leaves alone.
    pub(crate) fn reach(&mut self, meant: &Ends) -> io::Result<(OwnedFd, SocketAddr)> {
        let (socket, own) = self.sources.bound(meant, SocketType::DGRAM)?;
        if let Some(steering) = &mut self.steering {
            let noted = steering
                .add_own(Transport::Udp, own, meant.client, self.cookie)
                .and_then(|()| steering.add_answer(own, meant.client, meant.server.port(), self.cookie));
            if let Err(error) = noted {
                self.ended(meant, own);
                return Err(io::Error::other(snorkel_netns::chain(&error)));
            }
        }
        if let Err(error) = connect(&socket, &meant.server) {
            self.ended(meant, own);
            return Err(error.into());
        }
        Ok((socket, own))
    }

    /// A flow whose own address was this is over.
    pub(crate) fn ended(&mut self, ends: &Ends, own: SocketAddr) {
        if let Some(steering) = &mut self.steering {
            steering.remove_own(Transport::Udp, own);
            steering.remove_answer(ends.client, ends.server.port(), self.cookie);
        }
        self.sources.give_back(own);
    }

    /// Sends the client what the application answered.
    pub(crate) fn answer(&self, ends: &Ends, payload: &[u8]) -> rustix::io::Result<()> {
        self.sender.answer(ends, payload)
    }

    /// Looks who receives; when to do that again.
    pub(crate) fn look(&mut self) -> Option<Duration> {
        let steering = self.steering.as_mut()?;
        if let Err(error) = self.listening.refresh(&self.doors, steering) {
            tracing::debug!("who receives is not known: {}", snorkel_netns::chain(&error));
        }
        Some(LOOK[usize::from(!self.listening.are_all(&self.doors))])
    }

    /// From now on no new datagram comes.
    pub(crate) fn close(&mut self) {
        self.steering = None;
    }
}
