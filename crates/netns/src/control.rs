//! The socket of a process that holds something for others to find: an abstract name (unix(7)) in the network namespace
//! where it was started, one line asked, one line answered.
//!
//! The name is claimed before anything is made, and listened on when everything is there: in between, a second claim is
//! refused by bind(2), and nobody who looks for names has to wait. Both ends look at whom they talk to: neither trusts
//! anybody but root and its own user. The name goes with what holds it, or with the process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::{Peer, unix};

/// A client that says nothing for so long is hung up on.
const SILENCE: Duration = Duration::from_secs(10);
/// So many clients at a time; further ones are hung up on.
const MAX_CLIENTS: usize = 64;
/// No request is longer.
const MAX_REQUEST: u64 = 4096;
/// Threads that answer have little to remember.
const STACK: usize = 256 << 10;

/// Claims a name; nobody can connect yet. `None` if somebody has it.
pub fn claim(name: &str) -> io::Result<Option<OwnedFd>> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    match rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?) {
        Ok(()) => Ok(Some(socket)),
        Err(rustix::io::Errno::ADDRINUSE) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What a client is told.
pub struct Answer {
    /// One line, without its end.
    pub line: Vec<u8>,
    /// Whether it may ask again.
    pub go_on: bool,
    /// What is done once it was told, whether or not it still listens.
    pub then: Option<Box<dyn FnOnce()>>,
}

impl Answer {
    /// An answer, after which the client may ask again.
    pub fn line(line: Vec<u8>) -> Answer {
        Answer { line, go_on: true, then: None }
    }

    /// An answer, after which the client is hung up on.
    pub fn last(line: Vec<u8>) -> Answer {
        Answer { line, go_on: false, then: None }
    }
}

/// A name on which questions are answered, as long as the value is there; it is free a moment later.
#[derive(Debug)]
#[must_use = "nothing is answered once it is dropped"]
pub struct Serving(OwnedFd);

impl Drop for Serving {
    fn drop(&mut self) {
        // Whoever waits for clients wakes up, and closes the other copy. It cannot fail on a socket that listens.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// Answers on a claimed name from now on, each client on a thread of its own; one that gets `None` is hung up on. Whoever is
/// neither root nor this process's user gets `refusal` for whatever is asked.
pub fn serve(
    socket: OwnedFd,
    refusal: Vec<u8>,
    answer: impl Fn(&[u8]) -> Option<Answer> + Send + Sync + 'static,
) -> io::Result<Serving> {
    rustix::net::listen(&socket, 128)?;
    let serving = Serving(socket.try_clone()?);
    let listener = UnixListener::from(socket);
    let answer = Arc::new(answer);
    // As many copies as there are clients, and this one.
    let clients = Arc::new(());
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    thread("control").spawn(move || {
        loop {
            let client = match listener.accept() {
                Ok((client, _)) => client,
                // The name was given up.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => return,
                Err(_) => continue,
            };
            if Arc::strong_count(&clients) > MAX_CLIENTS {
                continue;
            }
            let (answer, refusal, client_here) = (Arc::clone(&answer), refusal.clone(), Arc::clone(&clients));
            // Without a thread the client is hung up on.
            let _ = thread("client").spawn(move || {
                let _here = client_here;
                // What goes wrong with one client concerns this one only.
                let _ = attend(client, &refusal, answer.as_ref());
            });
        }
    })?;
    Ok(serving)
}

/// Answers one client until it has finished.
fn attend(
    mut client: UnixStream,
    refusal: &[u8],
    answer: &dyn Fn(&[u8]) -> Option<Answer>,
) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    client.set_write_timeout(Some(SILENCE))?;
    let asker = Peer::of(&client)?;
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(MAX_REQUEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // Only now that the question was read: closing with it unread would reset the connection (unix(7)), and the
        // asker would get ECONNRESET or EPIPE in the place of this answer.
        if !asker.is_trusted() {
            return say(&mut client, refusal);
        }
        let Some(Answer { line, go_on, then }) = answer(&line) else { return Ok(()) };
        let said = say(&mut client, &line);
        if let Some(then) = then {
            then();
        }
        said?;
        if !go_on {
            return Ok(());
        }
    }
}

fn say(client: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    client.write_all(&[line, b"\n"].concat())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens on that name, or no more: whoever did has ended while it was asked.
    #[error("nobody listens")]
    Nobody,
    /// Somebody does whose word is not to be trusted: neither root nor the user who asks.
    #[error("user {0} listens, who is neither root nor the one who asks")]
    Stranger(u32),
    /// A system call failed, the answer took too long, or there was none.
    #[error(transparent)]
    Os(#[from] io::Error),
}

/// Asks whoever listens on a name, and only if it can be trusted. Gives the one line of the answer, which is not longer
/// than `most` bytes. Whoever hangs up without an answer is asked again: it has ended, or has too many clients.
pub fn ask(name: &str, request: &[u8], patience: Duration, most: u64) -> Result<Vec<u8>, NoAnswer> {
    const PAUSE: Duration = Duration::from_millis(5);
    let end = Instant::now() + patience;
    loop {
        match ask_once(name, request, patience, most) {
            Err(NoAnswer::Os(e)) if hung_up(&e) && Instant::now() < end => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn ask_once(name: &str, request: &[u8], patience: Duration, most: u64) -> Result<Vec<u8>, NoAnswer> {
    let address = SocketAddr::from_abstract_name(name)?;
    let mut stream = UnixStream::connect_addr(&address).map_err(|e| match e.raw_os_error() {
        Some(libc::ECONNREFUSED) => NoAnswer::Nobody,
        _ => NoAnswer::Os(e),
    })?;
    let holder = Peer::of(&stream)?;
    if !holder.is_trusted() {
        return Err(NoAnswer::Stranger(holder.uid));
    }
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&[request, b"\n"].concat())?;
    BufReader::new(&stream).take(most).read_until(b'\n', &mut answer)?;
    if answer.is_empty() { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(answer) }
}

/// The names behind a prefix on which somebody listens in the network namespace of the calling thread, in order.
pub fn names(prefix: &str) -> io::Result<Vec<String>> {
    Ok(names_in(&std::fs::read("/proc/thread-self/net/unix")?, prefix))
}

fn names_in(table: &[u8], prefix: &str) -> Vec<String> {
    let name = |socket: Vec<u8>| Some(String::from_utf8(socket).ok()?.strip_prefix(prefix)?.to_owned());
    let mut names: Vec<String> = unix::listening(table).into_iter().filter_map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn names_are_found_among_the_sockets_that_listen() {
        let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01  1234 @snorkel-lab/lab
0000000000000000: 00000003 00000000 00000000 0001 03  1235 @snorkel-lab/lab
0000000000000000: 00000002 00000000 00000000 0001 01  1236 @snorkel-lab/on-its-way
0000000000000000: 00000002 00000000 00010000 0001 01  1237 @snorkel-fault/f3k
";
        assert_eq!(names_in(table.as_bytes(), "snorkel-lab/"), ["lab"]);
    }

    #[test]
    fn a_claimed_name_is_nobodys_else_and_answers_when_it_is_served() {
        let name = format!("snorkel-test-of-control/{}", std::process::id());
        let socket = claim(&name).unwrap().unwrap();
        assert!(claim(&name).unwrap().is_none());
        assert!(matches!(ask(&name, b"x", SOON, 100), Err(NoAnswer::Nobody)), "nobody listens yet");
        let answer = |line: &[u8]| {
            let line = line.trim_ascii();
            (line != b"anybody?").then(|| Answer::line([b"you said ", line].concat()))
        };
        let serving = serve(socket, b"no".to_vec(), answer).unwrap();
        assert_eq!(ask(&name, b"hello", SOON, 100).unwrap(), b"you said hello\n");
        let hung_up_on = ask(&name, b"anybody?", Duration::from_millis(50), 100);
        assert!(matches!(hung_up_on, Err(NoAnswer::Os(_))), "it lives: {hung_up_on:?}");
        let mut open = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        say(&mut open, b"who was here before").unwrap();
        let mut answers = BufReader::new(open.try_clone().unwrap()).lines();
        assert_eq!(answers.next().unwrap().unwrap(), "you said who was here before");
        drop(serving);
        assert!(matches!(ask(&name, b"hello", SOON, 100), Err(NoAnswer::Nobody)), "it is given up");
        say(&mut open, b"is answered").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), "you said is answered");
        // The thread that waited for clients has the other copy.
        let deadline = Instant::now() + SOON;
        while claim(&name).unwrap().is_none() {
            assert!(Instant::now() < deadline, "the name was never given up");
            std::thread::yield_now();
        }
    }
}
