//! Many rings in one session: their order, their budget, coming and going. Needs root.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::{
    AtTheEnd, Kept, Over, Pair, Sender, Story, finish, frame, number_of, only_ours, private, ring, turn,
    until,
};
use snorkel_capture::ring::{Budget, Link, LinkState, Ring, Session, Settings, Turn};
use snorkel_netns::Netns;

/// Whether a later packet never comes before an earlier one.
fn in_order(packets: &[Kept]) -> bool {
    packets.is_sorted_by_key(|packet| packet.time)
}

#[test]
fn the_packets_of_many_rings_come_in_order_of_time() {
    let pairs: Vec<Pair> = (0..4).map(|_| Pair::new()).collect();
    let filter = only_ours();
    let settings = Settings { filter: Some(&filter), bytes: 8 << 20, ..Settings::default() };
    let mut session = Session::new().unwrap();
    for pair in &pairs {
        for end in [&pair.a, &pair.b] {
            session.add(Ring::open(end, Link::Name("eth0"), &settings).unwrap()).unwrap();
        }
    }
    let senders: Vec<Sender> = pairs.iter().map(|pair| Sender::new(&pair.a, "eth0")).collect();
    let mut story = Story::default();
    // One is busy, two are slow, one is silent; the number tells the order of sending over all of them.
    let count = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                let which = match number {
                    n if n % 1000 == 0 => 1,
                    n if n % 37 == 0 => 2,
                    _ => 0,
                };
                senders[which].send(&frame(number, &[], 60));
            }
        });
        until(&mut session, &mut story, |story| story.packets.len() >= 2 * count as usize);
    });
    finish(&mut session, &mut story);
    assert!(
        story.ledgers.iter().all(|(_, ledger)| ledger.late == 0 && ledger.dropped == 0),
        "{:?}",
        story.ledgers
    );
    assert!(in_order(&story.packets));
    // What one thread sent one after the other has that order at all the sending ends together.
    let sent: Vec<u32> =
        story.packets.iter().filter(|p| p.interface % 2 == 0).filter_map(|p| number_of(&p.data)).collect();
    assert!(sent.iter().copied().eq(0..count), "{} packets", sent.len());
}

#[test]
fn a_ring_that_fills_up_does_not_wait_for_one_that_keeps_its_block() {
    let (busy, slow) = (Pair::new(), Pair::new());
    let filter = only_ours();
    let settings = Settings { filter: Some(&filter), bytes: Budget::LEAST, ..Settings::default() };
    let mut session = Session::new().unwrap();
    let fast = session.add(Ring::open(&busy.b, Link::Name("eth0"), &settings).unwrap()).unwrap();
    // The kernel keeps this one's block for a minute, so the other's packets cannot be known to be the oldest.
    let settings = Settings { retire: Some(Duration::from_secs(60)), ..settings };
    let keeping = session.add(Ring::open(&slow.b, Link::Name("eth0"), &settings).unwrap()).unwrap();
    Sender::new(&slow.a, "eth0").send(&frame(1_000_000, &[], 60));
    let sender = Sender::new(&busy.a, "eth0");
    let mut story = Story::default();
    let mut sent = 0;
    while story.packets.is_empty() {
        for _ in 0..50 {
            sender.send(&frame(sent, &[], 1000));
            sent += 1;
        }
        if session.next(Some(Instant::now())).unwrap() == Turn::Packets {
            story.packets.extend(session.packets().iter().map(Kept::from));
        }
    }
    assert!(story.ours(keeping).is_empty());
    // Now its block is filled, and handed over: what is in it is told to be late.
    let sender = Sender::new(&slow.a, "eth0");
    for number in 1_000_001..1_000_400 {
        sender.send(&frame(number, &[], 1000));
    }
    until(&mut session, &mut story, |story| !story.ours(keeping).is_empty());
    assert_eq!(number_of(&story.ours(keeping)[0].data), Some(1_000_000));
    let ledger = session.ledger(keeping).unwrap().unwrap();
    assert!(ledger.late >= 1, "{ledger:?}");
    assert_eq!(session.ledger(fast).unwrap().unwrap().late, 0);
}

