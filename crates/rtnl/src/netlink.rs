//! A netlink socket of any protocol: send a request, receive what answers it (netlink(7)).
//!
//! It never takes an answer for what it is not: only the kernel's datagrams count (port 0), only the number of the
//! request that is under way, only whole datagrams, only consistent lists.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::exchange::{Answer, Dump, Outcome, Progress, answer};
use crate::parse::Refusal;
use crate::wire::{Request, Verdict, datagram};
use crate::{Error, Result};

/// The kernel's datagrams are at most 32 KiB (net/netlink/af_netlink.c), unless one object alone is larger.
const BUFFER: usize = 64 * 1024;
/// `NETLINK_ROUTE` is protocol 0, which rustix writes as none.
pub(crate) const ROUTE: Option<Protocol> = None;
/// How often a list is read that changes meanwhile, before it is given up.
const TRIES: usize = 16;
/// The kernel answers while it takes the request, so an answer that is not there soon will not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A netlink socket. It belongs to the namespace that it was made in, wherever it is used.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What came out of the socket.
enum Received {
    /// This many bytes of the buffer.
    Datagram(usize),
    /// A datagram that was larger than the buffer, which has grown. It is gone.
    Truncated,
}

impl Netlink {
    /// Opens a socket of this protocol in the calling thread's namespace.
    pub(crate) fn open(what: &str, protocol: Option<Protocol>) -> Result<Netlink> {
        Netlink::over(what, netlink_socket(what, protocol)?)
    }

    /// Takes over a netlink socket, bound or not, on which no answer is under way.
    pub(crate) fn adopt(what: &str, fd: OwnedFd) -> Result<Netlink> {
        let own = rustix::net::getsockname(&fd).map_err(|e| Error::os(what, e))?;
        if !SocketAddrNetlink::try_from(own).is_ok_and(|own| own.pid() != 0) {
            bind(what, &fd)?;
        }
        Netlink::over(what, fd)
    }

