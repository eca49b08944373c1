//! What is kept of a tap: packets that tshark follows, exchanges that are JSON, and both whatever happens.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use snorkel_lab::LabSpec;

use crate::common::{good, lab, snorkel, target};
use crate::kit::{Tap, attempt, connect, in_order, inside, needs};

/// What tshark makes of a capture; with these words it must not complain.
#[track_caller]
pub(crate) fn tshark(file: &Path, words: &[&str]) -> String {
    needs("tshark");
    let checked = ["ip", "tcp", "udp"].map(|header| format!("-o{header}.check_checksum:TRUE"));
    let output =
        Command::new("tshark").arg("-n").args(checked).args(["-r"]).arg(file).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What tshark's experts have to say that is more than that a connection ends.
fn faults(file: &Path) -> String {
    let said = tshark(file, &["-q", "-z", "expert,note"]);
    let is_count = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let faults = said.lines().filter(is_count).filter(|line| !line.contains("connection closing"));
    faults.collect::<Vec<_>>().join("\n")
}

fn archive(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let archive: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(archive["log"]["version"], "1.2");
    assert_eq!(archive["log"]["creator"]["name"], "snorkel");
    archive["log"]["entries"].as_array().unwrap().clone()
}

#[test]
fn a_recorded_conversation_can_be_followed_and_has_no_fault() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.pcapng");
    let path = file.to_str().unwrap();
    let tap = Tap::start(&["-w", path, &format!("{}:80", target(&lab, "web"))]);
    let body = "x".repeat(200_000);
    let four = ["curl", "-s4", "http://web/four", "http://web/more", "--data-binary", "@-"];
    let script = format!("head -c {} /dev/zero | tr '\\0' x | {}", body.len(), four.join(" "));
    let answers = inside(&lab, "client", &["sh", "-c", &script]);
    assert_eq!(answers.matches("hello from web").count(), 2);
    inside(&lab, "client", &["curl", "-s6", "http://web/six"]);
    inside(&lab, "web", &["curl", "-s", "http://127.0.0.1/own"]);
    let ran = tap.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains(&format!("packets in {path}")), "{ran:?}");
    // The lines are there all the same.
    assert_eq!(ran.stdout.lines().count(), 3, "{ran:?}");

    assert_eq!(faults(&file), "");
    let bad = "ip.checksum.status == \"Bad\" || tcp.checksum.status == \"Bad\" || _ws.malformed";
    assert_eq!(tshark(&file, &["-Y", bad]), "");
    let fields = ["ip.src", "ipv6.src", "tcp.flags.str"].map(|field| ["-e", field]).concat();
    let seen = tshark(&file, &[&["-T", "fields", "-E", "separator=,"], &fields[..]].concat());
    for begins in ["198.19.0.4,,··········S·", ",fd88::4,··········S·", "127.0.0.1,,··········S·"]
    {
        let count = seen.lines().filter(|line| line.starts_with(begins)).count();
        assert_eq!(count, 1, "{begins} in {seen}");
    }
    let follow = tshark(&file, &["-q", "-z", "follow,tcp,raw,0"]);
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of_client: String = follow.lines().filter(|line| !line.starts_with('\t')).collect();
    assert!(of_client.contains(&hex("POST /four")) && of_client.contains(&hex("POST /more")));
    assert_eq!(of_client.matches("78").count() / 1000, 400, "the bodies are not whole");
    in_order(
        &tshark(&file, &["-q", "-z", "follow,tcp,ascii,1"]),
        &[
            "Node 0: [fd88::4]:",
            "Node 1: [fd88::2]:80",
            "GET /six HTTP/1.1",
            "200 OK",
            "hello from web, you are fd88::4",
        ],
    );
    // Names stand in the file.
    let read = good(["read", path]);
    assert!(read.contains(&format!("{}/client", lab.name)), "{read}");
}

