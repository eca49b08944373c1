//! Where the engines of this host are: sockets, directories, and what the environment says of them.
//!
//! Docker's client decides by `DOCKER_HOST`, else `DOCKER_CONTEXT`, else the current context in its config.json, else
//! the default socket (docker/cli, `cli/command/cli.go`); Podman's by `CONTAINER_HOST`. Here the default socket is
//! left out only when `DOCKER_HOST` names another one: a context is added to it, because *every* container is wanted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fault::Warning;
use crate::{Engine, users};

/// A socket to ask, and what stands before the slash in the names of its containers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The socket.
    pub path: PathBuf,
    /// The user or context; `None` for the host's own engine.
    pub scope: Option<String>,
    /// Whether `DOCKER_HOST` or `CONTAINER_HOST` names it: then it is expected to be there.
    pub named: bool,
}

impl Endpoint {
    /// One without a scope.
    pub fn new(path: impl Into<PathBuf>) -> Endpoint {
        Endpoint { path: path.into(), scope: None, named: false }
    }

    /// One whose containers are called `ENGINE:SCOPE/NAME`.
    pub fn scoped(path: impl Into<PathBuf>, scope: impl Into<String>) -> Endpoint {
        Endpoint { path: path.into(), scope: Some(scope.into()), named: false }
    }
}

/// Where LXC's containers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LxcPlaces {
    /// The list of sockets, in which the running ones show: `/proc/net/unix`.
    pub sockets: PathBuf,
    /// Directories with one folder a container, for the stopped ones.
    pub dirs: Vec<PathBuf>,
}

/// The directories of containers of LXC, of LXD from packages and from its snap, and of Incus.
const LXC_DIRS: [&str; 4] = [
    "/var/lib/lxc",
    "/var/lib/lxd/containers",
    "/var/snap/lxd/common/lxd/containers",
    "/var/lib/incus/containers",
];

/// Where systemd-nspawn's containers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NspawnPlaces {
    /// Where systemd-machined keeps what it knows: `/run/systemd/machines`.
    pub machines: PathBuf,
    /// A directory that is there once systemd-nspawn was ever run: only then those are looked for that machined was not
    /// told of.
    pub used: PathBuf,
    /// Directories with one folder or image file a container, for those that do not run.
    pub images: Vec<PathBuf>,
}

/// All that is asked. An engine whose list is empty is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Docker's sockets.
    pub docker: Vec<Endpoint>,
    /// Podman's sockets.
    pub podman: Vec<Endpoint>,
    /// containerd's sockets.
    pub containerd: Vec<Endpoint>,
    /// CRI sockets.
    pub cri: Vec<Endpoint>,
    /// LXC.
    pub lxc: Option<LxcPlaces>,
    /// systemd-nspawn.
    pub nspawn: Option<NspawnPlaces>,
    /// The directories in which a mounted namespace is called by its file's name; others are called by their path.
    /// Empty: mounted namespaces are not looked at.
    pub netns_dirs: Vec<PathBuf>,
    /// Whether labs are asked.
    pub lab: bool,
    /// What was found but is not asked, and why.
    pub notes: Vec<Warning>,
}

impl Endpoints {
    /// None at all, to start from.
    pub fn none() -> Endpoints {
        Endpoints::default()
    }

    /// What is on this host, seen by the user who asks. Sockets that do not exist are in it too as long as they are
    /// at their usual place: asking them costs nothing, and a watch waits for them.
    pub fn of_this_host() -> Endpoints {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let docker_config =
            env("DOCKER_CONFIG").map(PathBuf::from).or_else(|| users::home().map(|h| h.join(".docker")));
        let found = Found {
            docker_host: env("DOCKER_HOST"),
            docker_context: env("DOCKER_CONTEXT"),
            docker_config,
            container_host: env("CONTAINER_HOST"),
            runtime_dirs: runtime_dirs(),
        };
        Endpoints::of(&found)
    }

