//! A gate at one link, with its wires: put in force, looked at, taken off.

use std::thread::ScopedJoinHandle;

use snorkel_bpf::gate::{Gate, Method, RuleCount, WireCounts, WireEnds};
use snorkel_netns::Netns;
use snorkel_rtnl::Socket;

use crate::carrier::link;
use crate::control::{Measured, RuleStatus, WireStatus};
use crate::filters::{Filters, attach_point};
use crate::journal::Locked;
use crate::plan::{Effect, Place, Wire as WirePlan};
use crate::rule::{Direction, Rule, Verdict};
use crate::stage::reached;
use crate::wire::{Backend, Duty, Laid, Wire};
use crate::{Error, Result};

/// A gate that this process holds. Dropped, or with the process, it is out of force.
#[derive(Debug)]
pub(crate) struct Judged {
    place: Place,
    netns: Netns,
    socket: Socket,
    rules: Vec<Rule>,
    wires: Vec<WirePlan>,
    standing: Option<Standing>,
    rests: bool,
    /// What was counted before it rested last.
    before: (Vec<RuleCount>, Vec<WireCounts>),
}

/// While it is in force. The gate goes before the wires that it leads to.
#[derive(Debug)]
struct Standing {
    gate: Gate,
    wires: Vec<Wire>,
}

impl Judged {
    /// Puts the rules in force; by filters, if such were announced.
    pub(crate) fn begin(
        place: &Place,
        netns: Netns,
        private: &Netns,
        rules: &[Rule],
        wires: &[WirePlan],
        filters: Option<&mut Filters>,
    ) -> Result<Judged> {
        let mut socket = Socket::open_in(&netns)?;
        // A number is used again, a hardware address hardly with it.
        match link(&mut socket, place.index)? {
            Some(link) if link.mac == place.mac => {}
            _ => return Err(Error::Gone(place.name.clone())),
        }
        let (rules, wires, place) = (rules.to_vec(), wires.to_vec(), place.clone());
        let before = (Vec::new(), Vec::new());
        let mut judged = Judged { place, netns, socket, rules, wires, standing: None, rests: false, before };
        judged.standing = Some(judged.stand(private, filters)?);
        Ok(judged)
    }

    /// Lets it rest; filters are taken off for good under the lock.
    pub(crate) fn rest(&mut self, filters: Option<&mut Filters>, locked: Option<&Locked>) -> Result<()> {
        self.rests = true;
        let counted = self.counts();
        self.detach();
        let done = match (filters, locked) {
            (Some(filters), Some(locked)) => filters.rest(&self.netns, locked),
            _ => Ok(()),
        };
        self.standing = None;
        self.before = counted?;
        done
    }

    /// Puts it in force again.
    pub(crate) fn go_on(&mut self, private: &Netns, filters: Option<&mut Filters>) -> Result<()> {
        self.rests = false;
        if self.standing.is_none() {
            self.standing = Some(self.stand(private, filters)?);
        }
        Ok(())
    }

