//! What is kept of UDP ports: each datagram as a packet that tshark reads as what it was.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use snorkel_lab::LabSpec;

use crate::common::{SNORKEL, good, lab, run, snorkel, target};
use crate::datagrams::{SERVER, ask, client, pair, serve};
use crate::kit::{Tap, in_order, inside, needs};
use crate::record::tshark;

const BAD: &str = "ip.checksum.status == \"Bad\" || tcp.checksum.status == \"Bad\" || udp.checksum.status != \"Good\" \
                   || _ws.malformed";

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn questions_and_answers_are_kept_over_udp_and_tcp_at_once() {
    needs("dig");
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dns.pcapng");
    let (path, dns) = (file.to_str().unwrap(), target(&lab, "switch"));
    let begun = since_1970();
    let tap = Tap::start(&["-w", path, &format!("{dns}:53/udp"), &format!("{dns}:53")]);
    inside(&lab, "client", &["dig", "+qid=77", "@198.19.0.1", "web.lab", "A"]);
    inside(&lab, "client", &["dig", "+qid=78", "@fd88::1", "db.lab", "AAAA"]);
    inside(&lab, "client", &["dig", "+qid=79", "+tcp", "@198.19.0.1", "web.lab", "A"]);
    let ran = tap.stop();
    let ended = since_1970();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains(&format!("packets in {path}")), "{ran:?}");
    // The lines are there all the same.
    in_order(&ran.stdout, &["A web.lab: A 198.19.0.2, ", "AAAA db.lab: AAAA fd88::3, "]);

    assert_eq!(tshark(&file, &["-Y", BAD]), "");
    let fields = ["ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "dns.id", "dns.a", "dns.aaaa"];
    let fields = fields.map(|field| ["-e", field]).concat();
    let of = |filter: &str| {
        let seen =
            tshark(&file, &[&["-Y", filter, "-T", "fields", "-E", "separator=,"], &fields[..]].concat());
        seen.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        of("udp"),
        [
            "198.19.0.4,198.19.0.1,,,0x004d,,",
            "198.19.0.1,198.19.0.4,,,0x004d,198.19.0.2,",
            ",,fd88::4,fd88::1,0x004e,,",
            ",,fd88::1,fd88::4,0x004e,,fd88::3",
        ]
    );
    assert_eq!(
        of("tcp && dns"),
        ["198.19.0.4,198.19.0.1,,,0x004f,,", "198.19.0.1,198.19.0.4,,,0x004f,198.19.0.2,"]
    );
    // An answer comes from the port that was asked, to the one that asked, and after the question.
    let ports = tshark(&file, &["-Y", "udp", "-T", "fields", "-e", "udp.srcport", "-e", "udp.dstport"]);
    let ports: Vec<Vec<&str>> = ports.lines().map(|line| line.split('\t').collect()).collect();
    for pair in ports.chunks(2) {
        assert!(pair[0][1] == "53" && pair[1][0] == "53" && pair[0][0] == pair[1][1], "{ports:?}");
    }
    let times = tshark(&file, &["-Y", "udp", "-T", "fields", "-e", "frame.time_epoch"]);
    let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
    assert!(begun < times[0] && times.is_sorted() && times[3] < ended, "{begun} {times:?} {ended}");
    let read = good(["read", path]);
    let (client, server) = (format!("{}/client", lab.name), format!("{}/switch", lab.name));
    in_order(&read, &[&client, &server, "web.lab", &server, &client, "198.19.0.2"]);
}

