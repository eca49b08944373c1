//! systemd-nspawn in the machine, with systemd-machined on a system bus of the machine's, or without.

use std::fs;

use crate::daemon::Daemon;
use crate::machine::{make_directory, write};
use crate::{Image, Machine, succeed};

/// Machined knows a container by its unit, and the unit is read off the cgroup (systemd, `cg_pid_get_unit`). There is no
/// systemd here to make one, so the container is put into a cgroup of a unit's name; `--keep-unit` says that it is one.
const START: &str = r#"
    unit=$1
    shift
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        if [ -e "$hierarchy/cgroup.procs" ]; then
            mkdir -p "$hierarchy/$unit"
            echo $$ >"$hierarchy/$unit/cgroup.procs"
        fi
    done
    exec systemd-nspawn --quiet --keep-unit --network-veth --console=pipe "$@"
"#;

/// The machine's systemd-nspawn.
#[derive(Clone, Copy, Debug)]
pub struct Nspawn<'m> {
    machine: &'m Machine,
}

impl<'m> Nspawn<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine) -> Nspawn<'m> {
        machine.dbus.get_or_init(|| {
            make_directory(&machine.path("/run/dbus"));
            let config = machine.directory().join("bus.conf");
            write(&config, include_str!("bus.conf"));
            let config = format!("--config-file={}", config.display());
            Daemon::start(machine, "dbus-daemon", &[&config, "--nofork", "--nopidfile", "--nosyslog"])
        });
        machine.machined.get_or_init(|| {
            // What sd_booted(3) looks for.
            make_directory(&machine.path("/run/systemd/system"));
            make_directory(&machine.path("/run/systemd/machines"));
            let program = ["/usr/lib/systemd/systemd-machined", "/lib/systemd/systemd-machined"];
            let found = program.into_iter().find(|p| fs::exists(p).unwrap_or(false)).unwrap_or(program[0]);
            Daemon::start_command(machine, "systemd-machined", machine.command(found))
        });
        Nspawn { machine }
    }

    /// Starts a container with a veth whose outer end is `ve-NAME`, and gives the PID of its first process. With
    /// `register`, systemd-machined knows it.
    #[track_caller]
    pub fn run(&self, name: &str, register: bool, image: Image, command: &[&str]) -> i32 {
        let root = self.root(name, image);
        self.machine.other(&format!("nspawn-{name}"), || {
            let mut start = self.machine.command("sh");
            start.args(["-c", START, "nspawn", &format!("systemd-nspawn@{name}.service")]);
            start.args([if register { "--register=yes" } else { "--register=no" }, "--directory", &root]);
            start.args(["--machine", name]).args(command);
            start
        });
        self.pid(name)
    }

    /// Makes `/var/lib/machines/NAME` of an image, and starts nothing.
    #[track_caller]
    pub fn root(&self, name: &str, image: Image) -> String {
        let inside = format!("/var/lib/machines/{name}");
        let root = self.machine.path(&inside);
        if !root.exists() {
            make_directory(&self.machine.path("/var/lib/machines"));
            image.unpack(self.machine, &root);
            // Nspawn takes only what looks like an operating system.
            make_directory(&root.join("usr"));
            make_directory(&root.join("etc"));
            write(&root.join("etc/os-release"), "ID=testbed\n");
        }
        inside
    }

    /// The PID, in the real /proc, of the container's first process: the one child of what holds the container.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let holder = self.machine.other(&format!("nspawn-{name}"), || panic!("{name} was not started"));
        let children =
            succeed(self.machine.command("cat").arg(format!("/proc/{holder}/task/{holder}/children")));
        children
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("the holder of {name} has the children {children:?}"))
    }

    /// What `machinectl ARGUMENTS` prints. Panics if it fails.
    #[track_caller]
    pub fn machinectl(&self, arguments: &[&str]) -> String {
        self.machine.run("machinectl", arguments)
    }

    /// Ends the container's first process, and waits until its holder has gone too.
    #[track_caller]
    pub fn stop(&self, name: &str) {
        let pid = self.pid(name).to_string();
        self.machine.run("kill", ["-KILL", &pid]);
        self.machine.forget(&format!("nspawn-{name}"));
    }
}
