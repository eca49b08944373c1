//! One tap a port, or a peer: whoever comes second is told who was first.
//!
//! The claim is an abstract unix socket in the network namespace that is tapped (unix(7), network_namespaces(7)). It goes
//! with its process, is nowhere in the file system, and names its holder to everybody who connects (SO_PEERCRED).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use snorkel_netns::{Peer, Pid};

use crate::{Error, Result};

/// Takes it, `80/tcp`, for this process, in the calling thread's network namespace, as long as the descriptor is open.
pub(super) fn claim(what: &str) -> Result<OwnedFd> {
    let failed = |e: Errno| Error::os(format!("claim {what} for this tap"), e);
    let name = format!("snorkel-tap/{what}");
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(failed)?;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let claim = socket().map_err(failed)?;
    match bind(&claim, &address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            let holder = socket()
                .and_then(|socket| connect(&socket, &address).map(|()| socket))
                .ok()
                .and_then(|socket| Peer::of(&socket).ok()?.pid);
            let holder = holder.map_or_else(|| "that cannot be named".to_owned(), describe);
            return Err(Error::Taken { port: what.to_owned(), holder });
        }
        Err(error) => return Err(failed(error)),
    }
    listen(&claim, 8).map_err(failed)?;
    Ok(claim)
}

/// `4711 (snorkel tap web:80)`.
fn describe(pid: Pid) -> String {
    let words: io::Result<String> = std::fs::read(format!("/proc/{pid}/cmdline")).map(|words| {
        let words = words.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
    });
    match words {
        Ok(words) if !words.is_empty() => format!("{pid} ({words})"),
        _ => pid.to_string(),
    }
}
