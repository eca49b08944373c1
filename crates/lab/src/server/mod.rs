//! The servers of a lab: plain threads over `std::net`, each connection on one of its own, all of them bounded.

pub(crate) mod dns;
pub(crate) mod echo;
pub(crate) mod http;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::{Error, Result};

/// A peer that says nothing for so long is hung up on.
const SILENCE: Duration = Duration::from_secs(60);
/// Threads that serve have little to remember.
const STACK: usize = 128 << 10;
/// At most so many connections at a time per listener; further ones are closed at once.
const MAX_CONNECTIONS: usize = 512;

/// `[::]`, which takes IPv4 too (ipv6(7), bindv6only is 0 in a fresh namespace), or `0.0.0.0` without IPv6.
pub(crate) fn everywhere(v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// A listening TCP socket.
pub(crate) fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address)
        .map_err(|e| Error::needing("CAP_NET_BIND_SERVICE", &format!("listen on {address}/tcp"), e))
}

/// A bound UDP socket.
pub(crate) fn bind_udp(address: IpAddr, port: u16) -> Result<UdpSocket> {
    let address = SocketAddr::new(address, port);
    UdpSocket::bind(address)
        .map_err(|e| Error::needing("CAP_NET_BIND_SERVICE", &format!("bind {address}/udp"), e))
}

/// Starts a thread of the program.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
        .map_err(|e| Error::os(format!("start the thread {name}"), e))
}

/// Serves each connection on a thread of its own, for ever.
pub(crate) fn serve_tcp(
    name: &'static str,
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let serve = Arc::new(serve);
    let slots = Slots::new(MAX_CONNECTIONS);
    spawn(name, move || {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                // The peer gave up before it was accepted, or the process is short of something: the next may do.
                Err(_) => continue,
            };
            let Some(slot) = slots.take() else { continue };
            let serve = Arc::clone(&serve);
            // Without a thread the stream is dropped, which closes it.
            let _ = spawn(name, move || {
                let _slot = slot;
                let timeouts = stream
                    .set_read_timeout(Some(SILENCE))
                    .and_then(|()| stream.set_write_timeout(Some(SILENCE)))
                    .and_then(|()| stream.set_nodelay(true));
                // What goes wrong with one connection ends this one only; there is nobody to tell.
                let _ = timeouts.and_then(|()| serve(stream));
            });
        }
    })
}

/// So many at a time and no more.
#[derive(Clone)]
pub(crate) struct Slots {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One of them, until it is dropped.
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub(crate) fn new(most: usize) -> Slots {
        Slots { taken: Arc::new(AtomicUsize::new(0)), most }
    }

    pub(crate) fn take(&self) -> Option<Slot> {
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        let slot = Slot(Arc::clone(&self.taken));
        // A slot too many is given back by being dropped.
        (before < self.most).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_run_out_and_come_back() {
        let slots = Slots::new(2);
        let first = slots.take();
        let second = slots.take();
        assert!(first.is_some() && second.is_some() && slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
    }
}
