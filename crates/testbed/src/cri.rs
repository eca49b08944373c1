//! The Container Runtime Interface of the machine's containerd, spoken as a kubelet speaks it.
//!
//! gRPC is one POST a call (grpc, `PROTOCOL-HTTP2.md`), which curl makes; the messages are written out by hand with the
//! field numbers of kubernetes/cri-api, `pkg/apis/runtime/v1/api.proto`.

use std::io::Write;
use std::process::Stdio;

use crate::{Image, Machine};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// The machine's containerd as a kubelet sees it: pods with sandboxes, and containers in them.
#[derive(Clone, Copy, Debug)]
pub struct Cri<'m> {
    machine: &'m Machine,
}

/// A pod that runs: its sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The sandbox's id: 64 hexadecimal digits.
    pub id: String,
    config: Vec<u8>,
}

impl<'m> Cri<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine) -> Cri<'m> {
        // The sandboxes' own image.
        machine.containerd().load("k8s.io", Image::Bare);
        Cri { machine }
    }

    /// RunPodSandbox: a pod with a veth on `cni0`, or with `host_network` in the machine's network. It has none of the
    /// labels that a kubelet adds.
    #[track_caller]
    pub fn run_pod(&self, namespace: &str, name: &str, host_network: bool) -> Sandbox {
        let metadata = [text(1, name), text(2, &format!("uid-{name}")), text(3, namespace)].concat();
        // NamespaceMode: POD is 0, NODE is 2.
        let network = if host_network { number(1, 2) } else { Vec::new() };
        let linux = field(8, &field(2, &field(1, &network)));
        // In the machine's UTS namespace it may have no host name of its own.
        let hostname = if host_network { Vec::new() } else { text(2, name) };
        let config = [field(1, &metadata), hostname, linux].concat();
        Sandbox { id: self.call("RunPodSandbox", &field(1, &config)), config }
    }

    /// CreateContainer and StartContainer; gives the container's id.
    #[track_caller]
    pub fn run(&self, pod: &Sandbox, name: &str, image: Image, command: &[&str]) -> String {
        self.machine.containerd().load("k8s.io", image);
        let command: Vec<u8> = command.iter().flat_map(|word| text(3, word)).collect();
        let config = [field(1, &text(1, name)), field(2, &text(1, image.name())), command].concat();
        let id = self
            .call("CreateContainer", &[text(1, &pod.id), field(2, &config), field(3, &pod.config)].concat());
        self.call("StartContainer", &text(1, &id));
        id
    }

    /// StopContainer, at once.
    #[track_caller]
    pub fn stop(&self, container: &str) {
        self.call("StopContainer", &text(1, container));
    }

    /// StopPodSandbox: ends its containers and takes its network away; all stay in the list.
    #[track_caller]
    pub fn stop_pod(&self, pod: &Sandbox) {
        self.call("StopPodSandbox", &text(1, &pod.id));
    }

    /// StopPodSandbox and RemovePodSandbox.
    #[track_caller]
    pub fn remove_pod(&self, pod: &Sandbox) {
        self.stop_pod(pod);
        self.call("RemovePodSandbox", &text(1, &pod.id));
    }

    /// Makes a call and gives the first string of its answer; empty if there is none.
    #[track_caller]
    fn call(&self, method: &str, message: &[u8]) -> String {
        let mut child = self
            .machine
            .command("curl")
            .args(["--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket", SOCKET])
            .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
            .args(["--dump-header", "/dev/stderr", "--data-binary", "@-"])
            .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start curl: {e}"));
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        framed.extend(message);
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&framed).unwrap_or_else(|e| panic!("curl does not take {method}: {e}"));
        }
        let ended = child.wait_with_output().unwrap_or_else(|e| panic!("cannot wait for curl: {e}"));
        let trailers = String::from_utf8_lossy(&ended.stderr);
        if !trailers.lines().any(|line| line.trim() == "grpc-status: 0") {
            panic!("containerd refuses {method}:\n{trailers}");
        }
        // The frame's head, then field 1 with its length.
        let answer = ended.stdout.get(5..).unwrap_or_default();
        match answer {
            [0x0a, length @ 0..=127, rest @ ..] => {
                String::from_utf8_lossy(rest.get(..usize::from(*length)).unwrap_or_default()).into_owned()
            }
            _ => String::new(),
        }
    }
}

/// A field of length-delimited kind (protobuf.dev, "Encoding").
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    varint(content.len(), &mut out);
    out.extend(content);
    out
}

fn text(tag: u8, content: &str) -> Vec<u8> {
    field(tag, content.as_bytes())
}

fn number(tag: u8, value: usize) -> Vec<u8> {
    let mut out = vec![tag << 3];
    varint(value, &mut out);
    out
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}
