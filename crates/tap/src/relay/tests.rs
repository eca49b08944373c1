//! A relay between sockets of the loopback, without steering.

mod urgent;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use rustix::io::Errno;

use super::*;
use crate::decode::Kind;
use crate::event::{Direction, Ends, Event, Summary, Told, What, Word};
use crate::spoil::{After, Instead, Rule};

const PATIENCE: Duration = Duration::from_secs(60);

/// Leads everything to one address.
struct Plain(SocketAddr);

impl Gate for Plain {
    fn connect(&mut self, _: &Ends) -> io::Result<(OwnedFd, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.0) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok((socket, self.0)),
            Err(error) => Err(error.into()),
        }
    }
    fn ended(&mut self, _: SocketAddr) {}
    fn refused(&mut self, _: SocketAddr) {}
    fn set_open(&mut self, _: bool) {}
    fn look(&mut self) -> Option<Duration> {
        None
    }
    fn close(&mut self) {}
}

/// A running relay in front of a listener.
struct Running {
    at: SocketAddr,
    application: TcpListener,
    control: UnixStream,
    words: Receiver<Word>,
    thread: JoinHandle<io::Result<Report>>,
}

impl Running {
    fn start(options: Options) -> Running {
        let application = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = application.local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        front.set_nonblocking(true).unwrap();
        let at = front.local_addr().unwrap();
        let (control, its) = UnixStream::pair().unwrap();
        its.set_nonblocking(true).unwrap();
        let (told, words) = channel();
        let teller = Teller::new(move |word| match told.send(word) {
            Ok(()) => Told::Yes,
            Err(_) => Told::NoRoom,
        });
        let relay = Relay::new(Plain(to), vec![front.into()], its.into(), teller, options).unwrap();
        let thread = std::thread::spawn(move || relay.run());
        Running { at, application, control, words, thread }
    }

    /// A connection from end to end: the client's socket and the application's.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.at).unwrap();
        let (server, _) = self.application.accept().unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        (client, server)
    }

    fn event(&self) -> Event {
        loop {
            match self.words.recv_timeout(PATIENCE).unwrap() {
                Word::Event(event) => return event,
                Word::Warning(text) => panic!("{text}"),
                Word::Note(_) => {}
            }
        }
    }

    fn ended(&self) -> Summary {
        loop {
            if let What::Ended(summary) = self.event().what {
                return summary;
            }
        }
    }

    fn stop(self) -> Report {
        (&self.control).write_all(b"s").unwrap();
        self.thread.join().unwrap().unwrap()
    }
}

/// Both ways that bytes can take.
fn both_ways() -> [Options; 2] {
    [Options::default(), Options { bytes: true, ..Options::default() }]
}

fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn a_half_closed_connection_goes_on_the_other_way() {
    for options in both_ways() {
        let relay = Running::start(options);
        let (mut client, mut server) = relay.connect();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut server), b"question");
        server.write_all(b"the answer").unwrap();
        drop(server);
        assert_eq!(read_all(&mut client), b"the answer");
        drop(client);
        let summary = relay.ended();
        assert_eq!((summary.bytes, &summary.end), ([8, 10], &End::Closed));
        assert!(summary.first_byte.unwrap() <= summary.lasted);
        assert_eq!(relay.stop(), Report { connections: 1, cut: 0, untold: 0 });
    }
}

