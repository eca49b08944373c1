//! The fields that are read of Docker's answers (moby, `api/swagger.yaml`: ContainerSummary, ContainerInspectResponse).
//! Every one may be missing or null.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::http::null_is_default as null;
use crate::{Container, Endpoint, Engine, Pod, Protocol, PublishedPort, State, timestamp};

/// An entry of the list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    id: String,
    #[serde(default, deserialize_with = "null")]
    names: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    image: String,
    #[serde(default, deserialize_with = "null")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null")]
    state: String,
    #[serde(default, deserialize_with = "null")]
    status: String,
    #[serde(default, deserialize_with = "null")]
    ports: Vec<ListedPort>,
    #[serde(default, deserialize_with = "null")]
    host_config: HostConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default, deserialize_with = "null")]
    network_mode: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPort {
    #[serde(rename = "IP", default, deserialize_with = "null")]
    ip: String,
    #[serde(default, deserialize_with = "null")]
    private_port: u16,
    #[serde(default, deserialize_with = "null")]
    public_port: u16,
    #[serde(rename = "Type", default, deserialize_with = "null")]
    kind: String,
}

impl Listed {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    pub(crate) fn into_container(self, endpoint: &Endpoint) -> Container {
        let ports = self.ports.iter().filter_map(|p| port(&p.ip, p.public_port, p.private_port, &p.kind));
        Container {
            names: names(self.names),
            pod: Pod::of_labels(&self.labels),
            state: State::of_word(&self.state),
            status: if self.status.is_empty() { self.state } else { self.status },
            network_mode: filled(self.host_config.network_mode),
            ports: ports.collect(),
            image: filled(self.image),
            labels: self.labels,
            ..super::container(endpoint, Engine::Docker, self.id)
        }
    }
}

/// The answer to an inspect.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    id: String,
    #[serde(default, deserialize_with = "null")]
    name: String,
    #[serde(default, deserialize_with = "null")]
    state: InspectedState,
    #[serde(default, deserialize_with = "null")]
    config: Config,
    #[serde(default, deserialize_with = "null")]
    host_config: HostConfig,
    #[serde(default, deserialize_with = "null")]
    network_settings: NetworkSettings,
    #[serde(default, deserialize_with = "null")]
    resolv_conf_path: String,
    #[serde(default, deserialize_with = "null")]
    hosts_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    #[serde(default, deserialize_with = "null")]
    status: String,
    #[serde(default, deserialize_with = "null")]
    pid: i64,
    #[serde(default, deserialize_with = "null")]
    exit_code: i64,
    #[serde(default, deserialize_with = "null")]
    started_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "null")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null")]
    image: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default, deserialize_with = "null")]
    sandbox_key: String,
    #[serde(default, deserialize_with = "null")]
    ports: BTreeMap<String, Option<Vec<Binding>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default, deserialize_with = "null")]
    host_ip: String,
    #[serde(default, deserialize_with = "null")]
    host_port: String,
}

impl Inspected {
    /// Adds what the list does not say.
    pub(crate) fn complete(self, container: &mut Container) {
        // It may have stopped since the list was made, and then it has no process to speak of.
        let state = State::of_word(&self.state.status);
        if state != State::Unknown && state != container.state {
            container.state = state;
            container.status = status(&self.state);
        }
        container.set_pid(self.state.pid);
        container.started = container.pid.and(timestamp::seconds(&self.state.started_at));
        if container.pid.is_some() {
            container.netns_path = filled(self.network_settings.sandbox_key).map(PathBuf::from);
        }
        container.resolv_conf = filled(self.resolv_conf_path).map(PathBuf::from);
        container.hosts = filled(self.hosts_path).map(PathBuf::from);
        if container.network_mode.is_none() {
            container.network_mode = filled(self.host_config.network_mode);
        }
    }

    pub(crate) fn into_container(mut self, endpoint: &Endpoint) -> Container {
        let labels = std::mem::take(&mut self.config.labels);
        let mut container = Container {
            names: names(vec![std::mem::take(&mut self.name)]),
            pod: Pod::of_labels(&labels),
            labels,
            state: State::of_word(&self.state.status),
            status: status(&self.state),
            ports: std::mem::take(&mut self.network_settings.ports)
                .iter()
                .flat_map(|(inside, bindings)| ports(inside, bindings.as_deref().unwrap_or_default()))
                .collect(),
            image: filled(std::mem::take(&mut self.config.image)),
            ..super::container(endpoint, Engine::Docker, std::mem::take(&mut self.id))
        };
        self.complete(&mut container);
        container
    }
}

fn status(state: &InspectedState) -> String {
    match state.status.as_str() {
        "exited" => format!("Exited ({})", state.exit_code),
        word => word.to_owned(),
    }
}

/// `"80/tcp"` and what it is bound to.
fn ports<'a>(inside: &'a str, bindings: &'a [Binding]) -> impl Iterator<Item = PublishedPort> + 'a {
    let (number, kind) = inside.split_once('/').unwrap_or((inside, "tcp"));
    bindings
        .iter()
        .filter_map(move |b| port(&b.host_ip, b.host_port.parse().ok()?, number.parse().ok()?, kind))
}

