//! A wire: a private veth pair through which packets of one direction are led, to be delayed, lost, or answered.
//!
//! What is sent into the public end arrives at the private end as single packets, and what leaves the private end arrives at
//! the public end. How packets get from a target's link into the wire and back is not decided here. Who does the work in between:
//! netem where the kernel has it (tc-netem(8)), else a thread on a packet socket, which does the same; for a wire that answers
//! always a thread. A wire that does nothing needs neither: packets are turned round in the kernel.
//!
//! The pair goes with the private namespace, and that with the process that holds it.

mod answer;
mod answerer;
mod checksum;
mod clock;
mod counts;
mod error;
mod netem;
mod run;
mod scheduler;
mod sender;
mod socket;
mod store;
mod veth;
mod worker;

pub use answer::answer;
pub use counts::{Counts, Detail};
pub use error::{Error, Result};

use std::io;

use snorkel_netns::Netns;
use snorkel_rtnl::{AttachedQdisc, IfIndex, Netem};

use crate::emulation::Emulation;
use crate::impairment::Impairment;
use answerer::Answerer;
use scheduler::Scheduler;
use sender::Sender;
use socket::Ring;
use veth::Pair;
use worker::{Work, Worker};

/// What a wire does with the packets that are led through it.
#[derive(Clone, Debug, PartialEq)]
pub enum Duty {
    /// They are impaired and go on.
    Impair(Impairment),
    /// They end here, and are answered: with a reset (TCP), or with an error of ICMP.
    Reject,
}

/// Who carries an impairment out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The kernel, as far as it can.
    #[default]
    Best,
    /// snorkel's own scheduler.
    Own,
}

/// A wire. It goes with the value, and with the process.
#[derive(Debug)]
pub struct Wire {
    engine: Engine,
    pair: Pair,
}

/// Who is at work in a wire's private end.
#[derive(Debug)]
enum Engine {
    /// Nobody: packets are turned round as they are.
    Nobody,
    Netem(Box<Netem>),
    Thread(Worker),
}

/// A wire in whose private end nobody is at work yet, if that is to be a thread: what is sent into it does not come back.
#[derive(Debug)]
pub struct Laid {
    pair: Pair,
    rest: Rest,
}

/// What is left to be done.
#[derive(Debug)]
enum Rest {
    Nothing(Engine),
    Impair(Box<Emulation>),
    Answer,
}

impl Laid {
    /// The end that packets are sent into, and come out of.
    pub fn public(&self) -> IfIndex {
        self.pair.public
    }

    /// The end in the private namespace.
    pub fn private(&self) -> IfIndex {
        self.pair.private
    }

    /// As [`Wire::kernel_queue`].
    pub fn kernel_queue(&self) -> bool {
        matches!(self.rest, Rest::Nothing(_))
    }

    /// Makes it a wire, in the same private namespace. To open the packet sockets of a thread takes the kernel a grace
    /// period of RCU (packet(7), PACKET_RX_RING), some 15 ms.
    pub fn start(self, private: &Netns) -> Result<Wire> {
        let engine = match self.rest {
            Rest::Nothing(engine) => engine,
            Rest::Impair(emulation) => {
                start(&self.pair, private, |ring, sender| Scheduler::new(ring, sender, *emulation))?
            }
            Rest::Answer => start(&self.pair, private, Answerer::new)?,
        };
        Ok(Wire { engine, pair: self.pair })
    }
}

impl Wire {
    /// Makes a wire between a namespace in which packets are taken and a private one.
    pub fn make(public: &Netns, private: &Netns, duty: &Duty) -> Result<Wire> {
        Wire::make_with(public, private, duty, Backend::Best)
    }

    /// As [`Wire::make`], with a choice of who does it.
    pub fn make_with(public: &Netns, private: &Netns, duty: &Duty, backend: Backend) -> Result<Wire> {
        Wire::lay(public, private, duty, backend)?.start(private)
    }

    /// All of it but the thread that it may need, which takes the longest.
    pub fn lay(public: &Netns, private: &Netns, duty: &Duty, backend: Backend) -> Result<Laid> {
        let mut pair = Pair::make(public, private)?;
        let rest = match duty {
            Duty::Impair(impairment) => match kernels(&mut pair, public, impairment, backend)? {
                Some(engine) => Rest::Nothing(engine),
                None => Rest::Impair(Box::new(Emulation::new(impairment))),
            },
            Duty::Reject => Rest::Answer,
        };
        Ok(Laid { pair, rest })
    }

