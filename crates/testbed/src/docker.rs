//! Docker in the machine, by its own command line and over its API socket at /run/docker.sock.

use crate::daemon::Daemon;
use crate::{Image, Machine};

/// The machine's Docker. Its daemon uses the machine's containerd, as the distributions' packages set it up, so each of
/// its containers is also one of containerd's, in the namespace `moby`.
#[derive(Clone, Copy, Debug)]
pub struct Docker<'m> {
    machine: &'m Machine,
    daemon: &'m Daemon,
}

impl<'m> Docker<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine) -> Docker<'m> {
        let daemon = machine.docker.get_or_init(|| {
            machine.containerd();
            let arguments =
                ["--host", "unix:///run/docker.sock", "--containerd", "/run/containerd/containerd.sock"];
            Daemon::start(machine, "dockerd", &arguments)
        });
        Docker { machine, daemon }
    }

    /// The daemon's PID.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Runs `docker ARGUMENTS` in the machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.machine.run("docker", arguments)
    }

    /// Makes an image available, for [`Docker::cli`]; [`Docker::run`] does so itself.
    #[track_caller]
    pub fn load(&self, image: Image) {
        image.provide(self.machine, "docker", |archive| {
            self.machine.run("docker", ["load".as_ref(), "--input".as_ref(), archive.as_os_str()]);
        });
    }

    /// `docker run --detach --name NAME OPTIONS IMAGE COMMAND`; gives the container's id. No command: the image's own.
    #[track_caller]
    pub fn run(&self, name: &str, options: &[&str], image: Image, command: &[&str]) -> String {
        self.load(image);
        self.cli(&[&["run", "--detach", "--name", name], options, &[image.name()], command].concat())
    }

    /// `docker exec NAME COMMAND`; gives what it printed.
    #[track_caller]
    pub fn exec(&self, name: &str, command: &[&str]) -> String {
        self.cli(&[&["exec", name], command].concat())
    }

    /// `docker inspect --format FORMAT NAME`.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.cli(&["inspect", "--format", format, name])
    }

    /// The PID, in the real /proc, of the container's first process; 0 if it is not running.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let pid = self.inspect(name, "{{.State.Pid}}");
        pid.parse().unwrap_or_else(|_| panic!("docker says the PID of {name} is {pid:?}"))
    }

    /// `docker network create OPTIONS NAME`; gives the network's id. On such a network Docker answers names itself.
    #[track_caller]
    pub fn network_create(&self, name: &str, options: &[&str]) -> String {
        self.cli(&[&["network", "create"], options, &[name]].concat())
    }

    /// `docker rm --force NAME`.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.cli(&["rm", "--force", name]);
    }
}
