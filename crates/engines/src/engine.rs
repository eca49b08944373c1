//! What is known of a container, whichever engine runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use snorkel_netns::Pid;

/// Who runs a container, or in which list it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker Engine, root's or a user's own.
    Docker,
    /// Podman's API service, root's or a user's own.
    Podman,
    /// containerd's own API, all its namespaces.
    Containerd,
    /// The Container Runtime Interface that a kubelet talks to (containerd, CRI-O, cri-dockerd).
    Cri,
    /// LXC, and LXD and Incus, which run on it.
    Lxc,
    /// systemd-nspawn and whatever else registers containers with systemd-machined.
    Nspawn,
    /// A network namespace that is mounted somewhere: `ip netns`, CNI, Docker's sandboxes.
    Netns,
    /// A process by its number.
    Pid,
    /// A throw-away container of a lab.
    Lab,
}

impl Engine {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Engine; 9] = [
        Engine::Docker,
        Engine::Podman,
        Engine::Containerd,
        Engine::Cri,
        Engine::Lxc,
        Engine::Nspawn,
        Engine::Netns,
        Engine::Pid,
        Engine::Lab,
    ];

    /// The word that stands before the colon of a target.
    pub fn word(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Containerd => "containerd",
            Engine::Cri => "cri",
            Engine::Lxc => "lxc",
            Engine::Nspawn => "nspawn",
            Engine::Netns => "netns",
            Engine::Pid => "pid",
            Engine::Lab => "lab",
        }
    }

    /// Whether its containers have ids that people shorten; the others have names only.
    pub(crate) fn has_ids(self) -> bool {
        matches!(self, Engine::Docker | Engine::Podman | Engine::Containerd | Engine::Cri)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word that names no engine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no engine '{}'; there are docker, podman, containerd, cri, lxc, nspawn, netns, pid and lab", .0.escape_debug())]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;
    fn from_str(word: &str) -> Result<Engine, UnknownEngine> {
        Engine::ALL.into_iter().find(|e| e.word() == word).ok_or_else(|| UnknownEngine(word.to_owned()))
    }
}

/// What a container is doing, as far as its network is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has a process and a network.
    Running,
    /// It has both; its processes are frozen.
    Paused,
    /// It was never started.
    Created,
    /// It was, and is not any more.
    Stopped,
    /// The engine uses a word that is not known here.
    #[default]
    Unknown,
}

impl State {
    /// From the words of Docker, Podman and their API descriptions.
    pub(crate) fn of_word(word: &str) -> State {
        match word.to_ascii_lowercase().as_str() {
            "running" => State::Running,
            "paused" => State::Paused,
            "created" | "configured" | "initialized" => State::Created,
            "exited" | "dead" | "removing" | "stopped" | "stopping" | "restarting" => State::Stopped,
            _ => State::Unknown,
        }
    }
}

/// The pod that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// Its Kubernetes namespace; empty for a pod of Podman's, which has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The container's name in it; `None` is the sandbox itself, which holds the network.
    pub container: Option<String>,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)?;
        match &self.container {
            Some(container) => write!(f, "/{container}"),
            None => Ok(()),
        }
    }
}

impl Pod {
    /// From the labels that every Kubernetes runtime writes on what it runs (the kubelet's `types/labels.go`, and
    /// cri-dockerd's and containerd's own marks for the sandbox).
    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Option<Pod> {
        let name = labels.get("io.kubernetes.pod.name")?.clone();
        let namespace =
            labels.get("io.kubernetes.pod.namespace").cloned().unwrap_or_else(|| "default".into());
        let is = |key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
        let sandbox = is("io.cri-containerd.kind", "sandbox")
            || is("io.kubernetes.docker.type", "podsandbox")
            || is("io.kubernetes.container.name", "POD");
        let container = labels.get("io.kubernetes.container.name").filter(|_| !sandbox).cloned();
        Some(Pod { namespace, name, container })
    }
}

