//! What the command sees in place of the host's /etc, /sys and resolver sockets, in a mount namespace of its own.
//!
//! /etc becomes an overlay (overlayfs; Documentation/filesystems/overlayfs.rst) of the host's /etc under a tmpfs that
//! holds the container's files. A tool that writes or renames `/etc/resolv.conf` changes the tmpfs; a host's network
//! manager that renames a new file into place does not shine through. A bind mount over the file would fail in both
//! ways. Where the kernel has no overlay, bind mounts are the fallback, and the caller is told.
//!
//! Half of the work does not depend on the target: the copy of the mount table, the tmpfs, the clones of what lies below
//! /sys. It can be done while an engine still thinks about where the target is.
//!
//! /sys becomes a new sysfs, since a sysfs shows the interfaces of the namespace that *mounted* it (sysfs(5)). What is
//! mounted below (cgroup, bpf, debug, tracing) is cloned before and put back after (open_tree(2), move_mount(2)).

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_change,
    move_mount, open_tree,
};
use rustix::thread::UnshareFlags;

use crate::mounts;
use crate::{Error, Result};

/// Sockets by which glibc's resolver escapes from the network namespace, by the directory that holds them: nscd
/// (nscd(8)) and systemd-resolved (nss-resolve(8)).
pub(super) const RESOLVER_SOCKETS: [&str; 3] = ["/run/nscd", "/var/run/nscd", "/run/systemd/resolve"];

/// A file that the command shall find below /etc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcFile {
    /// Its path relative to /etc; at most one directory deep.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

/// How /etc was covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covered {
    /// An overlay: nothing that the command does to /etc reaches the host.
    Overlay,
    /// Bind mounts over single files, because the overlay was refused with this error.
    Binds(Errno),
}

/// A mount namespace of the calling process's own, with what is needed to furnish it. The host sees none of it.
#[derive(Debug)]
pub struct PrivateMounts {
    /// A tmpfs for the container's files, mounted nowhere yet. What went wrong with it counts once it is needed.
    files: Result<OwnedFd, Errno>,
    /// What was mounted below /sys, cloned.
    below_sys: Result<Vec<(PathBuf, OwnedFd)>, Errno>,
}

impl PrivateMounts {
    /// Moves the calling thread into a mount namespace of its own; the process must have no other by the time it
    /// becomes the command. Without CAP_SYS_ADMIN a user namespace that gives it must have been joined before.
    pub fn make() -> Result<PrivateMounts> {
        let what = "make a private mount namespace";
        // SAFETY: unshare(CLONE_NEWNS) touches no memory of this process; the working directory stays valid.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(|e| Error::os(what, e))?;
        // Downstream, not private: what the host mounts from now on is still seen.
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(|e| Error::os("keep the private mounts from the host", e))?;
        Ok(PrivateMounts { files: tmpfs(), below_sys: clone_below_sys() })
    }
}

/// A tmpfs with the directories that the overlay needs, mounted nowhere.
fn tmpfs() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "755")?;
    fsconfig_set_string(&context, "size", "64m")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tmpfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let mode = Mode::from_raw_mode(0o755);
    for dir in ["upper", "work", "empty"] {
        rustix::fs::mkdirat(&tmpfs, dir, mode)?;
        // Whatever the umask.
        rustix::fs::chmodat(&tmpfs, dir, mode, rustix::fs::AtFlags::empty())?;
    }
    Ok(tmpfs)
}

