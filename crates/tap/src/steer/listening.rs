//! Who listens on the tapped ports: what the kernel would find without the tap.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use snorkel_bpf::tap::{Steering, Transport, everywhere};
use snorkel_rtnl::{WaitingSocket, waiting_sockets};

use super::Door;
use crate::Result;

/// The places that the program was told of.
#[derive(Debug, Default)]
pub(super) struct Listening {
    told: HashSet<(Transport, SocketAddr)>,
}

impl Listening {
    /// Asks the kernel, in the calling thread's namespace, and tells the program what has changed.
    pub(super) fn refresh(&mut self, doors: &[Door], steering: &mut Steering) -> Result<()> {
        let mut now = HashSet::new();
        for transport in [Transport::Tcp, Transport::Udp] {
            if doors.iter().any(|door| door.transport == transport) {
                for socket in waiting_sockets(transport.number())? {
                    if doors.contains(&Door { transport, port: socket.at.port() }) {
                        now.extend(places(socket).into_iter().map(|place| (transport, place)));
                    }
                }
            }
        }
        for (transport, place) in now.difference(&self.told) {
            steering.set_listening(*transport, *place, true)?;
        }
        for (transport, place) in self.told.difference(&now) {
            steering.set_listening(*transport, *place, false)?;
        }
        self.told = now;
        Ok(())
    }

    /// Whether somebody listens on each of them.
    pub(super) fn are_all(&self, doors: &[Door]) -> bool {
        doors.iter().all(|door| {
            self.told
                .iter()
                .any(|(transport, place)| *transport == door.transport && place.port() == door.port)
        })
    }

    /// The doors on which nobody listens.
    pub(super) fn missing<'a>(&self, doors: &'a [Door]) -> Vec<&'a Door> {
        doors.iter().filter(|door| !self.are_all(std::slice::from_ref(door))).collect()
    }
}

/// Where a socket is found: one that is bound to `[::]` takes IPv4 as well, unless it says no (ipv6(7)).
fn places(socket: WaitingSocket) -> Vec<SocketAddr> {
    let port = socket.at.port();
    match socket.at.ip() {
        IpAddr::V6(address) if address.is_unspecified() && !socket.v6_only => {
            vec![everywhere(true, port), everywhere(false, port)]
        }
        address => vec![SocketAddr::new(address, port)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_all_addresses_is_found_over_both_protocols_unless_it_says_no() {
        let waiting = |at: &str, v6_only| WaitingSocket { at: at.parse().unwrap(), v6_only };
        for (socket, expected) in [
            (waiting("[::]:80", false), &["[::]:80", "0.0.0.0:80"][..]),
            (waiting("[::]:80", true), &["[::]:80"]),
            (waiting("0.0.0.0:80", false), &["0.0.0.0:80"]),
            (waiting("127.0.0.1:80", false), &["127.0.0.1:80"]),
        ] {
            let expected: Vec<SocketAddr> = expected.iter().map(|place| place.parse().unwrap()).collect();
            assert_eq!(places(socket), expected);
        }
    }
}
