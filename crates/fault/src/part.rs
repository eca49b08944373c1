//! A gate at one link, with its wires: put in force, looked at, taken off.

use std::thread::ScopedJoinHandle;

use snorkel_bpf::gate::{Gate, Method, RuleCount, WireCounts, WireEnds};
use snorkel_netns::Netns;
use snorkel_rtnl::Socket;

use crate::carrier::link;
use crate::control::{Measured, RuleStatus, WireStatus};
use crate::filters::{Filters, attach_point};
use crate::plan::{Effect, Place, Wire as WirePlan};
use crate::rule::{Direction, Rule, Verdict};
use crate::stage::reached;
use crate::wire::{Backend, Duty, Laid, Wire};
use crate::{Error, Result};

/// A gate that this process holds. Dropped, or with the process, it is gone.
#[derive(Debug)]
pub(crate) struct Judged {
    place: Place,
    netns: Netns,
    socket: Socket,
    rules: Vec<Rule>,
    wires: Vec<WirePlan>,
    standing: Option<Standing>,
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
        filters: Option<&Filters>,
    ) -> Result<Judged> {
        let mut socket = Socket::open_in(&netns)?;
        // A number is used again, a hardware address hardly with it.
        match link(&mut socket, place.index)? {
            Some(link) if link.mac == place.mac => {}
            _ => return Err(Error::Gone(place.name.clone())),
        }
        let (rules, wires, place) = (rules.to_vec(), wires.to_vec(), place.clone());
        let before = (Vec::new(), Vec::new());
        let mut judged = Judged { place, netns, socket, rules, wires, standing: None, before };
        judged.standing = Some(judged.stand(private, filters)?);
        Ok(judged)
    }

    /// Lets it rest, or puts it in force again.
    pub(crate) fn turn(&mut self, on: bool, private: &Netns, filters: Option<&Filters>) -> Result<()> {
        if !on {
            self.before = self.counts()?;
            let locked = filters.map(Filters::lock).transpose();
            self.detach();
            // The wires take longer to go.
            let done = locked.map(drop);
            self.standing = None;
            done
        } else if self.standing.is_none() {
            self.standing = Some(self.stand(private, filters)?);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Whether it is in force as it was asked for: programs at their places that decide as they should, wires as they
    /// were made.
    pub(crate) fn verify(&mut self) -> Result<()> {
        let Some(standing) = &mut self.standing else { return Ok(()) };
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
    fn stand(&self, private: &Netns, filters: Option<&Filters>) -> Result<Standing> {
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
        let standing = std::thread::scope(|scope| {
            let start = |wire: Laid| {
                let thread = std::thread::Builder::new().name("snorkel-wire".into());
                thread.spawn_scoped(scope, || wire.start(private))
            };
            let starting: Vec<_> = laid.into_iter().map(start).collect();
            let place = || -> Result<Gate> {
                let mut gate = Gate::load(&self.rules, &ends)?;
                let _locked = filters.map(Filters::lock).transpose()?;
                let (method, owner) = filters.map_or((Method::Tcx, ""), |f| (Method::Clsact, f.owner()));
                gate.place(&attach_point(&self.place, netns, owner), method)?;
                Ok(gate)
            };
            let gate = place();
            // All have ended before anything that failed is told of, and none is left half made.
            let wires: Vec<_> =
                starting.into_iter().map(|started| started.map(ScopedJoinHandle::join)).collect();
            let mut standing = Standing { gate: gate?, wires: Vec::with_capacity(wires.len()) };
            for wire in wires {
                let wire = wire.map_err(|e| Error::os("start the thread of a wire", e))?;
                standing.wires.push(wire.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, Error>(standing)
        })?;
        reached("attached");
        standing.gate.arm()?;
        reached("armed");
        Ok(standing)
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
