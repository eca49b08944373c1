//! `snorkel capture`: everything on a target's wire, from outside.

mod begin;
pub(crate) mod captured;
mod course;
pub(crate) mod filter;
mod follow;
pub(crate) mod live;
pub(crate) mod names;
mod opening;
pub(crate) mod signals;
pub(crate) mod sink;
pub(crate) mod spots;
mod trigger;
mod wanted;

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use snorkel_capture::confine::{Needs, confine};
use snorkel_capture::file::{Output, OutputOptions, Owner, Patience, Rotate, Section, Stream};
use snorkel_capture::pair::Pairs;
use snorkel_capture::recorder::Recorder;
use snorkel_capture::ring::{Priority, Shifts, run_first};
use snorkel_engines::LabelFilter;
use snorkel_netns::caps;
use snorkel_topology::{Snapshot, Survey};

use crate::cli::{Globals, duration, size};
use crate::commands::look::Look;
use crate::commands::{complete, warn_all};
use crate::entry::invoker::invoker;
use crate::failure::{Failure, Outcome};
use crate::render::capture as render;
use course::Limits;
use filter::Filters;
use live::Live;
use opening::Settings;
use signals::{Beginning, Signals};
use sink::{Files, Flight, Lines, Objects, Sink};
use trigger::{On, Trigger};
use wanted::{Side, Wanted, Words};

/// With --fail-on-loss: something was lost.
const LOST: u8 = 3;

/// Capture the packets of targets, and account for those that were lost
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel capture web                                a line for each packet, until Ctrl-C
  snorkel capture web db -- tcp port 5432            of two targets, filtered as with tcpdump
  snorkel capture web -w web.pcapng                  to a file; Wireshark shows link and container of each packet
  snorkel capture web -w - | wireshark -k -i -       live
  snorkel capture 'web-*' --follow -w all.pcapng     also those that start later
  snorkel capture web --side both --pair             what vanished or was rewritten between container and host
  snorkel capture web --rotate 100MB --keep 10 -w web.pcapng
  snorkel capture web --ring 60s --trigger 'tcp[tcpflags] & tcp-rst != 0' -w why.pcapng
                                                     the minute before the first reset, and 10 s after it
  snorkel read web.pcapng -- port 80                 reads it back

