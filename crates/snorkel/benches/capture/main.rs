//! `make bench`, second part: capturing and reading, beside tcpdump, dumpcap and tshark in one run.
//!
//! The tools take turns (A B C, A B C, …) on the same link of the same lab, and the median of each counts. Processor time
//! is that of the whole tool, from its start to its end, as the kernel tells when it is reaped (wait4(2)). What is written
//! to a tmpfs goes into pages that were used before: a new machine's first touch of memory costs more than a capture.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot run says why and ends")]

mod flood;
mod reading;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use snorkel_lab::{LabSpec, Scoped};

/// Rounds of each comparison.
const ROUNDS: usize = 3;
/// How long each stream lasts.
const SECONDS: u64 = 3;
/// How long small packets are sent: long enough for the start not to count, in which the rings' memory is made ready.
const FLOOD: u64 = 10;
/// Memory that a stream's file may need, in bytes.
const STREAM: usize = 5 << 30;
/// Links for the comparison of one and many.
const MANY: usize = 50;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let Some("--flood") = words.get(1).map(String::as_str) {
        let lasting = Duration::from_secs(words[3].parse().unwrap());
        println!("{}", flood::flood(&words[2], lasting).expect("packets can be sent here"));
        return;
    }
    // cargo leaves a long LD_LIBRARY_PATH, in which every dynamic program would search for its libraries.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var("LD_LIBRARY_PATH") };
    let folder = Folder::new();
    // All parts, or those that are named: `cargo bench --bench capture -- small read`.
    let named: Vec<&str> =
        words[1..].iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    type Part = fn(&Folder);
    let parts: [(&str, Part); 4] =
        [("streams", streams), ("small", small), ("many", many), ("read", reading::lines)];
    for (name, part) in parts {
        if named.is_empty() || named.contains(&name) {
            part(&folder);
        }
    }
}

/// The release binary under test: the static one of `make release`, if it is there.
fn snorkel() -> String {
    std::env::var("SNORKEL_BENCH_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_snorkel").to_owned())
}

/// A folder in memory.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir_in("/dev/shm").expect("/dev/shm is a tmpfs"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Has the machine give so much memory, and gives it back to the kernel. To be done just before it is used: a virtual
    /// machine gives what is free back to its host (free page reporting).
    fn touch(&self, bytes: usize) {
        let mut file = File::create(self.file("touched")).unwrap();
        let zeroes = vec![0; 1 << 20];
        (0..bytes >> 20).for_each(|_| file.write_all(&zeroes).expect("there is memory for it"));
        fs::remove_file(self.file("touched")).unwrap();
    }
}

/// How a tool is called, and how it says what was lost.
#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    /// Of snorkel, what stands behind the target.
    words: &'static [&'static str],
    /// What it says on stderr once it captures.
    ready: &'static str,
    /// Received and dropped, from what it says in the end.
    account: fn(&str) -> (u64, u64),
}

const SNORKEL: Tool =
    Tool { name: "snorkel capture", words: &[], ready: "capturing on", account: snorkels_account };
const SNORKEL_512: Tool = Tool { name: "snorkel --buffer 512MiB", words: &["--buffer", "512MiB"], ..SNORKEL };
// Root's tcpdump would give the file, or the device, to another user.
const TCPDUMP: Tool = Tool {
    name: "tcpdump",
    words: &["tcpdump", "-Z", "root", "-s", "0", "-i", "eth0", "-w"],
    ready: "listening on",
    account: tcpdumps_account,
};
const TCPDUMP_64: Tool = Tool {
    name: "tcpdump -B 65536",
    words: &["tcpdump", "-Z", "root", "-B", "65536", "-s", "0", "-i", "eth0", "-w"],
    ..TCPDUMP
};
const DUMPCAP: Tool = Tool {
    name: "dumpcap",
    words: &["dumpcap", "-i", "eth0", "-w"],
    ready: "Capturing on",
    account: dumpcaps_account,
};
const DUMPCAP_64: Tool =
    Tool { name: "dumpcap -B 64", words: &["dumpcap", "-B", "64", "-i", "eth0", "-w"], ..DUMPCAP };

/// What a tool did.
struct Done {
    received: u64,
    dropped: u64,
    /// Processor time.
    cpu: Duration,
    /// Most memory that it had at once, in bytes.
    memory: u64,
}

impl Done {
    fn loss(&self) -> f64 {
        100.0 * self.dropped as f64 / (self.received.max(1)) as f64
    }
}

/// A tool that captures.
struct Running {
    child: Child,
    said: JoinHandle<String>,
    tool: Tool,
}

