//! `snorkel tap`: stand in front of a target's port.

mod har;
mod objects;
mod peers;
mod queue;
mod record;
mod show;
mod spoil;
mod warden;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use clap::Args;
use snorkel_bpf::tap::Transport;
use snorkel_fault::plan::Peer;
use snorkel_netns::{Netns, NetnsId, Process};
use snorkel_tap::decode::{self, Protocol};
use snorkel_tap::event::{Event, Teller, Told, What, Word};
use snorkel_tap::proxy::Proxy;
use snorkel_tap::relay::{Options, Report};
use snorkel_tap::steer::{self, Door, Notes};
use snorkel_topology::locate::{Located, Place, locate};
use snorkel_topology::{Snapshot, Survey, Surveyor};

use crate::cli::{Globals, duration};
use crate::commands::capture::names::Whose;
use crate::commands::capture::signals::Signals;
use crate::commands::capture::spots::label;
use crate::commands::{complete, warn_all, warn_engines, warn_snapshot};
use crate::failure::{Failure, Outcome};
use crate::render::tap::Lines;
use crate::render::text::printable;
use record::{Bell, Keeper, Recording};
pub(crate) use show::Called;
use show::{Form, Show, Shows};
use spoil::SpoilArgs;
use warden::Inhabitant;
use words::Tapped;

/// Words that may wait to be shown; each has 16 KiB at most.
const ROOM: usize = 4096;

/// Stand in front of a target's port: show, record and spoil its connections
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel tap web:80                          a line for each connection, until Ctrl-C
  snorkel tap -v web:80                       what is said on them
  snorkel tap -v db:5432 cache:6379           several ports of several targets
  snorkel tap --json web:80 | jq .            an object for each event
  snorkel tap web:80 -w web.pcapng            as packets, for Wireshark; --har web.har for browsers' tools
  snorkel tap -v dns:53/udp dns:53            questions and answers, over UDP and TCP; -w keeps both
  snorkel tap web --to db:5432                what web opens to db's port 5432
  snorkel tap web:80 --latency 200ms          answers come 200 ms later
  snorkel tap web:80 --match 'POST /pay' --respond 503
  snorkel tap web:80 --drop-connection 10% --seed 7

No client is reconfigured and no rule is written: a program in the target's network gives new connections to snorkel,
which passes them on to the application. Connections that exist are not touched. When snorkel ends, however it ends, the
next connection goes to the application as it always did.

With --to it is the other way round: what the target's own processes open to a peer goes through snorkel, which connects
to it from inside the same network. The peer is a target, an address, a network or a name, as the target resolves it. That
takes a rule in the target's network (nftables, with an owner: it goes with snorkel), and connection tracking with it.")]
pub(crate) struct Tap {
    /// Ports of targets, of TCP if not of UDP: web:80, docker:web:443, dns:53/udp; with --to a target alone
    #[arg(required = true, value_name = "TARGET:PORT", add = complete::targets())]
    what: Vec<String>,
    /// What the target opens to this peer instead: db:5432, 10.0.0.0/8, db.example:443; may be repeated
    #[arg(long, value_name = "PEER[:PORT]", add = complete::targets())]
    to: Vec<Peer>,
    /// Decode as this protocol: http, http2, grpc, dns, redis, postgres, mysql, tls, raw; without it by what is seen
    #[arg(long = "as", value_name = "PROTOCOL")]
    protocol: Option<Protocol>,
    /// Show passwords, cookies and credentials as they are
    #[arg(long)]
    show_secrets: bool,
    /// One JSON object for each event
    #[arg(long)]
    json: bool,
    /// Write what TCP and UDP carry to this file as packets (pcapng), made of the bytes that pass; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Write HTTP's requests and answers to this file (HAR 1.2, without bodies); `-` is stdout
    #[arg(long, value_name = "FILE")]
    har: Option<PathBuf>,
    /// How long a flow of datagrams goes on in which nobody says anything
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    udp_idle: Duration,
    /// How long connections may go on after Ctrl-C
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain: Duration,
    /// Say the client's address to the application with the PROXY protocol: v1 or v2
    #[arg(long, value_name = "v1|v2", value_parser = proxy)]
    proxy_protocol: Option<Proxy>,
    #[command(flatten)]
    spoil: SpoilArgs,
}

