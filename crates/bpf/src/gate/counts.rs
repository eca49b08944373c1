//! What a gate and its wires have counted, summed up over all processors.

use std::time::Duration;

use super::layout::{HISTOGRAM, RawCount, RawWireCount};

/// What a rule has decided on so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Packets as they are on the wire: a super-packet counts as the segments that it will be.
    pub packets: u64,
    /// Bytes of the frames as the link has them: the headers of a super-packet count once.
    pub bytes: u64,
}

/// What went through a wire so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireCounts {
    /// Packets that reached the private end; super-packets have been cut by then.
    pub entered: u64,
    /// Packets that came back to the public end, and were put back.
    pub returned: u64,
    /// How long packets took from the private end to the public end.
    pub delay: Delay,
}

/// Measured delays. Not every packet is looked at: one in sixty-four, and each that comes a millisecond or more after the one
/// that was looked at before. Of those that come back joined the first alone is measured, if it was looked at. Packets that
/// are alike in length and in their first 96 bytes after the Ethernet header are taken for one another; one that is changed
/// on its way is not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// How many packets were measured.
    pub samples: u64,
    /// The sum of their delays, microseconds.
    pub sum: u64,
    /// The sum of the squares of their delays, square microseconds.
    pub squares: u64,
    /// The shortest; zero if there are no samples.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
    /// How many delays lie in bucket n: below 2^n microseconds and not in a smaller bucket; the last bucket has no
    /// upper end.
    pub histogram: [u64; HISTOGRAM],
}

impl Delay {
    /// The mean; `None` without samples.
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.samples).map(Duration::from_micros)
    }

    /// The standard deviation; `None` without samples.
    pub fn deviation(&self) -> Option<Duration> {
        if self.samples == 0 {
            return None;
        }
        let samples = self.samples as f64;
        let mean = self.sum as f64 / samples;
        let variance = (self.squares as f64 / samples - mean * mean).max(0.0);
        Some(Duration::from_micros(variance.sqrt().round() as u64))
    }
}

impl RuleCount {
    pub(super) fn sum(cpus: &[RawCount]) -> RuleCount {
        let mut sum = RuleCount::default();
        for cpu in cpus {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
        }
        sum
    }
}

impl WireCounts {
    pub(super) fn sum(cpus: &[RawWireCount]) -> WireCounts {
        let mut all = WireCounts::default();
        for cpu in cpus {
            all.entered += cpu.entered;
            all.returned += cpu.returned;
            if cpu.samples == 0 {
                continue;
            }
            let (delay, min) = (&mut all.delay, Duration::from_micros(cpu.min));
            delay.min = if delay.samples == 0 { min } else { delay.min.min(min) };
            delay.max = delay.max.max(Duration::from_micros(cpu.max));
            delay.samples += cpu.samples;
            delay.sum += cpu.sum;
            // Wraps only where the programs' own numbers have: after some 10^13 packets of a second each.
            delay.squares = delay.squares.wrapping_add(cpu.squares);
            delay.histogram.iter_mut().zip(cpu.histogram).for_each(|(all, one)| *all += one);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_without_samples_do_not_lower_the_minimum() {
        let one =
            RawWireCount { samples: 2, sum: 40, squares: 1000, min: 10, max: 30, ..RawWireCount::default() };
        let two =
            RawWireCount { samples: 1, sum: 20, squares: 400, min: 20, max: 20, ..RawWireCount::default() };
        let delay = WireCounts::sum(&[RawWireCount::default(), one, two]).delay;
        assert_eq!((delay.samples, delay.min.as_micros(), delay.max.as_micros()), (3, 10, 30));
        assert_eq!(delay.mean(), Some(Duration::from_micros(20)));
        // Of 10, 20 and 30: the root of 200 thirds.
        assert_eq!(delay.deviation(), Some(Duration::from_micros(8)));
        assert_eq!(WireCounts::default().delay.mean(), None);
    }
}