impl Running {
    /// Starts it on a lab's first node, and waits until it captures.
    fn start(tool: Tool, target: &str, output: &str) -> Running {
        let mut command = Command::new(snorkel());
        if tool.ready == SNORKEL.ready {
            command.args(["capture", target]).args(tool.words).args(["-w", output]);
        } else {
            // By exec, so that what is reaped is the tool itself.
            command.args(["exec", target, "--"]).args(tool.words).arg(output);
        }
        let mut child =
            command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the tool is there");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let mut before = String::new();
        while !line.contains(tool.ready) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{} ended: {before}", tool.name);
            before.push_str(&line);
        }
        let rest = move |mut stderr: BufReader<ChildStderr>| {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        };
        Running { child, said: std::thread::spawn(move || rest(stderr)), tool }
    }

    /// Has it end, as Ctrl-C does.
    fn end(self) -> Done {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: the child was not reaped, so the PID is its own.
        unsafe { libc::kill(pid, libc::SIGINT) };
        let (cpu, memory) = reap(&self.child);
        let said = self.said.join().unwrap();
        let (received, dropped) = (self.tool.account)(&said);
        Done { received, dropped, cpu, memory }
    }
}

/// Waits for a child's end: its processor time and its most memory in bytes.
fn reap(child: &Child) -> (Duration, u64) {
    // SAFETY: plain numbers, for which zeroes are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: the kernel writes one rusage; the child was not reaped by anybody else.
    let reaped = unsafe { libc::wait4(pid, std::ptr::null_mut(), 0, &raw mut usage) };
    assert_eq!(reaped, pid, "the tool could not be waited for");
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_maxrss as u64 * 1024)
}

