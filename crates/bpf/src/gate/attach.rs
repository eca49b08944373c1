//! How a gate and the programs of its wires come to their places, and how that is checked.
//!
//! The wires' programs come first, the gate's own last, and only then the gate is armed: until both directions are there,
//! everything passes.

use std::fmt;
use std::os::fd::BorrowedFd;

use snorkel_netns::Netns;
use snorkel_rtnl::IfIndex;

use super::layout::RawState;
use super::sample::Sample;
use super::{AttachPoint, Direction, Gate, NEXT};
use crate::clsact::Clsact;
use crate::link::{Hook, Link, Side};
use crate::{Error, Result};

/// `BPF_F_INGRESS` of linux/bpf.h: as if the link had received it.
const F_INGRESS: u32 = 1;
/// How often a chain is looked at again that others change at the same time.
const TRIES: usize = 64;

/// By which of the kernel's two ways programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By links (tcx, since 6.6): the kernel detaches when the process ends.
    Tcx,
    /// By filters (clsact), which stay when the process ends, and lead to nothing from then on: the kernel empties the
    /// table that they jump by. [`sweep`](super::sweep) removes them.
    Clsact,
}

/// What holds a gate at its place: its own programs, which come last and go first, and those of its wires.
pub(super) struct Attached {
    method: Method,
    gate: Option<Placed>,
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
        self.gate.as_ref().ok_or_else(not_attached)?.verify()?;
        self.wires.iter().try_for_each(Placed::verify)
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

    /// By which way a gate is attached here: by links, if the kernel has them.
    pub fn method(&self) -> Result<Method> {
        let hook = self.hook(Direction::Out);
        let tcx = self.netns.run(|| hook.chain())??.is_some();
        Ok(if tcx { Method::Tcx } else { Method::Clsact })
    }
}

impl Gate {
    /// Puts the gate in force at a place. On an error nothing stays attached.
    ///
    /// It is put before the programs that are there already. A gate can be attached once. Needs CAP_NET_ADMIN in the
    /// namespace's user namespace.
    pub fn attach(&mut self, at: &AttachPoint<'_>) -> Result<()> {
        self.attach_by(at, at.method()?)
    }

    /// As [`Gate::attach`], by this way alone.
    #[doc(hidden)]
    pub fn attach_by(&mut self, at: &AttachPoint<'_>, method: Method) -> Result<()> {
        self.place(at, method)?;
        self.arm().inspect_err(|_| self.attached = None)
    }

    /// The longer part of it: everything comes to its place, and packets pass until [`Gate::arm`]. On an error nothing stays
    /// attached.
    pub fn place(&mut self, at: &AttachPoint<'_>, method: Method) -> Result<()> {
        self.place_wires(at, method)?;
        self.place_gate(at)
    }

