//! `snorkel faults`: everything in force.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use snorkel_fault::control::{self, SCHEMA, Status};
use snorkel_fault::findings::{self, Found};
use snorkel_fault::journal::Journal;
use snorkel_fault::orphans;

use crate::cli::Globals;
use crate::commands::hold::World;
use crate::commands::{print, warn_all};
use crate::failure::{Failure, Outcome};
use crate::render::faults as render;

/// List the faults in force, and what others left that looks like one
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel faults          whose, since when, how long still, what it did so far
  snorkel faults --json")]
pub(crate) struct Faults {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Only snorkel's own; nothing else is looked at
    #[arg(long)]
    only_own: bool,
}

/// The JSON form.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    faults: &'a [Status],
    /// What snorkel did not make.
    found: &'a [Found],
}

impl Faults {
    /// Lists them.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let (faults, warnings) = control::list()?;
        warn_all(&warnings);
        let found = if self.only_own { Vec::new() } else { look_around(globals)? };
        let text = if self.json {
            let report = Report { schema: SCHEMA, faults: &faults, found: &found };
            format!("{}\n", serde_json::to_string_pretty(&report)?)
        } else {
            format!("{}{}", render::faults(&faults, globals.style()), render::found(&found))
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What others left, as far as it can be seen.
fn look_around(globals: &Globals) -> Result<Vec<Found>, Failure> {
    let world = World::look(globals, &[])?;
    let journalled = orphans::held(&Journal::usual())?;
    let (found, warnings) = findings::find(&world.snapshot, &journalled, &|id| world.open(id));
    warn_all(&warnings);
    Ok(found)
}
