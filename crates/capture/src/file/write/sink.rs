//! Where blocks go: a descriptor that takes them whole, or takes none of the last one.
//!
//! Writing never waits inside of write(2) for who reads a pipe or a socket, since nothing else is seen there: it waits
//! in [`super::patience`].

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;

use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::encode;
use super::lost::Lost;
use super::patience::{self, Patience};
use crate::file::WriteError;

/// So much a pipe that poll(2) calls writable takes without waiting (pipe(7)).
const PIPE_BUF: usize = 4096;

/// What is written to: a file, a pipe, a device.
#[derive(Debug)]
pub(in crate::file) struct Sink {
    file: File,
    /// How messages call it.
    name: String,
    way: Way,
    /// How long it is waited for a reader; `None`: as long as it takes.
    patience: Option<Patience>,
    /// Whether it is a FIFO that nobody has read yet.
    unread: bool,
    /// A part of a block is in it that cannot be taken back, and nothing can follow.
    torn: bool,
    /// Whether it can be cut.
    regular: bool,
    /// Whether what was written can be written over.
    rewrites: bool,
    /// How many bytes at its end are to be written over.
    provisional: usize,
    /// How many bytes it took.
    taken: u64,
}

/// How bytes get into a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A file or a device: writing to it takes no longer than it takes.
    Plain,
    /// A pipe that does not wait by itself.
    Pipe,
    /// A pipe that would wait, and is not to be told otherwise: others have it open by the same description, of which
    /// `O_NONBLOCK` is a part (open(2)).
    SharedPipe,
    Socket,
}

/// Why a sink did not take everything.
#[derive(Debug)]
pub(in crate::file) struct Stopped {
    /// How many bytes of what was given it has kept.
    pub(super) kept: usize,
    pub(in crate::file) error: io::Error,
}

impl Sink {
    pub(in crate::file) fn new(descriptor: OwnedFd, name: String) -> Sink {
        let mut file = File::from(descriptor);
        let about = file.metadata();
        let kind = about.as_ref().ok().map(std::fs::Metadata::file_type);
        let regular = kind.is_some_and(|kind| kind.is_file());
        let flags = rustix::fs::fcntl_getfl(&file).unwrap_or(OFlags::empty());
        let way = match kind {
            Some(kind) if kind.is_socket() => Way::Socket,
            Some(kind) if kind.is_fifo() && flags.contains(OFlags::NONBLOCK) => Way::Pipe,
            Some(kind) if kind.is_fifo() => match description_of_its_own(&file) {
                Ok(own) => {
                    file = own;
                    Way::Pipe
                }
                Err(_) => Way::SharedPipe,
            },
            _ => Way::Plain,
        };
        let rewrites = regular && !flags.contains(OFlags::APPEND);
        Sink {
            file,
            name,
            way,
            patience: None,
            unread: false,
            torn: false,
            regular,
            rewrites,
            provisional: 0,
            taken: 0,
        }
    }

    /// From now on a reader is waited for so long, and not longer.
    pub(in crate::file) fn set_patience(&mut self, patience: Patience) {
        self.patience = Some(patience);
    }

    /// It is a FIFO that nobody has open for reading: that a reader comes is waited for.
    pub(in crate::file) fn set_unread(&mut self) {
        self.unread = true;
    }

