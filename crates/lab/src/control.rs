//! The holder's socket: an abstract name in the network namespace where the lab was called up.
//!
//! The name is claimed before anything is made, and listened on when everything is there: in between, a second `up`
//! is refused by bind(2), and nobody who asks for the list has to wait. Each client has a thread and a time-out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::members::Members;
use crate::os;
use crate::server::{Slots, spawn};
use crate::wire::{MAX_REQUEST, Refusal, Request, SOCKET_PREFIX};
use crate::{Error, Result};

/// A client that says nothing for so long is hung up on.
const SILENCE: Duration = Duration::from_secs(10);
/// So many clients at a time; further ones are hung up on.
const MAX_CLIENTS: usize = 64;

/// Claims the lab's name; nobody can connect yet.
pub(crate) fn claim(name: &str) -> Result<OwnedFd> {
    let what = || format!("claim the socket @{SOCKET_PREFIX}{name}");
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| Error::os(what(), e))?;
    let address = SocketAddrUnix::new_abstract_name(format!("{SOCKET_PREFIX}{name}").as_bytes())
        .map_err(|e| Error::os(what(), e))?;
    match rustix::net::bind(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(rustix::io::Errno::ADDRINUSE) => Err(Error::AlreadyUp(name.to_owned())),
        Err(e) => Err(Error::os(what(), e)),
    }
}

/// Answers from now on, on threads of its own.
pub(crate) fn serve(socket: OwnedFd, members: Arc<Members>) -> Result<()> {
    rustix::net::listen(&socket, 128).map_err(|e| Error::os("listen on the lab's socket", e))?;
    let listener = UnixListener::from(socket);
    let slots = Slots::new(MAX_CLIENTS);
    spawn("control", move || {
        loop {
            let (Ok((client, _)), Some(slot)) = (listener.accept(), slots.take()) else { continue };
            let members = Arc::clone(&members);
            // Without a thread the client is hung up on.
            let _ = spawn("client", move || {
                let _slot = slot;
                // What goes wrong with one client concerns this one only.
                let _ = attend(client, &members);
            });
        }
    })
}

/// Answers one client until it has finished.
fn attend(mut client: UnixStream, members: &Members) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    client.set_write_timeout(Some(SILENCE))?;
    let asker = rustix::net::sockopt::socket_peercred(&client)?.uid;
    let own = rustix::process::geteuid();
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(MAX_REQUEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // Only now that the question was read: closing with it unread would reset the connection (unix(7)), and the
        // asker would get ECONNRESET or EPIPE in the place of this answer.
        if !asker.is_root() && asker != own {
            return say(&mut client, &Refusal { error: "this lab belongs to another user".to_owned() });
        }
        match serde_json::from_slice(&line) {
            Ok(Request::List) => say(&mut client, &members.list())?,
            Ok(Request::Down) => {
                let down = members.take_down();
                // The lab is gone whether or not the one who wanted that still listens.
                let _ = say(&mut client, &down);
                os::exit_now(0);
            }
            Err(e) => {
                return say(&mut client, &Refusal { error: format!("this is no request: {e}") });
            }
        }
    }
}

/// Writes a value as one line.
fn say(client: &mut UnixStream, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    client.write_all(&line)
}
