use super::*;
use crate::{Pod, State};
use proptest::prelude::*;
use snorkel_netns::Pid;

fn running(engine: Engine, name: &str, id: &str) -> Container {
    Container {
        names: if name.is_empty() { vec![] } else { vec![name.to_owned()] },
        state: State::Running,
        status: "Up 3 minutes".into(),
        pid: Pid::new(4711),
        ..Container::new(engine, id)
    }
}

fn named(spec: &str, all: &[Container]) -> Result<String, SelectError> {
    select(&spec.parse().unwrap(), all).map(Container::qualified)
}

fn pod(container: Option<&str>, id: &str) -> Container {
    let container = container.map(str::to_owned);
    Container {
        scope: Some("k8s.io".into()),
        pod: Some(Pod { namespace: "default".into(), name: "web-0".into(), container }),
        ..running(Engine::Containerd, "", id)
    }
}

#[test]
fn a_container_of_a_pod_is_meant_by_what_the_listing_calls_it() {
    let app = pod(Some("app"), "a1");
    assert_eq!(app.short_name(), "default/web-0/app");
    let mut all = vec![pod(None, "a0"), app, pod(Some("side"), "a2")];
    assert_eq!(named("web-0/app", &all).unwrap(), "pod:default/web-0/app");
    assert_eq!(named("default/web-0", &all).unwrap(), "pod:default/web-0");
    assert!(matches!(named("web-0/none", &all), Err(SelectError::NotFound { .. })));
    // The same two words may be a namespace and its pod.
    let of = Pod { namespace: "web-0".into(), name: "app".into(), container: None };
    all.push(Container { pod: Some(of), ..pod(None, "b0") });
    let error = named("web-0/app", &all).unwrap_err().to_string();
    assert_eq!(error, "'web-0/app' is ambiguous: pod:default/web-0/app, pod:web-0/app");
}

#[test]
fn a_pod_that_has_ended_is_told_of_in_the_words_for_its_sandbox() {
    let ended = |container, status: &str| Container {
        state: State::Stopped,
        status: status.into(),
        pid: None,
        ..pod(container, status)
    };
    let (app, sandbox) = (ended(Some("app"), "CONTAINER_EXITED"), ended(None, "SANDBOX_NOTREADY"));
    for all in [[app.clone(), sandbox.clone()], [sandbox, app]] {
        let error = named("pod:default/web-0", &all).unwrap_err().to_string();
        assert_eq!(error, "pod:default/web-0 is not running: SANDBOX_NOTREADY");
    }
}

#[test]
fn a_users_container_is_meant_by_what_the_listing_calls_it() {
    let alices = Container { scope: Some("alice".into()), ..running(Engine::Podman, "web", "a2") };
    assert_eq!(alices.short_name(), "alice/web");
    let all = [running(Engine::Podman, "web", "a1"), alices];
    assert_eq!(named("alice/web", &all).unwrap(), "podman:alice/web");
}

#[test]
fn a_name_beats_an_id_and_an_id_beats_a_prefix() {
    let all = [
        running(Engine::Docker, "abc", "f00"),
        running(Engine::Docker, "x", "abc"),
        running(Engine::Docker, "y", "abcd"),
    ];
    assert_eq!(named("abc", &all).unwrap(), "docker:abc");
    assert_eq!(named("abc", &all[1..]).unwrap(), "docker:x");
    assert_eq!(named("abcd", &all).unwrap(), "docker:y");
    assert_eq!(named("f", &all).unwrap(), "docker:abc");
}

#[test]
fn two_matches_are_an_error_that_names_both() {
    let all = [running(Engine::Docker, "web", "a1"), running(Engine::Podman, "web", "a2")];
    let error = named("web", &all).unwrap_err();
    assert_eq!(error.to_string(), "'web' is ambiguous: docker:web, podman:web");
    assert!(matches!(named("a", &all), Err(SelectError::Ambiguous { .. })));
    assert_eq!(named("podman:web", &all).unwrap(), "podman:web");
}

