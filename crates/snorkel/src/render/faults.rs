//! Faults in words: plans, what is in force, what was done to end it.

use serde::Serialize;
use snorkel_fault::FaultId;
use snorkel_fault::carrier::Released;
use snorkel_fault::control::{Healed, LinkStatus, Measured, SCHEMA, Status, WireStatus};
use snorkel_fault::findings::Found;
use snorkel_fault::force::released;
use snorkel_fault::plan::{Kind, Plan};

use super::style::{Style, Tone};
use super::table::{Cell, table};
use super::text::printable;
use crate::commands::hold::{Part, now};

/// What is more than these is counted.
const FEW: usize = 4;

/// A plan, a line for each thing that is to be done.
pub(crate) fn plan(plan: &Plan, part: &Part) -> String {
    let name = part.file.as_ref().map(|file| format!("{}: ", file.name)).unwrap_or_default();
    let start = match part.start.as_secs_f64() {
        0.0 => String::new(),
        seconds => format!(", {} from now", span(seconds)),
    };
    let lasting = part.lasting.map(|time| format!(", for {}", span(time.as_secs_f64()))).unwrap_or_default();
    let mut out = format!("{}{}{start}{lasting}:\n", printable(&name), plan.kind.word());
    for line in plan.lines() {
        out.push_str(&format!("  {}\n", printable(&line)));
    }
    for note in &plan.notes {
        out.push_str(&format!("  note: {}\n", printable(note)));
    }
    out
}

/// A plan as JSON.
#[derive(Serialize)]
struct PlanJson<'a> {
    schema: u32,
    kind: Kind,
    name: Option<&'a str>,
    /// Seconds from now.
    start: f64,
    /// Seconds.
    lasting: Option<f64>,
    targets: Vec<String>,
    steps: Vec<String>,
    notes: &'a [String],
}

/// The same as JSON.
pub(crate) fn plan_json(plan: &Plan, part: &Part) -> serde_json::Result<String> {
    let json = PlanJson {
        schema: SCHEMA,
        kind: plan.kind,
        name: part.file.as_ref().map(|file| file.name.as_str()),
        start: part.start.as_secs_f64(),
        lasting: part.lasting.map(|time| time.as_secs_f64()),
        targets: plan.targets(),
        steps: plan.lines(),
        notes: &plan.notes,
    };
    Ok(format!("{}\n", serde_json::to_string(&json)?))
}

/// One line when a fault begins.
pub(crate) fn in_force(status: &Status) -> String {
    let links: Vec<String> = status.links.iter().map(link_name).collect();
    let until = status.until.map(|until| format!(" for {}", span(until - status.since))).unwrap_or_default();
    let mut does: Vec<&str> = status.links.iter().flat_map(|link| &link.does).map(String::as_str).collect();
    does.dedup();
    let does = if does.len() > FEW { format!("{} rules", does.len()) } else { does.join("; ") };
    format!("{} is in force: {} {} ({does}){until}", status.id, status.kind.word(), few(&links, ", "))
}

/// One line when a fault has ended.
pub(crate) fn healed(healed: &Healed, last: Option<&Status>) -> String {
    let mut words: Vec<String> =
        Some(few(&healed.did, "; ")).filter(|did| !did.is_empty()).into_iter().collect();
    words.extend(healed.troubles.iter().map(|trouble| format!("NOT healed: {trouble}")));
    let counted = last.map(counted).filter(|words| !words.is_empty());
    let what = if words.is_empty() { "nothing was left to be done".to_owned() } else { words.join("; ") };
    match counted {
        Some(counted) => format!("{} is healed: {what} ({counted})", healed.id),
        None => format!("{} is healed: {what}", healed.id),
    }
}

/// What was done about an entry of the journal.
pub(crate) fn mended(id: FaultId, link: &str, became: Released) -> Healed {
    Healed { id, did: vec![released(link, became)], troubles: Vec::new() }
}

/// The counters, on one line.
pub(crate) fn counters(status: &Status) -> String {
    let state = match status.links.iter().find_map(|link| link.trouble.as_ref()) {
        Some(trouble) => trouble.clone(),
        None if status.on => "in force".to_owned(),
        None => "resting".to_owned(),
    };
    let left = status.until.map(|until| format!(", {} left", span(until - now()))).unwrap_or_default();
    let counted = counted(status);
    let counted = if counted.is_empty() { String::new() } else { format!(", {counted}") };
    format!("{} {} since {}{left}{counted}", status.id, state, span(now() - status.since))
}

