//! `make bench`, third part: the tap, beside the ambassadors that one would set up by hand, in one run.
//!
//! Client and application are in two containers, and each ambassador in the network of the application, where it would
//! be. They take turns (A B C, A B C, …), and the median of each counts. On two processors client, ambassador and
//! application share them: what is measured is what the whole path costs, not what the ambassador could do alone.

#![expect(clippy::expect_used, reason = "a bench that cannot run says why and ends")]

mod ambassadors;
mod load;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use snorkel_lab::{LabSpec, Scoped};
use snorkel_netns::{Netns, Process};

use ambassadors::Ambassador;

/// Rounds of each comparison.
const ROUNDS: usize = 5;
/// How long each measurement lasts.
const LASTING: Duration = Duration::from_secs(2);
/// Small requests on one connection.
const REQUESTS: usize = 20_000;
/// Clients that open connections at the same time.
const CLIENTS: usize = 8;
/// Connections that do nothing, if there are descriptors for so many.
const IDLE: usize = 10_000;

/// The application's ports: one that is not tapped, two that are, one that is silent.
const PLAIN: u16 = 7000;
const TAPPED: u16 = 7001;
const DECODED: u16 = 7002;
const SILENT: u16 = 7003;
/// The others' ports.
const SOCAT: u16 = 7100;
const HAPROXY: u16 = 7101;
const HAPROXY_ONE: u16 = 7102;
const SOCAT_BARE: u16 = 7103;
/// Whose ambassador is on which port: all of [`Paths::ambassadors`].
const AMBASSADORS: [u16; 6] = [TAPPED, DECODED, SOCAT, HAPROXY, HAPROXY_ONE, SOCAT_BARE];

fn main() {
    // cargo leaves a long LD_LIBRARY_PATH, in which every dynamic program would search for its libraries.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var("LD_LIBRARY_PATH") };
    let paths = Paths::new();
    // All parts, or those that are named: `cargo bench --bench tap -- latency idle`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    type Part = fn(&Paths);
    let parts: [(&str, Part); 4] =
        [("bulk", bulk), ("latency", latency), ("connections", connections), ("idle", idle)];
    for (name, part) in parts {
        if words.is_empty() || words.iter().any(|word| word == name) {
            part(&paths);
        }
    }
}

/// The release binary under test: the static one of `make release`, if it is there.
fn snorkel() -> String {
    std::env::var("SNORKEL_BENCH_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_snorkel").to_owned())
}

/// Two containers, and the ways from one to the other.
struct Paths {
    /// By [`AMBASSADORS`]. The first field: they end before the lab does.
    ambassadors: [Ambassador; AMBASSADORS.len()],
    client: Netns,
    address: SocketAddr,
    lab: Scoped,
}

impl Paths {
    fn new() -> Paths {
        let spec = LabSpec { holder_exe: Some(snorkel().into()), ..LabSpec::idle(2).named("tap") };
        let lab = Scoped::up(spec).expect("a lab can be made; this needs root");
        let netns = |at: usize| {
            let pid = lab.nodes[at].pid.expect("the node runs");
            Process::open(pid).and_then(|process| process.netns()).expect("the node runs")
        };
        let (client, server) = (netns(0), netns(1));
        let target = format!("lab:{}/{}", lab.name, lab.nodes[1].name);
        let address = SocketAddr::new(lab.nodes[1].addresses[0], PLAIN);
        for port in [PLAIN, TAPPED, DECODED] {
            load::serve(&server, port);
        }
        load::hold(&server, SILENT);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let snorkel = snorkel();
        let haproxy = |port, threads| {
            Ambassador::haproxy(&snorkel, &target, (port, address), threads, folder.path(), &client)
        };
        let ambassadors = AMBASSADORS.map(|port| match port {
            TAPPED => Ambassador::snorkel(&snorkel, &target, TAPPED, &[]),
            DECODED => Ambassador::snorkel(&snorkel, &target, DECODED, &["--as", "http", "-v"]),
            // Eight times its default at once: as good as it can be.
            SOCAT => Ambassador::socat(&snorkel, &target, &["-b", "65536"], (SOCAT, address), &client),
            SOCAT_BARE => Ambassador::socat(&snorkel, &target, &[], (SOCAT_BARE, address), &client),
            HAPROXY_ONE => haproxy(HAPROXY_ONE, 1),
            port => haproxy(port, 0),
        });
        Paths { ambassadors, client, address, lab }
    }

    /// Processor time of the ambassador on this port; none on the application's own.
    fn processor(&self, port: u16) -> Duration {
        let at = AMBASSADORS.iter().position(|known| *known == port);
        at.map_or(Duration::ZERO, |at| self.ambassadors[at].processor())
    }