    /// Whether it is in force as it was asked for: programs at their places that decide as they should, wires as they
    /// were made.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let Some(standing) = &mut self.standing else {
            return if self.rests {
                Ok(())
            } else {
                Err(Error::NotInForce("it was not put there again".into()))
            };
        };
        standing.gate.verify()?;
        for wire in &mut standing.wires {
            wire.read_back()?;
        }
        Ok(())
    }

    /// Lets all packets pass from now on. What is attached goes with the value.
    pub(crate) fn disarm(&self) -> Result<()> {
        reached("before-disarm");
        if let Some(standing) = &self.standing {
            standing.gate.disarm()?;
        }
        reached("disarmed");
        Ok(())
    }

    /// Takes the programs off; wires stay, and nothing enters them.
    pub(crate) fn detach(&mut self) {
        if let Some(standing) = &mut self.standing {
            standing.gate.detach();
        }
    }

    /// Takes off filters, which stay longer than their process, and forgets them. Without the lock they go all the same, and
    /// are forgotten by whoever sweeps next.
    pub(crate) fn end(&mut self, filters: &Filters, locked: Option<&Locked>) -> Result<()> {
        self.detach();
        locked.map_or(Ok(()), |locked| filters.end(&self.netns, locked))
    }

    /// Whether the link is still there.
    pub(crate) fn is_there(&mut self) -> bool {
        // What cannot be asked is not gone.
        !matches!(link(&mut self.socket, self.place.index), Ok(None))
    }

    /// What packets it has seen, by its rules and in its wires.
    pub(crate) fn statuses(&self) -> Result<(Vec<RuleStatus>, Vec<WireStatus>)> {
        let (rules, wires) = self.counts()?;
        let rules = self.rules.iter().zip(rules).map(|(rule, count)| RuleStatus {
            direction: rule.direction.to_string(),
            verdict: self.verdict(rule).to_owned(),
            packets: count.packets,
            bytes: count.bytes,
        });
        let wires = self.wires.iter().zip(wires).map(|(wire, counts)| WireStatus {
            direction: wire.direction.to_string(),
            effect: match wire.effect {
                Effect::Impair(_) => "impair".to_owned(),
                Effect::Reject => "reject".to_owned(),
            },
            entered: counts.entered,
            returned: counts.returned,
            delay: measured(&counts),
        });
        Ok((rules.collect(), wires.collect()))
    }

    fn verdict(&self, rule: &Rule) -> &'static str {
        match rule.verdict {
            Verdict::Pass => "pass",
            Verdict::Drop => "drop",
            Verdict::Wire(number) => match self.wires.get(usize::from(number.0)).map(|wire| &wire.effect) {
                Some(Effect::Reject) => "reject",
                _ => "impair",
            },
        }
    }

    /// All that was counted, also before it rested.
    fn counts(&self) -> Result<(Vec<RuleCount>, Vec<WireCounts>)> {
        let (mut rules, mut wires) = self.before.clone();
        rules.resize(self.rules.len(), RuleCount::default());
        wires.resize(self.wires.len(), WireCounts::default());
        let Some(standing) = &self.standing else { return Ok((rules, wires)) };
        for (all, now) in rules.iter_mut().zip(standing.gate.counts()?) {
            all.packets += now.packets;
            all.bytes += now.bytes;
        }
        for (all, now) in wires.iter_mut().zip(standing.gate.wire_counts()?) {
            // Only a cut takes turns, and nothing comes back from its wires: there is no delay to be added up.
            let entered = all.entered + now.entered;
            *all = WireCounts { entered, returned: all.returned + now.returned, ..now };
        }
        Ok((rules, wires))
    }

    /// Puts the gate and its wires in their places.
    fn stand(&self, private: &Netns, mut filters: Option<&mut Filters>) -> Result<Standing> {
        let (netns, plans) = (&self.netns, &self.wires);
        reached("before-wires");
        let lay = |plan: &WirePlan| {
            let duty = match &plan.effect {
                Effect::Impair(impairment) => Duty::Impair(impairment.as_ref().clone()),
                Effect::Reject => Duty::Reject,
            };
            Ok(Wire::lay(netns, private, &duty, Backend::Best)?)
        };
        let laid = plans.iter().map(lay).collect::<Result<Vec<Laid>>>()?;
        let ends = laid.iter().zip(plans).map(|(wire, plan)| WireEnds {
            public: wire.public(),
            private: wire.private(),
            private_netns: private,
            direction: match plan.effect {
                Effect::Impair(_) => plan.direction,
                // An answer goes to where the packet came from.
                Effect::Reject => opposite(plan.direction),
            },
            kernel_queue: wire.kernel_queue(),
        });
        let ends: Vec<WireEnds<'_>> = ends.collect();
        reached("before-gate");
        // The wires' threads begin while the gate comes to its place: for either the kernel waits for grace periods of RCU,
        // and they share them. Packets are led into the wires only afterwards.
        let (gate, wires) = std::thread::scope(|scope| {
            let start = |wire: Laid| {
                let thread = std::thread::Builder::new().name("snorkel-wire".into());
                thread.spawn_scoped(scope, || wire.start(private))
            };
            let starting: Vec<_> = laid.into_iter().map(start).collect();
            let gate = self.place_gate(&ends, filters.as_deref_mut());
            // All have ended before anything that failed is told of, and none is left half made.
            let wires: Vec<_> =
                starting.into_iter().map(|started| started.map(ScopedJoinHandle::join)).collect();
            let made = wires.into_iter().map(|wire| {
                let wire = wire.map_err(|e| Error::os("start the thread of a wire", e))?;
                Ok(wire.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
            });
            (gate, made.collect::<Result<Vec<Wire>>>())
        });
        let mut gate = gate?;
        let armed = wires.and_then(|wires| {
            reached("attached");
            gate.arm()?;
            reached("armed");
            Ok(wires)
        });
        match armed {
            Ok(wires) => Ok(Standing { gate, wires }),
            Err(error) => {
                let _locked = filters.map(|filters| filters.lock());
                gate.detach();
                Err(error)
            }
        }
    }

    /// Puts the gate in its place; it decides on nothing yet.
    fn place_gate(&self, ends: &[WireEnds<'_>], filters: Option<&mut Filters>) -> Result<Gate> {
        let netns = &self.netns;
        let mut gate = Gate::load(&self.rules, ends)?;
        match filters {
            Some(filters) => {
                let owner = filters.owner();
                let at = attach_point(&self.place, netns, &owner);
                gate.place_wires(&at, Method::Clsact)?;
                filters.put(netns, || Ok(gate.place_gate(&at)?))?;
            }
            None => gate.place(&attach_point(&self.place, netns, ""), Method::Tcx)?,
        }
        Ok(gate)
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Out => Direction::In,
        Direction::In => Direction::Out,
    }
}

/// The delay of a wire, if there was any packet to measure it by.
fn measured(counts: &WireCounts) -> Option<Measured> {
    let delay = &counts.delay;
    Some(Measured {
        samples: delay.samples,
        mean: delay.mean()?.as_secs_f64(),
        deviation: delay.deviation()?.as_secs_f64(),
        min: delay.min.as_secs_f64(),
        max: delay.max.as_secs_f64(),
    })
}
