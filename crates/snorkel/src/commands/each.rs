//! `snorkel exec --each`: one command in several targets at the same time.
//!
//! Each target gets a child, since a process that has entered a namespace does not come back. The targets are looked up
//! once, here; the child inherits what was found. One thread waits for all of them: their output, their end, and the
//! signals that are meant for them.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::process::{ExitCode, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use snorkel_engines::{Container, LabelFilter, Query, TargetSpec};
use snorkel_netns::enter::{Signals, Spawned, Tie, die_of, spawn};
use snorkel_topology::locate::{self, Located};

use crate::cli::Globals;
use crate::commands::exec::{FAILED, find, into};
use crate::commands::warn_all;
use crate::entry::plan::Wishes;
use crate::failure::{Failure, Outcome};
use crate::render::text::printable;

/// As many commands run at the same time; the rest waits its turn.
const AT_ONCE: usize = 32;
/// A line without an end is passed on in pieces of this size, so that memory stays bounded.
const LONGEST_LINE: usize = 64 * 1024;
/// With `--json` so many bytes of each output are kept until the command ends; what comes after them is left out.
const KEPT: usize = 4 * 1024 * 1024;
/// What ends `--each`: it is passed on to the commands.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

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
    /// Whether an output was longer than what is kept of it.
    truncated: bool,
}

/// A target whose turn is to come.
enum Waiting {
    /// It was named, and found.
    Found(Box<Located>),
    /// It has the labels; its child opens it.
    Listed(Box<Container>),
}

impl Waiting {
    fn container(&self) -> &Container {
        match self {
            Waiting::Found(located) => &located.container,
            Waiting::Listed(container) => container,
        }
    }

    fn open(self, query: &Query) -> Result<Located, Failure> {
        match self {
            Waiting::Found(located) => Ok(*located),
            Waiting::Listed(container) => Ok(locate::open(query, *container, Vec::new())?),
        }
    }
}

/// Runs the command in each target; the worst status is the whole's, and at least 1 if targets may have been left out.
pub(crate) fn run(globals: &Globals, specs: Vec<TargetSpec>, wishes: Wishes, options: Options) -> Outcome {
    let query = globals.query(&[]);
    let (targets, all_told) = targets(globals, &specs, &options.label)?;
    let name = |target: &Waiting| printable(&target.container().qualified()).into_owned();
    let width = targets.iter().map(|target| name(target).chars().count()).max().unwrap_or(0);
    let mut held = ENDING.to_vec();
    // A command that stops reads no input here; what it is told, it is told by its own name.
    held.extend([libc::SIGUSR1, libc::SIGUSR2]);
    let signals = Signals::hold(&held)?;
    let mut crowd = Crowd { signals, running: Vec::new(), json: options.json, ended_by: None };
    // Where an engine did not tell all that it has, targets may have been left out.
    let mut worst = if all_told { 0 } else { 1 };
    let mut targets = targets.into_iter();
    loop {
        while crowd.running.len() < AT_ONCE && crowd.ended_by.is_none() {
            let Some(target) = targets.next() else { break };
            let (qualified, prefix) =
                (target.container().qualified(), format!("{:width$} | ", name(&target)));
            let work = |tie: Tie| match target
                .open(&query)
                .map_err(|failure| failure.code(FAILED))
                .and_then(|located| into(located, wishes.clone(), options.dry_run, None, Some(tie)))
            {
                Ok(()) => 0,
                Err(failure) => failure.tell(),
            };
            let child = spawn(&crowd.signals, work)?;
            crowd.running.push(Running {
                name: qualified,
                prefix,
                child,
                texts: Default::default(),
                status: None,
            });
        }
        if crowd.running.is_empty() {
            break;
        }
        worst = worst.max(crowd.go_on()?);
    }
    if let Some(signal) = crowd.ended_by {
        die_of(signal);
    }
    Ok(ExitCode::from(worst))
}

