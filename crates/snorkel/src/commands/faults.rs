//! `snorkel faults`: everything in force.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use snorkel_fault::control::{self, SCHEMA, Status};

use crate::cli::Globals;
use crate::commands::{print, warn_all};
use crate::failure::Outcome;
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
}

/// The JSON form.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    faults: &'a [Status],
}

impl Faults {
    /// Lists them.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let (faults, warnings) = control::list()?;
        warn_all(&warnings);
        let text = if self.json {
            format!("{}\n", serde_json::to_string_pretty(&Report { schema: SCHEMA, faults: &faults })?)
        } else {
            render::faults(&faults, globals.style())
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
