//! What the command sees in place of the host's /etc, /sys and resolver sockets, in a mount namespace of its own.
//!
//! /etc becomes an overlay (overlayfs; Documentation/filesystems/overlayfs.rst) of the host's /etc under a tmpfs that
//! holds the container's files. A tool that writes or renames `/etc/resolv.conf` changes the tmpfs; a host's network
//! manager that renames a new file into place does not shine through. A bind mount over the file would fail in both
//! ways. Where the kernel has no overlay, the tmpfs itself is /etc, with each entry of the host's bound to its place
//! ([`standin`]), and the caller is told.
//!
//! Half of the work does not depend on the target: the copy of the mount table, the tmpfs, the clones of what lies below
//! /sys and /etc. It can be done while an engine still thinks about where the target is.
//!
//! /sys becomes a new sysfs, since a sysfs shows the interfaces of the namespace that *mounted* it (sysfs(5)). What is
//! mounted below (cgroup, bpf, debug, tracing) is cloned before and put back after (open_tree(2), move_mount(2)).
//! Likewise what is mounted below /etc, which a layer of an overlay does not take along.

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

use super::standin;
use crate::{Error, Result};
use crate::{mounts, points};

/// Sockets by which glibc's resolver escapes from the network namespace, by the directory that holds them: nscd
/// (nscd(8)) and systemd-resolved (nss-resolve(8)).
pub(super) const RESOLVER_SOCKETS: [&str; 3] = ["/run/nscd", "/var/run/nscd", "/run/systemd/resolve"];

/// A file that the command shall find, below /etc as a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcFile {
    /// Its name: the files lie beside each other.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

/// How /etc was covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covered {
    /// An overlay: nothing that the command does to /etc reaches the host.
    Overlay,
    /// A tmpfs with the host's entries bound into it, because the overlay was refused.
    StandIn {
        /// The refusal.
        why: Errno,
        /// What the command can see of the host's entries, and do to them.
        lack: standin::Lack,
    },
}

/// Trees that are mounted nowhere, with the places where they were.
type Clones = Vec<(PathBuf, OwnedFd)>;

/// A mount namespace of the calling process's own, with what is needed to furnish it. The host sees none of it.
#[derive(Debug)]
pub struct PrivateMounts {
    /// A tmpfs for the container's files, mounted nowhere yet. What went wrong with it counts once it is needed.
    files: Result<OwnedFd, Errno>,
    /// What was mounted below /sys and below /etc.
    below: Result<(Clones, Clones), Errno>,
    /// An empty directory of the tmpfs, once that is mounted.
    empty: Option<OwnedFd>,
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
        Ok(PrivateMounts { files: staging(), below: clone_below(), empty: None })
    }
}

/// A tmpfs, mounted nowhere.
fn tmpfs() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "755")?;
    fsconfig_set_string(&context, "size", "64m")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A tmpfs with the directories that the overlay needs, mounted nowhere.
fn staging() -> Result<OwnedFd, Errno> {
    let tmpfs = tmpfs()?;
    let mode = Mode::from_raw_mode(0o755);
    for dir in ["upper", "work", "empty"] {
        rustix::fs::mkdirat(&tmpfs, dir, mode)?;
        // Whatever the umask.
        rustix::fs::chmodat(&tmpfs, dir, mode, rustix::fs::AtFlags::empty())?;
    }
    Ok(tmpfs)
}