#[test]
fn the_hosts_own_engine_is_meant_where_a_user_has_the_same_name() {
    let alices = Container { scope: Some("alice".into()), ..running(Engine::Podman, "web", "a2") };
    let all = [running(Engine::Podman, "web", "a1"), alices];
    assert!(matches!(named("web", &all), Err(SelectError::Ambiguous { .. })));
    assert_eq!(named("podman:web", &all).unwrap(), "podman:web");
    assert_eq!(named("podman:alice/web", &all).unwrap(), "podman:alice/web");
    assert_eq!(named("alice/web", &all).unwrap(), "podman:alice/web");
    assert!(matches!(named("podman:bob/web", &all), Err(SelectError::NotFound { .. })));
}

#[test]
fn a_near_miss_is_answered_with_a_suggestion() {
    let all = [running(Engine::Docker, "web", "a1"), running(Engine::Docker, "database", "a2")];
    assert_eq!(named("wbe", &all).unwrap_err().to_string(), "no target 'wbe'; did you mean docker:web?");
    assert_eq!(
        named("docker:Web", &all).unwrap_err().to_string(),
        "no target 'docker:Web'; did you mean docker:web?"
    );
    assert_eq!(named("zzz", &all).unwrap_err().to_string(), "no target 'zzz'");
    let labs = [Container { scope: Some("rev2".into()), ..running(Engine::Lab, "web", "web") }];
    let error = named("rev2/wbe", &labs).unwrap_err();
    assert_eq!(error.to_string(), "no target 'rev2/wbe'; did you mean lab:rev2/web?");
}

#[test]
fn a_stopped_container_is_named_as_stopped_in_the_engines_words() {
    let gone = Container {
        state: State::Stopped,
        status: "Exited (137) 3 minutes ago".into(),
        pid: None,
        ..running(Engine::Docker, "web", "a1")
    };
    let error = named("web", &[gone]).unwrap_err();
    assert_eq!(error.to_string(), "docker:web is not running: Exited (137) 3 minutes ago");
}

#[test]
fn a_stopped_namesake_under_another_engine_is_not_passed_over_in_silence() {
    let gone = Container { state: State::Stopped, pid: None, ..running(Engine::Podman, "web", "a1") };
    let all = [gone, running(Engine::Docker, "web", "a2")];
    assert!(matches!(named("web", &all), Err(SelectError::Ambiguous { .. })));
}

#[test]
fn an_alias_selects_by_name_and_by_id() {
    let id = "0123456789abcdef".repeat(4);
    let all = [Container {
        aliases: vec!["containerd:moby/0123456789ab".into()],
        ..running(Engine::Docker, "web", &id)
    }];
    for spec in ["containerd:moby/0123456789ab", "containerd:0123", &format!("containerd:moby/{id}")] {
        assert_eq!(named(spec, &all).unwrap(), "docker:web", "{spec}");
    }
    assert!(named("containerd:other/0123", &all).is_err());
}

#[test]
fn a_pod_without_a_container_is_its_sandbox_or_any_that_runs() {
    let all = [pod(Some("app"), "a1"), pod(None, "a2"), pod(Some("side"), "a3")];
    assert_eq!(named("pod:default/web-0", &all).unwrap(), "pod:default/web-0");
    assert_eq!(named("pod:web-0", &all).unwrap(), "pod:default/web-0");
    assert_eq!(named("web-0", &all).unwrap(), "pod:default/web-0");
    assert_eq!(named("pod:default/web-0/app", &all).unwrap(), "pod:default/web-0/app");
    assert_eq!(named("pod:default/web-0", &all[2..]).unwrap(), "pod:default/web-0/side");
    assert!(matches!(named("pod:other/web-0", &all), Err(SelectError::NotFound { .. })));
}

