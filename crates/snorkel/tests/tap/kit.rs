//! A tap that runs beside a test, and servers that run in a lab's nodes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use snorkel_lab::Scoped;
use snorkel_netns::{Netns, Process};

use crate::common::{LONGEST, Ran, run, snorkel, target};

/// A running `snorkel tap`. It is killed when the test ends before it does.
pub(crate) struct Tap {
    child: Child,
    lines: [Receiver<String>; 2],
    said: [String; 2],
}

impl Tap {
    /// Starts it with these words and returns when it taps.
    #[track_caller]
    pub(crate) fn start(words: &[&str]) -> Tap {
        Tap::run(snorkel([&["tap"], words].concat()))
    }

    /// The same with so many file descriptors at most.
    #[track_caller]
    pub(crate) fn start_limited(descriptors: usize, words: &[&str]) -> Tap {
        let limited = format!("ulimit -n {descriptors}; exec \"$0\" tap \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited, crate::common::SNORKEL]).args(words);
        Tap::run(command)
    }

    /// The same with a command that comes to be one.
    #[track_caller]
    pub(crate) fn run(mut command: Command) -> Tap {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = [
            lines(child.stdout.take().map(|from| Box::new(from) as Box<dyn Read + Send>)),
            lines(child.stderr.take().map(|from| Box::new(from) as Box<dyn Read + Send>)),
        ];
        let mut tap = Tap { child, lines, said: [String::new(), String::new()] };
        tap.wait(1, "snorkel: tapping");
        tap
    }

    /// Waits until a line of stdout (0) or stderr (1) has this in it; gives the line.
    #[track_caller]
    pub(crate) fn wait(&mut self, stream: usize, word: &str) -> String {
        loop {
            let Ok(line) = self.lines[stream].recv_timeout(LONGEST) else {
                panic!("{word:?} was not said, but {:?}", self.said);
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

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
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
            while let Ok(line) = lines.recv_timeout(LONGEST) {
                all.push_str(&line);
            }
        }
        let status = self.child.wait().unwrap();
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ran { stdout, stderr, status }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a stream, with their ends, as they come.
fn lines(from: Option<Box<dyn Read + Send>>) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from.unwrap());
        loop {
            let mut line = Vec::new();
            match from.read_until(b'\n', &mut line) {
                Ok(read) if read > 0 => {
                    if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    lines
}

/// A server in a node's network; killed at the end.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it, and returns when it listens on that port.
    #[track_caller]
    pub(crate) fn start(lab: &Scoped, node: &str, port: u16, command: &[&str]) -> Server {
        let at = target(lab, node);
        let mut words = vec!["exec", &at, "--"];
        words.extend(command);
        let child = snorkel(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Server(child.unwrap());
        let begun = Instant::now();
        loop {
            let ran = run(["exec", &at, "--", "ss", "-Htln", &format!("sport = :{port}")]);
            if !ran.stdout.is_empty() {
                return server;
            }
            assert!(begun.elapsed() < LONGEST, "{command:?} does not listen on {port}: {ran:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Postgres and its like have children, which end when they are told to.
        // SAFETY: signals a child of this test that has not been reaped.
        unsafe { libc::kill(self.0.id().cast_signed(), libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

/// A connection from a node to a port of another one, which is open when this returns.
#[track_caller]
pub(crate) fn connect(lab: &Scoped, from: &str, to: &str) -> TcpStream {
    let stream = netns(lab, from).run(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    stream
}

/// A node's network namespace.
#[track_caller]
pub(crate) fn netns(lab: &Scoped, node: &str) -> Netns {
    Process::open(lab.node(node).unwrap().pid.unwrap()).unwrap().netns().unwrap()
}

/// Asks the lab's web server on an open connection; gives the answer.
#[track_caller]
pub(crate) fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") || !String::from_utf8_lossy(&answer).contains("hello") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

/// Runs a command in a node, which must end well; gives what it printed.
#[track_caller]
pub(crate) fn inside(lab: &Scoped, node: &str, command: &[&str]) -> String {
    let ran = attempt(lab, node, command);
    assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
    ran.stdout
}

/// The same, however it ends.
#[track_caller]
pub(crate) fn attempt(lab: &Scoped, node: &str, command: &[&str]) -> Ran {
    let at = target(lab, node);
    let mut words = vec!["exec", &at, "--"];
    words.extend(command);
    run(words)
}

/// Whether a command is there; a test that needs it says so.
#[track_caller]
pub(crate) fn needs(command: &str) {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {command}")]).stdout(Stdio::null()).status();
    assert!(found.unwrap().success(), "{command} is needed: scripts/install-test-deps");
}

/// Fails unless these come in a text in this order.
#[track_caller]
pub(crate) fn in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        match rest.find(word) {
            Some(at) => rest = &rest[at + word.len()..],
            None => panic!("{word:?} is not there, or not in its place, in\n{text}"),
        }
    }
}