#[test]
fn a_connection_that_is_cut_ends_with_a_reset_and_an_answer_of_the_tap_is_in_it() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let web = format!("{}:80", target(&lab, "web"));
    for (spoil, flags, answer) in [
        (&["--match", "GET /a", "--reset"][..], "R", "GET /a"),
        (&["--match", "GET /a", "--respond", "503"], "F", "503 Service Unavailable"),
        (&["--drop-connection", "100%"], "R", ""),
    ] {
        let file = dir.path().join("cut.pcapng");
        let tap = Tap::start(&[&["-w", file.to_str().unwrap(), &web], spoil].concat());
        attempt(&lab, "client", &["curl", "-s4", "http://web/a"]);
        assert_eq!(tap.stop().status, 0);
        let seen = tshark(&file, &["-Y", "tcp.srcport == 80", "-T", "fields", "-e", "tcp.flags.str"]);
        let ends = |flag: &str| seen.lines().any(|line| line.contains(flag));
        assert_eq!((ends("R"), ends("F")), (flags == "R", flags == "F"), "{spoil:?}: {seen}");
        let follow = tshark(&file, &["-q", "-z", "follow,tcp,ascii,0"]);
        assert!(follow.contains(answer), "{follow}");
    }
}

#[test]
fn stdout_can_be_the_file_and_is_nothing_else_then() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.pcapng");
    let web = format!("{}:80", target(&lab, "web"));
    let mut command = snorkel(["tap", "-v", "-w", "-", &web]);
    command.stdout(fs::File::create(&file).unwrap()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = child.stderr.take().unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("tapping") {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    inside(&lab, "client", &["curl", "-s4", "http://web/a"]);
    // SAFETY: signals a child of this test that has not been reaped.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    assert!(child.wait().unwrap().success());
    assert_eq!(faults(&file), "");
    assert!(tshark(&file, &["-q", "-z", "follow,tcp,ascii,0"]).contains("GET /a"));
    for words in [&["-w", "-", "--json"][..], &["--har", "-", "--json"], &["-w", "-", "--har", "-"]] {
        let ran = crate::common::run([&["tap", web.as_str()], words].concat());
        assert!(ran.status == 1 && ran.stderr.contains("only one thing can go to stdout"), "{ran:?}");
    }
}

#[test]
fn after_a_kill_both_files_hold_what_was_said() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let (packets, har) = (dir.path().join("web.pcapng"), dir.path().join("web.har"));
    let web = format!("{}:80", target(&lab, "web"));
    let files = ["-w", packets.to_str().unwrap(), "--har", har.to_str().unwrap()];
    let mut tap = Tap::start(&[&[web.as_str()], &files[..]].concat());
    assert_eq!(archive(&har), Vec::<Value>::new());
    for (count, path) in ["/a", "/b"].into_iter().enumerate() {
        inside(&lab, "client", &["curl", "-s4", &format!("http://web{path}")]);
        tap.wait(0, "closed");
        // The file is written by another thread than the line.
        let begun = std::time::Instant::now();
        while archive(&har).len() <= count {
            assert!(begun.elapsed() < crate::common::LONGEST, "{path} is not in the file");
        }
    }
    tap.signal(libc::SIGKILL);
    tap.finish();
    let paths: Vec<String> =
        archive(&har).iter().map(|entry| entry["request"]["url"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, ["http://web/a", "http://web/b"]);
    for stream in ["0", "1"] {
        let follow = tshark(&packets, &["-q", "-z", &format!("follow,tcp,ascii,{stream}")]);
        assert!(follow.contains("hello from web"), "{follow}");
    }
}

#[test]
fn a_tap_that_is_refused_leaves_the_file_of_the_first_alone() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.pcapng");
    let words = [&format!("{}:80", target(&lab, "web")), "-w", file.to_str().unwrap()];
    let mut tap = Tap::start(&words);
    inside(&lab, "client", &["curl", "-s4", "http://web/a"]);
    tap.wait(0, "closed");
    assert_eq!(crate::common::run([&["tap"], &words[..]].concat()).status, 1);
    assert_eq!(tap.stop().status, 0);
    assert!(tshark(&file, &["-q", "-z", "follow,tcp,ascii,0"]).contains("hello from web"));
    // And a file that cannot be made is no tap.
    let ran = crate::common::run(["tap", words[0], "-w", "/proc/no/such/file"]);
    assert!(ran.status == 1 && !ran.stderr.contains("tapping"), "{ran:?}");
}

