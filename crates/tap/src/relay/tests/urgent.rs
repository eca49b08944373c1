//! TCP's urgent byte, and what stands around it.

use super::*;

#[test]
fn an_urgent_byte_stays_urgent_and_in_its_place() {
    for options in both_ways() {
        let is_told = options.bytes;
        let relay = Running::start(options);
        let (client, mut server) = relay.connect();
        send(&client, b"before", SendFlags::empty()).unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        let mut before = [0; 6];
        server.read_exact(&mut before).unwrap();
        assert_eq!(&before, b"before");
        // It comes on a way of its own: waited for by poll(2), not by time.
        let mut waits = [rustix::event::PollFd::new(&server, rustix::event::PollFlags::PRI)];
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut waits, Some(&patience)).unwrap(), 1);
        let mut byte = [0];
        recv(&server, &mut byte, RecvFlags::OOB).unwrap();
        assert_eq!(&byte, b"!");
        send(&client, b"after", SendFlags::empty()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut server), b"after");
        drop((client, server));
        let mut told = Vec::new();
        loop {
            match relay.event().what {
                What::Bytes { offset, bytes, .. } => told.push((offset, false, bytes)),
                What::Urgent { offset, byte, .. } => told.push((offset, true, vec![byte])),
                What::Finished { direction: Direction::ToServer, offset } => assert_eq!(offset, 12),
                What::Ended(summary) => break assert_eq!(summary.bytes[0], 12),
                _ => {}
            }
        }
        let all = [(0, false, b"before".to_vec()), (6, true, b"!".to_vec()), (7, false, b"after".to_vec())];
        assert_eq!(told, all[..if is_told { 3 } else { 0 }]);
        relay.stop();
    }
}

#[test]
fn what_comes_behind_an_urgent_byte_comes_with_the_end_too() {
    static HALF: [u8; 150_000] = [b'x'; 150_000];
    let decode = Options { decode: Some(decode::Options::default()), ..Options::default() };
    for options in both_ways().into_iter().chain([decode]) {
        let relay = Running::start(options);
        // Whether the byte is known before the end is reached is a matter of luck.
        for _ in 0..50 {
            let (mut client, mut server) = relay.connect();
            rustix::net::sockopt::set_socket_oobinline(&server, true).unwrap();
            let all = std::thread::scope(|scope| {
                scope.spawn(|| {
                    client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 300000\r\n\r\n").unwrap();
                    client.write_all(&HALF).unwrap();
                    send(&client, b"!", SendFlags::OOB).unwrap();
                    client.write_all(&HALF).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                });
                read_all(&mut server)
            });
            assert_eq!(all.len(), 43 + 1 + 2 * HALF.len());
            assert_eq!(all.iter().position(|byte| *byte == b'!'), Some(43 + HALF.len()));
        }
        relay.stop();
    }
}

#[test]
fn an_urgent_byte_behind_bytes_that_are_held_back_is_told_where_it_is_passed_on() {
    let spoil = Spoil { latency: Duration::from_millis(200), ..Spoil::default() };
    let relay = Running::start(Options { bytes: true, spoil, ..Options::default() });
    let (mut client, server) = relay.connect();
    rustix::net::sockopt::set_socket_oobinline(&client, true).unwrap();
    send(&server, b"before", SendFlags::empty()).unwrap();
    send(&server, b"!", SendFlags::OOB).unwrap();
    send(&server, b"after", SendFlags::empty()).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let got = read_all(&mut client);
    assert_eq!(got.len(), 12, "{}", String::from_utf8_lossy(&got));
    drop((client, server));
    let mut told = vec![0; 12];
    loop {
        match relay.event().what {
            What::Bytes { offset, bytes, .. } => {
                told[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            What::Urgent { offset, byte, .. } => told[offset as usize] = byte,
            What::Ended(_) => break,
            _ => {}
        }
    }
    assert_eq!(String::from_utf8(told), String::from_utf8(got));
    relay.stop();
}
