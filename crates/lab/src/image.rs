//! The root directory of a node: a tmpfs with `/etc/{hosts,hostname,resolv.conf}` and a `/proc` of its own.
//!
//! It is built on top of `/proc`, the one folder that is certain to be there, in the node's private mount namespace,
//! and pivoted into (pivot_root(2), with both arguments "." and the old root detached). Afterwards the host's files
//! are in no mount of this namespace. The host's mount namespace is not touched: propagation is cut first.

use std::fs;
use std::io;

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
};

use crate::plan::{Plan, PlannedNode};
use crate::spec::ResolvConf;
use crate::{Error, Result};

/// Where the new root is put together.
const PLACE: &str = "/proc";

/// Replaces the root of the calling process, which is in a mount namespace of its own.
pub(crate) fn enter(plan: &Plan, node: &PlannedNode) -> Result<()> {
    let resolv_conf = plan.resolv_conf(node);
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|e| Error::os("make the node's mounts private", e))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    if resolv_conf != ResolvConf::Device {
        flags |= MountFlags::NODEV;
    }
    mount("snorkel-lab", PLACE, "tmpfs", flags, Some(c"mode=0755,size=1m"))
        .map_err(|e| Error::os("mount a tmpfs for the node's root", e))?;
    fill(plan, node, &resolv_conf).map_err(|e| Error::os("write the node's files", e))?;
    let proc = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("proc", format!("{PLACE}/proc"), "proc", proc, None)
        .map_err(|e| Error::os("mount the node's /proc", e))?;
    pivot().map_err(|e| Error::os("make the tmpfs the node's root", e))
}

/// Writes the files of the image.
fn fill(plan: &Plan, node: &PlannedNode, resolv_conf: &ResolvConf) -> io::Result<()> {
    for dir in ["etc", "proc"] {
        fs::create_dir(format!("{PLACE}/{dir}"))?;
    }
    fs::write(format!("{PLACE}/etc/hosts"), plan.hosts(node))?;
    fs::write(format!("{PLACE}/etc/hostname"), format!("{}\n", node.spec.name))?;
    let path = format!("{PLACE}/etc/resolv.conf");
    let readable = Mode::from_raw_mode(0o644);
    match resolv_conf {
        ResolvConf::Missing => {}
        ResolvConf::Text(text) => fs::write(&path, text)?,
        ResolvConf::Fifo => rustix::fs::mknodat(CWD, &path, FileType::Fifo, readable, 0)?,
        ResolvConf::Device => {
            let zero = rustix::fs::makedev(1, 5);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, readable, zero)?;
        }
        ResolvConf::SymlinkOut(target) => std::os::unix::fs::symlink(target, &path)?,
        ResolvConf::Huge(bytes) => fs::File::create(&path)?.set_len(*bytes)?,
    }
    Ok(())
}

/// Makes [`PLACE`] the root and drops what was the root.
fn pivot() -> io::Result<()> {
    std::env::set_current_dir(PLACE)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The host runs from its initial ramfs, which cannot be pivoted away (pivot_root(2)): it is covered instead.
        Err(rustix::io::Errno::INVAL) => {
            mount_move(".", "/")?;
            rustix::process::chroot(".")?;
        }
        Err(e) => return Err(e.into()),
    }
    std::env::set_current_dir("/")
}