    fn to(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address.ip(), port)
    }

    /// Measures through each of these ports in turn; the medians of what was measured.
    fn measure<const N: usize>(
        &self,
        ports: [u16; N],
        measure: impl Fn(&Netns, SocketAddr) -> f64,
    ) -> [f64; N] {
        let mut all = [const { Vec::new() }; N];
        for _ in 0..ROUNDS {
            for (port, all) in ports.iter().zip(&mut all) {
                all.push(measure(&self.client, self.to(*port)));
            }
        }
        all.map(median)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bulk(paths: &Paths) {
    let ways = [
        ("nobody between", PLAIN),
        ("snorkel tap", TAPPED),
        ("snorkel tap -v --as http", DECODED),
        ("socat", SOCAT_BARE),
        ("socat -b 65536", SOCAT),
        ("haproxy, splice", HAPROXY),
    ];
    for connections in [1, 16] {
        println!(
            "\nbulk from the application through {connections} connections for {} s (median of {ROUNDS}, in turn)",
            LASTING.as_secs()
        );
        let mut all = [const { [const { Vec::new() }; 2] }; 6];
        for _ in 0..ROUNDS {
            for ((_, port), [rates, costs]) in ways.iter().zip(&mut all) {
                let before = paths.processor(*port);
                let rate = load::bulk(&paths.client, paths.to(*port), connections, LASTING);
                let cost = paths.processor(*port).saturating_sub(before).as_secs_f64();
                rates.push(rate);
                costs.push(cost / (rate * LASTING.as_secs_f64() / 1e9));
            }
        }
        let all = all.map(|both| both.map(median));
        let [_, tapped, decoded, bare, socat, haproxy] = all.map(|[rate, _]| rate);
        for ((what, port), [rate, cost]) in ways.iter().zip(all) {
            let more = match *port {
                TAPPED => format!(
                    "{:.2} x socat, {:.2} x socat -b 65536 (wanted: at least 1.5), {:.2} x haproxy (wanted: at least 1)",
                    tapped / bare,
                    tapped / socat,
                    tapped / haproxy
                ),
                DECODED => format!(
                    "{:.2} x socat, {:.2} x socat -b 65536 (wanted: at least 1)",
                    decoded / bare,
                    decoded / socat
                ),
                _ => String::new(),
            };
            println!("  {what:<26} {:>7.2} Gbit/s  {cost:>5.2} s of CPU for a GB  {more}", rate * 8.0 / 1e9);
        }
    }
}

fn latency(paths: &Paths) {
    println!("\n{REQUESTS} small requests and answers on an open connection (median of {ROUNDS}, in turn)");
    let ports = [PLAIN, TAPPED, SOCAT, HAPROXY];
    let mut all = [const { [const { Vec::new() }; 2] }; 4];
    for _ in 0..ROUNDS {
        for (port, all) in ports.iter().zip(&mut all) {
            let times = load::latency(&paths.client, paths.to(*port), REQUESTS);
            for (all, time) in all.iter_mut().zip(times) {
                all.push(time.as_secs_f64() * 1e6);
            }
        }
    }
    let [direct, tapped, socat, haproxy] = all.map(|both| both.map(median));
    for (what, [half, most]) in
        [("nobody between", direct), ("snorkel tap", tapped), ("socat", socat), ("haproxy, splice", haproxy)]
    {
        println!(
            "  {what:<28} p50 {half:>7.1} µs   p99 {most:>7.1} µs   (added: {:.1} and {:.1})",
            half - direct[0],
            most - direct[1]
        );
    }
    println!("  (wanted: snorkel's below socat's and haproxy's, both)");
}

fn connections(paths: &Paths) {
    println!(
        "\nnew connections, each for one small answer, by {CLIENTS} clients for {} s (median of {ROUNDS}, in turn)",
        LASTING.as_secs()
    );
    let [direct, tapped, socat, haproxy] = paths
        .measure([PLAIN, TAPPED, SOCAT, HAPROXY_ONE], |client, to| {
            load::connections(client, to, CLIENTS, LASTING)
        });
    let row = |what: &str, rate: f64, more: &str| println!("  {what:<28} {rate:>7.0} a second  {more}");
    row("nobody between", direct, "");
    row("snorkel tap", tapped, &format!("{:.2} x haproxy (wanted: above 1)", tapped / haproxy));
    row("socat", socat, "");
    row("haproxy, one thread", haproxy, "");
}

/// Memory of connections that do nothing.
fn idle(paths: &Paths) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // Both ends of each are this program's, and both sides of each the tap's.
    let count = IDLE.min((usize::try_from(limit).unwrap_or(usize::MAX) - 256) / 2);
    let target = format!("lab:{}/{}", paths.lab.name, paths.lab.nodes[1].name);
    let tap = Ambassador::snorkel(&snorkel(), &target, SILENT, &[]);
    let (to, begun) = (paths.to(SILENT), Instant::now());
    let open: Vec<_> = (0..count).map(|_| load::connect(&paths.client, to)).collect();
    let took = begun.elapsed();
    // All that the process has, since what it had at its start and gave back is used again for connections.
    let all = tap.memory() as f64 / 1024.0;
    println!(
        "\n{count} idle connections, opened one after another in {:.1} s\n  {:<26} {:>7.2} KiB for each, of the {:.1} MiB that it has in all  (wanted: under 8)",
        took.as_secs_f64(),
        "snorkel tap",
        all / open.len() as f64,
        all / 1024.0
    );
}
