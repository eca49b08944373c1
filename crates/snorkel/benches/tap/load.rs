//! What goes through an ambassador: as much of HTTP as can be measured with, from threads in two containers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use snorkel_netns::Netns;

/// How much is written or read in one call.
const PIECE: usize = 256 << 10;

/// Answers `GET /N` with N bytes, as often as it is asked on a connection; closes first where it is asked to.
pub(crate) fn serve(netns: &Netns, port: u16) {
    let listener =
        netns.run(|| TcpListener::bind(("0.0.0.0", port)).expect("the port is free")).expect("the node runs");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = std::thread::Builder::new().stack_size(128 << 10);
            // One that is gone early has been measured, or the bench fails elsewhere.
            let begun = answer.spawn(move || drop(answers(stream)));
            begun.expect("a thread can be started");
        }
    });
}

fn answers(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let zeroes = vec![b'0'; PIECE];
    loop {
        let (mut wanted, mut close) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(path) = line.strip_prefix("GET /") {
                wanted = path.split(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0);
            }
            close |= line.starts_with("Connection: close");
            if line == "\r\n" {
                break;
            }
        }
        let to = reader.get_mut();
        let mut first = format!("HTTP/1.1 200 OK\r\nContent-Length: {wanted}\r\n\r\n").into_bytes();
        let small = wanted.min(PIECE);
        first.extend_from_slice(&zeroes[..small]);
        to.write_all(&first)?;
        let mut left = wanted - small;
        while left > 0 {
            let size = left.min(PIECE);
            to.write_all(&zeroes[..size])?;
            left -= size;
        }
        if close {
            return Ok(());
        }
    }
}

/// Takes connections and holds them, silent, as long as the bench runs.
pub(crate) fn hold(netns: &Netns, port: u16) {
    let listener =
        netns.run(|| TcpListener::bind(("0.0.0.0", port)).expect("the port is free")).expect("the node runs");
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
}

/// A connection from a node.
pub(crate) fn connect(netns: &Netns, to: SocketAddr) -> TcpStream {
    let stream = netns.run(|| TcpStream::connect(to)).expect("the node runs");
    let stream = stream.unwrap_or_else(|e| panic!("cannot connect to {to}: {e}"));
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream
}

/// Asks for so many bytes and reads them; gives how many came with their head.
fn ask(stream: &mut TcpStream, size: usize, buffer: &mut [u8], more: &str) -> usize {
    stream
        .write_all(format!("GET /{size} HTTP/1.1\r\nHost: server\r\n{more}\r\n").as_bytes())
        .expect("it is open");
    let (mut read, mut whole) = (0, usize::MAX);
    while read < whole {
        let count = stream.read(buffer).expect("an answer comes");
        assert!(count > 0, "the answer ends after {read} bytes");
        if whole == usize::MAX {
            let head = buffer[..count].windows(4).position(|four| four == b"\r\n\r\n");
            whole = size + head.expect("the head comes at once") + 4;
        }
        read += count;
    }
    whole
}

/// Bytes a second that come through so many connections at once.
pub(crate) fn bulk(netns: &Netns, to: SocketAddr, connections: usize, lasting: Duration) -> f64 {
    const ANSWER: usize = 16 << 20;
    let (bytes, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let streams: Vec<TcpStream> = (0..connections).map(|_| connect(netns, to)).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for mut stream in streams {
            let (bytes, over) = (&bytes, &over);
            scope.spawn(move || {
                let mut buffer = vec![0; PIECE];
                while !over.load(Ordering::Relaxed) {
                    let whole = ask(&mut stream, ANSWER, &mut buffer, "");
                    bytes.fetch_add(whole as u64, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(lasting);
        over.store(true, Ordering::Relaxed);
    });
    bytes.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// How long small answers take on an open connection: half of them this long at most, and 99 of 100.
pub(crate) fn latency(netns: &Netns, to: SocketAddr, count: usize) -> [Duration; 2] {
    let mut stream = connect(netns, to);
    let mut buffer = vec![0; PIECE];
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            ask(&mut stream, 100, &mut buffer, "");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    [times[count / 2], times[count * 99 / 100]]
}

/// Connections a second, each for one small answer.
pub(crate) fn connections(netns: &Netns, to: SocketAddr, threads: usize, lasting: Duration) -> f64 {
    let (count, begun) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; PIECE];
                netns
                    .run(|| {
                        while begun.elapsed() < lasting {
                            let mut stream = TcpStream::connect(to).expect("it takes connections");
                            ask(&mut stream, 100, &mut buffer, "Connection: close\r\n");
                            // The other side closes first, so that this one's ports are free at once.
                            assert_eq!(stream.read(&mut buffer).expect("it ends"), 0);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                    .expect("the node runs");
            });
        }
    });
    count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
