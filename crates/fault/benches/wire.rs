//! How exact and how fast wires are: delays, spreads and rates against what was asked for, throughput against a plain pair.
//!
//! Needs root; works in namespaces of its own. `cargo bench -p snorkel-fault --bench wire [-- delay|spread|rate|speed…]`
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails shows why")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{HOST4, TARGET4, World};
use snorkel_bpf::gate::Direction;
use snorkel_fault::wire::{Backend, Duty};
use snorkel_fault::{Distribution, Impairment};

const MILLISECOND: Duration = Duration::from_millis(1);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 4] = [("delay", delay), ("spread", spread), ("rate", rate), ("speed", speed)];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            part();
        }
    }
}

/// One-way delays of datagrams from the target to the host, in milliseconds, sent this far apart.
fn delays(world: &World, count: usize, apart: Duration) -> Vec<f64> {
    let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
    let there = to.local_addr().unwrap();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                let due = begin + apart * number as u32;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                from.send_to(&begin.elapsed().as_nanos().to_be_bytes(), there).unwrap();
            }
        });
        let one = || {
            let mut sent = [0; 16];
            to.recv_from(&mut sent).unwrap();
            (begin.elapsed().as_nanos() - u128::from_be_bytes(sent)) as f64 / 1e6
        };
        (0..count).map(|_| one()).collect()
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn delay() {
    println!("\ndelay, one way, median in ms");
    println!("{:>8} {:>10} {:>10} {:>10}", "asked", "without", "with", "error");
    for asked in [5, 50, 500] {
        let world = World::new();
        let without = median(&delays(&world, 500, MILLISECOND * 2));
        let impairment = Impairment { delay: MILLISECOND * asked, ..Impairment::default() };
        let _held = world.wire(Direction::Out, &Duty::Impair(impairment), Backend::Best);
        let with = median(&delays(&world, 500, MILLISECOND * 2));
        let error = with - without - f64::from(asked);
        println!("{asked:>8} {without:>10.3} {with:>10.3} {error:>+10.3}");
    }
}

fn spread() {
    println!("\nspread of delays, standard deviation in ms (delay 100 ms, jitter 20 ms)");
    println!("{:>14} {:>10} {:>10} {:>10}", "distribution", "asked", "measured", "ratio");
    let even = 20.0 / 3f64.sqrt();
    for (name, distribution, asked) in [
        ("uniform", Distribution::Uniform, even),
        ("normal", Distribution::Normal, 20.0),
        ("pareto", Distribution::Pareto, 20.0),
        ("paretonormal", Distribution::ParetoNormal, 20.0),
    ] {
        let world = World::new();
        let impairment = Impairment {
            delay: MILLISECOND * 100,
            jitter: MILLISECOND * 20,
            distribution,
            seed: 7,
            ..Impairment::default()
        };
        let _held = world.wire(Direction::Out, &Duty::Impair(impairment), Backend::Best);
        let measured = deviation(&delays(&world, 10_000, MILLISECOND / 5));
        println!("{name:>14} {asked:>10.3} {measured:>10.3} {:>10.3}", measured / asked);
    }
}

/// What a TCP stream from the target to the host carries, bits of payload per second, once it has got going.
fn stream(world: &World, warm: Duration, time: Duration) -> f64 {
    let listener = world.host.run(|| TcpListener::bind((HOST4, 0))).unwrap().unwrap();
    let there: SocketAddr = listener.local_addr().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = world.target.run(|| TcpStream::connect(there)).unwrap().unwrap();
            let bytes = vec![7; 256 << 10];
            while !over.load(Ordering::Relaxed) {
                // The reader goes away when it has seen enough.
                if stream.write_all(&bytes).is_err() {
                    break;
                }
            }
        });
        let mut stream = listener.accept().unwrap().0;
        let mut buffer = vec![0; 256 << 10];
        let mut read_for = |time: Duration| {
            let begin = Instant::now();
            let mut total = 0;
            while begin.elapsed() < time {
                total += stream.read(&mut buffer).unwrap();
            }
            total as f64 * 8.0 / begin.elapsed().as_secs_f64()
        };
        read_for(warm);
        let carried = read_for(time);
        over.store(true, Ordering::Relaxed);
        drop(stream);
        carried
    })
}

fn rate() {
    println!("\nrate, goodput of one TCP stream against what the rate leaves for payload");
    println!("{:>12} {:>12} {:>12} {:>8}", "Mbit/s", "payload", "goodput", "ratio");
    // Of a frame of 1514 bytes, 1448 are payload: Ethernet, IP, and TCP with time stamps.
    const PAYLOAD: f64 = 1448.0 / 1514.0;
    for megabits in [1, 10, 100, 1000] {
        let world = World::new();
        let impairment = Impairment { rate: Some(megabits * 125_000), ..Impairment::default() };
        let (_gate, mut wire) = world.wire(Direction::Out, &Duty::Impair(impairment), Backend::Best);
        let goodput = stream(&world, MILLISECOND * 1000, MILLISECOND * 3000) / 1e6;
        let payload = megabits as f64 * PAYLOAD;
        let dropped = wire.counts().unwrap().dropped;
        println!(
            "{megabits:>12} {payload:>12.2} {goodput:>12.2} {:>8.3}  {dropped} dropped",
            goodput / payload
        );
    }
}

fn speed() {
    println!("\nthroughput of one TCP stream, offloads off, Gbit/s, in rounds that take turns");
    println!("{:>28} {:>8} {:>8} {:>8} {:>8}", "", "median", "ratio", "best", "ratio");
    const ROUNDS: usize = 9;
    let plain = World::new().without_offloads();
    let nothing = World::new().without_offloads();
    let _nothing = nothing.wire(Direction::Out, &Duty::Impair(Impairment::default()), Backend::Best);
    let own = World::new().without_offloads();
    let _own = own.wire(Direction::Out, &Duty::Impair(Impairment::default()), Backend::Own);
    let delayed = World::new().without_offloads();
    let millisecond = Impairment { delay: MILLISECOND, ..Impairment::default() };
    let _delayed = delayed.wire(Direction::Out, &Duty::Impair(millisecond), Backend::Own);
    let rows = [
        ("plain pair", &plain),
        ("wire, nothing to do", &nothing),
        ("wire, own queue, no delay", &own),
        ("wire, own queue, 1 ms", &delayed),
    ];
    let mut carried = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for ((_, world), carried) in rows.iter().zip(&mut carried) {
            carried.push(stream(world, MILLISECOND * 200, MILLISECOND * 600) / 1e9);
        }
    }
    let best = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let (usual, most) = (median(&carried[0]), best(&carried[0]));
    for ((name, _), carried) in rows.iter().zip(&carried) {
        let (got, top) = (median(carried), best(carried));
        println!("{name:>28} {got:>8.2} {:>8.3} {top:>8.2} {:>8.3}", got / usual, top / most);
    }
}
