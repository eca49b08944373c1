//! Podman, over its own (libpod) API; the Docker-like one has no pods.
//!
//! The path carries a version that every service of the last years accepts (podman, `pkg/api/server/register_containers.go`
//! takes any, `pkg/api/handlers/utils` refuses only what is older than 3.1 or 4.0). The list has the process already.
//! An inspect costs Podman a look into its database and storage, so it is made only for a container that is meant.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use crate::asking::{Sink, go_on};
use crate::docker::container;
use crate::docker::model::{filled, port};
use crate::fault::Result;
use crate::http::{self, Answered, Client, null_is_default as null};
use crate::{Container, Endpoint, Engine, Pod, PublishedPort, State};

const BASE: &str = "/v4.0.0/libpod";
/// A port range is written out; this bounds what a forged one can make.
const LONGEST_RANGE: u16 = 4096;

/// Where its events come from, from now on; words of its own and of Docker's (podman, `libpod/events/config.go`).
pub(crate) fn events() -> String {
    let filters = r#"{"type":["container","pod","network"],"event":["create","init","start","died","remove","rename","pause","unpause","connect","disconnect","cleanup"]}"#;
    format!("{BASE}/events?stream=true&filters={}", http::segment(filters))
}

/// Every container of one service.
pub(crate) async fn list(endpoint: &Endpoint, sink: &Sink) -> Result<()> {
    let mut client = Client::connect(&endpoint.path).await?;
    sink.served_by(client.uid());
    let reply = client.get(&format!("{BASE}/containers/json?all=true")).await?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let (listed, unread) = http::each::<Listed>("GET /libpod/containers/json", &reply.body)?;
    for fault in unread {
        sink.warn(fault);
    }
    sink.extend(listed.into_iter().map(|c| c.into_container(endpoint)));
    Ok(())
}

/// What a reference may mean: name, id or start of an id; one request. `meanwhile` is done while the engine thinks.
pub(crate) fn lookup(
    endpoint: &Endpoint,
    reference: &str,
    time: Duration,
    sink: &Sink,
    meanwhile: &mut dyn FnMut(),
) -> Result<()> {
    let Answered { reply, uid, begun } =
        http::ask(&endpoint.path, &inspect_path(reference), time, meanwhile)?;
    sink.served_by(uid);
    match reply.status {
        StatusCode::OK => sink.push(reply.json::<Inspected>()?.into_container(endpoint)),
        status if status == StatusCode::NOT_FOUND || status.is_redirection() => {}
        // What is ambiguous to Podman is an HTTP 500.
        _ => go_on(begun, time, list(endpoint, sink))?,
    }
    Ok(())
}

/// This very container again, by its full id.
pub(crate) fn recheck(endpoint: &Endpoint, id: &str, time: Duration, sink: &Sink) -> Result<()> {
    let Answered { reply, uid, .. } = http::ask(&endpoint.path, &inspect_path(id), time, || ())?;
    sink.served_by(uid);
    if reply.status != StatusCode::NOT_FOUND {
        sink.push(reply.json::<Inspected>()?.into_container(endpoint));
    }
    Ok(())
}

fn inspect_path(reference: &str) -> String {
    format!("{BASE}/containers/{}/json", http::segment(reference))
}

/// An entry of the list (podman, `pkg/domain/entities/container_ps.go`: ListContainer).
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
    pid: i64,
    #[serde(default, deserialize_with = "null")]
    state: String,
    #[serde(default, deserialize_with = "null")]
    status: String,
    #[serde(default, deserialize_with = "null")]
    exit_code: i64,
    #[serde(default, deserialize_with = "null")]
    started_at: i64,
    #[serde(default, deserialize_with = "null")]
    pod_name: String,
    #[serde(default, deserialize_with = "null")]
    is_infra: bool,
    #[serde(default, deserialize_with = "null")]
    ports: Vec<ListedPort>,
}

#[derive(Debug, Deserialize)]
struct ListedPort {
    #[serde(default, deserialize_with = "null")]
    host_ip: String,
    #[serde(default, deserialize_with = "null")]
    container_port: u16,
    #[serde(default, deserialize_with = "null")]
    host_port: u16,
    #[serde(default, deserialize_with = "null")]
    range: u16,
    #[serde(default, deserialize_with = "null")]
    protocol: String,
}

