//! Reading the world into a snapshot.
//!
//! Engines and /proc say who is there; rtnetlink says how they are linked ([`crate::askers`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use snorkel_engines::{Answer, Container, Engine, Query, State};
use snorkel_netns::{Netns, NetnsId, Pid, Process, caps, chain};

use crate::askers::{Askers, Wanted};
use crate::join::{RawNamespace, join};
use crate::processes::{self, Inhabited};
use crate::proof::{self, Look};
use crate::snapshot::{Inmate, Namespace, SCHEMA, Snapshot, Target};
use crate::{Error, Result, listeners};

/// What a snapshot is to hold.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Which engines are asked, and how long each may take.
    pub query: Query,
    /// Whether the sockets that wait in each namespace are read too.
    pub listeners: bool,
}

/// Takes snapshots. It keeps its private namespace from one to the next, so that a watcher makes it once.
#[derive(Debug)]
pub struct Surveyor {
    survey: Survey,
    askers: Askers,
    processes: Vec<Pid>,
}

impl Surveyor {
    /// Makes ready to take snapshots.
    pub fn new(survey: Survey) -> Surveyor {
        Surveyor { survey, askers: Askers::new(), processes: Vec::new() }
    }

    /// Tells of these processes, too, where they are.
    #[must_use]
    pub fn with_processes(self, processes: Vec<Pid>) -> Surveyor {
        Surveyor { processes, ..self }
    }

    /// The namespace in which every namespace that was read has a number; link events of all of them arrive there.
    /// None for whoever may not make one.
    pub fn vantage(&self) -> Option<&Netns> {
        self.askers.vantage()
    }

    /// Reads the world once.
    pub fn take(&mut self) -> Result<Snapshot> {
        let own = Netns::current()?;
        let (answer, inhabited) = std::thread::scope(|scope| {
            let scan = scope.spawn(processes::scan);
            let answer = snorkel_engines::list(&self.survey.query);
            // The scan has no way to panic; if it had, nothing was found.
            (answer, scan.join().unwrap_or_default())
        });
        let mut places = Places::default();
        let mut snapshot = Snapshot { schema: SCHEMA, host: host_name(), ..Snapshot::default() };
        snapshot.warnings.extend(snorkel_engines::lines(&answer.warnings));
        if inhabited.denied > 0 && !caps::has(caps::number::SYS_PTRACE) {
            snapshot.warnings.push(format!(
                "{} processes of other users were not looked at, so network namespaces may be missing: that needs \
                 CAP_SYS_PTRACE (run it with sudo)",
                inhabited.denied
            ));
        }
        places.add(own.try_clone()?, None, None);
        self.place_containers(answer, &mut places, &mut snapshot);
        if self.wants_unowned() {
            place_unowned(&inhabited, &mut places, &mut snapshot);
        }
        self.read_links(&mut places, &inhabited, own.inode(), &mut snapshot);
        hide_mounts_of_containers(&mut snapshot);
        sort(&mut snapshot);
        snapshot.name_targets();
        snapshot.name_far_ends();
        Ok(snapshot)
    }

    /// Namespaces that no engine owns are listed unless certain engines or labels were asked for.
    fn wants_unowned(&self) -> bool {
        let query = &self.survey.query;
        query.labels.is_empty() && query.engines.as_ref().is_none_or(|engines| engines.contains(&Engine::Pid))
    }

    /// Makes a target of each container and opens its namespace.
    fn place_containers(&self, answer: Answer, places: &mut Places, snapshot: &mut Snapshot) {
        let processes = self.prove(&answer.containers);
        let mut denied = Vec::new();
        for (container, process) in answer.containers.into_iter().zip(processes) {
            let name = container.qualified();
            let opened = match (process, &container.netns_path) {
                (Some(process), _) => process.and_then(|process| Ok(Some(process.netns()?))),
                (None, Some(path))
                    if container.state == State::Running || container.engine == Engine::Netns =>
                {
                    Netns::open(path).map(Some).map_err(Error::from)
                }
                _ => Ok(None),
            };
            let inode = match opened {
                Ok(Some(netns)) => {
                    let path = container.netns_path.clone().filter(|_| container.engine == Engine::Netns);
                    Some(places.add(netns, container.pid, path))
                }
                Ok(None) => None,
                Err(Error::Netns(e)) if e.is_permission() => {
                    denied.push((name.clone(), chain(&e)));
                    None
                }
                Err(e) => {
                    snapshot.warnings.push(format!("{name}: {}", chain(&e)));
                    None
                }
            };
            let netns = inode.map(|inode| NetnsId { inode, cookie: 0 });
            snapshot.targets.push(Target {
                short: container.short_name(),
                name,
                host: false,
                netns,
                container,
            });
        }
        match &denied[..] {
            [] => {}
            [(name, why)] => snapshot.warnings.push(format!("{name}: {why}")),
            [(name, why), ..] => snapshot.warnings.push(format!(
                "the networks of {} targets may not be looked at, of {name} for one: {why} (run it with sudo)",
                denied.len()
            )),
        }
    }

