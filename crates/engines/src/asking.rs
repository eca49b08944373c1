//! The conversations: which there are to hold, and how they are held side by side.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::{Fault, Result, Warning};
use crate::{
    Answer, Container, Endpoint, Engine, Kind, Query, TargetSpec, containerd, cri, docker, lab, lxc, mounts,
    nspawn, owner, podman, process,
};

/// What an engine has said so far. It outlives the conversation: if that is cut off, what came before is kept.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Taken>>);

#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) containers: Vec<Container>,
    pub(crate) faults: Vec<Fault>,
    /// Why the conversation ended before everything was told.
    pub(crate) broken_off: Option<Fault>,
    /// Whose engine said it; none of engines that are asked otherwise than over a connection of the user's.
    uid: Option<u32>,
}

impl Taken {
    /// Without what a user's engine says of processes that are not his.
    pub(crate) fn judged(mut self) -> Taken {
        let (uid, faults) = (self.uid, &mut self.faults);
        self.containers.retain_mut(|container| match owner::check(container, uid) {
            Ok(()) => true,
            Err(fault) => {
                faults.push(fault);
                false
            }
        });
        self
    }
}

impl Sink {
    pub(crate) fn push(&self, container: Container) {
        self.with(|t| t.containers.push(container));
    }

    pub(crate) fn extend(&self, containers: impl IntoIterator<Item = Container>) {
        self.with(|t| t.containers.extend(containers));
    }

    /// Notes whose engine it is that says all this.
    pub(crate) fn served_by(&self, uid: u32) {
        self.with(|t| t.uid = Some(uid));
    }

    pub(crate) fn warn(&self, fault: Fault) {
        self.with(|t| t.faults.push(fault));
    }

    pub(crate) fn add(&self, other: Taken) {
        self.with(|t| {
            t.containers.extend(other.containers);
            t.faults.extend(other.faults.into_iter().chain(other.broken_off));
        });
    }

    pub(crate) fn take(&self) -> Taken {
        self.with(std::mem::take)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Taken) -> T) -> T {
        // A thread that panicked while it pushed left a whole vector behind.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which containers are wanted.
pub(crate) enum What<'a> {
    All,
    Spec(&'a TargetSpec),
}

/// One conversation with one engine.
pub(crate) struct Job {
    pub(crate) engine: Engine,
    endpoint: Option<Endpoint>,
    work: Work,
}

pub(crate) fn jobs(query: &Query, what: &What<'_>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let wanted = |engine: Engine| {
        query.engines.as_ref().is_none_or(|engines| engines.contains(&engine))
            && match what {
                What::All => true,
                What::Spec(spec) => match spec.kind {
                    None => true,
                    Some(Kind::Engine(only)) => only == engine,
                    Some(Kind::Pod) => engine.has_ids(),
                },
            }
    };
    let from = &query.endpoints;
    let mut sockets = |engine: Engine, endpoints: &[Endpoint], ask: Ask| {
        // A socket that is not there is an engine that is not there: not worth a thread. But who names one wants to know.
        for endpoint in endpoints.iter().filter(|e| wanted(engine) && (e.named || may_be_there(&e.path))) {
            if let Some(work) = ask(endpoint.clone(), what) {
                jobs.push(Job { engine, endpoint: Some(endpoint.clone()), work });
            }
        }
    };
    sockets(Engine::Docker, &from.docker, ask_docker);
    sockets(Engine::Podman, &from.podman, ask_podman);
    sockets(Engine::Containerd, &from.containerd, ask_containerd);
    sockets(Engine::Cri, &from.cri, ask_cri);
    let mut local = |engine: Engine, work: Option<Work>| {
        if let Some(work) = work.filter(|_| wanted(engine)) {
            jobs.push(Job { engine, endpoint: None, work });
        }
    };
    let lxc = from.lxc.clone();
    local(
        Engine::Lxc,
        lxc.map(|places| -> Work { Box::new(move |sink, time, _| lxc::list(&places, time, sink)) }),
    );
    let nspawn = from.nspawn.clone();
    local(
        Engine::Nspawn,
        nspawn.map(|places| -> Work { Box::new(move |sink, _, _| nspawn::list(&places, sink)) }),
    );
    let dirs = from.netns_dirs.clone();
    let path = match what {
        What::Spec(spec) => Some(PathBuf::from(&spec.name)).filter(|p| p.is_absolute()),
        What::All => None,
    };
    let netns: Option<Work> = (!dirs.is_empty())
        .then(|| -> Work { Box::new(move |sink, _, _| mounts::list(&dirs, path.as_deref(), sink)) });
    local(Engine::Netns, netns);
    local(Engine::Lab, from.lab.then(|| -> Work { Box::new(|sink, time, _| lab::list(sink, time)) }));
    if let What::Spec(spec) = what {
        let number = spec.name.clone();
        let work: Option<Work> = match spec.kind {
            Some(Kind::Engine(Engine::Pid)) => {
                Some(Box::new(move |sink, _, _| process::lookup(&number, sink)))
            }
            None if process::is_number(&number) => {
                Some(Box::new(move |sink, _, _| process::lookup_apart(&number, sink)))
            }
            _ => None,
        };
        local(Engine::Pid, work);
    }
    jobs
}