    fn over(what: &str, fd: OwnedFd) -> Result<Netlink> {
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).map_err(|e| Error::os(what, e))?;
        let netlink = Netlink { fd, sequence: 0, buffer: vec![0; BUFFER] };
        netlink.set_option(libc::NETLINK_EXT_ACK, "NETLINK_EXT_ACK");
        netlink.set_option(libc::NETLINK_CAP_ACK, "NETLINK_CAP_ACK");
        Ok(netlink)
    }

    /// Gives the descriptor away.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Turns an option on; false if this kernel does not have it.
    pub(crate) fn set_option(&self, option: libc::c_int, name: &str) -> bool {
        match try_set_option(&self.fd, option) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(name, %error, "not in this kernel");
                false
            }
        }
    }

    /// Asks for a list of messages of the `expected` kind, and has each payload parsed.
    pub(crate) fn dump<T>(
        &mut self,
        what: &str,
        request: &Request,
        expected: u16,
        mut parse: impl FnMut(&[u8]) -> Result<Option<T>, Refusal>,
    ) -> Result<Vec<T>> {
        for _ in 0..TRIES {
            match self.dump_once(what, request, expected, &mut parse)? {
                Outcome::Complete(items) => return Ok(items),
                Outcome::Interrupted => tracing::debug!(what, "it changed meanwhile: read again"),
                Outcome::Failed(verdict) => return Err(refused(what, verdict)),
                Outcome::Refused(Refusal::Malformed(why)) => {
                    return Err(Error::Malformed { what: what.into(), why });
                }
                Outcome::Refused(Refusal::WrongNamespace) => {
                    return Err(Error::Unsupported { what: what.into() });
                }
            }
        }
        Err(Error::Unsettled { what: what.into(), tries: TRIES })
    }

    fn dump_once<T>(
        &mut self,
        what: &str,
        request: &Request,
        expected: u16,
        parse: impl FnMut(&[u8]) -> Result<Option<T>, Refusal>,
    ) -> Result<Outcome<T>> {
        let sequence = self.send(what, &[request])?;
        let mut dump = Dump::new(sequence, expected, parse);
        loop {
            let Received::Datagram(length) = self.receive(what)? else {
                self.drain(what)?;
                return Ok(Outcome::Interrupted);
            };
            match dump.feed(&self.buffer[..length]) {
                Progress::More => (),
                Progress::Ended(verdict) => return Ok(dump.outcome(Some(verdict))),
                Progress::Lost => {
                    self.drain(what)?;
                    return Ok(dump.outcome(None));
                }
            }
        }
    }

    /// Asks for one message of the `expected` kind, and has its payload parsed.
    pub(crate) fn ask<T>(
        &mut self,
        what: &str,
        request: &Request,
        expected: u16,
        parse: impl Fn(&[u8]) -> Result<T, Refusal>,
    ) -> Result<T> {
        for _ in 0..TRIES {
            let sequence = self.send(what, &[request])?;
            while let Received::Datagram(length) = self.receive(what)? {
                let why = match answer(&self.buffer[..length], sequence, Some(expected)) {
                    Ok(None) => continue,
                    Ok(Some(Answer::Is(payload))) => match parse(payload) {
                        Ok(item) => return Ok(item),
                        Err(Refusal::Malformed(why)) => why,
                        Err(Refusal::WrongNamespace) => return Err(Error::Unsupported { what: what.into() }),
                    },
                    Ok(Some(Answer::Ended(verdict))) if verdict.errno != 0 => {
                        return Err(refused(what, verdict));
                    }
                    Ok(Some(Answer::Ended(_))) => "it says yes to a question",
                    Err(malformed) => malformed.0,
                };
                return Err(Error::Malformed { what: what.into(), why });
            }
        }
        Err(Error::Unsettled { what: what.into(), tries: TRIES })
    }

    /// Has something changed, and waits for the kernel to say that it was.
    pub(crate) fn change(&mut self, what: &str, request: &Request) -> Result<()> {
        self.change_all(what, &[request])
    }

    /// Sends several requests as one, of which one asks for an acknowledgement, and waits for the kernel's verdict.
    ///
    /// All go under the same number, so that a refusal counts whichever of them it names.
    pub(crate) fn change_all(&mut self, what: &str, requests: &[&Request]) -> Result<()> {
        let sequence = self.send(what, requests)?;
        loop {
            let Received::Datagram(length) = self.receive(what)? else {
                return Err(Error::Malformed { what: what.into(), why: "it is too long" });
            };
            match answer(&self.buffer[..length], sequence, None) {
                Ok(None | Some(Answer::Is(_))) => (),
                Ok(Some(Answer::Ended(verdict))) if verdict.errno != 0 => return Err(refused(what, verdict)),
                Ok(Some(Answer::Ended(verdict))) => {
                    if let Some(note) = verdict.note {
                        tracing::debug!(what, note, "the kernel did it, and has something to say");
                    }
                    return Ok(());
                }
                Err(malformed) => return Err(Error::Malformed { what: what.into(), why: malformed.0 }),
            }
        }
    }

    /// Sends a request that has no answer unless it is refused; what the kernel says then comes with what is received.
    pub(crate) fn tell(&mut self, what: &str, request: &Request) -> Result<()> {
        self.send(what, &[request]).map(drop)
    }

    /// A datagram of the kernel if one is there.
    pub(crate) fn receive_now(&mut self, what: &str) -> Result<Option<&[u8]>> {
        loop {
            match self.receive_with(RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Ok(Received::Datagram(length)) => return Ok(Some(&self.buffer[..length])),
                // It is gone.
                Ok(Received::Truncated) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(Error::os(what, e)),
            }
        }
    }

    /// Sends requests in one datagram, under a new number.
    fn send(&mut self, what: &str, requests: &[&Request]) -> Result<u32> {
        // 0 is for what the kernel tells unasked.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let bytes = datagram(requests, self.sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::io::retry_on_intr(|| rustix::net::sendto(&self.fd, &bytes, SendFlags::empty(), &kernel))
            .map_err(|e| Error::os(what, e))?;
        Ok(self.sequence)
    }

    /// Receives a datagram of the kernel.
    fn receive(&mut self, what: &str) -> Result<Received> {
        match self.receive_with(RecvFlags::TRUNC) {
            Ok(received) => Ok(received),
            Err(Errno::AGAIN) => Err(Error::Os {
                what: what.into(),
                note: Some("the kernel does not answer".into()),
                source: io::Error::from_raw_os_error(libc::ETIMEDOUT),
            }),
            Err(e) => Err(Error::os(what, e)),
        }
    }

    fn receive_with(&mut self, flags: RecvFlags) -> Result<Received, Errno> {
        loop {
            let (_, length, sender) =
                rustix::io::retry_on_intr(|| rustix::net::recvfrom(&self.fd, &mut self.buffer[..], flags))?;
            // Any process may send to the port of a netlink socket; only the kernel has port 0.
            if !sender.is_some_and(|sender| is_kernel(&sender)) {
                continue;
            }
            if length > self.buffer.len() {
                self.buffer.resize(length.next_multiple_of(BUFFER), 0);
                return Ok(Received::Truncated);
            }
            return Ok(Received::Datagram(length));
        }
    }

    /// Throws away what is left of a dump, so that the socket is free for another.
    ///
    /// The kernel goes on with a dump while it is being read, so once nothing is there, nothing will come.
    fn drain(&mut self, what: &str) -> Result<()> {
        loop {
            match self.receive_with(RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Ok(_) => (),
                Err(Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(Error::os(what, e)),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether a datagram came from the kernel.
fn is_kernel(sender: &rustix::net::SocketAddrAny) -> bool {
    SocketAddrNetlink::try_from(sender.clone()).is_ok_and(|sender| sender.pid() == 0)
}

/// What the kernel said no to.
fn refused(what: &str, verdict: Verdict) -> Error {
    Error::Os { what: what.into(), note: verdict.note, source: io::Error::from_raw_os_error(verdict.errno) }
}

/// A socket that is bound to a port of its own.
pub(crate) fn netlink_socket(what: &str, protocol: Option<Protocol>) -> Result<OwnedFd> {
    let fd =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(|e| Error::os(what, e))?;
    bind(what, &fd)?;
    Ok(fd)
}

/// Gives a socket a port of its own, of the kernel's choice.
fn bind(what: &str, fd: &OwnedFd) -> Result<()> {
    rustix::net::bind(fd, &SocketAddrNetlink::new(0, 0)).map_err(|e| Error::os(what, e))
}

/// Turns an option of netlink sockets on.
pub(crate) fn try_set_option(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    write_option(fd, option, 1)
}

/// Gives an option of netlink sockets a value.
pub(crate) fn write_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes of `value` as it has; the socket is open.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            crate::parse::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
impl Netlink {
    /// The datagrams that answer a dump, as they are.
    pub(crate) fn datagrams(&mut self, request: &Request) -> Vec<Vec<u8>> {
        let sequence = self.send("look at a dump", &[request]).unwrap();
        let mut dump = Dump::<(), _>::new(sequence, 0, |_| Ok(None));
        let mut datagrams = Vec::new();
        loop {
            let Received::Datagram(length) = self.receive("look at a dump").unwrap() else {
                panic!("a datagram does not fit the buffer");
            };
            datagrams.push(self.buffer[..length].to_vec());
            if dump.feed(&self.buffer[..length]) != Progress::More {
                return datagrams;
            }
        }
    }

    /// The port that the kernel sends to.
    pub(crate) fn port(&self) -> u32 {
        SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd).unwrap()).unwrap().pid()
    }

    /// Makes the buffer too small.
    pub(crate) fn shrink(&mut self, size: usize) {
        self.buffer.truncate(size);
    }

    /// Turns the kernel's strict checking off.
    pub(crate) fn be_lax(&mut self) {
        write_option(&self.fd, libc::NETLINK_GET_STRICT_CHK, 0).unwrap();
    }
}