/// The transport of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    pub(crate) fn of_word(word: &str) -> Option<Protocol> {
        match word {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "sctp" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A port of the host that leads to a port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address it is bound to; `None` is every address.
    pub host_ip: Option<IpAddr>,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// One container, as its engine describes it. Text is as the engine sent it: names and labels may hold any character,
/// so whoever prints them escapes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Who runs it.
    pub engine: Engine,
    /// What stands before the slash of its name: the user of a rootless engine, a containerd namespace, a lab that is
    /// not the default one. `None` for the host's own engine.
    pub scope: Option<String>,
    /// The full id. For lxc, nspawn, lab and `/run/netns` the name, for other mounted namespaces the path, for a
    /// process its number.
    pub id: String,
    /// Its names without a leading slash, the first one is the one to show; may be empty.
    pub names: Vec<String>,
    /// Other qualified names under which it was found: one container known to two engines.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The pod it belongs to.
    pub pod: Option<Pod>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is doing.
    pub state: State,
    /// The same in the engine's own words: "Exited (137) 3 minutes ago", "paused", "CONTAINER_EXITED".
    pub status: String,
    /// Its first process as this host numbers it; `None` unless it is running or paused.
    pub pid: Option<Pid>,
    /// Where its network namespace is mounted, if the engine says so.
    pub netns_path: Option<PathBuf>,
    /// "host", "none", "container:ID", "bridge", … as the engine says.
    pub network_mode: Option<String>,
    /// Ports of the host that lead to it.
    pub ports: Vec<PublishedPort>,
    /// When its first process was started, as the engine says: seconds since the beginning of 1970.
    #[serde(default)]
    pub started: Option<i64>,
    /// The process whose child its first process is: what runs it, as the kernel knows it by its socket.
    #[serde(skip)]
    pub keeper: Option<Pid>,
    /// The image it was made from.
    pub image: Option<String>,
    /// The file on the host that the engine keeps as its resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// The file on the host that the engine keeps as its hosts file.
    pub hosts: Option<PathBuf>,
    /// The UID of the user whose engine says all this, if it is another than who asks. He may say what he likes: of
    /// files, only those that belong to him may be believed to be the container's, and it is the opened file that has to
    /// be looked at, not the path.
    #[serde(skip)]
    pub told_by: Option<u32>,
    /// The socket that the answer came from.
    pub socket: Option<PathBuf>,
}

impl Container {
    /// One of which nothing but the id is known.
    pub fn new(engine: Engine, id: impl Into<String>) -> Container {
        Container {
            engine,
            scope: None,
            id: id.into(),
            names: Vec::new(),
            aliases: Vec::new(),
            pod: None,
            labels: BTreeMap::new(),
            state: State::Unknown,
            status: String::new(),
            pid: None,
            netns_path: None,
            network_mode: None,
            ports: Vec::new(),
            started: None,
            keeper: None,
            image: None,
            resolv_conf: None,
            hosts: None,
            told_by: None,
            socket: None,
        }
    }

    /// The name that selects it and nothing else on a host in order: `docker:web`, `podman:alice/web`,
    /// `containerd:k8s.io/ID`, `pod:default/web-0/app`, `netns:blue`, `pid:4711`, `lab:web`.
    pub fn qualified(&self) -> String {
        match (&self.pod, self.engine) {
            (Some(pod), Engine::Containerd | Engine::Cri) => format!("pod:{pod}"),
            // A process is known by its number; its name is for the eye.
            (_, Engine::Pid) => format!("pid:{}", self.id),
            (_, Engine::Netns) => format!("netns:{}", self.id),
            _ => self.qualified_as(self.names.first().map_or_else(|| self.short_id(), String::as_str)),
        }
    }

    /// The same by its id, for the rare case that two share their qualified name (two attempts of one pod).
    pub fn qualified_id(&self) -> String {
        self.qualified_as(&self.id)
    }

    fn qualified_as(&self, name: &str) -> String {
        match &self.scope {
            Some(scope) => format!("{}:{scope}/{name}", self.engine),
            None => format!("{}:{name}", self.engine),
        }
    }

    /// The qualified name without the engine. It selects it, too, where nothing else is called so ([`crate::called`]).
    pub fn short_name(&self) -> String {
        let qualified = self.qualified();
        qualified.split_once(':').map_or(qualified.as_str(), |(_, name)| name).to_owned()
    }

    /// Whether there is a network to work in: a process, or a namespace that is mounted.
    pub fn is_up(&self) -> bool {
        self.is_alive_by_state() && (self.pid.is_some() || self.netns_path.is_some())
    }

    /// Whether its state is one in which a container has a process.
    pub(crate) fn is_alive_by_state(&self) -> bool {
        !matches!(self.state, State::Created | State::Stopped)
    }

    /// The first twelve digits of a generated id, as the engines print it; other ids whole.
    fn short_id(&self) -> &str {
        if self.engine.has_ids() && is_generated(&self.id) { &self.id[..12] } else { &self.id }
    }

    /// The pid counts for running and paused containers only: engines leave stale ones behind.
    pub(crate) fn set_pid(&mut self, pid: i64) {
        if self.is_alive_by_state() {
            self.pid = i32::try_from(pid).ok().and_then(Pid::new);
        }
    }
}

/// Whether an id is one that an engine made up: 64 hexadecimal digits.
pub(crate) fn is_generated(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}
