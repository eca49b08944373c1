//! One trial of one feature: what it is for, how it is tried, and how the outcome becomes a finding.

use std::fmt;

use rustix::io::Errno;
use snorkel_bpf::probe::Answer;
use snorkel_netns::Netns;

use super::status::{Capability, Status};
use super::{Finding, Group, Verdict};

/// The remedy where rights are missing.
const AS_ROOT: &str = "ask again as root: sudo snorkel doctor";
/// The same where the user is root already.
const WITH_RIGHTS: &str = "ask again with the capabilities that are missing above";
/// The remedy where the rights are there and do not suffice.
const OUTSIDE: &str = "run snorkel on the host: outside of any container, rootless session or seccomp filter";

/// What came of a trial; each with what was seen, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It works.
    Works(String),
    /// It works in part: what was seen, and what is lost by that.
    Partly(String, &'static str),
    /// It is not there.
    Not(String),
    /// The kernel refuses it, though the capabilities are there; it will refuse snorkel too.
    Refused(String),
    /// It could not be tried.
    CannotAsk(String),
}

/// A step of a trial that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What was being done, as in "mount an overlay".
    pub(super) what: String,
    /// What the kernel said.
    pub(super) errno: Errno,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, short(&std::io::Error::from(self.errno).to_string()))
    }
}

impl From<snorkel_netns::Error> for Trouble {
    fn from(error: snorkel_netns::Error) -> Trouble {
        match error {
            snorkel_netns::Error::Os { what, source } => Trouble::of(what, &source),
            other => Trouble { what: format!("go on: {other}"), errno: Errno::IO },
        }
    }
}

impl From<snorkel_rtnl::Error> for Trouble {
    fn from(error: snorkel_rtnl::Error) -> Trouble {
        match error {
            snorkel_rtnl::Error::Os { what, source, .. } => Trouble::of(what, &source),
            snorkel_rtnl::Error::Unsupported { what } => Trouble { what, errno: Errno::OPNOTSUPP },
            snorkel_rtnl::Error::Netns(error) => error.into(),
            other => Trouble { what: format!("go on: {other}"), errno: Errno::IO },
        }
    }
}

impl Trouble {
    /// What was being done, and the error that the standard library has of it.
    pub(super) fn of(what: String, source: &std::io::Error) -> Trouble {
        Trouble { what, errno: Errno::from_io_error(source).unwrap_or(Errno::IO) }
    }
}

/// Names the step in the error of a system call.
pub(super) trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T, Trouble>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, what: impl Into<String>) -> Result<T, Trouble> {
        self.map_err(|errno| Trouble { what: what.into(), errno })
    }
}

/// What the kernel said, without the number that the standard library appends.
pub(super) fn short(error: &str) -> &str {
    error.split(" (os error").next().unwrap_or_default()
}

/// Where trials take place: the rights they have, and a network namespace of their own.
pub(super) struct Ground<'a> {
    /// The rights of the process.
    pub(super) status: &'a Status,
    /// A network namespace that nothing else holds, or why there is none.
    pub(super) netns: Result<Netns, Trouble>,
}

impl<'a> Ground<'a> {
    /// Makes the namespace.
    pub(super) fn new(status: &'a Status) -> Ground<'a> {
        Ground { status, netns: Netns::private().map_err(Trouble::from) }
    }

    /// The network namespace, or the outcome that there is none to try in.
    pub(super) fn netns(&self) -> Result<&Netns, Outcome> {
        self.netns.as_ref().map_err(|trouble| Outcome::CannotAsk(trouble.to_string()))
    }

    /// Runs a step that has no effect in the network namespace, or where the caller is if there is none.
    pub(super) fn inside<T: Send>(
        &self,
        step: impl FnOnce() -> Result<T, Trouble> + Send,
    ) -> Result<T, Trouble> {
        match &self.netns {
            Ok(netns) => netns.run(step).unwrap_or_else(|e| Err(e.into())),
            Err(_) => step(),
        }
    }

    /// Turns the result of a trial into its outcome: `absent` are the errors by which the kernel says that it does
    /// not have the feature.
    pub(super) fn judge(&self, tried: Result<String, Trouble>, absent: &[Errno]) -> Outcome {
        match tried {
            Ok(found) => Outcome::Works(found),
            Err(trouble) if absent.contains(&trouble.errno) => Outcome::Not(trouble.to_string()),
            Err(trouble) if matches!(trouble.errno, Errno::PERM | Errno::ACCESS) => {
                match self.status.has(Capability::SysAdmin) && self.status.has(Capability::NetAdmin) {
                    true => Outcome::Refused(format!("{trouble}, though the capabilities are there")),
                    false => Outcome::CannotAsk(trouble.to_string()),
                }
            }
            Err(trouble) => Outcome::CannotAsk(trouble.to_string()),
        }
    }
}

/// The outcome of a bpf probe.
pub(super) fn bpf(answer: Answer, yes: &str) -> Outcome {
    match answer {
        Answer::Yes => Outcome::Works(yes.to_owned()),
        Answer::No(why) => Outcome::Not(short(&why).to_owned()),
        Answer::Unknown(why) => Outcome::CannotAsk(short(&why).to_owned()),
    }
}

/// A feature of the kernel and its trial.
pub(super) struct Trial {
    /// The finding's id.
    pub(super) id: &'static str,
    /// The finding's subject.
    pub(super) subject: &'static str,
    /// Whether entering and seeing rests on it.
    pub(super) core: bool,
    /// The verdict when it is not there.
    pub(super) without: Verdict,
    /// What is lost without it.
    pub(super) lost: &'static str,
    /// How to get it.
    pub(super) remedy: &'static str,
    /// Tries it.
    pub(super) run: fn(&Ground<'_>) -> Outcome,
}

impl Trial {
    /// Tries it and says what was found.
    pub(super) fn finding(&self, ground: &Ground<'_>) -> Finding {
        let of = |verdict, found: String, lost: &str, remedy: &str| Finding {
            id: self.id,
            subject: self.subject.to_owned(),
            group: Group::Kernel,
            core: self.core,
            verdict,
            found,
            lost: lost.to_owned(),
            remedy: remedy.to_owned(),
        };
        match (self.run)(ground) {
            Outcome::Works(found) => of(Verdict::Ok, found, "", ""),
            Outcome::Partly(found, lost) => of(Verdict::Degraded, found, lost, self.remedy),
            Outcome::Not(found) => of(self.without, found, self.lost, self.remedy),
            Outcome::Refused(found) => of(self.without, found, self.lost, OUTSIDE),
            Outcome::CannotAsk(found) if ground.status.has(Capability::SysAdmin) => {
                of(Verdict::Unknown, found, self.lost, OUTSIDE)
            }
            Outcome::CannotAsk(found) if ground.status.uid == Some(0) => {
                of(Verdict::Unknown, found, self.lost, WITH_RIGHTS)
            }
            Outcome::CannotAsk(found) => of(Verdict::Unknown, found, self.lost, AS_ROOT),
        }
    }
}
