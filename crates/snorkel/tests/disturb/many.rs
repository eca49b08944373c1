//! Faults at many links: nothing goes out of force meanwhile, and what is said of them can be read.

use std::io::Write;
use std::process::Stdio;

use snorkel_lab::LabSpec;

use crate::common::{lab, run, snorkel, target};
use crate::kit::{Held, Site, WEB, signal};

/// With gates as filters, as on kernels before 6.6, which no link of the kernel's holds.
#[test]
fn a_fault_stays_in_force_while_one_at_many_links_begins_and_ends() {
    let site = Site::new();
    let many = lab(LabSpec::idle(60));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let all: Vec<String> =
        (1..=60).map(|number| format!("\"{}\"", target(&many, &format!("n{number:04}")))).collect();
    write!(
        file,
        "[fault.silence]\nkind = \"cut\"\ntargets = [\"{}\"]\nhow = \"drop\"\n\
         [fault.many]\nkind = \"impair\"\ntargets = [{}]\ndelay = \"1ms\"\nstart = \"1s\"\nend = \"2s\"\n",
        site.client,
        all.join(", ")
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let mut held = Held::spawn(&["apply", path], &[("SNORKEL_FAULT_CLSACT", "1")]);
    held.wait_for(" is in force: cut");
    let ping = ["exec", &site.client, "--", "ping", "-q", "-i", "0.02", "-w", "60", WEB];
    let mut ping = snorkel(ping).stdout(Stdio::piped()).spawn().unwrap();
    let begun = held.wait_for(" is in force: impair");
    assert!(begun.contains(" and 56 more (") && begun.len() < 400, "{begun}");
    let ended = held.wait_for(" is healed");
    assert!(ended.contains(" and 56 more (out ") && ended.len() < 400, "{ended}");
    // One that is over is nobody's any more, though its holder lives on.
    let id = ended.trim_start_matches("snorkel: ").split(' ').next().unwrap();
    let listed = run(["faults"]);
    let first = |line: &str| line.split(' ').next() == Some(id);
    assert!(!listed.stdout.lines().any(first) && !listed.stderr.contains(&format!(" {id} ")), "{listed:?}");
    assert_eq!(ping.try_wait().unwrap(), None, "it has asked all the time");
    signal(ping.id(), libc::SIGINT);
    let answers = ping.wait_with_output().unwrap();
    let answers = String::from_utf8_lossy(&answers.stdout);
    assert!(answers.contains(" 0 received") && !answers.contains("\n0 packets"), "{answers}");
    held.interrupt();
}
