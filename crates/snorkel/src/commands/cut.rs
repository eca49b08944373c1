//! `snorkel cut`: a target off the network.

use std::time::Duration;

use clap::Args;
use snorkel_engines::TargetSpec;
use snorkel_fault::plan::{Cut as Wish, CutHow, Flap, Links, Names, Plan, Selection};
use snorkel_topology::Snapshot;

use crate::cli::{Globals, duration};
use crate::commands::complete;
use crate::commands::hold::{Ask, Hold};
use crate::failure::{Failure, Outcome};

/// Take targets off the network
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel cut web                     as if its cable were out, until Ctrl-C
  snorkel cut web --for 30s           for half a minute
  snorkel cut web -- ./check-failover while a command runs; its status is the command's
  snorkel cut web --how drop          silence instead: packets vanish in both directions
  snorkel cut web --how reject        somebody says no: RST, and \"unreachable\"
  snorkel cut web --flap 5s/2s        five seconds cut, two not, and again
  snorkel cut web --detach            leaves a process that holds it; `snorkel heal web` ends it

The target keeps its addresses and routes; with `carrier` it sees NO-CARRIER. Whatever ends snorkel ends the cut.")]
pub(crate) struct Cut {
    /// Who
    #[arg(value_name = "TARGET", required = true, add = complete::targets())]
    targets: Vec<TargetSpec>,
    /// Only this link of theirs; may be repeated
    #[arg(
        short = 'i',
        long = "link",
        visible_alias = "interface",
        value_name = "LINK",
        conflicts_with = "all"
    )]
    links: Vec<String>,
    /// All links of theirs, if they have several
    #[arg(long)]
    all: bool,
    /// How they are to feel it
    #[arg(long, value_name = "carrier|drop|reject", default_value = "carrier", add = complete::cuts())]
    how: CutHow,
    /// In turns: so long cut, so long not
    #[arg(long, value_name = "TIME/TIME", value_parser = flap)]
    flap: Option<Flap>,
    #[command(flatten)]
    hold: Hold,
}

impl Cut {
    /// Cuts, holds, heals.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let hold = self.hold.clone();
        hold.run(globals, self)
    }
}

impl Ask for Cut {
    fn targets(&self) -> Vec<TargetSpec> {
        self.targets.clone()
    }

    fn plan(&self, snapshot: &Snapshot, _: Names<'_>) -> Result<Plan, Failure> {
        let links = match (self.all, self.links.is_empty()) {
            (true, _) => Links::All,
            (false, true) => Links::TheOne,
            (false, false) => Links::Named(self.links.clone()),
        };
        let selection = Selection { targets: self.targets.clone(), links, host_is_meant: false };
        Ok(Wish { selection, how: self.how, flap: self.flap }.plan(snapshot)?)
    }
}

/// `5s/2s`.
fn flap(text: &str) -> Result<Flap, String> {
    let (on, off) = text.split_once('/').ok_or("two times are needed: 5s/2s is five seconds cut, two not")?;
    let (on, off): (Duration, Duration) = (duration(on)?, duration(off)?);
    Ok(Flap { on, off })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flap_is_two_times() {
        let wanted = Flap { on: Duration::from_secs(5), off: Duration::from_millis(500) };
        assert_eq!(flap("5s/500ms"), Ok(wanted));
        for wrong in ["5s", "/", "5s/", "5s/2s/1s", "0s/1s"] {
            assert!(flap(wrong).is_err(), "{wrong}");
        }
    }
}
