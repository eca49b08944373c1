//! Engines that lie, hang or break, processes that end, users without rights: a clear word, never a wrong container.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;
#[path = "faults/rights.rs"]
mod rights;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use common::fake::{Answer, Fake, ID, http};
use common::{LONG, Ran, end_of, lab, run, snorkel, target, wait_until, with_variable};
use snorkel_lab::LabSpec;

/// A Docker that knows one container, `web`, and says that it is this process.
fn docker_with(pid: impl Fn(u32) -> u32 + Send + 'static) -> Fake {
    let asked = std::sync::atomic::AtomicU32::new(0);
    Fake::new(move |path| {
        let container = |pid: u32| {
            format!(
                r#"{{"Id":"{ID}","Name":"/web","State":{{"Status":"running","Running":true,"Pid":{pid}}},"Config":{{"Labels":{{}}}},"HostConfig":{{"NetworkMode":"bridge"}}}}"#
            )
        };
        Some(if path.contains("/containers/json") {
            http(
                "200 OK",
                &format!(
                    r#"[{{"Id":"{ID}","Names":["/web"],"State":"running","Status":"Up 2 hours","Labels":{{}}}}]"#
                ),
            )
        } else if path.contains("/containers/web/") || path.contains(ID) {
            let time = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            http("200 OK", &container(pid(time)))
        } else {
            http("404 Not Found", r#"{"message":"No such container"}"#)
        })
    })
}

/// A process that ends when it is dropped.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_the_engine_does_not_confirm_is_not_entered() {
    // The PID was the container's when it was asked for; by the time it is opened it is somebody else's.
    let stranger = Bystander::new();
    let (first, second) = (stranger.0.id(), std::process::id());
    let docker = docker_with(move |time| if time == 0 { first } else { second });
    let ran = docker.run(&["exec", "docker:web", "--", "echo", "entered"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (125, ""), "{ran:?}");
    assert!(ran.stderr.contains(&format!("process {first} does not belong to docker:web")), "{ran:?}");
}

#[test]
fn a_listing_shows_no_container_with_a_process_that_is_not_its_own() {
    // Before its listing is taken the engine names a process of the lab's; asked again, another.
    let lab = lab(LabSpec::default());
    let (web, stranger) = (lab.node("web").unwrap().pid.unwrap().get().cast_unsigned(), Bystander::new());
    let other = stranger.0.id();
    for (first, second, why) in
        [(web, web, format!("it is that of {}", target(&lab, "web"))), (other, web, "asked again".to_owned())]
    {
        let docker = docker_with(move |time| if time == 0 { first } else { second });
        let ran = docker.run(&["ls", "--json"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let snapshot: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let fake =
            snapshot["targets"].as_array().unwrap().iter().find(|t| t["name"] == "docker:web").unwrap();
        assert!(fake["netns"].is_null(), "{fake:#}");
        assert!(!ran.stdout.contains(r#""of": "docker:web""#), "{ran:?}");
        assert!(ran.stderr.contains(&format!("process {first} does not belong to docker:web")), "{ran:?}");
        assert!(ran.stderr.contains(&why), "{ran:?}");
    }
}

#[test]
fn an_engine_that_repeats_an_old_record_for_ever_is_not_believed() {
    // The container started an hour ago; who has its number now came just now.
    let stranger = Bystander::new();
    let pid = stranger.0.id();
    let docker = Fake::new(move |path| {
        let state = format!(
            r#""State":{{"Status":"running","Running":true,"Pid":{pid},"StartedAt":"2024-02-29T12:00:00.5Z"}}"#
        );
        Some(if path.contains("/containers/web/") || path.contains(ID) {
            http(
                "200 OK",
                &format!(r#"{{"Id":"{ID}","Name":"/web",{state},"Config":{{}},"HostConfig":{{}}}}"#),
            )
        } else {
            http("404 Not Found", r#"{"message":"No such container"}"#)
        })
    });
    let ran = docker.run(&["exec", "docker:web", "--", "echo", "entered"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (125, ""), "{ran:?}");
    assert!(ran.stderr.contains("s after the container was; nothing was entered"), "{ran:?}");
}

#[test]
fn a_container_whose_process_has_ended_and_was_not_reaped_has_ended() {
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    bystander.0.kill().unwrap();
    let process = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let ends = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(process), ends).unwrap();
    let docker = docker_with(move |_| pid);
    let ran = docker.run(&["exec", "docker:web", "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    let only = format!("snorkel: docker:web ended while it was being looked up: process {pid} is gone\n");
    assert_eq!(ran.stderr, only);
}

#[test]
fn a_process_outside_the_containers_cgroup_is_entered_only_if_the_engine_says_so_twice() {
    let process = Bystander::new();
    let pid = process.0.id();
    let docker = docker_with(move |_| pid);
    let ran = docker.run(&["exec", "docker:web", "--", "echo", "entered"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "entered\n"), "{ran:?}");
}

#[test]
fn a_container_that_ended_between_look_up_and_entry_is_said_to_have_ended() {
    let mut process = Bystander::new();
    let pid = process.0.id();
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let docker = docker_with(move |_| pid);
    let ran = docker.run(&["exec", "docker:web", "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("docker:web ended while it was being looked up"), "{ran:?}");
    let ran = docker.run(&["ls"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains(&format!("process {pid} is gone")), "{ran:?}");
}

#[test]
fn a_broken_engine_is_named_and_the_others_still_answer() {
    let lab = lab(LabSpec::default());
    let web = target(&lab, "web");
    let cases: [(&str, Answer, &str); 5] = [
        ("garbage", |_| Some(b"\x00\xffgarbage\r\n\r\n".to_vec()), "docker"),
        (
            "HTTP 500",
            |_| Some(http("500 Internal Server Error", r#"{"message":"the disk is on fire"}"#)),
            "the disk is on fire",
        ),
        ("no JSON", |_| Some(http("200 OK", "<html>")), "docker"),
        ("half an answer", |_| Some(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{".to_vec()), "docker"),
        ("silence", |_| None, "docker"),
    ];
    for (what, answer, word) in cases {
        let docker = Fake::new(answer);
        let ran = docker.run(&["--timeout", "300ms", "ls", "-q"]);
        assert_eq!(ran.status, 0, "{what}: {ran:?}");
        assert!(ran.stdout.lines().any(|line| line == web), "{what}: {ran:?}");
        let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("docker.sock")).collect();
        assert!(
            !warnings.is_empty() && warnings.iter().all(|w| w.starts_with("snorkel: warning: ")),
            "{what}: {ran:?}"
        );
        assert!(ran.stderr.contains(word), "{what}: {ran:?}");
        // A target of another engine is entered all the same.
        let ran = docker.run(&["--timeout", "300ms", "exec", &web, "--", "hostname"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (0, "web\n"), "{what}: {ran:?}");
    }
}

#[test]
fn a_dead_socket_is_a_warning_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    drop(UnixListener::bind(&path).unwrap());
    let ran: Ran =
        snorkel(["ls"]).env("DOCKER_HOST", format!("unix://{}", path.display())).output().unwrap().into();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("docker.sock") && !ran.stderr.contains("panic"), "{ran:?}");
}

#[test]
fn a_socket_that_the_environment_names_and_that_is_not_there_is_told_of() {
    for (variable, engine) in [("DOCKER_HOST", "docker"), ("CONTAINER_HOST", "podman")] {
        let with = |words: &[&str]| -> Ran {
            snorkel(words).env(variable, "unix:///nonexistent/engine.sock").output().unwrap().into()
        };
        let ran = with(&["ls", "--engine", engine]);
        assert!(ran.stderr.contains("/nonexistent/engine.sock") && ran.stderr.contains(variable), "{ran:?}");
        let ran = with(&["exec", &format!("{engine}:web"), "--", "true"]);
        assert!(ran.status == 125 && ran.stderr.contains("could not be asked"), "{ran:?}");
    }
}

#[test]
fn each_by_label_is_no_success_where_an_engine_did_not_tell_what_it_has() {
    // Whatever else this machine runs has no such label.
    let process = Bystander::new();
    let pid = process.0.id();
    let docker = Fake::new(move |path| {
        let state = format!(r#""State":{{"Status":"running","Running":true,"Pid":{pid}}}"#);
        Some(if path.contains("/containers/json") {
            let list = format!(
                r#"[{{"Id":"{ID}","Names":["/web"],"State":"running","Status":"Up","Labels":{{"left-out":"1"}}}}]"#
            );
            http("200 OK", &list)
        } else {
            let config = r#""Config":{"Labels":{"left-out":"1"}},"HostConfig":{}"#;
            http("200 OK", &format!(r#"{{"Id":"{ID}","Name":"/web",{state},{config}}}"#))
        })
    });
    for (podman, status) in [("unix:///nonexistent/podman.sock", 1), ("", 0)] {
        let ran: Ran = snorkel(["exec", "--each", "-l", "left-out=1", "--", "echo", "entered"])
            .env("DOCKER_HOST", docker.host())
            .env("CONTAINER_HOST", podman)
            .output()
            .unwrap()
            .into();
        assert_eq!((ran.status, ran.stdout.as_str()), (status, "docker:web | entered\n"), "{ran:?}");
    }
}

#[test]
fn names_with_shell_syntax_and_control_characters_stay_names() {
    let process = Bystander::new();
    let pid = process.0.id();
    let evil = r#"$(touch /tmp/snorkel-pwned);`id`\u001b[2J\u202e'"#;
    let docker = Fake::new(move |path| {
        let state = format!(r#""State":{{"Status":"running","Running":true,"Pid":{pid}}}"#);
        Some(if path.contains("/containers/json") {
            http(
                "200 OK",
                &format!(
                    r#"[{{"Id":"{ID}","Names":["/{evil}"],"State":"running","Status":"Up","Labels":{{"a\u001b[2J":"\ud800"}}}}]"#
                ),
            )
        } else {
            http(
                "200 OK",
                &format!(r#"{{"Id":"{ID}","Name":"/{evil}",{state},"Config":{{}},"HostConfig":{{}}}}"#),
            )
        })
    });
    let _ = std::fs::remove_file("/tmp/snorkel-pwned");
    for words in [
        &["ls"][..],
        &["ls", "-q"],
        &["ls", "--wide"],
        &["exec", "--dry-run", ID, "--", "true"],
        &["exec", ID, "--", "sh", "-c", "echo $SNORKEL_TARGET"],
    ] {
        let ran = docker.run(words);
        let printed = if words[0] == "exec" && words[1] == ID { String::new() } else { ran.stdout.clone() };
        assert!(!printed.contains('\u{1b}') && !printed.contains('\u{202e}'), "{words:?}: {ran:?}");
        assert!(!ran.stderr.contains('\u{1b}'), "{words:?}: {ran:?}");
    }
    assert!(!std::path::Path::new("/tmp/snorkel-pwned").exists());
}

#[test]
fn sigint_ends_it_at_once_while_an_engine_hangs() {
    use std::os::unix::process::ExitStatusExt;
    let (asked, was_asked) = std::sync::mpsc::channel();
    let docker = Fake::new(move |_| {
        let _ = asked.send(());
        None
    });
    for words in [&["ls"][..], &["which", "lo"], &["exec", "docker:web", "--", "true"], &["ls", "--watch"]] {
        let mut child = snorkel(["--timeout", "1h"].iter().chain(words))
            .env("DOCKER_HOST", docker.host())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        was_asked.recv_timeout(LONG).unwrap();
        // SAFETY: signals a child of this test that has not been reaped.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
        let status = end_of(&mut child).unwrap_or_else(|| panic!("{words:?} goes on after SIGINT"));
        assert_eq!(status.signal(), Some(libc::SIGINT), "{words:?}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_answered_with_what_to_type() {
    for (words, status, word) in [
        (&["lss"][..], 125, "snorkel ls"),
        (&["ls", "--engine", "dokcer"], 2, "docker"),
        (&["which"], 2, "snorkel: the following required arguments"),
        (&["which", "--jsn", "lo"], 2, "snorkel: unexpected argument"),
        (&["--timeout", "soon", "ls"], 2, "timeout"),
        (&["exec", "--ns", "mnt", "x", "--", "y"], 125, "host's tools"),
        (&["exec", "--each", "x"], 125, "needs a command"),
        (&["exec", "pid:x", "--", "true"], 125, "pid"),
        (&["lab", "down", "no-such-lab"], 1, "snorkel lab ls"),
        (&["completions", "tcsh"], 2, "bash"),
        (&["man", "--dir", "/nonexistent"], 1, "cannot write manual pages into /nonexistent"),
        (&["which", "pid:1"], 1, "snorkel which 1"),
    ] {
        let ran = run(words);
        assert_eq!(ran.status, status, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(word) && !ran.stderr.contains("panic"), "{words:?}: {ran:?}");
        // Whoever finds the mistake, it is told alike.
        assert!(ran.stderr.starts_with("snorkel: "), "{words:?}: {ran:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_and_not_a_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = snorkel(["ls"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("cannot write to stdout: No space left") && !said.contains("panic"), "{said}");
}

/// A process whose /etc is a FUSE file system that nobody serves; it ends when it is dropped.
fn with_a_stalling_etc() -> Bystander {
    let script = "exec 9<>/dev/fuse && \
        mount -i -n -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other stalls /etc && \
        echo ready && read -r line";
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "a FUSE file system can be mounted; this needs root and /dev/fuse");
    Bystander(child)
}

#[test]
fn a_file_system_that_stalls_holds_up_neither_the_command_nor_who_reads_its_output() {
    let stalling = with_a_stalling_etc();
    let mark = format!("MARK=stall-{}", stalling.0.id());
    let pid = format!("pid:{}", stalling.0.id());
    let mut child = snorkel(["exec", &pid, "--", "echo", "hi"])
        .env("MARK", &mark[5..])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    // One was sent to look, found nobody there, and nobody was sent after it.
    let left = with_variable(&mark);
    assert!(left.len() <= 1, "{left:?}");
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).unwrap();
        stderr.read_to_string(&mut err).unwrap();
        done.send((out, err)).unwrap();
    });
    let (out, err) = ended.recv_timeout(std::time::Duration::from_secs(30)).expect("the output ends");
    assert_eq!(out, "hi\n");
    assert!(err.contains("/etc/resolv.conf") && err.contains("gave no answer"), "{err}");
    wait_until("the one that was sent to look ends", || with_variable(&mark).is_empty());
}

#[test]
fn each_waits_as_long_for_an_engine_as_it_is_told_and_asks_once() {
    let process = Bystander::new();
    let pid = process.0.id();
    let docker = docker_with(move |time| {
        // As a busy engine does; the time-out is what is tested.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        if time < 2 { pid } else { 0 }
    });
    let ran = docker.run(&["--timeout", "20s", "exec", "--each", "docker:web", "--", "echo", "entered"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "docker:web | entered\n"), "{ran:?}");
}
