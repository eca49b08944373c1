//! The engines of a user who is not root: seen by root, and by the user himself.

use serde_json::Value;
use snorkel_testbed::{Image, Machine, User, finish};

use crate::common::{Ran, SNORKEL};
use crate::{eth0, good, json, link, on, target};

/// Runs snorkel on the machine as a user.
#[track_caller]
fn by(user: &User<'_>, words: &[&str]) -> Ran {
    // The binary lies where only its builder may look; a copy is as good.
    let copy = user.machine().directory().join("home/snorkel");
    if !copy.exists() {
        let aside = copy.with_extension(std::process::id().to_string());
        std::fs::copy(SNORKEL, &aside).expect("the binary can be copied");
        std::fs::rename(aside, &copy).expect("it can be put in place");
    }
    let ran = finish(user.command(copy).args(words));
    Ran { stdout: ran.stdout, stderr: ran.stderr, status: ran.status.unwrap_or(-1) }
}

#[track_caller]
fn good_by(user: &User<'_>, words: &[&str]) -> String {
    let ran = by(user, words);
    assert_eq!(ran.status, 0, "{words:?}: {ran:?}");
    ran.stdout
}

/// The inode in `net:[4026532180]`, of a process.
#[track_caller]
fn netns_of(machine: &Machine, pid: i32) -> String {
    machine.run("readlink", [format!("/proc/{pid}/ns/net")]) + "\n"
}

/// The names of the targets that `which` finds for a thing.
#[track_caller]
fn found(answer: &Value) -> Vec<&str> {
    let found = answer["things"][0]["found"].as_array().expect("something is found");
    let targets = found.iter().flat_map(|f| f["targets"].as_array().expect("it has targets"));
    targets.map(|t| t.as_str().expect("a name")).collect()
}

#[test]
fn a_users_podman() {
    // A machine of its own: a new user is a change of /etc, on which other tests have an eye.
    let machine = &Machine::new();
    let alice = machine.user("alice");
    let podman = alice.podman();
    podman.network_create("u-net", &[]);
    podman.run(
        "u-web",
        &["--network", "u-net", "--publish", "18090:80"],
        Image::Busybox,
        &["httpd", "-f", "-h", "/www"],
    );
    podman.run("u-db", &["--network", "u-net"], Image::Bare, &["/echo", "7"]);
    podman.run("u-alone", &[], Image::Bare, &["/echo", "7"]);
    podman.run("u-gone", &[], Image::Busybox, &["false"]);
    podman.cli(&["wait", "u-gone"]);
    podman.cli(&["create", "--name", "u-new", Image::Bare.name()]);
    machine.podman().run("u-roots", &[], Image::Bare, &["/echo", "7"]);

    // Root sees her containers under her name, and where they are plugged in: a namespace of hers, not the host's.
    println!("{}", good(machine, &["ls", "-a"]));
    let snapshot = json(machine, &["ls", "--json"]);
    let hers = json(machine, &["ls", "--json", "--engine", "podman"]);
    for name in ["u-web", "u-db"] {
        let (qualified, pid) = (format!("podman:alice/{name}"), podman.pid(name));
        assert_eq!(target(&snapshot, &qualified)["pid"], pid);
        // What the handbook does, in the namespace where her networks are.
        let inside =
            machine.run("nsenter", ["-t", &pid.to_string(), "-n", "ip", "-o", "link", "show", "eth0"]);
        let index = inside.split_once("@if").and_then(|(_, rest)| rest.split(':').next()).expect("a veth");
        let links = podman.cli(&["unshare", "--rootless-netns", "ip", "-o", "link"]);
        let line = links.lines().find(|l| l.starts_with(&format!("{index}: "))).expect("it is there");
        let veth = line.split(' ').nth(1).and_then(|n| n.split('@').next()).expect("it has a name");

        let peer = &eth0(&snapshot, &qualified)["peer"];
        assert_eq!(peer["name"], veth, "{peer:#}");
        assert_eq!(peer["bridge"]["name"], "podman1", "{peer:#}");
        // Also where nothing but Podman's containers is asked for.
        assert_eq!(eth0(&hers, &qualified)["peer"]["name"], veth);
        let of = peer["of"].as_str().expect("her namespace has a name");
        assert!(of.starts_with("pid:"), "{of}");
        // Both directions.
        assert_eq!(found(&json(machine, &["which", "--json", &format!("{of}/{veth}")])), [&qualified]);
        assert!(
            good(machine, &["which", &format!("{qualified}/eth0")]).contains(&format!("peer     {veth},"))
        );
    }
    assert_eq!(target(&snapshot, "podman:u-roots")["scope"], Value::Null);
    assert_eq!(target(&snapshot, "podman:alice/u-alone")["pid"], podman.pid("u-alone"));
    assert_eq!(link(&snapshot, "podman:alice/u-alone", "tap0")["kind"], "tun");
    assert!(
        good(machine, &["ls"]).lines().any(|l| l.starts_with("alice/u-alone ")),
        "the name says whose it is"
    );
    assert!(good(machine, &["ls", "-a"]).lines().any(|l| l.contains("u-gone") && l.contains("Exited (1)")));

    // Into each by every name that it has, to the same place, and with its names.
    let pid = podman.pid("u-web");
    for name in ["podman:alice/u-web", "podman:u-web", "u-web", &podman.inspect("u-web", "{{.Id}}")] {
        assert_eq!(
            good(machine, &["exec", name, "--", "readlink", "/proc/self/ns/net"]),
            netns_of(machine, pid)
        );
    }
    let resolved = good(machine, &["exec", "u-web", "--", "getent", "hosts", "u-db"]);
    assert!(resolved.contains("u-db"), "{resolved}");
    assert_eq!(good(machine, &["exec", "u-alone", "--", "ls", "/sys/class/net"]), "lo\ntap0\n");
    let ran = on(machine, &["exec", "podman:alice/u-gone", "--", "true"]);
    assert!(ran.stderr.contains("podman:alice/u-gone is not running: Exited (1)"), "{ran:?}");
    let ran = on(machine, &["exec", "u-new", "--", "true"]);
    assert!(ran.stderr.contains("podman:alice/u-new is not running: created"), "{ran:?}");

    // The published port: to whom it leads, and which process of hers holds it.
    let port = good(machine, &["which", "127.0.0.1:18090"]);
    assert!(port.contains("podman:alice/u-web publishes 80/tcp as port 18090 of the host"), "{port}");
    assert!(port.contains("held by rootlessport (process "), "{port}");

    what_she_may_herself(machine, &alice, pid);
}

