//! Trials with mounts, each on a thread that has a mount namespace of its own.
//!
//! Before anything is mounted there, every mount of that namespace is made private: what follows cannot spread to the
//! host (mount_namespaces(7)). The namespace ends with the thread, and the mounts with it.

use std::ffi::CString;

use rustix::fs::{CWD, Mode, mkdir, statfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount,
    open_tree,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::trial::{During, Ground, Outcome, Trouble};

/// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// Runs `work` on a thread with a mount namespace of its own, and with whatever else `also` unshares.
pub(super) fn apart<T: Send>(
    also: UnshareFlags,
    work: impl FnOnce() -> Result<T, Trouble> + Send,
) -> Result<T, Trouble> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("snorkel-apart".into()).spawn_scoped(scope, || {
            // SAFETY: only this short-lived thread moves; its descriptors stay shared (no CLONE_FILES is passed).
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | also) }.during("make a private mount namespace")?;
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
                .during("make the mounts of the private namespace private")?;
            work()
        });
        let thread = thread.map_err(|_| Trouble { what: "start a thread".into(), errno: Errno::AGAIN })?;
        // A panic inside is a bug of the closure: it goes on where it can be seen.
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A mount namespace of one's own, with nothing mounted in it.
pub(super) fn namespace(ground: &Ground<'_>) -> Outcome {
    ground.judge(apart(UnshareFlags::empty(), || Ok("can be made".into())), &[Errno::INVAL])
}

/// A tmpfs on some directory that every system has; hides it from this thread only.
fn scratch() -> Result<&'static str, Trouble> {
    let place = ["/tmp", "/run", "/mnt", "/dev"].into_iter().find(|path| std::path::Path::new(path).is_dir());
    let place = place.ok_or(Trouble { what: "find a directory to mount on".into(), errno: Errno::NOENT })?;
    mount("snorkel", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"size=64k,mode=0700")
        .during(format!("mount a tmpfs over {place} of the private namespace"))?;
    Ok(place)
}

/// An overlay on /etc with a tmpfs above, just as a command is given the container's files.
///
/// /etc itself is tried, because what it lies on decides too. Nothing is written to it.
pub(super) fn overlay(ground: &Ground<'_>) -> Outcome {
    let tried = apart(UnshareFlags::empty(), || {
        let scratch = scratch()?;
        for layer in ["upper", "work"] {
            mkdir(format!("{scratch}/{layer}"), Mode::RWXU).during("make a directory in a tmpfs")?;
        }
        let options = format!("lowerdir=/etc,upperdir={scratch}/upper,workdir={scratch}/work");
        let options = CString::new(options).map_err(|_| Errno::INVAL).during("mount an overlay over /etc")?;
        mount("snorkel", "/etc", "overlay", MountFlags::empty(), options.as_c_str())
            .during("mount an overlay over /etc in a private namespace")?;
        // f_type is signed on some architectures and unsigned on others; the magic number fits both.
        match statfs("/etc").during("look at the overlay")?.f_type as u64 {
            OVERLAY_MAGIC => Ok("mounts over /etc in a private namespace".to_owned()),
            _ => Err(Trouble { what: "see the overlay that was mounted".into(), errno: Errno::NOENT }),
        }
    });
    ground.judge(tried, &[Errno::NODEV, Errno::INVAL])
}

/// Taking a whole tree of mounts along and putting it elsewhere, as is done with what lies below /sys.
pub(super) fn open_tree_move(ground: &Ground<'_>) -> Outcome {
    let tried = apart(UnshareFlags::empty(), || {
        let scratch = scratch()?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, "/sys", flags).during("clone the mounts of /sys")?;
        let there = format!("{scratch}/sys");
        mkdir(&there, Mode::RWXU).during("make a directory in a tmpfs")?;
        move_mount(&tree, "", CWD, there, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .during("attach the mounts of /sys elsewhere")?;
        Ok("the mounts below /sys can be cloned and attached again".to_owned())
    });
    ground.judge(tried, &[Errno::NOSYS, Errno::INVAL])
}

/// A sysfs that shows the interfaces of a new network namespace, which has its loopback only.
pub(super) fn sysfs(ground: &Ground<'_>) -> Outcome {
    let tried = apart(UnshareFlags::NEWNET, || {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("snorkel", "/sys", "sysfs", flags, None)
            .during("mount a sysfs for a private network namespace")?;
        let names = std::fs::read_dir("/sys/class/net")
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect::<Vec<_>>());
        let names = names
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            .during("list the interfaces in the new sysfs")?;
        if names == ["lo"] {
            return Ok("a new one shows the interfaces of its namespace".to_owned());
        }
        Err(Trouble { what: "see only the private namespace in a new sysfs".into(), errno: Errno::NOTSUP })
    });
    ground.judge(tried, &[Errno::NODEV, Errno::NOTSUP])
}
