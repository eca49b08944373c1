//! The plan of an entry: which namespaces, whose names, which user, which command.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use snorkel_engines::Engine;
use snorkel_netns::caps;
use snorkel_netns::enter::{
    Dns, EtcFile, Guest, Kind, Names, Refused, Rejected, Step, Subject, free_descriptor,
    is_hidden_with_sockets, nsswitch_of_host, shell_word,
};
use snorkel_netns::user::User;
use snorkel_topology::locate::{Located, Place};

use super::{invoker, shell};
use crate::failure::Failure;
use crate::render::text::printable;

/// What the user wants of an entry.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    /// Namespaces to join.
    pub(crate) kinds: Vec<Kind>,
    /// Whether they were named on the command line.
    pub(crate) kinds_chosen: bool,
    /// Where names come from.
    pub(crate) dns: Dns,
    /// `USER`, `UID`, either with `:GROUP` or `:GID`, or `me`.
    pub(crate) user: Option<String>,
    /// Variables to set; without a value: as the caller has it, or not at all.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    /// Working directory.
    pub(crate) workdir: Option<PathBuf>,
    /// The command; empty for the shell.
    pub(crate) command: Vec<OsString>,
}

/// The steps, and what is worth saying about them.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order in which they are taken.
    pub(crate) steps: Vec<Step>,
    /// The nearest line of nsenter(1).
    pub(crate) nsenter: String,
    /// What the user should know before.
    pub(crate) warnings: Vec<String>,
}

/// Makes the plan. Reads the container's files; changes nothing.
pub(crate) fn plan(located: Located, wishes: Wishes) -> Result<Plan, Failure> {
    let name = located.name();
    let mut warnings = Vec::new();
    let kinds = kinds(&located, &wishes, &name, &mut warnings)?;
    let Who { user, keep, path } = who(wishes.user.as_deref())?;
    let files = etc_files(&located, &wishes.dns, &name, &mut warnings)?;

    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if let Some(user) = &user {
        set(&mut env, "HOME", &user.home);
        set(&mut env, "SHELL", &user.shell);
        if let Some(name) = &user.name {
            set(&mut env, "USER", name);
            set(&mut env, "LOGNAME", name);
        }
    }
    if let Some(path) = path {
        set(&mut env, "PATH", path);
    }
    // It is shown in prompts: a name must not move a cursor.
    set(&mut env, "SNORKEL_TARGET", printable(&name).into_owned());
    let mut start_up = None;
    let command = if wishes.command.is_empty() {
        let shell_path = env.iter().find(|(key, _)| key == "SHELL").map(|(_, value)| value.clone());
        let shell_path = shell_path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let fd = free_descriptor();
        let shell = shell::shell(&shell_path, &name, fd);
        start_up = Some(Step::StartUp(shell.files, fd));
        shell.env.into_iter().for_each(|(key, value)| set(&mut env, key, value));
        shell.command
    } else {
        wishes.command
    };
    for (key, value) in wishes.env {
        match value {
            Some(value) => set(&mut env, key, value),
            None => env.retain(|(other, _)| *other != key),
        }
    }

    // The shell's start-up file is this plan's own.
    let typed = if start_up.is_some() { &command[..1] } else { &command[..] };
    let nsenter = nsenter(&located, &kinds, typed);
    let subject = match located.place {
        Place::Process(process) => Subject::Process(process),
        Place::Netns(netns, path) => Subject::Netns(netns, path),
    };
    let forks = kinds.contains(&Kind::Pid);
    let join = |kinds| Step::Join(subject, kinds);
    let mut steps = match needs_user_namespace(&kinds) {
        true => vec![join(kinds), Step::PrivateMounts],
        false => vec![Step::PrivateMounts, join(kinds)],
    };
    if !files.is_empty() {
        steps.push(Step::Etc(files));
    }
    if wishes.dns != Dns::Host {
        steps.push(Step::MaskSockets);
    }
    steps.push(Step::Sys);
    steps.extend(start_up.filter(|step| !matches!(step, Step::StartUp(files, _) if files.is_empty())));
    if forks {
        steps.push(Step::Fork);
    }
    steps.extend(wishes.workdir.map(Step::Directory));
    steps.extend(user.map(|user| Step::Become(user, keep)));
    steps.push(Step::Exec { command, env });
    Ok(Plan { steps, nsenter, warnings })
}

fn set(env: &mut Vec<(OsString, OsString)>, key: impl Into<OsString>, value: impl Into<OsString>) {
    let key = key.into();
    env.retain(|(other, _)| *other != key);
    env.push((key, value.into()));
}

