//! `make bench`, third part: how exact faults are, what they cost, and how soon they are in force and over.
//!
//! Faults are put in force as the commands do it ([`snorkel_fault::force`]), at a veth pair between two private namespaces
//! (`world.rs`); how long it takes a user, with everything looked up, is measured with the binary, in a lab. What is
//! compared takes turns, and medians count. Beside each figure stands what is wanted. `make bench-kernels` runs those parts of
//! it that need no binary on other kernels, which have netem.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot run says why and ends")]

mod times;
mod traffic;
mod world;

use std::time::Duration;

use snorkel_bpf::gate::{Direction, Ports, Protocol, Rule, Verdict};
use snorkel_fault::{Distribution, Impairment};

use traffic::{delays, deviation, median, stream, warm_up};
use world::{Held, JUMBO, World, impair, judge};

const MILLISECOND: Duration = Duration::from_millis(1);
/// What of a frame is payload, beside Ethernet, IP, and TCP with time stamps.
fn payload(mtu: u32) -> f64 {
    (f64::from(mtu) - 52.0) / (f64::from(mtu) + 14.0)
}
/// Rounds of what is compared.
const ROUNDS: usize = 9;

fn main() {
    // cargo leaves a long LD_LIBRARY_PATH, in which every dynamic program would search for its libraries.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::remove_var("LD_LIBRARY_PATH") };
    // All parts, or those that are named: `cargo bench -p snorkel --bench faults -- times delay`.
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 6] = [
        ("times", times::all),
        ("delay", delay),
        ("spread", spread),
        ("rate", rate),
        ("cost", cost),
        ("wire", wire),
    ];
    println!("\nfaults; impairments are carried out by {}", world::backend());
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part();
        }
    }
}

/// The median of one-way delays with a fault and without it, by turns, for each delay that is asked for.
fn delay() {
    println!("\ndelay of single packets, one way, ms (wanted: within 0.3)");
    println!("  {:>8} {:>10} {:>10} {:>10}", "asked", "without", "with", "error");
    for asked in [5, 50, 500] {
        let world = World::new();
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            without.extend(delays(&world, 200, MILLISECOND * 2));
            let force =
                world.apply(&impair(Impairment { delay: MILLISECOND * asked, ..Impairment::default() }));
            with.extend(delays(&world, 200, MILLISECOND * 2));
            force.end();
        }
        let (without, with) = (median(&without), median(&with));
        let error = with - without - f64::from(asked);
        println!("  {asked:>8} {without:>10.3} {with:>10.3} {error:>+10.3}");
    }
}

fn spread() {
    println!("\nspread of 100 ms with a jitter of 20 ms: standard deviation, ms (wanted: within 5 %)");
    println!("  {:>14} {:>10} {:>10} {:>8}", "distribution", "asked", "measured", "error");
    let even = 20.0 / 3f64.sqrt();
    for (name, distribution, asked) in [
        ("uniform", Distribution::Uniform, even),
        ("normal", Distribution::Normal, 20.0),
        ("pareto", Distribution::Pareto, 20.0),
        ("paretonormal", Distribution::ParetoNormal, 20.0),
    ] {
        let world = World::new();
        // The first packet waits for the neighbour's address, which comes as late as any packet.
        delays(&world, 1, Duration::ZERO);
        let force = world.apply(&impair(Impairment {
            delay: MILLISECOND * 100,
            jitter: MILLISECOND * 20,
            distribution,
            seed: 7,
            ..Impairment::default()
        }));
        let measured = deviation(&delays(&world, 10_000, MILLISECOND / 5));
        let error = (measured / asked - 1.0) * 100.0;
        println!("  {name:>14} {asked:>10.2} {measured:>10.2} {error:>+7.1} %");
        force.end();
    }
}

