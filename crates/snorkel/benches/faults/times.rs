//! How soon a fault is in force and over.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use snorkel_bpf::gate::Direction;
use snorkel_fault::Impairment;
use snorkel_fault::plan::Action;
use snorkel_lab::{LabSpec, Scoped};

use crate::MILLISECOND;
use crate::traffic::median;
use crate::world::{World, drop_all, impair, wires};

/// Runs of each, after two that do not count.
const RUNS: usize = 21;

pub(crate) fn all() {
    println!(
        "\na fault's beginning and end, ms, median of {RUNS} (wanted: in force and verified under 50, healed under 20)"
    );
    println!("  {:<38} {:>9} {:>9} {:>9}", "", "in force", "healed", "all gone");
    let late = || Impairment { delay: MILLISECOND * 100, ..Impairment::default() };
    let both = wires(Direction::ALL.map(|direction| (direction, late())).to_vec());
    for (name, action) in
        [("everything dropped", drop_all()), ("late, one way", impair(late())), ("late, both ways", both)]
    {
        row(name, &rounds(|| in_process(&action)));
    }
    println!("  the whole commands, with all engines and namespaces looked through");
    let spec = LabSpec { holder_exe: Some(snorkel().into()), ..LabSpec::default() };
    let lab = Scoped::up(spec).expect("a lab can be made; this needs root");
    let client = format!("lab:{}/client", lab.name);
    for (name, words) in [
        ("snorkel cut", &["cut", &client][..]),
        ("snorkel cut --how drop", &["cut", &client, "--how", "drop"]),
        ("snorkel impair --delay 100ms", &["impair", &client, "--delay", "100ms"]),
    ] {
        row(name, &rounds(|| by_command(words)));
    }
    row("snorkel --version", &rounds(|| [time(&["--version"]), Duration::ZERO, Duration::ZERO]));
}

fn rounds(mut one: impl FnMut() -> [Duration; 3]) -> Vec<[Duration; 3]> {
    let mut all: Vec<_> = (0..RUNS + 2).map(|_| one()).collect();
    all.drain(..2);
    all
}

/// The fault's own steps: until it is in force and verified, until packets pass, until nothing is left of it.
fn in_process(action: &Action) -> [Duration; 3] {
    let world = World::new();
    let plan = world.plan(action);
    let begun = Instant::now();
    let held = world.carry_out(&plan);
    let in_force = begun.elapsed();
    let begun = Instant::now();
    let remains = held.heal();
    let healed = begun.elapsed();
    drop(remains);
    [in_force, healed, begun.elapsed()]
}

/// The same as a user sees it: from the command's start until it says so, from `snorkel heal`'s start until its end, until
/// the holder's end.
fn by_command(words: &[&str]) -> [Duration; 3] {
    let mut command = Command::new(snorkel());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut holder = command.spawn().expect("it can be run");
    let mut said = String::new();
    let mut lines = BufReader::new(holder.stderr.take().expect("it is a pipe"));
    lines.read_line(&mut said).expect("it says that it is in force");
    let in_force = begun.elapsed();
    let id = said.trim_start_matches("snorkel: ").split(' ').next().unwrap_or_default();
    assert!(said.contains("is in force"), "{words:?}: {said}");
    let begun = Instant::now();
    let healed = time(&["heal", id]);
    holder.wait().expect("it can be waited for");
    [in_force, healed, begun.elapsed()]
}

fn time(words: &[&str]) -> Duration {
    let begun = Instant::now();
    let status = Command::new(snorkel()).args(words).stdout(Stdio::null()).status().expect("it can be run");
    assert!(status.success(), "{words:?} failed");
    begun.elapsed()
}

fn row(name: &str, rounds: &[[Duration; 3]]) {
    let of = |what: usize| {
        let all: Vec<f64> = rounds.iter().map(|round| round[what].as_secs_f64() * 1e3).collect();
        median(&all)
    };
    println!("  {name:<38} {:>9.1} {:>9.1} {:>9.1}", of(0), of(1), of(2));
}

/// The release binary under test: the static one of `make release`, if it is there.
fn snorkel() -> String {
    std::env::var("SNORKEL_BENCH_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_snorkel").to_owned())
}