#[test]
fn exchanges_are_an_archive_with_secrets_masked_unless_they_are_wanted() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let web = format!("{}:80", target(&lab, "web"));
    for secrets in [false, true] {
        let har = dir.path().join("web.har");
        let mut words = vec!["--har", har.to_str().unwrap(), web.as_str()];
        words.extend(secrets.then_some("--show-secrets"));
        let tap = Tap::start(&words);
        let url = "http://web/a?token=sesame&b=c%20d";
        inside(&lab, "client", &["curl", "-s4", url, "-H", "Cookie: a=sesame", "-d", "12345"]);
        let ran = tap.stop();
        assert_eq!((ran.status, ran.stderr.contains("1 exchanges in ")), (0, true), "{ran:?}");
        let entries = archive(&har);
        assert_eq!(entries.len(), 1);
        let (request, response) = (&entries[0]["request"], &entries[0]["response"]);
        assert_eq!((&request["method"], &request["bodySize"]), (&"POST".into(), &5.into()));
        assert_eq!(request["queryString"][1]["value"], "c d");
        assert_eq!((&response["status"], &response["statusText"]), (&200.into(), &"OK".into()));
        assert_eq!(response["content"]["size"], response["bodySize"]);
        let times: Vec<f64> = ["send", "wait", "receive"]
            .iter()
            .map(|name| entries[0]["timings"][name].as_f64().unwrap())
            .collect();
        let all = entries[0]["time"].as_f64().unwrap();
        assert!(times.iter().all(|time| *time >= 0.0) && (times.iter().sum::<f64>() - all).abs() < 1e-6);
        let text = fs::read_to_string(&har).unwrap();
        assert_eq!(text.matches("sesame").count(), if secrets { 4 } else { 0 }, "{text}");
    }
}

#[test]
fn files_belong_to_the_user_who_called_sudo() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let (packets, har) = (dir.path().join("web.pcapng"), dir.path().join("web.har"));
    let web = format!("{}:80", target(&lab, "web"));
    let mut command = snorkel(["tap", &web, "-w", packets.to_str().unwrap(), "--har", har.to_str().unwrap()]);
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    let ran = Tap::run(command).stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    for file in [packets, har] {
        let about = fs::metadata(&file).unwrap();
        assert_eq!((about.uid(), about.gid()), (65534, 65534), "{}", file.display());
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_no_connection() {
    use std::os::fd::AsRawFd;
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: the host's table is not touched.
    let script = "mount -t tmpfs -o size=256k small \"$0\" && exec \"$@\"";
    let (packets, har) = (dir.path().join("web.pcapng"), dir.path().join("web.har"));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(dir.path());
    command.args([crate::common::SNORKEL, "tap", &format!("{}:80", target(&lab, "web")), "-w"]);
    command.arg(&packets).arg("--har").arg(&har).env_remove("SUDO_UID");
    let mut tap = Tap::run(command);
    // The disk is that of the tap's own mount namespace, which lives as long as somebody looks at it.
    let disk = fs::File::open(format!("/proc/{}/root{}", tap.pid(), dir.path().display())).unwrap();
    let mut led = connect(&lab, "client", "198.19.0.2:80");
    let send = |stream: &mut TcpStream| {
        stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 400000\r\n\r\n").unwrap();
        stream.write_all(&vec![b'x'; 400_000]).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    };
    send(&mut led);
    let told = tap.wait(1, "no room is left for");
    assert!(told.contains("web.pcapng") && told.contains("could not be written"), "{told}");
    assert!(told.contains("the connections go on"), "{told}");
    // The very connection, and a new one.
    inside(&lab, "client", &["curl", "-sf4", "http://web/after"]);
    drop(led);
    let ran = tap.stop();
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    let copy = |name: &str| {
        let copy = dir.path().join(name);
        fs::copy(PathBuf::from(format!("/proc/self/fd/{}/{name}", disk.as_raw_fd())), &copy).unwrap();
        copy
    };
    // What there is can be read to its end: whole blocks, and the exchange for which there was no room is missing.
    let numbers = tshark(&copy("web.pcapng"), &["-T", "fields", "-e", "frame.number"]);
    assert!(numbers.lines().count() >= 3, "{numbers}");
    archive(&copy("web.har"));
}
