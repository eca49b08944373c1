//! System containers: LXC, LXD and systemd-nspawn.

use snorkel_testbed::{Image, Machine};

use crate::{eth0, good, json, link, on, peer_by_hand, target};

/// What holds for each that runs: its process and its links are right, both directions agree, and its name leads in.
#[track_caller]
fn assert_found(machine: &Machine, name: &str, pid: i32, inside: &str, outside: &str, bridge: Option<&str>) {
    let snapshot = json(machine, &["ls", "--json"]);
    assert_eq!(target(&snapshot, name)["pid"], pid, "{name}");
    let eth0 = link(&snapshot, name, inside);
    assert_eq!(eth0["peer"]["name"], outside, "{name}: {eth0:#}");
    assert_eq!(eth0["peer"]["bridge"]["name"].as_str(), bridge, "{name}: {eth0:#}");
    for thing in [outside, &format!("{name}/{inside}"), &pid.to_string()] {
        let answer = good(machine, &["which", thing]);
        assert!(answer.contains(&format!("→ {name}\n")), "{thing}: {answer}");
        assert!(answer.contains(&format!("peer     {outside}, ")), "{thing}: {answer}");
    }
    let netns = machine.run("readlink", [format!("/proc/{pid}/ns/net")]) + "\n";
    let short = name.split_once(':').expect("it is qualified").1;
    for name in [name, short, &format!("pid:{pid}")] {
        assert_eq!(good(machine, &["exec", name, "--", "readlink", "/proc/self/ns/net"]), netns, "{name}");
    }
    assert_eq!(good(machine, &["exec", name, "--", "ls", "/sys/class/net"]), format!("{inside}\nlo\n"));
}

/// It is there, and does not run: the engine's own word says so.
#[track_caller]
fn assert_stopped(machine: &Machine, name: &str, status: &str) {
    let short = name.split_once(':').expect("it is qualified").1;
    assert!(!good(machine, &["ls", "-q"]).lines().any(|l| l == name), "{name}");
    let all = good(machine, &["ls", "-a"]);
    assert!(all.lines().any(|l| l.starts_with(&format!("{short} ")) && l.contains(status)), "{all}");
    let ran = on(machine, &["exec", short, "--", "true"]);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains(&format!("{name} is not running: {status}")), "{ran:?}");
}

#[test]
fn lxc() {
    let machine = Machine::shared();
    let lxc = machine.lxc();
    let pid = lxc.run("x-box", "10.0.3.5", Image::Bare, "/echo 7");
    // A name so long that the monitor's socket is called by a hash.
    let long = format!("x-{}", "long".repeat(23));
    let long_pid = lxc.run(&long, "10.0.3.6", Image::Bare, "/echo 7");
    for (name, pid, address) in [("x-box", pid, "10.0.3.5"), (&long, long_pid, "10.0.3.6")] {
        let veth = peer_by_hand(machine, pid);
        assert_found(machine, &format!("lxc:{name}"), pid, "eth0", &veth, Some("lxcbr0"));
        let snapshot = json(machine, &["ls", "--json"]);
        assert_eq!(eth0(&snapshot, &format!("lxc:{name}"))["addresses"][0]["address"], address);
        assert!(good(machine, &["which", address]).contains(&format!("→ lxc:{name}\n")));
    }
    lxc.freeze("x-box");
    let frozen = json(machine, &["ls", "--json"]);
    assert_eq!(target(&frozen, "lxc:x-box")["status"], "FROZEN");
    assert_eq!(good(machine, &["exec", "x-box", "--", "ls", "/sys/class/net"]), "eth0\nlo\n");
    lxc.unfreeze("x-box");
    lxc.stop("x-box");
    assert_stopped(machine, "lxc:x-box", "STOPPED");
    lxc.remove("x-box");
    assert_eq!(on(machine, &["exec", "x-box", "--", "true"]).status, 125);
}

#[test]
fn lxd() {
    let machine = Machine::shared();
    let lxd = machine.lxd();
    let privileged = lxd.run("d-one", &["--config", "security.privileged=true"], Image::Busybox);
    let pid = lxd.run("d-two", &[], Image::Busybox);
    for (name, pid) in [("lxc:d-one", privileged), ("lxc:d-two", pid)] {
        let veth = peer_by_hand(machine, pid);
        assert_found(machine, name, pid, "eth0", &veth, Some("lxdbr0"));
    }
    lxd.cli(&["stop", "--force", "d-one"]);
    assert_stopped(machine, "lxc:d-one", "STOPPED");
    // A container of another project has the project's name before its own.
    lxd.remove("d-one");
    assert!(!good(machine, &["ls", "-a"]).contains("d-one"));
}

#[test]
fn nspawn() {
    let machine = Machine::shared();
    let nspawn = machine.nspawn();
    let pid = nspawn.run("m-box", true, Image::Busybox, &["/bin/sleep", "2147483647"]);
    assert!(nspawn.machinectl(&["list", "--no-legend"]).contains("m-box"));
    assert_found(machine, "nspawn:m-box", pid, "host0", "ve-m-box", None);
    let resolved = on(machine, &["exec", "m-box", "--", "getent", "hosts", "resolver.testbed.invalid"]);
    assert_eq!(resolved.status, 2, "{resolved:?}");
    assert!(resolved.stderr.contains("/etc/resolv.conf of nspawn:m-box is not used"), "{resolved:?}");

    // One that machined was not told of is found by what holds it.
    let pid = nspawn.run("m-quiet", false, Image::Busybox, &["/bin/sleep", "2147483647"]);
    assert!(!nspawn.machinectl(&["list", "--no-legend"]).contains("m-quiet"));
    assert_found(machine, "nspawn:m-quiet", pid, "host0", "ve-m-quiet", None);

    nspawn.stop("m-box");
    nspawn.stop("m-quiet");
    assert_stopped(machine, "nspawn:m-box", "not running");
    assert_stopped(machine, "nspawn:m-quiet", "not running");
}
