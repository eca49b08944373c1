//! How a command ends that could not do what it was asked: one line, the chain of causes, what to do next.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use snorkel_engines::SelectError;
use snorkel_netns::caps;

use crate::commands::warn_engines;
use crate::render::text::printable;

/// The result of a command: its exit status, or why it failed.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Why a command failed, and the exit status that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error + Send + Sync>,
    picture: Option<String>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// A failure with a message of its own.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { error: message.into().into(), picture: None, hint: None, code: 1 }
    }

    /// What the user can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What it says can be done about it.
    pub(crate) fn hint_text(&self) -> Option<String> {
        self.hint.clone().or_else(|| hint_of(self.error.as_ref()))
    }

    /// Lines that show where the mistake is, printed below the message.
    pub(crate) fn picture(mut self, picture: impl Into<String>) -> Failure {
        self.picture = Some(picture.into());
        self
    }

    /// With another exit status than 1.
    pub(crate) fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.code
    }

    /// Prints it and gives the exit status.
    pub(crate) fn print(self) -> ExitCode {
        ExitCode::from(self.tell())
    }

    /// Prints it and gives the number of the exit status. A reader that went away is a quiet end, as with SIGPIPE.
    pub(crate) fn tell(self) -> u8 {
        if is_broken_pipe(self.error.as_ref()) {
            return 141;
        }
        let located = chain(self.error.as_ref()).find_map(|e| e.downcast_ref::<snorkel_topology::Error>());
        warn_engines(located.map_or(&[], |error| error.warnings()));
        let mut lines = format!("snorkel: {}\n", printable(&self.error.to_string()));
        for line in self.picture.iter().flat_map(|picture| picture.lines()) {
            lines.push_str(&format!("{}\n", printable(line)));
        }
        let mut shown = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            // Some libraries repeat the cause in their own line.
            if !shown.contains(&text) {
                lines.push_str(&format!("  because: {}\n", printable(&text)));
            }
            shown = text;
            cause = inner.source();
        }
        if let Some(hint) = self.hint_text() {
            lines.push_str(&format!("  try: {}\n", printable(&hint)));
        }
        // With stderr gone there is nobody to tell.
        let _ = io::stderr().write_all(lines.as_bytes());
        self.code
    }
}

/// The message alone, without causes and hint.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { error: error.into(), picture: None, hint: None, code: 1 }
    }
}

/// The chain of an error, the error itself first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// What helps: to look what there is, what an engine needs to be asked, or the capability that is missing, if it is for
/// want of one that the kernel refused.
fn hint_of(error: &(dyn Error + 'static)) -> Option<String> {
    let not_found = |e: &SelectError| matches!(e, SelectError::NotFound { .. });
    if chain(error).any(|e| e.downcast_ref().is_some_and(not_found)) {
        return Some("snorkel ls -a".to_owned());
    }
    if let Some(snorkel_topology::Error::Unasked { why, .. }) =
        chain(error).find_map(|e| e.downcast_ref::<snorkel_topology::Error>())
    {
        return why.remedy.clone();
    }
    let refused = chain(error)
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied));
    if !refused {
        return None;
    }
    let missing: Vec<&str> = [
        (caps::number::SYS_ADMIN, "CAP_SYS_ADMIN (to join namespaces)"),
        (caps::number::SYS_PTRACE, "CAP_SYS_PTRACE (to open other users' processes)"),
        (caps::number::NET_ADMIN, "CAP_NET_ADMIN (to read and change links)"),
    ]
    .into_iter()
    .filter(|(number, _)| !caps::has(*number))
    .map(|(_, words)| words)
    .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "run it with sudo; this process lacks {}; `snorkel ls` shows what it may without",
            missing.join(", ")
        )
    })
}