    /// The first half of that, which does nothing at the link itself.
    pub fn place_wires(&mut self, at: &AttachPoint<'_>, method: Method) -> Result<()> {
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
            self.make_jumps()?;
        }
        let wires = self.attach_wires(at, method)?;
        self.attached = Some(Attached { method, gate: None, wires });
        Ok(())
    }

    /// The second half.
    pub fn place_gate(&mut self, at: &AttachPoint<'_>) -> Result<()> {
        let method = self.method().ok_or_else(not_attached)?;
        let placed = self.attach_gate(at, method).inspect_err(|_| self.attached = None)?;
        if let Some(attached) = &mut self.attached {
            attached.gate = Some(placed);
        }
        Ok(())
    }

    /// Has the programs decide on packets from now on. To be called once they are in their place ([`Gate::place`]).
    pub fn arm(&self) -> Result<()> {
        if self.attached.as_ref().is_none_or(|attached| attached.gate.is_none()) {
            return Err(not_attached());
        }
        self.set_state(|state| state.armed = 1)
    }

    /// By which way the gate is attached, if it is.
    pub fn method(&self) -> Option<Method> {
        self.attached.as_ref().map(|attached| attached.method)
    }

    /// The program at the link that has the packets of a direction.
    pub(super) fn program(&self, direction: Direction) -> Result<BorrowedFd<'_>> {
        self.object.program(match self.method() {
            Some(Method::Clsact) => jump(direction),
            Some(Method::Tcx) | None => gate(direction),
        })
    }

    /// Loads the programs that stand at the link for the gate's own, and shows them the way to those.
    fn make_jumps(&mut self) -> Result<()> {
        for direction in Direction::ALL {
            self.object.load_program(jump(direction))?;
            let to = self.object.program(gate(direction))?;
            self.object.set_jump("jump_table", direction.index() as u32, to)?;
        }
        Ok(())
    }

    /// Puts the wires' programs to their ends; as filters where the kernel has them. Those go with the ends, which are this
    /// process's own, and unlike tcx's links they do not make the kernel wait for a grace period of RCU, some 15 ms each.
    fn attach_wires(&self, at: &AttachPoint<'_>, method: Method) -> Result<Vec<Placed>> {
        if self.wires.is_empty() {
            return Ok(Vec::new());
        }
        let (turn, back) = (self.object.program("turn")?, self.object.program("back")?);
        let ends = self.wires.iter().flat_map(|wire| {
            [("turn", turn, &wire.private_netns, wire.private), ("back", back, at.netns, wire.public)]
        });
        let place = |(name, program, netns, end): (_, BorrowedFd<'_>, &Netns, IfIndex)| match filter(
            name, program, netns, end, at.owner,
        ) {
            Err(Error::NoHook { .. }) if method == Method::Tcx => {
                let link = netns.run(|| sole(name, program, end))??;
                Ok(Placed::Links(netns.try_clone()?, vec![link]))
            }
            placed => placed,
        };
        ends.map(place).collect()
    }

    fn attach_gate(&self, at: &AttachPoint<'_>, method: Method) -> Result<Placed> {
        let directions = Direction::ALL.into_iter().filter(|direction| self.has_to_see(*direction));
        match method {
            Method::Tcx => {
                let link = |direction| self.link(at.hook(direction), direction);
                let all = || directions.map(link).collect::<Result<Vec<Link>>>();
                Ok(Placed::Links(at.netns.try_clone()?, at.netns.run(all)??))
            }
            Method::Clsact => {
                let mut filters = Clsact::at(at.netns, at.link, at.owner)?;
                for direction in directions {
                    let program = self.object.program(jump(direction))?;
                    let ready = |rank| self.set_rank(direction, rank);
                    // Called after what it leads to.
                    filters.add_first(gate(direction), program, at.side(direction), ready)?;
                }
                Ok(Placed::Filters(filters))
            }
        }
    }

    /// Whether there is something to do for packets of a direction: decide on them, or take the mark from those that a wire
    /// puts back there. A gate that has no rule at all sees everything.
    fn has_to_see(&self, direction: Direction) -> bool {
        self.rules.is_empty()
            || self.rules.iter().any(|rule| rule.direction == direction)
            || self.wires.iter().any(|wire| wire.direction == direction)
    }

    /// Lets everything pass from now on, and makes sure of it. The programs stay where they are until the value goes, which
    /// takes the kernel some milliseconds for each.
    pub fn disarm(&self) -> Result<()> {
        self.set_state(|state| state.armed = 0)?;
        self.rules.iter().map(Sample::of).try_for_each(|sample| {
            match self.run(sample.direction, &sample.frame())?.returned {
                NEXT => Ok(()),
                other => Err(Error::StillInForce { what: format!("{sample:?} is decided on as {other}") }),
            }
        })
    }

    /// Takes the gate's own programs off. What is at its wires stays until the value goes, and nothing comes there.
    pub fn detach(&mut self) {
        // So that nothing goes into a wire any more while the programs go one by one. If it fails they go all the same.
        if self.attached.is_some()
            && let Err(error) = self.set_state(|state| state.armed = 0)
        {
            tracing::debug!(error = snorkel_netns::chain(&error), "a gate could not be disarmed");
        }
        if let Some(attached) = &mut self.attached {
            attached.gate = None;
        }
    }

    /// Puts one direction's program at the head of its chain, and tells it its rank there: the chain's revision. To be
    /// called in the hook's namespace.
    fn link(&self, hook: Hook, direction: Direction) -> Result<Link> {
        let name = gate(direction);
        let program = self.object.program(name)?;
        for _ in 0..TRIES {
            let chain = hook.chain()?.unwrap_or_default();
            // Of the revision the lower half counts: of two ranks the programs know which is newer as long as fewer than
            // 2^15 changes of the chain lie between them.
            self.set_rank(direction, chain.revision as u32)?;
            if let Some(link) = Link::first(name, program, hook, chain.revision)? {
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
        self.detach();
    }
}

pub(super) fn not_attached() -> Error {
    Error::NotInForce { what: "the gate".into(), why: "it is not attached".into() }
}

/// The program that decides on the packets of a direction.
fn gate(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "gate_out",
        Direction::In => "gate_in",
    }
}

/// The program that jumps to it.
fn jump(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "jump_out",
        Direction::In => "jump_in",
    }
}

/// Puts a wire's program at an end of the wire, as a filter.
fn filter(
    name: &'static str,
    program: BorrowedFd<'_>,
    netns: &Netns,
    end: IfIndex,
    owner: &str,
) -> Result<Placed> {
    let mut filters = Clsact::at(netns, end, owner)?;
    filters.add_first(name, program, Side::Ingress, |_| Ok(()))?;
    Ok(Placed::Filters(filters))
}

/// Puts a wire's program at an end of the wire by a link, in the calling thread's namespace.
fn sole(name: &'static str, program: BorrowedFd<'_>, end: IfIndex) -> Result<Link> {
    let hook = Hook { link: end, side: Side::Ingress };
    let what = || format!("attach {name} to {hook}");
    // The revision 0 fits every chain: the ends are this process's own.
    Link::first(name, program, hook, 0)?.ok_or_else(|| Error::Unsettled { what: what(), tries: 1 })
}
