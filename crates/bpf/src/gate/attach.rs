//! How a gate and the programs of its wires come to their places, and how that is checked.
//!
//! The wires' programs come first, the gate's own last, and only then the gate is armed: until both directions are there,
//! everything passes.

use std::fmt;
use std::os::fd::BorrowedFd;

use snorkel_netns::Netns;
use snorkel_rtnl::IfIndex;

use super::{AttachPoint, Direction, Gate};
use crate::link::{Hook, Link, Side};
use crate::{Error, Result};

/// `BPF_F_INGRESS` of linux/bpf.h: as if the link had received it.
const F_INGRESS: u32 = 1;
/// How often a chain is looked at again that others change at the same time.
const TRIES: usize = 64;

/// What holds a gate at its place. The gate's own links are dropped before those of the wires.
pub(super) struct Attached {
    netns: Netns,
    link: IfIndex,
    gate: Vec<Link>,
    wires: Vec<Placed>,
}

/// Programs in one namespace.
struct Placed {
    netns: Netns,
    links: Vec<Link>,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attached({} in net:[{}])", self.link, self.netns.inode())
    }
}

impl Attached {
    /// Checks that every program is where it was put.
    pub(super) fn verify(&self) -> Result<()> {
        self.netns.run(|| self.gate.iter().try_for_each(Link::verify))??;
        self.wires
            .iter()
            .try_for_each(|placed| placed.netns.run(|| placed.links.iter().try_for_each(Link::verify))?)
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
    /// It is put before the programs that are there already. A gate can be attached once.
    pub fn attach(&mut self, at: &AttachPoint<'_>) -> Result<()> {
        if self.attached.is_some() {
            let what = format!("attach a gate to link {}", at.link);
            return Err(Error::Invalid { what, why: "it is attached already".into() });
        }
        let netns = at.netns.try_clone()?;
        let back = Direction::ALL.map(|direction| match at.side(direction) {
            Side::Ingress => F_INGRESS,
            Side::Egress => 0,
        });
        self.set_state(|state| {
            state.link = at.link.get();
            state.back = back;
        })?;
        let wires = self.attach_wires(at)?;
        let mut gate = Vec::new();
        for direction in Direction::ALL {
            gate.push(self.attach_direction(at, direction)?);
        }
        self.attached = Some(Attached { netns, link: at.link, gate, wires });
        self.set_state(|state| state.armed = 1).inspect_err(|_| self.attached = None)
    }

    fn attach_wires(&self, at: &AttachPoint<'_>) -> Result<Vec<Placed>> {
        if self.wires.is_empty() {
            return Ok(Vec::new());
        }
        let (turn, back) = (self.object.program("turn")?, self.object.program("back")?);
        let mut placed = Vec::new();
        for wire in &self.wires {
            let links = wire.private_netns.run(|| first("turn", turn, wire.private))??;
            placed.push(Placed { netns: wire.private_netns.try_clone()?, links: vec![links] });
        }
        let links = at.netns.run(|| {
            self.wires.iter().map(|wire| first("back", back, wire.public)).collect::<Result<Vec<Link>>>()
        })??;
        placed.push(Placed { netns: at.netns.try_clone()?, links });
        Ok(placed)
    }

    /// Puts one direction's program at the head of its chain, and tells it its rank there: the chain's revision.
    fn attach_direction(&mut self, at: &AttachPoint<'_>, direction: Direction) -> Result<Link> {
        let name = program(direction);
        let hook = at.hook(direction);
        for _ in 0..TRIES {
            let chain = at.netns.run(|| hook.chain())??.unwrap_or_default();
            // The lower half is compared: the programs know which of two is newer as long as fewer than 2^15 changes
            // lie between them.
            self.set_state(|state| state.rank[direction.index()] = chain.revision as u32)?;
            let gate = self.object.program(name)?;
            if let Some(link) = at.netns.run(|| Link::first(name, gate, hook, chain.revision))?? {
                return Ok(link);
            }
        }
        Err(Error::Unsettled { what: format!("attach {name} to {hook}"), tries: TRIES })
    }
}

/// The program of a direction.
pub(super) fn program(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "gate_out",
        Direction::In => "gate_in",
    }
}

/// Puts a wire's program at an end of the wire, in the calling thread's namespace.
fn first(name: &'static str, program: BorrowedFd<'_>, end: IfIndex) -> Result<Link> {
    let hook = Hook { link: end, side: Side::Ingress };
    let what = || format!("attach {name} to {hook}");
    // The revision 0 fits every chain: the ends are this process's own.
    Link::first(name, program, hook, 0)?.ok_or_else(|| Error::Unsettled { what: what(), tries: 1 })
}
