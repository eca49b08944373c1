//! The signals of a capture, as descriptors that can be waited for beside packets.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

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
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
        // Whoever starts it with nohup(1) wants it to go on.
        let stop = [SIGINT, SIGTERM, SIGHUP];
        let stop = if hangup_is_ignored()? { &stop[..2] } else { &stop };
        let pipe = |signals: &[i32]| {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            Ok::<_, std::io::Error>(read)
        };
        // A file that reaches the limit of its size (setrlimit(2)) is an error of the writing, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(Signals { stop: pipe(stop)?, usr1: pipe(&[SIGUSR1])? })
    }
}

/// Whether SIGHUP is ignored, as this process was started: bit 0 of the mask in proc_pid_status(5).
fn hangup_is_ignored() -> std::io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Ok(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0))
}

/// Takes the bytes that say that a signal came.
pub(crate) fn drain(mut signals: &UnixStream) {
    let mut bytes = [0; 64];
    while std::io::Read::read(&mut signals, &mut bytes).is_ok_and(|read| read > 0) {}
}
