//! A lab to disturb, what must not change in it, and faults that are held by a process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use snorkel_lab::{LabSpec, Scoped};

use crate::common::{Limit, good, lab, run, snorkel, target, wait_until};

/// Where nodes of a lab are. By name they would have to be asked for first, which takes long without a network.
pub(crate) const WEB: &str = "198.19.0.2";
pub(crate) const DB: &str = "198.19.0.3";

/// A lab, and how its networks look when nothing disturbs them.
pub(crate) struct Site {
    pub(crate) client: String,
    pub(crate) web: String,
    pub(crate) db: String,
    pub(crate) switch: String,
    before: String,
    /// Last, so that it goes last.
    _lab: Scoped,
}

impl Site {
    pub(crate) fn new() -> Site {
        let lab = lab(LabSpec::default());
        let of = |node| target(&lab, node);
        let mut site = Site {
            client: of("client"),
            web: of("web"),
            db: of("db"),
            switch: of("switch"),
            before: String::new(),
            _lab: lab,
        };
        // Neighbours are found, so that what follows changes no table.
        assert!(site.pings() && site.reaches(DB));
        // A new bridge's state is unknown until the kernel looks again.
        let bridge = || good(["exec", &site.switch, "--", "cat", "/sys/class/net/lab0/operstate"]);
        wait_until("the bridge is up", || bridge() == "up\n");
        site.before = site.state();
        site
    }

    /// The other end of the client's eth0, which is the switch's.
    pub(crate) fn far_end(&self) -> String {
        let of = |node: &str, file: &str| good(["exec", node, "--", "sh", "-c", file]);
        let number = of(&self.client, "cat /sys/class/net/eth0/iflink");
        let all = of(&self.switch, "ip -o link");
        let prefix = format!("{}: ", number.trim());
        let line = all.lines().find(|line| line.starts_with(&prefix)).expect("the switch has it");
        line[prefix.len()..].split(['@', ':']).next().expect("it has a name").to_owned()
    }

    /// Links, addresses, routes, queueing disciplines and filters of the switch and of the client.
    pub(crate) fn state(&self) -> String {
        let script = "ip -o link; ip -o addr; ip route; ip -6 route; tc qdisc; \
                      for link in $(ls /sys/class/net); do tc filter show dev $link ingress; \
                      tc filter show dev $link egress; done; ip netns";
        [&self.switch, &self.client].map(|node| good(["exec", node, "--", "sh", "-c", script])).join("\n")
    }

    /// Waits until all is as it was before; what the kernel takes back of a dead process it may do a moment later.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self) {
        let mut now = self.state();
        for _ in 0..50 {
            if now == self.before {
                return;
            }
            now = self.state();
        }
        assert_eq!(now, self.before);
    }

    /// Whether the client gets an answer of web's.
    pub(crate) fn pings(&self) -> bool {
        self.reaches(WEB)
    }

    pub(crate) fn reaches(&self, whom: &str) -> bool {
        run(["exec", &self.client, "--", "ping", "-q", "-c", "1", "-W", "1", whom]).status == 0
    }

    /// Whether the client gets web's page.
    pub(crate) fn fetches(&self) -> bool {
        run(["exec", &self.client, "--", "curl", "-s", "-m", "2", &format!("http://{WEB}/")]).status == 0
    }

    /// Whether packets between the client and web go as if nothing was between them.
    pub(crate) fn is_well(&self) -> bool {
        let ping = ["exec", &self.client, "--", "ping", "-q", "-c", "2", "-W", "1", WEB];
        let ran = run(ping);
        ran.status == 0 && least_round_trip(&ran.stdout) < 100.0
    }

    /// The least of several round trips between the client and web, in milliseconds.
    #[track_caller]
    pub(crate) fn round_trip(&self) -> f64 {
        least_round_trip(&good([
            "exec",
            &self.client,
            "--",
            "ping",
            "-q",
            "-c",
            "3",
            "-i",
            "0.2",
            "-W",
            "5",
            WEB,
        ]))
    }

    /// A fault of every kind, each of which is felt between the client and web.
    pub(crate) fn every_kind(&self) -> Vec<Vec<&str>> {
        let (client, web) = (self.client.as_str(), self.web.as_str());
        vec![
            vec!["cut", client],
            vec!["cut", client, "--how", "drop"],
            vec!["cut", client, "--how", "reject"],
            vec!["block", client, "--with", web],
            vec!["block", client, "--to", web, "--how", "reject"],
            vec!["partition", client, web],
            vec!["impair", client, "--delay", "150ms"],
            vec!["impair", client, "--loss", "100%", "--with", web],
        ]
    }
}

/// The least round trip that ping tells, in milliseconds.
pub(crate) fn least_round_trip(ping: &str) -> f64 {
    let line = ping.lines().find(|line| line.starts_with("rtt ")).expect("ping had an answer");
    let figures = line.split(" = ").nth(1).expect("there are figures");
    figures.split('/').next().and_then(|least| least.parse().ok()).expect("the first is a number")
}

/// A fault that is held in the foreground.
pub(crate) struct Held {
    child: Child,
    stderr: BufReader<ChildStderr>,
    id: String,
    _limit: Limit,
}

impl Held {
    /// Starts it, and waits until it says that it is in force.
    #[track_caller]
    pub(crate) fn start(words: &[&str]) -> Held {
        Held::spawn(words, &[]).in_force()
    }

    /// Waits until it says that it is in force.
    #[track_caller]
    pub(crate) fn in_force(mut self) -> Held {
        let line = self.wait_for(" is in force");
        let (id, _) = line.split_once(" is in force").expect("it says so");
        self.id = id.trim_start_matches("snorkel: ").to_owned();
        self
    }

    /// Waits until it says this; gives the line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, word: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            said.push_str(&line);
            assert!(read > 0, "it ended without {word:?}: {said}");
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Starts it, with these variables.
    pub(crate) fn spawn(words: &[&str], variables: &[(&str, &str)]) -> Held {
        let mut command = snorkel(words);
        command.envs(variables.iter().copied());
        Held::run(command)
    }

    /// Starts a command that holds a fault.
    pub(crate) fn run(mut command: Command) -> Held {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().expect("it is a pipe"));
        Held { _limit: Limit::on(&child), child, stderr, id: String::new() }
    }

    /// What it is called.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and gives what it said last.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }

    /// Ends it as Ctrl-C does; it must end well. Gives what it said.
    #[track_caller]
    pub(crate) fn interrupt(self) -> String {
        signal(self.pid(), libc::SIGINT);
        let (status, said) = self.end();
        assert!(status.success(), "{status}: {said}");
        said
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it stands still, as it does at a stage that it was told of.
    pub(crate) fn wait_stopped(&self) {
        wait_until("it stops", || is_stopped(self.pid()));
    }
}

/// Whether a process is stopped by a signal (proc_pid_stat(5)).
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, number: i32) {
    // SAFETY: signals a process of this test's, by its number; it touches no memory.
    unsafe { libc::kill(pid.cast_signed(), number) };
}

/// The ids of the bpf links that a process holds (proc_pid_fdinfo(5)).
pub(crate) fn bpf_links(pid: u32) -> Vec<u32> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let infos = folder.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    infos
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok()))
        .collect()
}
