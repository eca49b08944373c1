//! The directory that captures are written to, and how a file is opened there.
//!
//! A capture is often written by root into a directory where others can write too. So a file is made with `O_EXCL`, and
//! one that is there is looked at (`O_PATH`, open(2)) before it is opened: in a sticky directory neither links nor files
//! of strangers are used, as the kernel does with `protected_symlinks` and `protected_regular` (proc_sys_fs(5)) where
//! those are switched on.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fchown, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};

use crate::file::WriteError;

/// Whom new files are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Capabilities (capabilities(7)) without which later files of a rotating output cannot be made as they should.
///
/// They are told for a process that keeps its user and group. One that becomes the owner of the files (setresuid(2))
/// needs none, if that user may write to the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// `CAP_DAC_OVERRIDE`: the directory's mode does not let this user make files.
    pub dac_override: bool,
    /// `CAP_CHOWN`: the files are for another user than this one.
    pub chown: bool,
    /// `CAP_FOWNER`: old files are another user's by then, in a sticky directory of yet another.
    pub fowner: bool,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    path: PathBuf,
    about: Stat,
    owner: Option<Owner>,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// Which file it is, if it was not there before.
    pub(super) made: Option<Inode>,
    /// What went not quite as it should.
    pub(super) note: Option<String>,
    /// Whether it is a FIFO that nobody has open for reading.
    pub(super) unread: bool,
}

/// Which file: device and inode.
pub(super) type Inode = (u64, u64);

fn inode(about: &Stat) -> Inode {
    (about.st_dev, about.st_ino)
}

/// How often a file is looked for that others make and remove meanwhile.
const ATTEMPTS: usize = 16;

