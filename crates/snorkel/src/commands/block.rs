//! `snorkel block`: some of a target's packets do not get through.

use clap::Args;
use snorkel_engines::TargetSpec;
use snorkel_fault::plan::{Block as Wish, Links, Names, Peer, Plan, Selection, Toward, Way};
use snorkel_fault::rule::{Protocol, protocol};
use snorkel_topology::Snapshot;

use crate::cli::Globals;
use crate::commands::complete;
use crate::commands::hold::{Ask, Hold};
use crate::failure::{Failure, Outcome};

/// Block packets between a target and a peer
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel block web --to db                  web's packets to db vanish
  snorkel block web --with db:5432           in both directions, that port only
  snorkel block web --to db --how reject     web gets a reset, or \"unreachable\"
  snorkel block web --to db --new            connections that exist go on
  snorkel block web --to 10.0.0.0/8 --proto udp
  snorkel block web --port 8080 --from host  what the host sends to web's port 8080
  snorkel block web --proto icmp

A PEER is a target, an address, a network, a name or `host`, each with a port behind a colon or without; IPv6 with a
port in brackets. A target as a peer stands for all its addresses of this moment.")]
pub(crate) struct Block {
    /// Whose packets
    #[arg(value_name = "TARGET", required = true, add = complete::targets())]
    targets: Vec<TargetSpec>,
    /// Only on this link of theirs; may be repeated
    #[arg(short = 'i', long = "link", visible_alias = "interface", value_name = "LINK")]
    links: Vec<String>,
    #[command(flatten)]
    towards: Towards,
    /// Only this protocol
    #[arg(long, value_name = "tcp|udp|icmp", value_parser = protocol, add = complete::protocols())]
    proto: Option<Protocol>,
    /// Only to and from this port of the target's own
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Vanish, or be answered with a reset or \"unreachable\"
    #[arg(long, value_name = "drop|reject", value_parser = ["drop", "reject"], default_value = "drop")]
    how: String,
    /// Only what opens a TCP connection
    #[arg(long)]
    new: bool,
    /// The host's own network is meant
    #[arg(long)]
    i_mean_the_host: bool,
    #[command(flatten)]
    hold: Hold,
}

/// Which packets, by whom they go to or come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Towards {
    /// What the target sends to this peer; may be repeated
    #[arg(long, value_name = "PEER[:PORT]", add = complete::targets())]
    to: Vec<Peer>,
    /// What the target gets from this peer; may be repeated
    #[arg(long, value_name = "PEER[:PORT]", add = complete::targets())]
    from: Vec<Peer>,
    /// Both; may be repeated
    #[arg(long, value_name = "PEER[:PORT]", add = complete::targets())]
    with: Vec<Peer>,
}

impl Towards {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Toward> {
        let ways = [(Way::To, &self.to), (Way::From, &self.from), (Way::With, &self.with)];
        ways.into_iter()
            .flat_map(|(way, peers)| peers.iter().map(move |peer| Toward { way, peer: peer.clone() }))
            .collect()
    }
}

impl Block {
    /// Blocks, holds, heals.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let hold = self.hold.clone();
        hold.run(globals, self)
    }
}

impl Ask for Block {
    fn targets(&self) -> Vec<TargetSpec> {
        self.targets.clone()
    }

    fn plan(&self, snapshot: &Snapshot, names: Names<'_>) -> Result<Plan, Failure> {
        let links = if self.links.is_empty() { Links::All } else { Links::Named(self.links.clone()) };
        let wish = Wish {
            selection: Selection {
                targets: self.targets.clone(),
                links,
                host_is_meant: self.i_mean_the_host,
            },
            towards: self.towards.all(),
            protocol: self.proto,
            port: self.port,
            reject: self.how == "reject",
            new: self.new,
        };
        Ok(wish.plan(snapshot, names)?)
    }
}
