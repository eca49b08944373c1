//! containerd, over its own API: all its namespaces, whoever uses them (Docker, a kubelet, nerdctl, ctr).
//!
//! Containers and tasks are two lists; a container without a task does not run. The runtime spec is stored with the
//! container and says which namespace was joined.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::asking::Sink;
use crate::fault::{Fault, Result, escaped};
use crate::grpc::{Client, is_not_found, is_unimplemented};
use crate::http::null_is_default as null;
use crate::oci::Spec;
use crate::{Container, Endpoint, Engine, Pod, PublishedPort, State};

pub(crate) mod proto;

use proto::{
    ListContainersResponse, ListNamespacesResponse, ListRequest, ListTasksResponse, Process, Status,
};

const NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const CONTAINERS: &str = "/containerd.services.containers.v1.Containers/List";
const TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
/// The stream of everything that happens.
pub(crate) const EVENTS: &str = "/containerd.services.events.v1.Events/Subscribe";

/// The namespace in which Docker keeps its containers (moby, `daemon/config`).
pub(crate) const DOCKERS: &str = "moby";

/// The containers of all namespaces, or of one.
///
/// In a list of all, those of Docker come without their tasks: Docker tells them itself, and for each task containerd
/// has to ask another process, which makes its list the slowest answer of all.
pub(crate) async fn list(endpoint: &Endpoint, only: Option<&str>, sink: &Sink) -> Result<()> {
    let client = Client::connect(&endpoint.path).await?;
    let namespaces = match only {
        Some(namespace) => vec![namespace.to_owned()],
        None => {
            let answer: ListNamespacesResponse = client.ask(NAMESPACES, None, ListRequest {}).await?;
            answer.namespaces.into_iter().map(|n| n.name).collect()
        }
    };
    for namespace in namespaces {
        let listed = match only {
            None if namespace == DOCKERS => list_without_tasks(&client, endpoint, &namespace).await,
            _ => list_namespace(&client, endpoint, &namespace).await,
        };
        match listed {
            Ok(containers) => sink.extend(containers),
            // Removed in the meantime; or a service that speaks gRPC and is not containerd.
            Err(fault) if is_not_found(&fault) || is_unimplemented(&fault) => {}
            // A name that the user typed and containerd would not have allowed.
            Err(_) if only.is_some_and(|n| n.parse::<tonic::metadata::AsciiMetadataValue>().is_err()) => {}
            Err(fault) => sink.warn(fault),
        }
    }
    Ok(())
}

/// The containers of a namespace, without what only their tasks tell: whether they run, and as which process.
async fn list_without_tasks(client: &Client, endpoint: &Endpoint, namespace: &str) -> Result<Vec<Container>> {
    let answer: ListContainersResponse = client.ask(CONTAINERS, Some(namespace), ListRequest {}).await?;
    Ok(answer
        .containers
        .into_iter()
        .map(|mut listed| {
            // Docker is asked for all that the spec says.
            listed.spec = None;
            let mut container = container(endpoint, namespace, listed, None);
            (container.state, container.status) = (State::Unknown, String::new());
            container
        })
        .collect())
}

/// Whether it is one of Docker's whose task has not been asked for.
pub(crate) fn lacks_task(container: &Container) -> bool {
    container.engine == Engine::Containerd
        && container.scope.as_deref() == Some(DOCKERS)
        && container.state == State::Unknown
        && container.pid.is_none()
}

async fn list_namespace(client: &Client, endpoint: &Endpoint, namespace: &str) -> Result<Vec<Container>> {
    let (containers, tasks) = tokio::join!(
        client.ask::<_, ListContainersResponse>(CONTAINERS, Some(namespace), ListRequest {}),
        client.ask::<_, ListTasksResponse>(TASKS, Some(namespace), ListRequest {}),
    );
    let mut tasks: HashMap<String, Process> = tasks?
        .tasks
        .into_iter()
        .map(|t| (if t.id.is_empty() { t.container_id.clone() } else { t.id.clone() }, t))
        .collect();
    Ok(containers?
        .containers
        .into_iter()
        .map(|c| {
            let task = tasks.remove(&c.id);
            container(endpoint, namespace, c, task)
        })
        .collect())
}

