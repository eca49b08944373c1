//! The records of a lab, and the line protocol between its holder and those who ask.
//!
//! One request on one line, one answer on one line, both JSON, over the abstract stream socket `@snorkel-lab/NAME`
//! (unix(7)): `{"ask":"list"}` is answered by a [`Lab`], `{"ask":"down"}` by a [`Down`] once all nodes are gone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use snorkel_netns::Pid;

use crate::spec::Kind;

/// What the abstract name of every lab's socket begins with.
pub(crate) const SOCKET_PREFIX: &str = "snorkel-lab/";
/// What the abstract names begin with of those who are to be told when a lab is up or gone ([`snorkel_netns::notify`]).
pub(crate) const WATCH_PREFIX: &str = "snorkel-lab-watch/";
/// The label that every node carries; its value is the lab's name.
pub(crate) const LAB_LABEL: &str = "snorkel.lab";
/// No answer is longer: a thousand nodes take about 250 KB.
pub(crate) const MAX_ANSWER: u64 = 4 << 20;

/// A lab that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    /// Its name.
    #[serde(rename = "lab")]
    pub name: String,
    /// Its nodes in the order of the specification; the last one is the switch.
    pub nodes: Vec<Node>,
}

impl Lab {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The process that holds the lab: the switch's.
    pub fn holder(&self) -> Option<Pid> {
        self.nodes.iter().find(|node| node.kind == Kind::Switch).and_then(|node| node.pid)
    }
}

/// One node of a lab that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, which is its host name too.
    pub name: String,
    /// Its process, as the PID namespace of the holder counts; `None` once it has exited.
    pub pid: Option<Pid>,
    /// What it is there for.
    pub kind: Kind,
    /// Whether it runs.
    pub state: State,
    /// `snorkel.lab` and what the specification gave.
    pub labels: BTreeMap<String, String>,
    /// What it listens on.
    pub ports: Vec<Port>,
    /// Its addresses in the lab's network; those of the namespace's owner if it has none of its own.
    pub addresses: Vec<IpAddr>,
    /// The node whose network namespace it shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
    /// The process in the namespace that it holds besides its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested: Option<Pid>,
}

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its process is there.
    Running,
    /// Its process has ended, or was killed.
    Exited,
}

/// A port that a node listens on, at all its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// What was taken down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// The lab that was.
    #[serde(rename = "lab")]
    pub name: String,
    /// The names of the nodes that ran until then.
    pub ended: Vec<String>,
    /// The names of those that had ended before.
    pub had_exited: Vec<String>,
}

/// A question to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(crate) enum Request {
    /// Who is there?
    List,
    /// Take it all away.
    Down,
}

/// What the holder says to the one who called it up, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Up(Lab),
    Failed(crate::error::Report),
}

/// An answer to a request that is not understood or not allowed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) error: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_what_the_protocol_says() {
        assert_eq!(serde_json::from_str::<Request>(r#"{"ask":"list"}"#).unwrap(), Request::List);
        assert_eq!(serde_json::to_string(&Request::Down).unwrap(), r#"{"ask":"down"}"#);
        assert!(serde_json::from_str::<Request>(r#"{"ask":"dance"}"#).is_err());
    }

    #[test]
    fn a_node_is_written_as_the_protocol_says() {
        let node = Node {
            name: "web".into(),
            pid: Pid::new(123),
            kind: Kind::Web,
            state: State::Running,
            labels: BTreeMap::from([(LAB_LABEL.to_owned(), "lab".to_owned())]),
            ports: vec![Port { port: 80, protocol: "tcp".into() }],
            addresses: vec!["198.19.0.2".parse().unwrap(), "fd88::2".parse().unwrap()],
            shares: None,
            nested: None,
        };
        let lab = Lab { name: "lab".into(), nodes: vec![node] };
        let text = serde_json::to_string(&lab).unwrap();
        assert_eq!(
            text,
            r#"{"lab":"lab","nodes":[{"name":"web","pid":123,"kind":"web","state":"running","#.to_owned()
                + r#""labels":{"snorkel.lab":"lab"},"ports":[{"port":80,"protocol":"tcp"}],"#
                + r#""addresses":["198.19.0.2","fd88::2"]}]}"#
        );
        assert_eq!(serde_json::from_str::<Lab>(&text).unwrap(), lab);
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(text in "\\PC{0,200}", bytes in any::<Vec<u8>>()) {
            let _ = serde_json::from_slice::<Request>(&bytes);
            let _ = serde_json::from_slice::<Lab>(&bytes);
            let _ = serde_json::from_str::<Lab>(&text);
        }
    }
}
