//! Entering a container's namespaces with the host's tools: a list of steps, shown or taken.
//!
//! The steps that `--dry-run` prints are the very values that are executed, in the same order. There is no fork (but
//! for the pid namespace, which the kernel gives to children only, pid_namespaces(7)): the process itself moves and
//! then becomes the command, so that PID, signals, terminal and exit status are the command's own.
//!
//! The private mounts are the one step that may have been taken before there was a plan: it is the same for all.

mod child;
mod command;
mod cover;
mod guest;
mod names;
mod signals;
mod standin;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

pub use child::{Spawned, Tie, spawn};
pub use cover::{Covered, EtcFile, PrivateMounts, free_descriptor, is_hidden_with_sockets};
pub use guest::{Guest, Refused};
pub use names::{Dns, Names, Rejected, nsswitch_of_host};
pub use signals::{Signal, Signals, die_of};
pub use standin::Lack;

use crate::user::{self, User};
use crate::{Error, Netns, Process, Result, caps};

/// A kind of namespace that can be joined (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// User: joined by itself where that is the only way in (a rootless container of one's own).
    User,
    /// Network.
    Net,
    /// Host name.
    Uts,
    /// System V and POSIX message queues, shared memory.
    Ipc,
    /// Process ids; dangerous, see the command's help.
    Pid,
}

impl Kind {
    /// The word of the command line, which is also nsenter's long option and the file in /proc/PID/ns.
    pub fn word(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Net => "net",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Pid => "pid",
        }
    }

    fn flag(self) -> ThreadNameSpaceType {
        match self {
            Kind::User => ThreadNameSpaceType::USER,
            Kind::Net => ThreadNameSpaceType::NETWORK,
            Kind::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
            Kind::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
            Kind::Pid => ThreadNameSpaceType::PROCESS_ID,
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;
    fn from_str(word: &str) -> Result<Kind, String> {
        match word {
            "net" => Ok(Kind::Net),
            "uts" => Ok(Kind::Uts),
            "ipc" => Ok(Kind::Ipc),
            "pid" => Ok(Kind::Pid),
            "user" => Ok(Kind::User),
            "mnt" | "mount" => {
                Err("the mount namespace is not joined: the host's tools would be gone; the engine's own exec does that".into())
            }
            _ => Err(format!("no namespace '{word}' that can be joined; there are net, uts, ipc, pid, user")),
        }
    }
}

/// What is entered.
#[derive(Debug)]
pub enum Subject {
    /// The namespaces of a process.
    Process(Process),
    /// A network namespace alone, by the path that names it.
    Netns(Netns, PathBuf),
}

/// One thing that is done on the way in.
#[derive(Debug)]
pub enum Step {
    /// Join these namespaces of the subject.
    Join(Subject, Vec<Kind>),
    /// Take a private copy of the mount table.
    PrivateMounts,
    /// Lay these files over /etc.
    Etc(Vec<EtcFile>),
    /// Hide nscd's and systemd-resolved's sockets.
    MaskSockets,
    /// Mount a /sys that shows the container's network.
    Sys,
    /// Lay these files into a directory that only the command has, behind a descriptor of this number.
    StartUp(Vec<EtcFile>, i32),
    /// Go on as a child inside the joined process namespace.
    Fork,
    /// Make this the working directory.
    Directory(PathBuf),
    /// Become this user, keeping these capabilities as ambient ones.
    Become(User, Vec<u32>),
    /// Become the command.
    Exec {
        /// The command and its arguments.
        command: Vec<OsString>,
        /// Its whole environment.
        env: Vec<(OsString, OsString)>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Join(subject, kinds) => {
                let words: Vec<&str> = kinds.iter().map(|k| k.word()).collect();
                write!(
                    f,
                    "join the {} namespace{} of ",
                    words.join(", "),
                    if kinds.len() == 1 { "" } else { "s" }
                )?;
                match subject {
                    Subject::Process(process) => write!(f, "process {} (held by its pidfd)", process.pid()),
                    Subject::Netns(netns, path) => write!(f, "{} (net:[{}])", path.display(), netns.inode()),
                }
            }
            Step::PrivateMounts => {
                f.write_str("make a private mount namespace; the host's mounts stay as they are")
            }
            Step::Etc(files) => {
                f.write_str("overlay /etc with")?;
                files.iter().try_for_each(|file| write!(f, " {}", file.path.display()))
            }
            Step::MaskSockets => f.write_str("hide the sockets of nscd and systemd-resolved"),
            Step::StartUp(files, number) => {
                write!(f, "lay the shell's")?;
                files.iter().try_for_each(|file| write!(f, " {}", file.path.display()))?;
                write!(f, " into a directory of its own, behind descriptor {number}")
            }
            Step::Sys => {
                f.write_str("mount a /sys of this network; keep cgroup, bpf, debug and tracing below it")
            }
            Step::Fork => f.write_str("fork into the process namespace; mount its /proc"),
            Step::Directory(path) => write!(f, "change to {}", path.display()),
            Step::Become(user, keep) => {
                let name = user.name.clone().unwrap_or_default();
                write!(f, "become user {name}({}), groups {:?}", user.uid, user.groups)?;
                if !keep.is_empty() {
                    write!(f, ", keeping the capabilities {}", capability_words(keep))?;
                }
                Ok(())
            }
            Step::Exec { command, .. } => {
                f.write_str("execute")?;
                command.iter().try_for_each(|word| write!(f, " {}", shell_word(&word.to_string_lossy())))
            }
        }
    }
}

