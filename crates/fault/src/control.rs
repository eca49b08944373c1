//! How a fault is found, asked and ended from elsewhere: the socket of its holder, `@snorkel-fault/ID`
//! ([`snorkel_netns::control`]).
//!
//! `{"ask":"status"}` is answered by a [`Status`], `{"ask":"heal"}` by a [`Healed`] once the fault is no more. A second
//! name, made of what the fault does, is only claimed: so the very same fault is refused a second time, and free again
//! with its holder, however that ends.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snorkel_netns::control::{self, Answer, NoAnswer, Serving};

use crate::journal::Journal;
use crate::plan::Kind;
use crate::{Error, FaultId, Result};

/// The version of what is told; it grows when a field changes its meaning or goes, not when one is added.
pub const SCHEMA: u32 = 1;
const PREFIX: &str = "snorkel-fault/";
/// What the name begins with that stands for what a fault does.
const SAME_PREFIX: &str = "snorkel-fault-same/";
/// A holder that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// To end a fault may take a while: a link goes up.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// No answer is longer.
const LARGEST: u64 = 4 << 20;
/// How often a name is tried before a longer one is.
const TRIES: usize = 16;

/// A fault as its holder tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`] of the program that tells.
    pub schema: u32,
    /// Its name.
    pub id: FaultId,
    /// What kind of fault.
    pub kind: Kind,
    /// Whose network is disturbed.
    pub targets: Vec<String>,
    /// What was typed for it.
    pub words: Vec<String>,
    /// The file that it is of, and its name there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<OfFile>,
    /// When it began, seconds since the beginning of 1970.
    pub since: f64,
    /// When it ends by itself, if it does.
    pub until: Option<f64>,
    /// Whether it is in force at this moment; one that comes and goes is not always.
    pub on: bool,
    /// Who holds it.
    pub holder: Holder,
    /// Stands for what it does: the same for the same fault.
    pub same: String,
    /// Each link that is disturbed.
    pub links: Vec<LinkStatus>,
}

/// A fault's place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfFile {
    /// The file, by its whole path.
    pub path: String,
    /// What stands for its content.
    pub digest: String,
    /// The fault's name in it.
    pub name: String,
}

/// Who holds a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: i32,
    /// Whose it is: who called sudo, if somebody did.
    pub uid: u32,
    /// The name of that user.
    pub user: Option<String>,
    /// The terminal that it was started on.
    pub terminal: Option<String>,
}

/// How it stands with one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The targets whose link it is.
    pub targets: Vec<String>,
    /// Its name there.
    pub link: String,
    /// Where it is disturbed: a link.
    pub at: String,
    /// In which namespace that is: `host`, or a target.
    pub of: String,
    /// `carrier`, or `packets`.
    pub how: String,
    /// What is done there, in words.
    pub does: Vec<String>,
    /// Whether what was done there is still so; if not, why.
    pub trouble: Option<String>,
    /// What became of packets, rule by rule.
    #[serde(default)]
    pub rules: Vec<RuleStatus>,
    /// What the wires did.
    #[serde(default)]
    pub wires: Vec<WireStatus>,
}

/// What a rule has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Which way: `out` or `in`.
    pub direction: String,
    /// `pass`, `drop`, `impair` or `reject`.
    pub verdict: String,
    /// How many packets fitted.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a wire has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireStatus {
    /// Of packets that go which way: `out` or `in`.
    pub direction: String,
    /// What it does: `impair` or `reject`.
    pub effect: String,
    /// How many went in, after they were cut to what a wire carries.
    pub entered: u64,
    /// How many came back.
    pub returned: u64,
    /// The delay that was measured, of a sample of packets.
    pub delay: Option<Measured>,
}