    fn of(found: &Found) -> Endpoints {
        let mut all = Endpoints {
            containerd: [
                "/run/containerd/containerd.sock",
                "/run/docker/containerd/containerd.sock",
                "/run/k3s/containerd/containerd.sock",
            ]
            .map(Endpoint::new)
            .into(),
            cri: [
                "/run/containerd/containerd.sock",
                "/run/crio/crio.sock",
                "/run/cri-dockerd.sock",
                "/run/k3s/containerd/containerd.sock",
            ]
            .map(Endpoint::new)
            .into(),
            lxc: Some(LxcPlaces {
                sockets: "/proc/net/unix".into(),
                dirs: LXC_DIRS.map(PathBuf::from).into(),
            }),
            nspawn: Some(NspawnPlaces {
                machines: "/run/systemd/machines".into(),
                used: "/run/systemd/nspawn".into(),
                images: vec!["/var/lib/machines".into()],
            }),
            netns_dirs: vec!["/run/netns".into(), "/var/run/netns".into()],
            lab: true,
            ..Endpoints::none()
        };
        all.add_docker(found);
        all.add_podman(found);
        all.drop_duplicates();
        all
    }

    fn add_docker(&mut self, found: &Found) {
        let defaults = ["/run/docker.sock", "/var/run/docker.sock"].map(Endpoint::new);
        match found.docker_host.as_deref().map(|host| (host, unix_socket(host))) {
            Some((_, Some(path))) => self.docker.push(Endpoint { scope: scope_of(&path), path, named: true }),
            Some((host, None)) => {
                self.not_here(Engine::Docker, "DOCKER_HOST", host);
                self.docker.extend(defaults);
            }
            None => {
                self.docker.extend(defaults);
                if let Some((name, host)) = found.context() {
                    match unix_socket(&host) {
                        Some(path) => self.docker.push(Endpoint::scoped(path, name)),
                        None => self.not_here(Engine::Docker, &format!("the Docker context '{name}'"), &host),
                    }
                }
            }
        }
        for (dir, user) in &found.runtime_dirs {
            self.docker.push(Endpoint::scoped(dir.join("docker.sock"), user));
        }
    }

    fn add_podman(&mut self, found: &Found) {
        match found.container_host.as_deref().map(|host| (host, unix_socket(host))) {
            Some((_, Some(path))) => self.podman.push(Endpoint { scope: scope_of(&path), path, named: true }),
            Some((host, None)) => {
                self.not_here(Engine::Podman, "CONTAINER_HOST", host);
                self.podman.push(Endpoint::new("/run/podman/podman.sock"));
            }
            None => self.podman.push(Endpoint::new("/run/podman/podman.sock")),
        }
        for (dir, user) in &found.runtime_dirs {
            self.podman.push(Endpoint::scoped(dir.join("podman/podman.sock"), user));
        }
    }

    fn not_here(&mut self, engine: Engine, who: &str, host: &str) {
        self.notes.push(Warning {
            engine,
            socket: None,
            what: crate::fault::escaped(&format!(
                "{who} names {host}, which is not an engine of this host; it is not asked"
            )),
            remedy: Some("run snorkel on that host".into()),
            denied: false,
            unfinished: false,
        });
    }

    /// Leaves each socket in once, however many paths lead to it; the first one stays. Docker's socket may be
    /// Podman's in disguise (podman-docker links it): then it is asked as Podman.
    fn drop_duplicates(&mut self) {
        let mut known = BTreeSet::new();
        for list in [&mut self.podman, &mut self.docker] {
            list.retain(|e| identity(&e.path).is_none_or(|id| known.insert(id)));
        }
        // Two paths to nowhere that would be one socket if it were there.
        let mut names = BTreeSet::new();
        self.docker.retain(|e| {
            let name =
                e.path.strip_prefix("/var").map_or_else(|_| e.path.clone(), |p| Path::new("/").join(p));
            names.insert(name)
        });
        for list in [&mut self.containerd, &mut self.cri] {
            let mut known = BTreeSet::new();
            list.retain(|e| identity(&e.path).is_none_or(|id| known.insert(id)));
        }
    }
}

/// What the environment says, apart from asking it: so that the decision can be tested.
struct Found {
    docker_host: Option<String>,
    docker_context: Option<String>,
    docker_config: Option<PathBuf>,
    container_host: Option<String>,
    /// Runtime directories and their users: everyone's for root, one's own for others.
    runtime_dirs: Vec<(PathBuf, String)>,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "currentContext", default)]
    current_context: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextMeta {
    name: String,
    #[serde(default)]
    endpoints: std::collections::BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    #[serde(default)]
    host: String,
}

