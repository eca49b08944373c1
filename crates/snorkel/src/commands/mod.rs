//! One file a command: its arguments, the plan made of them, the run.

pub(crate) mod apply;
pub(crate) mod block;
pub(crate) mod capture;
pub(crate) mod complete;
pub(crate) mod completions;
pub(crate) mod cut;
pub(crate) mod doctor;
pub(crate) mod each;
pub(crate) mod exec;
pub(crate) mod faults;
pub(crate) mod heal;
pub(crate) mod hold;
pub(crate) mod impair;
pub(crate) mod lab;
pub(crate) mod look;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod partition;
pub(crate) mod read;
pub(crate) mod tap;
pub(crate) mod tour;
pub(crate) mod unlisted;
pub(crate) mod watch;
pub(crate) mod which;

use std::io::Write;

use snorkel_engines::Warning;
use snorkel_topology::Snapshot;

use crate::render::text::printable;

/// Writes to stdout at once; a closed pipe comes back as an error that ends the program quietly.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(to_stdout)
}

/// Says what could not be done; a closed pipe can still be told from the rest.
pub(crate) fn to_stdout(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("cannot write to stdout: {error}"))
}

/// Says on stderr, a line each, what could not be read. With stderr gone there is nobody to tell.
pub(crate) fn warn_all<'a>(warnings: impl IntoIterator<Item = &'a String>) {
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "snorkel: warning: {}", printable(warning));
    }
}

/// The warnings of a snapshot.
pub(crate) fn warn_snapshot(snapshot: &Snapshot) {
    warn_all(&snapshot.warnings);
}

/// The warnings of a look-up.
pub(crate) fn warn_engines(warnings: &[Warning]) {
    warn_all(&snorkel_engines::lines(warnings));
}
