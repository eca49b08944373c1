//! What a filter says of a packet is what libpcap says of it: on several hundred expressions, and on random ones, for
//! every type of link, with packets of every kind that are cut off at every length.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod expressions;
mod kernel;
mod packets;
mod pcap;
mod plain;
mod private;
mod random;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use snorkel_capture::LinkType;
use snorkel_capture::filter::{Error, Filter, Instruction, Metadata, Mode, Options, SystemNames};

use pcap::Source;
use plain::Outcome;

const NETMASK: Option<u32> = Some(0xffff_ff00);

fn ours(text: &str, link_type: u16, mode: Mode, swapped: bool) -> Result<Filter, Error> {
    let names = SystemNames::default();
    let options = Options {
        link_type: LinkType(link_type),
        snaplen: 0,
        mode,
        names: &names,
        netmask: NETMASK,
        swapped,
    };
    Filter::compile(text, &options)
}

/// A packet, as much of it as was kept, and what is known besides.
struct Sample {
    data: Vec<u8>,
    length: u32,
    metadata: Metadata,
}

/// All packets of a link's type, cut off at every length; what packets have in common is there once.
fn samples(link_type: u16) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut seen = HashSet::new();
    for packet in packets::packets(link_type) {
        for kept in 0..=packet.len() {
            if !seen.insert(packet[..kept].to_vec()) {
                continue;
            }
            samples.push(Sample {
                data: packet[..kept].to_vec(),
                length: packet.len() as u32,
                metadata: Metadata::default(),
            });
        }
    }
    samples
}

fn outcome(program: &[Instruction], sample: &Sample) -> Outcome {
    plain::run(program, &sample.data, sample.length, &sample.metadata)
}

/// Why libpcap refuses what we take: the list in the documentation of the filters.
const REFUSED_BY_LIBPCAP: [&str; 5] = [
    // The direction of a packet in a file: pcapng tells it.
    "inbound/outbound not supported on",
    // It looks at the first number of the divisor, or of what is shifted by, instead of at its value.
    "division by zero",
    "modulus by zero",
    "shift by more than 31 bits",
    // It has sixteen cells for calculations, and uses more of them than needed.
    "too many registers needed to evaluate expression",
];

/// How a comparison went.
#[derive(Default, Debug)]
struct Tally {
    /// Taken, or refused, by both.
    accepted: usize,
    refused: usize,
    /// Taken by us, and refused by libpcap for a reason of [`REFUSED_BY_LIBPCAP`].
    more: usize,
    /// Refused by us because no packet can match.
    impossible: usize,
    /// Taken by both, but libpcap asks the kernel for something else than what was meant ([`misplaced`]).
    misplaced: usize,
    verdicts: usize,
    matches: usize,
    /// Verdicts in which libpcap's optimiser changes what libpcap says.
    optimiser: usize,
    differences: Vec<String>,
}

impl Tally {
    /// Shows how it went, and fails if there was a difference.
    fn settle(mut self, samples: &[Sample]) {
        let differences = std::mem::take(&mut self.differences);
        println!("{}: {} samples, {self:?}", pcap::version(), samples.len());
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }
}

/// Compares both on one expression.
fn compare(
    text: &str,
    filter: &Result<Filter, Error>,
    source: &Source,
    samples: &[Sample],
    tally: &mut Tally,
) {
    let theirs = source.compile(text, false, NETMASK);
    let optimised = source.compile(text, true, NETMASK);
    let (filter, theirs) = match (filter, theirs) {
        (Err(_), Err(_)) => {
            tally.refused += 1;
            return;
        }
        (Ok(filter), Ok(theirs)) => (filter, theirs),
        (Ok(_), Err(error)) => {
            if REFUSED_BY_LIBPCAP.iter().any(|known| error.contains(known)) {
                tally.more += 1;
            } else {
                tally.differences.push(format!("{text}: taken, but libpcap: {error}"));
            }
            return;
        }
        (Err(error), Ok(theirs)) => {
            if error.message == "no packet can match this" {
                assert!(
                    samples.iter().all(|sample| outcome(&theirs, sample).matches() != Some(true)),
                    "{text}"
                );
                tally.impossible += 1;
            } else if optimised.is_err() || error.message == "this divides by 0" {
                tally.refused += 1;
            } else {
                tally.differences.push(format!("{text}: refused, but taken by libpcap: {}", error.message));
            }
            return;
        }
    };
    if let Err(error) = &optimised {
        // What only the optimiser refuses is what it finds out to be impossible: it may find out more than we do.
        let known = error == "expression rejects all packets" || error == "shift by more than 31 bits";
        assert!(known, "{text}: {error}");
    }
    tally.accepted += 1;
    if misplaced(&theirs) {
        tally.misplaced += 1;
        return;
    }
    // libpcap's own interpreter is asked as well, unless it may not end, or reads what was never written.
    let own = !theirs.iter().any(|i| i.code & 0xe6 == 0x60 || i.code == 5 && i.k.cast_signed() < 0)
        && !theirs.iter().any(|i| i.code & 0xe7 == 0x20 && i.k >= 0xffff_f000);
    for sample in samples {
        let our = filter.run(&sample.data, sample.length, &sample.metadata) != 0;
        let outcome_of_theirs = outcome(&theirs, sample);
        let Some(their) = outcome_of_theirs.matches() else {
            assert!(!our, "{text}: libpcap never ends, and we say yes");
            continue;
        };
        if own {
            assert_eq!(pcap::run(&theirs, &sample.data, sample.length) != 0, their, "{text}");
        }
        tally.verdicts += 1;
        tally.matches += usize::from(our);
        if our != their {
            let mut hex = String::new();
            for byte in &sample.data {
                let _ = write!(hex, "{byte:02x}");
            }
            tally.differences.push(format!(
                "{text}: {our}, libpcap {their}: {} of {} bytes: {hex}\n{}",
                sample.data.len(),
                sample.length,
                filter.disassembly()
            ));
            break;
        }
        if let Ok(optimised) = &optimised {
            let other = outcome(optimised, sample).matches();
            if other != Some(their) {
                let left_out = outcome_of_theirs == Outcome::Failed;
                let negative = outcome(optimised, sample) == Outcome::Failed
                    && optimised.iter().any(|i| i.code & 0xe7 == 0x40 && i.k.cast_signed() < 0);
                assert!(
                    left_out || negative || pulled_up(optimised),
                    "{text}: optimised libpcap says {other:?}, not optimised {their}"
                );
                tally.optimiser += 1;
            }
        }
    }
}

