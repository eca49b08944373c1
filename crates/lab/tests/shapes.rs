//! The unusual nodes: several links, shared namespaces, macvlan, nested namespaces, strange files; and the image.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be"
)]

mod common;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use common::*;
use snorkel_lab::{Kind, Lab, LabSpec, NodeSpec, ResolvConf};
use snorkel_netns::{Netns, Pid};
use snorkel_rtnl::Socket;

fn lab_with(change: impl FnOnce(&mut LabSpec)) -> snorkel_lab::Scoped {
    let mut spec = LabSpec::default();
    change(&mut spec);
    scoped(spec)
}

fn link_names(lab: &Lab, node: &str) -> Vec<String> {
    let netns = process(lab, node).netns().unwrap();
    let mut socket = Socket::open_in(&netns).unwrap();
    let mut names: Vec<String> = socket.links(None).unwrap().into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

fn can_connect(lab: &Lab, from: &str, to: &str) -> bool {
    inside(lab, from, || TcpStream::connect(to.parse::<SocketAddr>().unwrap()).is_ok())
}

fn etc(lab: &Lab, node: &str, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root/etc/{file}", pid(lab, node)))
}

#[test]
fn the_image_holds_three_files_and_nothing_of_the_host() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        let web = process(&lab, "web");
        let names = |dir: &str| {
            let mut names: Vec<String> = fs::read_dir(web.path("root").join(dir))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["etc", "proc"]);
        assert_eq!(names("etc"), ["hostname", "hosts", "resolv.conf"]);
        let mounts = web.read("mountinfo").unwrap();
        let places: Vec<&str> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
        assert_eq!(places, ["/", "/proc"], "{mounts}");
        assert!(mounts.lines().all(|line| !line.contains("shared:")), "{mounts}");
        // It is the first process of its namespace and sees no other.
        assert!(web.read("status").unwrap().contains("NSpid:\t"));
        let seen: Vec<String> =
            names("proc").into_iter().filter(|name| name.parse::<u32>().is_ok()).collect();
        assert_eq!(seen, ["1"]);
        assert_eq!(fs::read_to_string(etc(&lab, "web", "hostname")).unwrap(), "web\n");
        assert_eq!(
            fs::read_to_string(etc(&lab, "web", "resolv.conf")).unwrap(),
            "nameserver 198.19.0.1\nsearch lab\n"
        );
        let hosts = fs::read_to_string(etc(&lab, "web", "hosts")).unwrap();
        assert!(
            hosts.contains("127.0.0.1\tlocalhost\n") && hosts.contains("198.19.0.2\tweb web.lab\n"),
            "{hosts}"
        );
    });
}

#[test]
fn nodes_that_share_a_network_namespace_share_nothing_else() {
    in_private(|| {
        let lab = lab_with(|spec| {
            let mut side = NodeSpec::new("side", Kind::Db);
            side.share = Some("web".into());
            spec.nodes.insert(0, side);
        });
        let (side, web) = (pid(&lab, "side"), pid(&lab, "web"));
        assert_eq!(proc_link(side, "ns/net"), proc_link(web, "ns/net"));
        for other in ["mnt", "pid", "uts", "ipc"] {
            assert_ne!(proc_link(side, &format!("ns/{other}")), proc_link(web, &format!("ns/{other}")));
        }
        assert_eq!(lab.node("side").unwrap().addresses, lab.node("web").unwrap().addresses);
        assert_eq!(lab.node("side").unwrap().shares.as_deref(), Some("web"));
        assert!(can_connect(&lab, "client", "198.19.0.2:80"), "web answers");
        assert!(can_connect(&lab, "client", "198.19.0.2:7"), "side answers at the same address");
        assert!(can_connect(&lab, "side", "127.0.0.1:80"), "they share the loopback");
    });
}

#[test]
fn further_links_lie_on_the_same_bridge() {
    in_private(|| {
        let lab = lab_with(|spec| spec.nodes[1].links = 3);
        assert_eq!(link_names(&lab, "db"), ["eth0", "eth1", "eth2", "lo"]);
        assert_eq!(
            link_names(&lab, "switch"),
            ["lab0", "lo", "vethclient", "vethdb", "vethdb.1", "vethdb.2", "vethweb"]
        );
        assert_eq!(lab.node("db").unwrap().addresses.len(), 6);
        for address in ["198.19.0.3:7", "198.19.0.4:7", "198.19.0.5:7", "[fd88::5]:7"] {
            assert!(can_connect(&lab, "client", address), "{address}");
        }
    });
}

