//! One direction of a connection: bytes that were read, and wait to be written.
//!
//! There are two ways for them. In a pipe they never enter this program (splice(2)). As chunks they do, because somebody
//! looks at them, or because they are to be held back for a while. A decoder says how far it need not look, which is most
//! of the way where bodies are long. A direction never reads on while more than a little
//! waits: whoever reads slowly slows down whoever writes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

use super::pipes::{self, Pipe, Pipes};
use super::urgent;

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// More may come.
    Open,
    /// No more comes; what waits is still to be written.
    Ending,
    /// The end was passed on.
    Done,
}

/// Bytes that wait to be written.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    /// How many of them are written.
    pub(crate) written: usize,
    /// Not before this.
    pub(crate) due: Option<Instant>,
    /// They are the tap's own, and not counted.
    pub(crate) own: bool,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) course: Course,
    /// Bytes that were passed on.
    pub(crate) passed: u64,
    pipe: Option<Pipe>,
    in_pipe: usize,
    chunks: VecDeque<Chunk>,
    in_chunks: usize,
    /// An urgent byte (tcp(7), MSG_OOB) that stands behind all that waits.
    urgent: Option<u8>,
    /// The place where it stood has not been read over yet.
    marked: bool,
    /// The last read into memory took all that there was.
    emptied: bool,
    /// The next byte may be an urgent one of which the kernel has not told yet, and which a read would go over.
    unsure: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something moved: there may be more.
    Moved,
    /// The source has nothing now.
    Empty,
    /// The sink takes nothing now.
    Full,
    /// Nothing waits and nothing comes any more.
    End,
    /// What waits is to wait until then.
    Wait(Instant),
}

/// What came into the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes.
    Bytes(usize),
    /// The source has nothing now.
    Empty,
    /// Nothing comes that way. It is the end, or behind an urgent byte there is more: splice(2) gives 0 for both, since
    /// `tcp_splice_read` (net/ipv4/tcp.c) stops at the byte and finds that the end has come. A read tells them apart.
    Nothing,
}

/// Which of the two sockets an error is of.
#[derive(Debug)]
pub(crate) enum Fault {
    Source(Errno),
    Sink(Errno),
}

impl Half {
    pub(crate) fn new() -> Half {
        Half {
            course: Course::Open,
            passed: 0,
            pipe: None,
            in_pipe: 0,
            chunks: VecDeque::new(),
            in_chunks: 0,
            urgent: None,
            marked: false,
            emptied: false,
            unsure: false,
        }
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.in_pipe + self.in_chunks
    }

    /// Reads what the source has into the pipe, but no more than that many bytes.
    pub(crate) fn fill(
        &mut self,
        from: BorrowedFd<'_>,
        most: u64,
        pipes: &mut Pipes,
    ) -> Result<Filled, Fault> {
        let pipe = match &self.pipe {
            Some(pipe) => pipe,
            None => self.pipe.insert(pipes.take().map_err(Fault::Source)?),
        };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(pipes::CAPACITY);
        match splice(from, None, pipe.write(), None, most, flags) {
            Ok(read) => {
                self.in_pipe += read;
                self.unsure = true;
                Ok(if read > 0 { Filled::Bytes(read) } else { Filled::Nothing })
            }
            Err(Errno::INTR) => Ok(Filled::Bytes(0)),
            Err(Errno::AGAIN) => Ok(Filled::Empty),
            Err(error) => Err(Fault::Source(error)),
        }
    }

