//! A Docker that answers what the test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::{Ran, snorkel};

/// The id that the fake engine's container has.
pub(crate) const ID: &str = "f00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeed";

/// What the fake engine answers to the request for a path; nothing: it hangs.
pub(crate) type Answer = fn(&str) -> Option<Vec<u8>>;

/// A Docker that answers what the test wants, on a socket of its own, until the test ends.
pub(crate) struct Fake {
    pub(crate) dir: tempfile::TempDir,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("docker.sock")).unwrap();
        std::thread::spawn(move || {
            // Connections that are not answered stay open: that is what a hanging engine is like.
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                while let Some(path) = request(&stream) {
                    match answer(&path) {
                        Some(bytes) => {
                            if stream.write_all(&bytes).is_err() {
                                break;
                            }
                        }
                        None => {
                            hanging.push(stream.try_clone().unwrap());
                            break;
                        }
                    }
                }
            }
        });
        Fake { dir }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("docker.sock").display())
    }

    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        snorkel(words).env("DOCKER_HOST", self.host()).output().unwrap().into()
    }
}

/// Reads one request's head; its path.
fn request(stream: &UnixStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    lines.find(|line| line.as_ref().is_ok_and(String::is_empty))?.ok()?;
    first.split(' ').nth(1).map(str::to_owned)
}

/// The whole of an answer.
pub(crate) fn http(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
