//! `snorkel exec` in a lab: names, files, status, user, and what is left behind. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use common::{Host, Ran, good, lab, run, snorkel, target};
use snorkel_lab::{Kind, LabSpec, NodeSpec, ResolvConf};

fn with_resolv_conf(what: ResolvConf) -> LabSpec {
    let mut node = NodeSpec::new("odd", Kind::Idle);
    node.resolv_conf = Some(what);
    LabSpec::of(vec![node])
}

#[test]
fn names_resolve_as_in_the_container() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let found = good(["exec", &client, "--", "getent", "ahostsv4", "web"]);
    assert!(found.starts_with("198.19.0.2"), "{found}");
    let found = good(["exec", &client, "--", "getent", "hosts", "db.lab"]);
    assert!(found.contains("db.lab"), "{found}");
    assert_eq!(run(["exec", &client, "--", "getent", "hosts", "nowhere.lab"]).status, 2);
    // Its own name stands in its hosts file alone.
    assert!(good(["exec", &client, "--", "cat", "/etc/hosts"]).contains("client"));
    assert_eq!(good(["exec", &client, "--", "hostname"]).trim(), "client");
}

#[test]
fn dns_takes_another_server_and_keeps_the_search_list() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let conf = good(["exec", "--dns", "198.19.0.99,fd88::1", &client, "--", "cat", "/etc/resolv.conf"]);
    assert_eq!(conf, "nameserver 198.19.0.99\nnameserver fd88::1\nsearch lab\n");
    assert!(good(["exec", "--dns", "fd88::1", &client, "--", "getent", "hosts", "web"]).contains("web"));
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(good(["exec", "--dns", "host", &client, "--", "cat", "/etc/resolv.conf"]), host);
}

#[test]
fn the_hosts_etc_is_as_before_whatever_the_command_does_to_it() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let host = Host::now();
    let script = "echo nameserver 9.9.9.9 > /etc/resolv.conf && \
        echo new > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf && \
        rm /etc/hosts && mkdir /etc/of-mine && echo x > /etc/of-mine/x && cat /etc/resolv.conf";
    assert_eq!(good(["exec", &client, "--", "sh", "-ec", script]), "new\n");
    host.assert_unchanged();
}

#[test]
fn a_command_that_starts_in_etc_does_not_write_through_to_the_host() {
    let lab = lab(LabSpec::default());
    let host = Host::now();
    let mut command = snorkel([
        "exec",
        &target(&lab, "client"),
        "--",
        "sh",
        "-c",
        "echo mine > ./resolv.conf; cat resolv.conf",
    ]);
    let output = command.current_dir("/etc").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "mine\n");
    host.assert_unchanged();
}

