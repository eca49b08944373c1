//! The tools whose words are compared, and the traffic that all of them look at.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};

use snorkel_capture::dissect::{Base, Printer, Sequences, Style, Summary, TimeFormat};
use snorkel_capture::names::Names;

use crate::pcap::File;

/// Captures of real traffic: `web.pcap` of all kinds, `lossy.pcap` of a transfer that loses. Tests that run at the same
/// time look at the same ones; the last of them takes the files away.
pub(crate) fn traffic() -> Arc<Traffic> {
    static SHARED: Mutex<Weak<Traffic>> = Mutex::new(Weak::new());
    // A test that failed while it waited here has made nothing wrong.
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        assert!(
            rustix::process::geteuid().is_root(),
            "namespaces and packet sockets need root: run the tests as root"
        );
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agreement/traffic.sh");
        let mut traffic = Command::new("timeout");
        traffic.args(["100", "unshare", "-mnpf", "--mount-proc", "--kill-child", "bash"]).arg(script);
        run(traffic.arg(folder.path()));
        let made = Arc::new(Traffic(folder));
        *shared = Arc::downgrade(&made);
        made
    })
}

/// The folder of the captures.
pub(crate) struct Traffic(tempfile::TempDir);

impl Traffic {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Runs a tool that must succeed; what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (scripts/install-test-deps installs it)"));
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// tcpdump's text of each packet, behind its time; lines that go on are joined by a blank.
pub(crate) fn tcpdump(path: &Path, options: &[&str]) -> Vec<String> {
    let text = run(Command::new("tcpdump").args(["-nn", "-tt"]).args(options).arg("-r").arg(path));
    let mut packets: Vec<String> = Vec::new();
    for line in text.lines() {
        let time = line.split_once(' ').filter(|(time, _)| time.contains('.') && time.parse::<f64>().is_ok());
        match (time, packets.last_mut()) {
            (Some((_, rest)), _) => packets.push(rest.to_owned()),
            (None, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            (None, None) => panic!("tcpdump began with: {line}"),
        }
    }
    packets
}

/// tshark's values of each packet's fields, several of a kind with a comma between them. Nothing is put together from
/// several packets. Flags are 1 and 0, as versions before 4.2 write them.
pub(crate) fn tshark(path: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path).args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]);
    for preference in [
        "tcp.desegment_tcp_streams:FALSE",
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tls.desegment_ssl_records:FALSE",
        "http.desegment_headers:FALSE",
        "http.desegment_body:FALSE",
        // Of several answers to one question all are to be told.
        "tcp.analyze_sequence_numbers:FALSE",
    ] {
        command.args(["-o", preference]);
    }
    command.args(["-d", "tcp.port==4433,tls", "-d", "tcp.port==8000,http"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let value = |value: &str| value.replace("True", "1").replace("False", "0");
    run(&mut command).lines().map(|line| line.split('|').map(value).collect()).collect()
}

/// Our lines, without time and columns.
pub(crate) fn lines(file: &File, relative: bool, style: Style) -> Vec<String> {
    timed_lines(file, relative, Style { time: TimeFormat::None, ..style })
}

/// Our lines with their times, without other columns.
pub(crate) fn timed_lines(file: &File, relative: bool, style: Style) -> Vec<String> {
    let style = Style { link: false, direction: false, ..style };
    let mut printer = Printer::new(style, Arc::new(Names::new()));
    printer.interface(&file.interface);
    let mut sequences = relative.then(|| Sequences::new(1000));
    let mut out = Vec::new();
    let line = |packet: snorkel_capture::Packet<'_>| {
        let base =
            sequences.as_mut().map_or_else(Base::default, |all| all.base(file.interface.link_type, &packet));
        out.clear();
        printer.line(&packet, base, &mut out);
        String::from_utf8(out.clone()).unwrap().trim_end_matches('\n').to_owned()
    };
    file.packets().map(line).collect()
}

/// Our structured form.
pub(crate) fn summaries(file: &File) -> Vec<serde_json::Value> {
    let names = Names::new();
    let one = |packet| serde_json::to_value(Summary::new(&packet, &file.interface, &names)).unwrap();
    file.packets().map(one).collect()
}
