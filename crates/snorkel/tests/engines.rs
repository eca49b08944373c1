//! snorkel on a machine with real engines, one beside the other. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;
#[path = "engines/pods.rs"]
mod pods;
#[path = "engines/rootless.rs"]
mod rootless;
#[path = "engines/system.rs"]
mod system;

use common::{Ran, SNORKEL};
use serde_json::Value;
use snorkel_testbed::{Image, Machine, finish};

/// Runs snorkel on the machine.
#[track_caller]
fn on(machine: &Machine, words: &[&str]) -> Ran {
    let ran = finish(machine.command(SNORKEL).args(words));
    Ran { stdout: ran.stdout, stderr: ran.stderr, status: ran.status.unwrap_or(-1) }
}

/// Runs snorkel on the machine; it must end well.
#[track_caller]
fn good(machine: &Machine, words: &[&str]) -> String {
    let ran = on(machine, words);
    assert_eq!(ran.status, 0, "{words:?}: {ran:?}");
    ran.stdout
}

#[track_caller]
fn json(machine: &Machine, words: &[&str]) -> Value {
    serde_json::from_str(&good(machine, words)).expect("it is JSON")
}

/// The target of that name in a snapshot.
#[track_caller]
fn target<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let targets = snapshot["targets"].as_array().expect("there are targets");
    targets.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("no {name} in {targets:#?}"))
}

/// The link `eth0` in the namespace of a target.
#[track_caller]
fn eth0<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    link(snapshot, name, "eth0")
}

/// A link in the namespace of a target.
#[track_caller]
fn link<'a>(snapshot: &'a Value, name: &str, link: &str) -> &'a Value {
    let netns = &target(snapshot, name)["netns"];
    let namespaces = snapshot["namespaces"].as_array().expect("there are namespaces");
    let namespace = namespaces.iter().find(|n| n["id"] == *netns).expect("the target's namespace is there");
    let links = namespace["links"].as_array().expect("it has links");
    links.iter().find(|l| l["name"] == link).unwrap_or_else(|| panic!("no {link} in {links:#?}"))
}

/// Whatever the listing calls a target can be typed, and means that target: all those with this in their name.
#[track_caller]
fn assert_names_lead_back(machine: &Machine, wanted: &str) {
    let snapshot = json(machine, &["ls", "--json"]);
    let targets = snapshot["targets"].as_array().expect("there are targets");
    let table = good(machine, &["ls"]);
    let shown: Vec<&str> = table
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.contains(wanted))
        .collect();
    assert!(!shown.is_empty(), "{table}");
    for name in shown {
        let meant: Vec<&Value> = targets.iter().filter(|t| t["short"] == name).collect();
        assert_eq!(meant.len(), 1, "{name}: {table}");
        let netns = format!("net:[{}]\n", meant[0]["netns"]["inode"]);
        for word in [name, meant[0]["name"].as_str().expect("a name")] {
            assert_eq!(
                good(machine, &["exec", word, "--", "readlink", "/proc/self/ns/net"]),
                netns,
                "{word}"
            );
        }
    }
}

/// What the handbook does to find the veth: the index that the container's side names, looked up on the host.
#[track_caller]
fn peer_by_hand(machine: &Machine, pid: i32) -> String {
    let link = machine.run("nsenter", ["-t", &pid.to_string(), "-n", "ip", "-o", "link", "show", "eth0"]);
    let index =
        link.split_once("@if").and_then(|(_, rest)| rest.split(':').next()).expect("it is a veth").to_owned();
    let links = machine.run("ip", ["-o", "link"]);
    let line = links.lines().find(|l| l.starts_with(&format!("{index}: "))).expect("the host has it");
    line.split(' ').nth(1).expect("it has a name").split('@').next().expect("before the @").to_owned()
}