    /// Reads what the source has into memory; how many bytes of it.
    pub(crate) fn read(&mut self, from: BorrowedFd<'_>, into: &mut [u8]) -> Result<(Step, usize), Fault> {
        if std::mem::take(&mut self.unsure) && self.urgent.is_none() {
            self.take_urgent(from);
            if self.urgent.is_some() {
                return Ok((Step::Moved, 0));
            }
        }
        match recv(from, &mut *into, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                self.course = Course::Ending;
                Ok((Step::Moved, 0))
            }
            Ok((_, read)) => {
                self.marked = self.urgent.is_some();
                self.emptied = read < into.len() && !self.marked;
                self.unsure = read >= into.len();
                Ok((Step::Moved, read.min(into.len())))
            }
            Err(Errno::AGAIN) => Ok((Step::Empty, 0)),
            Err(Errno::INTR) => Ok((Step::Moved, 0)),
            Err(error) => Err(Fault::Source(error)),
        }
    }

    /// Lets bytes wait.
    pub(crate) fn push(&mut self, bytes: &[u8], due: Option<Instant>) {
        if !bytes.is_empty() {
            self.in_chunks += bytes.len();
            self.chunks.push_back(Chunk { bytes: bytes.to_vec(), written: 0, due, own: false });
        }
    }

    /// Lets bytes of the tap's own wait, which the source did not say.
    pub(crate) fn push_own(&mut self, bytes: Vec<u8>) {
        self.in_chunks += bytes.len();
        self.chunks.push_back(Chunk { bytes, written: 0, due: None, own: true });
    }

    /// Writes bytes at once where nothing waits before them; what the sink does not take waits.
    pub(crate) fn write_through(&mut self, to: BorrowedFd<'_>, bytes: &[u8]) -> Result<Step, Fault> {
        if self.waiting() > 0 {
            self.push(bytes, None);
            return Ok(Step::Full);
        }
        match send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => {
                self.passed += written as u64;
                self.push(&bytes[written..], None);
                Ok(if written < bytes.len() { Step::Full } else { Step::Moved })
            }
            Err(Errno::AGAIN) => {
                self.push(bytes, None);
                Ok(Step::Full)
            }
            Err(Errno::INTR) => {
                self.push(bytes, None);
                Ok(Step::Moved)
            }
            Err(error) => Err(Fault::Sink(error)),
        }
    }

    /// Writes what waits. `End` only once the end itself is passed on.
    pub(crate) fn drain(&mut self, to: BorrowedFd<'_>, pipes: &mut Pipes) -> Result<Step, Fault> {
        if self.in_pipe > 0
            && let Some(pipe) = &self.pipe
        {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            return match splice(pipe.read(), None, to, None, self.in_pipe, flags) {
                Ok(written) => {
                    self.in_pipe -= written;
                    self.passed += written as u64;
                    Ok(Step::Moved)
                }
                Err(Errno::AGAIN) => Ok(Step::Full),
                Err(Errno::INTR) => Ok(Step::Moved),
                Err(error) => Err(Fault::Sink(error)),
            };
        }
        if let Some(chunk) = self.chunks.front_mut() {
            if let Some(due) = chunk.due.filter(|due| *due > Instant::now()) {
                return Ok(Step::Wait(due));
            }
            return match send(to, &chunk.bytes[chunk.written..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => {
                    chunk.written += written;
                    self.in_chunks -= written;
                    self.passed += if chunk.own { 0 } else { written as u64 };
                    if chunk.written == chunk.bytes.len() {
                        self.chunks.pop_front();
                    }
                    if self.chunks.is_empty() {
                        // An idle connection keeps no memory.
                        self.chunks = VecDeque::new();
                    }
                    Ok(Step::Moved)
                }
                Err(Errno::AGAIN) => Ok(Step::Full),
                Err(Errno::INTR) => Ok(Step::Moved),
                Err(error) => Err(Fault::Sink(error)),
            };
        }
        if self.urgent.is_some() {
            return Ok(Step::Empty);
        }
        if self.course == Course::Ending {
            self.course = Course::Done;
            self.release(pipes);
            // A sink that is gone by itself shows in its own direction.
            let _ = shutdown(to, Shutdown::Write);
        }
        Ok(if self.course == Course::Done { Step::End } else { Step::Empty })
    }

    /// Takes an urgent byte that the source has out of line.
    pub(crate) fn take_urgent(&mut self, from: BorrowedFd<'_>) {
        if let Ok(Some(byte)) = urgent::take(from) {
            self.urgent = Some(byte);
            self.marked = true;
        }
    }

    /// Whether nothing more is to be read before the kernel tells of it (epoll(7)). A read that tries nevertheless would
    /// go over an urgent byte that has come meanwhile, and lose it.
    pub(crate) fn is_emptied(&self) -> bool {
        self.emptied
    }

    /// Whether the stream has a place that only recv(2) comes past: where the urgent byte stood.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether all before the urgent byte has been read, so that it comes next.
    pub(crate) fn is_at_urgent(&self, from: BorrowedFd<'_>) -> bool {
        self.urgent.is_some() && urgent::is_at_mark(from).unwrap_or(true)
    }

    /// Sends the urgent byte if all before it has been read; gives it if it was sent. Nothing may wait.
    pub(crate) fn send_urgent(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
    ) -> Result<(Step, Option<u8>), Fault> {
        let Some(byte) = self.urgent.filter(|_| self.is_at_urgent(from)) else {
            return Ok((Step::Moved, None));
        };
        match send(to, &[byte], SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::OOB) {
            Ok(_) => {
                self.urgent = None;
                self.passed += 1;
                Ok((Step::Moved, Some(byte)))
            }
            Err(Errno::AGAIN) => Ok((Step::Full, None)),
            Err(Errno::INTR) => Ok((Step::Moved, None)),
            Err(error) => Err(Fault::Sink(error)),
        }
    }

    /// Drops what waits and takes no more.
    pub(crate) fn discard(&mut self, pipes: &mut Pipes) {
        self.chunks = VecDeque::new();
        self.in_chunks = 0;
        self.urgent = None;
        self.release(pipes);
    }

    /// Gives the pipe back if it is empty: who waits for more needs none.
    pub(crate) fn rest(&mut self, pipes: &mut Pipes) {
        if self.in_pipe == 0 {
            self.release(pipes);
        }
    }

    /// Gives the pipe back.
    pub(crate) fn release(&mut self, pipes: &mut Pipes) {
        if let Some(pipe) = self.pipe.take() {
            if self.in_pipe == 0 { pipes.give_back(pipe) } else { pipes.lose(pipe) }
        }
        self.in_pipe = 0;
    }
}

/// Whether an error is what a peer's reset looks like from here.
pub(crate) fn is_reset(error: Errno) -> bool {
    matches!(error, Errno::CONNRESET | Errno::PIPE)
}

/// Makes the closing of a socket a reset (socket(7), SO_LINGER with no time).
pub(crate) fn reset_on_close(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO))?)
}
