//! `snorkel read`: what is in a capture.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use snorkel_capture::dissect::{Base, Printer, Sequences, Style, Summary};
use snorkel_capture::file::{About, Batch, Reader};
use snorkel_capture::filter::{Filter, Mode, Options, SystemNames, WithHosts};
use snorkel_capture::flows::{Count, Flow, Flows, Report};
use snorkel_capture::names::{Names, Scope};
use snorkel_capture::{Interface, LinkType, Packet};
use snorkel_topology::SCHEMA;

use crate::cli::Globals;
use crate::commands::capture::filter::refused;
use crate::commands::look::Look;
use crate::commands::{print, to_stdout};
use crate::failure::{Failure, Outcome};
use crate::render::flows as render;

/// Connections whose relative sequence numbers are kept.
const CONNECTIONS: usize = 65_536;
/// Flows that are counted at once.
const FLOWS: usize = 100_000;

/// Read packets from a capture file, as lines, as JSON, or as a table of flows
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel read web.pcapng                       a line for each packet
  snorkel read web.pcapng -X -- port 80         filtered, with hex and ASCII
  snorkel read web.pcapng --stats               a table of the flows
  snorkel read web.pcapng --json | jq .tcp      an object for each packet
  tcpdump -w - | snorkel read -                 from a pipe

pcapng and pcap are read, also those of other tools, also compressed by gzip or zstd. The filter is tcpdump's language
(pcap-filter(7)); `inbound` and `outbound` work where the file tells directions.")]
pub(crate) struct Read {
    /// The capture; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only the first N packets (that match)
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// No lines, but a table of the flows: packets and bytes each way, the handshake's round trip, what was sent again
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    look: Look,
    /// A filter in tcpdump's language
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

impl Read {
    /// Reads the capture and prints it.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let mut reader = Reader::open(&self.file)?;
        let sieve = Sieve::new(self.filter.join(" "), self.count);
        if self.stats { self.stats(&mut reader, sieve, globals) } else { self.lines(&mut reader, sieve) }
    }

    /// Counts all packets, then prints the table; of a file that is damaged what was read, before that is said.
    fn stats(&self, reader: &mut Reader, mut sieve: Sieve, globals: &Globals) -> Outcome {
        let mut flows = Flows::new(FLOWS);
        let mut finder =
            Finder { sequences: None, numeric: self.look.numeric, names: Arc::default(), known: 0 };
        let (mut batch, mut chosen) = (Batch::default(), Vec::new());
        let mut fault = None;
        loop {
            batch = match reader.next_batch(batch) {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            };
            chosen.clear();
            let flow = sieve.sift(&batch, &mut chosen)?;
            for packet in chosen.iter().filter_map(|(number, _)| batch.get(*number as usize)) {
                let Some(interface) = batch.about().interfaces.get(packet.interface) else { continue };
                flows.add(interface.link_type, &packet);
            }
            if flow.is_break() {
                break;
            }
        }
        sieve.refuse_untried(reader.about())?;
        let (report, about) = (flows.report(), reader.about());
        if self.look.json {
            let stats = Stats::new(&report, &about.interfaces);
            print(&format!("{}\n", serde_json::to_string_pretty(&stats)?))?;
        } else {
            let names = finder.names(about);
            print(&render::flows(&report, &about.interfaces, &names, globals.style()))?;
        }
        match fault {
            None => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error.into()),
        }
    }

    fn lines(&self, reader: &mut Reader, mut sieve: Sieve) -> Outcome {
        let sequences = (!self.look.absolute && !self.look.json).then(|| Sequences::new(CONNECTIONS));
        let mut finder = Finder { sequences, numeric: self.look.numeric, names: Arc::default(), known: 0 };
        // The last thing that stopped the writing: a pipe that was closed, mostly.
        let mut stopped = None;
        let mut refused = None;
        let workers =
            std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
        let result = reader.for_each_batch(
            workers,
            |batch, found: &mut Found| {
                found.packets.clear();
                found.names = finder.names(batch.about());
                let flow = sieve.sift(batch, &mut found.packets);
                finder.bases(batch, found);
                flow.unwrap_or_else(|failure| {
                    refused = Some(failure);
                    ControlFlow::Break(())
                })
            },
            || self.look.renderer(),
            |text| match io::stdout().lock().write_all(text) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    stopped = Some(error);
                    ControlFlow::Break(())
                }
            },
        );
        if let Some(failure) = refused {
            return Err(failure);
        }
        match stopped {
            Some(error) => return Err(to_stdout(error).into()),
            None => io::stdout().flush().map_err(to_stdout)?,
        }
        result?;
        sieve.refuse_untried(reader.about())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The JSON form of the table.
#[derive(Serialize)]
struct Stats<'a> {
    schema: u32,
    flows: Vec<NamedFlow<'a>>,
    evicted: u64,
    evicted_total: Count,
    other: Count,
}

/// A flow, with the name of the interface that it has only the number of.
#[derive(Serialize)]
struct NamedFlow<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    link: &'a str,
    #[serde(flatten)]
    flow: &'a Flow,
}

impl<'a> Stats<'a> {
    fn new(report: &'a Report, interfaces: &'a [Interface]) -> Stats<'a> {
        let named = |flow: &'a Flow| {
            let link = interfaces.get(flow.interface).map_or("", |interface| interface.name.as_str());
            NamedFlow { link, flow }
        };
        let Report { flows, evicted, evicted_total, other } = report;
        let (evicted, evicted_total, other) = (*evicted, *evicted_total, *other);
        Stats { schema: SCHEMA, flows: flows.iter().map(named).collect(), evicted, evicted_total, other }
    }
}

