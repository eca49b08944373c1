//! What goes wrong between here and an engine, and how it is told.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Engine;

/// The result of one conversation.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// Why a conversation with an engine gave nothing, or not all.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The socket cannot be reached.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file or directory of the engine's cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The whole conversation took too long.
    #[error("did not answer within {}", seconds(*.0))]
    TimedOut(Duration),
    /// One of several sockets that are asked for one list.
    #[error("{who} did not answer within {}", seconds(*.time))]
    Silent {
        /// The socket, or some of them.
        who: String,
        /// How long it was waited for.
        time: Duration,
    },
    /// The connection broke, or what came was not the protocol.
    #[error("the answer to {request} broke off or is not of its protocol: {why}")]
    Broken {
        /// What was asked.
        request: String,
        /// What was wrong, in one line.
        why: String,
    },
    /// The engine answered with an error of its own.
    #[error("answered {request} with {status}: {message}")]
    Refused {
        /// What was asked.
        request: String,
        /// The status: "HTTP 500", "UNAVAILABLE".
        status: String,
        /// What the engine said, control characters escaped.
        message: String,
    },
    /// The answer is longer than anything that makes sense.
    #[error("the answer to {request} is longer than {limit} bytes")]
    TooLong {
        /// What was asked.
        request: String,
        /// The limit, bytes.
        limit: usize,
    },
    /// The answer is not what the API describes.
    #[error("cannot make sense of {what}: {why}")]
    Garbage {
        /// The answer, or the part of it.
        what: String,
        /// What was wrong with it.
        why: String,
    },
    /// The process does not belong to whoever says that it is his container.
    #[error("{0}")]
    Foreign(String),
}

impl Fault {
    /// A missing socket is no fault, unless the environment names it: the engine is not installed or not started.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Fault::Connect { source, .. } | Fault::Read { source, .. }
            if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the kernel refused for want of rights.
    pub fn is_permission(&self) -> bool {
        matches!(self, Fault::Connect { source, .. } | Fault::Read { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }

    fn remedy(&self, engine: Engine) -> Option<String> {
        match self {
            Fault::Connect { source, path } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some(match engine {
                    Engine::Docker => {
                        "run as root, or as a member of the group that owns the socket (docker)".into()
                    }
                    _ => "run as root".into(),
                }),
                io::ErrorKind::ConnectionRefused => Some(format!(
                    "nobody listens on this socket any more: start {engine}, or remove {}",
                    escaped(&path.to_string_lossy())
                )),
                io::ErrorKind::NotFound => {
                    let variable = if engine == Engine::Podman { "CONTAINER_HOST" } else { "DOCKER_HOST" };
                    Some(format!("{variable} names it: start {engine}, or correct the variable"))
                }
                _ => None,
            },
            Fault::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as root".into())
            }
            Fault::TimedOut(_) | Fault::Silent { .. } => {
                Some("give it longer with --timeout, or look whether it is well".into())
            }
            _ => None,
        }
    }

    /// The same as something to tell the user beside the answers of the others.
    pub(crate) fn warn(&self, engine: Engine, socket: Option<&Path>) -> Warning {
        Warning {
            engine,
            socket: socket.map(Path::to_owned),
            what: escaped(&self.to_string()),
            remedy: self.remedy(engine),
            denied: self.is_permission(),
            unfinished: false,
        }
    }
}

/// What could not be learnt, of which engine, and what to do about it. The answer beside it is whole but for this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The engine that was asked.
    pub engine: Engine,
    /// Its socket or file.
    pub socket: Option<PathBuf>,
    /// What went wrong: one line, control characters escaped.
    pub what: String,
    /// What would help, where that is known.
    pub remedy: Option<String>,
    /// Whether the kernel refused for want of rights: the engine is there, and may be well.
    #[serde(default)]
    pub denied: bool,
    /// Whether the engine did not tell all that it has: what is not in the answer may be there all the same.
    #[serde(default)]
    pub unfinished: bool,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.engine)?;
        if let Some(socket) = &self.socket {
            let socket = escaped(&socket.to_string_lossy());
            if !self.what.contains(&socket) {
                write!(f, " ({socket})")?;
            }
        }
        write!(f, ": {}", self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

/// The warnings as lines: what the kernel refused for want of rights is one line for all engines, the rest a line each.
pub fn lines(warnings: &[Warning]) -> Vec<String> {
    let (denied, others): (Vec<&Warning>, Vec<&Warning>) =
        warnings.iter().partition(|warning| warning.denied);
    let mut lines: Vec<String> = others.iter().map(ToString::to_string).collect();
    if let [only] = denied[..] {
        lines.push(only.to_string());
    } else if !denied.is_empty() {
        let mut places: Vec<String> = Vec::new();
        for warning in denied {
            let place = match &warning.socket {
                Some(socket) => format!("{} ({})", warning.engine, escaped(&socket.to_string_lossy())),
                None => warning.engine.to_string(),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        lines.push(format!("for want of rights not all was asked of {} (run as root)", places.join(", ")));
    }
    lines
}

/// One line that a terminal can be given: control characters escaped, and no longer than a few lines of it.
pub(crate) fn escaped(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut out = String::new();
    for c in text.trim().chars() {
        if out.len() >= LONGEST {
            out.push('…');
            break;
        }
        // Besides control characters, those that turn the writing direction of a terminal line.
        if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