/// Without root: her own containers wholly, of others nothing.
fn what_she_may_herself(machine: &Machine, alice: &User<'_>, pid: i32) {
    let snapshot: Value = serde_json::from_str(&good_by(alice, &["ls", "--json"])).expect("it is JSON");
    let eth0 = eth0(&snapshot, "podman:alice/u-web");
    assert!(eth0["addresses"][0]["address"].as_str().is_some_and(|a| a.starts_with("10.89.")), "{eth0:#}");
    assert_eq!(eth0["peer"]["bridge"]["name"], "podman1", "{eth0:#}");
    assert_eq!(link(&snapshot, "podman:alice/u-alone", "tap0")["kind"], "tun");
    let names = good_by(alice, &["ls", "-q"]);
    assert!(!names.contains("u-roots"), "{names}");

    let address = eth0["addresses"][0]["address"].as_str().expect("it has one");
    let answer = good_by(alice, &["which", address]);
    assert!(answer.starts_with(&format!("{address} (address) → podman:alice/u-web\n")), "{answer}");
    // The host's own sockets are everybody's to see.
    let ran = by(alice, &["which", "127.0.0.1:18090"]);
    assert!(ran.stdout.contains("publishes 80/tcp as port 18090 of the host"), "{ran:?}");
    assert!(!ran.stderr.contains("the sockets in"), "{ran:?}");

    let netns = good_by(alice, &["exec", "u-web", "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(netns, netns_of(machine, pid));
    let resolved = good_by(alice, &["exec", "u-web", "--", "getent", "hosts", "u-db"]);
    assert!(resolved.contains("u-db"), "{resolved}");

    let ran = by(alice, &["exec", &format!("pid:{}", machine.pid()), "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("CAP_SYS_") || ran.stderr.contains("root"), "{ran:?}");
    let ran = by(alice, &["exec", "u-roots", "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
}

#[test]
fn a_users_docker() {
    let machine = &Machine::new();
    let anna = machine.user("anna");
    let docker = anna.docker();
    docker.run("v-web", &["--publish", "18091:80"], Image::Busybox, &["httpd", "-f", "-h", "/www"]);
    docker.run("v-gone", &[], Image::Busybox, &["false"]);
    docker.cli(&["wait", "v-gone"]);
    let pid = docker.pid("v-web");

    for words in [&["ls", "--json"][..], &["ls", "--json", "--engine", "docker"]] {
        let snapshot = json(machine, words);
        assert_eq!(target(&snapshot, "docker:anna/v-web")["pid"], pid);
        assert_eq!(eth0(&snapshot, "docker:anna/v-web")["peer"]["bridge"]["name"], "docker0", "{words:?}");
    }
    let netns = good(machine, &["exec", "docker:anna/v-web", "--", "readlink", "/proc/self/ns/net"]);
    assert_eq!(netns, netns_of(machine, pid));
    assert_eq!(good_by(&anna, &["exec", "v-web", "--", "readlink", "/proc/self/ns/net"]), netns);
    let page = good(machine, &["exec", "v-web", "--", "curl", "-sS", "http://127.0.0.1/"]);
    assert_eq!(page, "hello from inside\n");
    let port = good(machine, &["which", "127.0.0.1:18091"]);
    assert!(port.contains("docker:anna/v-web publishes 80/tcp"), "{port}");
    assert!(port.contains("held by rootlesskit (process "), "{port}");
    let ran = on(machine, &["exec", "v-gone", "--", "true"]);
    assert!(ran.stderr.contains("docker:anna/v-gone is not running: Exited (1)"), "{ran:?}");
    // The namespace that her engine lives in is called after what lives there.
    assert!(!good(machine, &["ls"]).lines().any(|l| l.starts_with("exe ")));
}