#[test]
fn a_datagram_is_one_packet_however_short_or_long() {
    let lab = pair();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("long.pcapng");
    let server = serve(crate::datagrams::socket(&lab, "server", "0.0.0.0:7000"));
    let tap = Tap::start(&["-w", file.to_str().unwrap(), &format!("{}:7000/udp", target(&lab, "server"))]);
    let client = client(&lab, "client", SERVER);
    let own = client.local_addr().unwrap();
    // What fits a packet of IPv4 just so: it travels in fragments.
    let longest: Vec<u8> = (0..65_507u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for what in [&longest[..], b"", b"x"] {
        assert_eq!(ask(&client, what), own.to_string());
    }
    assert_eq!(tap.stop().status, 0);
    client.send(b"stop").unwrap();
    server.join().unwrap();
    assert_eq!(tshark(&file, &["-Y", BAD]), "");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let answer = format!("{}\t{}", own.port(), hex(own.to_string().as_bytes()));
    let seen = tshark(&file, &["-T", "fields", "-e", "udp.dstport", "-e", "udp.payload"]);
    let wanted = [
        format!("7000\t{}", hex(&longest)),
        answer.clone(),
        "7000\t".to_owned(),
        answer.clone(),
        "7000\t78".to_owned(),
        answer,
    ];
    assert!(seen.lines().eq(wanted.iter().map(String::as_str)), "{seen}");
}

#[test]
fn a_full_disk_ends_the_recording_and_no_flow() {
    use std::os::fd::AsRawFd;
    let lab = pair();
    let dir = tempfile::tempdir().unwrap();
    let server = serve(crate::datagrams::socket(&lab, "server", "0.0.0.0:7000"));
    // In a mount namespace of its own: the host's table is not touched.
    let script = "mount -t tmpfs -o size=256k small \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(dir.path());
    command.args([SNORKEL, "tap", &format!("{}:7000/udp", target(&lab, "server")), "-w"]);
    command.arg(dir.path().join("full.pcapng")).env_remove("SUDO_UID");
    let mut tap = Tap::run(command);
    // The disk is that of the tap's own mount namespace, which lives as long as somebody looks at it.
    let disk = fs::File::open(format!("/proc/{}/root{}", tap.pid(), dir.path().display())).unwrap();
    let client = client(&lab, "client", SERVER);
    let own = client.local_addr().unwrap().to_string();
    for _ in 0..20 {
        assert_eq!(ask(&client, &[b'x'; 40_000]), own);
    }
    let told = tap.wait(1, "no room is left for");
    assert!(told.contains("full.pcapng") && told.contains("could not be written"), "{told}");
    assert_eq!(ask(&client, b"?"), own);
    let ran = tap.stop();
    assert_eq!((ran.status, ran.stdout.lines().count()), (1, 1), "{ran:?}");
    client.send(b"stop").unwrap();
    server.join().unwrap();
    let copy = dir.path().join("copy.pcapng");
    fs::copy(PathBuf::from(format!("/proc/self/fd/{}/full.pcapng", disk.as_raw_fd())), &copy).unwrap();
    assert!(tshark(&copy, &["-T", "fields", "-e", "frame.number"]).lines().count() >= 2);
}

#[test]
fn where_nobody_reads_the_recording_flows_go_on_and_what_is_missing_is_counted() {
    let lab = pair();
    let server = serve(crate::datagrams::socket(&lab, "server", "0.0.0.0:7000"));
    let at = format!("{}:7000/udp", target(&lab, "server"));
    let mut child =
        snorkel(["tap", &at, "-w", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = child.stderr.take().unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("tapping") {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let client = client(&lab, "client", SERVER);
    let own = client.local_addr().unwrap().to_string();
    // More than may wait (32 MiB), what is being written with it.
    const ASKED: usize = 1300;
    for _ in 0..ASKED {
        assert_eq!(ask(&client, &[b'x'; 60_000]), own);
    }
    // SAFETY: signals a child of this test that has not been reaped.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let mut packets = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut packets).unwrap();
    said.read_to_end(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let text = String::from_utf8(text).unwrap();
    let number = |behind: &str| -> usize {
        let before = text.split(behind).next().unwrap();
        before
            .rsplit(' ')
            .next()
            .unwrap()
            .replace(',', "")
            .parse()
            .unwrap_or_else(|_| panic!("{behind}: {text}"))
    };
    let (written, lost) = (number(" packets in standard output"), number(" events were not recorded"));
    assert!(lost > 0 && written + lost == 2 * ASKED, "{text}");
    client.send(b"stop").unwrap();
    server.join().unwrap();
}

#[test]
fn an_archive_of_http_is_not_made_of_datagrams_alone() {
    let lab = pair();
    let dir = tempfile::tempdir().unwrap();
    let (at, file) = (format!("{}:7000/udp", target(&lab, "server")), dir.path().join("x.har"));
    let ran = run(["tap", &at, "--har", file.to_str().unwrap()]);
    assert!(ran.status == 1 && ran.stderr.contains("no HTTP in datagrams") && !file.exists(), "{ran:?}");
}
