//! The gate: programs at a target's link that let packets pass, drop them, or send them into wires.
//!
//! ```no_run
//! use snorkel_bpf::gate::{AttachPoint, Direction, Gate, Rule, Verdict};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let host = snorkel_netns::Netns::current()?;
//! # let veth = snorkel_rtnl::IfIndex::new(7).ok_or("no index")?;
//! let silence = Direction::ALL.map(|direction| Rule::all(direction, Verdict::Drop));
//! let mut gate = Gate::load(&silence, &[])?;
//! gate.attach(&AttachPoint { netns: &host, link: veth, inside: false, owner: "me" })?;
//! gate.verify()?;
//! # Ok(())
//! # }
//! ```
//!
//! What is attached is held by the value: dropped, or with its process killed, the kernel takes it out of force, and packets
//! flow as before. How the programs decide, and how the marks of packets that come back keep several gates at one link apart,
//! is written at the head of c/fault.c.

mod attach;
mod constants;
mod counts;
mod layout;
mod networks;
mod rule;
mod sample;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, MapData, PerCpuArray};
use snorkel_netns::Netns;
use snorkel_rtnl::IfIndex;

pub use crate::clsact::{brings_qdisc, sweep};
pub use attach::Method;
pub use counts::{Delay, RuleCount, WireCounts};
pub use layout::HISTOGRAM;
pub use rule::{BadNetwork, Direction, Network, Ports, Protocol, Rule, Verdict, WireNumber};

use self::attach::Attached;
use self::constants::Constants;
use self::layout::{MARK_KIND, MAX_RULES, MAX_WIRES, PROBE, RawCount, RawState, RawWireCount};
use self::sample::Sample;
use crate::object::{Object, map_error};
use crate::sys;
use crate::{Error, Result};

/// The compiled c/fault.c.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../objects/fault.o");

/// Where a gate is attached.
#[derive(Clone, Copy, Debug)]
pub struct AttachPoint<'a> {
    /// The namespace of `link`.
    pub netns: &'a Netns,
    /// The host's side of the target's link, or the target's own link.
    pub link: IfIndex,
    /// Whether it is the target's own link, inside its namespace: what the target sends, that link sends.
    pub inside: bool,
    /// Whose the gate is, in a word without colons: filters bear it, and are swept by it ([`sweep`]).
    pub owner: &'a str,
}

/// The ends of a wire: a veth pair that exists, is up on both ends, and whose public end has no offloads.
#[derive(Clone, Copy, Debug)]
pub struct WireEnds<'a> {
    /// The end in the attach point's namespace.
    pub public: IfIndex,
    /// The end in the private namespace.
    pub private: IfIndex,
    /// The private namespace.
    pub private_netns: &'a Netns,
    /// Which way packets go when they are put back.
    pub direction: Direction,
    /// Whether a queueing discipline of the private end has the packets (or none: then they come back at once). If
    /// not, they are dropped there, and a packet socket has them and sends what is to come back.
    pub kernel_queue: bool,
}

/// A wire as the gate keeps it.
#[derive(Debug)]
struct Wire {
    public: IfIndex,
    private: IfIndex,
    private_netns: Netns,
    direction: Direction,
}

/// A loaded gate, and what holds it at its place.
pub struct Gate {
    rules: Vec<Rule>,
    wires: Vec<Wire>,
    attached: Option<Attached>,
    /// Written by this side only.
    state: Mutex<Array<MapData, RawState>>,
    object: Object,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("rules", &self.rules)
            .field("wires", &self.wires)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Loads the programs with these rules; they do nothing yet.
    ///
    /// At most 16 rules a direction and 16 wires. A rule that no packet can match is an error. Needs CAP_BPF and
    /// CAP_NET_ADMIN.
    pub fn load(rules: &[Rule], wires: &[WireEnds<'_>]) -> Result<Gate> {
        check(rules, wires)?;
        let constants = Constants::new(rules, wires);
        let mut object = Object::open("the gate", OBJECT, constants.setup())?;
        constants.fill_sets(&mut object)?;
        for program in ["gate_out", "gate_in"] {
            object.load_program(program)?;
        }
        if !wires.is_empty() {
            object.load_program("turn")?;
            object.load_program("back")?;
        }
        let keep = |ends: &WireEnds<'_>| {
            let private_netns = ends.private_netns.try_clone()?;
            Ok(Wire { public: ends.public, private: ends.private, private_netns, direction: ends.direction })
        };
        let wires = wires.iter().map(keep).collect::<Result<Vec<Wire>>>()?;
        let state =
            Array::try_from(object.take_map("states")?).map_err(map_error("find the state of a gate"))?;
        Ok(Gate { rules: rules.to_vec(), wires, attached: None, state: Mutex::new(state), object })
    }

    /// What each rule has decided on, in the order of the rules.
    pub fn counts(&self) -> Result<Vec<RuleCount>> {
        let what = "read the counts of a gate";
        let map =
            PerCpuArray::<_, RawCount>::try_from(self.object.map("counts")?).map_err(map_error(what))?;
        let mut next = [0, MAX_RULES];
        self.rules
            .iter()
            .map(|rule| {
                let number = &mut next[rule.direction.index()];
                // Below twice MAX_RULES.
                let cpus = map.get(&(*number as u32), 0).map_err(map_error(what))?;
                *number += 1;
                Ok(RuleCount::sum(&cpus))
            })
            .collect()
    }