/// A measured time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Of how many.
    pub samples: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Measured {
    /// Both as one.
    pub fn with(self, other: Measured) -> Measured {
        let samples = self.samples + other.samples;
        if samples == 0 {
            return self;
        }
        let mean_of = |of: fn(&Measured) -> f64| {
            [self, other].iter().map(|one| of(one) * one.samples as f64).sum::<f64>() / samples as f64
        };
        let mean = mean_of(|one| one.mean);
        let square = mean_of(|one| one.deviation.powi(2) + one.mean.powi(2));
        Measured {
            samples,
            mean,
            deviation: (square - mean.powi(2)).max(0.0).sqrt(),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// What came of ending a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// Which.
    pub id: FaultId,
    /// What was done, a line for each link.
    pub did: Vec<String>,
    /// What could not be done.
    pub troubles: Vec<String>,
}

/// What a holder can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    /// How it stands.
    Status,
    /// To end it.
    Heal,
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    error: String,
}

/// A fault's name, taken; and that of what it does.
#[derive(Debug)]
pub struct Claim {
    /// Its name.
    pub id: FaultId,
    /// Stands for what it does.
    pub same: String,
    socket: OwnedFd,
    _same: OwnedFd,
}

impl Claim {
    /// Takes a name that no other fault has, for one that does what `key` says. [`Error::Already`] if that is in force.
    pub fn take(key: &str, journal: &Journal) -> Result<Claim> {
        let failed = |e| Error::os("claim a name for the fault", e);
        let same = digest(key.as_bytes());
        let Some(of_same) = control::claim(&format!("{SAME_PREFIX}{same}")).map_err(failed)? else {
            return Err(already(&same));
        };
        for attempt in 0..4 * TRIES {
            let id = FaultId::by_chance(2 + attempt / TRIES);
            let known = match journal.lock()? {
                Some(locked) => locked.knows(&id)?,
                None => false,
            };
            if known {
                continue;
            }
            if let Some(socket) = control::claim(&format!("{PREFIX}{id}")).map_err(failed)? {
                return Ok(Claim { id, same, socket, _same: of_same });
            }
        }
        Err(failed(rustix::io::Errno::ADDRINUSE.into()))
    }

    /// Takes the name of something whose second time is refused, until the value is dropped; `None` if it is taken.
    pub fn once(key: &str) -> Result<Option<OwnedFd>> {
        control::claim(&format!("{SAME_PREFIX}{}", digest(key.as_bytes())))
            .map_err(|e| Error::os("claim a name", e))
    }

    /// Answers on it from now on; what is asked goes to `desk`.
    pub fn serve(self, desk: &Desk) -> Result<Served> {
        let stranger = refusal("this fault belongs to another user".to_owned());
        let (id, to) = (self.id.clone(), desk.to.clone());
        let bell = desk.bell.try_clone().map_err(|e| Error::os("share a pipe", e))?;
        let answer = move |request: &[u8]| {
            let request = match serde_json::from_slice(request) {
                Ok(request) => request,
                Err(e) => return Some(Answer::last(refusal(format!("this is no request: {e}")))),
            };
            let (reply, replied) = channel();
            let (told, until_told) = channel::<()>();
            let asked = Asked { id: id.clone(), request, reply, until_told };
            let sent = to.send(asked).is_ok() && (&bell).write_all(&[0]).is_ok();
            match replied.recv_timeout(LONG_PATIENCE) {
                Ok(line) if sent => {
                    Some(Answer { then: Some(Box::new(move || drop(told))), ..Answer::line(line) })
                }
                // The fault has ended.
                Err(RecvTimeoutError::Disconnected) => None,
                _ => Some(Answer::last(refusal("the holder is busy or ending".to_owned()))),
            }
        };
        let serving = control::serve(self.socket, stranger, answer)
            .map_err(|e| Error::os(format!("listen on the socket of {}", self.id), e))?;
        Ok(Served { id: self.id, same: self.same, _same: self._same, _serving: serving })
    }
}

/// A fault's name that is answered on, until the value goes.
#[derive(Debug)]
pub struct Served {
    /// The name.
    pub id: FaultId,
    /// Stands for what the fault does.
    pub same: String,
    _same: OwnedFd,
    _serving: Serving,
}

/// Where questions arrive: readable when there is one.
#[derive(Debug)]
pub struct Desk {
    from: Receiver<Asked>,
    to: Sender<Asked>,
    here: UnixStream,
    bell: UnixStream,
}

impl Desk {
    /// An empty one.
    pub fn open() -> Result<Desk> {
        let failed = |e| Error::os("make a pipe", e);
        let (here, bell) = UnixStream::pair().map_err(failed)?;
        here.set_nonblocking(true).map_err(failed)?;
        let (to, from) = channel();
        Ok(Desk { from, to, here, bell })
    }

    /// The next question, if there is one.
    pub fn next(&self) -> Option<Asked> {
        let mut bytes = [0; 64];
        while std::io::Read::read(&mut &self.here, &mut bytes).is_ok_and(|read| read == bytes.len()) {}
        self.from.try_recv().ok()
    }
}

impl AsFd for Desk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }
}

