//! Users without rights, and root without some: what is missing is said, and the rest works.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Bystander;
use super::common::fake::Fake;
use super::common::{Ran, SNORKEL, lab, snorkel, target};
use snorkel_lab::LabSpec;

/// The binary where everybody may execute it, and a run of it as nobody.
fn as_nobody(dir: &tempfile::TempDir, words: &[&str]) -> Ran {
    nobody(dir, words).output().unwrap().into()
}

fn nobody(dir: &tempfile::TempDir, words: &[&str]) -> Command {
    let copy: PathBuf = dir.path().join("snorkel");
    if !copy.exists() {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(SNORKEL, &copy).unwrap();
    }
    let mut command = Command::new(copy);
    command.args(words).uid(65534).gid(65534).env_remove("SUDO_UID");
    command
}

#[test]
fn without_root_one_line_says_what_is_missing_and_the_rest_still_works() {
    let lab = lab(LabSpec::default());
    let pid = lab.node("web").unwrap().pid.unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let ran = as_nobody(&dir, &["exec", &format!("pid:{pid}"), "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("CAP_SYS_ADMIN") && ran.stderr.contains("sudo"), "{ran:?}");
    assert!(ran.stderr.starts_with("snorkel: cannot ") && !ran.stderr.contains("warning"), "{ran:?}");
    // It is there, though nobody is told of it.
    let ran = as_nobody(&dir, &["exec", &target(&lab, "web"), "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("belongs to another user") && ran.stderr.contains("as root"), "{ran:?}");
    assert!(!ran.stderr.contains("no target"), "{ran:?}");
    let ran = as_nobody(&dir, &["lab", "ls"]);
    assert!(!ran.stdout.contains("no lab is up"), "{ran:?}");
    assert!(ran.stderr.starts_with("snorkel: warning: ") && ran.stderr.contains(&lab.name), "{ran:?}");
    let ran = as_nobody(&dir, &["ls", "--wide"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("CAP_SYS_PTRACE"), "{ran:?}");
    // However many sockets one may not open, that is one line.
    for words in [&["ls"][..], &["which", "lo"], &["exec", "no-such", "--", "true"]] {
        let sockets: Vec<_> = ["docker", "podman", "containerd"].map(|name| dir.path().join(name)).into();
        let closed: Vec<_> = sockets.iter().map(|path| UnixListener::bind(path).unwrap()).collect();
        for path in &sockets {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let of = |path: &PathBuf| format!("unix://{}", path.display());
        let mut command = nobody(&dir, words);
        command.env("DOCKER_HOST", of(&sockets[0])).env("CONTAINER_HOST", of(&sockets[1]));
        let ran: Ran = command.output().unwrap().into();
        let of_sockets = ran.stderr.lines().filter(|line| line.contains("want of rights")).count();
        assert_eq!(of_sockets, 1, "{words:?}: {ran:?}");
        assert!(!ran.stderr.contains("cannot connect"), "{words:?}: {ran:?}");
        drop(closed);
        sockets.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
    let ran = as_nobody(&dir, &["which", "lo"]);
    assert!(ran.stdout.contains("the host itself"), "{ran:?}");
    let ran = as_nobody(&dir, &["lab", "up", "of-nobody"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("CAP_SYS_ADMIN"), "{ran:?}");
    let ran = as_nobody(&dir, &["doctor"]);
    assert!(ran.status == 1 && ran.stdout.contains("MISSING"), "{ran:?}");
    assert_eq!(as_nobody(&dir, &["--version"]).status, 0);
}

/// A process of nobody's in a user and a network namespace of its own, and in the host's others.
fn in_namespaces_of_nobody() -> Bystander {
    let mut child = Command::new("unshare")
        .args(["-Urn", "sh", "-c", "echo ready; exec sleep 1000"])
        .uid(65534)
        .gid(65534)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "a user may make user namespaces");
    Bystander(child)
}

#[test]
fn without_root_what_one_has_made_oneself_is_entered_as_far_as_it_is_apart() {
    let own = in_namespaces_of_nobody();
    let dir = tempfile::tempdir().unwrap();
    let netns = std::fs::read_link(format!("/proc/{}/ns/net", own.0.id())).unwrap();
    let ran =
        as_nobody(&dir, &["exec", &format!("pid:{}", own.0.id()), "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!((ran.status, ran.stdout), (0, format!("{}\n", netns.display())), "{}", ran.stderr);
}

#[test]
fn root_without_the_right_to_join_is_told_which_right_it_is() {
    // Without it as well: else it may not even be looked at.
    let bounded = |command: &mut Command| {
        // SAFETY: one system call between fork and exec; CAP_SYS_ADMIN is 21 (linux/capability.h).
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_CAPBSET_DROP, 21, 0, 0, 0);
                Ok(())
            });
        }
    };
    let mut sleep = Command::new("sleep");
    bounded(sleep.arg("1000"));
    let process = Bystander(sleep.spawn().unwrap());
    let mut command = snorkel(["exec", &format!("pid:{}", process.0.id()), "--", "true"]);
    bounded(&mut command);
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("CAP_SYS_ADMIN") && !ran.stderr.contains("Invalid argument"), "{ran:?}");
}

#[test]
fn doctor_tells_a_socket_that_one_may_not_open_from_an_engine_that_is_gone() {
    let docker = Fake::new(|_| None);
    std::fs::set_permissions(docker.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = docker.dir.path().join("docker.sock");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = nobody(&dir, &["doctor", "--json"]);
    let ran: Ran = command.env("DOCKER_HOST", docker.host()).output().unwrap().into();
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let subject = format!("docker {}", socket.display());
    let finding = report["findings"].as_array().unwrap().iter().find(|f| f["subject"] == subject.as_str());
    let finding = finding.unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(finding["verdict"], "degraded", "{finding:#}");
    let remedy = finding["remedy"].as_str().unwrap();
    assert!(remedy.contains("run as root") && !remedy.contains("systemctl"), "{finding:#}");
}
