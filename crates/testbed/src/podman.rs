//! Podman in the machine, by its own command line and by its API service at /run/podman/podman.sock, or for a user at
//! podman/podman.sock in his runtime directory.

use std::process::Command;

use crate::daemon::Daemon;
use crate::machine::open;
use crate::{Image, Machine, User, succeed};

/// The machine's Podman: root's, or a user's without root's rights. Its networks are netavark's; a user's container that
/// asks for none of them is connected by slirp4netns alone.
#[derive(Clone, Debug)]
pub struct Podman<'m> {
    machine: &'m Machine,
    user: Option<User<'m>>,
    service_pid: u32,
}

impl<'m> Podman<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine) -> Podman<'m> {
        let service = machine.podman.get_or_init(|| {
            Daemon::start(
                machine,
                "podman",
                &["system", "service", "--time=0", "unix:///run/podman/podman.sock"],
            )
        });
        Podman { machine, user: None, service_pid: service.pid() }
    }

    #[track_caller]
    pub(crate) fn of_user(machine: &'m Machine, user: User<'m>) -> Podman<'m> {
        let service_pid = machine.other(&format!("podman-{}", user.name()), || {
            user.run("mkdir", ["-p".into(), user.runtime_path("podman")]);
            let mut command = user.command("podman");
            command.args(["system", "service", "--time=0"]);
            command
        });
        Podman { machine, user: Some(user), service_pid }
    }

    /// The API service's PID.
    pub fn service_pid(&self) -> u32 {
        self.service_pid
    }

    fn command(&self) -> Command {
        self.user.as_ref().map_or_else(|| self.machine.command("podman"), |user| user.command("podman"))
    }

    /// Runs `podman ARGUMENTS` in the machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        succeed(self.command().args(arguments))
    }

    /// Makes an image available, for [`Podman::cli`]; [`Podman::run`] does so itself.
    #[track_caller]
    pub fn load(&self, image: Image) {
        let whose = self.user.as_ref().map_or("root", User::name);
        image.provide(self.machine, &format!("podman of {whose}"), |archive| {
            // By its standard input: a user may not read the machine's files.
            succeed(self.command().arg("load").stdin(open(archive)));
        });
    }

    /// `podman run --detach --name NAME OPTIONS IMAGE COMMAND`; gives the container's id. No command: the image's own.
    #[track_caller]
    pub fn run(&self, name: &str, options: &[&str], image: Image, command: &[&str]) -> String {
        self.load(image);
        self.cli(&[&["run", "--detach", "--name", name], options, &[image.name()], command].concat())
    }

    /// `podman exec NAME COMMAND`; gives what it printed.
    #[track_caller]
    pub fn exec(&self, name: &str, command: &[&str]) -> String {
        self.cli(&[&["exec", name], command].concat())
    }

    /// `podman inspect --format FORMAT NAME`.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.cli(&["inspect", "--format", format, name])
    }

    /// The PID, in the real /proc, of the container's first process; 0 if it is not running.
    #[track_caller]
    pub fn pid(&self, name: &str) -> i32 {
        let pid = self.inspect(name, "{{.State.Pid}}");
        pid.parse().unwrap_or_else(|_| panic!("podman says the PID of {name} is {pid:?}"))
    }

    /// `podman network create OPTIONS NAME`. On such a network aardvark-dns answers names.
    #[track_caller]
    pub fn network_create(&self, name: &str, options: &[&str]) -> String {
        self.cli(&[&["network", "create"], options, &[name]].concat())
    }

    /// `podman rm --force --time 0 NAME`.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.cli(&["rm", "--force", "--time", "0", name]);
    }
}