fn may_be_there(path: &Path) -> bool {
    std::fs::metadata(path).map_or_else(|e| e.kind() != io::ErrorKind::NotFound, |_| true)
}

/// Holds the conversation; one that has to wait for its answer may do something else (the last argument) meanwhile.
type Work = Box<dyn FnOnce(&Sink, Duration, &mut dyn FnMut()) -> Result<()> + Send>;
type Ask = fn(Endpoint, &What<'_>) -> Option<Work>;

fn ask_docker(endpoint: Endpoint, what: &What<'_>) -> Option<Work> {
    match reference(&endpoint, what) {
        Reference::Nothing => None,
        Reference::List => Some(Box::new(move |sink, time, _| block_on(time, docker::list(&endpoint, sink)))),
        Reference::One(name) => Some(Box::new(move |sink, time, meanwhile| {
            docker::lookup(&endpoint, &name, time, sink, meanwhile)
        })),
    }
}

fn ask_podman(endpoint: Endpoint, what: &What<'_>) -> Option<Work> {
    match reference(&endpoint, what) {
        Reference::Nothing => None,
        Reference::List => Some(Box::new(move |sink, time, _| block_on(time, podman::list(&endpoint, sink)))),
        Reference::One(name) => Some(Box::new(move |sink, time, meanwhile| {
            podman::lookup(&endpoint, &name, time, sink, meanwhile)
        })),
    }
}

fn ask_containerd(endpoint: Endpoint, what: &What<'_>) -> Option<Work> {
    let namespace = match what {
        What::Spec(spec) if spec.engine() == Some(Engine::Containerd) => spec.scope.clone(),
        _ => None,
    };
    Some(Box::new(move |sink, time, _| {
        block_on(time, containerd::list(&endpoint, namespace.as_deref(), sink))
    }))
}

fn ask_cri(endpoint: Endpoint, _: &What<'_>) -> Option<Work> {
    Some(Box::new(move |sink, time, _| block_on(time, cri::list(&endpoint, None, sink))))
}

/// How a spec is put to an engine that finds containers by reference.
enum Reference {
    Nothing,
    List,
    One(String),
}

fn reference(endpoint: &Endpoint, what: &What<'_>) -> Reference {
    let What::Spec(spec) = what else { return Reference::List };
    if spec.kind == Some(Kind::Pod) {
        return Reference::List;
    }
    let joined = spec.joined();
    match joined.split_once('/') {
        // Neither engine allows a slash in a name: what stands before it is the scope, or the engine is not meant.
        Some((scope, name)) if endpoint.scope.as_deref() == Some(scope) => Reference::One(name.to_owned()),
        // A pod's name may be meant by NAMESPACE/NAME.
        Some(_) if spec.kind.is_none() => Reference::List,
        Some(_) => Reference::Nothing,
        None => Reference::One(joined),
    }
}

/// Holds all conversations. What is to be done `meanwhile` is done at most once, on the calling thread, while it would
/// only wait; not at all if nothing is waited for.
pub(crate) fn run(query: &Query, mut jobs: Vec<Job>, meanwhile: &mut dyn FnMut()) -> Answer {
    let timeout = query.timeout;
    let mut answer = Answer::default();
    let mut collect = |taken: Taken, engine: Engine, endpoint: Option<&Endpoint>| {
        let socket = endpoint.map(|e| e.path.as_path());
        answer.warnings.extend(taken.faults.iter().map(|f| f.warn(engine, socket)));
        let broken_off = taken.broken_off.map(|f| Warning { unfinished: true, ..f.warn(engine, socket) });
        answer.warnings.extend(broken_off);
        answer.containers.extend(taken.containers);
    };
    if jobs.len() == 1
        && let Some(job) = jobs.pop()
    {
        let (engine, endpoint) = (job.engine, job.endpoint.clone());
        collect(job.work(timeout, meanwhile), engine, endpoint.as_ref());
        return answer;
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let at = (job.engine, job.endpoint.clone());
                (
                    at,
                    std::thread::Builder::new()
                        .name(format!("ask-{}", job.engine))
                        .spawn_scoped(scope, move || job.work(timeout, &mut || ())),
                )
            })
            .collect();
        if !threads.is_empty() {
            meanwhile();
        }
        for ((engine, endpoint), thread) in threads {
            let taken = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(source) => Taken {
                    broken_off: Some(Fault::Read { path: "a thread to ask it".into(), source }),
                    ..Taken::default()
                },
            };
            collect(taken, engine, endpoint.as_ref());
        }
    });
    answer
}

