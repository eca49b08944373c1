//! `snorkel doctor`: what this kernel, these rights and these engines allow.
//!
//! Features are tried, never concluded from the kernel's version: distributions carry them back and leave them out.
//! Each trial happens in a private namespace or has no effect; nothing stays. One thing may: trying a kind of link, a
//! queueing discipline, nftables or overlayfs makes the kernel load the module for it if it finds one, as using it
//! would (`ip link add`, `mount`). A module that changes the host by being loaded is not tried.
//!
//! Without root everything runs too; what could not be asked is [`Verdict::Unknown`] and says so.

mod capabilities;
mod engines;
mod faults;
mod features;
mod kernel;
mod links;
mod mounts;
mod nft;
mod rights;
mod status;
mod sys;
mod text;
mod trial;

use serde::Serialize;

pub(crate) use engines::{Asked, Engine};
pub(crate) use text::{Ink, text};

/// What kind of thing a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    /// What this process may do.
    Rights,
    /// What the kernel can do.
    Kernel,
    /// Which engines answer.
    Engines,
}

/// How it stands with the subject of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It is there and works.
    Ok,
    /// It is there in part, or something else does its work less well.
    Degraded,
    /// It is not there, and something of snorkel does not work without it.
    Missing,
    /// It is not there, and nothing is wrong with that: an engine that is not installed, a kind of link that no
    /// container here can have.
    Absent,
    /// It could not be asked.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, in kebab-case; stays the same over versions. Unique, but for engines: there is one finding
    /// for every socket, the id names the engine and the subject the socket.
    pub(crate) id: &'static str,
    /// The same for people.
    pub(crate) subject: String,
    /// Where it belongs.
    pub(crate) group: Group,
    /// Whether entering and seeing namespaces, the core of snorkel, rests on it.
    pub(crate) core: bool,
    /// How it stands.
    pub(crate) verdict: Verdict,
    /// What was seen, one line.
    pub(crate) found: String,
    /// What snorkel cannot do without it; empty when [`Verdict::Ok`].
    pub(crate) lost: String,
    /// How to get it; empty when [`Verdict::Ok`].
    pub(crate) remedy: String,
}

impl Finding {
    /// A finding about rights, not part of the core; what is lost and the remedy fall away when all is well.
    fn of_rights(
        id: &'static str,
        subject: &str,
        verdict: Verdict,
        found: &str,
        lost: &str,
        remedy: &str,
    ) -> Finding {
        let unless_ok = |text: &str| if verdict == Verdict::Ok { String::new() } else { text.to_owned() };
        Finding {
            id,
            subject: subject.to_owned(),
            group: Group::Rights,
            core: false,
            verdict,
            found: found.to_owned(),
            lost: unless_ok(lost),
            remedy: unless_ok(remedy),
        }
    }
}

/// All findings of one examination.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The version of this shape; a field that changes its meaning raises it, a new field or id does not.
    pub(crate) schema: u32,
    /// Name, release and architecture of the running kernel. For people: no verdict rests on it.
    pub(crate) kernel: String,
    /// In the order of their groups.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Whether containers can be entered and seen: everything marked as core works, fully or in part.
    pub(crate) fn core_ok(&self) -> bool {
        self.findings.iter().filter(|f| f.core).all(|f| matches!(f.verdict, Verdict::Ok | Verdict::Degraded))
    }
}

/// Looks at everything. `engines` is what was heard from the engines' sockets, asked by the caller.
pub(crate) fn examine(engines: &[Asked]) -> Report {
    let uname = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let status = status::Status::read();
    let mut findings = rights::examine(&status);
    findings.extend(kernel::examine(&status));
    findings.extend(engines.iter().map(engines::finding));
    Report {
        schema: 1,
        kernel: format!("{} {} {}", part(uname.sysname()), part(uname.release()), part(uname.machine())),
        findings,
    }
}

#[cfg(test)]
mod tests;