/// What a tap is for; one network can have one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Tcp,
    Udp,
    Outbound,
}

impl Purpose {
    /// What is relayed for it.
    fn transport(self) -> Transport {
        match self {
            Purpose::Tcp | Purpose::Outbound => Transport::Tcp,
            Purpose::Udp => Transport::Udp,
        }
    }
}

/// The taps to be, in the order in which they are numbered.
type Networks = BTreeMap<(NetnsId, Purpose), Network>;

/// The tap of one network: what is tapped, and whose it is.
struct Network {
    netns: Netns,
    doors: Vec<Door>,
    peers: Vec<steer::Peer>,
    name: String,
    inhabitants: Vec<(String, Process)>,
}

impl Network {
    /// `web:80/tcp`, for each port.
    fn doors(&self) -> Vec<String> {
        self.doors.iter().map(|door| format!("{}:{door}", self.name)).collect()
    }
}

/// What is kept in files, and the names in them.
struct Keeping<'a> {
    wanted: &'a record::Wanted,
    whose: &'a Whose,
}

/// What a tap said, and which one.
struct Heard(usize, Word);

impl Tap {
    /// Taps until the end.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let options = self.options(globals)?;
        let wanted = self.wanted()?;
        let query = globals.query(&[]);
        let mut networks = Networks::new();
        let snapshot = if self.to.is_empty() {
            for word in &self.what {
                let tapped: Tapped = word.parse().map_err(Failure::new)?;
                let located = locate(&query, &tapped.target)?;
                warn_engines(&located.warnings);
                let purpose = match tapped.door.transport {
                    Transport::Tcp => Purpose::Tcp,
                    Transport::Udp => Purpose::Udp,
                };
                let network = join(&mut networks, located, purpose)?;
                if !network.doors.contains(&tapped.door) {
                    network.doors.push(tapped.door);
                }
            }
            let snapshot = Surveyor::new(Survey { query, listeners: false }).take()?;
            warn_snapshot(&snapshot);
            snapshot
        } else {
            peers::join_all(&mut networks, &self.what, &self.to, globals, &query)?
        };
        let mut whose = Whose::new(&snapshot);
        if networks.keys().any(|(_, purpose)| *purpose == Purpose::Udp)
            && (options.spoil.is_some() || options.proxy.is_some())
        {
            return Err(Failure::new("datagrams can be shown, but not spoilt, and have no PROXY protocol")
                .hint("tap the UDP ports in a command of their own"));
        }
        for (at, (id, _)) in networks.keys().enumerate() {
            whose.sees_from(&snapshot, at, *id);
        }
        if networks.keys().all(|(_, purpose)| *purpose == Purpose::Udp) && wanted.har.is_some() {
            return Err(Failure::new("there is no HTTP in datagrams that could go to --har")
                .hint("-w FILE keeps them as packets"));
        }
        let form = match (wanted.takes_stdout(), self.json) {
            (true, _) => Form::Nothing,
            (false, true) => Form::Objects,
            (false, false) => Form::Lines(Lines::new(globals.style(), globals.is_verbose())),
        };
        let show = Show::new(form, whose.names().clone(), names(&networks, &snapshot));
        self.begin(networks, options, globals, show, Keeping { wanted: &wanted, whose: &whose })
    }

    /// What is to be kept in files.
    fn wanted(&self) -> Result<record::Wanted, Failure> {
        let wanted = record::Wanted { packets: self.write.clone(), har: self.har.clone() };
        if wanted.takes_stdout() && self.json || wanted.are_both_stdout() {
            return Err(Failure::new("only one thing can go to stdout").hint("name a file"));
        }
        Ok(wanted)
    }

    fn options(&self, globals: &Globals) -> Result<Options, Failure> {
        let spoil = self.spoil.spoil()?;
        let looks = globals.is_verbose()
            || self.json
            || self.har.is_some()
            || self.protocol.is_some()
            || !spoil.rules.is_empty();
        Ok(Options {
            decode: looks.then(|| self.decode(globals)),
            bytes: self.write.is_some(),
            spoil,
            proxy: self.proxy_protocol,
            drain: self.drain,
        })
    }

    fn decode(&self, globals: &Globals) -> decode::Options {
        decode::Options {
            protocol: self.protocol,
            show_secrets: self.show_secrets,
            raw: globals.is_verbose() || self.json,
        }
    }

    fn begin(
        &self,
        networks: Networks,
        options: Options,
        globals: &Globals,
        mut show: Show,
        keeping: Keeping<'_>,
    ) -> Outcome {
        let Keeping { wanted, whose } = keeping;
        // From here on a signal ends the tap, not the process: what is written is left whole.
        let signals = Signals::take()?;
        allow_descriptors();
        let (keeper, inbox) = wanted.is_some().then(record::way).unzip();
        let (to, heard) = sync_channel::<Heard>(ROOM);
        let mut taps = Vec::new();
        let mut inhabitants = Vec::new();
        let (mut notes, mut sources) = (Vec::new(), Vec::new());
        for (at, ((_, purpose), network)) in networks.into_iter().enumerate() {
            let transport = purpose.transport();
            // Of datagrams nothing goes to an archive of HTTP.
            let is_kept = transport == Transport::Tcp || wanted.packets.is_some();
            let keeper = keeper.as_ref().filter(|_| is_kept).map(|keeper| keeper.of(transport));
            let teller = teller(at, to.clone(), keeper, show.shows());
            let doors = network.doors();
            let (netns, mut options) = (network.netns, options.clone());
            if purpose == Purpose::Udp {
                // It goes through memory in any case.
                options.decode.get_or_insert(self.decode(globals));
            }
            let tap = match purpose {
                Purpose::Tcp => snorkel_tap::Tap::start(netns, network.doors, cgroup(), options, teller),
                Purpose::Udp => {
                    let idle = self.udp_idle;
                    snorkel_tap::Tap::start_datagrams(netns, network.doors, cgroup(), options, idle, teller)
                }
                Purpose::Outbound => {
                    snorkel_tap::Tap::start_outbound(netns, network.peers.clone(), options, teller)
                }
            }?;
            let typed = self.to.iter().filter(|_| !network.peers.is_empty());
            let peers = typed.map(|peer| format!("{} to {}", network.name, peers::text(peer)));
            let doors: Vec<String> = doors.into_iter().chain(peers).collect();
            sources.push((transport, doors.join(", ")));
            notes.push((network.name.clone(), doors, tap.notes.clone()));
            taps.push(tap);
            let inhabited = network.inhabitants.into_iter();
            inhabitants.extend(inhabited.map(|(name, process)| Inhabitant { name, process, tap: at }));
        }
        drop((to, keeper));
        let bell = Bell::new()?;
        let record = |inbox| Recording::start(wanted.open(&sources, whose, &bell)?, inbox, bell.clone());
        let recording = match inbox.map(record).transpose() {
            Ok(recording) => recording,
            Err(failure) => {
                // Whoever was led here meanwhile may finish.
                taps.iter().try_for_each(|tap| tap.control().map(|control| control.stop()))?;
                taps.into_iter().try_for_each(|tap| tap.wait().map(drop))?;
                return Err(failure);
            }
        };
        announce(&notes, &options);
        let controls = taps.iter().map(snorkel_tap::Tap::control).collect::<Result<Vec<_>, _>>()?;
        let stopping = taps.iter().map(snorkel_tap::Tap::control).collect::<Result<Vec<_>, _>>()?;
        std::thread::Builder::new()
            .name("snorkel-warden".into())
            .spawn(move || warden::watch(signals, inhabitants, controls, bell))?;
        let mut failure = None;
        // It ends with the last tap.
        for Heard(at, word) in heard {
            if failure.is_none()
                && let Err(error) = show.take(at, word)
            {
                // Those whose connections they are know nothing of who reads here: they may finish.
                stopping.iter().for_each(snorkel_tap::Control::stop);
                failure = Some(error);
            }
        }
        let mut all = Report::default();
        for tap in taps {
            let report = tap.wait()?;
            all.connections += report.connections;
            all.cut += report.cut;
            all.untold += report.untold;
        }
        // Before a failure is told: what was recorded is to be found whole.
        let complete = recording.map_or(Ok(true), Recording::finish)?;
        failure.map_or(Ok(()), Err)?;
        show.finish(&all)?;
        Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Where the tap with this number tells what happens: those who keep it, and those who show it.
fn teller(tap: usize, to: SyncSender<Heard>, keeper: Option<Keeper>, shows: Shows) -> Teller {
    Teller::new(move |word| {
        let word = match (word, &keeper) {
            (Word::Event(event), Some(keeper)) => match kept(keeper, tap, event) {
                Some(event) => Word::Event(event),
                None => return Told::Yes,
            },
            (word, _) => word,
        };
        if !shows.wants(&word) {
            return Told::Yes;
        }
        match to.try_send(Heard(tap, word)) {
            Ok(()) => Told::Yes,
            // Nobody listens to what comes at the very end.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Told::NoRoom,
        }
    })
}

/// Has an event kept; gives what is left of it to be shown.
fn kept(keeper: &Keeper, tap: usize, event: Event) -> Option<Event> {
    if let What::Bytes { .. } | What::Urgent { .. } | What::Datagram { .. } | What::Finished { .. } =
        event.what
    {
        keeper.keep(tap, event);
        return None;
    }
    if keeper.wants(&event) {
        keeper.keep(tap, event.clone());
    }
    Some(event)
}

/// The network that a target is in.
fn join(networks: &mut Networks, located: Located, purpose: Purpose) -> Result<&mut Network, Failure> {
    let netns = located.netns()?;
    let id = netns.id()?;
    if netns.inode() == Netns::current()?.inode() {
        return Err(Failure::new(format!(
            "{} has no network of its own, it shares the host's, which is not tapped",
            located.name()
        )));
    }
    let name = located.name();
    let network = networks.entry((id, purpose)).or_insert_with(|| Network {
        netns,
        doors: Vec::new(),
        peers: Vec::new(),
        name: name.clone(),
        inhabitants: Vec::new(),
    });
    if let Place::Process(process) = located.place
        && !network.inhabitants.iter().any(|(other, _)| *other == name)
    {
        network.inhabitants.push((name, process));
    }
    Ok(network)
}

/// What each network is called before a line.
fn names(networks: &Networks, snapshot: &Snapshot) -> Vec<String> {
    let name = |((id, _), network): (&(NetnsId, Purpose), &Network)| {
        snapshot.targets_on(*id).find(|t| !t.host).map_or_else(|| network.name.clone(), label)
    };
    networks.iter().map(name).collect()
}

/// Says what is tapped, and what is not as one might think.
fn announce(notes: &[(String, Vec<String>, Notes)], options: &Options) {
    let doors: Vec<&str> = notes.iter().flat_map(|(_, doors, _)| doors).map(String::as_str).collect();
    // With stderr gone there is nobody to tell.
    let say = |text: &str| {
        let _ = writeln!(std::io::stderr(), "snorkel: {}", printable(text));
    };
    let mut first = format!("tapping {}", doors.join(", "));
    for (name, _, notes) in notes {
        if let Some(why) = notes.anonymous.as_ref().filter(|_| options.proxy.is_none()) {
            first.push_str(&format!(
                "; {name} sees its own address as the client's ({why}; --proxy-protocol says it to those who understand that)"
            ));
        }
    }
    let remarks: BTreeSet<&String> = notes.iter().flat_map(|(_, _, notes)| &notes.remarks).collect();
    remarks.iter().for_each(|remark| first.push_str(&format!("; {remark}")));
    say(&format!("{first}; Ctrl-C ends it"));
    for (name, _, notes) in notes {
        for door in &notes.silent {
            warn_all([&format!(
                "nobody listens on {name}:{door} now; what comes meanwhile is refused, as it was"
            )]);
        }
    }
    if options.spoil.drop > 0.0 || options.spoil.slice {
        say(&format!("the seed is {}", options.spoil.seed));
    }
}

/// The root of the unified cgroup hierarchy, wherever it is mounted (cgroups(7)).
fn cgroup() -> Option<File> {
    let table = snorkel_netns::mounts::read(Path::new("/proc/self/mountinfo")).ok()?;
    let mounts = snorkel_netns::mounts::parse(&table);
    let mount = mounts.iter().find(|mount| mount.kind == "cgroup2")?;
    File::open(&mount.point).ok()
}

/// Allows as many descriptors as may be allowed: each connection takes two, and many systems give 1024 at first.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With fewer there are fewer connections at once, which is told when it comes to that.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn proxy(text: &str) -> Result<Proxy, String> {
    match text {
        "v1" => Ok(Proxy::V1),
        "v2" => Ok(Proxy::V2),
        _ => Err("there are v1 and v2".to_owned()),
    }
}
