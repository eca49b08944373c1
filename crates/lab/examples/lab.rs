//! Calls a lab of idle nodes up and takes it down again, and says how long that took and what it cost.

use std::time::Instant;

use snorkel_lab::{HOLDER_ARGUMENT, LabSpec};

/// `MemAvailable` of /proc/meminfo, in KiB.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "50".to_owned());
    if argument == HOLDER_ARGUMENT {
        snorkel_lab::holder_main();
    }
    let count: usize = argument.parse()?;
    let before = available();
    let start = Instant::now();
    let lab = snorkel_lab::up(&LabSpec::idle(count).named(format!("example-{count}")))?;
    let up = start.elapsed();
    let cost = before.saturating_sub(available());
    let start = Instant::now();
    let found = snorkel_lab::find(&lab.name)?;
    let list = start.elapsed();
    let start = Instant::now();
    let down = snorkel_lab::down(&found.name)?;
    println!(
        "{count} nodes: up {up:.0?}, list {list:.1?}, down {:.0?} ({} gone), {} KiB a node",
        start.elapsed(),
        down.ended.len(),
        cost / count.max(1) as u64
    );
    Ok(())
}