#[test]
fn nothing_stays_when_it_is_killed() {
    let lab = lab(LabSpec::default());
    let host = Host::now();
    let mut child = snorkel([
        "exec",
        &target(&lab, "client"),
        "--",
        "sh",
        "-c",
        "echo x > /etc/resolv.conf; echo ready; exec sleep 1000",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child.kill().unwrap();
    child.wait().unwrap();
    host.assert_unchanged();
}

#[test]
fn a_hostile_resolv_conf_is_refused_and_the_command_runs_without_the_hosts_resolver() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "nameserver 6.6.6.6\n").unwrap();
    let cases = [
        (ResolvConf::Fifo, "a FIFO"),
        (ResolvConf::Device, "a device"),
        (ResolvConf::SymlinkOut(secret.path().to_owned()), "there is none"),
        (ResolvConf::SymlinkOut("/proc/kmsg".into()), "the kernel's"),
        (ResolvConf::SymlinkOut("/proc/1/environ".into()), "the kernel's"),
        (ResolvConf::Huge(1 << 30), "far larger"),
        (ResolvConf::Missing, "there is none"),
    ];
    for (what, word) in cases {
        let lab = lab(with_resolv_conf(what.clone()));
        let ran = run(["exec", &target(&lab, "odd"), "--", "cat", "/etc/resolv.conf"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{what:?}: {ran:?}");
        assert!(ran.stderr.contains("/etc/resolv.conf") && ran.stderr.contains(word), "{what:?}: {ran:?}");
        // To glibc an empty one is a name server at 127.0.0.1.
        let ran = run(["exec", &target(&lab, "odd"), "--", "grep", "^hosts:", "/etc/nsswitch.conf"]);
        assert_eq!(ran.stdout, "hosts: files\n", "{what:?}: {ran:?}");
        let host = fs::read_to_string("/etc/resolv.conf").unwrap();
        let ran = run(["exec", "--dns", "host", &target(&lab, "odd"), "--", "cat", "/etc/resolv.conf"]);
        assert_eq!((ran.stdout, ran.stderr), (host, String::new()), "{what:?}");
        let ran = run(["exec", "--dns", "198.19.0.1", &target(&lab, "odd"), "--", "cat", "/etc/resolv.conf"]);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("nameserver 198.19.0.1\n", ""), "{what:?}");
    }
}

#[test]
fn the_status_is_the_commands_own() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    assert_eq!(run(["exec", &client, "--", "sh", "-c", "exit 42"]).status, 42);
    assert_eq!(run(["exec", &client, "--", "sh", "-c", "kill -TERM $$"]).status, 128 + 15);
    let ran = run(["exec", &client, "--", "no-such-command"]);
    assert_eq!(ran.status, 127);
    assert!(ran.stderr.starts_with("snorkel: cannot execute no-such-command"), "{ran:?}");
    let ran = run(["exec", &client, "-u", "nobody", "id"]);
    assert!(ran.status == 127 && ran.stderr.contains("options stand before the target"), "{ran:?}");
    assert_eq!(run(["exec", &client, "--", "/etc/passwd"]).status, 126);
    assert_eq!(run(["exec", &client, "--", "/etc"]).status, 126);
    assert_eq!(run(["exec", "lab:nobody/there", "--", "true"]).status, 125);
    assert_eq!(run(["exec", "--dns", "x", &client, "--", "true"]).status, 125);
    assert_eq!(run(["exec"]).status, 125);
}

