//! What was heard from the engines' sockets, as findings. Nothing is asked here.

use snorkel_engines::Warning;

use super::{Finding, Group, Verdict};

/// An engine that listens on a socket, or is looked for in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Docker,
    Podman,
    Containerd,
    Cri,
    Lxc,
    Nspawn,
}

/// What came of asking one socket.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The engine.
    pub(crate) engine: Engine,
    /// The path of the socket, or what else was asked.
    pub(crate) socket: String,
    /// The version or what else it said, one line; `None` if there is no such socket; or why it did not answer.
    pub(crate) answer: Result<Option<String>, Warning>,
}

impl Engine {
    /// The id, the name, and what to do when it does not answer and the fault itself says no better.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Engine::Docker => {
                ("engine-docker", "docker", "systemctl status docker; elsewhere: set DOCKER_HOST")
            }
            Engine::Podman => (
                "engine-podman",
                "podman",
                "systemctl enable --now podman.socket (rootless: with --user); elsewhere: set CONTAINER_HOST",
            ),
            Engine::Containerd => ("engine-containerd", "containerd", "systemctl status containerd"),
            Engine::Cri => (
                "engine-cri",
                "cri",
                "systemctl status containerd crio; containerd must not disable its cri plugin",
            ),
            Engine::Lxc => ("engine-lxc", "lxc", "run as the user whose containers they are, or as root"),
            Engine::Nspawn => ("engine-nspawn", "nspawn", "systemctl status systemd-machined"),
        }
    }
}

/// The finding for one socket.
pub(super) fn finding(asked: &Asked) -> Finding {
    let (id, name, usual) = asked.engine.words();
    let (verdict, found, remedy) = match &asked.answer {
        Ok(Some(version)) => (Verdict::Ok, version.clone(), None),
        Ok(None) => (Verdict::Absent, "not here".to_owned(), None),
        // It is there, and who may ask it gets an answer.
        Err(fault) if fault.denied => (Verdict::Degraded, fault.what.clone(), fault.remedy.clone()),
        Err(fault) => (Verdict::Missing, fault.what.clone(), fault.remedy.clone()),
    };
    let fine = verdict == Verdict::Ok;
    Finding {
        id,
        subject: format!("{name} {}", asked.socket),
        group: Group::Engines,
        core: false,
        verdict,
        found,
        lost: if fine { String::new() } else { format!("{name}'s containers have no names here") },
        remedy: if fine { String::new() } else { remedy.unwrap_or_else(|| usual.to_owned()) },
    }
}
