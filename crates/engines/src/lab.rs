//! Labs: throw-away containers made of namespaces alone. Their holder listens on the abstract socket
//! `@snorkel-lab/NAME` and answers one line of JSON with one line of JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use snorkel_netns::Pid;

use crate::asking::Sink;
use crate::fault::{Fault, Result, escaped};
use crate::http::null_is_default as null;
use crate::unixsockets::{self, Conversation, is_timeout};
use crate::{Container, Engine, PublishedPort, State, users};

const PREFIX: &[u8] = b"snorkel-lab/";
const LONGEST: usize = 4 << 20;
/// The lab that is meant where none is named.
const DEFAULT: &str = "lab";

/// What a lab says of itself.
#[derive(Debug, Deserialize)]
struct Lab {
    #[serde(default, deserialize_with = "null")]
    lab: String,
    #[serde(default, deserialize_with = "null")]
    nodes: Vec<Node>,
    switch: Option<Switch>,
    /// Why it tells nothing.
    #[serde(default, deserialize_with = "null")]
    error: String,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    #[serde(default, deserialize_with = "null")]
    pid: i64,
    /// `running` or `exited`.
    #[serde(default)]
    state: Option<String>,
    #[serde(default, deserialize_with = "null")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<Port>,
}

/// What is not said to be otherwise runs.
fn running() -> String {
    "running".into()
}

#[derive(Debug, Deserialize)]
struct Switch {
    #[serde(default, deserialize_with = "null")]
    pid: i64,
}

/// A port as it is published elsewhere, or anything else.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Port {
    Published(PublishedPort),
    /// What listens inside and is published nowhere.
    Other(serde::de::IgnoredAny),
}

/// The members of every lab. One that tells this user nothing is an error in the end: what was asked for may be there.
pub(crate) fn list(sink: &Sink, timeout: Duration) -> Result<()> {
    let mut barred = None;
    let deadline = Instant::now() + timeout;
    let sockets = Path::new("/proc/net/unix");
    for socket in unixsockets::listening(sockets)? {
        let Some(name) = socket.strip_prefix(PREFIX) else { continue };
        let name = String::from_utf8_lossy(name).into_owned();
        match ask(&socket, deadline, timeout) {
            Ok((line, holder)) => match parse(&name, &line) {
                Ok(members) => sink.extend(members.into_iter().map(|c| Container { keeper: holder, ..c })),
                Err(fault) if fault.is_permission() => barred = Some(fault),
                Err(fault) => sink.warn(fault),
            },
            // The lab was taken down in the meantime.
            Err(Fault::Connect { .. }) if !unixsockets::still_listens(sockets, &socket) => {}
            Err(fault) => sink.warn(fault),
        }
    }
    barred.map_or(Ok(()), Err)
}

/// The line that it answers, and its process.
fn ask(socket: &[u8], deadline: Instant, timeout: Duration) -> Result<(Vec<u8>, Option<Pid>)> {
    let shown = escaped(&String::from_utf8_lossy(socket));
    let failed = |source: std::io::Error| {
        if is_timeout(&source) {
            Fault::Silent { who: format!("the lab @{shown}"), time: timeout }
        } else {
            Fault::Connect { path: format!("@{shown}").into(), source }
        }
    };
    let mut lab = Conversation::open(socket, deadline).map_err(failed)?;
    if lab.uid != 0 && lab.uid != users::own_uid() {
        return Err(Fault::Foreign(format!(
            "the lab @{shown} belongs to user {}; it is not asked",
            users::name_of(lab.uid)
        )));
    }
    let mut stream = lab.stream().map_err(failed)?;
    stream.write_all(b"{\"ask\":\"list\"}\n").map_err(failed)?;
    let line = lab.read_line(LONGEST).map_err(failed)?;
    let line = line.ok_or(Fault::TooLong { request: format!("lab @{shown}"), limit: LONGEST })?;
    Ok((line, lab.pid))
}

