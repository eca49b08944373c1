//! `snorkel exec --each`: one command in several targets at the same time.
//!
//! Each target gets a process of its own (this program again, with `exec` and the target's full id), since a process
//! that has entered a namespace does not come back.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use snorkel_engines::{Container, LabelFilter, TargetSpec};
use snorkel_netns::enter::{Dns, Kind};

use crate::cli::Globals;
use crate::commands::exec::FAILED;
use crate::commands::warn_engines;
use crate::failure::{Failure, Outcome};
use crate::render::text::printable;

/// As many commands run at the same time; the rest waits its turn.
const AT_ONCE: usize = 32;

/// What `--each` takes beside targets and command.
pub(crate) struct Options {
    /// Also every running target with these labels.
    pub(crate) label: Vec<LabelFilter>,
    /// Objects instead of prefixed lines.
    pub(crate) json: bool,
    /// Show the plan of each.
    pub(crate) dry_run: bool,
}

/// One target's result.
#[derive(Serialize)]
struct Done<'a> {
    schema: u32,
    target: &'a str,
    status: u8,
    stdout: String,
    stderr: String,
}

/// The options of `exec` that each of them gets as they were given.
pub(crate) fn passed_on(
    kinds: &[Kind],
    dns: &Dns,
    user: Option<&str>,
    env: &[(OsString, OsString)],
    workdir: Option<&Path>,
) -> Vec<OsString> {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
    let dns = match dns {
        Dns::Container => "container".to_owned(),
        Dns::Engine => "engine".to_owned(),
        Dns::Host => "host".to_owned(),
        Dns::Servers(servers) => servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    let mut words: Vec<OsString> =
        vec![format!("--ns={}", kinds.join(",")).into(), format!("--dns={dns}").into()];
    words.extend(user.map(|user| format!("--user={user}").into()));
    for (key, value) in env {
        let mut word = OsString::from("--env=");
        word.push(key);
        word.push("=");
        word.push(value);
        words.push(word);
    }
    words.extend(workdir.map(|dir| {
        let mut word = OsString::from("--workdir=");
        word.push(dir);
        word
    }));
    words
}

/// Runs the command in each target; the worst status is the whole's.
pub(crate) fn run(
    globals: &Globals,
    specs: Vec<TargetSpec>,
    command: Vec<OsString>,
    options: Options,
    mut passed_on: Vec<OsString>,
) -> Outcome {
    let targets = targets(globals, &specs, &options.label)?;
    if options.dry_run {
        passed_on.push("--dry-run".into());
    }
    let program = std::env::current_exe()?;
    let job = |target: &Container| {
        let mut job = Command::new(&program);
        // By its full id, so that a container of the same name made meanwhile is not taken for it.
        job.arg("exec").args(&passed_on).arg(target.qualified_id()).arg("--").args(&command);
        job.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        job
    };
    let width =
        targets.iter().map(|target| printable(&target.qualified()).chars().count()).max().unwrap_or(0);
    let output = Mutex::new(());
    let next = AtomicUsize::new(0);
    let statuses = std::thread::scope(|scope| {
        let worker = || {
            let mut worst = Ok(0);
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let name = target.qualified();
                let status = if options.json {
                    collect(job(target), &name, &output)
                } else {
                    relay(job(target), &format!("{:width$} | ", printable(&name)), &output)
                };
                worst = worse(worst, status);
            }
            worst
        };
        let workers: Vec<_> = (0..AT_ONCE.min(targets.len())).map(|_| scope.spawn(worker)).collect();
        // A worker has no way to panic; if it had, its targets' results are not known.
        let join = |worker: std::thread::ScopedJoinHandle<'_, io::Result<u8>>| {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker of --each panicked")))
        };
        workers.into_iter().map(join).fold(Ok(0), worse)
    });
    Ok(ExitCode::from(statuses?))
}

/// Those named, then those with the labels, each once.
fn targets(
    globals: &Globals,
    specs: &[TargetSpec],
    label: &[LabelFilter],
) -> Result<Vec<Container>, Failure> {
    let mut query = globals.query(&[]);
    let mut targets: Vec<Container> = Vec::new();
    for spec in specs {
        targets.push(snorkel_topology::locate::locate(&query, spec)?.container);
    }
    if !label.is_empty() {
        query.labels = label.to_vec();
        let answer = snorkel_engines::list(&query);
        warn_engines(&answer.warnings);
        targets.extend(answer.containers.into_iter().filter(|container| container.pid.is_some()));
    }
    let mut seen = std::collections::HashSet::new();
    targets.retain(|target| seen.insert(target.qualified_id()));
    if targets.is_empty() {
        return Err(
            Failure::new("no running target has that label").hint("snorkel ls --json shows the labels")
        );
    }
    Ok(targets)
}

fn worse(a: io::Result<u8>, b: io::Result<u8>) -> io::Result<u8> {
    Ok(a?.max(b?))
}

/// Passes the lines on as they come, each with the target before it.
fn relay(mut job: Command, prefix: &str, output: &Mutex<()>) -> io::Result<u8> {
    let mut child = job.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let relayed = std::thread::scope(|scope| {
        let errors = scope.spawn(|| lines(stderr, prefix, io::stderr(), output));
        let relayed = lines(stdout, prefix, io::stdout(), output);
        relayed.and(errors.join().unwrap_or(Ok(())))
    });
    if relayed.is_err() {
        // Nobody reads any more: the command is to end as it would with a pipe of its own.
        let _ = child.kill();
    }
    let status = child.wait()?;
    relayed?;
    Ok(code(status))
}

fn lines(from: Option<impl Read>, prefix: &str, mut to: impl Write, output: &Mutex<()>) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // A line without an end is passed on in pieces, so that memory stays bounded.
    while from.by_ref().take(64 * 1024).read_until(b'\n', &mut line)? > 0 {
        let turn = output.lock();
        to.write_all(prefix.as_bytes())?;
        to.write_all(line.strip_suffix(b"\n").unwrap_or(&line))?;
        to.write_all(b"\n")?;
        to.flush()?;
        drop(turn);
        line.clear();
    }
    Ok(())
}

/// Collects the output and prints one JSON object on one line.
fn collect(mut job: Command, target: &str, output: &Mutex<()>) -> io::Result<u8> {
    let child: Child = job.spawn()?;
    let done = child.wait_with_output()?;
    let status = code(done.status);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let done = Done {
        schema: snorkel_topology::SCHEMA,
        target,
        status,
        stdout: text(&done.stdout),
        stderr: text(&done.stderr),
    };
    let line = serde_json::to_string(&done).map_err(io::Error::from)?;
    let _turn = output.lock();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(status)
}

/// The status as a shell gives it: 128 and the signal's number if one ended the command.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code =
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(i32::from(FAILED));
    u8::try_from(code).unwrap_or(FAILED)
}
