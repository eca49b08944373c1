//! Packets and streams, and figures of them.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::world::World;

/// One-way delays of datagrams from the target to the host, in milliseconds, sent this far apart.
pub(crate) fn delays(world: &World, count: usize, apart: Duration) -> Vec<f64> {
    let (from, to) = world.datagrams();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                // There are fewer than a `u32` counts.
                let due = begin + apart * number as u32;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                from.send(&begin.elapsed().as_nanos().to_be_bytes()).unwrap();
            }
        });
        let one = || {
            let mut sent = [0; 16];
            to.recv(&mut sent).unwrap();
            (begin.elapsed().as_nanos() - u128::from_be_bytes(sent)) as f64 / 1e6
        };
        (0..count).map(|_| one()).collect()
    })
}

/// What a TCP stream from the target to the host carries, bits of payload per second, once it has got going.
pub(crate) fn stream(world: &World, warm: Duration, time: Duration) -> f64 {
    let over = AtomicBool::new(false);
    let (mut from, mut to) = world.connection();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = vec![7; 256 << 10];
            while !over.load(Ordering::Relaxed) {
                // The reader goes away when it has seen enough.
                if from.write_all(&bytes).is_err() {
                    break;
                }
            }
            drop(from);
        });
        let mut buffer = vec![0; 256 << 10];
        let mut read_for = |time: Duration| {
            let begin = Instant::now();
            let mut total = 0;
            while begin.elapsed() < time {
                total += to.read(&mut buffer).unwrap();
            }
            total as f64 * 8.0 / begin.elapsed().as_secs_f64()
        };
        read_for(warm);
        let carried = read_for(time);
        over.store(true, Ordering::Relaxed);
        drop(to);
        carried
    })
}

/// Has the machine hand out the memory that streams need.
pub(crate) fn warm_up(world: &World) {
    stream(world, Duration::ZERO, Duration::from_millis(500));
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

pub(crate) fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}
