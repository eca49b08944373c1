//! What the command finds: /etc and the resolver's sockets on hosts of all kinds, the shell's prompt, the caller's own
//! environment. Each host is a private mount namespace. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::{Host, Ran, SNORKEL, lab, run, snorkel, target};
use snorkel_lab::{LabSpec, Scoped};

/// A tmpfs for what the host is made of.
const ROOM: &str = "mount -t tmpfs room /mnt; ";
/// Two overlays on /etc: the kernel stacks no third one (FILESYSTEM_MAX_STACK_DEPTH of linux/fs.h).
const NO_OVERLAY: &str = "for n in 1 2; do mkdir /mnt/upper$n /mnt/work$n; \
    mount -t overlay etc -o lowerdir=/etc,upperdir=/mnt/upper$n,workdir=/mnt/work$n /etc; done; ";
/// /etc can be changed: the changes are this host's alone.
const OWN_ETC: &str = "mkdir /mnt/upper /mnt/work; \
    mount -t overlay etc -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc; ";
/// systemd-resolved is there, and /etc/resolv.conf is its file.
const RESOLVED: &str = "mount -t tmpfs run /run; mkdir -p /run/systemd/resolve /run/nscd; touch /run/nscd/socket; \
    echo nameserver 6.6.6.6 >/run/systemd/resolve/stub-resolv.conf; \
    rm /etc/resolv.conf; ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf; ";

/// A program on a host that was made by this script.
fn on_host(script: &str, program: &str, words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{script} exec \"$@\"");
    command.args(["--mount", "sh", "-ec", &script, "sh", program]).args(words).env_remove("SUDO_UID");
    command
}

fn run_on_host(script: &str, words: &[&str]) -> Ran {
    on_host(script, SNORKEL, words).output().unwrap().into()
}

/// The network of a node without the node: a namespace by its path.
fn netns_of(lab: &Scoped, node: &str) -> String {
    format!("netns:/proc/{}/ns/net", lab.node(node).unwrap().pid.unwrap())
}

#[test]
fn without_an_overlay_names_still_resolve_as_in_the_container() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let host = Host::now();
    let script = "cat /etc/resolv.conf; getent ahostsv4 web | head -n1; ls /run/systemd/resolve; id -un; \
        echo mine >/etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf; cat /etc/resolv.conf; \
        rm /etc/hosts; readlink /etc/mtab; ls /etc/skel/..data; echo x 2>/dev/null >>/etc/passwd || echo refused";
    let beside = "ln -s /proc/self/mounts /mnt/upper1/mtab 2>/dev/null || :; mkdir /mnt/src; \
        touch /mnt/src/..data; mount --bind /mnt/src /etc/skel; rm -f /etc/nsswitch.conf; ";
    let setting = [ROOM, NO_OVERLAY, RESOLVED, beside].concat();
    let ran = run_on_host(&setting, &["exec", &client, "--", "sh", "-c", script]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[..2], ["nameserver 198.19.0.1", "search lab"], "{ran:?}");
    assert!(lines[2].starts_with("198.19.0.2"), "{ran:?}");
    assert_eq!(lines[3..], ["root", "mine", "/proc/self/mounts", "/etc/skel/..data", "refused"], "{ran:?}");
    assert!(ran.stderr.contains("no overlay on /etc"), "{ran:?}");
    host.assert_unchanged();
}

#[test]
fn what_is_mounted_below_etc_stays_but_for_the_containers_files() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let below = "mkdir /mnt/src; echo below >/mnt/src/f; mount --bind /mnt/src /etc/skel; \
        echo the-hosts-own >/mnt/hosts; mount --bind /mnt/hosts /etc/hosts; ";
    for setting in [[ROOM, below, ""].concat(), [ROOM, NO_OVERLAY, below].concat()] {
        let script = "cat /etc/skel/f; grep -c the-hosts-own /etc/hosts; rm /etc/hosts && echo gone";
        let ran = run_on_host(&setting, &["exec", &client, "--", "sh", "-c", script]);
        assert_eq!(ran.stdout, "below\n0\ngone\n", "{ran:?}");
    }
}

