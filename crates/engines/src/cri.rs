//! The Container Runtime Interface: what a kubelet sees. Pods with their sandboxes, and the containers in them.
//!
//! The API itself does not say which process a container has. containerd and CRI-O put it, with the runtime spec, into
//! the verbose status as JSON under the key `info` (containerd, `pkg/cri/server/container_status.go` and
//! `sandbox_status.go`; cri-o, `server/container_status.go`, `sandbox_status.go`).

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use tokio::task::JoinSet;

use crate::asking::Sink;
use crate::fault::{Fault, Result};
use crate::grpc::{Client, is_not_found, is_unimplemented};
use crate::http::null_is_default as null;
use crate::oci::Spec;
use crate::{Container, Endpoint, Engine, Pod, State};

pub(crate) mod proto;

use proto::{ListContainersResponse, ListPodSandboxResponse, ListRequest, StatusRequest, StatusResponse};

const SANDBOXES: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
const CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
const SANDBOX_STATUS: &str = "/runtime.v1.RuntimeService/PodSandboxStatus";
const CONTAINER_STATUS: &str = "/runtime.v1.RuntimeService/ContainerStatus";
/// The stream of everything that happens; runtimes before 2023 have none.
pub(crate) const EVENTS: &str = "/runtime.v1.RuntimeService/GetContainerEvents";

/// How many statuses are asked for side by side.
const AT_ONCE: usize = 16;

/// All pods and containers; with `only`, just the one with this id is asked for its process.
pub(crate) async fn list(endpoint: &Endpoint, only: Option<&str>, sink: &Sink) -> Result<()> {
    let client = Client::connect(&endpoint.path).await?;
    let (sandboxes, containers) = tokio::join!(
        client.ask::<_, ListPodSandboxResponse>(SANDBOXES, None, ListRequest {}),
        client.ask::<_, ListContainersResponse>(CONTAINERS, None, ListRequest {}),
    );
    let sandboxes = match sandboxes {
        // containerd without its CRI plugin: no CRI there.
        Err(fault) if is_unimplemented(&fault) => return Ok(()),
        sandboxes => sandboxes?,
    };
    let listed = containers_of(endpoint, sandboxes, containers?);
    let mut queue = listed.into_iter().filter(|c| only.is_none_or(|id| c.id == id));
    let mut asking = JoinSet::new();
    loop {
        while asking.len() < AT_ONCE
            && let Some(container) = queue.next()
        {
            if container.is_alive_by_state() {
                let client = client.clone();
                asking.spawn(async move { complete(&client, container).await });
            } else {
                sink.push(container);
            }
        }
        match asking.join_next().await {
            Some(Ok((container, fault))) => {
                sink.extend(container);
                if let Some(fault) = fault {
                    sink.warn(fault);
                }
            }
            Some(Err(error)) => {
                sink.warn(Fault::Broken { request: CONTAINER_STATUS.into(), why: error.to_string() });
            }
            None => return Ok(()),
        }
    }
}

async fn complete(client: &Client, mut container: Container) -> (Option<Container>, Option<Fault>) {
    let is_sandbox = container.pod.as_ref().is_some_and(|p| p.container.is_none());
    let method = if is_sandbox { SANDBOX_STATUS } else { CONTAINER_STATUS };
    let question = StatusRequest { id: container.id.clone(), verbose: true };
    match client.ask::<_, StatusResponse>(method, None, question).await {
        Ok(status) => match add_info(&mut container, &status) {
            Ok(()) => (Some(container), None),
            Err(fault) => (Some(container), Some(fault)),
        },
        // It was removed between list and status.
        Err(fault) if is_not_found(&fault) => (None, None),
        Err(fault) => (Some(container), Some(fault)),
    }
}

/// What the runtime adds to a verbose status.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default, deserialize_with = "null")]
    pid: i64,
    #[serde(rename = "runtimeSpec")]
    spec: Option<Spec>,
}