/// Whether libpcap has added the offset of an inner header to the number of what it asks the kernel for: `inbound`,
/// `outbound` and `ifindex` after `pppoes` and `geneve`.
fn misplaced(program: &[Instruction]) -> bool {
    program.iter().any(|i| {
        let ancillary = i.k >= 0xffff_f000;
        let known = [4, 8, 44, 48].contains(&(i.k & 0xfff));
        ancillary && (i.code & 0xe7 == 0x20 && !known || i.code & 0xe7 == 0x40 && known)
    })
}

/// Whether libpcap's optimiser has made its mistake: it has put the question whether the kernel has a tag behind the
/// step that moves the offsets because the kernel has none.
fn pulled_up(program: &[Instruction]) -> bool {
    const VLAN_PRESENT: u32 = 0xffff_f030;
    let question = program.iter().position(|i| i.code == 0x30 && i.k == VLAN_PRESENT);
    let moved = program.iter().skip(3).position(|i| i.code & 7 == 2).map(|at| at + 3);
    matches!((question, moved), (Some(question), Some(moved)) if moved < question)
}

fn corpus(link_type: u16, swapped: bool) {
    let source = Source::file(link_type, swapped);
    let samples = samples(link_type);
    let mut tally = Tally::default();
    for text in expressions::expressions() {
        let filter = ours(text, link_type, Mode::File, swapped);
        compare(text, &filter, &source, &samples, &mut tally);
    }
    tally.settle(&samples);
}

/// Compares what both make of random expressions; each with some of the packets, and these damaged.
fn random(link_type: u16, mode: Mode, source: &Source, samples: &[Sample]) {
    let tally = RefCell::new(Tally::default());
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let strategy = (random::expression(), prop::collection::vec((any::<Index>(), random::damage()), 40));
    let result = runner.run(&strategy, |(text, picks)| {
        let picked: Vec<Sample> = picks
            .iter()
            .map(|(index, damage)| {
                let sample = index.get(samples);
                let mut data = sample.data.clone();
                damage.apply(&mut data);
                Sample { data, ..*sample }
            })
            .collect();
        let filter = ours(&text, link_type, mode, false);
        let tally = &mut *tally.borrow_mut();
        compare(&text, &filter, source, &picked, tally);
        let differences = std::mem::take(&mut tally.differences);
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    tally.into_inner().settle(samples);
}

#[test]
fn ethernet() {
    corpus(1, false);
}

#[test]
fn raw() {
    corpus(101, false);
}

#[test]
fn ipv4() {
    corpus(228, false);
}

#[test]
fn ipv6() {
    corpus(229, false);
}

#[test]
fn cooked() {
    corpus(113, false);
}

#[test]
fn cooked_version_2() {
    corpus(276, false);
}

#[test]
fn ppp() {
    corpus(9, false);
}

#[test]
fn loopback() {
    corpus(0, false);
}

#[test]
fn loopback_of_a_machine_of_the_other_byte_order() {
    corpus(0, true);
}

#[test]
fn loopback_of_openbsd() {
    corpus(108, false);
}

#[test]
fn random_expressions() {
    for link_type in [1, 1, 1, 113, 276, 101, 9, 0] {
        random(link_type, Mode::File, &Source::file(link_type, false), &samples(link_type));
    }
}

/// Ethernet as the kernel shows it: tags and directions beside the frame.
fn live_samples() -> Vec<Sample> {
    let mut all = Vec::new();
    for (index, sample) in samples(1).into_iter().enumerate() {
        let metadata = Metadata {
            packet_type: Some([0, 4, 1, 3][index % 4]),
            link_index: Some(index as u32 % 3),
            vlan_tag: [None, None, Some(5), Some(0x6000 | 100), Some(0)][index % 5],
        };
        all.push(Sample { metadata, ..sample });
    }
    all
}

#[test]
fn ethernet_from_the_kernel() {
    private::network(|| {
        let source = Source::live("lo");
        let samples = live_samples();
        let mut tally = Tally::default();
        for text in expressions::expressions() {
            let filter = ours(text, 1, Mode::Live, false);
            compare(text, &filter, &source, &samples, &mut tally);
        }
        tally.settle(&samples);
    });
}

#[test]
fn random_expressions_for_the_kernel() {
    private::network(|| random(1, Mode::Live, &Source::live("lo"), &live_samples()));
}
