//! `snorkel impair`: a bad network.

mod words;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use clap::Args;
use snorkel_engines::TargetSpec;
use snorkel_fault::plan::{Impair as Wish, Links, Names, Peer, Plan, Selection};
use snorkel_fault::profile::Profile;
use snorkel_fault::rule::{Direction, Protocol, protocol};
use snorkel_fault::{Chance, Distribution, Impairment, Likely, Loss, Reorder};
use snorkel_topology::Snapshot;

use crate::cli::Globals;
use crate::commands::block::Towards;
use crate::commands::complete;
use crate::commands::hold::{Ask, Hold};
use crate::failure::{Failure, Outcome};
use words::{Sided, distribution, jitter, profile, rate, read, sided, time};

/// Make a target's network bad: late, lossy, slow
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel impair web --delay 100ms                  what web sends is late: ping shows 100 ms more
  snorkel impair web --delay 50ms --direction both  both ways
  snorkel impair db --loss 5% -- ./integration-tests
  snorkel impair web --profile 3g --spare 10.0.0.1  but not for the health check
  snorkel impair web --delay out:100ms --rate in:1mbit
  snorkel impair web --delay 80ms --jitter 20ms --distribution normal --with db:5432
  snorkel impair web --loss gemodel:1%,30%          in bursts, after Gilbert and Elliott
  snorkel impair web --loss 10% --seed 7            the same packets have the same fate next time

A value holds for every direction that is impaired, or for one with in: or out: before it. Without --direction and
without a peer that is what the target sends (out), as with tc. Delay and loss are per packet on the wire, whatever
the offloads. What came of it is measured and told.")]
pub(crate) struct Impair {
    /// Whose network
    #[arg(value_name = "TARGET", required = true, add = complete::targets())]
    targets: Vec<TargetSpec>,
    /// Only this link of theirs; may be repeated
    #[arg(short = 'i', long = "link", visible_alias = "interface", value_name = "LINK")]
    links: Vec<String>,
    /// Add to the time of each packet, one way
    #[arg(long, value_name = "[in:|out:]TIME", value_parser = |text: &str| sided(text, time))]
    delay: Vec<Sided<Duration>>,
    /// How far single delays differ; with a comma, how much each takes from the one before
    #[arg(long, value_name = "TIME[,PERCENT]", value_parser = |text: &str| sided(text, jitter))]
    jitter: Vec<Sided<(Duration, Chance)>>,
    /// The shape of the jitter
    #[arg(long, value_name = "uniform|normal|pareto|paretonormal|FILE", value_parser = distribution)]
    distribution: Option<Distribution>,
    /// Lose packets; with a comma a correlation, or a model of bursts
    #[arg(long, value_name = "PERCENT|gemodel:P,R,1-H,1-K", value_parser = |text: &str| sided(text, read::<Loss>))]
    loss: Vec<Sided<Loss>>,
    /// Deliver packets twice
    #[arg(long, value_name = "PERCENT", value_parser = |text: &str| sided(text, read::<Likely>))]
    duplicate: Vec<Sided<Likely>>,
    /// Let packets overtake the delayed ones
    #[arg(long, value_name = "PERCENT", value_parser = |text: &str| sided(text, read::<Reorder>))]
    reorder: Vec<Sided<Reorder>>,
    /// Turn a bit
    #[arg(long, value_name = "PERCENT", value_parser = |text: &str| sided(text, read::<Likely>))]
    corrupt: Vec<Sided<Likely>>,
    /// No faster than this
    #[arg(long, value_name = "10mbit", value_parser = |text: &str| sided(text, rate))]
    rate: Vec<Sided<u64>>,
    /// So many packets wait at most; enough for rate and delay if not given
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Where chance begins: the same seed and the same packets have the same fate
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A link as it is known
    #[arg(long, value_name = "3g|satellite|lossy-wifi|...", value_parser = profile, add = complete::profiles())]
    profile: Option<&'static Profile>,
    #[command(flatten)]
    towards: Towards,
    /// Which way
    #[arg(long, value_name = "in|out|both", value_parser = ["in", "out", "both"])]
    direction: Option<String>,
    /// Not to and from this peer; may be repeated
    #[arg(long, value_name = "PEER[:PORT]", add = complete::targets())]
    spare: Vec<Peer>,
    /// Only this protocol
    #[arg(long, value_name = "tcp|udp|icmp", value_parser = protocol, add = complete::protocols())]
    proto: Option<Protocol>,
    /// Only to and from this port of the target's own
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The host's own network is meant
    #[arg(long)]
    i_mean_the_host: bool,
    #[command(flatten)]
    hold: Hold,
}

