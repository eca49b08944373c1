//! A user's own engine that lies to root. Whose engine it is, the connection tells, not the path that leads to it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its fake must fail")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use snorkel_engines::{Answer, Endpoint, Endpoints, Query};

const NOBODY: u32 = 65534;
const ID: &str = "f00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeedf00dfeed";

/// Listens as nobody on `socket`, and says of every container that it is this test's own process. Before it answers
/// for the first time, the socket's place is taken by a link to `other`, if there is one.
fn listen(socket: &Path, other: Option<&Path>) {
    let (ready, is_ready) = mpsc::channel();
    let (socket, other) = (socket.to_owned(), other.map(Path::to_owned));
    std::thread::spawn(move || {
        // Of this thread alone (setresuid(2), C library/kernel differences).
        let root = Uid::from_raw(0);
        rustix::thread::set_thread_res_uid(root, Uid::from_raw(NOBODY), root).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        ready.send(()).unwrap();
        let mut swap = other;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                if !line.is_empty() {
                    continue;
                }
                if let Some(other) = swap.take() {
                    std::fs::remove_file(&socket).unwrap();
                    std::os::unix::fs::symlink(other, &socket).unwrap();
                }
                let body = format!(
                    r#"{{"Id":"{ID}","Name":"/fake","State":{{"Status":"running","Pid":{}}}}}"#,
                    std::process::id()
                );
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        }
    });
    is_ready.recv().unwrap();
}

/// What root learns from this socket of `docker:nobody/fake`.
fn asked(socket: &Path) -> Answer {
    let query = Query {
        engines: None,
        timeout: Duration::from_secs(60),
        endpoints: Endpoints { docker: vec![Endpoint::scoped(socket, "nobody")], ..Endpoints::none() },
        labels: Vec::new(),
    };
    snorkel_engines::lookup(&query, &"docker:nobody/fake".parse().unwrap())
}

/// A directory that nobody may write to, as a user may to his own.
fn his_directory() -> tempfile::TempDir {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::chown(dir.path(), Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
    dir
}

#[test]
fn a_process_of_roots_is_not_believed_to_be_a_users_container() {
    let dir = his_directory();
    let socket = dir.path().join("docker.sock");
    listen(&socket, None);
    let answer = asked(&socket);
    assert!(answer.containers.is_empty(), "{answer:?}");
    assert!(answer.warnings[0].what.contains("does not belong to user nobody"), "{answer:?}");
}

#[test]
fn nor_if_the_socket_is_swapped_for_roots_while_it_is_asked() {
    let dir = his_directory();
    let (socket, roots) = (dir.path().join("docker.sock"), dir.path().join("root.sock"));
    let _root = UnixListener::bind(&roots).unwrap();
    listen(&socket, Some(&roots));
    let answer = asked(&socket);
    assert!(answer.containers.is_empty(), "{answer:?}");
    assert!(answer.warnings[0].what.contains("does not belong to user nobody"), "{answer:?}");
}
