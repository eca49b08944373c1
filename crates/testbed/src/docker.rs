//! Docker in the machine, by its own command line and over its API socket at /run/docker.sock, or for a user at
//! docker.sock in his runtime directory.

use std::process::Command;

use crate::daemon::Daemon;
use crate::machine::open;
use crate::{Image, Machine, User, succeed};

/// What starts a user's daemon, where the packages of Debian have it.
const ROOTLESS: &str = "/usr/share/docker.io/contrib/dockerd-rootless.sh";

/// The machine's Docker. Root's daemon uses the machine's containerd, as the distributions' packages set it up, so each
/// of its containers is also one of containerd's, in the namespace `moby`. A user's has a containerd of its own.
#[derive(Clone, Debug)]
pub struct Docker<'m> {
    machine: &'m Machine,
    user: Option<User<'m>>,
    daemon_pid: u32,
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
        Docker { machine, user: None, daemon_pid: daemon.pid() }
    }

    #[track_caller]
    pub(crate) fn of_user(machine: &'m Machine, user: User<'m>) -> Docker<'m> {
        let daemon_pid = machine.other(&format!("docker-{}", user.name()), || {
            let mut command = user.command("sh");
            // Of the drivers for images without root's rights this one needs no device.
            command.args([ROOTLESS, "--storage-driver", "vfs"]);
            command
        });
        Docker { machine, user: Some(user), daemon_pid }
    }

    /// The daemon's PID; for a user's, that of the program which holds its namespaces.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon_pid
    }

    fn command(&self) -> Command {
        let Some(user) = &self.user else { return self.machine.command("docker") };
        let mut command = user.command("docker");
        command.env("DOCKER_HOST", format!("unix://{}", user.runtime_path("docker.sock").display()));
        command
    }

    /// Runs `docker ARGUMENTS` in the machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        succeed(self.command().args(arguments))
    }

    /// Makes an image available, for [`Docker::cli`]; [`Docker::run`] does so itself.
    #[track_caller]
    pub fn load(&self, image: Image) {
        let whose = self.user.as_ref().map_or("root", User::name);
        image.provide(self.machine, &format!("docker of {whose}"), |archive| {
            succeed(self.command().arg("load").stdin(open(archive)));
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