#[test]
fn two_pods_of_one_name_are_never_taken_for_each_other() {
    let ambiguous = |all: &[Container], what: &str| {
        for spec in ["web-0", "default/web-0", "pod:default/web-0"] {
            let error = named(spec, all).expect_err(what);
            let mut ids: Vec<String> = all.iter().map(Container::qualified_id).collect();
            ids.sort();
            assert_eq!(error, SelectError::Ambiguous { spec: spec.into(), candidates: ids }, "{what}");
        }
    };
    let in_docker = |id| Container { engine: Engine::Docker, scope: None, ..pod(None, id) };
    ambiguous(&[in_docker("a1"), in_docker("a2")], "two that look like sandboxes");
    ambiguous(&[pod(None, "a1"), in_docker("a2")], "two engines");
    ambiguous(&[pod(None, "a1"), Container { scope: Some("other".into()), ..pod(None, "a2") }], "two scopes");
    let socket = |path: &str, c| Container { socket: Some(path.into()), ..c };
    ambiguous(&[socket("/a", pod(None, "a1")), socket("/b", pod(Some("app"), "a2"))], "two sockets");
    let apart = |path: &str, c| Container { netns_path: Some(path.into()), ..c };
    let (app, side) = (pod(Some("app"), "a1"), pod(Some("side"), "a2"));
    ambiguous(&[app.clone(), side.clone()], "no sandbox, and nothing known of their networks");
    ambiguous(&[apart("/1", app.clone()), apart("/2", side.clone())], "no sandbox, and two networks");
    // Without a sandbox that runs they are one pod where the engine says that they share.
    assert_eq!(named("web-0", &[apart("/1", app), apart("/1", side)]).unwrap(), "pod:default/web-0/app");
    let joined = Container { network_mode: Some("container:a1".into()), ..in_docker("a2") };
    assert_eq!(select(&"web-0".parse().unwrap(), &[in_docker("a1"), joined]).unwrap().id, "a1");
}

#[test]
fn an_earlier_attempt_of_a_pods_container_is_not_meant() {
    let earlier = Container { state: State::Stopped, pid: None, ..pod(Some("app"), "a0") };
    let all = [earlier, pod(Some("app"), "a1")];
    let spec = "pod:default/web-0/app".parse().unwrap();
    assert_eq!(select(&spec, &all).unwrap().id, "a1");
}

#[test]
fn numbers_and_names_are_not_shortened() {
    let process = running(Engine::Pid, "sleep", "4711");
    let blue =
        Container { netns_path: Some("/run/netns/blue".into()), ..running(Engine::Netns, "blue", "blue") };
    let all = [process, blue];
    assert!(named("pid:47", &all).is_err());
    assert!(named("netns:bl", &all).is_err());
    assert_eq!(named("pid:4711", &all).unwrap(), "pid:4711");
    assert_eq!(named("netns:/run/netns/blue", &all).unwrap(), "netns:blue");
}

#[test]
fn a_name_out_of_a_shell_script_is_found_as_it_is() {
    for name in ["$(reboot)", "a:b/c", "; rm -rf /", "tab\there", "\u{1b}[31m"] {
        let all = [running(Engine::Lxc, name, name)];
        assert!(select(&name.parse().unwrap(), &all).is_ok(), "{name:?}");
        let error = named("zz", &all).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'));
    }
}

proptest! {
    #[test]
    fn a_qualified_name_selects_its_container(
        engine in prop::sample::select(vec![Engine::Docker, Engine::Podman, Engine::Lxc, Engine::Nspawn, Engine::Lab]),
        scope in prop::option::of("[a-z]{1,6}"),
        names in prop::collection::btree_set("[a-zA-Z0-9_.:$;-]{1,12}", 1..5),
    ) {
        let all: Vec<Container> = names.iter().enumerate().map(|(i, name)| {
            Container { scope: scope.clone(), ..running(engine, name, &format!("{i:064x}")) }
        }).collect();
        for container in &all {
            let spec: TargetSpec = container.qualified().parse().unwrap();
            prop_assert_eq!(select(&spec, &all).unwrap(), container);
        }
    }

    #[test]
    fn any_text_selects_or_fails_without_panic(text in any::<String>(), name in any::<String>()) {
        if let Ok(spec) = text.parse() {
            let _ = select(&spec, &[running(Engine::Docker, &name, &name), pod(Some("app"), &name)]).map_err(|e| e.to_string());
        }
    }
}