#[test]
fn the_command_takes_the_place_of_snorkel() {
    let lab = lab(LabSpec::default());
    let mut child = snorkel(["exec", &target(&lab, "client"), "--", "sh", "-c", "echo $$; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, format!("{}\nthrough\n", child.id()));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_command_dies_of_a_closed_pipe_as_it_would_without_snorkel() {
    let lab = lab(LabSpec::default());
    let mut child =
        snorkel(["exec", &target(&lab, "client"), "--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(13));
}

#[test]
fn sys_shows_the_targets_links_and_keeps_the_cgroups() {
    let lab = lab(LabSpec::default());
    let links = good(["exec", &target(&lab, "client"), "--", "ls", "/sys/class/net"]);
    assert_eq!(links, "eth0\nlo\n");
    let points = |table: &str| {
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let mut points: Vec<String> =
            points.filter(|p| p.starts_with("/sys/fs/cgroup")).map(str::to_owned).collect();
        points.sort();
        points.dedup();
        points
    };
    let inside = good(["exec", &target(&lab, "client"), "--", "cat", "/proc/self/mountinfo"]);
    assert_eq!(points(&inside), points(&fs::read_to_string("/proc/self/mountinfo").unwrap()));
}

#[test]
fn environment_directory_and_user_are_as_asked() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let out = good([
        "exec",
        "-e",
        "A=1=2",
        "-w",
        "/usr",
        &client,
        "--",
        "sh",
        "-c",
        "echo $A $PWD $SNORKEL_TARGET",
    ]);
    assert_eq!(out.trim(), format!("1=2 /usr {client}"));
    let out = good([
        "exec",
        "-u",
        "nobody",
        &client,
        "--",
        "sh",
        "-c",
        "id -un; cat /etc/resolv.conf >/dev/null && echo read; grep CapEff /proc/self/status",
    ]);
    assert_eq!(out, "nobody\nread\nCapEff:\t0000000000000000\n");
    let out = good(["exec", "-u", "4242:4343", &client, "--", "id"]);
    assert!(out.starts_with("uid=4242 gid=4343 groups=4343"), "{out}");
    assert_eq!(run(["exec", "-u", "no-such-user", &client, "--", "true"]).status, 125);
    assert_eq!(run(["exec", "-w", "/no/such/dir", &client, "--", "true"]).status, 125);
}

#[test]
fn the_invoking_user_gets_network_rights_and_their_own_path() {
    let lab = lab(LabSpec::default());
    // As sudo does it: root's environment, and SUDO_UID for who called.
    let script = "id -u; echo $HOME; grep -E 'Cap(Eff|Amb)' /proc/self/status";
    let mut command = snorkel(["exec", "-u", "me", &target(&lab, "client"), "--", "sh", "-c", script]);
    let output = command.env("SUDO_UID", "65534").output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    // NET_ADMIN is bit 12, NET_RAW bit 13 (capability.h).
    assert_eq!(out, "65534\n/nonexistent\nCapEff:\t0000000000003000\nCapAmb:\t0000000000003000\n");
}

#[test]
fn a_dry_run_shows_the_steps_and_takes_none() {
    let lab = lab(LabSpec::default());
    let out = good(["exec", "--dry-run", "-w", "/tmp", &target(&lab, "web"), "--", "touch", "it's here"]);
    for step in [
        "1. make a private mount namespace",
        "2. join the net, uts, ipc namespaces",
        "overlay /etc with resolv.conf hosts nsswitch.conf",
        "4. hide the sockets of nscd and systemd-resolved",
        "change to /tmp",
        "execute touch 'it'\\''s here'",
    ] {
        assert!(out.contains(step), "{step}: {out}");
    }
    let pid = lab.node("web").unwrap().pid.unwrap();
    assert!(out.contains(&format!("nsenter --target={pid} --net --uts --ipc -- touch")), "{out}");
    // A line that can be typed, also where the plan has a start-up file for the shell.
    let out: Ran = snorkel(["exec", "--dry-run", &target(&lab, "web")])
        .env("SHELL", "/bin/bash")
        .output()
        .unwrap()
        .into();
    assert!(out.stdout.contains("lay the shell's bashrc into a directory of its own"), "{out:?}");
    assert!(
        out.stdout.ends_with(&format!("nsenter --target={pid} --net --uts --ipc -- /bin/bash\n")),
        "{out:?}"
    );
}

#[test]
fn each_runs_in_all_of_them_and_returns_the_worst_status() {
    let mut labelled = NodeSpec::new("two", Kind::Idle);
    labelled.labels.insert("role".into(), "x".into());
    let lab = lab(LabSpec::of(vec![NodeSpec::new("one", Kind::Idle), labelled]));
    let (one, two) = (target(&lab, "one"), target(&lab, "two"));
    let ran =
        run(["exec", "--each", &one, &two, "--", "sh", "-c", "hostname; [ $(hostname) = one ] || exit 7"]);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [format!("{one} | one"), format!("{two} | two")]);
    assert_eq!(ran.status, 7);
    let out = good([
        "exec",
        "--each",
        "-l",
        &format!("snorkel.lab={}", lab.name),
        "-l",
        "role=x",
        "--json",
        "--",
        "hostname",
    ]);
    let done: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (done["target"].as_str(), done["status"].as_i64(), done["stdout"].as_str()),
        (Some(two.as_str()), Some(0), Some("two\n"))
    );
}

#[test]
fn the_process_namespace_can_be_joined_and_warns() {
    let lab = lab(LabSpec::default());
    let ran = run([
        "exec",
        "--ns",
        "net,pid",
        &target(&lab, "client"),
        "--",
        "sh",
        "-c",
        "cat /proc/1/comm; exit 5",
    ]);
    assert_eq!((ran.status, ran.stdout.trim()), (5, "lab:client"), "{ran:?}");
    assert!(ran.stderr.contains("/proc/PID/root"), "{ran:?}");
}

#[test]
fn arguments_that_are_not_utf8_reach_the_command_as_they_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let lab = lab(LabSpec::default());
    let strange = OsStr::from_bytes(b"a\xff\xfe$(id)`id`;'\"\n");
    let client = target(&lab, "client");
    let words = [
        OsStr::new("exec"),
        OsStr::new(&client),
        OsStr::new("--"),
        OsStr::new("printf"),
        OsStr::new("%s"),
        strange,
    ];
    let output = snorkel(words).output().unwrap();
    assert_eq!(output.stdout, strange.as_bytes());
    let not_a_name = run([OsStr::new("exec"), strange, OsStr::new("--"), OsStr::new("true")]);
    assert_eq!(not_a_name.status, 125);
    assert!(not_a_name.stderr.contains("not UTF-8"), "{not_a_name:?}");
}