The filter is tcpdump's language (pcap-filter(7)); it comes last, behind --. A host in it may be a target's
name; one with a colon or a slash comes after a backslash: 'host \\lab:x/web'.
Without -i all links but the loopback are captured. With -w the reader runs in the lowest real-time priority, so that
packets are not lost because it waits for its turn; --polite does without. Status 3 with --fail-on-loss: something was
lost.")]
pub(crate) struct Capture {
    /// Whose packets; `web-*` means all that match
    #[arg(value_name = "TARGET", add = complete::targets())]
    targets: Vec<Words>,
    /// Also every running target with this label; may be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]", add = complete::labels())]
    label: Vec<LabelFilter>,
    /// Only this link of the target; `any` is all of them with the loopback; may be repeated
    #[arg(short = 'i', long = "link", visible_alias = "interface", value_name = "LINK")]
    links: Vec<String>,
    /// At which end of the link
    #[arg(long, value_enum, value_name = "container|host|both", default_value = "container")]
    side: Side,
    /// Write pcapng to this file; `-` is stdout
    #[arg(short, long, value_name = "FILE", conflicts_with = "json")]
    write: Option<PathBuf>,
    /// End after so many packets
    #[arg(short, long, value_name = "N", conflicts_with = "ring", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, from when it captures
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasting: Option<Duration>,
    /// Keep so many bytes of each packet; 0: all
    #[arg(short, long, value_name = "BYTES", default_value_t = 0)]
    snaplen: u32,
    /// Memory for packets that wait, for all links together
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    buffer: u64,
    /// Begin a new file after this size or time, as 100MB or 10m
    #[arg(long, value_name = "SIZE|TIME", requires = "write")]
    rotate: Option<String>,
    /// With --rotate: so many files at most, the oldest goes
    #[arg(long, value_name = "N", requires = "rotate", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Compress with zstd
    #[arg(long, requires = "write")]
    compress: bool,
    /// Also targets that start later and fit, and those that start again
    #[arg(long)]
    follow: bool,
    /// Keep the packets of so long in memory and write them on a trigger only
    #[arg(long, value_name = "TIME", requires = "write", requires = "trigger", value_parser = duration)]
    ring: Option<Duration>,
    /// Memory for --ring
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    ring_size: u64,
    /// What triggers: a filter, `signal` (SIGUSR1), or `exit` (the target ends). When nothing is left to capture it is
    /// written as well
    #[arg(long, value_name = "FILTER|signal|exit", requires = "ring")]
    trigger: Option<String>,
    /// How long to go on after the trigger
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    after: Duration,
    /// With --side both: match the two sightings of each packet
    #[arg(long)]
    pair: bool,
    /// With -w: do not run before other processes. More packets may be lost on a busy machine
    #[arg(long)]
    polite: bool,
    /// End with status 3 if a packet was lost
    #[arg(long)]
    fail_on_loss: bool,
    #[command(flatten)]
    look: Look,
    /// A filter in tcpdump's language
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

impl Capture {
    /// Captures until it is ended, and gives its account.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let rotate = self.rotate.as_deref().map(rotation).transpose()?;
        self.check()?;
        needs_rights()?;
        let survey = Survey { query: globals.query(&[]), listeners: false };
        let settings = Settings { bytes: self.buffer, snaplen: self.snaplen };
        if let Some(channel) = follow::channel()? {
            return follow::open_for_reader(channel, survey, &self.wanted(), &self.filter, settings);
        }
        let beginning = Beginning::new()?;
        let Signals { stop, usr1 } = Signals::take()?;
        let begun = if self.follow { begin::following()? } else { begin::once(survey, &self, settings)? };
        // From here on a signal ends the capture, not the process: what was captured is kept.
        drop(beginning);
        let patience = Patience::new(stop);
        let until = self.lasting.map(|time| Instant::now() + time);
        let filters = Filters::new(&self.filter, self.snaplen, &begun.world.snapshot)?;
        let trigger = self.trigger(&begun.world.snapshot)?;
        let output = self.write.clone().map(|path| self.output(path, rotate, &patience)).transpose()?;
        if let Some(path) =
            self.write.as_ref().filter(|_| output.as_ref().is_some_and(Output::waits_for_reader))
        {
            warn_all([&format!(
                "nobody reads {} yet; packets wait in memory until somebody does",
                path.display()
            )]);
        }
        let needs = Needs {
            directory: output
                .as_ref()
                .and_then(Output::directory)
                .map(|fd| fd.try_clone_to_owned())
                .transpose()?,
            rights: output.as_ref().map(Output::rights).unwrap_or_default(),
        };
        let show = live::shows_counters(output.is_none());
        let priority = if output.is_some() && !self.polite { first() } else { None };
        let mut live = Live::new(self.sink(output, &patience)?, filters, trigger, patience, usr1)?;
        live.limits = Limits { count: self.count, until, after: self.after };
        live.show = show;
        live.seams = rotate.is_some();
        live.shifts = (priority == Some(Priority::RealTime)).then(Shifts::begin);
        live.pairs = self.pair.then(Pairs::new);
        if self.write.as_ref().is_none_or(|path| path.as_os_str() == "-") {
            live.end_with_reader();
        }
        live.begin(begun)?;
        let confined = confine(&needs)?;
        tracing::info!("{confined}");
        live.announce();
        self.tell(live.run()?)
    }

