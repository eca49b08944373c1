//! Places in the course of a fault where a test can have the process stand still, to kill it there.

use rustix::process::{Signal, getpid, kill_process};

/// The environment's word for the stage at which to stop.
const STOP_AT: &str = "SNORKEL_FAULT_STOP_AT";

/// Says that this stage is reached: the process stops here, as by SIGSTOP, if the environment asks for it.
pub(crate) fn reached(stage: &str) {
    if std::env::var_os(STOP_AT).is_some_and(|wanted| wanted == stage) {
        // If that fails nothing stops, and the test that waits for it fails.
        let _ = kill_process(getpid(), Signal::STOP);
    }
}
