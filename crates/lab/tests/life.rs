//! How labs come up, are found again, and go without a trace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

use common::*;
use rustix::process::{Signal, kill_process};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use snorkel_lab::{Error, Kind, LabSpec, NodeSpec, State, down, find, list, up};
use snorkel_netns::{Pid, Process};

fn kill(pid: Pid) {
    kill_process(rustix::process::Pid::from_raw(pid.get()).unwrap(), Signal::KILL).unwrap();
}

fn client(name: &str) -> UnixStream {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(format!("snorkel-lab/{name}")).unwrap()).unwrap()
}

#[test]
fn a_lab_comes_up_is_found_and_goes_without_a_trace() {
    in_private(|| {
        let name = unique("whole");
        let lab = up(&held(LabSpec::default().named(&name))).unwrap();
        assert_host_untouched();
        let names: Vec<&str> = lab.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["web", "db", "client", "switch"]);
        let web = lab.node("web").unwrap();
        assert_eq!((web.kind, web.state), (Kind::Web, State::Running));
        assert_eq!(web.labels.get("snorkel.lab"), Some(&name));
        let addresses: Vec<String> = web.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["198.19.0.2", "fd88::2"]);
        assert_eq!(list().unwrap(), std::slice::from_ref(&lab));
        assert_eq!(find(&name).unwrap(), lab);

        let spaces = namespaces(&lab);
        // Three nodes have five namespaces each, the switch has one.
        assert_eq!(spaces.names.len(), 16, "{:?}", spaces.names);
        let all = processes(&lab);
        let gone = down(&name).unwrap();
        assert_eq!(gone.ended, names);
        for process in &all {
            wait_for_end(process);
        }
        assert_nothing_left(&name, &spaces);
        assert!(list().unwrap().is_empty());
        assert!(matches!(down(&name), Err(Error::NoSuchLab(_))));
        assert!(matches!(find(&name), Err(Error::NoSuchLab(_))));
    });
}

#[test]
fn a_killed_holder_takes_everything_along() {
    in_private(|| {
        let name = unique("killed");
        let mut spec = held(LabSpec::default().named(&name));
        spec.nodes[0].nested = true;
        let lab = up(&spec).unwrap();
        let (spaces, all) = (namespaces(&lab), processes(&lab));
        assert_eq!(all.len(), 5);
        kill(lab.holder().unwrap());
        for process in &all {
            wait_for_end(process);
        }
        assert_nothing_left(&name, &spaces);
        // The name is free again at once.
        up(&spec).unwrap();
        down(&name).unwrap();
    });
}

#[test]
fn a_second_lab_of_the_same_name_is_refused_and_harms_nothing() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        let error = up(&held(LabSpec::default().named(&lab.name))).unwrap_err();
        assert_eq!(error.to_string(), format!("lab {} is already up", lab.name));
        assert_eq!(find(&lab.name).unwrap(), *lab);
        let other = scoped(LabSpec::default());
        assert_eq!(list().unwrap().len(), 2, "two labs of different names stand side by side");
        drop(other);
        assert_eq!(list().unwrap(), [(*lab).clone()]);
    });
}

#[test]
fn a_killed_node_is_listed_as_exited() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        let web = process(&lab, "web");
        kill(web.pid());
        // It counts as ended as soon as it is a zombie; the record changes when the holder reaps it, and then it is gone
        // from /proc as well.
        while web.path("").exists() {
            std::thread::yield_now();
        }
        // The record is changed under the same lock under which the node is reaped.
        let now = find(&lab.name).unwrap();
        let node = now.node("web").unwrap();
        assert_eq!((node.state, node.pid), (State::Exited, None));
        assert_eq!(now.node("db").unwrap().state, State::Running);
        let gone = down(&lab.name).unwrap();
        assert_eq!(
            (gone.ended, gone.had_exited),
            (vec!["db".to_owned(), "client".to_owned(), "switch".to_owned()], vec!["web".to_owned()])
        );
    });
}

#[test]
fn a_tied_lab_goes_with_the_one_who_called_it_up() {
    in_private(|| {
        use std::process::{Command, Stdio};
        // The caller, played by this test: a holder started with a pipe that is then closed.
        let mut spec = held(LabSpec::default().named(unique("tied")));
        spec.tied = true;
        let mut caller = Command::new(spec.holder_exe.as_ref().unwrap())
            .arg(snorkel_lab::HOLDER_ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = caller.stdin.take().unwrap();
        writeln!(input, "{}", serde_json::to_string(&spec).unwrap()).unwrap();
        let mut answer = String::new();
        BufReader::new(caller.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("{\"up\":"), "{answer}");
        caller.wait().unwrap();
        let lab = find(&spec.name).unwrap();
        let (spaces, all) = (namespaces(&lab), processes(&lab));
        drop(input);
        for process in &all {
            wait_for_end(process);
        }
        assert_nothing_left(&spec.name, &spaces);
    });
}

#[test]
fn slow_and_garbling_clients_keep_nobody_waiting() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        let slow: Vec<UnixStream> = (0..20).map(|_| client(&lab.name)).collect();
        let mut half = client(&lab.name);
        half.write_all(b"{\"ask\":").unwrap();
        for garbage in [&b"\n"[..], b"nonsense\n", b"{\"ask\":\"dance\"}\n", &[0xff; 5000], b"[[[[\n"] {
            let mut garbling = client(&lab.name);
            garbling.write_all(garbage).unwrap();
            let mut answer = String::new();
            BufReader::new(garbling).read_line(&mut answer).unwrap();
            assert!(answer.contains("no request"), "{answer}");
        }
        assert_eq!(find(&lab.name).unwrap(), *lab);
        drop((slow, half));
    });
}

