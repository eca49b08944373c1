//! Running a command to its end and saying clearly how it failed.

use std::process::{Command, Output};

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to its standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// The same of its standard error.
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        Finished {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs the command to its end. Panics only if it cannot be started.
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    match command.output() {
        Ok(output) => output.into(),
        Err(e) => panic!("cannot start {command:?}: {e}"),
    }
}

/// Runs the command and gives what it printed, without the last line's end. Panics if it fails.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let done = finish(command);
    if done.status != Some(0) {
        panic!("{command:?} failed ({:?}):\n{}{}", done.status, done.stdout, done.stderr);
    }
    done.stdout.trim_end_matches('\n').to_owned()
}
