//! How a gate and the programs of its wires come to their places, and how that is checked.
//!
//! The wires' programs come first, the gate's own last, and only then the gate is armed: until both directions are there,
//! everything passes.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use snorkel_netns::Netns;
use snorkel_rtnl::IfIndex;

use super::layout::{ALIVE, DEAD, RawState};
use super::{AttachPoint, Direction, Gate};
use crate::clsact::{self, Clsact};
use crate::link::{Hook, Link, Side};
use crate::sys;
use crate::{Error, Result};

/// `BPF_F_INGRESS` of linux/bpf.h: as if the link had received it.
const F_INGRESS: u32 = 1;
/// How often a chain is looked at again that others change at the same time.
const TRIES: usize = 64;

/// How long a gate without links lets its rules count after the last push.
pub const AHEAD: Duration = Duration::from_millis(700);

/// By which of the kernel's two ways programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By links (tcx, since 6.6): the kernel detaches when the process ends.
    Tcx,
    /// By filters (clsact): the rules count until a deadline that has to be pushed on ([`Gate::push_deadline`]).
    Clsact,
}

/// What holds a gate at its place. The gate's own programs are dropped before those of the wires.
pub(super) struct Attached {
    method: Method,
    gate: Vec<Placed>,
    wires: Vec<Placed>,
}

/// Programs that are attached.
enum Placed {
    /// In this namespace.
    Links(Netns, Vec<Link>),
    Filters(Clsact),
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attached({:?}, {} wires)", self.method, self.wires.len())
    }
}

impl Placed {
    fn verify(&self) -> Result<()> {
        match self {
            Placed::Links(netns, links) => netns.run(|| links.iter().try_for_each(Link::verify))?,
            Placed::Filters(filters) => filters.verify(),
        }
    }
}

impl Attached {
    /// Checks that every program is where it was put.
    pub(super) fn verify(&self) -> Result<()> {
        self.gate.iter().chain(&self.wires).try_for_each(Placed::verify)
    }
}

impl AttachPoint<'_> {
    /// The side of the link where packets of a direction go by.
    fn side(&self, direction: Direction) -> Side {
        // The host's side of a link receives what the target sends.
        match (direction, self.inside) {
            (Direction::Out, false) | (Direction::In, true) => Side::Ingress,
            (Direction::In, false) | (Direction::Out, true) => Side::Egress,
        }
    }

    fn hook(&self, direction: Direction) -> Hook {
        Hook { link: self.link, side: self.side(direction) }
    }
}

impl Gate {
    /// Puts the gate in force at a place. On an error nothing stays attached.
    ///
    /// It is put before the programs that are there already. A gate can be attached once. Needs CAP_NET_ADMIN in the
    /// namespace's user namespace.
    pub fn attach(&mut self, at: &AttachPoint<'_>) -> Result<()> {
        let hook = at.hook(Direction::Out);
        let tcx = at.netns.run(|| hook.chain())??.is_some();
        self.attach_by(at, if tcx { Method::Tcx } else { Method::Clsact })
    }

    /// As [`Gate::attach`], by this way alone.
    #[doc(hidden)]
    pub fn attach_by(&mut self, at: &AttachPoint<'_>, method: Method) -> Result<()> {
        if self.attached.is_some() {
            let what = format!("attach a gate to link {}", at.link);
            return Err(Error::Invalid { what, why: "it is attached already".into() });
        }
        let back = Direction::ALL.map(|direction| match at.side(direction) {
            Side::Ingress => F_INGRESS,
            Side::Egress => 0,
        });
        self.set_state(|state| {
            *state = RawState { link: at.link.get(), back, ..RawState::default() };
        })?;
        if method == Method::Clsact {
            // Now, so that what a process leaves that is killed at the next step has a deadline, too.
            self.set_deadline()?;
        }
        let mut attached = Attached { method, gate: Vec::new(), wires: Vec::new() };
        self.attach_wires(at, &mut attached)?;
        self.attach_gate(at, &mut attached)?;
        self.attached = Some(attached);
        self.push_deadline()
            .and_then(|()| self.set_state(|state| state.armed = 1))
            .inspect_err(|_| self.attached = None)
    }

    /// By which way the gate is attached, if it is.
    pub fn method(&self) -> Option<Method> {
        self.attached.as_ref().map(|attached| attached.method)
    }

    /// Lets the rules of a gate that no link holds ([`Method::Clsact`]) count for another 700 ms: to be called every
    /// 200 ms. With links it does nothing.
    pub fn push_deadline(&self) -> Result<()> {
        if self.method() != Some(Method::Clsact) {
            return Ok(());
        }
        self.set_deadline()
    }