/// One container of the list, with its task if it has one.
pub(crate) fn container(
    endpoint: &Endpoint,
    namespace: &str,
    listed: proto::Container,
    task: Option<Process>,
) -> Container {
    let labels: BTreeMap<String, String> = listed.labels.into_iter().collect();
    let (state, status) = match &task {
        None => (State::Stopped, "no task"),
        Some(task) => match task.status() {
            Status::Running => (State::Running, "RUNNING"),
            Status::Paused => (State::Paused, "PAUSED"),
            Status::Pausing => (State::Paused, "PAUSING"),
            // The task is there, with its namespace, before its first process runs; but not for long.
            Status::Created => (State::Created, "CREATED"),
            Status::Stopped => (State::Stopped, "STOPPED"),
            Status::Unknown => (State::Unknown, "UNKNOWN"),
        },
    };
    let mut container = Container {
        scope: Some(namespace.to_owned()),
        names: labels.get("nerdctl/name").filter(|n| !n.is_empty()).cloned().into_iter().collect(),
        pod: Pod::of_labels(&labels),
        ports: labels.get("nerdctl/ports").map(|json| nerdctl_ports(json)).unwrap_or_default(),
        labels,
        state,
        status: status.into(),
        image: Some(listed.image).filter(|i| !i.is_empty()),
        socket: Some(endpoint.path.clone()),
        ..Container::new(Engine::Containerd, listed.id)
    };
    container.set_pid(task.map_or(0, |t| i64::from(t.pid)));
    if let Some(spec) = listed.spec {
        // A spec is whatever its client stored; one of another kind says nothing here.
        match serde_json::from_slice::<Spec>(&spec.value) {
            Ok(spec) => spec.complete(&mut container),
            Err(error) => tracing::debug!(id = %escaped(&container.id), %error, "a spec that is none"),
        }
    }
    container
}

/// nerdctl keeps published ports as JSON in a label (nerdctl, `pkg/labels`).
fn nerdctl_ports(json: &str) -> Vec<PublishedPort> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Port {
        #[serde(default)]
        host_port: u16,
        #[serde(default)]
        container_port: u16,
        #[serde(default, deserialize_with = "null")]
        protocol: String,
        #[serde(rename = "HostIP", default, deserialize_with = "null")]
        host_ip: String,
    }
    let ports: Vec<Port> = serde_json::from_str(json).unwrap_or_default();
    ports
        .iter()
        .filter_map(|p| crate::docker::model::port(&p.host_ip, p.host_port, p.container_port, &p.protocol))
        .collect()
}

/// Reads one message as it comes off the wire.
pub(crate) fn decode<T: prost::Message + Default>(what: &str, bytes: &[u8]) -> Result<T> {
    T::decode(bytes).map_err(|e| Fault::Garbage { what: what.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn listed() -> proto::Container {
        let labels = [
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.container.name", "app"),
        ];
        let spec = br#"{"mounts":[{"destination":"/etc/resolv.conf","source":"/x/resolv.conf"}],
            "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/var/run/netns/cni-1"}]}}"#;
        proto::Container {
            id: "aaaa".into(),
            labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
            image: "nginx".into(),
            spec: Some(proto::Any { value: spec.to_vec() }),
        }
    }

    fn task(status: Status) -> Process {
        Process { container_id: String::new(), id: "aaaa".into(), pid: 4711, status: status as i32 }
    }

    #[test]
    fn container_task_and_spec_make_one_container() {
        let endpoint = Endpoint::new("/run/containerd/containerd.sock");
        let found = container(&endpoint, "k8s.io", listed(), Some(task(Status::Running)));
        assert_eq!(found.qualified(), "pod:default/web-0/app");
        assert_eq!(found.qualified_id(), "containerd:k8s.io/aaaa");
        assert_eq!(found.pid.unwrap().get(), 4711);
        assert_eq!(found.netns_path.as_deref(), Some("/var/run/netns/cni-1".as_ref()));
        assert_eq!(found.resolv_conf.as_deref(), Some("/x/resolv.conf".as_ref()));
        assert_eq!(found.network_mode, None);
        let stopped = container(&endpoint, "k8s.io", listed(), Some(task(Status::Stopped)));
        assert_eq!((stopped.pid, stopped.netns_path.clone(), stopped.is_up()), (None, None, false));
        assert!(!container(&endpoint, "k8s.io", listed(), None).is_up());
    }

    #[test]
    fn a_spec_without_a_network_namespace_is_the_hosts_network() {
        let spec = proto::Any { value: br#"{"linux":{"namespaces":[{"type":"pid"}]}}"#.to_vec() };
        let listed = proto::Container { spec: Some(spec), ..listed() };
        let found = container(&Endpoint::new("/x"), "default", listed, Some(task(Status::Running)));
        assert_eq!(found.network_mode.as_deref(), Some("host"));
    }

    #[test]
    fn published_ports_are_read_from_nerdctls_label() {
        let json = r#"[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"}]"#;
        assert_eq!(nerdctl_ports(json)[0].host_port, 8080);
        assert!(nerdctl_ports("[{]").is_empty());
    }

    proptest! {
        #[test]
        fn mutated_messages_do_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = ListContainersResponse { containers: vec![listed()] }.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            crate::fuzz::fuzz_containerd(&bytes);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::fuzz_containerd(&bytes);
            crate::fuzz::fuzz_cri(&bytes);
        }
    }
}
