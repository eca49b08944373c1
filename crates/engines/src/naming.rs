//! What containers are called where many stand side by side: what is shown can be typed, and means the very same one.
//!
//! [`crate::select`] decides what a name means. Here the same is known for all of them at once, without each being
//! compared with each.

use std::collections::{HashMap, HashSet};

use crate::select::home;
use crate::{Container, Engine, Pod, SelectError, TargetSpec, select};

/// The names of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The qualified one; by its id if another has the same.
    pub name: String,
    /// The same without the engine where nothing else can be meant by that; else again the whole.
    pub short: String,
}

/// What each of these is called among all of them.
pub fn called(all: &[Container]) -> Vec<Called> {
    let qualified: Vec<String> = all.iter().map(Container::qualified).collect();
    let mut bearers: HashMap<&str, usize> = HashMap::with_capacity(all.len());
    for name in &qualified {
        *bearers.entry(name).or_default() += 1;
    }
    let words = Words::of(all, &qualified);
    let scattered = scattered(all);
    all.iter()
        .zip(&qualified)
        .enumerate()
        .map(|(index, (container, name))| {
            let in_doubt = bearers[name.as_str()] > 1
                || may_mislead(container)
                || container.pod.as_ref().is_some_and(|pod| scattered.contains(&(&pod.namespace, &pod.name)));
            if in_doubt && !means(name, container, all) {
                let name = container.qualified_id();
                return Called { short: name.clone(), name };
            }
            let short = container.short_name();
            let short = if words.means_only(&short, index, container) { short } else { name.clone() };
            Called { name: name.clone(), short }
        })
        .collect()
}

/// The pods, by namespace and name, of which more than one engine, scope or socket tells.
fn scattered(all: &[Container]) -> HashSet<(&str, &str)> {
    let mut homes = HashMap::new();
    let pods = all.iter().filter_map(|container| Some((container.pod.as_ref()?, home(container))));
    let elsewhere = pods.filter_map(|(pod, home)| {
        let key = (pod.namespace.as_str(), pod.name.as_str());
        (*homes.entry(key).or_insert(home) != home).then_some(key)
    });
    elsewhere.collect()
}

/// Whether a pod's name may mean something else: Kubernetes allows no slashes in its parts; and a sandbox that does not
/// run leaves its name to what does.
fn may_mislead(container: &Container) -> bool {
    let odd = |part: &String| part.is_empty() || part.contains('/');
    is_called_by_pod(container)
        && container.pod.as_ref().is_some_and(|pod| match &pod.container {
            None => odd(&pod.namespace) || odd(&pod.name) || !container.is_up(),
            Some(part) => odd(&pod.namespace) || odd(&pod.name) || odd(part),
        })
}

/// Whether a name selects this container, or would if it ran.
fn means(name: &str, container: &Container, all: &[Container]) -> bool {
    let found = name.parse::<TargetSpec>().ok().map(|spec| select(&spec, all));
    match found {
        Some(Ok(found)) => std::ptr::eq(found, container),
        Some(Err(SelectError::Stopped { qualified, .. })) => !container.is_up() && qualified == name,
        _ => false,
    }
}

fn is_called_by_pod(container: &Container) -> bool {
    container.pod.is_some() && matches!(container.engine, Engine::Containerd | Engine::Cri)
}

/// Every bare word that means one of the containers, and whom.
struct Words<'a> {
    /// The whole words. Containers of a pod share the pod's.
    meaning: HashMap<String, Meaning<'a>>,
    /// The ids of which a start is enough, in order.
    ids: Vec<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning<'a> {
    /// The container of this place.
    One(usize),
    /// The pod of this namespace and name.
    Pod(&'a str, &'a str),
    /// More than one of them.
    Several,
}

