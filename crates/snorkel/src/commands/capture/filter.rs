//! The filter of a command line, for each kind of link; where a host is meant, a target's name is known too.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use snorkel_capture::LinkType;
use snorkel_capture::filter::{Error, Filter, Mode, Options, SystemNames, WithHosts};
use snorkel_topology::Snapshot;

use super::spots::label;
use super::trigger::{Fits, Kind};
use crate::failure::Failure;
use crate::render::snapshot::is_running;

/// A network's mask, where it only matters that there is one.
const SOME_MASK: Option<u32> = Some(0xffff_ff00);

/// Names that a filter can use.
pub(crate) type Hosts = WithHosts<SystemNames>;

/// The filter that was typed.
pub(super) struct Filters {
    text: String,
    snaplen: u32,
    hosts: Hosts,
}

/// The filter for one link.
pub(super) enum Compiled {
    /// None was typed.
    Everything,
    /// For the kernel.
    Kernel(Vec<libc::sock_filter>),
    /// The kernel cannot run it: to be run here, on what the ring hands out.
    Here(Filter),
}

impl Filters {
    /// Reads what was typed, so that a mistake is found before anything is opened.
    pub(super) fn new(words: &[String], snaplen: u32, snapshot: &Snapshot) -> Result<Filters, Failure> {
        let filters = Filters { text: words.join(" "), snaplen, hosts: hosts(snapshot) };
        filters.compile(LinkType::ETHERNET, SOME_MASK)?;
        Ok(filters)
    }

    /// What was typed, if anything was.
    pub(super) fn text(&self) -> Option<&str> {
        Some(self.text.as_str()).filter(|text| !text.trim().is_empty())
    }

    /// A name in the text that means other addresses there than here.
    pub(super) fn means_another(&self, other: &Filters) -> Option<&str> {
        let words = || self.text.split(|c: char| c.is_whitespace() || "()!".contains(c));
        let named = |name: &str| words().any(|word| word.trim_start_matches('\\') == name);
        let changed = |(name, addresses): &(&String, &Vec<IpAddr>)| {
            named(name) && other.hosts.hosts.get(*name).is_some_and(|now| now != *addresses)
        };
        self.hosts.hosts.iter().find(changed).map(|(name, _)| name.as_str())
    }

    /// Compiles it for a link of this type, whose IPv4 network has this mask.
    pub(super) fn compile(&self, link_type: LinkType, netmask: Option<u32>) -> Result<Compiled, Failure> {
        let Some(text) = self.text() else { return Ok(Compiled::Everything) };
        let options = |mode| Options {
            link_type,
            snaplen: self.snaplen,
            mode,
            names: &self.hosts,
            netmask,
            swapped: false,
        };
        let filter = Filter::compile(text, &options(Mode::Live)).map_err(|error| refused(text, &error))?;
        if let Ok(program) = filter.kernel_program() {
            let convert = |i: &snorkel_capture::filter::Instruction| libc::sock_filter {
                code: i.code,
                jt: i.jt,
                jf: i.jf,
                k: i.k,
            };
            return Ok(Compiled::Kernel(program.iter().map(convert).collect()));
        }
        let filter = Filter::compile(text, &options(Mode::File)).map_err(|error| refused(text, &error))?;
        Ok(Compiled::Here(filter))
    }
}

/// Which of these words, down to the last, are a filter; the most that there are of them.
pub(super) fn at_the_end_of<'a>(words: &'a [String], snapshot: &Snapshot) -> Option<&'a [String]> {
    let is_filter = |words: &&[String]| Filters::new(words, 0, snapshot).is_ok();
    (0..words.len()).map(|begin| &words[begin..]).find(is_filter)
}

/// A filter as the question whether a packet is the trigger.
pub(super) fn trigger(text: &str, snapshot: &Snapshot) -> Result<Fits, Failure> {
    let hosts = hosts(snapshot);
    let compile = move |text: &str, Kind { link_type, netmask }| {
        Filter::compile(
            text,
            &Options { link_type, snaplen: 0, mode: Mode::File, names: &hosts, netmask, swapped: false },
        )
    };
    // A mistake is found before anything is opened.
    let ordinary = Kind { link_type: LinkType::ETHERNET, netmask: SOME_MASK };
    compile(text, ordinary).map_err(|error| refused(text, &error))?;
    let mut by_kind = HashMap::new();
    let text = text.to_owned();
    Ok(Box::new(move |packet, kind| {
        // A link of another kind for which the filter means nothing never triggers.
        let filter = by_kind.entry(kind).or_insert_with(|| compile(&text, kind).ok());
        filter.as_ref().is_some_and(|filter| filter.matches(packet))
    }))
}

/// A filter that was refused, with the word that is to blame.
pub(crate) fn refused(text: &str, error: &Error) -> Failure {
    let picture = error.render(text);
    // The picture's last line is the message.
    let picture: Vec<&str> = picture.lines().take(2).collect();
    Failure::new(format!("the filter: {}", error.message)).picture(picture.join("\n"))
}

/// The addresses of every target by its names.
pub(crate) fn hosts(snapshot: &Snapshot) -> Hosts {
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for target in snapshot.targets.iter().filter(|target| is_running(target) && !target.host) {
        let Some(namespace) = target.netns.and_then(|id| snapshot.namespace(id)) else { continue };
        let addresses: Vec<IpAddr> = namespace
            .links
            .iter()
            .filter(|link| !link.loopback)
            .flat_map(|link| &link.addresses)
            .map(|address| address.address)
            .collect();
        for name in [target.name.clone(), label(target)] {
            hosts.insert(name, addresses.clone());
        }
    }
    WithHosts { hosts, otherwise: SystemNames::default() }
}