/// Runs `work` as a user without any right; the change is this short-lived thread's own.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let nobody = rustix::process::Uid::from_raw(65534);
        let thread = scope.spawn(move || {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn the_holder_does_not_talk_to_other_users() {
    in_private(|| {
        let lab = scoped(LabSpec::idle(1));
        for error in as_nobody(|| [find(&lab.name).unwrap_err(), down(&lab.name).unwrap_err()]) {
            assert!(matches!(error, Error::Refused { .. }), "{error}");
        }
        assert!(as_nobody(list).unwrap().is_empty());
        assert_eq!(find(&lab.name).unwrap(), *lab);
    });
}

#[test]
fn nobody_is_believed_to_be_a_holder_who_could_lie_to_root() {
    in_private(|| {
        let name = unique("liar");
        let address = SocketAddr::from_abstract_name(format!("snorkel-lab/{name}")).unwrap();
        let _liar = as_nobody(|| UnixListener::bind_addr(&address).unwrap());
        assert!(matches!(find(&name), Err(Error::Stranger { uid: 65534, .. })));
        assert!(list().unwrap().is_empty());
        assert!(matches!(up(&held(LabSpec::idle(1).named(&name))), Err(Error::AlreadyUp(_))));
    });
}

#[test]
fn several_questions_can_be_asked_on_one_connection() {
    in_private(|| {
        let lab = scoped(LabSpec::idle(1));
        let mut stream = client(&lab.name);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..3 {
            stream.write_all(b"{\"ask\":\"list\"}\n").unwrap();
            let mut answer = String::new();
            reader.read_line(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("{{\"lab\":\"{}\",\"nodes\":[", lab.name)), "{answer}");
        }
    });
}

#[test]
fn fifty_idle_nodes_come_and_go() {
    in_private(|| {
        let lab = scoped(LabSpec::idle(50));
        assert_eq!(lab.nodes.len(), 51);
        let nets: BTreeSet<String> =
            lab.nodes.iter().map(|node| proc_link(node.pid.unwrap(), "ns/net")).collect();
        assert_eq!(nets.len(), 51);
        // The last one reaches the first one at once.
        inside(&lab, "n0050", || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("198.19.0.2:9".parse::<std::net::SocketAddr>().unwrap()).unwrap();
            socket.send(b"anybody there?").unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
            // Nobody listens on the port, and the node is there to say so (ICMP).
            assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        });
        let (name, spaces) = (lab.name.clone(), namespaces(&lab));
        drop(lab);
        assert_nothing_left(&name, &spaces);
    });
}

#[test]
fn a_lab_of_the_switch_alone_can_be() {
    in_private(|| {
        let lab = scoped(LabSpec::of(vec![]));
        assert_eq!(lab.nodes.len(), 1);
    });
}

#[test]
fn a_node_that_cannot_serve_fails_the_whole_lab_and_leaves_nothing() {
    in_private(|| {
        let mut spec = held(LabSpec::default().named(unique("twice")));
        let mut second = NodeSpec::new("web2", Kind::Web);
        second.share = Some("web".into());
        spec.nodes.push(second);
        let before = unix_sockets();
        let error = up(&spec).unwrap_err().to_string();
        assert!(error.contains("node web2: cannot listen on [::]:80/tcp"), "{error}");
        assert_eq!(unix_sockets(), before);
        assert_host_untouched();
    });
}

#[test]
fn an_executable_that_is_no_holder_is_an_error() {
    in_private(|| {
        for (exe, why) in
            [("/bin/true", "without an answer"), ("/bin/echo", "not understood"), ("/no/such", "run")]
        {
            let spec = LabSpec { holder_exe: Some(PathBuf::from(exe)), ..LabSpec::default() };
            let error = up(&spec).unwrap_err();
            assert!(matches!(error, Error::Holder { .. }) && error.to_string().contains(why), "{error}");
        }
    });
}

#[test]
fn without_the_capability_the_error_names_it() {
    in_private(|| {
        // The bounding set is the thread's own; who is executed by it has no more than that.
        remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN).unwrap();
        let error = up(&held(LabSpec::default().named(unique("powerless")))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CAP_SYS_ADMIN is missing: it is needed to make the network namespaces of a lab"
        );
    });
}

#[test]
fn processes_are_named_and_hold_nothing_of_the_holder() {
    in_private(|| {
        let lab = scoped(LabSpec::default());
        for node in &lab.nodes {
            let process = Process::open(node.pid.unwrap()).unwrap();
            assert_eq!(process.read("comm").unwrap(), format!("lab:{}\n", node.name));
            assert_eq!(proc_link(process.pid(), "cwd"), "/");
        }
        // The standard three, and the pipe that ends with the holder.
        let client = pid(&lab, "client");
        let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{client}/fd"))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .collect();
        open.sort();
        assert_eq!(&open[..3], ["/dev/null"; 3]);
        assert!(open.len() == 4 && open[3].starts_with("pipe:"), "{open:?}");
    });
}
