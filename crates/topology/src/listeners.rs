//! Sockets that wait in a namespace, read from `/proc/net/{tcp,tcp6,udp,udp6}` as its own thread sees them (proc_pid_net(5)).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use snorkel_netns::{Netns, Pid, Result};

use crate::{Listener, processes};

/// `TCP_LISTEN` of net/tcp_states.h, as /proc/net/tcp prints it.
const TCP_LISTEN: &str = "0A";
/// `TCP_CLOSE`, the state of a UDP socket that is connected to nobody.
const UNCONNECTED: &str = "07";

/// A listener and the inode of its socket, by which its process is found.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// The waiting sockets of a namespace, each with a process that holds it, where `pids` lets that be read.
pub(crate) fn of(netns: &Netns, pids: &[Pid]) -> Result<Vec<Listener>> {
    let tables = netns.run(|| {
        [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")]
            .map(|(file, protocol)| (protocol, fs::read_to_string(format!("/proc/thread-self/net/{file}"))))
    })?;
    let holders = holders(pids);
    let v6_only = v6_only(netns);
    let mut found = Vec::new();
    for (protocol, table) in tables {
        let state = if protocol == "tcp" { TCP_LISTEN } else { UNCONNECTED };
        // Without IPv6 there is no table for it.
        for row in table.unwrap_or_default().lines().filter_map(|line| parse(line, state)) {
            let pid = holders.get(&row.inode).copied();
            found.push(Listener {
                protocol: protocol.to_owned(),
                address: row.address,
                port: row.port,
                v6_only: v6_only.contains(&row.inode),
                pid,
                command: pid.and_then(processes::command_of),
            });
        }
    }
    found.dedup();
    Ok(found)
}

/// The inodes of the sockets that take no IPv4, which the tables do not tell; none where the kernel cannot be asked.
fn v6_only(netns: &Netns) -> HashSet<u64> {
    /// Protocol numbers of IANA's.
    const TCP_AND_UDP: [u8; 2] = [6, 17];
    let asked = netns.run(|| TCP_AND_UDP.map(snorkel_rtnl::v6_only_sockets));
    let unknown = |e: &dyn std::error::Error| {
        tracing::info!("which sockets of {} take IPv4 as well is not known: {e}", netns.inode());
    };
    let answers = asked.inspect_err(|e| unknown(e)).into_iter().flatten();
    answers.flat_map(|answer| answer.inspect_err(|e| unknown(e)).unwrap_or_default()).collect()
}

/// One line of the table, if it is in this state: `sl local remote st … inode`.
fn parse(line: &str, wanted: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != wanted {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Row {
        address: hex_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Words of 32 bits, each as the machine stores it (net/ipv4/tcp_ipv4.c prints `%08X` of a `__be32`).
fn hex_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0u8; 16];
            for (place, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(place * 8)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// The first process that holds each socket, by the socket's inode.
fn holders(pids: &[Pid]) -> HashMap<u64, Pid> {
    let mut found = HashMap::new();
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let inode = fs::read_link(descriptor.path()).ok().and_then(|target| {
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            });
            if let Some(inode) = inode {
                found.entry(inode).or_insert(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_listening_socket_is_seen_with_its_process() {
        let (netns, socket) = {
            let netns = Netns::private().expect("needs root: a network namespace is made");
            let socket = netns.run(|| std::net::TcpListener::bind("0.0.0.0:8080").unwrap()).unwrap();
            (netns, socket)
        };
        let found = of(&netns, &[Pid::own()]).unwrap();
        let expected = Listener {
            protocol: "tcp".into(),
            address: "0.0.0.0".parse().unwrap(),
            port: 8080,
            v6_only: false,
            pid: Some(Pid::own()),
            command: processes::command_of(Pid::own()),
        };
        assert_eq!(found, [expected]);
        drop(socket);
    }

    #[test]
    fn ipv6_addresses_are_four_words_in_the_machines_order() {
        assert_eq!(hex_address("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
        assert_eq!(hex_address("0100007F"), Some("127.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(line: String) {
            parse(&line, TCP_LISTEN);
            hex_address(&line);
        }
    }
}
