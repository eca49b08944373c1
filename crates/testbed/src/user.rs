//! Ordinary users of the machine, for the engines that they run without root's rights.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Gid, Uid, chown};

use crate::machine::make_directory;
use crate::{Docker, Machine, Podman, succeed};

/// A user with a home directory, subordinate ids and a runtime directory, as one who has logged in.
#[derive(Clone, Debug)]
pub struct User<'m> {
    machine: &'m Machine,
    name: String,
    uid: u32,
    home: PathBuf,
}

impl<'m> User<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine, name: &str) -> User<'m> {
        // One after the other: useradd(8) locks the machine's files, and gives up where they are locked.
        let _one_at_a_time = machine.users.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Not below /run or /var/lib: rootless Podman hides those from its own networks' helpers.
        let home = machine.directory().join("home").join(name);
        if !home.exists() {
            make_directory(&machine.directory().join("home"));
            machine.run(
                "useradd",
                [
                    "--shell".as_ref(),
                    "/bin/sh".as_ref(),
                    "--home-dir".as_ref(),
                    home.as_os_str(),
                    name.as_ref(),
                ],
            );
        }
        let id = |which| {
            let id = machine.run("id", [which, name]);
            id.parse::<u32>().unwrap_or_else(|_| panic!("id {which} {name} says {id:?}"))
        };
        let (uid, gid) = (id("-u"), id("-g"));
        // The runtime directory is pam_systemd(8)'s work on a real machine.
        for folder in [home.clone(), machine.path(format!("/run/user/{uid}"))] {
            make_directory(&folder);
            chown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .unwrap_or_else(|e| panic!("cannot give {} to {name}: {e}", folder.display()));
        }
        User { machine, name: name.to_owned(), uid, home }
    }

    /// The machine.
    pub fn machine(&self) -> &'m Machine {
        self.machine
    }

    /// The login name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// A file of the user's runtime directory, as the machine names it.
    pub fn runtime_path(&self, inside: impl AsRef<Path>) -> PathBuf {
        Path::new("/run/user").join(self.uid.to_string()).join(inside)
    }

    /// A command that this user runs in the machine, with the environment of a login and no right of root's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.machine.command("setpriv");
        let uid = self.uid.to_string();
        command
            .args(["--reuid", &self.name, "--regid", &self.name, "--init-groups", "--"])
            .arg(program)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONFIG")
            // Not the caller's: there may be directories in it that only root may read.
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
            .env("HOME", &self.home)
            .env("USER", &self.name)
            .env("LOGNAME", &self.name)
            .env("XDG_RUNTIME_DIR", Path::new("/run/user").join(uid));
        command
    }

    /// Runs a program as this user and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> String {
        succeed(self.command(program).args(arguments))
    }

    /// This user's Podman and its API service; started if it is not yet.
    #[track_caller]
    pub fn podman(&self) -> Podman<'m> {
        Podman::of_user(self.machine, self.clone())
    }

    /// This user's Docker; started if it is not yet.
    #[track_caller]
    pub fn docker(&self) -> Docker<'m> {
        Docker::of_user(self.machine, self.clone())
    }
}
