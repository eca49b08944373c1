//! Where a machine's cgroups are made: one directory in every hierarchy that is mounted (cgroups(7)).
//!
//! In the hierarchies of version 1 it lies below the asking process's own cgroup, so that the limits which hold for
//! the tests hold for their engines too. In version 2 a cgroup that has processes gives no controllers to its
//! children, so there it lies at the top.

use std::path::{Path, PathBuf};

/// The directory to make in each hierarchy; `name` is its last component.
pub(crate) fn directories(mountinfo: &str, own: &str, name: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        mountinfo.lines().filter_map(Hierarchy::parse).map(|h| h.place(own).join(name)).collect();
    found.sort();
    found.dedup();
    found
}

/// One mounted hierarchy, from a line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
struct Hierarchy<'a> {
    /// The cgroup that is seen at the mount point.
    root: &'a str,
    mount_point: &'a Path,
    /// Version 1's controllers and name, as `/proc/PID/cgroup` writes them; `None` for version 2.
    controllers: Option<Vec<&'a str>>,
}

impl<'a> Hierarchy<'a> {
    fn parse(line: &'a str) -> Option<Hierarchy<'a>> {
        let (mount, fs) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mount_point) = (mount.next()?, Path::new(mount.next()?));
        let mut fs = fs.split(' ');
        let controllers = match fs.next()? {
            "cgroup2" => None,
            "cgroup" => Some(fs.nth(1)?.split(',').collect()),
            _ => return None,
        };
        Some(Hierarchy { root, mount_point, controllers })
    }

    /// Where under the mount point the new cgroup's parent is. `own` is `/proc/self/cgroup`.
    fn place(&self, own: &str) -> PathBuf {
        let Some(controllers) = &self.controllers else { return self.mount_point.to_owned() };
        let below = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let ours = !names.is_empty() && names.split(',').all(|n| controllers.contains(&n));
            ours.then(|| Path::new(path).strip_prefix(self.root).unwrap_or(Path::new("")))
        });
        self.mount_point.join(below.unwrap_or(Path::new("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_has_one_directory_in_each_hierarchy() {
        let mountinfo = "\
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/session/1\n3:cpu,cpuacct:/\n1:name=systemd:/user\n0::/session\n";
        assert_eq!(
            directories(mountinfo, own, "m"),
            [
                "/sys/fs/cgroup/cpu,cpuacct/m",
                "/sys/fs/cgroup/memory/session/1/m",
                "/sys/fs/cgroup/systemd/user/m",
                "/sys/fs/cgroup/unified/m",
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn a_mount_that_shows_a_part_of_the_hierarchy_is_entered_relative_to_it() {
        let mountinfo = "1 1 0:1 /docker/ab /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n";
        let own = "2:pids:/docker/ab/inner\n";
        assert_eq!(directories(mountinfo, own, "m"), [PathBuf::from("/sys/fs/cgroup/pids/inner/m")]);
    }

    #[test]
    fn a_unified_machine_has_one_at_the_top() {
        let mountinfo = "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/user.slice/user-0.slice/session-1.scope\n";
        assert_eq!(directories(mountinfo, own, "m"), [PathBuf::from("/sys/fs/cgroup/m")]);
    }
}