impl Impair {
    /// Impairs, holds, heals.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        // A mistake in the words shows before anything is looked at.
        self.wish()?;
        let hold = self.hold.clone();
        hold.run(globals, self)
    }

    fn wish(&self) -> Result<Wish, Failure> {
        let links = if self.links.is_empty() { Links::All } else { Links::Named(self.links.clone()) };
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let of = |direction| self.impairment(direction, seed);
        Ok(Wish {
            selection: Selection {
                targets: self.targets.clone(),
                links,
                host_is_meant: self.i_mean_the_host,
            },
            out: self.is_impaired(Direction::Out).then(|| of(Direction::Out)).transpose()?,
            into: self.is_impaired(Direction::In).then(|| of(Direction::In)).transpose()?,
            towards: self.towards.all(),
            protocol: self.proto,
            port: self.port,
            spare: self.spare.clone(),
        })
    }

    /// Whether packets of this direction are meant: by the option, by the peers, by a value for it, or as ever.
    fn is_impaired(&self, direction: Direction) -> bool {
        let by_word = self.direction.as_deref().map(|word| match word {
            "in" => direction == Direction::In,
            "out" => direction == Direction::Out,
            _ => true,
        });
        if let Some(meant) = by_word {
            return meant;
        }
        let sides = self.sides();
        let towards = self.towards.all();
        if !sides.is_empty() && sides.iter().all(Option::is_some) {
            return sides.contains(&Some(direction));
        }
        if sides.contains(&Some(direction)) {
            return true;
        }
        if !towards.is_empty() {
            return towards.iter().any(|toward| toward.way.directions().contains(&direction));
        }
        // A link by name has two ways.
        self.profile.is_some() || direction == Direction::Out
    }

    /// For which side each value was given.
    fn sides(&self) -> Vec<Option<Direction>> {
        fn of<T>(values: &[Sided<T>]) -> impl Iterator<Item = Option<Direction>> {
            values.iter().map(|value| value.side)
        }
        of(&self.delay)
            .chain(of(&self.jitter))
            .chain(of(&self.loss))
            .chain(of(&self.duplicate))
            .chain(of(&self.reorder))
            .chain(of(&self.corrupt))
            .chain(of(&self.rate))
            .chain(self.profile.map(|_| None))
            .collect()
    }

    fn impairment(&self, direction: Direction, seed: u64) -> Result<Impairment, Failure> {
        fn last<T: Clone>(values: &[Sided<T>], direction: Direction) -> Option<T> {
            values.iter().rev().find(|value| value.is_for(direction)).map(|value| value.value.clone())
        }
        let mut all = self.profile.map(|profile| profile.impairment(direction)).unwrap_or_default();
        if let Some(delay) = last(&self.delay, direction) {
            all.delay = delay;
        }
        if let Some((jitter, correlation)) = last(&self.jitter, direction) {
            (all.jitter, all.delay_correlation) = (jitter, correlation);
        }
        if let Some(distribution) = &self.distribution {
            all.distribution = distribution.clone();
        }
        all.loss = last(&self.loss, direction).or(all.loss);
        all.duplicate = last(&self.duplicate, direction).unwrap_or(all.duplicate);
        all.reorder = last(&self.reorder, direction).or(all.reorder);
        all.corrupt = last(&self.corrupt, direction).unwrap_or(all.corrupt);
        all.rate = last(&self.rate, direction).or(all.rate);
        all.limit = self.limit.or(all.limit);
        // The two directions draw differently.
        all.seed = match direction {
            Direction::Out => seed,
            Direction::In => seed ^ u64::MAX,
        };
        if all.reorder.is_some() && all.delay.is_zero() {
            return Err(Failure::new("--reorder lets packets overtake delayed ones, and none is delayed")
                .hint("--delay 10ms"));
        }
        if self.distribution.is_some() && all.jitter.is_zero() {
            return Err(Failure::new("--distribution is the shape of the jitter, and there is none")
                .hint("--jitter 10ms"));
        }
        if all.is_none() {
            return Err(Failure::new("what is to become of the packets?")
                .hint("--delay 100ms, --loss 5%, --rate 10mbit, or --profile 3g"));
        }
        Ok(all)
    }
}

impl Ask for Impair {
    fn targets(&self) -> Vec<TargetSpec> {
        self.targets.clone()
    }

    fn plan(&self, snapshot: &Snapshot, names: Names<'_>) -> Result<Plan, Failure> {
        Ok(self.wish()?.plan(snapshot, names)?)
    }
}
