//! `snorkel ls` and `snorkel which` over labs of every shape. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Host, LONG, end_of, good, lab, run, snorkel, target};
use serde_json::Value;
use snorkel_lab::{Kind, LabSpec, NodeSpec, Scoped};
use snorkel_netns::Netns;

#[track_caller]
fn json<const N: usize>(words: [&str; N]) -> Value {
    serde_json::from_str(&good(words)).expect("it is JSON")
}

/// The rows of the table for one target, as words.
fn rows(lab: &Scoped, node: &str, wide: bool) -> Vec<Vec<String>> {
    let name = target(lab, node);
    let words: &[&str] = if wide { &["ls", "--wide", &name] } else { &["ls", &name] };
    good(words).lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Every veth of the snapshot: its peer, asked for its own peer, must be it again; and `which` must say the same.
#[track_caller]
fn assert_every_veth_agrees(snapshot: &Value) {
    let namespaces = snapshot["namespaces"].as_array().unwrap();
    let mut seen = 0;
    for namespace in namespaces {
        for link in namespace["links"].as_array().unwrap() {
            if link["peer"].is_null() {
                continue;
            }
            let there =
                namespaces.iter().find(|n| n["id"] == link["peer"]["netns"]).expect("the peer's namespace");
            let links = there["links"].as_array().unwrap();
            let peer = links.iter().find(|l| l["index"] == link["peer"]["index"]).expect("the peer's link");
            assert_eq!(peer["peer"]["netns"], namespace["id"]);
            assert_eq!(peer["peer"]["index"], link["index"]);
            assert_eq!(peer["peer"]["name"], link["name"]);
            seen += 1;
        }
    }
    assert!(seen > 0, "there was no veth at all");
}

#[test]
fn containers_with_the_same_index_are_told_apart() {
    let lab = lab(LabSpec::idle(20));
    let snapshot = json(["ls", "--json", "--engine", "lab"]);
    assert_every_veth_agrees(&snapshot);
    // All of their eth0 have one index; an index alone proves nothing.
    let indexes: BTreeSet<u64> = (1..=20)
        .map(|n| {
            let name = target(&lab, &format!("n{n:04}"));
            let found =
                snapshot["targets"].as_array().unwrap().iter().find(|t| t["name"] == name.as_str()).unwrap();
            let namespaces = snapshot["namespaces"].as_array().unwrap();
            let namespace = namespaces.iter().find(|n| n["id"] == found["netns"]).unwrap();
            let eth0 = namespace["links"].as_array().unwrap().iter().find(|l| l["name"] == "eth0").unwrap();
            assert_eq!(eth0["peer"]["name"], format!("vethn{n:04}"));
            assert_eq!(eth0["peer"]["bridge"]["name"], "lab0");
            eth0["index"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(indexes.len(), 1, "the lab gives all of them the same index");
    for n in [1, 7, 20] {
        let node = target(&lab, &format!("n{n:04}"));
        let switch = target(&lab, "switch");
        let found = json(["which", "--json", &format!("{switch}/vethn{n:04}")]);
        assert_eq!(found["things"][0]["found"][0]["targets"], serde_json::json!([node]));
    }
}

#[test]
fn several_links_are_several_rows_each_with_its_own_peer() {
    let mut node = NodeSpec::new("many", Kind::Idle);
    node.links = 3;
    let lab = lab(LabSpec::of(vec![node]));
    let rows = rows(&lab, "many", false);
    assert_eq!(rows.len(), 3, "{rows:?}");
    // The first row has the target's columns before it.
    assert_eq!(rows[0][4], "eth0");
    assert_eq!((rows[1][0].as_str(), rows[2][0].as_str()), ("eth1", "eth2"));
    let peers: BTreeSet<&str> =
        [&rows[0][6], &rows[1][2], &rows[2][2]].into_iter().map(String::as_str).collect();
    assert_eq!(peers.len(), 3, "{rows:?}");
}

#[test]
fn a_shared_namespace_is_one_with_many_targets() {
    let mut guest = NodeSpec::new("sidecar", Kind::Idle);
    guest.share = Some("app".into());
    let lab = lab(LabSpec::of(vec![NodeSpec::new("app", Kind::Idle), guest]));
    let (app, sidecar) = (target(&lab, "app"), target(&lab, "sidecar"));
    let snapshot = json(["ls", "--json", &app, &sidecar]);
    let targets = snapshot["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0]["netns"], targets[1]["netns"]);
    let table = good(["ls", &app, &sidecar]);
    assert_eq!((table.matches("eth0").count(), table.matches("(shared)").count()), (1, 1), "{table}");
    let found = json(["which", "--json", &targets[0]["netns"]["inode"].to_string()]);
    assert_eq!(found["things"][0]["found"][0]["targets"], serde_json::json!([app, sidecar]));
}

#[test]
fn a_macvlan_names_the_link_below_it() {
    let mut node = NodeSpec::new("mac", Kind::Idle);
    node.macvlan = true;
    let lab = lab(LabSpec::of(vec![node]));
    let rows = rows(&lab, "mac", true);
    let row = rows
        .iter()
        .find(|row| row.iter().any(|word| word == "macvlan"))
        .unwrap_or_else(|| panic!("{rows:?}"));
    let prefix = format!("{}/", target(&lab, "switch"));
    assert!(row.iter().any(|word| word.starts_with(&prefix)), "{row:?}");
    let found = json(["which", "--json", "--", &address_of(&lab, "mac")]);
    let found = &found["things"][0]["found"][0];
    assert_eq!(found["targets"], serde_json::json!([target(&lab, "mac")]));
    assert_eq!(found["outside"]["of"], target(&lab, "switch"));
}

/// An address of a node, with the namespace of the lab being one of many: addresses repeat between labs.
fn address_of(lab: &Scoped, node: &str) -> String {
    let pid = lab.node(node).unwrap().pid.unwrap();
    let snapshot = json(["ls", "--json", &target(lab, node)]);
    let found = snapshot["targets"].as_array().unwrap().iter().find(|t| t["pid"] == pid.get()).unwrap();
    let namespaces = snapshot["namespaces"].as_array().unwrap();
    let namespace = namespaces.iter().find(|n| n["id"] == found["netns"]).unwrap();
    let eth0 = namespace["links"].as_array().unwrap().iter().find(|l| l["name"] == "eth0").unwrap();
    eth0["mac"].as_str().unwrap().to_owned()
}

#[test]
fn a_namespace_inside_a_container_is_found_and_joined() {
    let mut node = NodeSpec::new("outer", Kind::Idle);
    node.nested = true;
    let lab = lab(LabSpec::of(vec![node]));
    let inner = lab.node("outer").unwrap().nested.expect("the nested namespace has a process").to_string();
    let snapshot = json(["ls", "--json"]);
    assert_every_veth_agrees(&snapshot);
    let found = json(["which", "--json", &inner]);
    let found = &found["things"][0]["found"][0];
    assert_eq!(found["found_as"], "process");
    assert_eq!(found["targets"], serde_json::json!([format!("pid:{inner}")]));
    assert_eq!(found["outside"]["of"], target(&lab, "outer"));
}

#[test]
fn which_answers_for_every_kind_of_thing() {
    let lab = lab(LabSpec::default());
    let (web, pid) = (target(&lab, "web"), lab.node("web").unwrap().pid.unwrap());
    let inode = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let inode = inode.to_str().unwrap();
    let mac = address_of(&lab, "web");
    for (thing, found_as) in [
        (inode.to_owned(), "namespace"),
        (inode.trim_start_matches("net:[").trim_end_matches(']').to_owned(), "namespace"),
        (pid.to_string(), "process"),
        (mac.clone(), "hardware address"),
        (mac.to_uppercase(), "hardware address"),
        (format!("{web}/eth0"), "link"),
        (format!("{}/vethweb", target(&lab, "switch")), "link"),
    ] {
        let found = json(["which", "--json", &thing]);
        let found =
            found["things"][0]["found"].as_array().unwrap().iter().find(|f| f["found_as"] == found_as);
        let found = found.unwrap_or_else(|| panic!("{thing} is no {found_as}"));
        assert_eq!(found["targets"], serde_json::json!([web]), "{thing}");
        assert_eq!(found["inside"]["name"], "eth0", "{thing}");
        assert_eq!(found["outside"]["name"], "vethweb", "{thing}");
        assert_eq!(found["bridge"]["name"], "lab0", "{thing}");
    }
    // Addresses repeat between labs; the answer names all that have it, this one among them.
    let found = json(["which", "--json", "198.19.0.2", "fd88::2", "198.19.0.2/16"]);
    for thing in found["things"].as_array().unwrap() {
        let mut owners =
            thing["found"].as_array().unwrap().iter().flat_map(|f| f["targets"].as_array().unwrap());
        assert!(owners.any(|owner| *owner == web.as_str()), "{thing}");
    }
    let found = json(["which", "--json", "198.19.0.2:80", "[fd88::2]:80"]);
    for thing in found["things"].as_array().unwrap() {
        let mine =
            thing["found"].as_array().unwrap().iter().find(|f| f["targets"] == serde_json::json!([web]));
        let note = mine.unwrap_or_else(|| panic!("{thing}"))["note"].as_str().unwrap();
        assert!(note.contains(&format!("by process {pid}")), "{note}");
    }
}

#[test]
fn a_process_is_found_also_if_no_engine_names_it() {
    let lab = lab(LabSpec::default());
    let web = target(&lab, "web");
    let words = ["exec", &web, "--", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut child = snorkel(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let ran = run(["which", "--json", &child.id().to_string(), &std::process::id().to_string()]);
    child.kill().unwrap();
    child.wait().unwrap();
    let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let process = |at: usize| {
        let found = found["things"][at]["found"].as_array().unwrap();
        found.iter().find(|f| f["found_as"] == "process").unwrap_or_else(|| panic!("{found:?}")).clone()
    };
    assert_eq!(process(0)["targets"], serde_json::json!([web]));
    assert_eq!(process(0)["inside"]["name"], "eth0");
    assert_eq!(
        (process(1)["host"].clone(), process(1)["targets"].clone()),
        (true.into(), serde_json::json!([]))
    );
}

#[test]
fn what_is_nothing_is_said_to_be_nothing_and_something_alike_is_named() {
    let lab = lab(LabSpec::default());
    let ran = run(["which", "vethweeb"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.contains("nothing here is 'vethweeb'") && ran.stderr.contains("did you mean vethweb"),
        "{ran:?}"
    );
    let web = target(&lab, "web");
    let ran = run(["which", &web]);
    assert!(ran.status == 1 && ran.stderr.contains(&format!("try: snorkel ls {web}")), "{ran:?}");
    let ran = run(["which", "x"]);
    assert!(!ran.stderr.contains("did you mean"), "{ran:?}");
    let ran = run(["which", "203.0.113.77", &format!("{}/eth0", target(&lab, "web"))]);
    assert_eq!(ran.status, 1, "one of two was not found");
    assert!(ran.stdout.contains("eth0") && ran.stderr.contains("203.0.113.77"), "{ran:?}");
}

#[test]
fn reading_leaves_no_trace() {
    let _lab = lab(LabSpec::idle(5));
    let host = Host::now();
    // `ip netns list-id` shows the numbers that a namespace has for others; ls must give it none.
    let ids = || std::process::Command::new("ip").args(["netns", "list-id"]).output().unwrap().stdout;
    let before = ids();
    good(["ls"]);
    good(["which", "lo"]);
    assert_eq!(String::from_utf8_lossy(&ids()), String::from_utf8_lossy(&before));
    host.assert_unchanged();
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let _lab = lab(LabSpec::idle(3));
    for words in [&["ls"][..], &["ls", "--json"], &["which", "lo"], &["doctor"], &["--help"], &["man"]] {
        let mut child = snorkel(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panic") && !stderr.contains("roken pipe"), "{words:?}: {stderr}");
    }
}

#[test]
fn a_watch_of_what_is_there_and_what_is_not_shows_the_one_and_tells_of_the_other() {
    let lab = lab(LabSpec::default());
    let web = target(&lab, "web");
    let mut child = snorkel(["ls", "--watch", &web, "no-such"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let block: Vec<String> = shown.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(block.iter().any(|line| line.contains("eth0")), "{block:?}");
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("no target 'no-such'")), "it is told of what is not there");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_watch_ends_with_its_reader_though_nothing_changes() {
    let mut child =
        snorkel(["ls", "--watch", "--json", "--engine", "lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let status = end_of(&mut child).expect("it ends");
    // As if SIGPIPE had ended it.
    assert_eq!(status.code(), Some(141));
}

/// A watch that has shown what there is. It is killed in the end.
struct Watch {
    child: std::process::Child,
    seen: std::sync::mpsc::Receiver<String>,
}

impl Watch {
    fn of(engines: &[&str]) -> Watch {
        let words = [&["ls", "--watch", "--json"], engines].concat();
        let mut child = snorkel(words).stdout(Stdio::piped()).spawn().unwrap();
        let looks = BufReader::new(child.stdout.take().unwrap()).lines();
        let (look, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || looks.map_while(Result::ok).try_for_each(|line| look.send(line)));
        let watch = Watch { child, seen };
        watch.until(|_| true);
        watch
    }

    /// Waits until it shows what is wanted.
    fn until(&self, wanted: impl Fn(&str) -> bool) {
        while !wanted(&self.seen.recv_timeout(LONG).expect("the watch goes on, and shows what has changed")) {
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself; a test that waits for it has failed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_shows_what_comes_and_goes() {
    let name = format!("watched-{}", std::process::id());
    let watch = Watch::of(&["--engine", "lab", "--engine", "pid"]);
    let lab = lab(LabSpec { name, ..LabSpec::default() });
    let web = format!("\"name\":\"{}\"", target(&lab, "web"));
    watch.until(|line| line.contains(&web));
    drop(lab);
    watch.until(|line| !line.contains(&web));
}

#[test]
fn a_watch_shows_labs_that_come_and_go_however_they_end() {
    // Where there is no other lab, and nobody else's link.
    Netns::private().unwrap().run(labs_come_and_go).unwrap();
}

fn labs_come_and_go() {
    let watch = Watch::of(&["--engine", "lab"]);
    for killed in [false, true, false] {
        let lab = lab(LabSpec::default());
        let node = |name: &str| format!("\"name\":\"{}\"", target(&lab, name));
        watch.until(|line| line.contains(&node("web")) && line.contains(&node("switch")));
        let web = rustix::process::Pid::from_raw(lab.node("web").unwrap().pid.unwrap().get()).unwrap();
        rustix::process::kill_process(web, rustix::process::Signal::KILL).unwrap();
        watch.until(|line| !line.contains(&node("web")) && line.contains(&node("switch")));
        if killed {
            let holder = rustix::process::Pid::from_raw(lab.holder().unwrap().get()).unwrap();
            rustix::process::kill_process(holder, rustix::process::Signal::KILL).unwrap();
        }
        let name = lab.name.clone();
        drop(lab);
        watch.until(|line| !line.contains(&name));
    }
}
