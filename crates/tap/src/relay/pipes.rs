//! Pipes for splice(2), lent to a direction while bytes of it are under way and no longer: an idle connection has none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// How many bytes a pipe is to hold: what one wake-up can move grows with it. Without CAP_SYS_RESOURCE it may be refused
/// (pipe(7), pipe-max-size and pipe-user-pages-soft), and the pipe stays as it was.
pub(super) const CAPACITY: usize = 1 << 20;
/// The same where many are at work, which all hold bytes if nobody reads.
const CAPACITY_OF_MANY: usize = 256 << 10;
/// How many of the larger ones may be lent.
const LARGE: usize = 32;
/// How many empty pipes are kept.
const KEPT: usize = 32;

/// One pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// Where bytes come out.
    pub(crate) fn read(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Where they go in.
    pub(crate) fn write(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }
}

/// The empty ones.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    idle: Vec<Pipe>,
    lent: usize,
}

impl Pipes {
    /// An empty pipe.
    pub(crate) fn take(&mut self) -> rustix::io::Result<Pipe> {
        let pipe = match self.idle.pop() {
            Some(pipe) => pipe,
            None => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                // A smaller one does as well.
                let large = self.lent < LARGE && fcntl_setpipe_size(&write, CAPACITY).is_ok();
                let _ = large || fcntl_setpipe_size(&write, CAPACITY_OF_MANY).is_ok();
                Pipe { read, write }
            }
        };
        self.lent += 1;
        Ok(pipe)
    }

    /// Takes one back that is empty again.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        self.lent -= 1;
        if self.idle.len() < KEPT {
            self.idle.push(pipe);
        }
    }

    /// One that still has bytes in it goes with them.
    pub(crate) fn lose(&mut self, pipe: Pipe) {
        self.lent -= 1;
        drop(pipe);
    }

    /// How many descriptors there are for pipes.
    pub(crate) fn descriptors(&self) -> usize {
        2 * (self.lent + self.idle.len())
    }
}
