//! The examination as a whole: it leaves nothing, it runs without rights, its ids stay.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::*;

fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

fn ids(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|f| f.id).collect()
}

/// The ids that were once given out. Scripts ask for them: none may go or change, new ones are added here.
const IDS: &[&str] = &[
    "user",
    "cap-sys-admin",
    "cap-net-admin",
    "cap-net-raw",
    "cap-sys-ptrace",
    "cap-bpf",
    "cap-perfmon",
    "cap-dac-override",
    "cap-dac-read-search",
    "cap-sys-resource",
    "cap-setuid",
    "cap-setgid",
    "user-namespace",
    "pid-namespace",
    "other-processes",
    "no-new-privs",
    "seccomp-mode",
    "security-modules",
    "lockdown",
    "yama",
    "user-namespaces",
    "unprivileged-bpf",
    "pidfd",
    "setns-pidfd",
    "netns-private",
    "mount-namespace",
    "netns-cookie",
    "rtnetlink",
    "target-netnsid",
    "openat2",
    "overlay",
    "sysfs-netns",
    "open-tree",
    "link-veth",
    "link-bridge",
    "link-macvlan",
    "link-ipvlan",
    "link-ifb",
    "link-vxlan",
    "nftables-owner",
    "qdisc-netem",
    "qdisc-tbf",
    "qdisc-clsact",
    "fault-filters",
    "fault-programs",
    "fault-journal",
    "tcx",
    "sk-lookup",
    "btf",
    "tp-btf",
    "drop-reasons",
    "raw-tracepoint",
    "af-packet",
    "af-xdp",
    "inotify",
    "cgroup",
    "landlock",
    "seccomp-filter",
];

#[test]
fn the_ids_are_those_given_out_and_unique() {
    let report = examine(&[]);
    assert_eq!(ids(&report), IDS);
    assert_eq!(ids(&report).iter().collect::<BTreeSet<_>>().len(), IDS.len());
    let kebab = |id: &str| {
        id.split('-').all(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
    };
    assert!(IDS.iter().all(|id| kebab(id)));
}

#[test]
fn what_is_not_ok_says_what_is_lost_and_how_to_get_it() {
    for finding in examine(&[]).findings {
        let fine = finding.verdict == Verdict::Ok;
        assert_eq!(finding.lost.is_empty(), fine, "{finding:?}");
        assert_eq!(finding.remedy.is_empty(), fine, "{finding:?}");
        assert!(!finding.found.is_empty() && !finding.found.contains('\n'), "{finding:?}");
    }
}

#[test]
fn the_json_has_its_documented_shape() {
    let asked =
        Asked { engine: Engine::Docker, socket: "/run/docker.sock".into(), answer: Ok(Some("29.0".into())) };
    let json = serde_json::to_value(examine(&[asked])).unwrap();
    assert_eq!(json["schema"], 1);
    assert!(json["kernel"].as_str().unwrap().starts_with("Linux "));
    let last = json["findings"].as_array().unwrap().last().unwrap();
    let want = serde_json::json!({
        "id": "engine-docker", "subject": "docker /run/docker.sock", "group": "engines", "core": false,
        "verdict": "ok", "found": "29.0", "lost": "", "remedy": "",
    });
    assert_eq!(last, &want);
}

#[test]
fn an_engine_is_ok_absent_degraded_or_missing_with_the_remedy_of_its_fault() {
    let of = |answer| {
        let finding =
            engines::finding(&Asked { engine: Engine::Cri, socket: "/run/crio/crio.sock".into(), answer });
        (finding.verdict, finding.remedy)
    };
    let fault = |what: &str, remedy: Option<&str>, denied| {
        let (engine, socket) = (snorkel_engines::Engine::Cri, None);
        Err(snorkel_engines::Warning {
            engine,
            socket,
            what: what.into(),
            remedy: remedy.map(Into::into),
            denied,
            unfinished: false,
        })
    };
    assert_eq!(of(Ok(Some("1.34".into()))), (Verdict::Ok, String::new()));
    assert_eq!(of(Ok(None)).0, Verdict::Absent);
    let denied = fault("permission denied", Some("run as root"), true);
    assert_eq!(of(denied), (Verdict::Degraded, "run as root".into()));
    let late = fault("did not answer within 2 s", Some("give it longer"), false);
    assert_eq!(of(late), (Verdict::Missing, "give it longer".into()));
    let broken = of(fault("the answer broke off", None, false));
    assert_eq!(broken.0, Verdict::Missing);
    assert!(broken.1.contains("systemctl status"), "{broken:?}");
}

#[test]
fn every_kernel_feature_can_be_asked_by_root() {
    need_root();
    let report = examine(&[]);
    let unknown: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.group == Group::Kernel && f.verdict == Verdict::Unknown)
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(report.core_ok(), "{:#?}", report.findings);
}

