//! `--detach`: this program is started once more with the same words, as the holder, in a session of its own. The one
//! that was called waits until the fault is in force, and passes on what the holder says.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{Mode, OFlags};
use snorkel_netns::os;

use crate::commands::print;
use crate::failure::{Failure, Outcome};

/// The environment's word that this process is a detached holder; its value is the terminal that it was called from.
const HOLDER: &str = "SNORKEL_FAULT_HOLDER";

/// Whether this process was started to hold a fault for one that has gone.
pub(crate) fn is_holder() -> bool {
    std::env::var_os(HOLDER).is_some()
}

/// The terminal that the fault was asked for on.
pub(super) fn terminal() -> Option<String> {
    let own = || {
        let stdin = std::io::stdin();
        let name = rustix::termios::ttyname(&stdin, Vec::new())
            .or_else(|_| rustix::termios::ttyname(std::io::stderr(), Vec::new()));
        Some(name.ok()?.to_string_lossy().into_owned())
    };
    match std::env::var(HOLDER) {
        Ok(terminal) => Some(terminal).filter(|terminal| !terminal.is_empty()),
        Err(_) => own(),
    }
}

/// Starts the holder, and comes back when the fault is in force or cannot be.
pub(super) fn start() -> Outcome {
    let mut holder = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(HOLDER, terminal().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    // Its stderr is this process's own until it lets go: what goes wrong it says itself.
    if let Some(stdout) = &mut holder.stdout {
        stdout.read_to_string(&mut said)?;
    }
    if said.is_empty() {
        let status = holder.wait()?;
        return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
    }
    print(&said)?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the caller: its session, its terminal, its directory. What the caller reads ends with this.
pub(super) fn let_go() -> Result<(), Failure> {
    // It leads a session already if it was started by hand with the word in the environment.
    let _ = rustix::process::setsid();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for standard in 0..3 {
        os::redirect(null.as_fd(), standard)?;
    }
    std::env::set_current_dir("/")?;
    Ok(())
}