#[test]
fn a_ring_that_is_alone_hands_its_blocks_out_in_parts_also_when_another_joins_or_goes() {
    let (busy, quiet) = (Pair::new(), Pair::new());
    let filter = only_ours();
    let settings = Settings { filter: Some(&filter), ..Settings::default() };
    let mut session = Session::new().unwrap();
    let one = session.add(Ring::open(&busy.a, Link::Name("eth0"), &settings).unwrap()).unwrap();
    let (at_one, at_two) = (Sender::new(&busy.a, "eth0"), Sender::new(&quiet.a, "eth0"));
    let mut story = Story::default();
    let part = |session: &mut Session, story: &mut Story| {
        let before = story.packets.len();
        until(session, story, |story| story.packets.len() > before);
        story.packets.len() - before
    };
    let count = 9000;
    (0..count).for_each(|number| at_one.send(&frame(number, &[], 60)));
    assert!(part(&mut session, &mut story) <= 1024, "what fits into a processor's cache");
    // In the middle of a block.
    let two = session.add(Ring::open(&quiet.a, Link::Name("eth0"), &settings).unwrap()).unwrap();
    until(&mut session, &mut story, |story| story.ours(one).len() == count as usize);
    (count..2 * count).for_each(|number| at_one.send(&frame(number, &[], 60)));
    at_two.send(&frame(0, &[], 60));
    until(&mut session, &mut story, |story| story.ours(two).len() == 1);
    session.stop(two).unwrap();
    until(&mut session, &mut story, |story| !story.ledgers.is_empty());
    (2 * count..3 * count).for_each(|number| at_one.send(&frame(number, &[], 60)));
    finish(&mut session, &mut story);
    let numbers: Vec<u32> = story.ours(one).iter().filter_map(|p| number_of(&p.data)).collect();
    assert!(numbers.iter().copied().eq(0..3 * count), "{} packets", numbers.len());
    assert!(in_order(&story.packets) && story.ledger(one).late == 0);
}

#[test]
fn rings_come_and_go_while_others_run() {
    let (first, second) = (Pair::new(), Pair::new());
    let mut session = Session::new().unwrap();
    let mut story = Story::default();
    let one = session.add(ring(&first.a, "eth0")).unwrap();
    let (at_first, at_second) = (Sender::new(&first.a, "eth0"), Sender::new(&second.a, "eth0"));
    at_first.send(&frame(1, &[], 60));
    until(&mut session, &mut story, |story| story.ours(one).len() == 1);

    let two = session.add(ring(&second.a, "eth0")).unwrap();
    at_first.send(&frame(2, &[], 60));
    at_second.send(&frame(3, &[], 60));
    until(&mut session, &mut story, |story| story.ours(one).len() == 2 && story.ours(two).len() == 1);

    at_first.send(&frame(4, &[], 60));
    session.stop(one).unwrap();
    at_first.send(&frame(5, &[], 60));
    until(&mut session, &mut story, |story| !story.ledgers.is_empty());
    assert_eq!(story.ours(one).len(), 3);
    assert!(session.ledger(one).unwrap().is_none());

    // It may come again, as another.
    let three = session.add(ring(&first.a, "eth0")).unwrap();
    at_first.send(&frame(6, &[], 60));
    at_second.send(&frame(7, &[], 60));
    until(&mut session, &mut story, |story| story.ours(three).len() == 1 && story.ours(two).len() == 2);
    finish(&mut session, &mut story);
    assert_eq!((one, two, three), (0, 1, 2));
    assert_eq!(story.ledgers.len(), 3);
    assert!(in_order(&story.packets));
    assert_eq!(session.next(None).unwrap(), Turn::Finished);
}