/// What is found out about a batch before it is rendered, in the capture's order.
#[derive(Default)]
struct Found {
    /// Which of its packets are wanted, and what their sequence numbers are shown relative to.
    packets: Vec<(u32, Base)>,
    names: Arc<Names>,
}

/// Chooses packets.
struct Sieve {
    text: String,
    hosts: WithHosts<SystemNames>,
    /// By the type of the link; names in the file may be hosts in the filter.
    filters: HashMap<LinkType, Filter>,
    left: u64,
}

impl Sieve {
    fn new(text: String, count: Option<u64>) -> Sieve {
        let hosts = WithHosts { hosts: std::collections::BTreeMap::new(), otherwise: SystemNames::default() };
        Sieve { text, hosts, filters: HashMap::new(), left: count.unwrap_or(u64::MAX) }
    }

    fn sift(&mut self, batch: &Batch, packets: &mut Vec<(u32, Base)>) -> Result<ControlFlow<()>, Failure> {
        let everything = self.text.trim().is_empty();
        let interfaces = &batch.about().interfaces;
        for (number, packet) in (0..).zip(batch.iter()) {
            if self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            if !everything {
                let Some(interface) = interfaces.get(packet.interface) else { continue };
                if !self.filter(interface.link_type, batch.about())?.matches(&packet) {
                    continue;
                }
            }
            self.left -= 1;
            packets.push((number, Base::default()));
        }
        Ok(if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Of a capture that had no packet to try the filter on, a mistake in it is told all the same.
    fn refuse_untried(&mut self, about: &About) -> Result<(), Failure> {
        if self.text.trim().is_empty() || !self.filters.is_empty() {
            return Ok(());
        }
        let link_type = about.interfaces.first().map_or(LinkType::ETHERNET, |first| first.link_type);
        self.filter(link_type, about).map(drop)
    }

    fn filter(&mut self, link_type: LinkType, about: &About) -> Result<&Filter, Failure> {
        match self.filters.entry(link_type) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(new) => {
                for (address, name) in &about.names {
                    self.hosts.hosts.entry(name.clone()).or_default().push(*address);
                }
                let options = Options {
                    link_type,
                    snaplen: 0,
                    mode: Mode::File,
                    names: &self.hosts,
                    netmask: None,
                    swapped: false,
                };
                let filter =
                    Filter::compile(&self.text, &options).map_err(|error| refused(&self.text, &error))?;
                Ok(new.insert(filter))
            }
        }
    }
}

/// Finds out what depends on earlier packets.
struct Finder {
    sequences: Option<Sequences>,
    numeric: bool,
    names: Arc<Names>,
    /// How many names of the file are in `names`.
    known: usize,
}

impl Finder {
    fn names(&mut self, about: &About) -> Arc<Names> {
        if !self.numeric && about.names.len() != self.known {
            let mut names = Names::new();
            // One that is called by its numbers is called nothing.
            let named = about.names.iter().filter(|(address, name)| name.parse() != Ok(**address));
            for (address, name) in named {
                names.add(Scope::FILE, *address, name);
            }
            self.known = about.names.len();
            self.names = Arc::new(names);
        }
        Arc::clone(&self.names)
    }

    fn bases(&mut self, batch: &Batch, found: &mut Found) {
        let Some(sequences) = &mut self.sequences else { return };
        for (number, base) in &mut found.packets {
            let Some(packet) = batch.get(*number as usize) else { continue };
            let Some(interface) = batch.about().interfaces.get(packet.interface) else { continue };
            *base = sequences.base(interface.link_type, &packet);
        }
    }
}

impl Look {
    /// Makes text of batches; each thread has its own.
    fn renderer(&self) -> impl FnMut(&Batch, &Found, &mut Vec<u8>) {
        let (style, json) = (self.style(), self.json);
        let (mut printer, mut described) = (None, 0);
        move |batch: &Batch, found: &Found, out: &mut Vec<u8>| {
            let interfaces = &batch.about().interfaces;
            let printer = printer.get_or_insert_with(|| {
                // A file that does not even name its interfaces tells no directions: no column for them.
                let direction = interfaces
                    .iter()
                    .any(|interface| !interface.name.is_empty() || interface.link_type != LinkType::ETHERNET);
                Printer::new(Style { direction, ..style.clone() }, Arc::default())
            });
            for interface in interfaces.iter().skip(described) {
                printer.interface(interface);
            }
            described = interfaces.len();
            printer.set_names(Arc::clone(&found.names));
            for (number, base) in &found.packets {
                let Some(packet) = batch.get(*number as usize) else { continue };
                if json {
                    object(&packet, batch, &found.names, out);
                } else {
                    printer.line(&packet, *base, out);
                }
            }
        }
    }
}

fn object(packet: &Packet<'_>, batch: &Batch, names: &Names, out: &mut Vec<u8>) {
    let Some(interface) = batch.about().interfaces.get(packet.interface) else { return };
    // Into memory, of types that all have a form: nothing can fail.
    let _ = serde_json::to_writer(&mut *out, &Summary::new(packet, interface, names));
    out.push(b'\n');
}