/// The answers in the order of the questions; engines take their time to answer.
fn side_by_side<'a, A: Sync, B: Send>(all: &'a [A], ask: impl Fn(&'a A) -> B + Sync) -> Vec<B> {
    let ask = &ask;
    std::thread::scope(|scope| {
        let asked: Vec<_> = all.iter().map(|one| scope.spawn(move || ask(one))).collect();
        asked.into_iter().map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Those named, then those with the labels, each once; and whether every engine that may be asked told all that it has.
fn targets(
    globals: &Globals,
    specs: &[TargetSpec],
    label: &[LabelFilter],
) -> Result<(Vec<Waiting>, bool), Failure> {
    let mut all_told = true;
    let mut targets = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    for some in specs.chunks(AT_ONCE) {
        for found in side_by_side(some, |spec| find(globals, spec, || ())) {
            let located = found?;
            warnings.extend(located.warnings.iter().map(ToString::to_string));
            targets.push(Waiting::Found(Box::new(located)));
        }
    }
    if !label.is_empty() {
        let mut query = globals.query(&[]);
        query.labels = label.to_vec();
        let answer = snorkel_engines::list(&query);
        warnings.extend(snorkel_engines::lines(&answer.warnings));
        // What is others' to ask is not missed.
        all_told = !answer.warnings.iter().any(|warning| warning.unfinished && !warning.denied);
        let running = answer.containers.into_iter().filter(|container| container.pid.is_some());
        targets.extend(running.map(|container| Waiting::Listed(Box::new(container))));
    }
    let mut seen = HashSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    warn_all(&warnings);
    let mut seen = HashSet::new();
    targets.retain(|target| seen.insert(target.container().qualified_id()));
    if targets.is_empty() {
        return Err(
            Failure::new("no running target has that label").hint("snorkel ls --json shows the labels")
        );
    }
    Ok((targets, all_told))
}

/// Which of a command's two outputs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Stdout,
    Stderr,
}

/// What has been read of an output and not been passed on.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    /// How much has been read so far.
    read: usize,
    ended: bool,
    truncated: bool,
}

/// A target whose command runs.
struct Running {
    name: String,
    prefix: String,
    child: Spawned,
    texts: [Text; 2],
    status: Option<u8>,
}

impl Running {
    fn fd(&self, output: Output) -> &OwnedFd {
        match output {
            Output::Stdout => &self.child.stdout,
            Output::Stderr => &self.child.stderr,
        }
    }

    fn is_over(&self, in_haste: bool) -> bool {
        self.status.is_some() && (in_haste || self.texts.iter().all(|text| text.ended))
    }
}

/// All whose commands run, and what is said to them.
struct Crowd {
    signals: Signals,
    running: Vec<Running>,
    json: bool,
    ended_by: Option<i32>,
}

impl Drop for Crowd {
    /// Where it cannot go on, nobody goes on.
    fn drop(&mut self) {
        for running in self.running.iter().filter(|running| running.status.is_none()) {
            running.child.signal_group(libc::SIGKILL);
            let _ = running.child.wait();
        }
    }
}

/// What can be waited for.
#[derive(Clone, Copy)]
enum Event {
    Signal,
    Text(usize, Output),
    End(usize),
}

impl Crowd {
    /// Waits for what comes next and deals with it; the worst status of those who are through.
    fn go_on(&mut self) -> io::Result<u8> {
        for event in self.wait()? {
            match event {
                Event::Signal => self.pass_on()?,
                Event::Text(who, output) => self.read(who, output)?,
                Event::End(who) => self.running[who].status = Some(code(self.running[who].child.wait()?)),
            }
        }
        let in_haste = self.ended_by.is_some();
        let mut worst = 0;
        while let Some(at) = self.running.iter().position(|running| running.is_over(in_haste)) {
            if in_haste {
                self.read_rest(at)?;
            }
            let done = self.running.swap_remove(at);
            worst = worst.max(self.finish(done)?);
        }
        Ok(worst)
    }

    fn wait(&self) -> io::Result<Vec<Event>> {
        let mut events = vec![Event::Signal];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        for (who, running) in self.running.iter().enumerate() {
            for (text, output) in running.texts.iter().zip([Output::Stdout, Output::Stderr]) {
                if !text.ended {
                    events.push(Event::Text(who, output));
                    fds.push(PollFd::new(running.fd(output), PollFlags::IN));
                }
            }
            if running.status.is_none() {
                events.push(Event::End(who));
                fds.push(PollFd::new(&running.child, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
        let came = events.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(came.map(|(event, _)| event).collect())
    }

    /// Tells the commands what this process was told. Who is told to end a second time ends at once, and they with it.
    fn pass_on(&mut self) -> io::Result<()> {
        let signal = self.signals.take()?;
        let ends = ENDING.contains(&signal.number);
        if ends && self.ended_by.replace(signal.number).is_some() {
            self.tell(|child| child.signal_group(libc::SIGKILL));
            die_of(signal.number);
        }
        // Also what the terminal sends: it goes to this process's group, and each of them leads one of its own.
        self.tell(|child| if ends { child.signal_group(signal.number) } else { child.signal(signal.number) });
        Ok(())
    }

    fn tell(&self, what: impl Fn(&Spawned)) {
        let going_on = self.running.iter().filter(|running| running.status.is_none());
        going_on.for_each(|running| what(&running.child));
    }

    fn read(&mut self, who: usize, output: Output) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        let running = &mut self.running[who];
        let got = match rustix::io::read(running.fd(output), &mut chunk) {
            Ok(got) => got,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let text = &mut running.texts[output as usize];
        text.ended = got == 0;
        text.read += got;
        text.bytes.extend_from_slice(&chunk[..got]);
        if self.json {
            text.truncated |= text.bytes.len() > KEPT;
            text.bytes.truncate(KEPT);
            return Ok(());
        }
        let whole = match text.bytes.iter().rposition(|b| *b == b'\n') {
            _ if text.ended || text.bytes.len() >= LONGEST_LINE => text.bytes.len(),
            Some(at) => at + 1,
            None => 0,
        };
        let rest = text.bytes.split_off(whole);
        let lines = std::mem::replace(&mut text.bytes, rest);
        let lines = prefixed(&running.prefix, &lines);
        self.write(output, &lines)
    }

    /// Reads what lies ready of one that has ended and whose output others keep open.
    fn read_rest(&mut self, who: usize) -> io::Result<()> {
        for output in [Output::Stdout, Output::Stderr] {
            let text = output as usize;
            loop {
                let before = self.running[who].texts[text].read;
                self.read(who, output)?;
                let now = &self.running[who].texts[text];
                if now.ended || now.read == before {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The status of one that is through; with `json` its object.
    fn finish(&mut self, done: Running) -> io::Result<u8> {
        let status = done.status.unwrap_or(FAILED);
        if self.json {
            let text =
                |output: Output| String::from_utf8_lossy(&done.texts[output as usize].bytes).into_owned();
            let (stdout, stderr) = (text(Output::Stdout), text(Output::Stderr));
            let truncated = done.texts.iter().any(|text| text.truncated);
            let schema = snorkel_topology::SCHEMA;
            let object = Done { schema, target: &done.name, status, stdout, stderr, truncated };
            let mut line = serde_json::to_vec(&object).map_err(io::Error::from)?;
            line.push(b'\n');
            self.write(Output::Stdout, &line)?;
        }
        Ok(status)
    }

    /// Writes it all, a little at a time and only as much as is taken: signals come in between.
    fn write(&mut self, output: Output, mut bytes: &[u8]) -> io::Result<()> {
        /// What a pipe that can be written takes at once (pipe(7), `PIPE_BUF`).
        const AT_ONCE: usize = 4096;
        while !bytes.is_empty() {
            let (stdout, stderr) = (io::stdout(), io::stderr());
            let to: BorrowedFd<'_> = match output {
                Output::Stdout => stdout.as_fd(),
                Output::Stderr => stderr.as_fd(),
            };
            let mut fds =
                [PollFd::new(&self.signals, PollFlags::IN), PollFd::from_borrowed_fd(to, PollFlags::OUT)];
            // A reader that takes nothing must not keep it from ending.
            let patience = self.ended_by.map(|_| Timespec { tv_sec: 1, tv_nsec: 0 });
            match poll(&mut fds, patience.as_ref()) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let (told, taken) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if told {
                self.pass_on()?;
            } else if taken {
                match rustix::io::write(to, &bytes[..bytes.len().min(AT_ONCE)]) {
                    Ok(written) => bytes = &bytes[written..],
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }
}

/// The lines, each with its target before it.
fn prefixed(prefix: &str, lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + prefix.len());
    for line in lines.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        out.push(b'\n');
    }
    out
}

/// The status as a shell gives it: 128 and the signal's number if one ended the command.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code =
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(i32::from(FAILED));
    u8::try_from(code).unwrap_or(FAILED)
}
