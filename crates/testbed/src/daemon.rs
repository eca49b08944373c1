//! An engine's daemon: started in the machine, waited for by its own word that it is ready (sd_notify(3)).

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Machine;
use crate::machine::{create, read};

/// How long a daemon may take to say that it is ready: far more than it needs on the slowest machine.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// A running daemon. The machine's supervisor kills it; the value only holds the child until it can be reaped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Mutex<Child>,
    pid: u32,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program` in the machine and returns when it has said READY=1.
    #[track_caller]
    pub(crate) fn start(machine: &Machine, program: &str, arguments: &[&str]) -> Daemon {
        let mut command = machine.command(program);
        command.args(arguments);
        Daemon::start_command(machine, program, command)
    }

    /// The same with a command of the machine's, whoever runs it; its log has this `name`.
    #[track_caller]
    pub(crate) fn start_command(machine: &Machine, name: &str, mut command: Command) -> Daemon {
        let notify = machine.directory().join(format!("notify-{name}"));
        let socket =
            UnixDatagram::bind(&notify).unwrap_or_else(|e| panic!("cannot bind {}: {e}", notify.display()));
        // A daemon of an ordinary user's reports too.
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o666))
            .unwrap_or_else(|e| panic!("cannot open {} to all: {e}", notify.display()));
        command.env("NOTIFY_SOCKET", &notify);
        let daemon = Daemon::spawn(machine, name, command);
        daemon.wait_until_ready(&socket, name);
        let _ = fs::remove_file(notify);
        daemon
    }

    /// Starts a daemon that does not tell when it is ready; the caller has another way to know.
    #[track_caller]
    pub(crate) fn spawn(machine: &Machine, name: &str, mut command: Command) -> Daemon {
        let log = machine.directory().join("log").join(name);
        let file = create(&log);
        let copy = file.try_clone().unwrap_or_else(|e| panic!("cannot duplicate a descriptor: {e}"));
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        // What the tests' terminal sends to its foreground group (Ctrl-C) is not meant for the daemon: it is stopped
        // after the test process, by the supervisor.
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Daemon { pid: child.id(), child: Mutex::new(child), log }
    }

    /// Waits for the end of a daemon that ends by itself.
    pub(crate) fn wait(&self) {
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }

    #[track_caller]
    fn wait_until_ready(&self, socket: &UnixDatagram, program: &str) {
        let pidfd = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(pidfd)) = pidfd.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            panic!("{program} cannot be watched");
        };
        let mut message = [0; 4096];
        loop {
            let mut either =
                [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut either, Some(&PATIENCE)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => panic!("cannot wait for {program}: {e}"),
                Ok(0) => panic!("{program} does not get ready:\n{}", self.last_words()),
                Ok(_) => {}
            }
            if either[0].revents().contains(PollFlags::IN) {
                let length = socket.recv(&mut message).unwrap_or(0);
                if message[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                    return;
                }
            } else {
                panic!("{program} ended instead of getting ready:\n{}", self.last_words());
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Collects the daemon's exit status, so that no zombie is left. It has been killed, or is now.
    pub(crate) fn reap(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }

    fn last_words(&self) -> String {
        let log = read(&self.log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.reap();
    }
}
