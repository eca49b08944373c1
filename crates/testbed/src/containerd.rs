//! containerd in the machine, by `ctr` and over its socket at /run/containerd/containerd.sock, with CRI and CNI.

use crate::daemon::Daemon;
use crate::machine::{make_directory, write};
use crate::{Image, Machine, succeed};

/// The machine's containerd; Docker's containers are in its namespace `moby`, those of CRI in `k8s.io`.
#[derive(Clone, Copy, Debug)]
pub struct Containerd<'m> {
    machine: &'m Machine,
    daemon: &'m Daemon,
}

impl<'m> Containerd<'m> {
    #[track_caller]
    pub(crate) fn of(machine: &'m Machine) -> Containerd<'m> {
        let daemon = machine.containerd.get_or_init(|| {
            let folder = machine.path("/etc/containerd");
            make_directory(&folder);
            write(&folder.join("config.toml"), include_str!("containerd.toml"));
            let networks = machine.path("/etc/cni/net.d");
            // The machine's /etc is a copy; networks that the real one has are not meant here.
            let _ = std::fs::remove_dir_all(&networks);
            make_directory(&networks);
            write(&networks.join("10-testbed.conflist"), include_str!("testbed.conflist"));
            Daemon::start(machine, "containerd", &["--log-level", "info"])
        });
        Containerd { machine, daemon }
    }

    /// The daemon's PID.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Runs `ctr --namespace NAMESPACE ARGUMENTS` in the machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn cli(&self, namespace: &str, arguments: &[&str]) -> String {
        succeed(self.machine.command("ctr").args(["--namespace", namespace]).args(arguments))
    }

    /// Makes an image available in one of containerd's namespaces; [`Containerd::run`] does so itself.
    ///
    /// CRI's pods need [`Image::Bare`] in `k8s.io`: it is configured as the sandboxes' image.
    #[track_caller]
    pub fn load(&self, namespace: &str, image: Image) {
        image.provide(self.machine, &format!("containerd {namespace}"), |archive| {
            let import = ["--namespace", namespace, "images", "import"];
            succeed(self.machine.command("ctr").args(import).arg(archive));
        });
    }

    /// `ctr run --detach OPTIONS IMAGE ID COMMAND`; gives the PID of its first process. No command: the image's own.
    ///
    /// Options of use: `--cni` (a veth on the bridge `cni0`), `--net-host`, `--label KEY=VALUE`.
    #[track_caller]
    pub fn run(&self, namespace: &str, id: &str, options: &[&str], image: Image, command: &[&str]) -> i32 {
        self.load(namespace, image);
        self.cli(namespace, &[&["run", "--detach"], options, &[image.name(), id], command].concat());
        self.pid(namespace, id)
    }

    /// [`Containerd::run`] in `k8s.io` with `--cni` and the labels that the kubelet gives to a pod's container.
    #[track_caller]
    pub fn run_as_pod(
        &self,
        pod: &str,
        pod_namespace: &str,
        id: &str,
        image: Image,
        command: &[&str],
    ) -> i32 {
        let name = format!("io.kubernetes.pod.name={pod}");
        let namespace = format!("io.kubernetes.pod.namespace={pod_namespace}");
        let options = [
            "--cni",
            "--label",
            &name,
            "--label",
            &namespace,
            "--label",
            "io.kubernetes.container.name=main",
        ];
        self.run("k8s.io", id, &options, image, command)
    }

    /// The PID, in the real /proc, of the container's first process. Panics if it has no task.
    #[track_caller]
    pub fn pid(&self, namespace: &str, id: &str) -> i32 {
        let tasks = self.cli(namespace, &["tasks", "list"]);
        let mut rows = tasks.lines().map(|line| line.split_whitespace());
        let pid =
            rows.find_map(|mut row| (row.next() == Some(id)).then(|| row.next()?.parse().ok()).flatten());
        pid.unwrap_or_else(|| panic!("containerd has no task {id} in {namespace}:\n{tasks}"))
    }

    /// Kills the container's task, waits for its end, and deletes both.
    #[track_caller]
    pub fn remove(&self, namespace: &str, id: &str) {
        self.cli(namespace, &["tasks", "delete", "--force", id]);
        self.cli(namespace, &["containers", "delete", id]);
    }
}