#[test]
fn much_data_arrives_as_it_was_sent_both_ways_at_once() {
    for options in both_ways() {
        let relay = Running::start(options);
        let (client, server) = relay.connect();
        let pattern = |seed: u8| -> Vec<u8> {
            (0..6_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
        };
        std::thread::scope(|scope| {
            for (socket, seed) in [(&client, 1), (&server, 2)] {
                let mut writer = socket.try_clone().unwrap();
                scope.spawn(move || {
                    writer.write_all(&pattern(seed)).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
            }
            for (socket, seed) in [(&client, 2), (&server, 1)] {
                let mut reader = socket.try_clone().unwrap();
                scope.spawn(move || assert!(read_all(&mut reader) == pattern(seed)));
            }
        });
        assert_eq!(relay.ended().bytes, [6_000_000; 2]);
        relay.stop();
    }
}

#[test]
fn a_long_body_that_nobody_looks_at_arrives_as_it_was_sent_and_is_counted() {
    const LENGTH: usize = 5 << 20;
    let relay = Running::start(Options { decode: Some(decode::Options::default()), ..Options::default() });
    let (mut client, mut server) = relay.connect();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
    let body: Vec<u8> = (0..LENGTH).map(|at| (at / 7) as u8).collect();
    client.write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(2)).unwrap();
    server.read_exact(&mut [0; 36]).unwrap();
    // One behind the other, so that the end of the first body is found among bytes that are there already.
    let answers = [head.as_bytes(), &body].concat().repeat(2);
    let mut came = vec![0; answers.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| server.write_all(&answers).unwrap());
        client.read_exact(&mut came).unwrap();
    });
    assert!(came == answers);
    for _ in 0..2 {
        let exchange = loop {
            if let What::Said(said) = relay.event().what
                && said.kind == Kind::Exchange
            {
                break said;
            }
        };
        assert_eq!(exchange.fields["response_body"], decode::Value::Number(LENGTH as u64));
    }
    drop((client, server));
    assert_eq!(relay.ended().bytes[1], answers.len() as u64);
    relay.stop();
}

#[test]
fn a_reset_of_one_side_is_a_reset_for_the_other() {
    for options in both_ways() {
        let relay = Running::start(options);
        for by in Direction::BOTH {
            let (client, server) = relay.connect();
            let (resets, mut sees) = match by {
                Direction::ToServer => (client, server),
                Direction::ToClient => (server, client),
            };
            half::reset_on_close(&resets).unwrap();
            drop(resets);
            let error = sees.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(relay.ended().end, End::Reset { by });
        }
        relay.stop();
    }
}

#[test]
fn who_is_refused_is_reset_at_once_and_told_why() {
    let relay = Running::start(Options::default());
    let Running { at, application, control, words, thread } = relay;
    drop(application);
    let mut client = TcpStream::connect(at).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let Word::Event(event) = words.recv_timeout(PATIENCE).unwrap() else { panic!() };
    assert!(matches!(event.what, What::Ended(Summary { end: End::Refused { .. }, .. })), "{event:?}");
    drop(control);
    thread.join().unwrap().unwrap();
}

#[test]
fn pipes_are_not_kept_for_connections_that_wait() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 65536\r\n\r\n";
    let body = [b'x'; 65536];
    let decode = Options { decode: Some(decode::Options::default()), ..Options::default() };
    for options in both_ways().into_iter().chain([decode]) {
        let relay = Running::start(options);
        let before = pipes();
        let open: Vec<_> = (0..64)
            .map(|_| {
                let (mut client, mut server) = relay.connect();
                client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
                server.read_exact(&mut [0; 18]).unwrap();
                // The head first, so that the body goes by itself.
                server.write_all(head).unwrap();
                client.read_exact(&mut vec![0; head.len()]).unwrap();
                server.write_all(&body).unwrap();
                client.read_exact(&mut [0; 65536]).unwrap();
                (client, server)
            })
            .collect();
        // The last one may still be at it.
        assert!(pipes() <= before + 2 * 2, "{} pipes", (pipes() - before) / 2);
        drop(open);
        relay.stop();
    }
}

/// How many descriptors this process has that are pipes.
fn pipes() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"pipe:"))
    })
    .count()
}

#[test]
fn who_does_not_read_slows_down_who_writes() {
    for options in both_ways() {
        let relay = Running::start(options);
        let (client, mut server) = relay.connect();
        client.set_nonblocking(true).unwrap();
        let chunk = [7u8; 64 << 10];
        let mut sent = 0u64;
        // Until nothing more is taken, also after those between have had the time to take more.
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            match (&client).write(&chunk) {
                Ok(written) => sent += written as u64,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut waits = [rustix::event::PollFd::new(&client, rustix::event::PollFlags::OUT)];
                    if rustix::event::poll(&mut waits, Some(&patience)).unwrap() == 0 {
                        break;
                    }
                }
                Err(e) => panic!("{e}"),
            }
            // Far more than all buffers together may be (tcp_rmem, tcp_wmem: 4 to 6 MB each, twice).
            assert!(sent < 64 << 20, "somebody keeps all of it");
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut server).len() as u64, sent);
        drop((client, server));
        relay.ended();
        relay.stop();
    }
}

