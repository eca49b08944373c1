//! A thousand faults begin and end in one process, and nothing of them stays. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::World;
use snorkel_bpf::gate::{Direction, Rule, Verdict, WireNumber};
use snorkel_bpf::probe;
use snorkel_fault::force::{Force, Means};
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Action, Effect, Wire};
use snorkel_fault::{FaultId, Impairment, Result};
use snorkel_netns::{Netns, NetnsId, os};
use snorkel_rtnl::Socket;

/// How many faults; fewer on a machine that is emulated (`make test-kernels`), where each takes as long as ten elsewhere.
fn rounds() -> usize {
    if std::env::var_os("SNORKEL_TEST_KERNEL_HAS").is_some() { 100 } else { 1000 }
}

/// One in so many has a wire, whose sockets take the kernel long to close.
const WITH_A_WIRE: usize = 10;

/// What a process has, and what the kernel has for it.
#[derive(Debug, PartialEq, Eq)]
struct Owned {
    descriptors: usize,
    threads: usize,
    links: Vec<String>,
}

impl Owned {
    fn now(world: &World) -> Owned {
        let links = [&world.host, &world.target].map(|netns| Socket::open_in(netns).unwrap().links(None));
        let links = links.into_iter().flat_map(Result::unwrap).map(|link| link.name).collect();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        Owned { descriptors, threads: os::threads().unwrap(), links }
    }
}

/// The ids of what of bpf this process holds (proc_pid_fdinfo(5)).
fn held() -> [BTreeSet<u32>; 3] {
    let infos: Vec<String> = fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .collect();
    ["prog_id:", "map_id:", "link_id:"].map(|word| {
        let found = infos.iter().filter_map(|info| info.lines().find_map(|line| line.strip_prefix(word)));
        found.map(|id| id.trim().parse().unwrap()).collect()
    })
}

/// The pages of memory that the process has.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The round's fault: all is dropped, or led through a wire that delays it, or one that answers.
fn action(round: usize) -> Action {
    if !round.is_multiple_of(WITH_A_WIRE) {
        return Action::Gate {
            rules: vec![Rule::all(Direction::Out, Verdict::Drop)],
            wires: Vec::new(),
            flap: None,
        };
    }
    let late = Impairment { delay: std::time::Duration::from_millis(1), ..Impairment::default() };
    let effect = match round / WITH_A_WIRE % 2 {
        0 => Effect::Impair(Box::new(late)),
        _ => Effect::Reject,
    };
    Action::Gate {
        rules: vec![Rule::all(Direction::Out, Verdict::Wire(WireNumber(0)))],
        wires: vec![Wire { direction: Direction::Out, effect }],
        flap: None,
    }
}

#[test]
fn a_thousand_faults_leave_no_descriptor_program_map_link_thread_or_memory() {
    let world = World::new();
    let rounds = rounds();
    let id: FaultId = "fleak".parse().unwrap();
    let place = tempfile::tempdir().unwrap();
    let journal = Journal::at(place.path());
    let open = |_: NetnsId| -> Result<Netns> { Ok(world.host.try_clone()?) };
    let means = Means { id: &id, journal: &journal, guardian: None, open: &open };
    let mut all: [BTreeSet<u32>; 3] = Default::default();
    let mut begun = None;
    for round in 0..rounds {
        let force = Force::apply(&world.plan(action(round)), &means).unwrap();
        for (all, now) in all.iter_mut().zip(held()) {
            all.extend(now);
        }
        let (healed, remains) = force.heal(&means);
        assert!(healed.troubles.is_empty(), "{healed:?}");
        drop(remains);
        // Until then what is made once is there: heaps of threads, their stacks.
        if round == rounds / 2 {
            begun = Some((Owned::now(&world), resident()));
        }
    }
    let (owned, pages) = begun.unwrap();
    assert_eq!(Owned::now(&world), owned);
    let grown = resident().saturating_sub(pages) * rustix::param::page_size() as u64;
    // One more heap of a thread's is no leak; the ring of one wire alone is larger.
    assert!(grown < 6 << 20, "{grown} bytes more");
    // Each round has been looked at: programs and maps, and links where the kernel has them.
    assert!(all[0].len() >= rounds && all[1].len() >= rounds, "{} {}", all[0].len(), all[1].len());
    // The kernel frees them when nobody can be using them any more: soon, and not for us to say when.
    let left = || {
        let now = [probe::programs(), probe::maps(), probe::links()];
        let now = now.map(|ids| ids.unwrap().into_iter().collect::<BTreeSet<u32>>());
        all.iter().zip(now).map(|(all, now)| all.intersection(&now).count()).collect::<Vec<_>>()
    };
    common::eventually(left, |left| left.iter().all(|count| *count == 0));
    // The journal's directory goes with its last entry, where there was one.
    match fs::read_dir(place.path()) {
        Ok(entries) => assert_eq!(entries.count(), 0, "nothing is written down"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}
