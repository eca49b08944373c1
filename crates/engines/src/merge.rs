//! One container that two engines know: Docker's are in its containerd as well, a kubelet's in containerd and CRI.

use std::collections::HashMap;

use crate::engine::is_generated;
use crate::{Container, Engine};

/// Joins what several engines say of the same container: the engine that people think of keeps it (Docker before CRI
/// before containerd), the others' qualified names become [`Container::aliases`], and what one left open the other
/// fills in. The order of the rest stays.
pub(crate) fn merge(found: Vec<Container>) -> Vec<Container> {
    let mut merged: Vec<Container> = Vec::with_capacity(found.len());
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for container in found {
        let same = places
            .get(&container.id)
            .and_then(|at| at.iter().copied().find(|i| is_same(&merged[*i], &container)));
        match same {
            Some(i) => join(&mut merged[i], container),
            None => {
                places.entry(container.id.clone()).or_default().push(merged.len());
                merged.push(container);
            }
        }
    }
    merged
}

/// Ids that people choose (`ctr run … web`) are the same by chance; those that engines make are not. But a user's engine
/// can say any: it gives no names to another's containers.
fn is_same(a: &Container, b: &Container) -> bool {
    let pids_agree = match (a.pid, b.pid) {
        (Some(a), Some(b)) => a == b,
        _ => is_generated(&a.id),
    };
    let is_one_word = a.told_by == b.told_by;
    a.engine.has_ids()
        && b.engine.has_ids()
        && a.engine != b.engine
        && a.id == b.id
        && pids_agree
        && is_one_word
}

fn height(engine: Engine) -> u8 {
    match engine {
        Engine::Docker => 3,
        Engine::Podman => 2,
        Engine::Cri => 1,
        _ => 0,
    }
}

fn join(kept: &mut Container, mut other: Container) {
    if height(other.engine) > height(kept.engine) {
        std::mem::swap(kept, &mut other);
    }
    // The pod is the same in both views; written out it would be the name of both.
    let pod = other.pod.take();
    for alias in std::iter::once(other.qualified()).chain(other.aliases) {
        if !kept.aliases.contains(&alias) {
            kept.aliases.push(alias);
        }
    }
    kept.pod = kept.pod.take().or(pod);
    for name in other.names {
        if !kept.names.contains(&name) {
            kept.names.push(name);
        }
    }
    for (key, value) in other.labels {
        kept.labels.entry(key).or_insert(value);
    }
    if kept.is_alive_by_state() {
        kept.pid = kept.pid.or(other.pid);
        kept.netns_path = kept.netns_path.take().or(other.netns_path);
    }
    kept.network_mode = kept.network_mode.take().or(other.network_mode);
    kept.started = kept.started.or(other.started);
    kept.image = kept.image.take().or(other.image);
    kept.resolv_conf = kept.resolv_conf.take().or(other.resolv_conf);
    kept.hosts = kept.hosts.take().or(other.hosts);
    if kept.ports.is_empty() {
        kept.ports = other.ports;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pod, State};
    use snorkel_netns::Pid;

    fn container(engine: Engine, id: &str, pid: i32) -> Container {
        Container { state: State::Running, pid: Pid::new(pid), ..Container::new(engine, id) }
    }

    #[test]
    fn dockers_containers_are_not_listed_again_for_its_containerd() {
        let id = "0123456789abcdef".repeat(4);
        let below = Container { scope: Some("moby".into()), ..container(Engine::Containerd, &id, 7) };
        let above = Container { names: vec!["web".into()], ..container(Engine::Docker, &id, 7) };
        for order in [vec![below.clone(), above.clone()], vec![above, below]] {
            let merged = merge(order);
            assert_eq!(merged.len(), 1);
            assert_eq!(merged[0].qualified(), "docker:web");
            assert_eq!(merged[0].aliases, ["containerd:moby/0123456789ab"]);
        }
    }

    #[test]
    fn a_users_engine_gives_no_names_to_another_ones_containers() {
        let id = "0123456789abcdef".repeat(4);
        let web = Container { names: vec!["web".into()], ..container(Engine::Docker, &id, 7) };
        let posing = Container {
            names: vec!["db".into()],
            told_by: Some(1000),
            pid: None,
            ..container(Engine::Podman, &id, 7)
        };
        let merged = merge(vec![posing.clone(), web.clone()]);
        assert_eq!(merged, [posing, web]);
    }

    #[test]
    fn the_pod_is_kept_whoever_knew_it() {
        let id = "f".repeat(64);
        let pod = Pod { namespace: "default".into(), name: "web-0".into(), container: None };
        let below = Container { pod: Some(pod.clone()), ..container(Engine::Containerd, &id, 7) };
        let above = container(Engine::Cri, &id, 7);
        assert_eq!(merge(vec![above, below])[0].pod, Some(pod));
    }

    #[test]
    fn the_same_chosen_id_in_two_namespaces_stays_two_containers() {
        let one = Container { scope: Some("a".into()), ..container(Engine::Containerd, "web", 7) };
        let two = Container { scope: Some("b".into()), ..container(Engine::Containerd, "web", 8) };
        let cri = container(Engine::Cri, "web", 9);
        assert_eq!(merge(vec![one, two, cri]).len(), 3);
    }

    #[test]
    fn a_pid_that_differs_makes_them_two() {
        let id = "a".repeat(64);
        assert_eq!(merge(vec![container(Engine::Docker, &id, 7), container(Engine::Cri, &id, 8)]).len(), 2);
    }
}
