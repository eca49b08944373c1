//! Addresses and ports over snapshots that are made up.

use snorkel_engines::{Container, Engine, PublishedPort};

use super::*;
use crate::snapshot::{Address, Inmate, Listener, Target};

const HOST: NetnsId = NetnsId { inode: 1, cookie: 1 };
const WEB: NetnsId = NetnsId { inode: 2, cookie: 2 };

fn link(index: u32, name: &str, addresses: &[&str]) -> Link {
    Link {
        index: IfIndex::new(index).unwrap(),
        name: name.into(),
        alt_names: Vec::new(),
        kind: None,
        loopback: name == "lo",
        up: true,
        carrier: true,
        state: "up".into(),
        mtu: 1500,
        mac: None,
        addresses: addresses.iter().map(|a| Address { address: a.parse().unwrap(), prefix: 8 }).collect(),
        master: None,
        peer: None,
        lower: None,
    }
}

fn namespace(id: NetnsId, address: &str, listeners: Vec<Listener>) -> Namespace {
    Namespace {
        id,
        host: id == HOST,
        paths: Vec::new(),
        pid: None,
        links: vec![link(1, "lo", &["127.0.0.1", "::1"]), link(2, "eth0", &[address])],
        listeners,
        error: None,
    }
}

fn listener(bound: &str, pid: i32, command: &str) -> Listener {
    let bound: SocketAddr = bound.parse().unwrap();
    Listener {
        protocol: "tcp".into(),
        address: bound.ip(),
        port: bound.port(),
        v6_only: false,
        pid: Pid::new(pid),
        command: Some(command.into()),
    }
}

/// A host with these sockets, and a container `docker:web` whose port 80 is published at these addresses.
fn snapshot(listeners: Vec<Listener>, published: &[&str]) -> Snapshot {
    let mut container = Container::new(Engine::Docker, "f00d");
    container.names.push("web".into());
    container.ports = published
        .iter()
        .map(|at| at.parse().unwrap())
        .map(|at: SocketAddr| PublishedPort {
            host_ip: Some(at.ip()),
            host_port: at.port(),
            container_port: 80,
            protocol: Default::default(),
        })
        .collect();
    let web = vec![listener("0.0.0.0:80", 7, "httpd"), listener("127.0.0.1:9000", 7, "httpd")];
    Snapshot {
        targets: vec![Target {
            name: "docker:web".into(),
            short: "web".into(),
            host: false,
            netns: Some(WEB),
            container,
        }],
        namespaces: vec![namespace(HOST, "192.0.2.1", listeners), namespace(WEB, "172.17.0.2", web)],
        ..Snapshot::default()
    }
}

/// What is found, as kind, owners and note.
fn ask(snapshot: &Snapshot, thing: &str) -> Vec<String> {
    let found = which(snapshot, &thing.parse().unwrap()).unwrap_or_default();
    let line = |f: &Finding| {
        format!("{} {} {}", f.found_as, f.targets.join(","), f.note.as_deref().unwrap_or_default())
    };
    found.iter().map(|f| line(f).trim().to_owned()).collect()
}

#[test]
fn any_process_of_a_container_leads_to_it_and_one_of_the_host_to_the_host() {
    let mut snapshot = snapshot(vec![], &[]);
    let place = |pid, netns| Inmate { pid: Pid::new(pid).unwrap(), netns };
    snapshot.processes = vec![place(4711, WEB), place(4712, HOST)];
    assert_eq!(ask(&snapshot, "4711"), ["process docker:web"]);
    assert_eq!(ask(&snapshot, "4712"), ["process"]);
    assert_eq!(ask(&snapshot, "4713"), Vec::<String>::new());
}

#[test]
fn a_published_port_is_one_answer_with_the_engines_proxy_in_it() {
    let mut six = listener("[::]:8080", 12, "docker-proxy");
    six.v6_only = true;
    let sockets = vec![listener("0.0.0.0:8080", 11, "docker-proxy"), six];
    let snapshot = snapshot(sockets, &["0.0.0.0:8080", "[::]:8080"]);
    let says = |pid| {
        format!(
            "published port docker:web docker:web publishes 80/tcp as port 8080 of the host, held by docker-proxy \
             (process {pid})"
        )
    };
    for thing in ["127.0.0.1:8080", "192.0.2.1:8080", "0.0.0.0:8080"] {
        assert_eq!(ask(&snapshot, thing), [says(11)], "{thing}");
    }
    for thing in ["[::1]:8080", "[::]:8080", "*:8080"] {
        assert_eq!(ask(&snapshot, thing), [says(12)], "{thing}");
    }
}

#[test]
fn another_process_on_a_published_port_is_still_named() {
    let snapshot = snapshot(vec![listener("0.0.0.0:8080", 11, "nginx")], &["0.0.0.0:8080"]);
    assert_eq!(
        ask(&snapshot, "127.0.0.1:8080"),
        [
            "published port docker:web docker:web publishes 80/tcp as port 8080 of the host",
            "listener  0.0.0.0:8080/tcp is listened on by process 11 (nginx)"
        ]
    );
}

#[test]
fn a_socket_takes_ipv4_on_all_of_ipv6_unless_it_says_otherwise_or_another_has_it() {
    let mut only = listener("[::]:53", 11, "six");
    only.v6_only = true;
    assert_eq!(ask(&snapshot(vec![only], &[]), "127.0.0.1:53"), Vec::<String>::new());
    let both = listener("[::]:53", 12, "both");
    let found = ask(&snapshot(vec![both.clone()], &[]), "127.0.0.1:53");
    assert_eq!(found, ["listener  [::]:53/tcp is listened on by process 12 (both)"]);
    let four = listener("0.0.0.0:53", 13, "four");
    let found = ask(&snapshot(vec![both, four], &[]), "127.0.0.1:53");
    assert_eq!(found, ["listener  0.0.0.0:53/tcp is listened on by process 13 (four)"]);
}

#[test]
fn an_address_of_ipv4_in_ipv6_is_the_one_of_ipv4() {
    let found = ask(&snapshot(vec![listener("[::ffff:127.0.0.1]:80", 11, "java")], &[]), "127.0.0.1:80");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn addresses_that_every_namespace_has_mean_the_hosts() {
    let snapshot = snapshot(vec![], &[]);
    for thing in ["127.0.0.1", "::1"] {
        let found = which(&snapshot, &thing.parse().unwrap()).unwrap();
        assert_eq!(found.iter().map(|f| f.netns).collect::<Vec<_>>(), [HOST], "{thing}");
    }
    for thing in ["127.0.0.1:9000", "0.0.0.0:80"] {
        assert_eq!(ask(&snapshot, thing), Vec::<String>::new(), "{thing}");
    }
    assert_eq!(ask(&snapshot, "172.17.0.2:80").len(), 1);
}
