//! An /etc for kernels that refuse an overlay: a tmpfs with the container's files, into which every other entry of the
//! host's /etc is bound, read-only.
//!
//! The container's files are ordinary files of the tmpfs: they can be written and renamed, and a new one of the host's
//! does not shine through. The others can be read only: a write would reach the host.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{mount_bind, mount_bind_recursive};

use super::cover::in_fd;
use crate::{Error, Result};

/// What a stand-in lacks that an overlay has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lack {
    /// Entries of the host's /etc that could not be bound.
    pub missing: Vec<OsString>,
    /// Why the entries could not be made read-only: what is written to them reaches the host.
    pub writable: Option<Errno>,
}

/// Makes the tmpfs that is mounted on /etc, with the files in `upper`, a stand-in for the host's /etc, which is `host`.
pub(super) fn etc(host: &OwnedFd) -> Result<Lack> {
    let os = |what: &str, e: std::io::Error| Error::os(what.to_owned(), e);
    let upper = Path::new("/etc/upper");
    let mut bound = Vec::new();
    let mut lack = Lack::default();
    for entry in fs::read_dir(in_fd(host, "")).map_err(|e| os("read /etc", e))? {
        let entry = entry.map_err(|e| os("read /etc", e))?;
        let place = upper.join(entry.file_name());
        // One of the container's.
        if place.symlink_metadata().is_ok() {
            continue;
        }
        let made = entry.file_type().and_then(|kind| match kind {
            // It leads to where it led.
            kind if kind.is_symlink() => symlink(fs::read_link(entry.path())?, &place).map(|()| false),
            kind if kind.is_dir() => fs::create_dir(&place).map(|()| true),
            _ => fs::File::create(&place).map(|_| true),
        });
        match made {
            Ok(true) => bound.push(entry.file_name()),
            Ok(false) => {}
            Err(_) => lack.missing.push(entry.file_name()),
        }
    }
    mount_bind(upper, "/etc").map_err(|e| Error::os("cover /etc", e))?;
    for name in bound {
        let from = in_fd(host, "").join(&name);
        // With what is mounted below.
        if mount_bind_recursive(&from, Path::new("/etc").join(&name)).is_err() {
            lack.missing.push(name);
        }
    }
    lack.writable = read_only_below_etc().err();
    Ok(lack)
}

/// Makes all that is mounted below /etc read-only, and not /etc itself (mount_setattr(2), since Linux 5.12).
fn read_only_below_etc() -> Result<(), Errno> {
    let set = |set, clear, recursive: i32| {
        let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
        // SAFETY: the path ends in a NUL; the structure is a live local of the size that is given.
        let done = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                c"/etc".as_ptr(),
                recursive,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    };
    set(libc::MOUNT_ATTR_RDONLY, 0, libc::AT_RECURSIVE)?;
    set(0, libc::MOUNT_ATTR_RDONLY, 0)
}
