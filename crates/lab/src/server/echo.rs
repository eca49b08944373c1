//! What comes in goes out again (RFC 862): TCP and UDP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};

/// Sends back what the peer sends until the peer has finished.
pub(crate) fn tcp(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Sends back every datagram, for ever.
///
/// One that seems to come from an echo port itself is dropped: two servers would send it to and fro without end.
pub(crate) fn udp(socket: &UdpSocket) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // A failed receive or send (an ICMP error that came back, say) concerns one peer only.
        if let Ok((count, peer)) = socket.recv_from(&mut buffer)
            && peer.port() != 7
        {
            let _ = socket.send_to(buffer.get(..count).unwrap_or_default(), peer);
        }
    }
}