/// Covers /etc with these files and, if `mask_sockets`, hides the resolver's sockets behind empty directories.
pub(super) fn etc(
    mounts: &PrivateMounts,
    files: &[EtcFile],
    in_userns: bool,
    mask_sockets: bool,
) -> Result<Covered> {
    let lower = directory("/etc")?;
    // The tmpfs is mounted on /etc itself, so that no other directory is needed; the overlay then hides it.
    let mounted = mounts
        .files
        .as_ref()
        .map_err(|e| *e)
        .and_then(|tmpfs| move_mount(tmpfs, "", CWD, "/etc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH));
    mounted.map_err(|e| Error::os("mount a tmpfs for the container's files", e))?;
    let upper = Path::new("/etc/upper");
    for file in files {
        write(&upper.join(&file.path), &file.content)?;
    }
    let empty = directory("/etc/empty")?;
    let userxattr = if in_userns { ",userxattr" } else { "" };
    let options = format!(
        "lowerdir=/proc/self/fd/{},upperdir=/etc/upper,workdir=/etc/work{userxattr}",
        lower.as_raw_fd()
    );
    let options =
        CString::new(options).map_err(|e| Error::os("name the overlay's layers", std::io::Error::from(e)))?;
    let covered = match mount("overlay", "/etc", "overlay", MountFlags::NOSUID | MountFlags::NODEV, &*options)
    {
        Ok(()) => Covered::Overlay,
        Err(refused) => {
            bind_each(files, &lower)?;
            Covered::Binds(refused)
        }
    };
    if mask_sockets {
        let mut places: Vec<PathBuf> =
            RESOLVER_SOCKETS.iter().filter_map(|place| fs::canonicalize(place).ok()).collect();
        places.dedup();
        for place in places {
            mount_bind(in_fd(&empty, ""), &place)
                .map_err(|e| Error::os(format!("hide {}", place.display()), e))?;
        }
    }
    if covered != Covered::Overlay {
        // The tmpfs goes from /etc, but lives on in the binds.
        rustix::mount::unmount("/etc", rustix::mount::UnmountFlags::DETACH)
            .map_err(|e| Error::os("uncover /etc", e))?;
    }
    Ok(covered)
}

/// Mounts each file over the host's file of the same name, where there is one.
fn bind_each(files: &[EtcFile], host: &OwnedFd) -> Result<()> {
    for file in files {
        let place = in_fd(host, &file.path.to_string_lossy());
        if place.exists() {
            mount_bind(Path::new("/etc/upper").join(&file.path), &place)
                .map_err(|e| Error::os(format!("cover /etc/{}", file.path.display()), e))?;
        }
    }
    Ok(())
}

/// What is mounted below /sys, as trees that are mounted nowhere, with their places.
fn clone_below_sys() -> Result<Vec<(PathBuf, OwnedFd)>, Errno> {
    let table = mounts::read(Path::new("/proc/thread-self/mountinfo"))
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let below = mounts::directly_below(&mounts::parse(&table), Path::new("/sys"));
    let mut kept = Vec::with_capacity(below.len());
    for point in below {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        // What cannot be cloned (an unreachable mount under another) is not kept: the new /sys shows its own there.
        if let Ok(tree) = open_tree(CWD, &point, flags) {
            kept.push((point, tree));
        }
    }
    Ok(kept)
}

/// Covers /sys with one that shows this network namespace; what was mounted below stays.
pub(super) fn sys(mounts: &PrivateMounts) -> Result<()> {
    let kept = mounts.below_sys.as_ref().map_err(|e| Error::os("read the mount table", *e))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("sysfs", "/sys", "sysfs", flags, None) {
        Ok(()) => {}
        // The same sysfs is there already: the target is in the host's own network.
        Err(Errno::BUSY) => return Ok(()),
        Err(e) => return Err(Error::os("mount a /sys of the container's network", e)),
    }
    for (point, tree) in kept {
        // A mount point that the new sysfs has not (a module's) is the only way to fail; the rest is worth having.
        if let Err(e) = move_mount(tree, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
            tracing::debug!("{} is not kept under the new /sys: {e}", point.display());
        }
    }
    Ok(())
}

/// Covers /proc with one that shows the process namespace of the caller's children.
pub(super) fn proc() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)
        .map_err(|e| Error::os("mount a /proc of the container's processes", e))
}

fn directory(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::os(format!("open {path}"), e))
}

fn in_fd(dir: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", dir.as_raw_fd()))
}

fn create_dir(path: &Path) -> Result<()> {
    let made =
        fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.map_err(|e| Error::os(format!("make {}", path.display()), e))
}

/// Writes a file that everybody may read, whatever the umask: the command may run as another user.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        create_dir(dir)?;
    }
    let written =
        fs::write(path, content).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)));
    written.map_err(|e| Error::os(format!("write {}", path.display()), e))
}