/// A question that waits for its answer. Dropped, it is hung up on: whoever asked takes it that there is no such fault.
#[derive(Debug)]
pub struct Asked {
    /// About which fault.
    pub id: FaultId,
    /// What.
    pub request: Request,
    reply: Sender<Vec<u8>>,
    until_told: Receiver<()>,
}

impl Asked {
    /// Answers it, and waits until that is written: the process may end then.
    pub fn answer(self, value: &impl Serialize) {
        const SOON: Duration = Duration::from_secs(2);
        if self.reply.send(line(value)).is_ok() {
            // Who asked may have gone.
            let _ = self.until_told.recv_timeout(SOON);
        }
    }
}

/// All faults whose holders listen in the network namespace of the calling thread. One that ends meanwhile is left out;
/// one that cannot be asked is a line of warning.
pub fn list() -> Result<(Vec<Status>, Vec<String>)> {
    let names = control::names(PREFIX).map_err(|e| Error::os("look for faults", e))?;
    let (mut all, mut warnings) = (Vec::new(), Vec::new());
    for name in names {
        let Ok(id) = name.parse() else { continue };
        match status(&id) {
            Ok(Some(status)) => all.push(status),
            Ok(None) => {}
            Err(error) => warnings.push(snorkel_netns::chain(&error)),
        }
    }
    all.sort_by(|a, b| a.since.total_cmp(&b.since));
    Ok((all, warnings))
}

/// How it stands with a fault; none if there is none of that name.
pub fn status(id: &FaultId) -> Result<Option<Status>> {
    ask(id, Request::Status, PATIENCE)
}

/// Has a fault ended by its holder; none if there is none of that name.
pub fn heal(id: &FaultId) -> Result<Option<Healed>> {
    ask(id, Request::Heal, LONG_PATIENCE)
}

fn ask<T: serde::de::DeserializeOwned>(
    id: &FaultId,
    request: Request,
    patience: Duration,
) -> Result<Option<T>> {
    let wrong = |why: String| Error::Holder { id: id.clone(), why };
    let answer = match control::ask(&format!("{PREFIX}{id}"), &line(&request), patience, LARGEST) {
        Ok(answer) => answer,
        Err(NoAnswer::Nobody) => return Ok(None),
        Err(other) => return Err(wrong(other.to_string())),
    };
    match serde_json::from_slice(&answer) {
        Ok(value) => Ok(Some(value)),
        Err(e) => match serde_json::from_slice::<Refusal>(&answer) {
            Ok(refusal) => Err(wrong(refusal.error)),
            Err(_) => Err(wrong(format!("it is not understood: {e}"))),
        },
    }
}

/// The fault that has the claim on what it does.
fn already(same: &str) -> Error {
    let first = list().ok().and_then(|(all, _)| all.into_iter().find(|status| status.same == same));
    match first {
        Some(first) => Error::Already {
            id: first.id,
            pid: first.holder.pid,
            words: format!("snorkel {}", first.words.join(" ")),
        },
        None => Error::Plan("the very same is being put in force at this moment".to_owned()),
    }
}

fn refusal(error: String) -> Vec<u8> {
    line(&Refusal { error })
}

/// A value on one line. These records have no form that JSON does not have.
fn line(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// 128 bits that stand for a text: FNV-1a of two beginnings. It tells apart what honest people type; there is nothing to
/// win by a collision but a fault that is refused.
pub fn digest(text: &[u8]) -> String {
    const PRIME: u64 = 0x0100_0000_01b3;
    let fnv =
        |start: u64| text.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{:016x}{:016x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x9ae1_6a3b_2f90_404f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let key = format!("test {}", std::process::id());
        let first = Claim::take(&key, &journal).unwrap();
        assert!(matches!(Claim::take(&key, &journal), Err(Error::Plan(_))));
        let other = Claim::take("another", &journal).unwrap();
        assert_ne!(first.id, other.id);
        drop(first);
        Claim::take(&key, &journal).unwrap();
    }

    #[test]
    fn requests_are_what_the_protocol_says() {
        assert_eq!(serde_json::to_string(&Request::Heal).unwrap(), r#"{"ask":"heal"}"#);
        assert!(serde_json::from_str::<Request>(r#"{"ask":"dance"}"#).is_err());
    }
}