impl PrivateMounts {
    /// Mounts the tmpfs on /etc, so that no other directory is needed.
    fn stage(&self) -> Result<OwnedFd> {
        let mounted =
            self.files.as_ref().map_err(|e| *e).and_then(|tmpfs| {
                move_mount(tmpfs, "", CWD, "/etc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            });
        mounted.map_err(|e| Error::os("mount a tmpfs for the container's files", e))?;
        directory("/etc/empty")
    }
}

/// Covers /etc with these files.
pub(super) fn etc(mounts: &mut PrivateMounts, files: &[EtcFile], in_userns: bool) -> Result<Covered> {
    let lower = directory("/etc")?;
    mounts.empty = Some(mounts.stage()?);
    let upper = Path::new("/etc/upper");
    for file in files {
        write(&upper.join(&file.path), &file.content)?;
    }
    let userxattr = if in_userns { ",userxattr" } else { "" };
    let options = format!(
        "lowerdir=/proc/self/fd/{},upperdir=/etc/upper,workdir=/etc/work{userxattr}",
        lower.as_raw_fd()
    );
    let options =
        CString::new(options).map_err(|e| Error::os("name the overlay's layers", std::io::Error::from(e)))?;
    // It hides the tmpfs.
    match mount("overlay", "/etc", "overlay", MountFlags::NOSUID | MountFlags::NODEV, &*options) {
        Ok(()) => {
            let (_, below) = below(mounts)?;
            let is_ours = |point: &Path| files.iter().any(|file| point == Path::new("/etc").join(&file.path));
            put_back(below.iter().filter(|(point, _)| !is_ours(point)));
            Ok(Covered::Overlay)
        }
        Err(why) => Ok(Covered::StandIn { why, lack: standin::etc(&lower)? }),
    }
}

/// Hides the resolver's sockets behind empty directories.
pub(super) fn mask_sockets(mounts: &PrivateMounts) -> Result<()> {
    // To find out that one is not there takes one call; to follow what leads there takes one for each step.
    let there = RESOLVER_SOCKETS.iter().map(Path::new).filter(|place| place.exists());
    let mut places: Vec<PathBuf> = there.filter_map(|place| fs::canonicalize(place).ok()).collect();
    places.dedup();
    if places.is_empty() {
        return Ok(());
    }
    let staged = if mounts.empty.is_none() { Some(mounts.stage()?) } else { None };
    let Some(empty) = mounts.empty.as_ref().or(staged.as_ref()) else { return Ok(()) };
    for place in places {
        mount_bind(in_fd(empty, ""), &place)
            .map_err(|e| Error::os(format!("hide {}", place.display()), e))?;
    }
    if staged.is_some() {
        // It goes from /etc, but lives on in the binds.
        rustix::mount::unmount("/etc", rustix::mount::UnmountFlags::DETACH)
            .map_err(|e| Error::os("uncover /etc", e))?;
    }
    Ok(())
}

/// Whether this file of the host lies where the resolver's sockets are, and is hidden with them.
pub fn is_hidden_with_sockets(path: &Path) -> bool {
    let place = fs::canonicalize(path).unwrap_or_default();
    let dirs = RESOLVER_SOCKETS.iter().filter_map(|dir| fs::canonicalize(dir).ok());
    dirs.into_iter().any(|dir| place.starts_with(dir))
}

/// A descriptor's number that is free in this process, far from those that shells use.
pub fn free_descriptor() -> i32 {
    // SAFETY: F_GETFD reads a flag, and any number may be asked for.
    (99..250).find(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } < 0).unwrap_or(99)
}

/// Lays files into a tmpfs that is mounted nowhere, to be found below `/proc/self/fd/NUMBER` by the command.
pub(super) fn behind_descriptor(files: &[EtcFile], number: i32) -> Result<()> {
    let what = "make a directory for start-up files";
    let tmpfs = tmpfs().map_err(|e| Error::os(what, e))?;
    for file in files {
        write(&in_fd(&tmpfs, &file.path.to_string_lossy()), &file.content)?;
    }
    // SAFETY: nobody in this process has a descriptor of that number: it was free, and what follows is the command.
    if unsafe { libc::dup2(tmpfs.as_raw_fd(), number) } < 0 {
        return Err(Error::os(what, std::io::Error::last_os_error()));
    }
    Ok(())
}

/// What is mounted below /sys and /etc, as trees that are mounted nowhere.
fn clone_below() -> Result<(Clones, Clones), Errno> {
    let points = points::here().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok((clone_each(&points, "/sys"), clone_each(&points, "/etc")))
}

fn clone_each(points: &[PathBuf], dir: &str) -> Clones {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let below = mounts::directly_below(points, Path::new(dir)).into_iter();
    // What cannot be cloned (an unreachable mount under another) is not kept: the new mount shows its own there.
    below.filter_map(|point| open_tree(CWD, &point, flags).ok().map(|tree| (point, tree))).collect()
}

fn below(mounts: &PrivateMounts) -> Result<&(Clones, Clones)> {
    mounts.below.as_ref().map_err(|e| Error::os("read the mount table", *e))
}

fn put_back<'a>(clones: impl Iterator<Item = &'a (PathBuf, OwnedFd)>) {
    for (point, tree) in clones {
        // A mount point that is not there any more (a module's) is the only way to fail; the rest is worth having.
        if let Err(e) = move_mount(tree, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
            tracing::debug!("{} is not kept: {e}", point.display());
        }
    }
}

/// Covers /sys with one that shows this network namespace; what was mounted below stays.
pub(super) fn sys(mounts: &PrivateMounts) -> Result<()> {
    let (below, _) = below(mounts)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("sysfs", "/sys", "sysfs", flags, None) {
        Ok(()) => {}
        // The same sysfs is there already: the target is in the host's own network.
        Err(Errno::BUSY) => return Ok(()),
        Err(e) => return Err(Error::os("mount a /sys of the container's network", e)),
    }
    put_back(below.iter());
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

pub(super) fn in_fd(dir: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", dir.as_raw_fd()))
}

/// Writes a file that everybody may read, whatever the umask: the command may run as another user.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let written =
        fs::write(path, content).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)));
    written.map_err(|e| Error::os(format!("write {}", path.display()), e))
}