#[test]
fn the_wait_ends_with_a_watched_descriptor_and_with_the_deadline() {
    let pair = Pair::new();
    let filter = only_ours();
    let settings = Settings { filter: Some(&filter), bytes: 1 << 20, ..Settings::default() };
    let mut session = Session::new().unwrap();
    session.add(Ring::open(&pair.a, Link::Name("eth0"), &settings).unwrap()).unwrap();
    assert_eq!(session.next(Some(Instant::now())).unwrap(), Turn::Deadline);
    assert_eq!(session.next(Some(Instant::now() + Duration::from_millis(20))).unwrap(), Turn::Deadline);

    let (reader, writer) = std::io::pipe().unwrap();
    session.watch(reader.as_fd(), 42).unwrap();
    assert_eq!(session.next(Some(Instant::now())).unwrap(), Turn::Deadline);
    std::io::Write::write_all(&mut &writer, b"!").unwrap();
    assert_eq!(session.next(None).unwrap(), Turn::Woken(42));
    assert_eq!(session.next(None).unwrap(), Turn::Woken(42));
    session.unwatch(&reader).unwrap();
    assert_eq!(session.next(Some(Instant::now())).unwrap(), Turn::Deadline);
}

#[test]
fn a_watched_descriptor_is_heard_amid_traffic() {
    let pair = Pair::new();
    let mut session = Session::new().unwrap();
    session.add(ring(&pair.a, "eth0")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    session.watch(&reader, 7).unwrap();
    let over = Over::default();
    let mut story = Story::default();
    std::thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        scope.spawn(|| {
            let sender = Sender::new(&pair.a, "eth0");
            while !over.yet() {
                sender.send(&frame(1, &[], 1500));
            }
        });
        until(&mut session, &mut story, |story| !story.packets.is_empty());
        std::io::Write::write_all(&mut &writer, b"!").unwrap();
        while turn(&mut session, &mut story) != Turn::Woken(7) {}
    });
}

#[test]
fn fifty_rings_keep_to_the_budget_and_each_hands_out_its_packets() {
    let (host, mut at_host) = private();
    let share = Budget::default().share(50).unwrap();
    let filter = only_ours();
    let settings = Settings { filter: Some(&filter), bytes: share, ..Settings::default() };
    let mut session = Session::new().unwrap();
    let containers: Vec<Netns> = (0..50)
        .map(|number| {
            let (container, mut inside) = private();
            let name = format!("veth{number}");
            let outside = at_host.add_veth(&name, "eth0", Some(&container)).unwrap();
            at_host.set_up(outside).unwrap();
            let index = inside.index_of("eth0").unwrap().unwrap();
            inside.set_up(index).unwrap();
            let ring = Ring::open(&container, Link::Name("eth0"), &settings).unwrap();
            assert_eq!(session.add(ring).unwrap(), number);
            container
        })
        .collect();
    let total: usize = session.rings().map(|(_, ring)| ring.bytes()).sum();
    assert!(total <= Budget::default().total, "{total}");
    for number in 0..50 {
        Sender::new(&host, &format!("veth{number}")).send(&frame(number, &[], 60));
    }
    let mut story = Story::default();
    until(&mut session, &mut story, |story| story.packets.len() == 50);
    finish(&mut session, &mut story);
    assert!(in_order(&story.packets));
    for packet in &story.packets {
        assert_eq!(number_of(&packet.data), Some(packet.interface as u32));
    }
    assert!(story.ledgers.iter().all(|(_, ledger)| ledger.late == 0 && ledger.delivered == 1));
    drop(containers);
}

#[test]
fn all_links_gone_at_once_is_the_end() {
    let (host, mut at_host) = private();
    let mut session = Session::new().unwrap();
    let mut links = Vec::new();
    for name in ["one", "two", "three"] {
        let link = at_host.add_veth(name, &format!("{name}-peer"), None).unwrap();
        session.add(ring(&host, name)).unwrap();
        links.push(link);
    }
    for link in links {
        at_host.remove(link).unwrap();
    }
    let mut story = Story::default();
    while turn(&mut session, &mut story) != Turn::Finished {}
    story.check();
    assert_eq!(story.links.iter().filter(|(_, state)| *state == LinkState::Gone).count(), 3);
    assert_eq!(story.ledgers.len(), 3);
}