/// The numbers of a line that holds this word.
fn numbers(said: &str, word: &str) -> Vec<u64> {
    let line =
        said.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no '{word}' in: {said}"));
    line.replace(',', "")
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn snorkels_account(said: &str) -> (u64, u64) {
    // The table: LINK SEEN MATCHED LOST …; the links' names end in digits.
    let mut rows = said.lines().skip_while(|line| !line.starts_with("LINK")).skip(1);
    let mut sum = (0, 0);
    while let Some([_, _, matched, lost, ..]) =
        rows.next().map(|line| line.split_whitespace().collect::<Vec<_>>()).as_deref()
        && let (Ok(matched), Ok(lost)) =
            (matched.replace(',', "").parse::<u64>(), lost.replace(',', "").parse::<u64>())
    {
        sum = (sum.0 + matched, sum.1 + lost);
    }
    assert!(sum.0 > 0, "no packets: {said}");
    sum
}

fn tcpdumps_account(said: &str) -> (u64, u64) {
    (numbers(said, "received by filter")[0], numbers(said, "dropped by kernel")[0])
}

fn dumpcaps_account(said: &str) -> (u64, u64) {
    // Packets received/dropped on interface 'eth0': 123/4 (…)
    let numbers = numbers(said.rsplit("': ").next().unwrap(), "/");
    (numbers[0] + numbers[1], numbers[1])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn lab(name: &str, nodes: usize) -> Scoped {
    let spec = LabSpec { holder_exe: Some(snorkel().into()), ..LabSpec::idle(nodes).named(name) };
    Scoped::up(spec).expect("a lab can be made; this needs root")
}

fn node(lab: &Scoped, number: usize) -> String {
    format!("lab:{}/{}", lab.name, lab.nodes[number].name)
}

/// TCP streams from a lab's first node to its second.
struct Streams {
    server: Child,
    from: String,
    address: String,
}

impl Streams {
    fn of(lab: &Scoped) -> Streams {
        let server = Streams::inside(&node(lab, 1), &["iperf3", "-s"]).spawn().unwrap();
        Streams { server, from: node(lab, 0), address: lab.nodes[1].addresses[0].to_string() }
    }

    fn inside(target: &str, words: &[&str]) -> Command {
        let mut command = Command::new(snorkel());
        command.args(["exec", target, "--"]).args(words).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// One stream.
    fn run(&self) {
        let seconds = SECONDS.to_string();
        let words = ["iperf3", "-c", &self.address, "-t", &seconds];
        // The server needs a moment after it started: the client is refused until then.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !Streams::inside(&self.from, &words).status().unwrap().success() {
            assert!(Instant::now() < deadline, "iperf3 does not get through");
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One TCP stream between two containers.
fn streams(folder: &Folder) {
    let lab = lab("stream", 2);
    let streams = Streams::of(&lab);
    streams.run();
    for (where_to, tools) in [
        ("a tmpfs", &[SNORKEL, TCPDUMP, DUMPCAP, TCPDUMP_64, DUMPCAP_64][..]),
        ("/dev/null", &[SNORKEL, TCPDUMP, DUMPCAP][..]),
    ] {
        println!(
            "\none TCP stream of {SECONDS} s between two containers, whole packets, to {where_to} (median of {ROUNDS})"
        );
        let mut results: Vec<Vec<(f64, f64)>> = vec![Vec::new(); tools.len()];
        for _ in 0..ROUNDS {
            for (tool, results) in tools.iter().zip(&mut results) {
                let file = folder.file("stream");
                let path = if where_to == "/dev/null" { Path::new(where_to) } else { &file };
                if path == file {
                    folder.touch(STREAM);
                }
                let running = Running::start(*tool, &streams.from, path.to_str().unwrap());
                streams.run();
                let done = running.end();
                let captured = done.received - done.dropped;
                // Of a device nobody knows the size: the packets of this stream are alike.
                let bytes = fs::metadata(&file).map_or(0, |about| about.len());
                let per = if bytes > 0 { bytes as f64 / 1e9 } else { captured as f64 / 1e6 };
                results.push((done.loss(), done.cpu.as_secs_f64() / per));
                let _ = fs::remove_file(&file);
            }
        }
        let unit = if where_to == "/dev/null" {
            "s of CPU for a million packets"
        } else {
            "s of CPU for a GB captured"
        };
        let medians = table(tools, results, unit, "snorkel loses at most 1 %; CPU below tcpdump's");
        // How much the others lose is the machine's doing: 30 % is what is known of it elsewhere.
        println!(
            "  snorkel lost {:.2} % where tcpdump, at its defaults, lost {:.1} % in this run{}",
            medians[0].0,
            medians[1].0,
            if medians[1].0 > 30.0 { "" } else { ", which is not the more than 30 % that it can be" }
        );
    }
}

/// Prints the medians of loss and processor time, and gives them.
fn table(tools: &[Tool], results: Vec<Vec<(f64, f64)>>, unit: &str, wanted: &str) -> Vec<(f64, f64)> {
    let medians: Vec<(f64, f64)> = results
        .into_iter()
        .map(|all| (median(all.iter().map(|r| r.0).collect()), median(all.iter().map(|r| r.1).collect())))
        .collect();
    for (tool, (loss, cpu)) in tools.iter().zip(&medians) {
        let ratio = cpu / medians[0].1;
        println!("  {:<22} lost {loss:>6.2} %   {cpu:>7.3} {unit}  ({ratio:.2} x snorkel)", tool.name);
    }
    println!("  (wanted: {wanted})");
    medians
}

/// Packets of 64 bytes, as fast as one processor sends them.
fn small(folder: &Folder) {
    let lab = lab("small", 2);
    let from = node(&lab, 0);
    let tools = [SNORKEL, TCPDUMP, DUMPCAP];
    println!(
        "\npackets of 64 bytes for {FLOOD} s, as fast as one processor sends, to a tmpfs (median of {ROUNDS})"
    );
    let mut results: Vec<Vec<(f64, f64)>> = vec![Vec::new(); tools.len()];
    for _ in 0..ROUNDS {
        for (tool, results) in tools.iter().zip(&mut results) {
            let file = folder.file("small");
            folder.touch(STREAM);
            let running = Running::start(*tool, &from, file.to_str().unwrap());
            flood(&from);
            let done = running.end();
            results.push((done.loss(), done.cpu.as_secs_f64() * 1e6 / (done.received - done.dropped) as f64));
            fs::remove_file(&file).unwrap();
        }
    }
    table(&tools, results, "s of CPU for a million packets", "no loss; CPU below tcpdump's");
}

fn flood(from: &str) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(snorkel());
    command.args(["exec", from, "--"]).arg(program).args(["--flood", "eth0", &FLOOD.to_string()]);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

/// One link, and fifty: packets cost, links do not.
fn many(folder: &Folder) {
    let lab = lab("many", MANY);
    let from = node(&lab, 0);
    println!(
        "\none process, the same flood on one link, captured alone and beside {} others that are silent",
        MANY - 1
    );
    for (what, target) in [("1 link", from.clone()), ("50 links", format!("lab:{}/n*", lab.name))] {
        let file = folder.file("many");
        folder.touch(STREAM);
        let running = Running::start(SNORKEL, &target, file.to_str().unwrap());
        flood(&from);
        let done = running.end();
        println!(
            "  {what:<22} lost {:>6.2} %   {:>7.3} s of CPU for a million packets   {:.1} MB of memory at most",
            done.loss(),
            done.cpu.as_secs_f64() * 1e6 / (done.received - done.dropped) as f64,
            done.memory as f64 / 1e6
        );
        fs::remove_file(&file).unwrap();
    }
    println!(
        "  (wanted: CPU grows with packets; memory within the 64 MiB of the rings and what the program takes)"
    );
    // The worst case for rings of equal shares: all of the traffic goes through one of them.
    let streams = Streams::of(&lab);
    let all = format!("lab:{}/n*", lab.name);
    println!("\none TCP stream of {SECONDS} s on one of {MANY} links that are captured (each of {ROUNDS})");
    for tool in [SNORKEL, SNORKEL_512] {
        let file = folder.file("crowd");
        let losses = (0..ROUNDS).map(|_| {
            folder.touch(STREAM);
            let running = Running::start(tool, &all, file.to_str().unwrap());
            streams.run();
            let done = running.end();
            fs::remove_file(&file).unwrap();
            format!("{:.2} %", done.loss())
        });
        println!("  {:<24} lost {}", tool.name, losses.collect::<Vec<_>>().join(", "));
    }
}
