//! Who stands between client and application: nobody, snorkel, socat, haproxy.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use snorkel_netns::Netns;

/// Nothing that is waited for takes longer.
const LONGEST: Duration = Duration::from_secs(30);

/// An ambassador that runs; it is ended when this is dropped.
pub(crate) struct Ambassador(Child);

impl Ambassador {
    /// `snorkel tap` on a port of a target, with these words.
    pub(crate) fn snorkel(snorkel: &str, target: &str, port: u16, words: &[&str]) -> Ambassador {
        let mut command = Command::new(snorkel);
        command.args(["tap", &format!("{target}:{port}")]).args(words);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("snorkel is there");
        let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("tapping") {
            assert!(said.read_line(&mut line).expect("it speaks") > 0, "snorkel tap ended: {line}");
        }
        // What it says later is of no interest, but somebody has to take it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ambassador(child)
    }

    /// `socat` in a node, from one port to another.
    pub(crate) fn socat(
        snorkel: &str,
        target: &str,
        options: &[&str],
        (from, to): (u16, SocketAddr),
        netns: &Netns,
    ) -> Ambassador {
        let listen = format!("TCP4-LISTEN:{from},fork,reuseaddr,backlog=1024,nodelay");
        let connect = format!("TCP4:{to},nodelay");
        let words = [&["socat"], options, &[&listen, &connect]].concat();
        Ambassador::inside(snorkel, target, &words, SocketAddr::new(to.ip(), from), netns)
    }

    /// `haproxy` in a node, by splice, with so many threads (0: as many as there are processors).
    pub(crate) fn haproxy(
        snorkel: &str,
        target: &str,
        (from, to): (u16, SocketAddr),
        threads: usize,
        folder: &Path,
        netns: &Netns,
    ) -> Ambassador {
        let threads = if threads > 0 { format!("    nbthread {threads}\n") } else { String::new() };
        let config = format!(
            "global\n    maxconn 4096\n{threads}defaults\n    mode tcp\n    option splice-auto\n    \
             option splice-request\n    option splice-response\n    timeout connect 10s\n    timeout client 1h\n    \
             timeout server 1h\nlisten ambassador\n    bind 0.0.0.0:{from}\n    server application {to}\n"
        );
        let file = folder.join(format!("haproxy-{from}.cfg"));
        fs::write(&file, config).expect("the folder is there");
        let file = file.to_str().expect("its name is text").to_owned();
        let words = ["haproxy", "-db", "-f", &file];
        Ambassador::inside(snorkel, target, &words, SocketAddr::new(to.ip(), from), netns)
    }

    fn inside(snorkel: &str, target: &str, words: &[&str], at: SocketAddr, netns: &Netns) -> Ambassador {
        let mut command = Command::new(snorkel);
        // By exec: what is started is the tool itself.
        command.args(["exec", target, "--"]).args(words).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("snorkel is there");
        let mut ambassador = Ambassador(child);
        let begun = Instant::now();
        while netns.run(|| TcpStream::connect(at)).expect("the node runs").is_err() {
            let ended = ambassador.0.try_wait().expect("it is a child");
            assert!(ended.is_none() && begun.elapsed() < LONGEST, "{words:?} does not listen: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        ambassador
    }

    /// Processor time that it has had, with its children that have ended: proc_pid_stat(5), in ticks of 10 ms.
    pub(crate) fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("its name stands in brackets");
        let ticks = fields.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap_or(0));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Memory that is its own, in bytes: resident, and not shared with a file (proc_pid_status(5), RssAnon).
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") * 1024
    }
}

impl Drop for Ambassador {
    fn drop(&mut self) {
        // socat's children end with their connections.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
