//! systemd-nspawn: the machines that systemd-machined knows, in `/run/systemd/machines`, one file of `KEY=value` each
//! (systemd, `src/machine/machine.c`, machine_save; sd-login reads the same files). Those that it was not told of are
//! found by the process that holds them ([`held`]), and those that do not run by their images, as `machinectl
//! list-images` shows them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use snorkel_netns::Pid;

use crate::asking::Sink;
use crate::fault::{Fault, Result};
use crate::{Container, Engine, NspawnPlaces, State};

/// The files have some three hundred bytes.
const LONGEST: u64 = 64 << 10;

mod held;

/// The containers that run, and those that could.
pub(crate) fn list(places: &NspawnPlaces, sink: &Sink) -> Result<()> {
    let mut running = registered(&places.machines, sink)?;
    if places.used.exists() {
        let known: Vec<Pid> = running.iter().filter_map(|c| c.pid).collect();
        running
            .extend(held::containers().into_iter().filter(|c| c.pid.is_none_or(|pid| !known.contains(&pid))));
    }
    for dir in &places.images {
        let images = match fs::read_dir(dir) {
            Ok(entries) => entries.flatten(),
            Err(source) => {
                let fault = Fault::Read { path: dir.clone(), source };
                // Only root may look there; whoever is not root and has a container running is not bothered with it.
                if !fault.is_absence() && !fault.is_permission() {
                    sink.warn(fault);
                }
                continue;
            }
        };
        for name in images.filter_map(|entry| image_name(&entry.file_name().to_string_lossy())) {
            if !running.iter().any(|c| c.id == name) {
                sink.push(Container {
                    names: vec![name.clone()],
                    state: State::Stopped,
                    status: "not running".into(),
                    ..Container::new(Engine::Nspawn, name)
                });
            }
        }
    }
    sink.extend(running);
    Ok(())
}

/// The name of the machine that an image would be run as; hidden ones are machined's own (machinectl(1)).
fn image_name(file: &str) -> Option<String> {
    let name = file.strip_suffix(".raw").unwrap_or(file);
    (!name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
}

/// The machines of machined that are containers; virtual machines have no namespace here.
fn registered(dir: &Path, sink: &Sink) -> Result<Vec<Container>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(Fault::Read { path: dir.to_owned(), source }),
    };
    for entry in entries.flatten() {
        // Links from units to machines ("unit:machine-web.scope") lie beside the files.
        if !entry.file_type().is_ok_and(|t| t.is_file()) {
            continue;
        }
        match read(&entry.path()) {
            Ok(bytes) => found.extend(parse(&entry.file_name().to_string_lossy(), &bytes)),
            // It ended in the meantime.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => sink.warn(Fault::Read { path: entry.path(), source }),
        }
    }
    Ok(found)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let file: File = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One machine's file; `None` if it is not a container's.
pub(crate) fn parse(file_name: &str, bytes: &[u8]) -> Option<Container> {
    let text = String::from_utf8_lossy(bytes);
    let fields: BTreeMap<&str, String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), unquoted(value.trim())))
        .collect();
    if fields.get("CLASS").map(String::as_str) != Some("container") {
        return None;
    }
    let name =
        fields.get("NAME").filter(|n| !n.is_empty()).map_or_else(|| file_name.to_owned(), Clone::clone);
    let mut labels = BTreeMap::new();
    for (key, label) in [("SERVICE", "service"), ("ROOT", "root"), ("NETIF", "netif")] {
        if let Some(value) = fields.get(key).filter(|v| !v.is_empty()) {
            labels.insert(label.to_owned(), value.clone());
        }
    }
    let mut container = Container {
        names: vec![name.clone()],
        labels,
        state: State::Running,
        status: "running".into(),
        ..Container::new(Engine::Nspawn, name)
    };
    container.set_pid(fields.get("LEADER").and_then(|pid| pid.parse().ok()).unwrap_or(0));
    Some(container)
}

/// Values with odd characters are quoted, or have them escaped by a backslash.
fn unquoted(value: &str) -> String {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let mut out = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEB: &str = "# This is private data. Do not parse.\nNAME=web\nSCOPE=machine-web.scope\nSERVICE=systemd-nspawn\n\
        ROOT=\"/var/lib/machines/my web\"\nCLASS=container\nLEADER=4711\nNETIF=5 6\n";

    #[test]
    fn a_containers_file_gives_its_name_and_leader() {
        let web = parse("web", WEB.as_bytes()).unwrap();
        assert_eq!((web.qualified().as_str(), web.pid.unwrap().get()), ("nspawn:web", 4711));
        assert_eq!(web.labels["root"], "/var/lib/machines/my web");
        assert_eq!(parse("vm", WEB.replace("CLASS=container", "CLASS=vm").as_bytes()), None);
    }

    #[test]
    fn links_beside_the_files_are_no_machines() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("web"), WEB).unwrap();
        std::os::unix::fs::symlink("web", dir.path().join("unit:machine-web.scope")).unwrap();
        let sink = Sink::default();
        let (machines, used) = (dir.path().to_owned(), dir.path().join("none"));
        list(&NspawnPlaces { machines, used, images: Vec::new() }, &sink).unwrap();
        assert_eq!(sink.take().containers.len(), 1);
    }

    #[test]
    fn an_image_that_does_not_run_is_a_stopped_container() {
        let dir = tempfile::tempdir().unwrap();
        let (machines, images) = (dir.path().join("machines"), dir.path().join("images"));
        fs::create_dir(&machines).unwrap();
        fs::write(machines.join("web"), WEB).unwrap();
        for name in ["web", "db", ".#hidden"] {
            fs::create_dir_all(images.join(name)).unwrap();
        }
        fs::write(images.join("disk.raw"), "").unwrap();
        let sink = Sink::default();
        let used = dir.path().join("none");
        list(&NspawnPlaces { machines, used, images: vec![images] }, &sink).unwrap();
        let mut found: Vec<_> = sink.take().containers.iter().map(|c| (c.qualified(), c.state)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let stopped = |name: &str| (name.to_owned(), State::Stopped);
        assert_eq!(
            found,
            [stopped("nspawn:db"), stopped("nspawn:disk"), ("nspawn:web".to_owned(), State::Running)]
        );
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), lines in "(CLASS=container\n|NAME=\\PC{0,5}\n|LEADER=\\PC{0,9}\n){0,4}") {
            parse("x", &bytes);
            parse("x", lines.as_bytes());
        }
    }
}
