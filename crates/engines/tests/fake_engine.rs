//! Faults that no real engine can be made to show: it hangs, talks nonsense, fails, stops in the middle, sends without
//! end. The fake is a real listener on a real socket; what it says is written down in each test.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its fake must fail")]

mod common;

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use snorkel_engines::{Container, Endpoint, Engine, NspawnPlaces, Query, State, Watch};

use common::{Fake, LIST, LONG, SHORT, docker, inspect, names, requests, well};

/// The one warning of a query, and no container.
fn only_warning(fake: &Fake, timeout: Duration) -> String {
    let answer = snorkel_engines::list(&docker(&[fake], timeout));
    assert!(answer.containers.is_empty(), "{answer:?}");
    assert_eq!(answer.warnings.len(), 1, "{answer:?}");
    let warning = answer.warnings[0].to_string();
    assert!(!warning.contains('\n') && !warning.contains('\u{1b}'), "{warning:?}");
    warning
}

#[test]
fn a_well_engine_is_listed_with_its_processes() {
    let answer = snorkel_engines::list(&docker(&[&well()], LONG));
    assert_eq!(answer.warnings, []);
    assert_eq!(names(&answer.containers), ["docker:old", "docker:web"]);
    assert_eq!(answer.containers[1].pid.unwrap().get(), 4711);
    assert_eq!(answer.containers[0].status, "Exited (137) 3 minutes ago");
}