#[test]
fn docker_podman_and_containerd_side_by_side() {
    let machine = Machine::shared();
    let (docker, podman, containerd) = (machine.docker(), machine.podman(), machine.containerd());
    let ports = ["-p", "127.0.0.1:18080:80", "-p", "18081:81"];
    docker.run("s-web", &[&["-l", "app=shop"][..], &ports].concat(), Image::Busybox, &[]);
    docker.run("s-bare", &[], Image::Bare, &["/echo", "7"]);
    docker.run("s-shared", &["--network", "container:s-web"], Image::Busybox, &[]);
    docker.run("s-host", &["--network", "host"], Image::Busybox, &[]);
    docker.run("s-none", &["--network", "none"], Image::Busybox, &[]);
    docker.run("s-gone", &[], Image::Busybox, &["false"]);
    podman.run("s-pod", &[], Image::Busybox, &[]);
    let pod_pid = containerd.run_as_pod("s-web-0", "shop", "s-sandbox", Image::Busybox, &[]);
    machine.netns_add("s-blue");

    let table = good(machine, &["ls"]);
    println!("{table}");
    assert_names_lead_back(machine, "s-");
    let snapshot = json(machine, &["ls", "--json"]);
    for (name, pid) in [
        ("docker:s-web", docker.pid("s-web")),
        ("docker:s-bare", docker.pid("s-bare")),
        ("podman:s-pod", podman.pid("s-pod")),
        ("pod:shop/s-web-0/main", pod_pid),
    ] {
        assert_eq!(target(&snapshot, name)["pid"], pid, "{name}");
        // Both directions agree, with each other and with what the handbook's recipe finds.
        let peer = peer_by_hand(machine, pid);
        assert_eq!(eth0(&snapshot, name)["peer"]["name"], peer, "{name}");
        let found = json(machine, &["which", "--json", &peer]);
        assert!(
            found["things"][0]["found"][0]["targets"].as_array().is_some_and(|t| t.contains(&name.into())),
            "{found:#}"
        );
        let address =
            eth0(&snapshot, name)["addresses"][0]["address"].as_str().expect("it has an address").to_owned();
        let found = good(machine, &["which", &address]);
        assert!(found.contains(name) && found.contains(&peer), "{found}");
    }
    // A namespace that two share is one, and its link stands once.
    assert_eq!(target(&snapshot, "docker:s-web")["netns"], target(&snapshot, "docker:s-shared")["netns"]);
    let veth = peer_by_hand(machine, docker.pid("s-web"));
    assert_eq!(table.matches(&veth).count(), 1, "{table}");
    assert_eq!(target(&snapshot, "docker:s-host")["host"], true);
    assert!(table.lines().any(|l| l.contains("s-host") && l.contains(" host ")), "{table}");
    assert!(table.lines().any(|l| l.contains("s-none") && l.contains(" lo ")), "{table}");
    assert!(table.contains("s-blue"), "{table}");
    // Docker's containers are containerd's as well, but are listed once.
    assert_eq!(table.matches("s-bare").count(), 1, "{table}");
    assert!(!table.contains("s-gone"), "{table}");
    assert!(good(machine, &["ls", "-a"]).lines().any(|l| l.contains("s-gone") && l.contains("Exited (1)")));
    assert_eq!(good(machine, &["ls", "-q", "-l", "app=shop"]), "docker:s-web\n");
    assert_eq!(good(machine, &["ls", "-q", "--engine", "podman"]), "podman:s-pod\n");

    // The published port leads to its container.
    let found = good(machine, &["which", "127.0.0.1:18080"]);
    assert!(found.contains("docker:s-web publishes 80/tcp"), "{found}");
    // That is one answer, with the proxy in it that docker runs for each family.
    let things = ["127.0.0.1:18080", "127.0.0.1:18081", "0.0.0.0:18081", "[::1]:18081", "*:18081"];
    let found = json(machine, &[&["which", "--json"][..], &things].concat());
    for thing in found["things"].as_array().expect("there is an answer for each") {
        let answers = thing["found"].as_array().expect("something was found");
        assert_eq!(answers.len(), 1, "{thing:#}");
        assert_eq!(answers[0]["targets"], serde_json::json!(["docker:s-web"]), "{thing:#}");
        let note = answers[0]["note"].as_str().expect("it says what is published");
        assert!(note.contains("held by docker-proxy (process "), "{thing:#}");
    }

    // Stopped, unknown, ambiguous, nearly right.
    let ran = on(machine, &["exec", "s-gone", "--", "true"]);
    assert_eq!(ran.status, 125);
    assert!(ran.stderr.contains("docker:s-gone is not running: Exited (1)"), "{ran:?}");
    let ran = on(machine, &["exec", "s-wbe", "--", "true"]);
    assert!(ran.stderr.contains("no target 's-wbe'; did you mean docker:s-web"), "{ran:?}");
    podman.run("s-bare", &[], Image::Busybox, &[]);
    let ran = on(machine, &["exec", "s-bare", "--", "true"]);
    assert_eq!(ran.status, 125);
    assert!(ran.stderr.contains("'s-bare' is ambiguous: docker:s-bare, podman:s-bare"), "{ran:?}");

    // Every way to name a target leads into its namespace, with the host's tools.
    let id = docker.inspect("s-web", "{{.Id}}");
    let pid = docker.pid("s-web").to_string();
    let ids = [id.as_str(), &id[..12], &format!("docker:{}", &id[..6])].map(str::to_owned);
    for name in
        ids.iter().map(String::as_str).chain(["s-web", "docker:s-web", &format!("pid:{pid}"), "s-shared"])
    {
        let netns = good(machine, &["exec", name, "--", "readlink", "/proc/self/ns/net"]);
        assert_eq!(netns, machine.run("readlink", [format!("/proc/{pid}/ns/net")]) + "\n", "{name}");
    }
    for name in
        ["podman:s-pod", "pod:shop/s-web-0", "s-web-0", "containerd:k8s.io/s-sandbox", "docker:s-none"]
    {
        let links = good(machine, &["exec", name, "--", "ls", "/sys/class/net"]);
        let expected = if name == "docker:s-none" { "lo\n" } else { "eth0\nlo\n" };
        assert_eq!(links, expected, "{name}");
    }
    assert_eq!(good(machine, &["exec", "netns:s-blue", "--", "ls", "/sys/class/net"]), "lo\n");
    assert_eq!(good(machine, &["exec", "/run/netns/s-blue", "--", "true"]), "");
}