fn capability_words(keep: &[u32]) -> String {
    let words = keep.iter().map(|c| match *c {
        caps::number::NET_ADMIN => "NET_ADMIN".to_owned(),
        caps::number::NET_RAW => "NET_RAW".to_owned(),
        other => other.to_string(),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A word as it can be typed into a shell again.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        // ANSI-C quoting, which bash, zsh and ksh read: a control character must not reach the terminal.
        let body: String = word
            .chars()
            .map(|c| match c {
                '\'' | '\\' => format!("\\{c}"),
                c if c.is_control() => c.to_string().bytes().map(|b| format!("\\x{b:02x}")).collect(),
                c => c.to_string(),
            })
            .collect();
        return format!("$'{body}'");
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Takes the steps in order. Returns only if one of them fails; a warning that does not stop it goes to `warn`.
///
/// `ahead` is what came of [`PrivateMounts::make`] if it was tried already; it counts when it is that step's turn. The
/// command is killed when the one ends to whom it is tied.
pub fn enter(
    steps: Vec<Step>,
    mut ahead: Option<Result<PrivateMounts>>,
    mut tie: Option<Tie>,
    warn: &mut dyn FnMut(String),
) -> Result<Infallible> {
    let cwd = std::env::current_dir().ok();
    let mut in_userns = false;
    let mut mounts = None;
    let unfurnished =
        || Error::os("cover the host's files", io::Error::other("the mounts are the host's own"));
    for step in steps {
        tracing::info!("{step}");
        match step {
            Step::Join(subject, kinds) => {
                in_userns = kinds.contains(&Kind::User);
                join(&subject, &kinds)?;
            }
            Step::PrivateMounts => mounts = Some(ahead.take().unwrap_or_else(PrivateMounts::make)?),
            Step::Etc(files) => {
                let mounts = mounts.as_mut().ok_or_else(unfurnished)?;
                if let Covered::StandIn { why, lack } = cover::etc(mounts, &files, in_userns)? {
                    warn(stand_in(why, &lack));
                }
                stay_in(cwd.as_deref());
            }
            Step::MaskSockets => cover::mask_sockets(mounts.as_ref().ok_or_else(unfurnished)?)?,
            Step::StartUp(files, number) => cover::behind_descriptor(&files, number)?,
            Step::Sys => match cover::sys(mounts.as_ref().ok_or_else(unfurnished)?) {
                // "mount too revealing": a user namespace may not mount a sysfs where parts of the old are hidden.
                Err(e) if in_userns => warn(format!("/sys still shows the host's links: {e}")),
                done => {
                    done?;
                    stay_in(cwd.as_deref());
                }
            },
            Step::Fork => {
                tie = Some(child::fork_and_wait()?);
                cover::proc()?;
            }
            Step::Directory(path) => rustix::process::chdir(&path)
                .map_err(|e| Error::os(format!("change to {}", path.display()), e))?,
            Step::Become(user, keep) => user::become_user(&user, &keep)?,
            Step::Exec { command, env } => {
                // Becoming another user has undone it.
                tie.iter().for_each(Tie::fasten);
                command::restore_signals();
                return Err(command::exec(&command, &env));
            }
        }
    }
    Err(Error::os("enter", io::Error::other("the plan has no command")))
}

/// What is to be said where there is no overlay.
fn stand_in(why: rustix::io::Errno, lack: &Lack) -> String {
    let mut text = format!("no overlay on /etc ({why}): a tmpfs stands in for it");
    match lack.writable {
        None => text.push_str(", in which the host's other files can only be read"),
        Some(e) => text.push_str(&format!(
            "; what is written to other files than the container's reaches the host ({e})"
        )),
    }
    if !lack.missing.is_empty() {
        let names: Vec<_> = lack.missing.iter().map(|name| name.to_string_lossy()).collect();
        text.push_str(&format!("; it lacks {}", names.join(", ")));
    }
    text
}

/// Goes to the working directory once more by its path: below /etc or /sys the old one is the host's, uncovered.
fn stay_in(cwd: Option<&Path>) {
    let Some(cwd) = cwd.filter(|cwd| cwd.starts_with("/etc") || cwd.starts_with("/sys")) else { return };
    if rustix::process::chdir(cwd).is_err() {
        // Better at the root than in a directory whose files are still the host's.
        let _ = rustix::process::chdir("/");
    }
}

fn join(subject: &Subject, kinds: &[Kind]) -> Result<()> {
    match subject {
        Subject::Netns(netns, path) => {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| Error::os(format!("join the network namespace {}", path.display()), e))
        }
        Subject::Process(process) => {
            let all = kinds.iter().fold(ThreadNameSpaceType::empty(), |all, kind| all | kind.flag());
            let words: Vec<&str> = kinds.iter().map(|k| k.word()).collect();
            let what = format!("join the {} namespaces of process {}", words.join(", "), process.pid());
            match move_into_thread_name_spaces(process.as_fd(), all) {
                // setns(2) takes a pidfd since 5.8.
                Err(rustix::io::Errno::INVAL) => join_one_by_one(process, kinds),
                moved => moved.map_err(|e| Error::os(what, e)),
            }?;
            process.check_alive()
        }
    }
}

fn join_one_by_one(process: &Process, kinds: &[Kind]) -> Result<()> {
    let open = |kind: &Kind| {
        let path = process.path("ns").join(kind.word());
        std::fs::File::open(&path).map_err(|e| Error::os(format!("open {}", path.display()), e))
    };
    let files = kinds.iter().map(open).collect::<Result<Vec<_>>>()?;
    process.check_alive()?;
    for (kind, file) in kinds.iter().zip(&files) {
        move_into_link_name_space(file.as_fd(), None).map_err(|e| {
            Error::os(format!("join the {} namespace of process {}", kind.word(), process.pid()), e)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_typed_again() {
        assert_eq!(shell_word("ip"), "ip");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("\x1b[31m"), "$'\\x1b[31m'");
    }

    #[test]
    fn the_mount_namespace_is_refused_with_the_reason() {
        assert!("mnt".parse::<Kind>().unwrap_err().contains("host's tools"));
        assert!("nett".parse::<Kind>().unwrap_err().contains("net, uts, ipc"));
    }
}
