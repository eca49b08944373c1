//! `snorkel lab`: throw-away containers to try everything on.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use snorkel_lab::{Lab as Running, LabSpec, State};
use snorkel_topology::SCHEMA;

use crate::cli::Globals;
use crate::commands::{complete, print, tour, warn_all};
use crate::failure::{Failure, Outcome};
use crate::render::table::{Cell, table};

/// Throw-away containers to try everything on: web, db and client on a bridge of their own
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel lab up                 web (HTTP), db (echo), client and their switch
  snorkel lab up --nodes 50      fifty that do nothing
  snorkel exec lab:client -- curl http://web/
  snorkel lab down               all of it is gone
  snorkel lab tour               the whole job in a minute

A lab is made of namespaces alone, held by one process: nothing of it lies in the host's network or file system, and
killing that process is as good as `lab down`.")]
pub(crate) struct Lab {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a lab
    Up {
        /// Its name; `lab:web` is the node `web` of the lab `lab`, `lab:NAME/web` that of another
        #[arg(default_value = "lab")]
        name: String,
        /// So many nodes that do nothing, instead of web, db and client
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1023))]
        nodes: Option<u16>,
    },
    /// List the labs and their nodes
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a lab away
    Down {
        /// Its name
        #[arg(default_value = "lab", add = complete::labs())]
        name: String,
    },
    /// Take a newcomer through the whole job
    Tour,
}

/// The JSON form of `lab ls`.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    labs: &'a [Running],
}

impl Lab {
    /// Does what was asked with the lab.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        match self.action {
            Action::Up { name, nodes } => {
                let spec = nodes
                    .map_or_else(LabSpec::default, |count| LabSpec::idle(usize::from(count)))
                    .named(name);
                let lab = snorkel_lab::up(&spec).map_err(hinted)?;
                let names: Vec<&str> = lab.nodes.iter().map(|node| node.name.as_str()).collect();
                let shown = if names.len() > 8 { format!("{} nodes", names.len()) } else { names.join(", ") };
                print(&format!("lab {} is up: {shown}\n", lab.name))?;
            }
            Action::Ls { json } => {
                let (labs, faults) = snorkel_lab::list_with_faults().map_err(hinted)?;
                warn_all(&faults.iter().map(|fault| snorkel_netns::chain(fault)).collect::<Vec<_>>());
                let text = if json {
                    format!("{}\n", serde_json::to_string_pretty(&Report { schema: SCHEMA, labs: &labs })?)
                } else if labs.is_empty() && !faults.is_empty() {
                    String::new()
                } else {
                    listing(&labs, globals)
                };
                print(&text)?;
            }
            Action::Down { name } => {
                let down = snorkel_lab::down(&name).map_err(hinted)?;
                print(&format!("lab {} is gone: {} nodes ended\n", down.name, down.ended.len()))?;
            }
            Action::Tour => return tour::run(globals),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn hinted(error: snorkel_lab::Error) -> Failure {
    match &error {
        snorkel_lab::Error::AlreadyUp(name) => {
            let hint = format!("snorkel lab down {name}, or another name: snorkel lab up NAME");
            Failure::from(error).hint(hint)
        }
        snorkel_lab::Error::NoSuchLab(_) => Failure::from(error).hint("snorkel lab ls"),
        snorkel_lab::Error::Capability { .. } => Failure::from(error).hint("run it with sudo"),
        _ => error.into(),
    }
}

fn listing(labs: &[Running], globals: &Globals) -> String {
    if labs.is_empty() {
        return "no lab is up\n".to_owned();
    }
    let mut rows = Vec::new();
    for lab in labs {
        for node in &lab.nodes {
            let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(",") };
            rows.push(vec![
                Cell::new(&lab.name),
                Cell::new(&node.name),
                Cell::new(node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())),
                Cell::new(list(node.addresses.iter().map(ToString::to_string).collect())),
                Cell::new(list(
                    node.ports.iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect(),
                )),
                Cell::new(match node.state {
                    State::Running => "running",
                    State::Exited => "exited",
                }),
            ]);
        }
    }
    table(&["LAB", "NODE", "PID", "ADDRESS", "PORTS", "STATE"], &rows, globals.style())
}

/// Becomes the holder of a lab, if this process was started as one.
pub(crate) fn serve_if_holder() {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == snorkel_lab::HOLDER_ARGUMENT) && words.next().is_none() {
        snorkel_lab::holder_main()
    }
}
