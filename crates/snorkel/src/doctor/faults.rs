//! Trials of what faults rest on, beyond single features: the programs as they are, filters of them, a place for the
//! journal. All of it in a private namespace, or without effect.

use rustix::fs::{Access, access};
use rustix::io::Errno;
use snorkel_bpf::gate::{AttachPoint, Direction, Gate, Method, Rule, Verdict};
use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, Socket};

use super::trial::{Ground, Outcome, short};

/// Where links that are set down are written down.
const PLACE: &str = "/run";

/// The very programs that decide on packets: taken by the kernel, attached, and deciding as they are told.
pub(super) fn gate(ground: &Ground<'_>) -> Outcome {
    tried(ground, None)
}

/// The same programs as filters.
pub(super) fn filters(ground: &Ground<'_>) -> Outcome {
    tried(ground, Some(Method::Clsact))
}

fn tried(ground: &Ground<'_>, method: Option<Method>) -> Outcome {
    let netns = match ground.netns() {
        Ok(netns) => netns,
        Err(outcome) => return outcome,
    };
    match attach(netns, method) {
        Ok(Method::Tcx) => Outcome::Works("they are taken, attached by links, and decide as told".into()),
        Ok(Method::Clsact) => {
            Outcome::Works("they are taken, attached as filters, and decide as told".into())
        }
        Err(error) if error.is_permission() => Outcome::CannotAsk(line(&error)),
        Err(error) => Outcome::Not(line(&error)),
    }
}

fn line(error: &snorkel_bpf::Error) -> String {
    let chain = snorkel_netns::chain(error);
    // Of the verifier's log only that there is one.
    short(chain.lines().next().unwrap_or_default()).to_owned()
}

fn attach(netns: &Netns, method: Option<Method>) -> Result<Method, snorkel_bpf::Error> {
    let Some(link) = Socket::open_in(netns)?.index_of("lo")? else {
        // Every network namespace is made with one.
        return Ok(Method::Tcx);
    };
    at(netns, link, method)
}

fn at(netns: &Netns, link: IfIndex, method: Option<Method>) -> Result<Method, snorkel_bpf::Error> {
    let rule = Rule::all(Direction::Out, Verdict::Drop);
    let mut gate = Gate::load(&[rule], &[])?;
    let at = AttachPoint { netns, link, inside: false, owner: "doctor" };
    let method = match method {
        Some(method) => method,
        None => at.method()?,
    };
    gate.attach_by(&at, method)?;
    gate.verify()?;
    Ok(method)
}

/// A place for what has to outlive a process that is killed.
pub(super) fn journal(_: &Ground<'_>) -> Outcome {
    match access(PLACE, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Outcome::Works(format!("{PLACE} is there, and can be written to")),
        Err(errno @ (Errno::NOENT | Errno::ROFS)) => Outcome::Not(format!("{PLACE}: {}", said(errno))),
        Err(errno) => Outcome::CannotAsk(format!("{PLACE}: {}", said(errno))),
    }
}

fn said(errno: Errno) -> String {
    short(&std::io::Error::from(errno).to_string()).to_owned()
}