/// One published port; `None` if the port is only exposed, or the words make no sense.
pub(crate) fn port(ip: &str, outside: u16, inside: u16, kind: &str) -> Option<PublishedPort> {
    if outside == 0 {
        return None;
    }
    // An address that cannot be read must not turn into "every address".
    let host_ip = if ip.is_empty() { None } else { Some(ip.parse::<IpAddr>().ok()?) };
    let protocol = Protocol::of_word(if kind.is_empty() { "tcp" } else { kind })?;
    Some(PublishedPort { host_ip, host_port: outside, container_port: inside, protocol })
}

/// Without the leading slash, and the container's own name before those that links of other containers gave it
/// (`/other/alias`).
fn names(mut names: Vec<String>) -> Vec<String> {
    for name in &mut names {
        if let Some(bare) = name.strip_prefix('/') {
            *name = bare.to_owned();
        }
    }
    names.retain(|n| !n.is_empty());
    names.sort_by_key(|n| n.contains('/'));
    names
}

/// Go leaves out nothing: what is not set is an empty string.
pub(crate) fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;
    use proptest::prelude::*;

    const LIST: &str = r#"[{"Id":"aaaa","Names":["/other/alias","/web"],"Image":"nginx","State":"running",
        "Status":"Up 2 hours","Labels":{"a":"b"},"HostConfig":{"NetworkMode":"bridge"},
        "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":443,"Type":"tcp"}]},
        {"Id":"bbbb","Names":null,"Labels":null,"State":"exited","Status":"Exited (137) 3 minutes ago"}]"#;
    const INSPECT: &str = r#"{"Id":"aaaa","Name":"/web","State":{"Status":"running","Pid":4711,"StartedAt":"2024-02-29T12:00:00.5Z"},
        "Config":{"Labels":null,"Image":"nginx"},"HostConfig":{"NetworkMode":"bridge"},
        "ResolvConfPath":"/x/resolv.conf","HostsPath":"/x/hosts",
        "NetworkSettings":{"SandboxKey":"/run/docker/netns/1","Ports":{"80/tcp":[{"HostIp":"::","HostPort":"8080"}],"81/udp":null}}}"#;

    fn endpoint() -> Endpoint {
        Endpoint::new("/run/docker.sock")
    }

    #[test]
    fn list_and_inspect_make_one_container() {
        let (mut listed, faults) = http::each::<Listed>("list", LIST.as_bytes()).unwrap();
        assert!(faults.is_empty());
        let stopped = listed.pop().unwrap().into_container(&endpoint());
        assert_eq!((stopped.state, stopped.status.as_str()), (State::Stopped, "Exited (137) 3 minutes ago"));
        let mut web = listed.pop().unwrap().into_container(&endpoint());
        assert_eq!(web.names, ["web", "other/alias"]);
        assert_eq!(web.ports.len(), 1);
        let inspected: Inspected = http::json("inspect", INSPECT.as_bytes()).unwrap();
        inspected.complete(&mut web);
        assert_eq!((web.pid.unwrap().get(), web.started), (4711, Some(1_709_208_000)));
        assert_eq!(web.netns_path.as_deref(), Some("/run/docker/netns/1".as_ref()));
        let alone: Inspected = http::json("inspect", INSPECT.as_bytes()).unwrap();
        let alone = alone.into_container(&endpoint());
        assert_eq!((alone.qualified().as_str(), alone.pid), ("docker:web", web.pid));
        assert_eq!(alone.ports[0].host_ip, Some("::".parse().unwrap()));
    }

    #[test]
    fn one_container_that_cannot_be_read_is_named_and_the_others_stay() {
        let list = r#"[{"Id":"aaaa","Names":7},{"Id":"bbbb"},{"Names":[]}]"#;
        let (read, unread) = http::each::<Listed>("list", list.as_bytes()).unwrap();
        assert_eq!(read.len(), 1);
        assert!(unread[0].to_string().contains("container aaaa"), "{}", unread[0]);
        assert!(unread[1].to_string().contains("entry 2"), "{}", unread[1]);
    }

    #[test]
    fn a_stopped_container_has_no_process_whatever_the_number_says() {
        let inspected: Inspected =
            http::json("inspect", br#"{"Id":"a","State":{"Status":"exited","Pid":77,"ExitCode":1}}"#)
                .unwrap();
        let container = inspected.into_container(&endpoint());
        assert_eq!((container.pid, container.status.as_str()), (None, "Exited (1)"));
    }

    proptest! {
        #[test]
        fn mutated_answers_do_no_harm(text in prop::sample::select(vec![LIST, INSPECT]), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut { bytes.truncate(at); }
            crate::fuzz::fuzz_docker_list(&bytes);
            crate::fuzz::fuzz_docker_inspect(&bytes);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::fuzz_docker_list(&bytes);
            crate::fuzz::fuzz_docker_inspect(&bytes);
        }
    }
}
