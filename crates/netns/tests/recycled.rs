//! A PID that really goes to another process, in a pid namespace of the test's own. Needs root and unshare(1).

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::process::{Child, Command};

use snorkel_netns::{Error, Pid, Process};

const INSIDE: &str = "SNORKEL_TEST_INSIDE";

#[test]
fn a_recycled_pid_is_not_the_process_that_was_opened() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let this = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(this)
        .args(["--exact", "a_recycled_pid_is_not_the_process_that_was_opened"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare is there");
    assert!(status.success(), "inside the pid namespace it failed ({status}); this needs root");
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn inside() {
    let first = sleeper();
    let number = first.id();
    let opened = Process::open(Pid::new(number.cast_signed()).unwrap()).unwrap();
    let netns = opened.netns().unwrap().inode();
    end(first);

    // The next process gets the number after this one (proc_sys_kernel(5), ns_last_pid).
    fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
    let second = sleeper();
    assert_eq!(second.id(), number, "the number was not used again");
    assert!(fs::exists(format!("/proc/{number}/ns/net")).unwrap());

    for result in [
        opened.check_alive(),
        opened.netns().map(drop),
        opened.root().map(drop),
        opened.read("cgroup").map(drop),
    ] {
        assert!(matches!(result, Err(Error::Gone(_))), "{result:?}");
    }
    // Opened now it is another process, in the same namespace by chance.
    assert_eq!(Process::open(opened.pid()).unwrap().netns().unwrap().inode(), netns);
    end(second);
}