#[test]
fn a_named_container_takes_one_request_on_one_connection() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fake = Fake::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        (200, inspect("aaaa", "web", "running", 4711))
    });
    let spec = "docker:web".parse().unwrap();
    let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &spec);
    assert_eq!(names(&answer.containers), ["docker:web"]);
    assert_eq!((asked.load(Ordering::SeqCst), fake.connections.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn while_an_engine_thinks_something_else_is_done_once() {
    // The engine says that it was asked, and answers only after the other thing was done.
    let (asked, was_asked) = mpsc::channel();
    let (done, was_done) = mpsc::channel();
    let was_done = Mutex::new(was_done);
    let fake = Fake::http(move |_| {
        asked.send(()).unwrap();
        was_done.lock().unwrap().recv().unwrap();
        (200, inspect("aaaa", "web", "running", 4711))
    });
    let elsewhere = Fake::http(|_| (404, r#"{"message":"No such container"}"#.into()));
    for fakes in [vec![&fake], vec![&fake, &elsewhere]] {
        let meanwhile = || {
            was_asked.recv_timeout(LONG).unwrap();
            done.send(()).unwrap();
        };
        let query = docker(&fakes, LONG);
        let answer = snorkel_engines::lookup_meanwhile(&query, &"web".parse().unwrap(), meanwhile);
        assert_eq!((names(&answer.containers), answer.warnings), (vec!["docker:web".to_owned()], vec![]));
    }
}

#[test]
fn what_is_not_found_is_answered_with_everything_to_suggest_from() {
    let fake = well();
    let spec = "docker:wbe".parse().unwrap();
    let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &spec);
    let error = snorkel_engines::select(&spec, &answer.containers).unwrap_err();
    assert_eq!(error.to_string(), "no target 'docker:wbe'; did you mean docker:web?");
}

#[test]
fn a_stopped_container_is_looked_up_with_the_words_of_the_list() {
    let fake = well();
    let spec = "old".parse().unwrap();
    let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &spec);
    let error = snorkel_engines::select(&spec, &answer.containers).unwrap_err();
    assert_eq!(error.to_string(), "docker:old is not running: Exited (137) 3 minutes ago");
}

#[test]
fn an_ambiguous_prefix_is_answered_with_both() {
    let two = r#"[{"Id":"abc1","Names":["/one"],"State":"running"},{"Id":"abc2","Names":["/two"],"State":"running"}]"#;
    let fake = Fake::http(move |target| match target {
        "/containers/abc/json" => {
            (400, r#"{"message":"multiple IDs found with provided prefix: abc"}"#.into())
        }
        "/containers/abc1/json" => (200, inspect("abc1", "one", "running", 1)),
        "/containers/abc2/json" => (200, inspect("abc2", "two", "running", 2)),
        _ => (200, two.into()),
    });
    let spec = "abc".parse().unwrap();
    let answer = snorkel_engines::lookup(&docker(&[&fake], LONG), &spec);
    let error = snorkel_engines::select(&spec, &answer.containers).unwrap_err();
    assert_eq!(error.to_string(), "'abc' is ambiguous: docker:one, docker:two");
}

#[test]
fn a_hanging_engine_does_not_stop_anothers_answer() {
    // It reads the request and never says anything; the connection stays open.
    let hanging = Fake::new(|stream| requests(stream, |_, _| true));
    let fake = well();
    let answer = snorkel_engines::list(&docker(&[&hanging, &fake], SHORT));
    assert_eq!(names(&answer.containers), ["docker:old", "docker:web"]);
    assert_eq!(answer.warnings.len(), 1);
    assert_eq!(answer.warnings[0].socket.as_deref(), Some(hanging.path.as_path()));
    assert!(answer.warnings[0].what.contains("did not answer within 0.3 s"), "{}", answer.warnings[0]);
}

#[test]
fn what_came_before_a_time_out_is_kept() {
    let fake = Fake::new(|stream| {
        requests(stream, |target, out| {
            // The list is answered, the inspect never.
            if target.starts_with("/containers/json") {
                let _ = write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{LIST}", LIST.len());
            }
            true
        });
    });
    let answer = snorkel_engines::list(&docker(&[&fake], SHORT));
    assert_eq!(names(&answer.containers), ["docker:old"]);
    assert_eq!(answer.warnings.len(), 1);
}

#[test]
fn garbage_failure_and_a_broken_answer_are_warnings() {
    assert!(only_warning(&Fake::saying(b"\0\x1b[31mSSH-2.0\r\n\r\n"), LONG).contains("not of its protocol"));
    assert!(
        only_warning(&Fake::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[{\"Id\":"), LONG)
            .contains("broke off")
    );
    assert!(only_warning(&Fake::saying(b""), LONG).contains("broke off"));
    assert!(
        only_warning(&Fake::http(|_| (200, "{\"not\":\"a list\"}".into())), LONG)
            .contains("cannot make sense")
    );
    let failing = Fake::http(|_| (500, "{\"message\":\"disk \\u001b[31m full\\nreally\"}".into()));
    let warning = only_warning(&failing, LONG);
    assert!(warning.contains("HTTP 500: disk \\u{1b}[31m full\\nreally"), "{warning}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let endless = Fake::new(|stream| {
        requests(stream, |_, out| {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [b' '; 65536];
            loop {
                let sent = out
                    .write_all(b"10000\r\n")
                    .and_then(|()| out.write_all(&chunk))
                    .and_then(|()| out.write_all(b"\r\n"));
                if sent.is_err() {
                    return false;
                }
            }
        });
    });
    assert!(only_warning(&endless, LONG).contains("longer than"));
    let announced = Fake::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[");
    assert!(only_warning(&announced, LONG).contains("longer than"));
    let headers = Fake::new(|stream| {
        requests(stream, |_, out| {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\n");
            while out.write_all(b"X-Header: and another one, which nobody asked for\r\n").is_ok() {}
            false
        });
    });
    assert!(only_warning(&headers, LONG).contains("not of its protocol"));
}

#[test]
fn an_empty_answer_costs_one_container_and_not_those_behind_it() {
    const THREE: &str =
        r#"[{"Id":"a","State":"running"},{"Id":"b","State":"running"},{"Id":"c","State":"running"}]"#;
    let fake = Fake::http(|target| match target {
        t if t.starts_with("/containers/json") => (200, THREE.into()),
        "/containers/a/json" => (200, String::new()),
        other => {
            let id = other.split('/').nth(2).unwrap();
            (200, inspect(id, id, "running", 4711))
        }
    });
    let answer = snorkel_engines::list(&docker(&[&fake], LONG));
    let pids: Vec<bool> = answer.containers.iter().map(|container| container.pid.is_some()).collect();
    assert_eq!(pids, [false, true, true], "{answer:?}");
    assert_eq!(answer.warnings.len(), 1, "{answer:?}");
}

#[test]
fn a_container_that_vanishes_in_between_is_no_error() {
    let fake = Fake::http(|target| {
        if target.starts_with("/containers/json") { (200, LIST.into()) } else { (404, "{}".into()) }
    });
    let answer = snorkel_engines::list(&docker(&[&fake], LONG));
    assert_eq!(answer.warnings, []);
    assert_eq!(names(&answer.containers), ["docker:old"]);
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    let fake = Fake::saying(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[{\"Id\":\"cccc\",\"Names\":[\"/a\\u0007b\"],\"State\":\"exited\",\"Labels\":{\"k\":\"\xff\xfe\"}}]");
    let answer = snorkel_engines::list(&docker(&[&fake], LONG));
    assert_eq!(answer.warnings, []);
    assert_eq!(answer.containers[0].names, ["a\u{7}b"]);
    assert_eq!(answer.containers[0].labels["k"], "\u{fffd}\u{fffd}");
}

#[test]
fn labels_narrow_the_answer() {
    let fake = well();
    let labels = vec!["tier=front".parse().unwrap()];
    let answer = snorkel_engines::list(&Query { labels, ..docker(&[&fake], LONG) });
    assert_eq!(names(&answer.containers), ["docker:web"]);
}

#[test]
fn a_dead_socket_is_a_warning_and_a_missing_one_is_silence() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let ask = |path: &Path| {
        let mut query = docker(&[], LONG);
        query.endpoints.docker = vec![Endpoint::new(path)];
        query.endpoints.containerd = vec![Endpoint::new(path)];
        query.endpoints.podman = vec![Endpoint::new(path)];
        query.endpoints.cri = vec![Endpoint::new(path)];
        snorkel_engines::list(&query)
    };
    let answer = ask(&dead);
    assert_eq!(answer.warnings.len(), 4);
    for warning in &answer.warnings {
        assert!(warning.what.contains("refused"), "{warning}");
        assert!(warning.remedy.as_ref().is_some_and(|r| r.contains("nobody listens")), "{warning}");
    }
    assert_eq!(ask(&dir.path().join("missing.sock")), snorkel_engines::Answer::default());
}

#[test]
fn a_socket_that_speaks_no_grpc_is_a_warning_of_containerd_and_cri() {
    for fake in [Fake::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Fake::new(drop)] {
        let mut query = docker(&[], LONG);
        query.endpoints.containerd = vec![fake.endpoint()];
        query.endpoints.cri = vec![fake.endpoint()];
        let answer = snorkel_engines::list(&query);
        assert!(answer.containers.is_empty());
        let engines: Vec<Engine> = answer.warnings.iter().map(|w| w.engine).collect();
        assert_eq!(engines, [Engine::Containerd, Engine::Cri], "{answer:?}");
    }
}

#[test]
fn a_silent_grpc_socket_times_out() {
    let silent = Fake::new(|stream| requests(stream, |_, _| true));
    let mut query = docker(&[], SHORT);
    query.endpoints.containerd = vec![silent.endpoint()];
    let answer = snorkel_engines::list(&query);
    assert!(answer.warnings[0].what.contains("did not answer within"), "{answer:?}");
}

#[test]
fn a_container_is_checked_again_by_its_id() {
    let fake = well();
    let query = docker(&[&fake], LONG);
    let web = snorkel_engines::list(&query).containers.pop().unwrap();
    let again = snorkel_engines::recheck(&query, &web).unwrap().unwrap();
    assert_eq!((again.id.as_str(), again.pid, again.state), ("aaaa", web.pid, State::Running));
    let gone = Container { id: "dddd".into(), ..web };
    assert_eq!(snorkel_engines::recheck(&query, &gone).unwrap(), None);
}

#[test]
fn a_pod_of_podmans_comes_before_the_start_of_an_id_though_podman_tells_of_it_in_its_list_only() {
    let id = format!("abc{}", "0".repeat(61));
    let of_docker = id.clone();
    let docker_fake = Fake::http(move |target| match target {
        "/containers/abc/json" => (200, inspect(&of_docker, "web", "running", 4711)),
        _ => (404, r#"{"message":"No such container"}"#.into()),
    });
    let podman = Fake::http(|target| {
        match target {
        t if t.ends_with("/libpod/containers/json?all=true") => (
            200,
            r#"[{"Id":"ffff","Names":["infra"],"Pid":4712,"State":"running","PodName":"abc","IsInfra":true}]"#.into(),
        ),
        _ => (404, r#"{"message":"No such container"}"#.into()),
    }
    });
    let mut query = docker(&[&docker_fake], LONG);
    query.endpoints.podman = vec![podman.endpoint()];
    let spec = "abc".parse().unwrap();
    let answer = snorkel_engines::lookup(&query, &spec);
    assert_eq!(snorkel_engines::select(&spec, &answer.containers).unwrap().qualified(), "podman:infra");
    // By more of its id the container is meant.
    let spec = id.parse().unwrap();
    assert!(snorkel_engines::select(&spec, &answer.containers).is_ok_and(|found| found.id == id));
}

#[test]
fn names_out_of_a_shell_script_cannot_leave_their_place_in_the_request() {
    let (tell, told) = mpsc::channel();
    let fake = Fake::http(move |target| {
        let _ = tell.send(target.to_owned());
        (404, "{}".into())
    });
    let spec = "docker:x?all=1&y #z\r\nHost: evil".parse().unwrap();
    snorkel_engines::lookup(&docker(&[&fake], LONG), &spec);
    assert_eq!(told.recv().unwrap(), "/containers/x%3Fall%3D1%26y%20%23z%0D%0AHost%3A%20evil/json");
}

/// A watch that sends every change to a channel.
fn watched(query: &Query) -> (Watch, mpsc::Receiver<Engine>) {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let watch = snorkel_engines::watch(query, move |engine| {
        let _ = tell.lock().unwrap().send(engine);
    });
    (watch, told)
}

#[test]
fn an_event_of_an_engine_is_news() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let fake = Fake::new(move |stream| {
        requests(stream, |target, out| {
            assert!(target.starts_with("/events"), "{target}");
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while gone.lock().unwrap().recv().is_ok() {
                let _ = out.write_all(b"3\r\n{}\n\r\n");
            }
            true
        });
    });
    let (watch, told) = watched(&docker(&[&fake], LONG));
    assert_eq!(told.recv_timeout(LONG), Ok(Engine::Docker), "the stream stands");
    go.send(()).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(Engine::Docker), "an event");
    drop(watch);
    assert!(told.recv_timeout(LONG).is_err(), "the watch has stopped");
}

#[test]
fn an_engine_that_comes_later_and_one_that_comes_back_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/down/engine.sock");
    let mut query = docker(&[], LONG);
    query.endpoints.docker = vec![Endpoint::new(&path)];
    let (_watch, told) = watched(&query);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for _ in 0..2 {
        let listener = UnixListener::bind(&path).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // An answer before the request would be no HTTP.
        requests(stream.try_clone().unwrap(), |_, _| false);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(Engine::Docker), "the stream stands");
        std::fs::remove_file(&path).unwrap();
        drop((stream, listener));
        assert_eq!(told.recv_timeout(LONG), Ok(Engine::Docker), "the engine went away");
    }
}

#[test]
fn machines_that_come_are_news() {
    let dir = tempfile::tempdir().unwrap();
    let mut query = docker(&[], LONG);
    let machines = dir.path().join("machines");
    query.endpoints.nspawn =
        Some(NspawnPlaces { machines, used: dir.path().join("used"), images: Vec::new() });
    let (_watch, told) = watched(&query);
    std::fs::create_dir(dir.path().join("machines")).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(Engine::Nspawn));
    std::fs::write(dir.path().join("machines/web"), "CLASS=container\n").unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(Engine::Nspawn));
}

#[test]
fn a_container_is_not_gone_because_its_engine_is_unwell() {
    let fake = well();
    let query = docker(&[&fake], LONG);
    let web = snorkel_engines::list(&query).containers.pop().unwrap();
    let unwell = Fake::http(|_| (500, r#"{"message":"out of order"}"#.into()));
    for engine in [Engine::Docker, Engine::Podman, Engine::Containerd, Engine::Cri] {
        let container = Container { engine, socket: Some(unwell.path.clone()), ..web.clone() };
        assert!(snorkel_engines::recheck(&query, &container).is_err(), "{engine}");
    }
}