#[test]
fn the_resolvers_sockets_are_hidden_from_a_bare_namespace_too() {
    let lab = lab(LabSpec::default());
    let netns = netns_of(&lab, "client");
    let setting = [ROOM, OWN_ETC, RESOLVED].concat();
    let look = ["--", "sh", "-c", "ls /run/nscd /run/systemd/resolve; cat /etc/resolv.conf"];
    let words = |before: &[&'static str]| [before, &[netns.as_str()], &look].concat();
    let ran = run_on_host(&setting, &words(&["exec"]));
    // The host's file holds, as it does for `ip netns exec`, also where it lies beside the socket.
    assert_eq!(ran.stdout, "/run/nscd:\n\n/run/systemd/resolve:\nnameserver 6.6.6.6\n", "{ran:?}");
    let ran = run_on_host(&setting, &words(&["exec", "--dns", "host"]));
    assert!(ran.stdout.contains("socket") && ran.stdout.contains("stub-resolv.conf"), "{ran:?}");
    // Without files of its own, /etc is the host's.
    let plain = [ROOM, "mount -t tmpfs run /run; mkdir /run/nscd; touch /run/nscd/socket; "].concat();
    let ran = run_on_host(&plain, &["exec", &netns, "--", "sh", "-c", "ls /run/nscd; stat -f -c %T /etc"]);
    let host = Command::new("stat").args(["-f", "-c", "%T", "/etc"]).output().unwrap().stdout;
    assert_eq!(ran.stdout.as_bytes(), host, "{ran:?}");
}

#[test]
fn every_shell_shows_the_target_wherever_it_is() {
    let lab = lab(LabSpec::default());
    let (client, netns) = (target(&lab, "client"), netns_of(&lab, "client"));
    // Start-up files that set prompts of their own, as many do.
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".bashrc"), "PS1='mine> '\n").unwrap();
    std::fs::write(home.path().join(".zshrc"), "PROMPT='mine> '\n").unwrap();
    let overlaid = [ROOM, NO_OVERLAY].concat();
    for shell in ["/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/bin/sh"] {
        let with_shell = format!("sed -i 's|^\\(nobody:.*\\):[^:]*$|\\1:{shell}|' /etc/passwd; ");
        let others = [ROOM, OWN_ETC, &with_shell].concat();
        let cases = [
            ("", client.clone(), &client),
            ("", format!("exec --dns host {client}"), &client),
            ("", netns.clone(), &netns),
            (&overlaid, client.clone(), &client),
            (&others, format!("exec -u nobody -e HOME={} {client}", home.path().display()), &client),
        ];
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for (setting, words, name) in cases {
            // script(1) gives the shell a terminal, without which it has no prompt.
            let line = format!("{SNORKEL} {words}");
            let mut child = on_host(setting, "script", &["-qec", &line, "/dev/null"])
                .env("SHELL", shell)
                .env("HOME", home.path())
                .env("TERM", "dumb")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let typed = b"ls /proc/self/fd/99 /proc/self/fd/0\nexit 3\n";
            child.stdin.take().unwrap().write_all(typed).unwrap();
            let mut out = String::new();
            child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(3), "{shell} {words}: {out}");
            assert!(out.contains(&format!("({name}) ")), "{shell} {words}: {out}");
            // What the shell starts does not have the directory.
            assert!(out.contains("/proc/self/fd/99'"), "{shell} {words}: {out}");
        }
    }
}

#[test]
fn me_under_a_real_sudo_has_the_callers_path_and_home() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    // sudo takes the caller's PATH away; nobody may call it on this host.
    let setting = format!(
        "{ROOM} printf '%s\\n' 'Defaults secure_path=/usr/sbin:/usr/bin:/sbin:/bin' \
         'nobody ALL=(ALL) NOPASSWD: ALL' >/mnt/sudoers; chmod 440 /mnt/sudoers; \
         mount --bind /mnt/sudoers /etc/sudoers; "
    );
    let show = "echo $PATH; echo $HOME; id -un; grep CapAmb /proc/self/status";
    for each in [&[][..], &["--each"]] {
        let mut words = vec!["--reuid=65534", "--regid=65534", "--clear-groups", "sudo", SNORKEL, "exec"];
        words.extend(each);
        words.extend(["-u", "me", &client, "--", "/bin/sh", "-c", show]);
        let mut command = on_host(&setting, "setpriv", &words);
        let ran: Ran = command.env("PATH", "/opt/mine:/usr/sbin:/usr/bin:/bin").output().unwrap().into();
        let said: Vec<&str> =
            ran.stdout.lines().map(|line| line.rsplit(" | ").next().unwrap_or(line)).collect();
        let expected =
            ["/opt/mine:/usr/sbin:/usr/bin:/bin", "/nonexistent", "nobody", "CapAmb:\t0000000000003000"];
        assert_eq!(said, expected, "{each:?}: {ran:?}");
    }
}

#[test]
fn a_variable_without_a_value_is_as_the_caller_has_it_or_not_at_all() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let show = ["--", "sh", "-c", "echo ${HERE-unset} ${NOT_HERE-unset} ${SHELL-unset}"];
    let words = [&["exec", "-e", "HERE", "-e", "NOT_HERE", "-e", "SHELL", &client][..], &show].concat();
    let output = snorkel(words).env("HERE", "here").env_remove("NOT_HERE").env_remove("SHELL").output();
    assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), "here unset unset\n");
}

#[test]
fn a_group_is_taken_by_its_name() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let ran = run(["exec", "-u", "nobody:daemon", &client, "--", "id", "-gn"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "daemon\n"), "{ran:?}");
    let ran = run(["exec", "-u", "nobody:no-such-group", &client, "--", "true"]);
    assert!(ran.status == 125 && ran.stderr.contains("no group 'no-such-group'"), "{ran:?}");
}

#[test]
fn a_targets_name_moves_no_cursor() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evil\u{1b}]0;pwned\u{7}");
    std::os::unix::fs::symlink(format!("/proc/{}/ns/net", lab.node("web").unwrap().pid.unwrap()), &path)
        .unwrap();
    let ran = run(["exec", &format!("netns:{}", path.display()), "--", "sh", "-c", "echo $SNORKEL_TARGET"]);
    assert!(ran.status == 0 && !ran.stdout.contains('\u{1b}') && ran.stdout.contains("evil"), "{ran:?}");
}