#[test]
fn names_resolve_as_docker_has_them() {
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.network_create("n-net", &[]);
    docker.run(
        "n-one",
        &["--network", "n-net", "--dns-search", "n.example", "--add-host", "n-extra:10.9.8.7"],
        Image::Bare,
        &["/echo", "7"],
    );
    docker.run("n-two", &["--network", "n-net"], Image::Bare, &["/echo", "7"]);
    let address = docker.inspect("n-two", "{{(index .NetworkSettings.Networks \"n-net\").IPAddress}}");
    let before = machine.run("sh", ["-c", "cat /etc/resolv.conf /etc/hosts /etc/nsswitch.conf; ls -la /etc"]);

    // Docker's own server at 127.0.0.11 knows the other container by name; the host does not.
    let found = good(machine, &["exec", "n-one", "--", "getent", "hosts", "n-two"]);
    assert!(found.starts_with(&address), "{found}");
    assert_eq!(finish(machine.command("getent").args(["hosts", "n-two"])).status, Some(2));
    assert!(good(machine, &["exec", "n-one", "--", "getent", "hosts", "n-extra"]).starts_with("10.9.8.7"));
    assert!(good(machine, &["exec", "n-one", "--", "cat", "/etc/resolv.conf"]).contains("search n.example"));
    assert_eq!(
        good(machine, &["exec", "n-one", "--", "ping", "-c1", "-q", "n-two"])
            .lines()
            .next()
            .map(|l| l.contains(&address)),
        Some(true)
    );
    let dug = good(machine, &["exec", "n-one", "--", "dig", "+short", "n-two"]);
    assert_eq!(dug.trim(), address);
    let conf = good(machine, &["exec", "--dns", "engine", "n-one", "--", "cat", "/etc/resolv.conf"]);
    assert!(conf.contains("127.0.0.11"), "{conf}");
    // curl gets as far as the echo server, which does not speak HTTP: the name was resolved.
    let talk = on(
        machine,
        &["exec", "n-one", "--", "curl", "-sv", "--max-time", "20", "--http0.9", "telnet://n-two:7"],
    );
    assert!(talk.stderr.contains(&address), "{talk:?}");

    assert_eq!(
        machine.run("sh", ["-c", "cat /etc/resolv.conf /etc/hosts /etc/nsswitch.conf; ls -la /etc"]),
        before
    );
}

