//! A capture that runs beside a test, traffic that the test can count, and a look into files without snorkel's own reader.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use snorkel_lab::Scoped;
use snorkel_netns::{Pid, Process};

use crate::common::{Ran, snorkel};

/// Far more than anything here takes on the slowest machine: what waits longer will wait for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running `snorkel capture`. It is killed when the test ends before it does.
pub(crate) struct Capture {
    child: Child,
    lines: [Receiver<String>; 2],
    /// What it has said so far: on stdout, on stderr.
    said: [String; 2],
}

impl Capture {
    /// Starts it with these words and returns when it captures.
    #[track_caller]
    pub(crate) fn start(words: &[&str]) -> Capture {
        Capture::run(snorkel([&["capture"], words].concat()))
    }

    /// The same with a command that is ready but for stderr, and stdout if that is nothing special.
    #[track_caller]
    pub(crate) fn run(mut command: Command) -> Capture {
        command.stdout(Stdio::piped());
        Capture::into(command)
    }

    /// The same with a command whose stdout leads somewhere.
    #[track_caller]
    pub(crate) fn into(command: Command) -> Capture {
        let mut capture = Capture::begin(command);
        capture.wait_for_word("snorkel: capturing on");
        capture
    }

    /// The same for one that does not speak on its own stderr: it may capture by now or not.
    #[track_caller]
    pub(crate) fn unheard(mut command: Command) -> Capture {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Capture::begin(command)
    }

    #[track_caller]
    fn begin(mut command: Command) -> Capture {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = [
            lines(child.stdout.take().map(|from| Box::new(from) as Box<dyn Read + Send>)),
            lines(child.stderr.take().map(|from| Box::new(from) as Box<dyn Read + Send>)),
        ];
        Capture { child, lines, said: [String::new(), String::new()] }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of stderr has this in it; gives the line.
    #[track_caller]
    pub(crate) fn wait_for_word(&mut self, word: &str) -> String {
        self.wait(1, word)
    }

    /// Waits until a line of stdout has this in it; gives the line.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, word: &str) -> String {
        self.wait(0, word)
    }

    #[track_caller]
    fn wait(&mut self, stream: usize, word: &str) -> String {
        loop {
            let Ok(line) = self.lines[stream].recv_timeout(PATIENCE) else {
                let other = self.lines[1 - stream].try_iter().collect::<Vec<_>>().concat();
                panic!("{word:?} was not said, but {:?} and {other:?}", self.said);
            };
            self.said[stream].push_str(&line);
            if line.contains(word) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: signals a child of this test that has not been reaped.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// To the process group that it leads.
    pub(crate) fn signal_group(&self, signal: i32) {
        // SAFETY: signals the group of a child of this test that has not been reaped.
        unsafe { libc::kill(-self.child.id().cast_signed(), signal) };
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    pub(crate) fn stop(self) -> Ran {
        self.signal(libc::SIGINT);
        self.finish()
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        let [mut stdout, mut stderr] = std::mem::take(&mut self.said);
        for (all, lines) in [&mut stdout, &mut stderr].into_iter().zip(&self.lines) {
            loop {
                match lines.recv_timeout(PATIENCE) {
                    Ok(line) => all.push_str(&line),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {all}"),
                }
            }
        }
        let status = self.child.wait().unwrap();
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ran { stdout, stderr, status }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: Option<Box<dyn Read + Send>>) -> Receiver<String> {
    let (to, lines) = channel();
    if let Some(from) = from {
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
    }
    lines
}

/// Does something in a node's network.
#[track_caller]
pub(crate) fn inside<T: Send>(lab: &Scoped, node: &str, work: impl FnOnce() -> T + Send) -> T {
    inside_of(lab.node(node).unwrap().pid.unwrap(), work)
}

/// Does something in the network of a process.
#[track_caller]
pub(crate) fn inside_of<T: Send>(pid: Pid, work: impl FnOnce() -> T + Send) -> T {
    Process::open(pid).unwrap().netns().unwrap().run(work).unwrap()
}

/// A node's IPv4 address.
#[track_caller]
pub(crate) fn address(lab: &Scoped, node: &str) -> IpAddr {
    *lab.node(node).unwrap().addresses.iter().find(|address| address.is_ipv4()).unwrap()
}

/// One datagram to db's echo server and back: afterwards `from` knows the way, and no packet waits for ARP's answer.
#[track_caller]
pub(crate) fn echo(lab: &Scoped, from: &str) {
    let db = SocketAddr::new(address(lab, "db"), 7);
    inside(lab, from, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"are you there?", db).unwrap();
        socket.recv(&mut [0; 64]).unwrap();
    });
}

/// UDP packets to db, each with its number in the first four bytes. On the sender's own link they can be counted
/// when this returns: it has no queue.
#[track_caller]
pub(crate) fn send(lab: &Scoped, from: &str, port: u16, numbers: Range<u32>, size: usize) {
    echo(lab, from);
    let db = SocketAddr::new(address(lab, "db"), port);
    inside(lab, from, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut data = vec![0x5a; size.max(4)];
        for number in numbers {
            data[..4].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&data, db).unwrap();
        }
    });
}