    fn set_deadline(&self) -> Result<()> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // The time since the machine started: never negative, and good for centuries of nanoseconds.
        let now = Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32);
        let deadline = u64::try_from((now + AHEAD).as_nanos()).unwrap_or(u64::MAX);
        self.set_state(|state| state.deadline = deadline)
    }

    fn attach_wires(&self, at: &AttachPoint<'_>, attached: &mut Attached) -> Result<()> {
        if self.wires.is_empty() {
            return Ok(());
        }
        let (turn, back) = (self.object.program("turn")?, self.object.program("back")?);
        let ends = self.wires.iter().flat_map(|wire| {
            [("turn", turn, &wire.private_netns, wire.private), ("back", back, at.netns, wire.public)]
        });
        for (name, program, netns, end) in ends {
            attached.wires.push(match attached.method {
                Method::Tcx => {
                    let link = netns.run(|| sole(name, program, end))??;
                    Placed::Links(netns.try_clone()?, vec![link])
                }
                Method::Clsact => {
                    let mut filters = Clsact::at(netns, end)?;
                    filters.add_first(name, program, Side::Ingress, |_| Ok(()))?;
                    Placed::Filters(filters)
                }
            });
        }
        Ok(())
    }

    fn attach_gate(&self, at: &AttachPoint<'_>, attached: &mut Attached) -> Result<()> {
        let programs = [
            (Direction::Out, self.object.program(program(Direction::Out))?),
            (Direction::In, self.object.program(program(Direction::In))?),
        ];
        attached.gate.push(match attached.method {
            Method::Tcx => {
                let both =
                    || programs.map(|(direction, gate)| self.link(at.hook(direction), direction, gate));
                let links = at.netns.run(both)?.into_iter().collect::<Result<Vec<Link>>>()?;
                Placed::Links(at.netns.try_clone()?, links)
            }
            Method::Clsact => {
                let mut filters = Clsact::at(at.netns, at.link)?;
                for (direction, gate) in programs {
                    filters.add_first(program(direction), gate, at.side(direction), |rank| {
                        self.set_rank(direction, rank)
                    })?;
                }
                Placed::Filters(filters)
            }
        });
        Ok(())
    }

    /// Puts one direction's program at the head of its chain, and tells it its rank there: the chain's revision. To be
    /// called in the hook's namespace.
    fn link(&self, hook: Hook, direction: Direction, gate: BorrowedFd<'_>) -> Result<Link> {
        let name = program(direction);
        for _ in 0..TRIES {
            let chain = hook.chain()?.unwrap_or_default();
            // Of the revision the lower half counts: of two ranks the programs know which is newer as long as fewer than
            // 2^15 changes of the chain lie between them.
            self.set_rank(direction, chain.revision as u32)?;
            if let Some(link) = Link::first(name, gate, hook, chain.revision)? {
                return Ok(link);
            }
        }
        Err(Error::Unsettled { what: format!("attach {name} to {hook}"), tries: TRIES })
    }

    fn set_rank(&self, direction: Direction, rank: u32) -> Result<()> {
        self.set_state(|state| state.rank[direction.index()] = rank)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // So that nothing goes into a wire any more while the programs go one by one. If it fails they go all the same.
        if self.attached.is_some()
            && let Err(error) = self.set_state(|state| state.armed = 0)
        {
            tracing::debug!(error = snorkel_netns::chain(&error), "a gate could not be disarmed");
        }
    }
}

/// Removes from a link what gates left there whose process was killed: filters that let everything pass since their
/// deadline ([`Method::Clsact`]), and the clsact qdisc if it was made for them and is empty. Gives how many filters went.
///
/// Gates that are held, and filters of others, stay. With links nothing is ever left. Needs CAP_SYS_ADMIN.
pub fn sweep(netns: &Netns, link: IfIndex) -> Result<usize> {
    clsact::sweep(netns, link, |program| {
        // Any frame will do: what is asked stands in the mark.
        let run = sys::run(program, &[0; 64], ALIVE).map_err(|e| Error::os("ask a gate who holds it", e))?;
        Ok(run.mark == DEAD)
    })
}

/// The program of a direction.
pub(super) fn program(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "gate_out",
        Direction::In => "gate_in",
    }
}

/// Puts a wire's program at an end of the wire, in the calling thread's namespace.
fn sole(name: &'static str, program: BorrowedFd<'_>, end: IfIndex) -> Result<Link> {
    let hook = Hook { link: end, side: Side::Ingress };
    let what = || format!("attach {name} to {hook}");
    // The revision 0 fits every chain: the ends are this process's own.
    Link::first(name, program, hook, 0)?.ok_or_else(|| Error::Unsettled { what: what(), tries: 1 })
}