/// Reads a lab's answer. `socket_name` is what the lab is called by its socket, which nobody can forge for another.
pub(crate) fn parse(socket_name: &str, line: &[u8]) -> Result<Vec<Container>> {
    let what = format!("lab '{}'", escaped(socket_name));
    let lab: Lab = crate::http::json(&what, line)?;
    if !lab.error.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::PermissionDenied, escaped(&lab.error));
        return Err(Fault::Read { path: format!("@snorkel-lab/{}", escaped(socket_name)).into(), source });
    }
    if !lab.lab.is_empty() && lab.lab != socket_name {
        let why = format!("it calls itself '{}'", escaped(&lab.lab));
        return Err(Fault::Garbage { what: format!("the answer of {what}"), why });
    }
    let scope = (socket_name != DEFAULT).then(|| socket_name.to_owned());
    let member = |name: String, pid: i64, state: String| {
        let mut container = Container {
            scope: scope.clone(),
            names: vec![name.clone()],
            state: State::of_word(&state),
            status: state,
            ..Container::new(Engine::Lab, name)
        };
        container.set_pid(pid);
        container
    };
    let named_switch = lab.nodes.iter().any(|n| n.name == "switch");
    let mut members: Vec<Container> = lab
        .nodes
        .into_iter()
        .map(|node| Container {
            labels: node.labels,
            ports: node
                .ports
                .into_iter()
                .filter_map(|p| match p {
                    Port::Published(port) => Some(port),
                    Port::Other(_) => None,
                })
                .collect(),
            ..member(node.name, node.pid, node.state.unwrap_or_else(running))
        })
        .collect();
    if let Some(switch) = lab.switch.filter(|_| !named_switch) {
        members.push(member("switch".into(), switch.pid, running()));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = r#"{"lab":"lab","nodes":[{"name":"web","pid":123,"labels":{"a":"b"},"ports":[80]},{"name":"db","pid":124}],"switch":{"pid":125}}"#;

    #[test]
    fn a_lab_that_ends_while_it_is_asked_is_no_fault() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("snorkel-lab/ends-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let ends = std::thread::spawn(move || {
            let asked = listener.accept();
            drop(listener);
            drop(asked);
        });
        let sink = Sink::default();
        list(&sink, Duration::from_secs(60)).unwrap();
        ends.join().unwrap();
        let faults = sink.take().faults;
        assert!(!faults.iter().any(|f| f.to_string().contains(&name)), "{faults:?}");
    }

    #[test]
    fn the_members_of_a_lab_and_its_switch_are_containers() {
        let members = parse("lab", ANSWER.as_bytes()).unwrap();
        let names: Vec<String> = members.iter().map(Container::qualified).collect();
        assert_eq!(names, ["lab:web", "lab:db", "lab:switch"]);
        assert_eq!(members[0].pid.unwrap().get(), 123);
        assert_eq!(members[0].labels["a"], "b");
    }

    #[test]
    fn a_member_whose_process_has_ended_does_not_run() {
        let answer = ANSWER.replace("\"pid\":124", "\"pid\":null,\"state\":\"exited\"");
        let members = parse("lab", answer.as_bytes()).unwrap();
        let seen: Vec<(State, &str, bool)> = members
            .iter()
            .map(|member| (member.state, member.status.as_str(), member.pid.is_some()))
            .collect();
        let running = (State::Running, "running", true);
        assert_eq!(seen, [running, (State::Stopped, "exited", false), running]);
    }

    #[test]
    fn another_labs_members_carry_its_name() {
        let members = parse("two", ANSWER.replace("\"lab\":\"lab\"", "\"lab\":\"two\"").as_bytes()).unwrap();
        assert_eq!(members[0].qualified(), "lab:two/web");
        assert!(parse("two", ANSWER.as_bytes()).is_err());
    }

    #[test]
    fn a_lab_that_refuses_is_not_an_empty_one() {
        let fault = parse("lab", b"{\"error\":\"this lab belongs to another user\"}").unwrap_err();
        assert!(fault.is_permission() && fault.to_string().contains("another user"), "{fault}");
    }

    proptest! {
        #[test]
        fn mutated_answers_do_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = ANSWER.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = parse("lab", &bytes);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse("lab", &bytes);
        }
    }
}