    /// The process of each container that has one, proved to be its own: by itself where that can be, else by asking the
    /// engines concerned once more.
    fn prove(&self, containers: &[Container]) -> Vec<Option<Result<Process>>> {
        let looks: Vec<Option<Result<Look>>> =
            containers.iter().map(|c| Some(proof::look(c, c.pid?))).collect();
        let mut taken: HashMap<Pid, String> = HashMap::new();
        let mut engines: Vec<Engine> = Vec::new();
        for (container, look) in containers.iter().zip(&looks) {
            match look {
                Some(Ok(Look::Proved(process))) => {
                    taken.insert(process.pid(), container.qualified());
                }
                Some(Ok(Look::Open(_))) if !engines.contains(&container.engine) => {
                    engines.push(container.engine);
                }
                _ => {}
            }
        }
        let again = if engines.is_empty() {
            Vec::new()
        } else {
            let query = Query { engines: Some(engines), ..self.survey.query.clone() };
            snorkel_engines::list(&query).containers
        };
        let again: HashMap<_, &Container> = again.iter().map(|c| (identity(c), c)).collect();
        let settle = |container: &Container, look: Look| match look {
            Look::Proved(process) => Ok(process),
            Look::Open(doubt) => match taken.get(&doubt.pid()) {
                Some(owner) => Err(doubt.refuted(container, format!("it is that of {owner}"))),
                None => doubt.settle(container, again.get(&identity(container)).copied()),
            },
        };
        let settled = containers.iter().zip(looks);
        settled.map(|(c, look)| look.map(|look| look.and_then(|look| settle(c, look)))).collect()
    }

    /// Reads and joins the links of every namespace that was placed.
    fn read_links(&mut self, places: &mut Places, inhabited: &Inhabited, own: u64, snapshot: &mut Snapshot) {
        let mut read = self.read_places(places, own);
        let far = self.far_ends(places, inhabited, &read);
        read.extend(self.read_places(&far, own));
        places.by_inode.extend(far.by_inode);
        let mut errors = HashMap::new();
        let raw: Vec<_> = read
            .into_values()
            .map(|(id, read)| {
                let read = read.unwrap_or_else(|e| {
                    errors.insert(id, chain(&e));
                    RawNamespace::default()
                });
                (id, read)
            })
            .collect();
        let ids: Vec<NetnsId> = raw.iter().map(|(id, _)| *id).collect();
        self.askers.keep(&ids);
        let (links, disagreements) = join(&raw);
        snapshot.warnings.extend(disagreements);
        let holders = self.survey.listeners.then(|| listeners::holders(inhabited));
        for ((place, id), links) in places.by_inode.values().zip(&ids).zip(links) {
            let mut namespace = Namespace {
                id: *id,
                host: id.inode == own,
                paths: place.paths.clone(),
                pid: inhabited.in_namespace(id.inode).first().copied().or(place.pid),
                links,
                listeners: Vec::new(),
                error: errors.remove(id),
            };
            // Where the links may not be read, the sockets may not either: that has been said.
            if let Some(holders) = holders.as_ref().filter(|_| namespace.error.is_none()) {
                match listeners::of(&place.netns, inhabited.in_namespace(id.inode), holders) {
                    Ok(found) => namespace.listeners = found,
                    Err(e) => snapshot.warnings.push(format!("the sockets in {id}: {}", chain(&e))),
                }
            }
            snapshot.namespaces.push(namespace);
        }
        let identities: HashMap<u64, NetnsId> = ids.iter().map(|id| (id.inode, *id)).collect();
        for target in &mut snapshot.targets {
            let Some(id) = target.netns.and_then(|netns| identities.get(&netns.inode)) else { continue };
            target.netns = Some(*id);
            target.host = id.inode == own;
        }
        snapshot.processes.extend(self.processes.iter().filter_map(|pid| {
            let (inode, _) = inhabited.namespaces.iter().find(|(_, pids)| pids.contains(pid))?;
            Some(Inmate { pid: *pid, netns: *identities.get(inode)? })
        }));
    }

    /// Reads all these, each by its inode.
    fn read_places(&mut self, places: &Places, own: u64) -> BTreeMap<u64, (NetnsId, Read)> {
        let netnses: Vec<&Netns> = places.by_inode.values().map(|place| &place.netns).collect();
        let ids = Netns::ids(&netnses);
        let wanted: Vec<Wanted<'_>> = places
            .by_inode
            .values()
            .zip(&ids)
            .map(|(place, id)| Wanted { netns: &place.netns, id: *id, pid: place.pid, own: id.inode == own })
            .collect();
        let read = self.askers.read(&wanted);
        ids.iter().zip(read).map(|(id, read)| (id.inode, (*id, read))).collect()
    }