impl ListedPort {
    /// The protocol may be several ("tcp,udp"), and one entry a range of ports.
    fn ports(&self) -> Vec<PublishedPort> {
        let mut all = Vec::new();
        for kind in self.protocol.split(',') {
            for i in 0..self.range.clamp(1, LONGEST_RANGE) {
                let (Some(outside), Some(inside)) =
                    (self.host_port.checked_add(i), self.container_port.checked_add(i))
                else {
                    break;
                };
                all.extend(port(&self.host_ip, outside, inside, kind));
            }
        }
        all
    }
}

impl Listed {
    pub(crate) fn into_container(self, endpoint: &Endpoint) -> Container {
        let pod = filled(self.pod_name).map(|name| Pod {
            namespace: String::new(),
            name,
            container: self.names.first().filter(|_| !self.is_infra).cloned(),
        });
        let status = match (self.status, self.state.as_str()) {
            (status, _) if !status.is_empty() => status,
            (_, "exited") => format!("Exited ({})", self.exit_code),
            (_, word) => word.to_owned(),
        };
        let mut container = Container {
            pod: Pod::of_labels(&self.labels).or(pod),
            ports: self.ports.iter().flat_map(ListedPort::ports).collect(),
            names: self.names,
            labels: self.labels,
            state: State::of_word(&self.state),
            status,
            image: filled(self.image),
            ..container(endpoint, Engine::Podman, self.id)
        };
        container.set_pid(self.pid);
        container.started = container.pid.and(Some(self.started_at)).filter(|seconds| *seconds > 0);
        container
    }
}

/// The answer to an inspect (podman, `libpod/define/container_inspect.go`); mostly Docker's fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    #[serde(default, deserialize_with = "null")]
    image_name: String,
    #[serde(flatten)]
    as_docker: crate::docker::model::Inspected,
}

impl Inspected {
    pub(crate) fn into_container(self, endpoint: &Endpoint) -> Container {
        let container = self.as_docker.into_container(endpoint);
        Container { engine: Engine::Podman, image: filled(self.image_name).or(container.image), ..container }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &str = r#"[{"Id":"aaaa","Names":["web"],"Image":"localhost/box","Pid":4711,"State":"running","Labels":null,
        "Pod":"p1","PodName":"shop","IsInfra":false,
        "Ports":[{"host_ip":"","container_port":80,"host_port":8080,"range":2,"protocol":"tcp,udp"}]},
        {"Id":"bbbb","Names":["old"],"Pid":0,"State":"exited","ExitCode":3}]"#;
    const INSPECT: &str = r#"{"Id":"aaaa","Name":"web","State":{"Status":"running","Pid":4711},"ImageName":"localhost/box",
        "Config":{"Labels":{"a":"b"}},"HostConfig":{"NetworkMode":"bridge"},"ResolvConfPath":"/x/resolv.conf",
        "NetworkSettings":{"SandboxKey":"/run/netns/netns-1","Ports":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}}}"#;

    #[test]
    fn list_and_inspect_are_read() {
        let alices = Endpoint::scoped("/x", "alice");
        let (listed, faults) = http::each::<Listed>("list", LIST.as_bytes()).unwrap();
        assert!(faults.is_empty());
        let all: Vec<Container> = listed.into_iter().map(|c| c.into_container(&alices)).collect();
        assert_eq!(all[0].qualified(), "podman:alice/web");
        assert_eq!(all[0].pod.as_ref().map(ToString::to_string).as_deref(), Some("shop/web"));
        let ports: Vec<_> =
            all[0].ports.iter().map(|p| (p.host_port, p.container_port, p.protocol)).collect();
        use crate::Protocol::{Tcp, Udp};
        assert_eq!(ports, [(8080, 80, Tcp), (8081, 81, Tcp), (8080, 80, Udp), (8081, 81, Udp)]);
        assert_eq!((all[1].state, all[1].status.as_str(), all[1].pid), (State::Stopped, "Exited (3)", None));
        let web = http::json::<Inspected>("inspect", INSPECT.as_bytes()).unwrap().into_container(&alices);
        assert_eq!((web.qualified().as_str(), web.pid), ("podman:alice/web", all[0].pid));
        assert_eq!(web.network_mode.as_deref(), Some("bridge"));
        assert_eq!(web.netns_path.as_deref(), Some("/run/netns/netns-1".as_ref()));
    }

    proptest! {
        #[test]
        fn mutated_answers_do_no_harm(text in prop::sample::select(vec![LIST, INSPECT]), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            crate::fuzz::fuzz_podman(&bytes);
        }
    }
}
