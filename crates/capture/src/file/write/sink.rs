//! Where blocks go: a descriptor that takes them whole, or takes none of the last one.

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use super::encode;
use super::lost::Lost;
use crate::file::WriteError;

/// What is written to: a file, a pipe, a device.
#[derive(Debug)]
pub(in crate::file) struct Sink {
    file: File,
    /// How messages call it.
    name: String,
    /// Whether it can be cut.
    regular: bool,
    /// Whether what was written can be written over.
    rewrites: bool,
    /// How many bytes at its end are to be written over.
    provisional: usize,
    /// How many bytes it took.
    taken: u64,
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
        let file = File::from(descriptor);
        let regular = file.metadata().is_ok_and(|about| about.is_file());
        let appends = rustix::fs::fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
        Sink { file, name, regular, rewrites: regular && !appends, provisional: 0, taken: 0 }
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
        let mut vectors: [IoSlice<'_>; 4] = std::array::from_fn(|_| IoSlice::new(&[]));
        for (vector, slice) in vectors.iter_mut().zip(slices) {
            *vector = IoSlice::new(slice);
        }
        debug_assert!(slices.len() <= vectors.len(), "no more slices than vectors");
        let mut left = &mut vectors[..slices.len().min(4)];
        let mut written = 0;
        // Empty slices in front are no reason to write nothing, which would look like a file that is full.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let error = match self.file.write_vectored(left) {
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

    /// Waits until a descriptor that does not wait by itself takes bytes again.
    fn wait(&self) -> io::Result<()> {
        let mut descriptor = [PollFd::new(&self.file, PollFlags::OUT)];
        match poll(&mut descriptor, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// What is said of `error`, which cost `lost` packets.
    pub(in crate::file) fn fault(&self, error: io::Error, lost: Lost) -> WriteError {
        let name = self.name.clone();
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => WriteError::Closed { name },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                WriteError::Full { name, lost, source: error }
            }
            _ => WriteError::Write { name, lost, source: error },
        }
    }
}

/// The end of the last block that is whole.
pub(super) fn last_block(slices: &[&[u8]], written: usize) -> usize {
    encode::whole(slices, written).0
}
