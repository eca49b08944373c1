//! What the tests of the binary share: running it, and looking at what it leaves.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

pub(crate) mod fake;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use snorkel_lab::{LabSpec, Scoped};

pub(crate) const SNORKEL: &str = env!("CARGO_BIN_EXE_snorkel");

/// `snorkel` with these words, as a user types them. No engine of this machine is asked: only labs are wanted here.
pub(crate) fn snorkel<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(SNORKEL);
    command.args(words).env_remove("SUDO_UID").env_remove("NO_COLOR");
    command
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: i32,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        }
    }
}

/// Nothing that a test waits for takes this long, on any machine: what is not there by then will not come.
pub(crate) const LONGEST: Duration = Duration::from_secs(120);

/// Kills a child that outlives [`LONGEST`], so that a test that waits for it fails and does not hang; until dropped.
pub(crate) struct Limit(#[expect(dead_code, reason = "its end is the sign")] Sender<()>);

impl Limit {
    #[track_caller]
    pub(crate) fn on(child: &Child) -> Limit {
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has a PID");
        let child = pidfd_open(pid, PidfdFlags::empty()).expect("the child can be opened");
        let (alive, end) = mpsc::channel();
        std::thread::spawn(move || {
            if end.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                let _ = pidfd_send_signal(&child, Signal::KILL);
            }
        });
        Limit(alive)
    }
}

/// Runs it to its end.
#[track_caller]
pub(crate) fn run<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Ran {
    snorkel(words).output().expect("the binary under test can be run").into()
}

/// Runs it to its end, which must be a good one; gives what it printed.
#[track_caller]
pub(crate) fn good<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    let ran = run(words);
    assert_eq!(ran.status, 0, "{ran:?}");
    ran.stdout
}

/// A lab whose holder is the binary under test; gone at the end of the test.
#[track_caller]
pub(crate) fn lab(spec: LabSpec) -> Scoped {
    let spec = LabSpec { holder_exe: Some(PathBuf::from(SNORKEL)), ..spec };
    Scoped::up(spec).expect("a lab can be made; this needs root")
}

/// A node's target: `lab:NAME/node`.
pub(crate) fn target(lab: &Scoped, node: &str) -> String {
    format!("lab:{}/{node}", lab.name)
}

/// Everything below a directory: path, kind, mode, content.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            use std::os::unix::fs::MetadataExt;
            let what = if meta.is_dir() {
                dirs.push(path.clone());
                format!("dir {:o}", meta.mode())
            } else if meta.is_symlink() {
                format!("link {:?}", fs::read_link(&path))
            } else {
                format!("file {:o} {} {:?}", meta.mode(), meta.ino(), fs::read(&path))
            };
            seen.insert(path, what);
        }
    }
    seen
}

/// What must not change by anything that is done here: the host's /etc, mounts and links.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    etc: BTreeMap<PathBuf, String>,
    mounts: String,
    links: Vec<PathBuf>,
}

impl Host {
    /// As it is now.
    pub(crate) fn now() -> Host {
        let mut links: Vec<PathBuf> = fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        links.sort();
        Host {
            etc: tree(Path::new("/etc")),
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("the mount table can be read"),
            links,
        }
    }

    /// Fails with what differs.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self) {
        let now = Host::now();
        for (path, what) in &self.etc {
            assert_eq!(Some(what), now.etc.get(path), "{} has changed", path.display());
        }
        assert_eq!(self.etc.len(), now.etc.len(), "a file has come into /etc");
        assert_eq!(self.mounts, now.mounts);
        assert_eq!(self.links, now.links);
    }
}

/// The processes with this variable in their environment.
pub(crate) fn with_variable(variable: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|word| word == variable.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// A new FIFO in this folder.
pub(crate) fn fifo(dir: &Path) -> PathBuf {
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fifo
}

/// Waits for what must come, and fails where it does not come for long.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "{what}: it did not come");
        std::thread::yield_now();
    }
}

/// What does not happen within this time does not happen.
pub(crate) const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// How a child ended; nothing if it goes on for long, and then it is killed.
pub(crate) fn end_of(child: &mut std::process::Child) -> Option<std::process::ExitStatus> {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a child has a number");
    let ends =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it was not reaped");
    let patience = rustix::event::Timespec { tv_sec: LONG.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ended = [rustix::event::PollFd::new(&ends, rustix::event::PollFlags::IN)];
    let in_time = rustix::event::poll(&mut ended, Some(&patience)).is_ok_and(|ready| ready > 0);
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().expect("a child can be waited for");
    in_time.then_some(status)
}
