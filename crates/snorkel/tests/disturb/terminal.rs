//! A fault in the foreground of a terminal: it ends with Ctrl-C, and with the terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::{LONGEST, Limit, SNORKEL, wait_until};
use crate::kit::Site;

/// A terminal with one program that has all of it, as a shell's job has.
struct Terminal {
    master: File,
    child: Child,
    _limit: Limit,
}

impl Terminal {
    /// Starts snorkel on a new terminal.
    fn start(words: &[&str]) -> Terminal {
        let master = master();
        // SAFETY: the request takes flags for an open, and gives a descriptor that nobody else has (ioctl_tty(2)).
        let slave = unsafe {
            let fd = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY);
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        // setsid makes a session of its own, which the terminal controls.
        let mut command = Command::new("setsid");
        command.args(["--ctty", SNORKEL]).args(words).env_remove("SUDO_UID");
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        Terminal { master, _limit: Limit::on(&child), child }
    }

    /// Reads until this is said.
    #[track_caller]
    fn wait_for(&mut self, word: &str) {
        let mut said = String::new();
        let patience = Timespec { tv_sec: LONGEST.as_secs().cast_signed(), tv_nsec: 0 };
        while !said.contains(word) {
            let mut bytes = [0; 4096];
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience)).unwrap();
            // With the last program that has the terminal there is an error.
            let length = if ready > 0 { self.master.read(&mut bytes).unwrap_or(0) } else { 0 };
            assert!(length > 0, "{word:?} was not said, but {said:?}");
            said.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }
}

/// A new terminal's side of whoever shows it.
fn master() -> File {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: these take a descriptor and flags; the descriptor is new, and nobody else's.
    unsafe {
        let fd = libc::posix_openpt(flags);
        assert!(fd >= 0 && libc::unlockpt(fd) == 0, "{}", std::io::Error::last_os_error());
        File::from_raw_fd(fd)
    }
}

#[test]
fn ctrl_c_on_a_terminal_heals_and_is_a_good_end() {
    let site = Site::new();
    for words in [&["impair", &site.client, "--delay", "150ms"][..], &["cut", &site.client]] {
        let mut terminal = Terminal::start(words);
        terminal.wait_for("is in force");
        assert!(!site.is_well(), "{words:?}");
        terminal.master.write_all(b"\x03").unwrap();
        terminal.wait_for("is healed");
        assert!(terminal.child.wait().unwrap().success(), "{words:?}");
        assert!(site.is_well(), "{words:?}");
        site.assert_unchanged();
    }
}

#[test]
fn the_end_of_the_terminal_heals() {
    let site = Site::new();
    for words in [&["impair", &site.client, "--delay", "150ms"][..], &["cut", &site.client]] {
        let mut terminal = Terminal::start(words);
        terminal.wait_for("is in force");
        assert!(!site.is_well(), "{words:?}");
        let Terminal { master, mut child, _limit } = terminal;
        drop(master);
        let status = child.wait().unwrap();
        assert!(status.success(), "{words:?}: {status}");
        wait_until("the network works again", || site.is_well());
        site.assert_unchanged();
    }
}