/// What became of packets, all links together.
fn counted(status: &Status) -> String {
    let rules = || status.links.iter().flat_map(|link| &link.rules);
    let of = |verdict: &str| -> u64 {
        rules().filter(|rule| rule.verdict == verdict).map(|rule| rule.packets).sum()
    };
    let mut words = Vec::new();
    for (verdict, word) in [("drop", "dropped"), ("reject", "rejected"), ("pass", "spared")] {
        if rules().any(|rule| rule.verdict == verdict) {
            words.push(format!("{} {word}", super::capture::thousands(of(verdict))));
        }
    }
    // Each way, over all links; with what is missing in each wire, as what is doubled in one makes up for no other's.
    let mut ways: Vec<(WireStatus, u64)> = Vec::new();
    for wire in status.links.iter().flat_map(|link| &link.wires).filter(|wire| wire.effect == "impair") {
        // What still waits is not lost yet, and what was doubled comes back twice: this is what can be said from outside.
        let lacks = wire.entered.saturating_sub(wire.returned);
        match ways.iter_mut().find(|(way, _)| way.direction == wire.direction) {
            Some((way, missing)) => {
                *missing += lacks;
                way.entered += wire.entered;
                way.delay = [way.delay, wire.delay].into_iter().flatten().reduce(Measured::with);
            }
            None => ways.push((wire.clone(), lacks)),
        }
    }
    for (wire, missing) in ways {
        let mut line = format!("{} {} packets", wire.direction, super::capture::thousands(wire.entered));
        if missing > 0 {
            let share = missing as f64 / wire.entered as f64 * 100.0;
            line.push_str(&format!(", {} lost or waiting ({share:.1}%)", super::capture::thousands(missing)));
        }
        if let Some(delay) = &wire.delay {
            line.push_str(&format!(", delay {:.1} ms ± {:.1}", delay.mean * 1e3, delay.deviation * 1e3));
        }
        words.push(line);
    }
    words.join("; ")
}

/// All of them, as a table.
pub(crate) fn faults(faults: &[Status], style: Style) -> String {
    if faults.is_empty() {
        return "no fault is in force\n".to_owned();
    }
    let rows: Vec<Vec<Cell>> = faults
        .iter()
        .map(|status| {
            let state = match (status.links.iter().any(|link| link.trouble.is_some()), status.on) {
                (true, _) => Cell::new("NOT in force").tone(Tone::Bad),
                (false, true) => Cell::new("in force").tone(Tone::Doubtful),
                (false, false) => Cell::new("resting"),
            };
            vec![
                Cell::new(status.id.to_string()),
                Cell::new(status.kind.word()),
                Cell::new(few(&status.links.iter().map(link_name).collect::<Vec<_>>(), ", ")),
                state,
                Cell::new(span(now() - status.since)),
                Cell::new(status.until.map_or_else(|| "-".to_owned(), |until| span(until - now()))),
                Cell::new(who(status)),
                Cell::new(dash(counted(status))),
                Cell::new(status.words.join(" ")),
            ]
        })
        .collect();
    table(&["ID", "KIND", "LINK", "STATE", "SINCE", "LEFT", "WHO", "COUNTED", "WORDS"], &rows, style)
}

/// The first few of them, and how many more there are: where all are is `--json`.
fn few(words: &[String], between: &str) -> String {
    // One more is as short as its number.
    if words.len() <= FEW + 1 {
        return words.join(between);
    }
    format!("{} and {} more", words[..FEW].join(between), words.len() - FEW)
}

fn link_name(link: &LinkStatus) -> String {
    format!("{}/{}", link.targets.join("+"), link.link)
}

fn who(status: &Status) -> String {
    let holder = &status.holder;
    let user = holder.user.clone().unwrap_or_else(|| holder.uid.to_string());
    match &holder.terminal {
        Some(terminal) => format!("{user} ({}) on {terminal}", holder.pid),
        None => format!("{user} ({})", holder.pid),
    }
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// What snorkel did not make, as lines; nothing if there is none.
pub(crate) fn found(found: &[Found]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut out = "found, and not made by snorkel:\n".to_owned();
    for one in found {
        let whose =
            if one.targets.is_empty() { String::new() } else { format!(" ({})", one.targets.join(", ")) };
        out.push_str(&format!("  {}{}: {}\n", printable(&one.at), printable(&whose), printable(&one.what)));
    }
    out
}

/// Seconds as people say them: `12s`, `3m 20s`, `2h 5m`.
fn span(seconds: f64) -> String {
    // Below a day, and not below zero.
    let whole = seconds.max(0.0) as u64;
    match whole {
        s if s >= 3600 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        s if s >= 60 => format!("{}m {}s", s / 60, s % 60),
        0 if seconds > 0.0 => format!("{}ms", (seconds * 1000.0).round()),
        s => format!("{s}s"),
    }
}