#[test]
fn connections_may_finish_when_the_relay_is_told_to_end_and_no_new_one_is_taken() {
    let relay = Running::start(Options { drain: PATIENCE, ..Options::default() });
    let (mut client, mut server) = relay.connect();
    (&relay.control).write_all(b"s").unwrap();
    // It has closed its listener when a connection is refused.
    while let Ok(taken) = TcpStream::connect(relay.at) {
        half::reset_on_close(&taken).unwrap();
    }
    client.write_all(b"still").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut server), b"still");
    drop((client, server));
    assert_eq!(relay.thread.join().unwrap().unwrap().cut, 0);
}

#[test]
fn what_has_no_time_to_finish_is_cut() {
    let relay = Running::start(Options::default());
    let (mut client, _server) = relay.connect();
    assert_eq!(relay.stop().cut, 1);
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn the_client_s_address_comes_first_with_the_proxy_protocol() {
    let relay = Running::start(Options { proxy: Some(Proxy::V1), ..Options::default() });
    let (mut client, mut server) = relay.connect();
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let own = client.local_addr().unwrap();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nx", own.port(), relay.at.port());
    assert_eq!(String::from_utf8(read_all(&mut server)).unwrap(), expected);
    drop((client, server));
    assert_eq!(relay.ended().bytes, [1, 0]);
    relay.stop();
}

#[test]
fn a_matching_request_is_answered_and_never_arrives() {
    let rule = Rule { pattern: "POST /pay".into(), instead: Instead::Respond(503) };
    let spoil = Spoil { rules: vec![rule], ..Spoil::default() };
    let decode = Some(decode::Options::default());
    let relay = Running::start(Options { spoil, decode, ..Options::default() });
    let (mut client, mut server) = relay.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut passed = [0; 18];
    server.read_exact(&mut passed).unwrap();
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    let mut answer = [0; 27];
    client.read_exact(&mut answer).unwrap();
    client.write_all(b"POST /pay HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_all(&mut client)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(relay.ended().end, End::Cut { why: "answered, matching 'POST /pay'".into() });
    relay.stop();
}

#[test]
fn a_connection_is_reset_after_so_many_bytes() {
    let spoil = Spoil { reset_after: Some(After::Bytes(10)), ..Spoil::default() };
    let relay = Running::start(Options { spoil, ..Options::default() });
    let (mut client, mut server) = relay.connect();
    client.write_all(b"0123456789abcdef").unwrap();
    let mut passed = [0; 10];
    server.read_exact(&mut passed).unwrap();
    assert_eq!(&passed, b"0123456789");
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(relay.ended().bytes, [10, 0]);
    relay.stop();
}

#[test]
fn an_answer_comes_later_and_in_pieces_but_whole() {
    let latency = Duration::from_millis(300);
    let spoil = Spoil { latency, slice: true, ..Spoil::default() };
    let relay = Running::start(Options { spoil, ..Options::default() });
    let (mut client, mut server) = relay.connect();
    let begun = Instant::now();
    server.write_all(&[b'x'; 500]).unwrap();
    drop(server);
    let mut reads = 0;
    let mut all = 0;
    let mut buffer = [0; 4096];
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            read => (reads, all) = (reads + 1, all + read),
        }
    }
    assert_eq!(all, 500);
    assert!(begun.elapsed() >= latency);
    assert!(reads > 1);
    drop(client);
    relay.stop();
}

#[test]
fn garbage_breaks_the_decoder_and_not_the_connection() {
    let decode = Some(decode::Options { protocol: Some(decode::Protocol::Redis), ..Default::default() });
    let relay = Running::start(Options { decode, ..Options::default() });
    let (mut client, mut server) = relay.connect();
    client.write_all(b"*2\r\n?\r\n\0\xff and so on").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut server), b"*2\r\n?\r\n\0\xff and so on");
    drop((client, server));
    let mut raw = 0;
    loop {
        match relay.event().what {
            What::Said(said) => raw += usize::from(said.kind == Kind::Raw),
            What::Ended(summary) => break assert_eq!(summary.end, End::Closed),
            _ => {}
        }
    }
    assert_eq!(raw, 1);
    relay.stop();
}
