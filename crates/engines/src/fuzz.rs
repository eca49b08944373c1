//! Ways in for a fuzzer: each takes bytes as an engine might send them, and must come back.

use crate::docker::model;
use crate::{Endpoint, containerd, cri, http, lab, lxc, merge, mounts, nspawn, podman};

fn endpoint() -> Endpoint {
    Endpoint::new("/run/engine.sock")
}

/// The body of Docker's container list.
pub fn fuzz_docker_list(bytes: &[u8]) {
    if let Ok((listed, _)) = http::each::<model::Listed>("list", bytes) {
        merge(listed.into_iter().map(|c| c.into_container(&endpoint())).collect());
    }
}

/// Docker's inspect: an answer with its head, and a body alone.
pub fn fuzz_docker_inspect(bytes: &[u8]) {
    http::fuzz(bytes);
    if let Ok(inspected) = http::json::<model::Inspected>("inspect", bytes) {
        let _ = inspected.into_container(&endpoint()).qualified();
    }
}

/// The body of Podman's container list, and of its inspect.
pub fn fuzz_podman(bytes: &[u8]) {
    if let Ok((listed, _)) = http::each::<podman::Listed>("list", bytes) {
        merge(listed.into_iter().map(|c| c.into_container(&endpoint())).collect());
    }
    if let Ok(inspected) = http::json::<podman::Inspected>("inspect", bytes) {
        let _ = inspected.into_container(&endpoint()).qualified();
    }
}

/// Messages of containerd's.
pub fn fuzz_containerd(bytes: &[u8]) {
    use containerd::proto;
    if let Ok(listed) = containerd::decode::<proto::ListContainersResponse>("list", bytes) {
        for container in listed.containers {
            let _ = containerd::container(&endpoint(), "default", container, None).qualified();
        }
    }
    let _ = containerd::decode::<proto::ListTasksResponse>("tasks", bytes);
    let _ = containerd::decode::<proto::ListNamespacesResponse>("namespaces", bytes);
    let _ = containerd::decode::<proto::Envelope>("event", bytes);
}

/// Messages of a CRI runtime.
pub fn fuzz_cri(bytes: &[u8]) {
    use cri::proto;
    let sandboxes = containerd::decode::<proto::ListPodSandboxResponse>("pods", bytes).unwrap_or_default();
    let containers = containerd::decode::<proto::ListContainersResponse>("list", bytes).unwrap_or_default();
    for container in cri::containers_of(&endpoint(), sandboxes, containers) {
        let _ = container.qualified();
    }
    let _ = containerd::decode::<proto::StatusResponse>("status", bytes);
}

/// Files and answers of the engines without an API.
pub fn fuzz_local(bytes: &[u8]) {
    let _ = nspawn::parse("x", bytes);
    let _ = mounts::parse(bytes);
    let _ = snorkel_netns::unix::listening(bytes);
    let _ = snorkel_netns::mounts::any_stalls_by_stats(bytes);
    let _ = lxc::parse_reply(bytes);
    let _ = lab::parse("lab", bytes);
}
