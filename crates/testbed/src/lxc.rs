//! LXC in the machine: no daemon, but a monitor process for each container, which answers on an abstract socket.

use std::sync::OnceLock;

use crate::machine::{make_directory, write};
use crate::{Image, Machine, succeed};

/// The machine's LXC, with the bridge `lxcbr0` (10.0.3.1/24), which the distributions' `lxc-net` service would make.
#[derive(Clone, Copy, Debug)]
pub struct Lxc<'m> {
    machine: &'m Machine,
}

impl<'m> Lxc<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine, bridge: &OnceLock<()>) -> Lxc<'m> {
        bridge.get_or_init(|| {
            machine.run("ip", ["link", "add", "lxcbr0", "type", "bridge"]);
            machine.run("ip", ["address", "add", "10.0.3.1/24", "dev", "lxcbr0"]);
            machine.run("ip", ["link", "set", "lxcbr0", "up"]);
        });
        Lxc { machine }
    }

    /// Starts a container with a veth on `lxcbr0` and `address` (of 10.0.3.0/24), and gives the PID of its first
    /// process. `command` is one line, started by its path; the image's files are copied for it.
    #[track_caller]
    pub fn run(&self, name: &str, address: &str, image: Image, command: &str) -> i32 {
        let folder = self.machine.path("/var/lib/lxc").join(name);
        make_directory(&folder);
        image.unpack(self.machine, &folder.join("rootfs"));
        // A host name is shorter than a container's name may be.
        let uts = name.get(..60).unwrap_or(name);
        // lxc.cgroup.relative: or LXC starts from the cgroup of PID 1, which is outside of the machine's.
        write(
            &folder.join("config"),
            format!(
                "lxc.uts.name = {uts}\n\
                 lxc.rootfs.path = dir:/var/lib/lxc/{name}/rootfs\n\
                 lxc.init.cmd = {command}\n\
                 lxc.net.0.type = veth\n\
                 lxc.net.0.link = lxcbr0\n\
                 lxc.net.0.flags = up\n\
                 lxc.net.0.ipv4.address = {address}/24\n\
                 lxc.mount.auto = proc:mixed sys:ro\n\
                 lxc.apparmor.profile = unconfined\n\
                 lxc.autodev = 1\n\
                 lxc.cgroup.relative = 1\n"
            ),
        );
        self.machine.run("lxc-start", ["--name", name, "--logfile", "/var/log/lxc", "--logpriority", "INFO"]);
        self.pid(name)
    }

    /// The PID, in the real /proc, of the container's first process. Panics if it is not running.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let pid = succeed(self.machine.command("lxc-info").args(["--name", name, "--pid", "--no-humanize"]));
        pid.parse().unwrap_or_else(|_| panic!("LXC says the PID of {name} is {pid:?}"))
    }

    /// `lxc-freeze`: its processes stay, and do nothing.
    #[track_caller]
    pub fn freeze(&self, name: &str) {
        self.machine.run("lxc-freeze", ["--name", name]);
    }

    /// `lxc-unfreeze`.
    #[track_caller]
    pub fn unfreeze(&self, name: &str) {
        self.machine.run("lxc-unfreeze", ["--name", name]);
    }

    /// Kills the container; its directory stays.
    #[track_caller]
    pub fn stop(&self, name: &str) {
        self.machine.run("lxc-stop", ["--name", name, "--kill"]);
    }

    /// Kills the container and deletes it.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.machine.run("lxc-destroy", ["--name", name, "--force"]);
    }
}
