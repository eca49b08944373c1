//! The newcomer's tour on a machine that lives. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use common::{Limit, SNORKEL};
use snorkel_testbed::Machine;

#[test]
fn what_others_do_meanwhile_is_not_the_tours() {
    let machine = Machine::new();
    let mut tour = machine.command(SNORKEL).args(["lab", "tour"]).stdout(Stdio::piped()).spawn().unwrap();
    let _limit = Limit::on(&tour);
    let mut said = String::new();
    let mut lines = BufReader::new(tour.stdout.take().unwrap());
    // The lab is up: now a container comes that has nothing to do with it, with a link on the host, and stays.
    while !said.contains("lab lab is up") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let mut other = machine.command("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    machine.netns_add("of-another");
    machine.run("ip", ["link", "add", "veth2e7d114", "type", "veth", "peer", "eth0", "netns", "of-another"]);
    lines.read_to_string(&mut said).unwrap();
    let status = tour.wait().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(status.success() && said.contains("Nothing is left"), "{status}: {said}");
}
