//! The veth pair that a wire is made of.
//!
//! The public end lies where packets are taken, the private end in a namespace that only this process holds, so that both go
//! when it does. Neither speaks by itself: no ARP, no IPv6, no address. Both take packets of any size, and the public end has no
//! offloads: what is sent into it is segmented and check-summed first. It joins what it receives (GRO) only where nothing gets
//! lost by that ([`Pair::join_segments`]).

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;

use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, Socket};

use super::{Error, Result};

/// The largest that a veth takes (`ETH_MAX_MTU` of linux/if_ether.h).
const MTU: u32 = 65535;
/// How many names are tried that are somebody else's already.
const TRIES: usize = 8;

/// A veth pair; it is removed with the value.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) public: IfIndex,
    pub(super) private: IfIndex,
    /// In the private namespace, from which the pair is removed.
    pub(super) inside: Socket,
}

impl Pair {
    /// Makes a pair whose ends are up.
    pub(super) fn make(public_netns: &Netns, private_netns: &Netns) -> Result<Pair> {
        let mut outside = Socket::open_in(public_netns)?;
        let inside = Socket::open_in(private_netns)?;
        let (name, public) = add(&mut outside, private_netns)?;
        let mut pair = Pair { name, public, private: public, inside };
        pair.private = match pair.inside.index_of(&pair.name)? {
            Some(private) => private,
            None => return Err(pair.differs("its private end is gone")),
        };
        for (socket, netns, link) in
            [(&mut outside, public_netns, pair.public), (&mut pair.inside, private_netns, pair.private)]
        {
            socket.set_mtu(link, MTU)?;
            socket.set_no_arp(link)?;
            match socket.set_no_own_address(link) {
                Err(error) if !error.is_unsupported() => return Err(error.into()),
                _ => (),
            }
            let name = pair.name.clone();
            netns.run(move || turn_ipv6_off(&name))??;
        }
        let left = outside.turn_offloads_off(pair.public)?;
        let left: Vec<String> = left.into_iter().filter(|name| matters(name)).collect();
        if !left.is_empty() {
            return Err(Error::Offloads { link: pair.name.clone(), left });
        }
        pair.inside.set_up(pair.private)?;
        outside.set_up(pair.public)?;
        Ok(pair)
    }

    /// Has the public end join the TCP segments that it receives (GRO), as the scheduler's sender does with what it lets go: the
    /// way back costs as much for many as for one, and they are cut into the same packets where they have to be. Tells whether
    /// it does. The private end has to have a queue, and loses its offloads: a veth joins nothing that its peer could have sent
    /// in one piece (`veth_skb_is_eligible_for_gro` of drivers/net/veth.c).
    ///
    /// What is received so goes through a ring of 256, and where the kernel drops what has no room there nothing is joined.
    pub(super) fn join_segments(&mut self, public_netns: &Netns) -> Result<bool> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        if !waits_for_its_ring(&release) {
            return Ok(false);
        }
        self.inside.turn_offloads_off(self.private)?;
        Ok(Socket::open_in(public_netns)?.turn_receive_offload_on(self.public)?)
    }

    pub(super) fn differs(&self, why: impl Into<String>) -> Error {
        Error::NotAsMade { link: self.name.clone(), why: why.into() }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Both ends go with one. If the public namespace is gone so are they.
        let removed = self
            .inside
            .index_of(&self.name)
            .and_then(|found| found.map_or(Ok(()), |link| self.inside.remove(link)));
        if let Err(error) = removed
            && !error.is_missing()
        {
            tracing::warn!("{}", snorkel_netns::chain(&error));
        }
    }
}

/// Adds a pair under a name that nobody has, the same for both ends.
fn add(outside: &mut Socket, private_netns: &Netns) -> Result<(String, IfIndex)> {
    let mut tries = 0;
    loop {
        // Its keys are the operating system's random numbers.
        let name = format!("wire-{:08x}", RandomState::new().hash_one(tries) as u32);
        match outside.add_veth(&name, &name, Some(private_netns)) {
            Ok(public) => return Ok((name, public)),
            Err(error) if error.already_exists() && tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a feature makes the kernel leave to the link what a wire must see done.
fn matters(feature: &str) -> bool {
    ["segmentation", "tx-checksum", "tx-scatter-gather", "tx-gso", "tx-vlan"]
        .iter()
        .any(|part| feature.contains(part))
}

/// Whether a kernel is known to leave what has no room in a veth's ring in the queue before it. Older ones drop it, and tell
/// nobody; the first that did not could forget the queue for good (commits dc82a33297fc of 6.16 and 5442a9da6978 of 6.18,
/// `veth_xmit` of drivers/net/veth.c; both are in 6.12.61). Of others' versions nothing is known.
fn waits_for_its_ring(release: &str) -> bool {
    let mut numbers =
        release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    match (next(), next(), next()) {
        (Some(6), Some(12), patch) => patch >= Some(61),
        (Some(major), Some(minor), _) => (major, minor) >= (6, 18),
        _ => false,
    }
}

/// Turns IPv6 off on a link of the calling thread's namespace. Where /proc/sys cannot be written, the link gives itself no
/// address all the same ([`Socket::set_no_own_address`]).
fn turn_ipv6_off(link: &str) -> Result<()> {
    let path: PathBuf = ["/proc/sys/net/ipv6/conf", link, "disable_ipv6"].iter().collect();
    match fs::write(&path, "1") {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
            tracing::debug!(link, %error, "IPv6 is not turned off");
            Ok(())
        }
        Err(error) => Err(Error::os(format!("turn IPv6 of the wire {link} off"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_wait_for_the_ring_since_the_last_mend_of_it() {
        for release in ["6.12.61", "6.12.117+deb13-cloud-amd64", "6.18.0-rc7", "6.18", "7.0.1"] {
            assert!(waits_for_its_ring(release), "{release}");
        }
        for release in
            ["6.1.0-50-cloud-amd64", "6.12.60", "6.12-generic", "6.17.13", "5.19.0", "6", "", "next"]
        {
            assert!(!waits_for_its_ring(release), "{release}");
        }
    }
}
