//! `snorkel heal`: ends faults, from any terminal.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use snorkel_fault::FaultId;
use snorkel_fault::control::{self, Healed, SCHEMA, Status};
use snorkel_fault::journal::Journal;
use snorkel_fault::orphans;

use crate::cli::Globals;
use crate::commands::{complete, print, warn_all};
use crate::failure::{Failure, Outcome};
use crate::render::faults as render;

/// End faults: those of targets, those with these names, or all
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel heal web     everything that disturbs web
  snorkel heal f3k     the fault of that name
  snorkel heal --all   everything that snorkel disturbs

Also ends what a killed snorkel could not end itself. What is not there needs no healing: the status is 0 then.")]
pub(crate) struct Heal {
    /// Targets, or the names of faults
    #[arg(value_name = "TARGET|ID", add = complete::faults())]
    which: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "which")]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The JSON form.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    healed: &'a [Healed],
}

impl Heal {
    /// Ends them.
    pub(crate) fn run(self, _: &Globals) -> Outcome {
        if self.which.is_empty() && !self.all {
            return Err(Failure::new("what is to be healed? a target, a fault's name, or --all")
                .hint("snorkel faults"));
        }
        // What nobody holds any more is ended by every command; here it is a part of the account.
        let mut healed = mend()?;
        let (statuses, warnings) = control::list()?;
        warn_all(&warnings);
        for status in statuses.iter().filter(|status| self.means(status)) {
            match control::heal(&status.id) {
                Ok(Some(done)) => healed.push(done),
                // It ended meanwhile: that was wanted.
                Ok(None) => {}
                Err(error) => healed.push(Healed {
                    id: status.id.clone(),
                    did: Vec::new(),
                    troubles: vec![snorkel_netns::chain(&error)],
                }),
            }
        }
        let troubled = healed.iter().any(|healed| !healed.troubles.is_empty());
        let text = if self.json {
            format!("{}\n", serde_json::to_string_pretty(&Report { schema: SCHEMA, healed: &healed })?)
        } else if healed.is_empty() {
            "nothing was to be healed\n".to_owned()
        } else {
            healed.iter().map(|healed| format!("{}\n", render::healed(healed, None))).collect()
        };
        print(&text)?;
        Ok(ExitCode::from(u8::from(troubled)))
    }

    /// Whether this fault is meant.
    fn means(&self, status: &Status) -> bool {
        self.all || self.which.iter().any(|word| is_meant(word, status))
    }
}

/// Whether a word means a fault: by its name, or by a target of it, whole or without the engine.
fn is_meant(word: &str, status: &Status) -> bool {
    let plain = |target: &str| target.split_once(':').is_some_and(|(_, name)| name == word);
    word.parse::<FaultId>().is_ok_and(|id| id == status.id)
        || status.targets.iter().any(|target| target == word || plain(target))
}

/// Ends what nobody holds any more.
fn mend() -> Result<Vec<Healed>, Failure> {
    let mended = orphans::mend(&Journal::usual())?;
    warn_all(&mended.warnings);
    Ok(mended.ended.into_iter().map(|(id, link, released)| render::mended(id, &link, released)).collect())
}

/// Ends what a killed snorkel left, before any command is run, and says so.
pub(crate) fn mend_first() {
    let line = |healed: Healed| format!("what a killed snorkel left is healed: {}", healed.did.join("; "));
    match mend() {
        Ok(healed) => {
            for healed in healed {
                crate::commands::hold::warn_plain(&line(healed));
            }
        }
        // Every command works without.
        Err(failure) => warn_all([&failure.to_string()]),
    }
}
