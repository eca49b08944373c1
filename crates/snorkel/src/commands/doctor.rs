//! `snorkel doctor`: what this kernel, these rights and these engines allow.

use std::process::ExitCode;

use clap::Args;
use snorkel_engines::{Endpoint, Endpoints, Query, Warning};

use crate::cli::Globals;
use crate::commands::print;
use crate::doctor::{Asked, Engine, Ink, Verdict, examine, text};
use crate::failure::Outcome;
use crate::render::style::Tone;

/// Say what this kernel, these rights and these engines allow, and how to get what is missing
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo snorkel doctor
  snorkel doctor --json | jq '.findings[] | select(.verdict != \"ok\")'

Every feature is tried in a namespace of its own, never concluded from a version. Status 0 if containers can be found
and entered, 1 if something that this needs is missing.")]
pub(crate) struct Doctor {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Examines everything and prints the report.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let report = examine(&asked(&globals.query(&[])));
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        } else {
            let style = globals.style();
            print(&text(&report, |ink, word| style.paint(tone(ink), word)))?;
        }
        Ok(if report.core_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn tone(ink: Ink) -> Tone {
    match ink {
        Ink::Heading => Tone::Heading,
        Ink::Label => Tone::Faint,
        Ink::Mark(Verdict::Ok) => Tone::Good,
        Ink::Mark(Verdict::Degraded | Verdict::Unknown) => Tone::Doubtful,
        Ink::Mark(Verdict::Missing) => Tone::Bad,
        Ink::Mark(Verdict::Absent) => Tone::Faint,
    }
}

/// Asks every place where an engine may be, each alone, so that what goes wrong belongs to that place.
fn asked(query: &Query) -> Vec<Asked> {
    let places = &query.endpoints;
    let mut asked = Vec::new();
    let mut sockets = |engine, endpoints: &[Endpoint], only: fn(Endpoint) -> Endpoints| {
        for endpoint in endpoints {
            let answer = if endpoint.path.exists() { heard(query, only(endpoint.clone())) } else { Ok(None) };
            asked.push(Asked { engine, socket: endpoint.path.display().to_string(), answer });
        }
    };
    let none = Endpoints::none;
    sockets(Engine::Docker, &places.docker, |e| Endpoints { docker: vec![e], ..Endpoints::none() });
    sockets(Engine::Podman, &places.podman, |e| Endpoints { podman: vec![e], ..Endpoints::none() });
    sockets(Engine::Containerd, &places.containerd, |e| Endpoints {
        containerd: vec![e],
        ..Endpoints::none()
    });
    sockets(Engine::Cri, &places.cri, |e| Endpoints { cri: vec![e], ..Endpoints::none() });
    if let Some(lxc) = &places.lxc {
        let answer = heard(query, Endpoints { lxc: Some(lxc.clone()), ..none() });
        asked.push(Asked { engine: Engine::Lxc, socket: lxc.sockets.display().to_string(), answer });
    }
    if let Some(nspawn) = &places.nspawn {
        let dir = &nspawn.machines;
        let there = dir.exists() || nspawn.used.exists();
        let answer =
            if there { heard(query, Endpoints { nspawn: Some(nspawn.clone()), ..none() }) } else { Ok(None) };
        asked.push(Asked { engine: Engine::Nspawn, socket: dir.display().to_string(), answer });
    }
    asked
}

/// What came of asking just these places.
fn heard(query: &Query, endpoints: Endpoints) -> Result<Option<String>, Warning> {
    let answer = snorkel_engines::list(&Query { endpoints, ..query.clone() });
    match answer.warnings.into_iter().next() {
        Some(warning) => Err(warning),
        None => Ok(Some(format!("answers; {} containers", answer.containers.len()))),
    }
}
