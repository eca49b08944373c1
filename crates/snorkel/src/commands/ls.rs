//! `snorkel ls`: who is there, and where each is plugged in.

use std::cell::RefCell;
use std::process::ExitCode;

use clap::Args;
use snorkel_engines::{Container, Engine, LabelFilter, SelectError, TargetSpec};
use snorkel_topology::{Snapshot, Survey, Surveyor};

use crate::cli::Globals;
use crate::commands::{complete, print, warn_all, warn_snapshot};
use crate::failure::{Failure, Outcome};
use crate::render::screen::{Size, picture};
use crate::render::snapshot::{Shape, is_running, listing, unread};
use crate::render::text::printable;

/// List targets and where each is plugged in: one row a link, grouped by network namespace
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel ls                     everything that runs, over all engines
  snorkel ls web db              these two
  snorkel ls --engine docker -a  docker's, also the stopped ones
  snorkel ls -l app=shop --json  for scripts; see docs/json.md
  snorkel ls -q                  names only, one a line
  snorkel ls --watch             stays, and redraws when something changes

A (shared) link stands with the first target of its namespace. PEER is the link at the other end: on the host,
or TARGET/LINK where it is in another namespace. NETNS `host` means that the target has no network of its own.")]
pub(crate) struct Ls {
    /// Only these
    #[arg(value_name = "TARGET", add = complete::targets())]
    targets: Vec<TargetSpec>,
    /// Also what does not run
    #[arg(short, long)]
    all: bool,
    /// Also kinds, hardware addresses, MTU, ids, images and loopbacks
    #[arg(short, long)]
    wide: bool,
    /// Names only, one a line
    #[arg(short, long, conflicts_with_all = ["json", "wide"])]
    quiet: bool,
    /// The whole snapshot as JSON (docs/json.md)
    #[arg(long)]
    json: bool,
    /// Stay, and show it again whenever something changes
    #[arg(long)]
    watch: bool,
    /// Ask only this engine; may be repeated
    #[arg(short, long, value_name = "ENGINE", add = complete::engines())]
    engine: Vec<Engine>,
    /// Only targets with this label; may be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]", add = complete::labels())]
    label: Vec<LabelFilter>,
}

impl Ls {
    /// Takes a snapshot, or one after the other, and prints it.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let mut query = globals.query(&self.engine);
        query.labels = self.label.clone();
        let mut surveyor = Surveyor::new(Survey { query: query.clone(), ..Survey::default() });
        if self.watch {
            let told = RefCell::new(Vec::new());
            return crate::commands::watch::run(&query, surveyor, |snapshot, terminal| {
                self.watched(snapshot, globals, terminal, &mut told.borrow_mut())
            });
        }
        let mut snapshot = surveyor.take()?;
        // First: what is not found may be what could not be asked for.
        warn_snapshot(&snapshot);
        if let Some(missing) = self.narrow(&mut snapshot).into_iter().next() {
            return Err(missing.into());
        }
        warn_all(&unread(&snapshot));
        print(&self.render(&snapshot, globals)?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Only what was asked for: these targets, or what runs; and why some of the targets are not there.
    fn narrow(&self, snapshot: &mut Snapshot) -> Vec<SelectError> {
        let mut missing = Vec::new();
        if !self.targets.is_empty() {
            let containers: Vec<_> = snapshot.targets.iter().map(|target| target.container.clone()).collect();
            let mut wanted: Vec<Container> = Vec::new();
            for spec in &self.targets {
                match snorkel_engines::select(spec, &containers) {
                    Ok(container) => wanted.push(container.clone()),
                    // To be entered it would have to run; to be listed it need not.
                    Err(SelectError::Stopped { qualified, .. }) => {
                        wanted.extend(containers.iter().filter(|c| c.qualified() == qualified).cloned());
                    }
                    Err(other) => missing.push(other),
                }
            }
            snapshot.narrow(|target| wanted.contains(&target.container));
        } else if !self.engine.is_empty() || !self.label.is_empty() {
            snapshot.narrow(|target| self.all || is_running(target));
        }
        missing
    }

    fn render(&self, snapshot: &Snapshot, globals: &Globals) -> Result<String, Failure> {
        if self.json {
            return Ok(format!("{}\n", serde_json::to_string_pretty(snapshot)?));
        }
        let shape = Shape { wide: self.wide, all: self.all || !self.targets.is_empty() };
        if self.quiet {
            let shown = snapshot.targets.iter().filter(|target| shape.all || is_running(target));
            return Ok(shown.map(|target| format!("{}\n", printable(&target.name))).collect());
        }
        Ok(listing(snapshot, shape, globals.style()))
    }

    /// One look of the watch: on a terminal the screen is drawn anew, in a pipe a JSON line or a block follows, and what
    /// there is to warn of goes to stderr, each time it was not so before (`told`).
    fn watched(
        &self,
        mut snapshot: Snapshot,
        globals: &Globals,
        terminal: bool,
        told: &mut Vec<String>,
    ) -> Result<String, Failure> {
        // A target that was asked for and is gone for the moment is missing in the table, not the end of the watch.
        let missing = self.narrow(&mut snapshot);
        snapshot.warnings.extend(missing.iter().map(ToString::to_string));
        let warnings = [snapshot.warnings.clone(), unread(&snapshot)].concat();
        if self.json || !terminal {
            warn_all(warnings.iter().filter(|warning| !told.contains(warning)));
            told.clone_from(&warnings);
        }
        if self.json {
            return Ok(format!("{}\n", serde_json::to_string(&snapshot)?));
        }
        let table = self.render(&snapshot, globals)?;
        let warnings: String =
            warnings.iter().map(|line| format!("warning: {}\n", printable(line))).collect();
        Ok(match Size::of_stdout().filter(|_| terminal) {
            Some(size) => picture(&format!("{table}{warnings}"), size),
            None => format!("{table}\n"),
        })
    }
}