impl Job {
    /// Asks a containerd for Docker's containers with their tasks.
    pub(crate) fn tasks_of_docker(path: PathBuf) -> Job {
        let endpoint = Endpoint::new(path);
        let asked = endpoint.clone();
        let work: Work = Box::new(move |sink, time, _| {
            block_on(time, containerd::list(&asked, Some(containerd::DOCKERS), sink))
        });
        Job { engine: Engine::Containerd, endpoint: Some(endpoint), work }
    }

    /// The socket that it asks.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        self.endpoint.as_ref().map(|e| e.path.clone())
    }

    /// Asks, to the end or to the time-out.
    pub(crate) fn work(self, timeout: Duration, meanwhile: &mut dyn FnMut()) -> Taken {
        let sink = Sink::default();
        let begun = Instant::now();
        let is_named = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.named);
        let result = (self.work)(&sink, timeout, meanwhile);
        tracing::debug!(engine = %self.engine, took = ?begun.elapsed(), "asked");
        let broken_off = result.err().filter(|fault| is_named || !fault.is_absence());
        Taken { broken_off, ..sink.take() }.judged()
    }
}

/// Runs a conversation to its end or to the time-out, on a runtime that is gone afterwards.
pub(crate) fn block_on<T>(timeout: Duration, conversation: impl Future<Output = Result<T>>) -> Result<T> {
    go_on(Instant::now(), timeout, conversation)
}

/// As [`block_on`], of a conversation that has begun before.
pub(crate) fn go_on<T>(
    begun: Instant,
    timeout: Duration,
    conversation: impl Future<Output = Result<T>>,
) -> Result<T> {
    let left = timeout.saturating_sub(begun.elapsed());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| Fault::Read { path: "the event queue (epoll)".into(), source })?;
    let result = runtime.block_on(async {
        tokio::time::timeout(left, conversation).await.unwrap_or(Err(Fault::TimedOut(timeout)))
    });
    runtime.shutdown_background();
    result
}