    /// The end that packets are sent into, and come out of.
    pub fn public(&self) -> IfIndex {
        self.pair.public
    }

    /// The end in the private namespace.
    pub fn private(&self) -> IfIndex {
        self.pair.private
    }

    /// The name of both ends, each in its namespace.
    pub fn name(&self) -> &str {
        &self.pair.name
    }

    /// Whether packets are to be sent back out of the private end, through its qdisc; else a packet socket has taken them, and
    /// they are to be dropped there.
    pub fn kernel_queue(&self) -> bool {
        !matches!(self.engine, Engine::Thread(_))
    }

    /// What was counted so far; a wire that does nothing counts nothing.
    pub fn counts(&mut self) -> Result<Counts> {
        match &self.engine {
            Engine::Nobody => Ok(Counts::default()),
            Engine::Thread(worker) => Ok(worker.counts()),
            Engine::Netem(_) => {
                let statistics = self.qdisc()?.statistics;
                Ok(Counts {
                    sent: statistics.packets,
                    bytes: statistics.bytes,
                    dropped: u64::from(statistics.drops),
                    waiting: u64::from(statistics.waiting),
                    detail: None,
                })
            }
        }
    }

    /// Asks the kernel whether the wire is there as it was made: both ends up, netem with the options that it was given, the
    /// thread at work.
    pub fn read_back(&mut self) -> Result<()> {
        let links = self.pair.inside.links(None)?;
        match links.iter().find(|link| link.index == self.pair.private) {
            None => return Err(self.pair.differs("it is gone")),
            Some(link) if !(link.flags.up && link.flags.lower_up) => {
                return Err(self.pair.differs("an end of it is down"));
            }
            Some(_) => (),
        }
        match &self.engine {
            Engine::Nobody => Ok(()),
            Engine::Thread(worker) if worker.is_alive() => Ok(()),
            Engine::Thread(_) => Err(self.pair.differs("its thread has ended")),
            Engine::Netem(asked) => {
                let asked = asked.clone();
                match self.qdisc()?.netem {
                    Some(told) if told.fulfils(&asked) => Ok(()),
                    told => {
                        Err(self.pair.differs(format!("netem has {told:?} where {asked:?} was asked for")))
                    }
                }
            }
        }
    }

    /// The netem of the private end.
    fn qdisc(&mut self) -> Result<AttachedQdisc> {
        let all = self.pair.inside.qdiscs(Some(self.pair.private))?;
        let mut found = all.into_iter().filter(|qdisc| qdisc.kind == "netem");
        found.next().ok_or_else(|| self.pair.differs("its netem is gone"))
    }
}

/// Who does it, if that is the kernel: `None` if it has no netem, or is not to do it.
fn kernels(
    pair: &mut Pair,
    public: &Netns,
    impairment: &Impairment,
    backend: Backend,
) -> Result<Option<Engine>> {
    if backend == Backend::Own {
        return Ok(None);
    }
    if impairment.is_none() {
        return Ok(Some(Engine::Nobody));
    }
    let netem = netem::options(impairment);
    match pair.inside.add_netem(pair.private, &netem) {
        Ok(()) => {
            // It is as exact without.
            match pair.join_segments(public) {
                Ok(joins) => tracing::debug!(link = pair.name, joins, "segments that come back"),
                Err(error) => tracing::debug!("{}", snorkel_netns::chain(&error)),
            }
            Ok(Some(Engine::Netem(Box::new(netem))))
        }
        Err(error) if error.is_missing() => {
            tracing::debug!("{}", snorkel_netns::chain(&error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Starts the thread of a wire, with its sockets in the private namespace.
fn start<W: Work>(pair: &Pair, private: &Netns, work: impl FnOnce(Ring, Sender) -> W) -> Result<Engine> {
    let what = || format!("open the packet sockets of the wire {}", pair.name);
    let link = pair.private;
    let open = move || -> io::Result<(Ring, Sender)> { Ok((Ring::open(link)?, Sender::open(link)?)) };
    let (ring, sender) = private.run(open)?.map_err(|e| Error::os(what(), e))?;
    let worker = Worker::start(work(ring, sender))
        .map_err(|e| Error::os(format!("start the thread of the wire {}", pair.name), e))?;
    Ok(Engine::Thread(worker))
}
