//! Asking: all engines at once, or those that a target can belong to; each on a thread of its own with its own
//! time-out, so that one that hangs costs the others nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::asking::{Job, Sink, What, block_on, jobs, run};
use crate::fault::{Result, Warning};
use crate::select::is_abbreviated;
use crate::{
    Container, Endpoint, Endpoints, Engine, Kind, SelectError, TargetSpec, containerd, cri, docker, lxc,
    merge, mounts, podman, process, select,
};

/// How long an engine may take if nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked, and whom.
#[derive(Clone, Debug)]
pub struct Query {
    /// These engines only.
    pub engines: Option<Vec<Engine>>,
    /// How long each engine may take, for its whole conversation.
    pub timeout: Duration,
    /// Where the engines are.
    pub endpoints: Endpoints,
    /// Only containers that bear all of these.
    pub labels: Vec<LabelFilter>,
}

impl Default for Query {
    /// Every engine of this host.
    fn default() -> Query {
        Query { engines: None, timeout: TIMEOUT, endpoints: Endpoints::of_this_host(), labels: Vec::new() }
    }
}

/// A label that a container must bear: `KEY`, or `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub key: String,
    /// Its value; `None`: any.
    pub value: Option<String>,
}

impl FromStr for LabelFilter {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<LabelFilter, Self::Err> {
        Ok(match text.split_once('=') {
            Some((key, value)) => LabelFilter { key: key.into(), value: Some(value.into()) },
            None => LabelFilter { key: text.into(), value: None },
        })
    }
}

impl LabelFilter {
    /// Whether a container bears it.
    pub fn fits(&self, container: &Container) -> bool {
        container.labels.get(&self.key).is_some_and(|v| self.value.as_ref().is_none_or(|wanted| wanted == v))
    }
}

/// What the engines said, merged, and what they did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The containers, by engine, then name.
    pub containers: Vec<Container>,
    /// What could not be learnt.
    pub warnings: Vec<Warning>,
}

/// Every container of every engine.
pub fn list(query: &Query) -> Answer {
    finish(query, complete(query, run(query, jobs(query, &What::All), &mut || ())))
}

/// Asks containerd for the tasks of Docker's containers, if there are some of which no Docker has told.
fn complete(query: &Query, mut answer: Answer) -> Answer {
    answer.containers = merge(answer.containers);
    let sockets: BTreeSet<PathBuf> = answer
        .containers
        .iter()
        .filter(|c| containerd::lacks_task(c))
        .filter_map(|c| c.socket.clone())
        .collect();
    answer.containers.retain(|c| !containerd::lacks_task(c));
    let rest = run(query, sockets.into_iter().map(Job::tasks_of_docker).collect(), &mut || ());
    answer.containers.extend(rest.containers);
    answer.warnings.extend(rest.warnings);
    answer
}

/// At least all containers that a target can mean, found the cheap way: Docker and Podman are asked for this one.
///
/// If nothing fits, the answer holds everything there is, so that [`select`] can suggest a name.
pub fn lookup(query: &Query, spec: &TargetSpec) -> Answer {
    lookup_meanwhile(query, spec, || ())
}

/// As [`lookup`]; while the engines think about their answers, `meanwhile` is done on the calling thread. It is not done
/// if nobody is waited for.
pub fn lookup_meanwhile(query: &Query, spec: &TargetSpec, meanwhile: impl FnOnce()) -> Answer {
    let mut meanwhile = Some(meanwhile);
    let mut once = || meanwhile.take().map_or((), |meanwhile| meanwhile());
    let found = finish(query, complete(query, run(query, jobs(query, &What::Spec(spec)), &mut once)));
    match select(spec, &found.containers) {
        Err(SelectError::NotFound { .. }) => {}
        Ok(container) if is_abbreviated(spec, container) => return with_pods_of_podman(query, found),
        _ => return found,
    }
    // The other engines have given their whole list already, and one that failed is not given its time-out once more.
    let rest: Vec<Job> = jobs(query, &What::All)
        .into_iter()
        .filter(|job| asked_narrowly(spec, job.engine))
        .filter(|job| !found.warnings.iter().any(|w| w.engine == job.engine && w.socket == job.socket()))
        .collect();
    let mut all = complete(query, run(query, rest, &mut || ()));
    all.warnings.splice(0..0, found.warnings);
    all.containers.extend(found.containers);
    finish(query, all)
}