/// The tests' own mount and network namespace stand for the host's, so that nothing else changes them meanwhile. Its
/// mounts are shared: what is mounted anywhere without being held back would show up here.
#[test]
fn nothing_stays() {
    need_root();
    let look = || {
        let sorted = |path: &str| {
            let mut names: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let links = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let names: Vec<_> =
            links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
        (mounts, names, sorted("/etc"), std::fs::read_link("/proc/thread-self/ns/net").unwrap())
    };
    mounts::apart(UnshareFlags::NEWNET, || {
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::SHARED).unwrap();
        let before = look();
        let report = examine(&[]);
        assert!(report.core_ok());
        assert_eq!(look(), before);
        Ok(())
    })
    .unwrap();
}

/// A network namespace or a socket that a trial left open would be a descriptor too many. In a process of its own, for
/// the other tests open and close theirs.
#[test]
fn no_descriptor_stays_open() {
    in_child(
        "no_descriptor_stays_open",
        |_| (),
        || {
            let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let before = open();
            examine(&[]);
            assert_eq!(open(), before);
        },
    );
}

#[test]
fn a_user_without_rights_is_told_what_could_not_be_asked() {
    let become_nobody = |command: &mut Command| {
        need_root();
        command.uid(65534).gid(65534);
    };
    in_child("a_user_without_rights_is_told_what_could_not_be_asked", become_nobody, || {
        let report = examine(&[]);
        assert_eq!(ids(&report), IDS, "every question is asked");
        assert!(!report.core_ok());
        let of = |id: &str| report.findings.iter().find(|f| f.id == id).unwrap();
        assert_eq!(of("cap-sys-admin").verdict, Verdict::Missing);
        assert!(of("cap-sys-admin").remedy.contains("sudo"));
        for id in ["rtnetlink", "netns-cookie", "pidfd", "openat2"] {
            assert_eq!(of(id).verdict, Verdict::Ok, "what needs no rights is answered: {:?}", of(id));
        }
        for id in [
            "netns-private",
            "mount-namespace",
            "overlay",
            "link-veth",
            "qdisc-netem",
            "nftables-owner",
            "tcx",
        ] {
            assert_eq!(of(id).verdict, Verdict::Unknown, "{:?}", of(id));
            assert!(of(id).remedy.contains("as root"), "{:?}", of(id));
        }
        let text = text(&report, |_, piece| piece.to_owned());
        assert!(text.contains("cannot be entered as things are"), "{text}");
    });
}

/// Runs `body` in a child: this test program again with this test alone, set up by `prepare`.
fn in_child(test: &str, prepare: impl FnOnce(&mut Command), body: impl FnOnce()) {
    const CHILD: &str = "SNORKEL_TEST_CHILD";
    if std::env::var_os(CHILD).is_some_and(|name| name == test) {
        return body();
    }
    // The crate's own name is not part of a test's.
    let module = module_path!().split_once("::").unwrap().1;
    // By this link, not by its path: another user may not be able to walk there.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]).env(CHILD, test).current_dir("/");
    prepare(&mut command);
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