/// Which namespaces are joined: those asked for, as far as the target has them, and the user namespace where without it
/// the others would be refused.
fn kinds(
    located: &Located,
    wishes: &Wishes,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Kind>, Failure> {
    let mut kinds = wishes.kinds.clone();
    let Place::Process(process) = &located.place else {
        if wishes.kinds_chosen && kinds != [Kind::Net] {
            return Err(Failure::new(format!(
                "{name} is a network namespace without a process: there is only its net namespace to join"
            ))
            .hint("--ns net"));
        }
        return Ok(vec![Kind::Net]);
    };
    if kinds.contains(&Kind::Pid) {
        warnings.push(format!(
            "--ns pid: processes of {name} can reach the host's files through /proc/PID/root of this command, if they \
             may trace it; use it only with containers you trust"
        ));
    }
    if needs_user_namespace(&kinds) {
        kinds.push(Kind::User);
        // To join one's own user namespace is always refused, and whoever gets rights by a user namespace has none over
        // what that does not own (setns(2)).
        let mut own = Vec::new();
        for kind in &kinds {
            if process.shares(kind.word())? {
                own.push(*kind);
            }
        }
        if own.contains(&Kind::User) && !caps::has(caps::number::SYS_ADMIN) {
            return Err(Failure::new(format!(
                "{name} lives in this process's own user namespace: joining its network takes CAP_SYS_ADMIN there, \
                 which this process lacks"
            ))
            .hint("run it with sudo; where that is root already, with --cap-add SYS_ADMIN or the like"));
        }
        kinds.retain(|kind| !own.contains(kind));
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}

/// Whether a user namespace is joined. Then the private mounts come after it and belong to it; otherwise they come
/// first, and can be made before the target is known.
pub(crate) fn needs_user_namespace(kinds: &[Kind]) -> bool {
    // One's own rootless container: its user namespace is owned by the same user, and entering it gives the rights.
    kinds.contains(&Kind::User) || !caps::has(caps::number::SYS_ADMIN)
}

/// Whom the command runs as.
#[derive(Default)]
struct Who {
    /// None: who runs this.
    user: Option<User>,
    /// Capabilities that survive the change.
    keep: Vec<u32>,
    /// The PATH that comes with the user, where it can be known.
    path: Option<OsString>,
}

fn who(spec: Option<&str>) -> Result<Who, Failure> {
    match spec {
        None => Ok(Who::default()),
        Some("me") => {
            let invoker::Invoker { user, path } = invoker::invoker()?;
            if user.uid == rustix::process::geteuid().as_raw() {
                return Ok(Who::default());
            }
            let keep = vec![caps::number::NET_ADMIN, caps::number::NET_RAW];
            Ok(Who { user: Some(user), keep, path })
        }
        Some(spec) => match User::find(spec)? {
            Some(user) => Ok(Who { user: Some(user), ..Who::default() }),
            None => Err(Failure::new(match spec.split_once(':') {
                Some((user, group)) => format!("the host has no user '{user}', or no group '{group}'"),
                None => format!("the host has no user '{spec}'"),
            })
            .hint("a name of /etc/passwd or a number, with :GROUP or not; or `me` for who called sudo")),
        },
    }
}

/// The files that are laid over /etc; none if names are to resolve as on the host.
fn etc_files(
    located: &Located,
    dns: &Dns,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<EtcFile>, Failure> {
    let (names, rejected) = match (&located.place, dns) {
        (_, Dns::Host) => return Ok(Vec::new()),
        (Place::Netns(_, path), dns) => return named_netns_files(located, path, dns, warnings),
        (Place::Process(process), _) => match Guest::of(process) {
            Ok(guest) => Names::of_container(&guest),
            // Where the files are out of reach for want of rights, so are the namespaces.
            Err(e) if e.is_permission() && !caps::has(caps::number::SYS_ADMIN) => return Err(e.into()),
            // podman#17081: not even root may look into a FUSE root of another user.
            Err(e) => {
                warnings
                    .push(format!("the files of {name} cannot be read ({e}): names do not resolve as in it"));
                Names::without_container()
            }
        },
    };
    let names = match dns {
        Dns::Servers(servers) => names.with_servers(servers),
        Dns::Engine => engine_names(located, names, name)?,
        _ => names,
    };
    for Rejected { path, why } in rejected {
        let replaced = path == "etc/resolv.conf" && matches!(dns, Dns::Servers(_) | Dns::Engine);
        if !replaced {
            warnings.push(rejection(name, path, why));
        }
    }
    Ok(names.into_files())
}

fn rejection(name: &str, path: &str, why: Refused) -> String {
    let lost = match path {
        "etc/resolv.conf" => {
            "glibc asks no name server (dig and musl ask 127.0.0.1); choose one with --dns engine, --dns host or \
             --dns ADDRESS"
        }
        _ => "it is left out",
    };
    format!("/{path} of {name} is not used: {why}; {lost}")
}

/// The resolver configuration that the engine keeps on the host's side.
fn engine_names(located: &Located, names: Names, name: &str) -> Result<Names, Failure> {
    let Some(path) = &located.container.resolv_conf else {
        return Err(Failure::new(format!(
            "--dns engine: {} keeps no resolver configuration for {name}",
            located.container.engine
        ))
        .hint("--dns container, --dns host or --dns ADDRESS"));
    };
    names
        .with_resolv_conf_of(path, located.container.told_by)
        .map_err(|why| Failure::new(format!("--dns engine: {} of {name} is not used: {why}", path.display())))
}

/// `/etc/netns/NAME/*`, as `ip netns exec` has it (ip-netns(8)); without that folder the host's files hold.
fn named_netns_files(
    located: &Located,
    path: &Path,
    dns: &Dns,
    warnings: &mut Vec<String>,
) -> Result<Vec<EtcFile>, Failure> {
    let name = path.file_name().unwrap_or_default();
    let mut files: Vec<EtcFile> = match located.container.engine {
        Engine::Netns => files_of(&Path::new("/etc/netns").join(name), warnings),
        _ => Vec::new(),
    };
    let resolv_conf = Path::new("/etc/resolv.conf");
    if is_hidden_with_sockets(resolv_conf) && !files.iter().any(|file| file.path == Path::new("resolv.conf"))
    {
        files.push(EtcFile { path: "resolv.conf".into(), content: std::fs::read(resolv_conf)? });
    }
    if let Dns::Servers(servers) = dns {
        files.retain(|file| file.path != Path::new("resolv.conf"));
        files.push(EtcFile { path: "resolv.conf".into(), content: servers_only(servers) });
    }
    if files.iter().any(|file| file.path == Path::new("resolv.conf"))
        && !files.iter().any(|file| file.path == Path::new("nsswitch.conf"))
    {
        files.push(EtcFile { path: "nsswitch.conf".into(), content: nsswitch_of_host(None) });
    }
    Ok(files)
}

/// The files in a directory, also by way of links; what cannot be read is left out with a warning.
fn files_of(dir: &Path, warnings: &mut Vec<String>) -> Vec<EtcFile> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let read = std::fs::metadata(&path).and_then(|meta| match meta.is_file() {
            true => std::fs::read(&path),
            // A FIFO would be waited for.
            false => Err(std::io::Error::other("it is not an ordinary file")),
        });
        match read {
            Ok(content) => files.push(EtcFile { path: entry.file_name().into(), content }),
            Err(e) => warnings.push(format!("{} is left out: {e}", path.display())),
        }
    }
    files
}

fn servers_only(servers: &[IpAddr]) -> Vec<u8> {
    servers.iter().flat_map(|server| format!("nameserver {server}\n").into_bytes()).collect()
}

/// The nearest line that nsenter understands; it leaves names, /sys and the check of the PID out.
fn nsenter(located: &Located, kinds: &[Kind], command: &[OsString]) -> String {
    let mut words = vec!["nsenter".to_owned()];
    match &located.place {
        Place::Process(process) => {
            words.push(format!("--target={}", process.pid()));
            words.extend(kinds.iter().map(|kind| format!("--{}", kind.word())));
        }
        Place::Netns(_, path) => words.push(format!("--net={}", shell_word(&path.to_string_lossy()))),
    }
    words.push("--".to_owned());
    words.extend(command.iter().map(|word| shell_word(&word.to_string_lossy())));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_file_is_left_out_by_its_name_and_the_others_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
        symlink("resolv.conf", at("hosts")).unwrap();
        symlink("nowhere", at("gone")).unwrap();
        std::fs::create_dir(at("wireguard")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
        let mut warnings = Vec::new();
        let mut files = files_of(dir.path(), &mut warnings);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<_> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
        assert_eq!(names, ["hosts", "resolv.conf"]);
        assert_eq!(files[0].content, files[1].content);
        for left_out in ["gone", "wireguard", "fifo"] {
            assert!(warnings.iter().any(|line| line.contains(left_out)), "{left_out}: {warnings:?}");
        }
    }
}
