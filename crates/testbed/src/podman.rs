//! Podman in the machine, by its own command line and by its API service at /run/podman/podman.sock.

use crate::daemon::Daemon;
use crate::{Image, Machine};

/// The machine's Podman (root's). Its networks are netavark's.
#[derive(Clone, Copy, Debug)]
pub struct Podman<'m> {
    machine: &'m Machine,
    service: &'m Daemon,
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
        Podman { machine, service }
    }

    /// The API service's PID.
    pub fn service_pid(&self) -> u32 {
        self.service.pid()
    }

    /// Runs `podman ARGUMENTS` in the machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.machine.run("podman", arguments)
    }

    /// Makes an image available, for [`Podman::cli`]; [`Podman::run`] does so itself.
    #[track_caller]
    pub fn load(&self, image: Image) {
        image.provide(self.machine, "podman", |archive| {
            self.machine.run("podman", ["load".as_ref(), "--input".as_ref(), archive.as_os_str()]);
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
