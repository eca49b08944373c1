//! `make bench`: snorkel beside what it replaces, in one run on one machine, so that the ratios mean something.
//!
//! Commands that are compared take turns (A B C, A B C, …), and the median of each counts: the machine's speed may
//! drift, but drifts for all of them. The times are of whole processes, from spawn to reaping.

#![expect(clippy::expect_used, reason = "a bench that cannot run says why and ends")]

mod kernel;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use snorkel_lab::{LabSpec, Scoped};
use snorkel_netns::Pid;
use snorkel_testbed::{Image, Machine};

/// Runs of each command, after two that do not count.
const RUNS: usize = 31;
/// Containers for the listing.
const CONTAINERS: usize = 100;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("--inside") => inside(&words[2], &words[3..]),
        // cargo passes `--bench`.
        _ => outside(),
    }
}

/// The release binary under test: the static one of `make release`, if it is there.
fn snorkel() -> String {
    std::env::var("SNORKEL_BENCH_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_snorkel").to_owned())
}

fn outside() {
    // cargo leaves a long LD_LIBRARY_PATH, in which every dynamic program would search for its libraries.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var("LD_LIBRARY_PATH") };
    println!("snorkel under test: {}", snorkel());
    start_up();
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.run("bench-web", &[], Image::Busybox, &[]);
    let pid = docker.pid("bench-web").to_string();
    again(machine, "exec", &["bench-web", &pid]);
    for number in 1..CONTAINERS {
        docker.run(&format!("bench-{number:03}"), &[], Image::Bare, &[]);
    }
    again(machine, "ls", &[]);
    scaling();
}

/// Runs this program once more inside the machine, so that what is measured starts there like any process.
fn again(machine: &Machine, what: &str, words: &[&str]) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = machine.command(program);
    command.args(["--inside", what]).args(words).env("SNORKEL_BENCH_BINARY", snorkel());
    let status =
        command.stdout(Stdio::inherit()).stderr(Stdio::inherit()).status().expect("it can be run again");
    assert!(status.success(), "the bench of {what} failed");
}

fn inside(what: &str, words: &[String]) {
    let snorkel = snorkel();
    match what {
        "exec" => {
            let (name, pid) = (&words[0], &words[1]);
            let recipe =
                format!("nsenter -t $(docker inspect -f '{{{{.State.Pid}}}}' {name}) --net --uts --ipc true");
            let docker_name = format!("docker:{name}");
            let least = least();
            let medians = in_turn(&[
                &|| time(&[&snorkel, "exec", &docker_name, "--", "true"]),
                &|| time(&["nsenter", "-t", pid, "--net", "--uts", "--ipc", "true"]),
                &|| time(&["sh", "-c", &recipe]),
                &|| time(&["docker", "exec", name, "true"]),
                &|| time(&[&snorkel, "exec", name, "--", "true"]),
                &|| answer(name),
                &|| time(&[&least, name, "true"]),
            ]);
            println!("\nenter a container (median of {RUNS} runs each, in turn)");
            let ours = medians[0];
            row("snorkel exec docker:NAME -- true", ours, "");
            row("  dockerd's answer alone", medians[5], "");
            let share = medians[6].as_secs_f64() / medians[1].as_secs_f64();
            let share =
                format!("{share:.2} times nsenter: no program that asks and has the names takes less");
            row("  the same in C, with no check (least.c)", medians[6], &share);
            row(
                "nsenter, PID known beforehand",
                medians[1],
                &ratio(ours, medians[1], "snorkel takes", "at most 1.5"),
            );
            row(
                "docker inspect + nsenter",
                medians[2],
                &ratio(medians[2], ours, "snorkel is faster", "at least 5"),
            );
            row("docker exec", medians[3], &ratio(medians[3], ours, "snorkel is faster", "at least 15"));
            row("snorkel exec NAME (all engines asked)", medians[4], "");
        }
        "ls" => {
            let recipe = "for c in $(docker ps -q); do \
                pid=$(docker inspect -f '{{.State.Pid}}' $c); \
                i=$(nsenter -t $pid -n ethtool -S eth0 | awk '/peer_ifindex/ {print $2}'); \
                ip addr | grep \"^$i:\"; done";
            let ours = in_turn(&[&|| time(&[&snorkel, "ls"])])[0];
            let loops = median((0..RUNS.min(21)).map(|_| time(&["sh", "-c", recipe])).collect());
            println!("\nlist {CONTAINERS} docker containers with their host links");
            row("snorkel ls", ours, "");
            row(
                "docker ps/inspect/nsenter/ethtool/ip loop",
                loops,
                &ratio(loops, ours, "snorkel is faster", "at least 50"),
            );
        }
        other => panic!("no bench called {other}"),
    }
}

