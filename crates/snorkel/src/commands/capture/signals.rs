//! The signals of a capture, as descriptors that can be waited for beside packets.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use crate::failure::Failure;

/// The signals that end a capture, and the one that triggers.
pub(crate) struct Signals {
    /// SIGINT, SIGTERM, SIGHUP: readable when one came.
    pub(crate) stop: UnixStream,
    /// SIGUSR1.
    pub(crate) usr1: UnixStream,
}

impl Signals {
    /// Takes them over. From now on they do not end the process.
    pub(crate) fn take() -> Result<Signals, Failure> {
        let pipe = |signals: &[i32]| {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            Ok::<_, io::Error>(read)
        };
        // A file that reaches the limit of its size (setrlimit(2)) is an error of the writing, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(Signals { stop: pipe(stopping()?)?, usr1: pipe(&[SIGUSR1])? })
    }
}

/// As long as it lives, the signals that end a capture end the process as if they had not been taken over: there is nothing
/// yet that would have to be kept or told, and what it waits for (an engine) may take its time. To be made before
/// [`Signals::take`].
#[must_use = "it is over when it is dropped"]
pub(crate) struct Beginning(Arc<AtomicBool>);

impl Beginning {
    /// It begins.
    pub(crate) fn new() -> Result<Beginning, Failure> {
        let begins = Arc::new(AtomicBool::new(true));
        for &signal in stopping()? {
            let begins = Arc::clone(&begins);
            if std::process::id() == 1 {
                // What is usual for a signal does nothing to the first process of a PID namespace (pid_namespaces(7)).
                signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, begins)?;
            } else {
                signal_hook::flag::register_conditional_default(signal, begins)?;
            }
        }
        Ok(Beginning(begins))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The signals that end a capture.
fn stopping() -> io::Result<&'static [i32]> {
    // Whoever starts it with nohup(1) wants it to go on.
    Ok(if hangup_is_ignored()? { &[SIGINT, SIGTERM] } else { &[SIGINT, SIGTERM, SIGHUP] })
}

/// Whether SIGHUP is ignored, as this process was started: bit 0 of the mask in proc_pid_status(5).
fn hangup_is_ignored() -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Ok(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0))
}

/// Takes the bytes that say that a signal came.
pub(crate) fn drain(mut signals: &UnixStream) {
    let mut bytes = [0; 64];
    while io::Read::read(&mut signals, &mut bytes).is_ok_and(|read| read > 0) {}
}