impl Place {
    pub(super) fn open(path: &Path, owner: Option<Owner>) -> Result<Place, WriteError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(path, flags, Mode::empty())?;
            let about = fstat(&directory)?;
            Ok((directory, about))
        };
        let (directory, about) = open()
            .map_err(|e: Errno| WriteError::open(format!("open the directory {}", path.display()), e))?;
        Ok(Place { directory, path: path.to_owned(), about, owner })
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// How messages call a file here.
    pub(super) fn name(&self, name: &OsStr) -> String {
        self.path.join(name).display().to_string()
    }

    /// Whether files can be made here at all, now.
    pub(super) fn writable(&self) -> Result<(), WriteError> {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&self.directory, ".", access, AtFlags::EACCESS)
            .map_err(|e| WriteError::open(format!("make files in {}", self.path.display()), e))
    }

    /// Opens a file for writing, empty; makes it if it is not there. A pipe or a device will do, unless only a
    /// `regular` file will.
    pub(super) fn file(&self, name: &OsStr, regular: bool) -> Result<Opened, WriteError> {
        let failed = |e: Errno| WriteError::open(format!("open {} for writing", self.name(name)), e);
        for _ in 0..ATTEMPTS {
            match self.make(name) {
                Err(Errno::EXIST) => {}
                other => return other.map_err(failed),
            }
            match self.existing(name, regular) {
                Err(Unusable::Failed(Errno::NOENT)) => {}
                Err(Unusable::Failed(e)) => return Err(failed(e)),
                Err(Unusable::Refused(why)) => {
                    return Err(WriteError::refused(self.name(name), why));
                }
                Ok((file, unread)) => return Ok(Opened { file, made: None, note: None, unread }),
            }
        }
        // A link to nothing looks like this too.
        Err(failed(Errno::NOENT))
    }

    fn make(&self, name: &OsStr) -> Result<Opened, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::from_raw_mode(0o644))?;
        let about = fstat(&file)?;
        let mut note = None;
        if let Some(Owner { uid, gid }) = self.owner
            && (about.st_uid, about.st_gid) != (uid, gid)
            && let Err(e) = fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        {
            let e = io::Error::from(e);
            note = Some(format!("{} stays with user {}: {e}", self.name(name), about.st_uid));
        }
        Ok(Opened { file: file.into(), made: Some(inode(&about)), note, unread: false })
    }

    /// Opens what is there already; says whether it is a FIFO that nobody reads.
    fn existing(&self, name: &OsStr, regular: bool) -> Result<(File, bool), Unusable> {
        let look =
            |extra| openat(&self.directory, name, OFlags::PATH | OFlags::CLOEXEC | extra, Mode::empty());
        let mut found = look(OFlags::NOFOLLOW)?;
        let mut about = fstat(&found)?;
        let mut elsewhere = false;
        if FileType::from_raw_mode(about.st_mode) == FileType::Symlink {
            if self.strangers(&about) {
                return Err(Unusable::Refused(
                    "it is another user's link, in a directory that anybody can write to",
                ));
            }
            found = look(OFlags::empty())?;
            about = fstat(&found)?;
            elsewhere = true;
        }
        match FileType::from_raw_mode(about.st_mode) {
            FileType::RegularFile | FileType::Fifo if !elsewhere && self.strangers(&about) => {
                return Err(Unusable::Refused(
                    "it is another user's file, in a directory that anybody can write to",
                ));
            }
            FileType::RegularFile => {}
            FileType::Fifo | FileType::CharacterDevice if !regular => {}
            FileType::Fifo | FileType::CharacterDevice => {
                return Err(Unusable::Refused("it is no ordinary file, and so cannot be rotated"));
            }
            FileType::Directory => return Err(Unusable::Refused("it is a directory")),
            FileType::BlockDevice => return Err(Unusable::Refused("it is a disk")),
            _ => return Err(Unusable::Refused("it is neither a file nor a pipe")),
        }
        // The very inode that was looked at, whatever its name has come to mean since.
        let path = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        if FileType::from_raw_mode(about.st_mode) == FileType::Fifo {
            let (file, unread) = fifo(&path, flags)?;
            return Ok((file.into(), unread));
        }
        let file = rustix::fs::open(&path, flags, Mode::empty())?;
        if FileType::from_raw_mode(about.st_mode) == FileType::RegularFile {
            rustix::fs::ftruncate(&file, 0)?;
        }
        Ok((file.into(), false))
    }

    /// Whether this is a directory where a stranger can put something in the way, and this is a stranger's.
    fn strangers(&self, about: &Stat) -> bool {
        let mode = Mode::from_raw_mode(self.about.st_mode);
        let shared = mode.contains(Mode::SVTX) && mode.intersects(Mode::WGRP | Mode::WOTH);
        let known = [Some(geteuid().as_raw()), Some(self.about.st_uid), self.owner.map(|owner| owner.uid)];
        shared && !known.contains(&Some(about.st_uid))
    }

    /// Removes a file that was made here, unless its name has been given to another.
    pub(super) fn remove(&self, name: &OsStr, made: Inode) -> Result<(), String> {
        let remove = || {
            let about = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if inode(&about) == made { unlinkat(&self.directory, name, AtFlags::empty()) } else { Ok(()) }
        };
        match remove() {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(format!("cannot remove {}: {}", self.name(name), io::Error::from(e))),
        }
    }

    /// What is needed to make (and, if `removes`, remove) files here later.
    pub(super) fn rights(&self, removes: bool) -> Rights {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let mode = Mode::from_raw_mode(self.about.st_mode);
        let member = self.about.st_gid == gid
            || getgroups().is_ok_and(|all| all.contains(&Gid::from_raw(self.about.st_gid)));
        let both = if self.about.st_uid == uid {
            Mode::WUSR | Mode::XUSR
        } else if member {
            Mode::WGRP | Mode::XGRP
        } else {
            Mode::WOTH | Mode::XOTH
        };
        let others = self.owner.is_some_and(|owner| owner.uid != uid);
        Rights {
            dac_override: !mode.contains(both),
            chown: others || self.owner.is_some_and(|owner| owner.gid != gid),
            fowner: removes && others && mode.contains(Mode::SVTX) && self.about.st_uid != uid,
        }
    }
}

/// Opens a FIFO for writing without waiting for who reads it (fifo(7)); says whether there is nobody yet.
fn fifo(path: &str, flags: OFlags) -> Result<(OwnedFd, bool), Errno> {
    let open = |flags: OFlags| rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty());
    match open(flags) {
        Err(Errno::NXIO) => {}
        other => return Ok((other?, false)),
    }
    // Later it may be out of reach, so it is opened now: its own end for reading lets that for writing open, and is closed.
    let reader = open(OFlags::RDONLY | OFlags::CLOEXEC).map_err(|_| Errno::NXIO)?;
    let writer = open(flags)?;
    drop(reader);
    Ok((writer, true))
}

/// Why a file that is there cannot be written to.
enum Unusable {
    Failed(Errno),
    Refused(&'static str),
}

impl From<Errno> for Unusable {
    fn from(e: Errno) -> Unusable {
        Unusable::Failed(e)
    }
}