impl<'a> Words<'a> {
    fn of(all: &'a [Container], qualified: &[String]) -> Words<'a> {
        let mut words = Words { meaning: HashMap::with_capacity(2 * all.len()), ids: Vec::new() };
        // Attempts of the same container of a pod mean the same by their names.
        let mut attempts: HashMap<&str, usize> = HashMap::new();
        for (index, (container, name)) in all.iter().zip(qualified).enumerate() {
            let place = match is_called_by_pod(container) {
                true => *attempts.entry(name).or_insert(index),
                false => index,
            };
            for name in &container.names {
                words.add_scoped(container, name, Meaning::One(place));
            }
            words.add_scoped(container, &container.id, Meaning::One(place));
            if let Some(path) = container.netns_path.as_ref().filter(|_| container.engine == Engine::Netns) {
                words.add(path.to_string_lossy().into_owned(), Meaning::One(place));
            }
            if let Some(pod) = &container.pod {
                words.add_pod(pod, place);
            }
            if container.engine.has_ids() {
                words.ids.push(&container.id);
            }
        }
        words.ids.sort_unstable();
        words
    }

    fn add(&mut self, word: String, meaning: Meaning<'a>) {
        self.meaning
            .entry(word)
            .and_modify(|known| {
                if *known != meaning {
                    *known = Meaning::Several;
                }
            })
            .or_insert(meaning);
    }

    fn add_scoped(&mut self, container: &Container, name: &str, meaning: Meaning<'a>) {
        if let Some(scope) = &container.scope {
            self.add(format!("{scope}/{name}"), meaning);
        }
        self.add(name.to_owned(), meaning);
    }

    fn add_pod(&mut self, pod: &'a Pod, place: usize) {
        let whole = Meaning::Pod(&pod.namespace, &pod.name);
        self.add(pod.name.clone(), whole);
        self.add(format!("{}/{}", pod.namespace, pod.name), whole);
        if let Some(container) = &pod.container {
            self.add(format!("{}/{container}", pod.name), Meaning::One(place));
            self.add(format!("{}/{}/{container}", pod.namespace, pod.name), Meaning::One(place));
        }
    }

    /// Whether a bare word means this container and nothing else.
    fn means_only(&self, word: &str, place: usize, container: &Container) -> bool {
        if !word.parse::<TargetSpec>().is_ok_and(|spec| spec.kind.is_none()) {
            return false;
        }
        let own = match &container.pod {
            Some(Pod { namespace, name, container: None }) if is_called_by_pod(container) => {
                // A sandbox that does not run leaves its name to the containers that do.
                container.is_up() && self.meaning.get(word) == Some(&Meaning::Pod(namespace, name))
            }
            _ => match self.meaning.get(word) {
                Some(meaning) => *meaning == Meaning::One(place),
                // The start of an id.
                None => true,
            },
        };
        let by_name = match container.engine {
            Engine::Pid => false,
            engine => !engine.has_ids() || !container.names.is_empty() || is_called_by_pod(container),
        };
        own && (by_name || self.is_start_of_no_other(word, container))
    }

    /// Whether no other id begins so.
    fn is_start_of_no_other(&self, word: &str, container: &Container) -> bool {
        let start = word.rsplit('/').next().unwrap_or(word);
        let from = self.ids.partition_point(|id| *id < start);
        self.ids[from..].iter().take_while(|id| id.starts_with(start)).all(|id| *id == container.id)
            && self.ids[from..].iter().take_while(|id| id.starts_with(start)).count() <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use proptest::prelude::*;
    use snorkel_netns::Pid;

    fn container(engine: Engine, scope: Option<&str>, name: &str, id: &str) -> Container {
        Container {
            scope: scope.map(str::to_owned),
            names: if name.is_empty() { vec![] } else { vec![name.to_owned()] },
            state: State::Running,
            pid: Pid::new(1),
            ..Container::new(engine, id)
        }
    }

    fn shorts(all: &[Container]) -> Vec<String> {
        called(all).into_iter().map(|called| called.short).collect()
    }

    #[test]
    fn the_engine_is_left_out_where_nothing_else_is_called_so() {
        let pod = |container: Option<&str>| Pod {
            namespace: "default".into(),
            name: "db-0".into(),
            container: container.map(str::to_owned),
        };
        let all = [
            container(Engine::Docker, None, "web", "a1"),
            container(Engine::Podman, None, "web", "a2"),
            container(Engine::Podman, Some("alice"), "web", "a3"),
            container(Engine::Docker, None, "db", "a4"),
            container(Engine::Lab, Some("rv"), "client", "client"),
            container(Engine::Lab, Some("rv2"), "client", "client"),
            Container { pod: Some(pod(None)), ..container(Engine::Cri, None, "", "b0") },
            Container { pod: Some(pod(Some("main"))), ..container(Engine::Cri, None, "", "b1") },
            container(Engine::Pid, None, "sleep", "4711"),
            container(Engine::Containerd, Some("default"), "", "redis"),
        ];
        let expected = [
            "docker:web",
            "podman:web",
            "alice/web",
            "db",
            "rv/client",
            "rv2/client",
            "default/db-0",
            "default/db-0/main",
            "4711",
            "default/redis",
        ];
        assert_eq!(shorts(&all), expected);
    }

    #[test]
    fn a_number_that_begins_an_id_is_written_out() {
        let id = format!("4711{}", "a".repeat(60));
        let all =
            [container(Engine::Docker, None, "web", &id), container(Engine::Pid, None, "sleep", "4711")];
        assert_eq!(shorts(&all), ["web", "pid:4711"]);
    }

    /// Few letters, so that much is called the same.
    fn any_container() -> impl Strategy<Value = Container> {
        let word = "[ab1]{1,2}";
        let pod = (word, word, prop::option::of(word)).prop_map(|(namespace, name, container)| Pod {
            namespace,
            name,
            container,
        });
        (
            prop::sample::select(Engine::ALL.to_vec()),
            prop::option::of(word),
            prop::collection::vec(word, 0..3),
            "[ab1]{3}",
            prop::option::of(pod),
            any::<bool>(),
        )
            .prop_map(|(engine, scope, names, id, pod, up)| {
                // As the engines have them: generated ids, or ones that people chose, or none but the name.
                let generated = format!("{id:0<64}");
                let (scope, names, id) = match engine {
                    Engine::Docker | Engine::Podman => (scope, names, generated),
                    Engine::Cri => (None, Vec::new(), generated),
                    Engine::Containerd if up => (scope.or(Some("b".into())), Vec::new(), id),
                    Engine::Containerd => (scope.or(Some("b".into())), Vec::new(), generated),
                    Engine::Pid => (None, names, id.replace(['a', 'b'], "2")),
                    Engine::Netns => (None, Vec::new(), id),
                    _ => (scope, vec![id.clone()], id),
                };
                let (state, pid) = if up { (State::Running, Pid::new(1)) } else { (State::Stopped, None) };
                let pod = pod.filter(|_| engine.has_ids());
                Container { scope, names, pod, state, pid, ..Container::new(engine, id) }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_is_shown_means_what_it_is_shown_for(all in prop::collection::vec(any_container(), 1..6)) {
            // One id twice under one engine is no list that an engine gives.
            let key = |c: &Container| (c.engine, c.id.clone());
            let twice = all.iter().any(|a| all.iter().filter(|b| key(a) == key(b)).count() > 1);
            prop_assume!(!twice);
            for (container, called) in all.iter().zip(called(&all)) {
                for shown in [&called.name, &called.short] {
                    match select(&shown.parse().unwrap(), &all) {
                        Ok(found) => prop_assert_eq!(found, container, "{}", shown),
                        Err(SelectError::Stopped { qualified, .. }) => {
                            prop_assert_eq!(qualified, container.qualified(), "{}", shown);
                        }
                        Err(other) => prop_assert!(false, "{}: {}", shown, other),
                    }
                }
            }
        }
    }
}
