//! `snorkel partition`: groups of targets that do not reach each other.

use clap::Args;
use snorkel_engines::TargetSpec;
use snorkel_fault::plan::{Names, Partition as Wish, Plan, partition_words};
use snorkel_topology::Snapshot;

use crate::cli::Globals;
use crate::commands::complete;
use crate::commands::hold::{Ask, Hold};
use crate::failure::{Failure, Outcome};

/// Part groups of targets from each other
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel partition a,b c,d        a and b on one side, c and d on the other
  snorkel partition a,b b,c        b reaches both; a and c do not reach each other
  snorkel partition a b c          nobody reaches anybody
  snorkel partition a,b '->' c     one way: packets of a and b do not reach c
  snorkel partition web host       web and the host itself

Two targets reach each other if a group has both. IPv4 and IPv6, over engines, bridges and networks; others are not
touched. All addresses of this moment count.")]
pub(crate) struct Partition {
    /// Groups: targets with commas between them
    #[arg(value_name = "A,B", required = true, num_args = 2.., add = complete::groups())]
    groups: Vec<String>,
    #[command(flatten)]
    hold: Hold,
}

impl Partition {
    /// Parts, holds, heals.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        // A mistake in the words shows before anything is looked at.
        self.wish()?;
        let hold = self.hold.clone();
        hold.run(globals, self)
    }

    fn wish(&self) -> Result<Wish, Failure> {
        let wish = partition_words(&self.groups);
        let wish = wish.map_err(|why| Failure::new(why).hint("snorkel partition a,b c,d"))?;
        for member in wish.groups.iter().flatten() {
            member.parse::<TargetSpec>()?;
        }
        Ok(wish)
    }
}

impl Ask for Partition {
    fn targets(&self) -> Vec<TargetSpec> {
        let members = self.groups.iter().flat_map(|group| group.split(','));
        members.filter(|member| *member != "host").filter_map(|member| member.parse().ok()).collect()
    }

    fn plan(&self, snapshot: &Snapshot, _: Names<'_>) -> Result<Plan, Failure> {
        Ok(self.wish()?.plan(snapshot)?)
    }
}
