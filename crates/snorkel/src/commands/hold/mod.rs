//! Holding a fault: what `cut`, `block`, `partition`, `impair` and `apply` have in common. The process that puts a fault
//! in force stays as long as the fault does, in the foreground, around a command, or detached.

mod child;
mod detach;
mod live;
mod rights;
mod world;

use std::cell::RefCell;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use snorkel_engines::TargetSpec;
use snorkel_fault::control::OfFile;
use snorkel_fault::filters;
use snorkel_fault::guardian::Guardian;
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Names, Plan};
use snorkel_netns::chain;
use snorkel_netns::enter::Signals;
use snorkel_topology::Snapshot;

use crate::cli::{Globals, duration};
use crate::commands::exec::FAILED;
use crate::commands::{print, warn_all};
use crate::failure::{Failure, Outcome};
use crate::render::faults as render;
pub(crate) use detach::is_holder;
use live::{EndedFault, Live};
use rights::needs_rights;
pub(crate) use world::World;

/// Options that all faults take.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Holding it")]
pub(crate) struct Hold {
    /// End it by itself after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) lasting: Option<Duration>,
    /// Come back when it is in force, and leave a process that holds it; prints its name
    #[arg(short, long, conflicts_with = "command")]
    pub(crate) detach: bool,
    /// Print what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As JSON, on stdout
    #[arg(long, conflicts_with = "command")]
    pub(crate) json: bool,
    /// Only while this command runs; the status is the command's own
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// A command that puts a fault in force.
pub(crate) trait Ask {
    /// Whose network is meant, as it was typed.
    fn targets(&self) -> Vec<TargetSpec>;

    /// What is to be done for it.
    fn plan(&self, snapshot: &Snapshot, names: Names<'_>) -> Result<Plan, Failure>;
}

/// What is to be held, from when to when.
pub(crate) struct Part {
    /// The fault.
    pub(crate) ask: Box<dyn Ask>,
    /// What was typed for it.
    pub(crate) words: Vec<String>,
    /// Its place in a file, if it is of one.
    pub(crate) file: Option<OfFile>,
    /// When it begins, counted from now.
    pub(crate) start: Duration,
    /// How long it lasts, if not until it is ended.
    pub(crate) lasting: Option<Duration>,
}

impl Hold {
    /// Puts one fault in force, holds it, and takes it back.
    pub(crate) fn run(&self, globals: &Globals, ask: impl Ask + 'static) -> Outcome {
        let part = Part {
            ask: Box::new(ask),
            words: words(),
            file: None,
            start: Duration::ZERO,
            lasting: self.lasting,
        };
        self.run_all(globals, &[part])
    }

    /// The same for several, each in its time.
    pub(crate) fn run_all(&self, globals: &Globals, parts: &[Part]) -> Outcome {
        // A status of the command's own is not to be confused with one of snorkel's.
        let code = if self.command.is_empty() { 1 } else { FAILED };
        self.hold(globals, parts).map_err(|failure| match failure.status() {
            1 => failure.code(code),
            _ => failure,
        })
    }

    fn hold(&self, globals: &Globals, parts: &[Part]) -> Outcome {
        if self.detach && !self.dry_run && !is_holder() {
            return detach::start();
        }
        if !self.dry_run {
            needs_rights()?;
        }
        let targets: Vec<TargetSpec> = parts.iter().flat_map(|part| part.ask.targets()).collect();
        let world = World::look(globals, &targets)?;
        let plans = parts.iter().map(|part| plan(part, &world)).collect::<Result<Vec<Plan>, _>>()?;
        if self.dry_run {
            return self.show(parts, &plans);
        }
        for plan in &plans {
            warn_all(&plan.notes);
        }
        // From here on a signal ends the faults, not the process.
        let signals = Signals::hold(&live::ENDING)?;
        let journal = Journal::usual();
        // What begins later sees the world as it is then.
        let world = RefCell::new(world);
        let open = |id| world.borrow().open(id);
        let guardian = if plans.iter().any(Plan::sets_links_down) {
            Some(Guardian::start(&journal)?)
        } else if filters::needed(&plans, &open) {
            // Without it they are swept by the next command.
            Guardian::start(&journal).inspect_err(|error| warn_plain(&chain(error))).ok()
        } else {
            None
        };
        let mut live = Live::new(signals, &journal, guardian.as_ref(), &open)?;
        live.waiting = parts.iter().enumerate().map(|(at, part)| (live.begun + part.start, at)).collect();
        let mut begin = |live: &mut Live<'_>, at: usize| {
            let part = &parts[at];
            let plan = if part.start.is_zero() {
                plans[at].clone()
            } else {
                *world.borrow_mut() = World::look(globals, &part.ask.targets())?;
                plan(part, &world.borrow())?
            };
            live.begin(&plan, part.words.clone(), part.lasting, part.file.clone())?;
            self.announce(live)
        };
        live.begin_due(&mut begin)?;
        if self.detach {
            if live.is_idle() {
                // Nothing is in force yet; that it is being held is all that can be said.
                print("waiting\n")?;
            }
            detach::let_go()?;
        }
        if !self.command.is_empty() {
            live.run_command(&self.command)?;
        }
        live.show = self.command.is_empty() && !self.detach && live::shows_counters(self.json);
        let outcome = live.run(&mut begin, &mut |over| self.tell(over))?;
        if let Some(failure) = outcome.failure {
            return Err(failure);
        }
        if let Some(status) = outcome.command {
            return child::end_as(status);
        }
        Ok(ExitCode::from(u8::from(outcome.troubled)))
    }

    fn show(&self, parts: &[Part], plans: &[Plan]) -> Outcome {
        for (part, plan) in parts.iter().zip(plans) {
            let text = if self.json { render::plan_json(plan, part)? } else { render::plan(plan, part) };
            print(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Says what is in force since it was said last.
    fn announce(&self, live: &mut Live<'_>) -> Result<(), Failure> {
        for status in live.news() {
            if self.json {
                print(&format!("{}\n", serde_json::to_string(&status)?))?;
            } else if self.detach {
                print(&format!("{}\n", status.id))?;
            } else {
                let end = if self.command.is_empty() { "; Ctrl-C ends it" } else { "" };
                warn_plain(&format!("{}{end}", render::in_force(&status)));
            }
        }
        Ok(())
    }

    /// Says what was done to end one.
    fn tell(&self, over: &EndedFault) -> Result<(), Failure> {
        if self.json {
            print(&format!("{}\n", serde_json::to_string(&over.healed)?))?;
        } else {
            warn_plain(&render::healed(&over.healed, over.last.as_ref()));
        }
        Ok(())
    }
}

fn plan(part: &Part, world: &World) -> Result<Plan, Failure> {
    let targets = part.ask.targets();
    part.ask.plan(&world.snapshot, &|name| world.addresses(name, &targets))
}

/// The very words of this command line.
pub(crate) fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The time, in seconds since the beginning of 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A line on stderr. With stderr gone there is nobody to tell.
pub(crate) fn warn_plain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "snorkel: {}", crate::render::text::printable(line));
}