    /// What went through each wire, in the order of the wires.
    pub fn wire_counts(&self) -> Result<Vec<WireCounts>> {
        let what = "read the counts of a wire";
        let map = self.object.map("wire_counts")?;
        let map = PerCpuArray::<_, RawWireCount>::try_from(map).map_err(map_error(what))?;
        // There are at most MAX_WIRES.
        (0..self.wires.len() as u32)
            .map(|number| Ok(WireCounts::sum(&map.get(&number, 0).map_err(map_error(what))?)))
            .collect()
    }

    /// Checks that the gate is in force: every program is where it was put, and for each rule a packet made to match it
    /// is decided on as the rules say (BPF_PROG_TEST_RUN). Nothing is sent, and nothing counted.
    pub fn verify(&self) -> Result<()> {
        self.attached.as_ref().ok_or_else(attach::not_attached)?.verify()?;
        self.rules.iter().map(Sample::of).try_for_each(|sample| self.try_out(&sample))
    }

    /// Has the programs decide on a packet, and compares with what the rules say.
    fn try_out(&self, sample: &Sample) -> Result<()> {
        let expected = sample.decide(&self.rules);
        let found = self.run(sample.direction, &sample.frame())?;
        let wanted = Decision {
            rule: expected,
            returned: expected.and_then(|number| self.rule(sample.direction, number)).map_or(NEXT, returned),
        };
        if found == wanted {
            return Ok(());
        }
        let why = format!("{sample:?} should be decided on as {wanted:?}, and is as {found:?}");
        Err(Error::NotInForce { what: "a rule of the gate".into(), why })
    }

    /// The rule of this number among those of a direction.
    fn rule(&self, direction: Direction, number: usize) -> Option<&Rule> {
        self.rules.iter().filter(|rule| rule.direction == direction).nth(number)
    }

    /// Runs a gate's program on a frame, without effect.
    fn run(&self, direction: Direction, frame: &[u8]) -> Result<Decision> {
        let run = sys::run(self.program(direction)?, frame, PROBE)
            .map_err(|e| Error::os(format!("try a gate on a packet that goes {direction}"), e))?;
        // No rule: the mark is as it was, or has a number that no rule has.
        let number = (run.mark & !MARK_KIND) as usize;
        Ok(Decision { rule: (number < MAX_RULES).then_some(number), returned: run.verdict })
    }

    fn set_state(&self, change: impl FnOnce(&mut RawState)) -> Result<()> {
        let what = "set the state of a gate";
        // What a panic elsewhere left in it is a whole state: the map is written in one step.
        let mut map = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = map.get(&0, 0).map_err(map_error(what))?;
        change(&mut state);
        map.set(0, state, 0).map_err(map_error(what))
    }
}

/// What a gate's program did with a packet that was made to try it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    /// The number of the rule, among those of its direction.
    rule: Option<usize>,
    /// What the program returned (`TC_ACT_*` of linux/pkt_cls.h).
    returned: i32,
}

/// `TC_ACT_UNSPEC`: on to the next program.
const NEXT: i32 = -1;

/// What the program returns for a packet of this rule.
fn returned(rule: &Rule) -> i32 {
    const SHOT: i32 = 2;
    const REDIRECT: i32 = 7;
    match rule.verdict {
        Verdict::Pass => NEXT,
        Verdict::Drop => SHOT,
        Verdict::Wire(_) => REDIRECT,
    }
}

/// Refuses what cannot work, before anything is done.
fn check(rules: &[Rule], wires: &[WireEnds<'_>]) -> Result<()> {
    let invalid = |why: String| Err(Error::Invalid { what: "load a gate".into(), why });
    if wires.len() > MAX_WIRES {
        return invalid(format!("it has {} wires, and there is place for {MAX_WIRES}", wires.len()));
    }
    for direction in Direction::ALL {
        let total = rules.iter().filter(|rule| rule.direction == direction).count();
        if total > MAX_RULES {
            return invalid(format!(
                "it has {total} rules for {direction}, and there is place for {MAX_RULES}"
            ));
        }
    }
    for rule in rules {
        if let Verdict::Wire(WireNumber(number)) = rule.verdict
            && usize::from(number) >= wires.len()
        {
            return invalid(format!("a rule leads into wire {number}, of {}", wires.len()));
        }
        let wrong = |network: &&Network| {
            network.prefix > Network::bits(network.address)
                || network.address.to_canonical() != network.address
        };
        if let Some(network) = rule.peers.iter().find(wrong) {
            return invalid(format!("{network} is not a network of IPv4 or IPv6"));
        }
        let ports = rule.ports != Ports::default();
        match rule.protocol {
            Some(Protocol::Icmp) if ports => return invalid("ICMP has no ports".into()),
            Some(Protocol::Icmp | Protocol::Udp) if rule.opening => {
                return invalid("only TCP opens connections".into());
            }
            _ => (),
        }
    }
    Ok(())
}
