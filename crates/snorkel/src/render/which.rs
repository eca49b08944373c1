//! The answer of `which`: whose it is, both ends of the link, the bridge.

use snorkel_topology::which::Finding;

use super::style::{Style, Tone};
use super::text::printable;

/// One answer as a small block: what it is, then a line for each side.
pub(crate) fn finding(thing: &str, finding: &Finding, style: Style) -> String {
    let owner = if !finding.targets.is_empty() {
        finding.targets.join(", ")
    } else if finding.host {
        "the host itself".to_owned()
    } else {
        format!("nobody's; it is in {}", finding.netns)
    };
    let owner = printable(&owner).into_owned();
    let mut out =
        format!("{} ({}) → {}\n", printable(thing), finding.found_as, style.paint(Tone::Heading, owner));
    let mut line = |key: &str, value: String| out.push_str(&format!("  {key:<8} {}\n", printable(&value)));
    if let Some(inside) = &finding.inside {
        let mut words = vec![inside.name.clone(), format!("index {}", inside.index)];
        words.extend(inside.kind.clone());
        words.extend(inside.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix)));
        words.extend(inside.mac.as_ref().map(ToString::to_string));
        line("link", words.join(", "));
    }
    if let Some(outside) = &finding.outside {
        let place =
            if outside.of == "host" { "on the host".to_owned() } else { format!("in {}", outside.of) };
        line("peer", format!("{}, index {}, {place}", outside.name, outside.index));
    }
    if let Some(bridge) = &finding.bridge {
        line("bridge", bridge.name.clone());
    }
    line("netns", format!("{}{}", finding.netns, if finding.host { ", the host's own" } else { "" }));
    if let Some(note) = &finding.note {
        line("note", note.clone());
    }
    out
}