#[test]
fn a_node_without_links_has_the_loopback_alone() {
    in_private(|| {
        let lab = lab_with(|spec| spec.nodes[0].links = 0);
        assert_eq!(link_names(&lab, "web"), ["lo"]);
        assert!(lab.node("web").unwrap().addresses.is_empty());
        assert!(can_connect(&lab, "web", "127.0.0.1:80"));
    });
}

#[test]
fn macvlans_sit_on_an_uplink_and_reach_everybody() {
    in_private(|| {
        let lab = lab_with(|spec| {
            spec.nodes[0].macvlan = true;
            spec.nodes.push(NodeSpec { macvlan: true, ..NodeSpec::new("mac", Kind::Idle) });
        });
        assert_eq!(link_names(&lab, "web"), ["eth0", "lo"]);
        assert_eq!(
            link_names(&lab, "switch"),
            ["lab0", "lo", "uplink", "vethclient", "vethdb", "vethuplink"]
        );
        let netns = process(&lab, "web").netns().unwrap();
        let links = Socket::open_in(&netns).unwrap().links(None).unwrap();
        let eth0 = links.iter().find(|link| link.name == "eth0").unwrap();
        assert_eq!(eth0.kind.as_deref(), Some("macvlan"));
        for from in ["client", "mac", "switch"] {
            assert!(can_connect(&lab, from, "198.19.0.2:80"), "{from}");
            assert!(can_connect(&lab, from, "[fd88::2]:80"), "{from}");
        }
        assert!(can_connect(&lab, "web", "198.19.0.3:7"));
    });
}

#[test]
fn a_nested_namespace_hangs_on_its_node() {
    in_private(|| {
        let lab = lab_with(|spec| spec.nodes[1].nested = true);
        let db = lab.node("db").unwrap();
        let nested = db.nested.expect("the nested process is known");
        assert_ne!(proc_link(nested, "ns/net"), proc_link(db.pid.unwrap(), "ns/net"));
        assert_eq!(fs::read_to_string(format!("/proc/{nested}/comm")).unwrap(), "lab:db+\n");
        assert_eq!(link_names(&lab, "db"), ["eth0", "lo", "veth0"]);
        let beyond = Netns::open(Path::new(&format!("/proc/{nested}/ns/net"))).unwrap();
        beyond
            .run(|| {
                let server: SocketAddr = "10.89.0.1:7".parse().unwrap();
                let stream = TcpStream::connect(server).unwrap();
                assert_eq!(stream.local_addr().unwrap().ip(), "10.89.0.2".parse::<IpAddr>().unwrap());
            })
            .unwrap();
        assert!(lab.node("web").unwrap().nested.is_none());
        assert!(Pid::new(nested.get()).is_some());
    });
}

#[test]
fn strange_files_lie_where_the_resolver_looks() {
    in_private(|| {
        let strange = [
            ("fifo", ResolvConf::Fifo),
            ("device", ResolvConf::Device),
            ("out", ResolvConf::SymlinkOut("../../../../etc/shadow".into())),
            ("huge", ResolvConf::Huge(1 << 30)),
            ("text", ResolvConf::Text("nameserver 192.0.2.1\n".into())),
            ("missing", ResolvConf::Missing),
        ];
        let nodes = strange
            .into_iter()
            .map(|(name, file)| NodeSpec { resolv_conf: Some(file), ..NodeSpec::new(name, Kind::Idle) });
        let lab = scoped(LabSpec::of(nodes.collect()));
        let look = |node: &str| fs::symlink_metadata(etc(&lab, node, "resolv.conf"));
        assert!(look("fifo").unwrap().file_type().is_fifo());
        assert!(look("device").unwrap().file_type().is_char_device());
        assert!(look("out").unwrap().is_symlink());
        assert_eq!(look("huge").unwrap().len(), 1 << 30);
        assert_eq!(look("missing").unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert_eq!(fs::read_to_string(etc(&lab, "text", "resolv.conf")).unwrap(), "nameserver 192.0.2.1\n");
        // The device is a live one: who opens it without care reads without end.
        let mut byte = [1];
        std::io::Read::read_exact(
            &mut fs::File::open(etc(&lab, "device", "resolv.conf")).unwrap(),
            &mut byte,
        )
        .unwrap();
        assert_eq!(byte, [0]);
        assert_eq!(
            fs::read_link(etc(&lab, "out", "resolv.conf")).unwrap(),
            Path::new("../../../../etc/shadow")
        );
    });
}
