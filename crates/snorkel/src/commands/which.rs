//! `snorkel which`: whose is this link, address, namespace, process or port?

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use snorkel_topology::which::{Finding, Thing, which};
use snorkel_topology::{SCHEMA, Snapshot, Survey, Surveyor, Target};

use crate::cli::Globals;
use crate::commands::{complete, print, warn_all, warn_snapshot};
use crate::failure::{Failure, Outcome};
use crate::render::which::finding;

/// Say whose a link, index, address, namespace, process or port is
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel which veth2e7d114         a link on the host
  snorkel which 17                  the host link of index 17, the namespace of that inode, or the process
  snorkel which 172.17.0.2          an address; also 172.17.0.2/16, fd00::2
  snorkel which 02:42:ac:11:00:02   a hardware address
  snorkel which net:[4026532281]    a network namespace, as readlink /proc/PID/ns/net shows it
  snorkel which 172.17.0.2:80       who listens there
  snorkel which 127.0.0.1:8080      whose published port that is
  snorkel which lab:switch/vethweb  a link in the network of a target

Status 0 if all were found, 1 if one was not.")]
pub(crate) struct Which {
    /// A link, ifindex, IP or MAC address, namespace inode, PID, or ADDRESS:PORT
    #[arg(required = true, value_name = "THING", add = complete::things())]
    things: Vec<String>,
    /// One JSON object with an entry for each THING
    #[arg(long)]
    json: bool,
}

/// The JSON form of an answer.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    things: Vec<Answer<'a>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    thing: &'a str,
    found: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Whether a target is called so, and nothing else.
fn is_target(snapshot: &Snapshot, thing: &str) -> bool {
    let unknown = thing.parse().is_ok_and(|parsed| which(snapshot, &parsed).is_err());
    let named = |target: &Target| target.name == thing || target.short == thing;
    unknown && snapshot.targets.iter().any(named)
}

impl Which {
    /// Takes one snapshot and asks it everything.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        // Reading a thing from text cannot fail: what is nothing else is a link's name.
        let things: Vec<Thing> =
            self.things.iter().map(|t| t.parse().unwrap_or_else(|never| match never {})).collect();
        let listeners = things.iter().any(|thing| matches!(thing, Thing::Socket(_)));
        let survey = Survey { query: globals.query(&[]), listeners };
        let pids = things.iter().filter_map(Thing::as_process).collect();
        let snapshot = Surveyor::new(survey).with_processes(pids).take()?;
        warn_snapshot(&snapshot);
        let mut answers = Vec::new();
        for (typed, thing) in self.things.iter().zip(&things) {
            answers.push(match which(&snapshot, thing) {
                Ok(found) => Answer { thing: typed, found, error: None },
                Err(unknown) => Answer { thing: typed, found: Vec::new(), error: Some(unknown.to_string()) },
            });
        }
        let unknown: Vec<String> = answers.iter().filter_map(|answer| answer.error.clone()).collect();
        if self.json {
            print(&format!(
                "{}\n",
                serde_json::to_string_pretty(&Report { schema: SCHEMA, things: answers })?
            ))?;
        } else {
            let style = globals.style();
            let blocks = answers
                .iter()
                .flat_map(|answer| answer.found.iter().map(|f| finding(answer.thing, f, style)));
            print(&blocks.collect::<Vec<_>>().join("\n"))?;
        }
        match unknown.split_last() {
            None => Ok(ExitCode::SUCCESS),
            Some((last, others)) => {
                warn_all(others);
                let failure = Failure::new(last.clone());
                // Whose network a target's is needs no answer; what it is plugged into, `ls` tells.
                let mut meant = self.things.iter().filter(|thing| is_target(&snapshot, thing));
                let pids = self.things.iter().filter_map(|thing| thing.strip_prefix("pid:"));
                let mut pids = pids.filter(|pid| pid.parse::<u32>().is_ok());
                if let Some(pid) = pids.next() {
                    return Err(failure.hint(format!("snorkel which {pid}")));
                }
                Err(match meant.next() {
                    Some(target) => failure.hint(format!("snorkel ls {target}, if the target was meant")),
                    None => failure,
                })
            }
        }
    }
}
