//! Fakes of engines: real listeners on real sockets.
#![allow(dead_code, reason = "each file uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its fake must fail")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use snorkel_engines::{Container, Endpoint, Endpoints, Query};
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// A listener in a folder of its own; each connection is served on a thread by a function.
pub(crate) struct Fake {
    _dir: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) connections: Arc<AtomicUsize>,
}

pub(crate) fn serve(
    listener: UnixListener,
    connections: Arc<AtomicUsize>,
    talk: impl Fn(UnixStream) + Send + Sync + 'static,
) {
    let talk = Arc::new(talk);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            connections.fetch_add(1, Ordering::SeqCst);
            let talk = Arc::clone(&talk);
            std::thread::spawn(move || talk(stream));
        }
    });
}

impl Fake {
    pub(crate) fn new(talk: impl Fn(UnixStream) + Send + Sync + 'static) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let connections = Arc::new(AtomicUsize::new(0));
        serve(UnixListener::bind(&path).unwrap(), Arc::clone(&connections), talk);
        Fake { _dir: dir, path, connections }
    }

    /// Answers each request by its target: status and body.
    pub(crate) fn http(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Fake {
        Fake::new(move |stream| {
            requests(stream, |target, out| {
                let (status, body) = answer(target);
                write!(out, "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
            });
        })
    }

    /// Says the same whatever it is asked, and hangs up.
    pub(crate) fn saying(bytes: &'static [u8]) -> Fake {
        Fake::new(move |stream| {
            requests(stream, |_, out| {
                let _ = out.write_all(bytes);
                false
            });
        })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(&self.path)
    }
}

/// Reads requests off a connection until `answer` says that it is enough.
pub(crate) fn requests(stream: UnixStream, mut answer: impl FnMut(&str, &mut UnixStream) -> bool) {
    let mut out = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut target = String::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some(rest) = line.strip_prefix("GET ") {
            target = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if line.is_empty() && !answer(&target, &mut out) {
            return;
        }
    }
}

pub(crate) fn docker(fakes: &[&Fake], timeout: Duration) -> Query {
    Query {
        engines: None,
        timeout,
        endpoints: Endpoints { docker: fakes.iter().map(|f| f.endpoint()).collect(), ..Endpoints::none() },
        labels: Vec::new(),
    }
}

pub(crate) const LIST: &str = r#"[{"Id":"aaaa","Names":["/web"],"State":"running","Status":"Up","Labels":{"tier":"front"}},
    {"Id":"bbbb","Names":["/old"],"State":"exited","Status":"Exited (137) 3 minutes ago"}]"#;

pub(crate) fn inspect(id: &str, name: &str, status: &str, pid: i32) -> String {
    format!(r#"{{"Id":"{id}","Name":"/{name}","State":{{"Status":"{status}","Pid":{pid},"ExitCode":137}}}}"#)
}

/// An engine with one running container and one that has stopped.
pub(crate) fn well() -> Fake {
    Fake::http(|target| match target {
        "/containers/aaaa/json" | "/containers/web/json" => (200, inspect("aaaa", "web", "running", 4711)),
        "/containers/old/json" | "/containers/bbbb/json" => (200, inspect("bbbb", "old", "exited", 0)),
        t if t.starts_with("/containers/json") => (200, LIST.into()),
        _ => (404, r#"{"message":"No such container"}"#.into()),
    })
}

pub(crate) fn names(containers: &[Container]) -> Vec<String> {
    containers.iter().map(Container::qualified).collect()
}
