//! LXD in the machine, by its own command line. Its containers are LXC's, with monitors of the same kind.

use std::fs;

use crate::daemon::Daemon;
use crate::machine::{make_directory, write};
use crate::{Image, Machine, succeed};

/// The machine's LXD, with the bridge `lxdbr0` (10.77.0.1/24).
#[derive(Clone, Copy, Debug)]
pub struct Lxd<'m> {
    machine: &'m Machine,
}

impl<'m> Lxd<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine) -> Lxd<'m> {
        machine.lxd.get_or_init(|| {
            make_directory(&machine.path("/var/lib/lxd"));
            let mut command = machine.command("lxd");
            command.args(["--group", "root"]);
            let daemon = Daemon::spawn(machine, "lxd", command);
            machine.run("lxd", ["waitready", "--timeout=60"]);
            let lxc = |arguments: &str| machine.run("lxc", arguments.split(' '));
            lxc("storage create default dir");
            lxc("network create lxdbr0 ipv4.address=10.77.0.1/24 ipv4.nat=false ipv6.address=none");
            lxc("profile device add default root disk path=/ pool=default");
            lxc("profile device add default eth0 nic network=lxdbr0 name=eth0");
            // Or LXC starts from the cgroup of PID 1, which is outside of the machine's.
            lxc("profile set default raw.lxc lxc.cgroup.relative=1");
            daemon
        });
        Lxd { machine }
    }

    /// Runs `lxc ARGUMENTS` in the machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.machine.run("lxc", arguments)
    }

    /// Makes an image available, as `IMAGE` of `lxc launch IMAGE NAME`, and gives that name. It runs /sbin/init.
    #[track_caller]
    pub fn load(&self, image: Image) -> &'static str {
        let name = image.short_name();
        image.provide(self.machine, "lxd", |archive| {
            let folder = archive.with_extension("lxd");
            make_directory(&folder);
            write(&folder.join("metadata.yaml"), "architecture: x86_64\ncreation_date: 1700000000\n");
            succeed(
                self.machine
                    .command("cp")
                    .arg("-a")
                    .args([archive.with_extension("").join("root"), folder.join("rootfs")]),
            );
            let init = folder.join("rootfs/sbin/init");
            make_directory(&folder.join("rootfs/sbin"));
            fs::write(&init, "#!/bin/sh\nexec sleep 2147483647\n")
                .unwrap_or_else(|e| panic!("cannot write {}: {e}", init.display()));
            succeed(self.machine.command("chmod").arg("755").arg(init));
            let tar = archive.with_extension("lxd.tar");
            succeed(self.machine.command("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg("."));
            succeed(self.machine.command("lxc").args(["image", "import"]).arg(tar).args(["--alias", name]));
        });
        name
    }

    /// `lxc launch IMAGE NAME OPTIONS`, and the PID of its first process.
    #[track_caller]
    pub fn run(&self, name: &str, options: &[&str], image: Image) -> i32 {
        let image = self.load(image);
        self.cli(&[&["launch", image, name, "--quiet"], options].concat());
        self.pid(name)
    }

    /// The PID, in the real /proc, of the container's first process. Panics if it is not running.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let info = self.cli(&["info", name]);
        let pid = info.lines().find_map(|line| line.trim().strip_prefix("PID: "));
        pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("LXD tells no PID of {name}:\n{info}"))
    }

    /// `lxc delete --force NAME`.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.cli(&["delete", "--force", name]);
    }
}