#[test]
fn a_container_that_ends_and_starts_again_is_found_by_its_new_process() {
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.run("r-one", &[], Image::Busybox, &[]);
    // By its PID: the namespace of a container that starts again may well have the number of the one before.
    let seen = || target(&json(machine, &["ls", "--json", "r-one"]), "docker:r-one")["pid"].clone();
    let first = seen();
    assert_eq!(first, docker.pid("r-one"));
    docker.cli(&["restart", "-t", "0", "r-one"]);
    let pid = docker.pid("r-one");
    assert_ne!(first, pid, "the container did not start again");
    assert_eq!(seen(), pid);
    let entered = good(machine, &["exec", "r-one", "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(entered, machine.run("readlink", [format!("/proc/{pid}/ns/net")]) + "\n");
    docker.cli(&["pause", "r-one"]);
    assert!(good(machine, &["ls", "r-one"]).contains("paused"));
    assert_eq!(good(machine, &["exec", "r-one", "--", "true"]), "");
    docker.cli(&["unpause", "r-one"]);
    docker.remove("r-one");
    assert_eq!(on(machine, &["exec", "r-one", "--", "true"]).status, 125);
}

/// Plays nscd or systemd-resolved: counts who connects to its socket.
fn listener(machine: &Machine, socket: &str) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
    let path = machine.path(socket);
    std::fs::create_dir_all(path.parent().expect("a socket has a directory")).expect("it can be made");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("the socket can be bound");
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            drop(stream);
        }
    });
    count
}

#[test]
fn the_hosts_name_service_daemons_are_not_asked() {
    use std::sync::atomic::Ordering;
    // A machine of its own: the sockets would be in the way of other tests.
    let machine = Machine::new();
    machine.netns_add("l-blue");
    let nscd = listener(&machine, "/run/nscd/socket");
    let resolved = listener(&machine, "/run/systemd/resolve/io.systemd.Resolve");
    let pid = machine.pid().to_string();
    let target = format!("pid:{pid}");

    // On the host glibc asks nscd first: the listener works, and the test can fail.
    finish(machine.command("getent").args(["hosts", "somewhere.testbed.invalid"]));
    let before = nscd.load(Ordering::SeqCst);
    assert!(before > 0, "glibc did not ask nscd: there is nothing to be kept from");

    on(&machine, &["exec", &target, "--", "getent", "hosts", "somewhere.testbed.invalid"]);
    assert_eq!(nscd.load(Ordering::SeqCst), before, "nscd was asked");
    assert_eq!(
        good(&machine, &["exec", &target, "--", "ls", "-A", "/run/nscd", "/run/systemd/resolve"]),
        "/run/nscd:\n\n/run/systemd/resolve:\n"
    );
    let hosts = good(&machine, &["exec", &target, "--", "grep", "^hosts:", "/etc/nsswitch.conf"]);
    assert_eq!(hosts, "hosts: files dns\n");
    // Whoever wants the host's names gets all of them.
    on(&machine, &["exec", "--dns", "host", &target, "--", "getent", "hosts", "somewhere.testbed.invalid"]);
    assert!(nscd.load(Ordering::SeqCst) > before);
    assert_eq!(resolved.load(Ordering::SeqCst), 0);
}