    /// How many bytes it took.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Writes all of the slices, which together are whole blocks. If it cannot, a file is cut behind the last block (or
    /// whatever `whole` says) that it took.
    pub(super) fn write(
        &mut self,
        slices: &[&[u8]],
        whole: impl FnOnce(&[&[u8]], usize) -> usize,
    ) -> Result<(), Stopped> {
        let mut vectors: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut left = vectors.as_mut_slice();
        let mut written = 0;
        // Empty slices in front are no reason to write nothing, which would look like a file that is full.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let error = match self.write_some(left) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(taken) => {
                    written += taken;
                    IoSlice::advance_slices(&mut left, taken);
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => match self.wait() {
                    Ok(()) => continue,
                    Err(e) => e,
                },
                Err(e) => e,
            };
            let kept = whole(slices, written);
            self.torn |= !self.regular && kept != written;
            self.taken += self.cut(written, kept) as u64;
            return Err(Stopped { kept, error });
        }
        self.taken += written as u64;
        Ok(())
    }

    /// Writes a piece of something that is whole only with `end` behind it: it is written too, where the next piece can
    /// be written over it.
    pub(in crate::file) fn write_piece(&mut self, piece: &[u8], end: &[u8]) -> Result<(), Stopped> {
        if !self.rewrites {
            return self.write(&[piece], |_, _| 0);
        }
        let back = self.provisional as u64;
        if let Err(error) = self.file.seek_relative(-(back as i64)) {
            return Err(Stopped { kept: 0, error });
        }
        self.taken -= back;
        self.provisional = 0;
        let result = self.write(&[piece, end], |_, _| 0);
        // Cut back to where the end was, the file is whole again only with it. There was room for it before.
        if result.is_ok() || (back > 0 && self.write(&[end], |_, _| 0).is_ok()) {
            self.provisional = end.len();
        }
        result
    }

    /// Writes what ends a series of pieces, unless it is there.
    pub(in crate::file) fn end_pieces(&mut self, end: &[u8]) -> Result<(), Stopped> {
        if self.provisional > 0 { Ok(()) } else { self.write(&[end], |_, _| 0) }
    }

    /// Takes back what was written beyond `kept`, if that is possible; gives what remains.
    fn cut(&mut self, written: usize, kept: usize) -> usize {
        if !self.regular || kept == written {
            return written;
        }
        let cut = |file: &mut File| {
            let end = file.metadata()?.len().saturating_sub((written - kept) as u64);
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))
        };
        if cut(&mut self.file).is_ok() { kept } else { written }
    }

    /// Writes what goes in without waiting for a reader.
    fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.torn {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.unread {
            self.wait()?;
        }
        match self.way {
            Way::Plain | Way::Pipe => self.file.write_vectored(slices),
            Way::SharedPipe => {
                self.wait()?;
                let first = slices.first().map_or(&[][..], |first| first);
                self.file.write(&first[..first.len().min(PIPE_BUF)])
            }
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                Ok(rustix::net::sendmsg(&self.file, slices, &mut SendAncillaryBuffer::default(), flags)?)
            }
        }
    }

    /// Waits until a descriptor that does not wait by itself takes bytes again.
    fn wait(&mut self) -> io::Result<()> {
        patience::wait(&self.file, self.patience.as_ref(), self.unread)?;
        self.unread = false;
        Ok(())
    }

    /// What is said of `error`, which cost `lost` packets.
    pub(in crate::file) fn fault(&self, error: io::Error, lost: Lost) -> WriteError {
        let name = self.name.clone();
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => WriteError::Closed { name },
            io::ErrorKind::TimedOut if self.way != Way::Plain => WriteError::Unread { name, lost },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                WriteError::Full { name, lost, source: error }
            }
            _ => WriteError::Write { name, lost, source: error },
        }
    }
}

/// The same pipe, opened once more (proc_pid_fd(5)), so that it does not wait. That fails where its file system or its
/// mode do not allow it, and while nobody reads.
fn description_of_its_own(pipe: &File) -> io::Result<File> {
    let path = format!("/proc/thread-self/fd/{}", pipe.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// The end of the last block that is whole.
pub(super) fn last_block(slices: &[&[u8]], written: usize) -> usize {
    encode::whole(slices, written).0
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    /// A pipe whose description is not to be changed, and its end for reading.
    fn shared() -> (Sink, std::io::PipeReader) {
        let (read, write) = std::io::pipe().unwrap();
        let mut sink = Sink::new(write.try_clone().unwrap().into(), "a pipe".to_owned());
        assert_eq!(sink.way, Way::Pipe);
        (sink.file, sink.way) = (File::from(OwnedFd::from(write)), Way::SharedPipe);
        (sink, read)
    }

    #[test]
    fn a_pipe_that_would_wait_takes_everything_if_it_is_read() {
        let (mut sink, mut read) = shared();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            read.read_to_end(&mut bytes).map(|_| bytes).unwrap()
        });
        let data: Vec<u8> = (0..300_001u32).map(|number| number as u8).collect();
        sink.write(&[&data[..5], &[], &data[5..]], last_block).unwrap();
        drop(sink);
        assert_eq!(reader.join().unwrap(), data);
    }

    #[test]
    fn a_pipe_that_would_wait_does_not_when_it_is_to_end_and_takes_nothing_after_half_a_piece() {
        let (mut sink, mut read) = shared();
        let (stop, _asks) = UnixStream::pair().unwrap();
        let patience = Patience::new(stop);
        patience.end_at(Some(Instant::now()));
        sink.set_patience(patience);
        let data = vec![7; 1 << 20];
        let stopped = sink.write(&[&data], |_, _| 0).unwrap_err();
        assert_eq!((stopped.kept, stopped.error.kind()), (0, io::ErrorKind::TimedOut));
        // The reader comes too late: what would follow does not belong to what it has.
        let mut some = vec![0; 1 << 16];
        read.read_exact(&mut some).unwrap();
        sink.write(&[b"end"], |_, _| 0).unwrap_err();
        drop(sink);
        let mut rest = Vec::new();
        read.read_to_end(&mut rest).unwrap();
        assert!(!rest.ends_with(b"end"));
    }
}