    /// Those namespaces besides, that the far end of a link is in but no target that is wanted: the bridge of a rootless
    /// engine, for one. Otherwise the link would seem to lead nowhere.
    fn far_ends(
        &mut self,
        places: &Places,
        inhabited: &Inhabited,
        read: &BTreeMap<u64, (NetnsId, Read)>,
    ) -> Places {
        let mut found = Places::default();
        let namespaces = || read.values().filter_map(|(_, read)| read.as_ref().ok());
        let known: HashSet<_> = namespaces().filter_map(|namespace| namespace.nsid).collect();
        let far = namespaces().flat_map(|namespace| {
            let asker = namespace.nsid.map(|(asker, _)| asker);
            namespace.links.iter().filter_map(move |link| Some((asker?, link.link_nsid?)))
        });
        let mut missing: HashSet<_> = far.filter(|number| !known.contains(number)).collect();
        for (inode, pids) in &inhabited.namespaces {
            if missing.is_empty() {
                break;
            }
            let Some(first) = pids.first().filter(|_| !places.by_inode.contains_key(inode)) else { continue };
            let opened = Process::open(*first).and_then(|process| process.netns());
            let Some(netns) = opened.ok().filter(|netns| netns.inode() == *inode) else { continue };
            let Some(number) = self.askers.number_among(&netns, &missing) else { continue };
            missing.remove(&number);
            found.add(netns, Some(*first), None);
        }
        found
    }
}

/// What came of reading a namespace.
type Read = Result<RawNamespace, snorkel_rtnl::Error>;

/// What tells a container from all others.
fn identity(container: &Container) -> (Engine, Option<&str>, &str, Option<&Path>) {
    (container.engine, container.scope.as_deref(), &container.id, container.socket.as_deref())
}

/// The namespaces that were opened, each once.
#[derive(Default)]
struct Places {
    by_inode: BTreeMap<u64, Place>,
}

struct Place {
    netns: Netns,
    pid: Option<Pid>,
    paths: Vec<PathBuf>,
}

impl Places {
    /// Keeps the namespace, or what is new about one that is kept already; says its inode.
    fn add(&mut self, netns: Netns, pid: Option<Pid>, path: Option<PathBuf>) -> u64 {
        let inode = netns.inode();
        let place = self.by_inode.entry(inode).or_insert(Place { netns, pid: None, paths: Vec::new() });
        place.pid = place.pid.or(pid);
        place.paths.extend(path);
        inode
    }
}

/// Makes a target of each inhabited namespace that no container is on.
fn place_unowned(inhabited: &Inhabited, places: &mut Places, snapshot: &mut Snapshot) {
    for (inode, pids) in &inhabited.namespaces {
        let Some(first) = pids.first().copied() else { continue };
        if places.by_inode.contains_key(inode) {
            continue;
        }
        let opened = Process::open(first).and_then(|process| process.netns());
        // It may have ended since the scan, and another may have its number by now: then this is another namespace.
        let Some(netns) = opened.ok().filter(|netns| netns.inode() == *inode) else { continue };
        places.add(netns, Some(first), None);
        let container = Container {
            names: processes::name_of(first).into_iter().collect(),
            state: State::Running,
            status: "running".to_owned(),
            pid: Some(first),
            ..Container::new(Engine::Pid, first.to_string())
        };
        snapshot.targets.push(Target {
            name: container.qualified(),
            short: container.short_name(),
            host: false,
            netns: Some(NetnsId { inode: *inode, cookie: 0 }),
            container,
        });
    }
}

/// A mount such as `/run/docker/netns/5a1f` of a namespace that a container is on is that container's, not a target of
/// its own; the namespace keeps it among its paths.
fn hide_mounts_of_containers(snapshot: &mut Snapshot) {
    let owned: HashSet<NetnsId> = snapshot
        .targets
        .iter()
        .filter(|target| !matches!(target.container.engine, Engine::Netns | Engine::Pid))
        .filter_map(|target| target.netns)
        .collect();
    snapshot.targets.retain(|target| {
        target.container.engine != Engine::Netns || !target.netns.is_some_and(|netns| owned.contains(&netns))
    });
}

/// Targets by engine and name, those that share another's network behind it; namespaces with the host's first.
fn sort(snapshot: &mut Snapshot) {
    let is_guest = |container: &Container| {
        let shares = container.network_mode.as_ref().is_some_and(|mode| mode.starts_with("container:"));
        shares || container.pod.as_ref().is_some_and(|pod| pod.container.is_some())
    };
    snapshot.targets.sort_by(|a, b| {
        let key = |target: &Target| (target.container.engine, is_guest(&target.container));
        (key(a), &a.name, &a.container.id).cmp(&(key(b), &b.name, &b.container.id))
    });
    snapshot.namespaces.sort_by_key(|namespace| (!namespace.host, namespace.id));
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
