//! Containers of systemd-nspawn that machined was not told of (`--register=no`), or that run where there is no machined:
//! the process that holds one is root's and runs the program `systemd-nspawn`, and the container's first process is its
//! child (systemd-nspawn(1); proc_pid_stat(5)).

use std::fs;
use std::path::Path;

use snorkel_netns::{Pid, Process};

use crate::{Container, Engine, State};

/// Every container that is held by a process now.
pub(super) fn containers() -> Vec<Container> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::new));
    let all: Vec<Stat> =
        pids.filter_map(|pid| parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)).collect();
    let mut found: Vec<Container> = all
        .iter()
        .filter(|holder| holder.command == PROGRAM)
        .filter_map(|holder| {
            let is_first =
                |other: &&Stat| other.parent == holder.pid.get() && !is_nspawns_own(&other.command);
            let first = all.iter().filter(is_first).min_by_key(|other| other.pid)?;
            let holder = Process::open(holder.pid).ok()?;
            if !is_trusted(&holder) {
                return None;
            }
            let name = name_of(&holder)?;
            let mut container = Container {
                names: vec![name.clone()],
                state: State::Running,
                status: "running".into(),
                ..Container::new(Engine::Nspawn, name)
            };
            container.set_pid(i64::from(first.pid.get()));
            Some(container)
        })
        .collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

const PROGRAM: &str = "systemd-nspawn";

/// Children of the holder that are not the container: helpers, whose command is in parentheses, and the first process
/// before its program is started.
fn is_nspawns_own(command: &str) -> bool {
    command == PROGRAM || command.starts_with('(')
}

/// Any user can call a process of his `systemd-nspawn`. Root's are believed; and of those only the ones that run that
/// program, as far as whoever asks may look.
fn is_trusted(holder: &Process) -> bool {
    let status = holder.read("status").unwrap_or_default();
    let roots = status.lines().find_map(|line| line.strip_prefix("Uid:")).is_some_and(|ids| {
        let mut ids = ids.split_ascii_whitespace().peekable();
        ids.peek().is_some() && ids.all(|id| id == "0")
    });
    roots
        && match fs::read_link(holder.path("exe")) {
            Ok(exe) => exe.file_name().is_some_and(|name| name == PROGRAM),
            Err(e) => e.kind() == std::io::ErrorKind::PermissionDenied,
        }
}

/// The machine's name, as the command line says it; that of a unit says it too (`systemd-nspawn@.service`).
fn name_of(holder: &Process) -> Option<String> {
    let words = fs::read(holder.path("cmdline")).ok()?;
    let words: Vec<String> =
        words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    argument_name(&words)
}

/// `--machine`, else the last part of the directory or the image's file.
fn argument_name(words: &[String]) -> Option<String> {
    let value = |short: &str, long: &str| {
        words.iter().enumerate().find_map(|(place, word)| {
            if word == short || word == long {
                return words.get(place + 1).cloned();
            }
            let joined = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
            joined.or_else(|| word.strip_prefix(short)).filter(|v| !v.is_empty()).map(str::to_owned)
        })
    };
    let last = |path: String| Some(Path::new(&path).file_name()?.to_string_lossy().into_owned());
    let name = value("-M", "--machine").or_else(|| value("-D", "--directory").and_then(last)).or_else(|| {
        value("-i", "--image").and_then(last).map(|file| file.trim_end_matches(".raw").to_owned())
    });
    name.filter(|name| !name.is_empty())
}

/// What is read of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: Pid,
    parent: i32,
    command: String,
}

/// `4711 (command) S 1 …`; a command may hold parentheses and spaces itself.
fn parse_stat(pid: Pid, bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once('(')?;
    let (command, rest) = rest.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    Some(Stat { pid, parent, command: command.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_name_is_what_nspawn_would_take() {
        for (line, name) in [
            ("systemd-nspawn -D /srv/web", Some("web")),
            ("systemd-nspawn --directory=/srv/web --machine=shop", Some("shop")),
            ("systemd-nspawn --machine shop -D /srv/web /bin/sh", Some("shop")),
            ("systemd-nspawn -Mshop", Some("shop")),
            ("systemd-nspawn --image=/srv/disk.raw", Some("disk")),
            ("systemd-nspawn -D /", None),
            ("systemd-nspawn", None),
        ] {
            assert_eq!(argument_name(&words(line)).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn a_commands_own_parentheses_do_not_mislead() {
        let stat = parse_stat(Pid::own(), b"7 (a) S 1 (b) S 42 7 7").unwrap();
        assert_eq!((stat.parent, stat.command.as_str()), (42, "a) S 1 (b"));
    }

    #[test]
    fn a_process_that_only_calls_itself_so_is_not_believed() {
        // This test runs as root, but not as that program.
        assert!(!is_trusted(&Process::open(Pid::own()).unwrap()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in any::<String>()) {
            let _ = parse_stat(Pid::own(), &bytes);
            let _ = argument_name(&words(&text));
        }
    }
}