fn rate() {
    println!(
        "\nrate: payload of one TCP stream, Mbit/s (wanted: within 5 %, and nothing dropped by a short queue)"
    );
    println!("  {:>8} {:>10} {:>10} {:>8}", "rate", "payload", "carried", "error");
    // A machine with one processor, as those of `make bench-kernels`, needs more than 12 microseconds for a packet's whole way.
    let slow = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    for megabits in [1u64, 10, 100, 1000] {
        let (world, mtu) =
            if slow && megabits == 1000 { (World::jumbo(), JUMBO) } else { (World::new(), 1500) };
        let mut force =
            world.apply(&impair(Impairment { rate: Some(megabits * 125_000), ..Impairment::default() }));
        let carried = stream(&world, MILLISECOND * 1000, MILLISECOND * 3000) / 1e6;
        let payload = megabits as f64 * payload(mtu);
        let error = (carried / payload - 1.0) * 100.0;
        // What is still on its way is not lost.
        let lost = force.lost();
        let packets = if mtu == JUMBO { ", packets of 9000 bytes" } else { "" };
        println!("  {megabits:>8} {payload:>10.2} {carried:>10.2} {error:>+7.1} %  {lost} lost{packets}");
        force.end();
    }
}

/// What packets cost that no rule fits, while a fault is in force at their link.
fn cost() {
    println!(
        "\nthroughput of a TCP stream that a fault is not about, of what it is without (wanted: at least 97 %)"
    );
    let unmatched = |rules: usize| -> Vec<Rule> {
        let one = |direction| Rule {
            peers: vec!["10.7.0.0/16".parse().expect("it is a network")],
            protocol: Some(Protocol::Tcp),
            ports: Ports { peer: Some(9), own: None },
            ..Rule::all(direction, Verdict::Drop)
        };
        Direction::ALL.into_iter().flat_map(|direction| vec![one(direction); rules]).collect()
    };
    for rules in [1, 16] {
        let world = World::new();
        warm_up(&world);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(stream(&world, MILLISECOND * 100, MILLISECOND * 500) / 1e9);
            let force = world.apply(&judge(unmatched(rules)));
            with.push(stream(&world, MILLISECOND * 100, MILLISECOND * 500) / 1e9);
            force.end();
        }
        let (without, with) = (median(&without), median(&with));
        let share = with / without * 100.0;
        println!(
            "  {rules:>2} rules each way  {without:>7.2} Gbit/s without  {with:>7.2} with  {share:>6.1} %"
        );
    }
}

/// What a wire carries beside a plain pair, both without offloads.
fn wire() {
    println!(
        "\nthroughput of a TCP stream through a wire, of a plain pair's, both without offloads (wanted: at least 90 %)"
    );
    let (plain, idle, late) = (World::bare(), World::bare(), World::bare());
    let held = [
        idle.apply(&impair(Impairment::default())),
        late.apply(&impair(Impairment { delay: MILLISECOND, ..Impairment::default() })),
    ];
    let mut rows = vec![("plain pair", &plain), ("wire, nothing to do", &idle), ("wire, 1 ms", &late)];
    // What of it is netem's own: the same delay on a way without a wire.
    let (bridged, bridged_late) = (World::bridged(), World::bridged());
    if bridged_late.delay_by_netem(MILLISECOND) {
        rows.extend([("two pairs, bridged", &bridged), ("the same and a netem, 1 ms", &bridged_late)]);
    }
    let mut carried = vec![Vec::new(); rows.len()];
    // Where a stream's two ends run decides more than what lies between them: many rounds.
    for _ in 0..3 * ROUNDS {
        for ((_, world), carried) in rows.iter().zip(&mut carried) {
            carried.push(stream(world, MILLISECOND * 200, MILLISECOND * 600) / 1e9);
        }
    }
    let usual = median(&carried[0]);
    for ((name, _), carried) in rows.iter().zip(&carried) {
        let got = median(carried);
        println!("  {name:<26} {got:>7.2} Gbit/s  {:>6.1} %", got / usual * 100.0);
    }
    held.into_iter().for_each(Held::end);
}
