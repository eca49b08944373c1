//! Holding a fault: what `cut`, `block`, `partition`, `impair` and `apply` have in common. The process that puts a fault
//! in force stays as long as the fault does, in the foreground, around a command, or detached.

mod child;
mod detach;
mod live;
mod rights;
mod world;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use snorkel_engines::TargetSpec;
use snorkel_fault::control::{Claim, Desk, SCHEMA};
use snorkel_fault::force::{Force, Means};
use snorkel_fault::guardian::Guardian;
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Kind, Names, Plan};
use snorkel_netns::enter::Signals;
use snorkel_topology::Snapshot;

use crate::cli::{Globals, duration};
use crate::commands::exec::FAILED;
use crate::commands::{print, warn_all};
use crate::failure::{Failure, Outcome};
use crate::render::faults as render;
pub(crate) use detach::is_holder;
pub(crate) use live::{Held, Live};
pub(crate) use rights::needs_rights;
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

impl Hold {
    /// Puts a fault in force, holds it, and takes it back.
    pub(crate) fn run(
        &self,
        globals: &Globals,
        targets: &[TargetSpec],
        plan: impl FnOnce(&Snapshot, Names<'_>) -> Result<Plan, snorkel_fault::Error>,
    ) -> Outcome {
        // A status of the command's own is not to be confused with one of snorkel's.
        let code = if self.command.is_empty() { 1 } else { FAILED };
        self.hold(globals, targets, plan).map_err(|failure| match failure.status() {
            1 => failure.code(code),
            _ => failure,
        })
    }

    fn hold(
        &self,
        globals: &Globals,
        targets: &[TargetSpec],
        plan: impl FnOnce(&Snapshot, Names<'_>) -> Result<Plan, snorkel_fault::Error>,
    ) -> Outcome {
        if self.detach && !self.dry_run && !is_holder() {
            return detach::start();
        }
        if !self.dry_run {
            needs_rights()?;
        }
        let world = World::look(globals, targets)?;
        let plan = plan(&world.snapshot, &|name| world.addresses(name))?;
        if self.dry_run {
            return self.show(&plan);
        }
        warn_all(&plan.notes);
        // From here on a signal ends the fault, not the process.
        let signals = Signals::hold(&live::ENDING)?;
        let journal = Journal::usual();
        let guardian = plan.sets_links_down().then(|| Guardian::start(&journal)).transpose()?;
        let claim = Claim::take(&plan.key(), &journal)?;
        let open = |id| world.open(id);
        let means = Means { id: &claim.id, journal: &journal, guardian: guardian.as_ref(), open: &open };
        let force = Force::apply(&plan, &means)?;
        let desk = Desk::open()?;
        let served = match claim.serve(&desk) {
            Ok(served) => served,
            // Nobody could find it: then it is not held. Its name went with the claim, the entries have theirs.
            Err(error) => return Err(error.into()),
        };
        let held = Held::new(served, &plan, force, words(), self.lasting);
        let mut live = Live::new(desk, signals, &journal, guardian.as_ref(), &open)?;
        live.add(held)?;
        self.announce(&mut live)?;
        if self.detach {
            detach::let_go()?;
        }
        if !self.command.is_empty() {
            live.run_command(&self.command)?;
        }
        live.show = self.command.is_empty() && !self.detach && live::shows_counters(self.json);
        let outcome = live.run()?;
        self.tell(outcome)
    }

    fn show(&self, plan: &Plan) -> Outcome {
        let text = if self.json { render::plan_json(plan)? } else { render::plan(plan) };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Says what is in force.
    fn announce(&self, live: &mut Live<'_>) -> Result<(), Failure> {
        for status in live.statuses() {
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

    /// Says what was done, and gives the status.
    fn tell(&self, outcome: live::Ended) -> Outcome {
        let mut failed = false;
        for ended in &outcome.faults {
            failed |= !ended.healed.troubles.is_empty() || ended.gone;
            if self.json {
                print(&format!("{}\n", serde_json::to_string(&ended.healed)?))?;
            } else {
                warn_plain(&render::healed(&ended.healed, ended.last.as_ref()));
            }
        }
        if let Some(status) = outcome.command {
            return child::end_as(status);
        }
        Ok(ExitCode::from(u8::from(failed)))
    }
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

/// What kind of fault a plan or a status is, and its schema, for JSON.
#[derive(serde::Serialize)]
pub(crate) struct PlanJson<'a> {
    schema: u32,
    kind: Kind,
    targets: Vec<String>,
    steps: Vec<String>,
    notes: &'a [String],
}

impl<'a> PlanJson<'a> {
    /// Of a plan.
    pub(crate) fn of(plan: &'a Plan) -> PlanJson<'a> {
        PlanJson {
            schema: SCHEMA,
            kind: plan.kind,
            targets: plan.targets(),
            steps: plan.lines(),
            notes: &plan.notes,
        }
    }
}