/// Podman tells of its pods only in its list.
fn with_pods_of_podman(query: &Query, mut found: Answer) -> Answer {
    let podman = jobs(query, &What::All).into_iter().filter(|job| job.engine == Engine::Podman).collect();
    let listed = run(query, podman, &mut || ());
    let is_new = |c: &Container| !found.containers.iter().any(|known| known.id == c.id);
    let new: Vec<Container> = listed.containers.into_iter().filter(is_new).collect();
    found.containers.extend(new);
    finish(query, found)
}

/// Whether an engine was asked for one container only.
fn asked_narrowly(spec: &TargetSpec, engine: Engine) -> bool {
    match spec.kind {
        None => matches!(engine, Engine::Docker | Engine::Podman),
        Some(Kind::Engine(named)) => {
            named == engine && matches!(engine, Engine::Docker | Engine::Podman | Engine::Containerd)
        }
        Some(Kind::Pod) => false,
    }
}

/// This very container once more, by its full id, from the socket that it came from. `Ok(None)`: there is none any
/// more. For checks that a process still belongs to it.
pub fn recheck(query: &Query, container: &Container) -> Result<Option<Container>> {
    let endpoint = container
        .socket
        .as_ref()
        .map(|path| Endpoint { scope: container.scope.clone(), ..Endpoint::new(path) });
    let sink = Sink::default();
    match (container.engine, &endpoint) {
        (Engine::Docker, Some(e)) => {
            absent(docker::recheck(e, &container.id, query.timeout, &sink))?;
        }
        (Engine::Podman, Some(e)) => {
            absent(podman::recheck(e, &container.id, query.timeout, &sink))?;
        }
        // The endpoint's scope is the engine's; the container's is a namespace within it.
        (Engine::Containerd, Some(e)) => {
            let namespace = container.scope.as_deref();
            absent(block_on(query.timeout, containerd::list(&Endpoint::new(&e.path), namespace, &sink)))?;
        }
        (Engine::Cri, Some(e)) => {
            absent(block_on(query.timeout, cri::list(&Endpoint::new(&e.path), Some(&container.id), &sink)))?;
        }
        (Engine::Lxc, Some(e)) => lxc::recheck(&e.path, query.timeout, &sink)?,
        (Engine::Pid, _) => process::lookup(&container.id, &sink)?,
        (Engine::Netns, _) => {
            mounts::list(&query.endpoints.netns_dirs, container.netns_path.as_deref(), &sink)?;
        }
        (engine, _) => {
            let narrowed = Query { engines: Some(vec![engine]), ..query.clone() };
            for job in jobs(&narrowed, &What::All) {
                sink.add(job.work(query.timeout, &mut || ()));
            }
        }
    }
    let mut taken = sink.take().judged();
    // A container that took the old one's id for its name is another one.
    match taken.containers.into_iter().find(|c| c.id == container.id && c.scope == container.scope) {
        Some(found) => Ok(Some(found)),
        // What was not told may have been this one: that it is gone is certain only after a whole answer.
        None => taken.faults.pop().map_or(Ok(None), Err),
    }
}

/// An engine that is gone has no containers.
fn absent<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(fault) if fault.is_absence() => Ok(T::default()),
        other => other,
    }
}

fn finish(query: &Query, mut answer: Answer) -> Answer {
    let wanted = |engine: Engine| query.engines.as_ref().is_none_or(|engines| engines.contains(&engine));
    answer.containers = merge(answer.containers);
    answer.containers.retain(|c| query.labels.iter().all(|filter| filter.fits(c)));
    answer.containers.sort_by(|a, b| {
        (a.engine, &a.scope, a.names.first(), &a.id).cmp(&(b.engine, &b.scope, b.names.first(), &b.id))
    });
    answer
        .containers
        .dedup_by(|a, b| a.engine == b.engine && a.scope == b.scope && a.id == b.id && a.socket == b.socket);
    for note in query.endpoints.notes.iter().filter(|n| wanted(n.engine)).rev() {
        if !answer.warnings.contains(note) {
            answer.warnings.insert(0, note.clone());
        }
    }
    answer
}