/// What cannot be left out of an entry, as a static program of C; its path.
fn least() -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/speed/least.c");
    let program = concat!(env!("CARGO_TARGET_TMPDIR"), "/least");
    let built = Command::new("cc").args(["-O2", "-static", "-o", program, source]).status();
    assert!(built.is_ok_and(|status| status.success()), "{source} cannot be compiled");
    program.to_owned()
}

/// How long dockerd takes to say what it knows of a container, asked as snorkel asks.
fn answer(name: &str) -> Duration {
    let begun = Instant::now();
    let mut socket = UnixStream::connect("/run/docker.sock").expect("dockerd listens there");
    write!(socket, "GET /containers/{name}/json HTTP/1.0\r\nHost: docker\r\n\r\n").expect("dockerd is asked");
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("dockerd answers");
    assert!(said.starts_with("HTTP/1.0 200"), "{said}");
    begun.elapsed()
}

/// How the listing grows with the namespaces of a lab, and what of that is the kernel's.
fn scaling() {
    println!(
        "\nsnorkel ls over the namespaces of a lab, and the kernel's answers alone (median of {RUNS} runs each, in turn)"
    );
    let mut last: Option<(usize, Grown)> = None;
    for count in [10, 100, 1000] {
        let spec = LabSpec { holder_exe: Some(snorkel().into()), ..LabSpec::idle(count) };
        let lab = Scoped::up(spec).expect("a lab of many nodes can be made; this needs root");
        // The switch, which is the last node, is what all others are plugged into.
        let processes: Vec<Pid> = lab.nodes.iter().rev().filter_map(|node| node.pid).collect();
        let mut rounds = Vec::new();
        for round in 0..RUNS + 2 {
            let listing = time(&[&snorkel(), "ls", "--engine", "lab"]);
            let kernel::Took { all, walks } = kernel::ask(&processes);
            if round >= 2 {
                rounds.push([listing, all, walks]);
            }
        }
        let of = |what: usize| median(rounds.iter().map(|round| round[what]).collect());
        let now = Grown { listing: of(0), kernel: of(1), walks: of(2) };
        row(&format!("{count} namespaces"), now.listing, "");
        row("  the kernel's answers alone", now.kernel, "");
        if let Some((before, then)) = last {
            let each = |now: Duration, then: Duration| {
                now.saturating_sub(then).as_secs_f64() * 1e6 / (count - before) as f64
            };
            let (listing, kernel) = (each(now.listing, then.listing), each(now.kernel, then.kernel));
            let walks = each(now.walks, then.walks);
            println!(
                "  each further namespace: {listing:.1} µs = kernel {kernel:.1} (numbers {walks:.1}, links and addresses \
                 {:.1}) + {:.1}; {:.1} times as many took {:.1} times as long",
                kernel - walks,
                listing - kernel,
                count as f64 / before as f64,
                now.listing.as_secs_f64() / then.listing.as_secs_f64()
            );
        }
        last = Some((count, now));
    }
}

/// How long a number of namespaces took.
#[derive(Clone, Copy)]
struct Grown {
    listing: Duration,
    kernel: Duration,
    walks: Duration,
}

fn start_up() {
    let snorkel = snorkel();
    let medians = in_turn(&[&|| time(&[&snorkel, "--version"]), &|| time(&["true"])]);
    println!("\nstart (median of {RUNS} runs each, in turn)");
    row("snorkel --version", medians[0], &ratio(medians[0], medians[1], "snorkel takes", "under 2"));
    row("true", medians[1], "");
    let size = std::fs::metadata(&snorkel).expect("the binary is there").len();
    println!("  {:<44} {:.1} MB  (at most 12)", "size of the binary", size as f64 / 1e6);
}

fn in_turn(all: &[&dyn Fn() -> Duration]) -> Vec<Duration> {
    let mut times = vec![Vec::new(); all.len()];
    for round in 0..RUNS + 2 {
        for (one, times) in all.iter().zip(&mut times) {
            let took = one();
            if round >= 2 {
                times.push(took);
            }
        }
    }
    times.into_iter().map(median).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn time(words: &[&str]) -> Duration {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().unwrap_or_else(|e| panic!("cannot run {words:?}: {e}"));
    let took = begun.elapsed();
    assert!(status.success(), "{words:?} failed");
    took
}

fn ratio(a: Duration, b: Duration, what: &str, wanted: &str) -> String {
    format!("{what} {:.2} times  (wanted: {wanted})", a.as_secs_f64() / b.as_secs_f64())
}

fn row(what: &str, took: Duration, more: &str) {
    println!("  {what:<44} {:>9.3} ms  {more}", took.as_secs_f64() * 1e3);
}