impl Found {
    /// Name and host of the context in force; `None` for the default one and for one that cannot be read.
    fn context(&self) -> Option<(String, String)> {
        let config = self.docker_config.as_ref()?;
        let name = self.docker_context.clone().or_else(|| {
            let text = fs::read(config.join("config.json")).ok()?;
            Some(serde_json::from_slice::<DockerConfig>(&text).ok()?.current_context)
        })?;
        if name.is_empty() || name == "default" {
            return None;
        }
        // The folder is called after the SHA-256 of the name; the name stands in the file.
        fs::read_dir(config.join("contexts/meta")).ok()?.flatten().find_map(|dir| {
            let text = fs::read(dir.path().join("meta.json")).ok()?;
            let mut meta: ContextMeta = serde_json::from_slice(&text).ok()?;
            let host = meta.endpoints.remove("docker")?.host;
            (meta.name == name && !host.is_empty()).then_some((meta.name, host))
        })
    }
}

/// `unix:///path`, or a bare path.
fn unix_socket(host: &str) -> Option<PathBuf> {
    let path = host.strip_prefix("unix://").or_else(|| host.starts_with('/').then_some(host))?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// A user's socket is his, also where the environment names it.
fn scope_of(path: &Path) -> Option<String> {
    users::of_runtime_path(path).filter(|uid| *uid != 0).map(users::name_of)
}

fn runtime_dirs() -> Vec<(PathBuf, String)> {
    let own = users::own_uid();
    let names = users::names();
    let mut dirs: Vec<(PathBuf, String)> = fs::read_dir("/run/user")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let uid: u32 = entry.file_name().to_str()?.parse().ok()?;
            (uid != 0 && (own == 0 || own == uid)).then(|| (entry.path(), names(uid)))
        })
        .collect();
    dirs.sort();
    dirs
}

/// Device and inode: which socket a path leads to. `None` if it leads nowhere.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        Found {
            docker_host: None,
            docker_context: None,
            docker_config: None,
            container_host: None,
            runtime_dirs: vec![("/run/user/1000".into(), "alice".into())],
        }
    }

    #[test]
    fn the_hosts_and_every_users_socket_are_asked() {
        let all = Endpoints::of(&found());
        assert!(all.docker.contains(&Endpoint::new("/run/docker.sock")));
        assert!(all.docker.contains(&Endpoint::scoped("/run/user/1000/docker.sock", "alice")));
        assert!(all.podman.contains(&Endpoint::scoped("/run/user/1000/podman/podman.sock", "alice")));
        assert!(!all.docker.contains(&Endpoint::new("/var/run/docker.sock")));
    }

    #[test]
    fn docker_host_takes_the_place_of_the_default_socket() {
        let all = Endpoints::of(&Found { docker_host: Some("unix:///tmp/own.sock".into()), ..found() });
        assert_eq!(all.docker[0], Endpoint { named: true, ..Endpoint::new("/tmp/own.sock") });
        assert!(!all.docker.contains(&Endpoint::new("/run/docker.sock")));
    }

    #[test]
    fn an_engine_of_another_host_is_named_and_not_asked() {
        for host in ["tcp://10.0.0.1:2375", "ssh://root@elsewhere"] {
            let all = Endpoints::of(&Found {
                docker_host: Some(host.into()),
                container_host: Some(host.into()),
                ..found()
            });
            assert_eq!(all.notes.len(), 2);
            assert!(all.notes[0].what.contains(host), "{}", all.notes[0]);
            assert!(all.docker.contains(&Endpoint::new("/run/docker.sock")));
        }
    }

    #[test]
    fn the_current_context_is_asked_too() {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta/0123");
        fs::create_dir_all(&meta).unwrap();
        fs::write(
            meta.join("meta.json"),
            r#"{"Name":"mine","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///x/docker.sock"}}}"#,
        )
        .unwrap();
        fs::write(dir.path().join("config.json"), r#"{"auths":{},"currentContext":"mine"}"#).unwrap();
        let config = Found { docker_config: Some(dir.path().into()), ..found() };
        assert!(Endpoints::of(&config).docker.contains(&Endpoint::scoped("/x/docker.sock", "mine")));
        let other = Found { docker_context: Some("default".into()), ..config };
        assert!(!Endpoints::of(&other).docker.contains(&Endpoint::scoped("/x/docker.sock", "mine")));
    }

    #[test]
    fn a_socket_that_two_paths_lead_to_is_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, link) = (dir.path().join("podman.sock"), dir.path().join("docker.sock"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let mut all = Endpoints {
            docker: vec![Endpoint::new(&link)],
            podman: vec![Endpoint::new(&socket), Endpoint::scoped(&link, "x")],
            ..Endpoints::none()
        };
        all.drop_duplicates();
        assert!(all.docker.is_empty());
        assert_eq!(all.podman, [Endpoint::new(&socket)]);
    }
}