fn add_info(container: &mut Container, status: &StatusResponse) -> Result<()> {
    let Some(json) = status.info.get("info") else { return Ok(()) };
    let info: Info = crate::http::json("a verbose CRI status", json.as_bytes())?;
    container.set_pid(info.pid);
    if let Some(spec) = info.spec {
        spec.complete(container);
    }
    Ok(())
}

/// The two lists as containers, each with its pod.
pub(crate) fn containers_of(
    endpoint: &Endpoint,
    sandboxes: ListPodSandboxResponse,
    containers: ListContainersResponse,
) -> Vec<Container> {
    let new = |id: String, labels: HashMap<String, String>| Container {
        labels: labels.into_iter().collect::<BTreeMap<_, _>>(),
        socket: Some(endpoint.path.clone()),
        ..Container::new(Engine::Cri, id)
    };
    let mut pods: HashMap<String, Pod> = HashMap::new();
    let mut all = Vec::new();
    for sandbox in sandboxes.items {
        let (state, status) = match sandbox.state {
            0 => (State::Running, "SANDBOX_READY"),
            _ => (State::Stopped, "SANDBOX_NOTREADY"),
        };
        let metadata = sandbox.metadata.unwrap_or_default();
        let pod = Pod { namespace: metadata.namespace, name: metadata.name, container: None };
        pods.insert(sandbox.id.clone(), pod.clone());
        all.push(Container {
            pod: Some(pod),
            state,
            status: status.into(),
            ..new(sandbox.id, sandbox.labels)
        });
    }
    for container in containers.containers {
        let (state, status) = match container.state {
            0 => (State::Created, "CONTAINER_CREATED"),
            1 => (State::Running, "CONTAINER_RUNNING"),
            2 => (State::Stopped, "CONTAINER_EXITED"),
            _ => (State::Unknown, "CONTAINER_UNKNOWN"),
        };
        let name = container.metadata.map(|m| m.name);
        let listed = new(container.id, container.labels);
        let pod = pods.get(&container.pod_sandbox_id).cloned().or_else(|| Pod::of_labels(&listed.labels));
        all.push(Container {
            pod: pod.map(|pod| Pod { container: Some(name.unwrap_or_default()), ..pod }),
            state,
            status: status.into(),
            image: container.image.map(|i| i.image).filter(|i| !i.is_empty()),
            ..listed
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_and_container_make_a_pod() {
        let sandboxes = ListPodSandboxResponse {
            items: vec![proto::PodSandbox {
                id: "s1".into(),
                metadata: Some(proto::PodSandboxMetadata {
                    name: "web-0".into(),
                    namespace: "default".into(),
                }),
                ..Default::default()
            }],
        };
        let containers = ListContainersResponse {
            containers: vec![proto::Container {
                id: "c1".into(),
                pod_sandbox_id: "s1".into(),
                metadata: Some(proto::ContainerMetadata { name: "app".into() }),
                state: 1,
                ..Default::default()
            }],
        };
        let mut all = containers_of(&Endpoint::new("/x"), sandboxes, containers);
        assert_eq!(all[0].qualified(), "pod:default/web-0");
        assert_eq!(all[1].qualified(), "pod:default/web-0/app");
        let json = r#"{"pid":4711,"runtimeSpec":{"linux":{"namespaces":[{"type":"network","path":"/run/netns/x"}]}}}"#;
        let status = StatusResponse { info: [("info".to_owned(), json.to_owned())].into() };
        add_info(&mut all[1], &status).unwrap();
        assert_eq!(all[1].pid.unwrap().get(), 4711);
        assert_eq!(all[1].netns_path.as_deref(), Some("/run/netns/x".as_ref()));
        let broken = StatusResponse { info: [("info".to_owned(), "{".to_owned())].into() };
        assert!(add_info(&mut all[1], &broken).is_err());
    }
}