/// Fetches `/` from web with a request that is known to the byte.
#[track_caller]
pub(crate) fn fetch(lab: &Scoped) {
    let web = SocketAddr::new(address(lab, "web"), 80);
    let answer = inside(lab, "client", || {
        let mut stream = TcpStream::connect(web).unwrap();
        stream.write_all(b"GET /of-the-test HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}

/// The numbers that packets from [`send`] carry, in the file's order, as tshark reads them.
#[track_caller]
pub(crate) fn numbers(file: &Path) -> Vec<u32> {
    let payloads = tshark(file, &["-Y", "udp.dstport == 9", "-T", "fields", "-e", "udp.payload"]);
    payloads.lines().map(|line| u32::from_str_radix(&line.replace(':', "")[..8], 16).unwrap()).collect()
}

/// Runs tshark on a file; it must have nothing to complain of.
#[track_caller]
pub(crate) fn tshark(file: &Path, words: &[&str]) -> String {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).arg("-n").args(words);
    content(&mut command)
}

/// Runs capinfos on a file; it must have nothing to complain of.
#[track_caller]
pub(crate) fn capinfos(file: &Path) -> String {
    content(Command::new("capinfos").arg("-M").arg(file))
}

#[track_caller]
fn content(command: &mut Command) -> String {
    let ran = Ran::from(command.env("LC_ALL", "C.UTF-8").output().unwrap());
    // That it is run by root it always says.
    let complaints: Vec<&str> =
        ran.stderr.lines().filter(|line| !line.contains("as user \"root\"") && !line.is_empty()).collect();
    assert!(ran.status == 0 && complaints.is_empty(), "{command:?}: {ran:?}");
    ran.stdout
}

/// A block of a pcapng file: its type, its body.
pub(crate) type Block<'a> = (u32, &'a [u8]);

/// An interface description block (pcapng, 4.2).
pub(crate) const INTERFACE: u32 = 1;
/// A name resolution block (4.4).
pub(crate) const NAMES: u32 = 4;
/// An interface statistics block (4.5).
pub(crate) const STATISTICS: u32 = 5;
/// An enhanced packet block (4.3).
pub(crate) const PACKET: u32 = 6;

/// The whole blocks of a pcapng file, and how many bytes stand behind the last of them.
#[track_caller]
pub(crate) fn blocks(bytes: &[u8]) -> (Vec<Block<'_>>, usize) {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().unwrap()));
    let mut blocks = Vec::new();
    let mut at = 0;
    while let (Some(kind), Some(length)) = (word(at), word(at + 4)) {
        let length = length as usize;
        assert!(length >= 12 && length.is_multiple_of(4), "a block of {length} bytes at {at}");
        let Some(trailer) = word(at + length - 4) else { break };
        assert_eq!(trailer as usize, length, "both lengths of the block at {at}");
        blocks.push((kind, &bytes[at + 8..at + length - 4]));
        at += length;
    }
    (blocks, bytes.len() - at)
}

/// The value of an option of a block whose options begin there (pcapng, 3.5).
pub(crate) fn option(body: &[u8], mut at: usize, code: u16) -> Option<&[u8]> {
    loop {
        let half = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
        let (found, length) = (half(at)?, half(at + 2)? as usize);
        if found == code {
            return body.get(at + 4..at + 4 + length);
        }
        if found == 0 {
            return None;
        }
        at += 4 + length.next_multiple_of(4);
    }
}

/// A number of an interface statistics block: 4 received, 5 dropped, 6 accepted by the filter, 8 delivered.
pub(crate) fn statistic(body: &[u8], code: u16) -> Option<u64> {
    Some(u64::from_le_bytes(option(body, 12, code)?.try_into().unwrap()))
}

/// The last statistics block of each interface.
#[track_caller]
pub(crate) fn statistics(file: &Path) -> std::collections::BTreeMap<u32, Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let (blocks, rest) = blocks(&bytes);
    assert_eq!(rest, 0, "the file ends in the middle of a block");
    let told = blocks.iter().filter(|(kind, _)| *kind == STATISTICS);
    told.map(|(_, body)| (u32::from_le_bytes(body[..4].try_into().unwrap()), body.to_vec())).collect()
}

/// The row of a link in the table at the end: matched, lost, captured.
#[track_caller]
pub(crate) fn row(ran: &Ran, link: &str) -> [u64; 3] {
    let line = ran.stderr.lines().find(|line| line.split_whitespace().next() == Some(link));
    let line = line.unwrap_or_else(|| panic!("{link} is not in the table of {ran:?}"));
    let number = |place| line.split_whitespace().nth(place).unwrap().replace(',', "").parse().unwrap();
    [number(2), number(3), number(4)]
}

/// What a link has counted itself while it was captured; `None` if that was not known.
#[track_caller]
pub(crate) fn seen(ran: &Ran, link: &str) -> Option<u64> {
    let line = ran.stderr.lines().find(|line| line.split_whitespace().next() == Some(link));
    let line = line.unwrap_or_else(|| panic!("{link} is not in the table of {ran:?}"));
    line.split_whitespace().nth(1).unwrap().replace(',', "").parse().ok()
}
