//! Sockets that wait in a namespace, read from `/proc/PID/net/{tcp,tcp6,udp,udp6}` as a thread of snorkel's there sees
//! them, or a process that is there (proc_pid_net(5)).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use snorkel_netns::{Netns, Pid, Process, Result};

use crate::Listener;
use crate::processes::{self, Inhabited};

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

/// The waiting sockets of a namespace, in which `pids` are, each with a process that holds it where that is known.
pub(crate) fn of(netns: &Netns, pids: &[Pid], holders: &HashMap<u64, Pid>) -> Result<Vec<Listener>> {
    let tables = TABLES.map(|(file, protocol)| (protocol, format!("net/{file}")));
    let tables = netns.run(|| tables.clone().map(|(protocol, file)| (protocol, text("thread-self", &file))));
    let tables = match tables {
        // Whoever may not go there can still look over the shoulder of one who is there.
        Err(e) if e.is_permission() => through_a_process(netns, pids).ok_or(e)?,
        tables => tables?,
    };
    let v6_only = v6_only(netns);
    let mut found = Vec::new();
    for (protocol, table) in tables {
        let state = if protocol == "tcp" { TCP_LISTEN } else { UNCONNECTED };
        // Without IPv6 there is no table for it.
        for row in table.lines().filter_map(|line| parse(line, state)) {
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

/// The tables, with the protocol that each is of.
const TABLES: [(&str, &str); 4] = [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")];

/// A file of a process's folder; empty without IPv6 for the tables that are of it.
fn text(process: &str, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default()
}

/// The tables as one of these processes has them, if it is certain that it is in the namespace.
fn through_a_process(netns: &Netns, pids: &[Pid]) -> Option<[(&'static str, String); 4]> {
    pids.iter().find_map(|pid| {
        let process = Process::open(*pid).ok()?;
        let tables =
            TABLES.map(|(file, protocol)| (protocol, text(&pid.to_string(), &format!("net/{file}"))));
        // Proved afterwards that it was this process all the time, and there.
        let there = process.netns().ok()?.inode() == netns.inode();
        there.then_some(tables)
    })
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

/// The first process that holds each socket, by the socket's inode. It need not be in the namespace of the socket: what
/// forwards a port of the host into a rootless container is in the container's.
pub(crate) fn holders(inhabited: &Inhabited) -> HashMap<u64, Pid> {
    let mut found = HashMap::new();
    let mut pids: Vec<&Pid> = inhabited.namespaces.values().flatten().collect();
    pids.sort_unstable();
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
        // The process that holds it is in another namespace.
        let inhabited = Inhabited { namespaces: [(1, vec![Pid::own()])].into(), denied: 0 };
        let found = of(&netns, &[], &holders(&inhabited)).unwrap();
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
    fn the_tables_of_a_process_are_those_of_its_namespace() {
        let own = Netns::current().unwrap();
        let tables = through_a_process(&own, &[Pid::own()]).unwrap();
        assert!(tables[0].1.contains("local_address"), "{tables:?}");
        let other = Netns::private().expect("needs root: a network namespace is made");
        assert_eq!(through_a_process(&other, &[Pid::own()]), None);
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