    /// The account of a capture that has ended, and the status.
    fn tell(&self, mut outcome: live::Outcome) -> Outcome {
        warn_all(&outcome.sink.remarks());
        // With stderr gone there is nobody to tell.
        let _ = std::io::stderr().write_all(render::summary(&outcome).as_bytes());
        let ledgers = outcome.captured.values().map(|captured| captured.ledger);
        let unread = ledgers.map(|ledger| ledger.dropped + ledger.unreadable + ledger.pending()).sum::<u64>();
        let lost = outcome.unwritten.total() + unread;
        let lost = self.fail_on_loss && lost > 0;
        match outcome.failure {
            Some(failure) if lost => Err(failure.code(LOST)),
            Some(failure) => Err(failure),
            None if lost => Ok(ExitCode::from(LOST)),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    /// What can be said before anything is looked at.
    fn check(&self) -> Result<(), Failure> {
        if self.targets.is_empty() && self.label.is_empty() {
            return Err(Failure::new("a target is needed, or --label").hint("snorkel ls"));
        }
        if self.pair && self.side != Side::Both {
            return Err(Failure::new("--pair compares both ends of a link").hint("--side both --pair"));
        }
        if self.write.as_ref().is_some_and(|path| path.as_os_str() == "-") && self.rotate.is_some() {
            return Err(Failure::new("stdout cannot be rotated").hint("-w FILE --rotate ..."));
        }
        Ok(())
    }

    /// Whether what was taken for more targets, and not found, is a filter without the `--` before it.
    fn forgotten(&self, snapshot: &Snapshot, failure: Failure) -> Failure {
        let words: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        let behind = words.get(1..).filter(|_| self.filter.is_empty()).unwrap_or_default();
        match filter::at_the_end_of(behind, snapshot) {
            Some(filter) => {
                let targets = &words[..words.len() - filter.len()];
                failure.hint(format!("snorkel capture {} -- {}", targets.join(" "), filter.join(" ")))
            }
            None => failure,
        }
    }

    fn wanted(&self) -> Wanted {
        let labels = self.label.iter().cloned().map(Words::Label);
        Wanted {
            targets: self.targets.iter().cloned().chain(labels).collect(),
            links: self.links.clone(),
            side: self.side,
        }
    }

    fn trigger(&self, snapshot: &Snapshot) -> Result<Option<Trigger>, Failure> {
        let on = match self.trigger.as_deref() {
            None => return Ok(None),
            Some("signal") => On::Signal,
            Some("exit") => On::Exit,
            Some(expression) => On::Packet(filter::trigger(expression, snapshot)?),
        };
        Ok(Some(Trigger::new(on)))
    }

    fn output(&self, path: PathBuf, rotate: Option<Rotate>, patience: &Patience) -> Result<Output, Failure> {
        Ok(Output::prepare(OutputOptions {
            path,
            rotate,
            keep: self.keep.map(|keep| keep as usize),
            compress: self.compress,
            owner: owner()?,
            section: section(),
            patience: Some(patience.clone()),
        })?)
    }

    fn sink(&self, output: Option<Output>, patience: &Patience) -> Result<Box<dyn Sink>, Failure> {
        // Each file of a series tells the names of its time; who reads a pipe wants them at once.
        let whole = self.rotate.is_none() && self.write.as_ref().is_some_and(|path| path.as_os_str() != "-");
        let files = output.map(|output| Files::new(output, self.follow && whole));
        let stdout = || {
            let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
            Ok::<_, Failure>(Stream::new(stdout, "standard output", patience.clone()))
        };
        Ok(match (files, self.ring) {
            (Some(files), Some(window)) => {
                let memory = usize::try_from(self.ring_size).unwrap_or(usize::MAX);
                Box::new(Flight::new(files, Recorder::new(window, memory)))
            }
            (Some(files), None) => Box::new(files),
            (None, _) if self.look.json => Box::new(Objects::new(stdout()?)),
            (None, _) => Box::new(Lines::new(&self.look, stdout()?)),
        })
    }
}

/// What no capture can do without. The kernel would say so too, but only after targets were looked for in vain.
fn needs_rights() -> Result<(), Failure> {
    use caps::number::{NET_RAW, SYS_ADMIN};
    let needed = [(SYS_ADMIN, "CAP_SYS_ADMIN, to enter networks"), (NET_RAW, "CAP_NET_RAW, to see packets")];
    let missing: Vec<&str> =
        needed.iter().filter(|(number, _)| !caps::has(*number)).map(|(_, words)| *words).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("capturing needs {}", missing.join(", and "))).hint("sudo snorkel capture ..."))
}

/// Has this thread run before others. Where that is not allowed more may be lost, and lost packets are told.
fn first() -> Option<Priority> {
    let priority = run_first();
    match &priority {
        Ok(priority) => tracing::info!("runs before other processes: {priority:?}"),
        Err(error) => tracing::info!("{}", snorkel_netns::chain(error)),
    }
    priority.ok()
}

/// Whom files are for: the user who called sudo.
pub(crate) fn owner() -> Result<Option<Owner>, Failure> {
    let own = rustix::process::geteuid().as_raw();
    if own != 0 {
        return Ok(None);
    }
    let user = invoker()?.user;
    Ok((user.uid != own).then_some(Owner { uid: user.uid, gid: user.gid }))
}

/// What files say of who made them.
pub(crate) fn section() -> Section {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Section {
        hardware: Some(text(name.machine())),
        os: Some(format!("{} {}", text(name.sysname()), text(name.release()))),
        application: Some(format!("snorkel {}", env!("CARGO_PKG_VERSION"))),
        comments: Vec::new(),
    }
}

/// `100MB` or `10m`.
fn rotation(text: &str) -> Result<Rotate, Failure> {
    let rotate =
        if text.ends_with('B') { size(text).map(Rotate::Size) } else { duration(text).map(Rotate::Time) };
    rotate.map_err(|why| {
        Failure::new(format!("--rotate {text}: {why}")).hint("--rotate 100MB, or --rotate 10m")
    })
}
