//! Faults in words: plans, what is in force, what was done to end it.

use snorkel_fault::FaultId;
use snorkel_fault::carrier::Released;
use snorkel_fault::control::{Healed, LinkStatus, Status};
use snorkel_fault::force::released;
use snorkel_fault::plan::Plan;

use super::style::{Style, Tone};
use super::table::{Cell, table};
use super::text::printable;
use crate::commands::hold::{PlanJson, now};

/// A plan, a line for each thing that is to be done.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut out = format!("{}:\n", plan.kind.word());
    for line in plan.lines() {
        out.push_str(&format!("  {}\n", printable(&line)));
    }
    for note in &plan.notes {
        out.push_str(&format!("  note: {}\n", printable(note)));
    }
    out
}

/// The same as JSON.
pub(crate) fn plan_json(plan: &Plan) -> serde_json::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&PlanJson::of(plan))?))
}

/// One line when a fault begins.
pub(crate) fn in_force(status: &Status) -> String {
    let links: Vec<String> =
        status.links.iter().map(|link| format!("{}/{}", link.targets.join("+"), link.link)).collect();
    let until = status.until.map(|until| format!(" for {}", span(until - status.since))).unwrap_or_default();
    format!("{} is in force: {} {}{until}", status.id, status.kind.word(), links.join(", "))
}

/// One line when a fault has ended.
pub(crate) fn healed(healed: &Healed, last: Option<&Status>) -> String {
    let mut words = healed.did.clone();
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
    for wire in status.links.iter().flat_map(|link| &link.wires) {
        let lost = wire.entered.saturating_sub(wire.returned);
        let mut line = format!("{}: {} packets, {lost} did not come back", wire.direction, wire.entered);
        if let Some(delay) = &wire.delay {
            line.push_str(&format!(
                ", delay {:.1} ms ± {:.1}",
                delay.mean * 1e3,
                delay.deviation * 1e3
            ));
        }
        words.push(line);
    }
    words.join(", ")
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
                Cell::new(&status.id.to_string()),
                Cell::new(status.kind.word()),
                Cell::new(status.links.iter().map(link_name).collect::<Vec<_>>().join(", ")),
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
