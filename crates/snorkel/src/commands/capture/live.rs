//! The running capture: it waits for packets, signals and ends, and hands each to whom it concerns.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snorkel_capture::file::{Asked, Lost, Patience};
use snorkel_capture::pair::{Fate, Pairs, Tally};
use snorkel_capture::ring::{Ledger, LinkState, Ring, RingId, Session, Shifts, Turn};
use snorkel_capture::{Packet, Timestamp};
use snorkel_topology::Snapshot;

use super::begin::{Begun, Member, World};
use super::captured::{Captured, let_through, now};
use super::course::{Course, Due, Limits};
use super::filter::Filters;
use super::follow::{Follower, Message};
use super::opening::{filter_here, netmask};
use super::signals::drain;
use super::sink::{Sink, Trouble};
use super::spots::Spot;
use super::trigger::{Kind, Trigger};
use crate::commands::warn_all;
use crate::failure::Failure;
use crate::render::text::printable;

/// The account in a file that gives way to the next one is not older.
const SEAM: Duration = Duration::from_millis(20);

/// Numbers by which the session tells what woke it.
const STOP: u64 = 0;
const USR1: u64 = 1;
const READER: u64 = 2;
const FOLLOWER: u64 = 3;
const MEMBERS: u64 = 1000;

/// A capture that runs.
pub(super) struct Live {
    session: Session,
    sink: Box<dyn Sink>,
    captured: BTreeMap<RingId, Captured>,
    /// Those that have ended are none.
    members: Vec<Option<Member>>,
    world: World,
    follower: Option<Follower>,
    filters: Filters,
    trigger: Option<Trigger>,
    /// That it is asked to end, which also what waits for a reader has to know.
    patience: Patience,
    /// SIGUSR1.
    usr1: UnixStream,
    taken: u64,
    /// When it ends of its own.
    pub(super) limits: Limits,
    /// The matching of both ends of links, if that is wanted.
    pub(super) pairs: Option<Pairs>,
    /// Whether the counters are shown as they grow.
    pub(super) show: bool,
    /// Whether the output is a series of files.
    pub(super) seams: bool,
    /// The processors that it works on in turn, if it runs in real time.
    pub(super) shifts: Option<Shifts>,
    /// When the sink was told the account last, for a seam.
    told: Timestamp,
}

/// How it went.
pub(crate) struct Outcome {
    /// Every link, by its number.
    pub(crate) captured: BTreeMap<RingId, Captured>,
    /// What became of packets between two ends of a link: the rings of the ends, from the first to the second and back.
    pub(crate) pairs: Vec<(RingId, RingId, [Tally; 2])>,
    /// Packets that were captured and could not be written.
    pub(crate) unwritten: Lost,
    /// What stopped the writing.
    pub(crate) failure: Option<Failure>,
    pub(crate) sink: Box<dyn Sink>,
}

impl Live {
    /// Nothing is captured yet.
    pub(super) fn new(
        sink: Box<dyn Sink>,
        filters: Filters,
        trigger: Option<Trigger>,
        patience: Patience,
        usr1: UnixStream,
    ) -> Result<Live, Failure> {
        let session = Session::new()?;
        session.watch(&patience, STOP)?;
        session.watch(&usr1, USR1)?;
        Ok(Live {
            session,
            sink,
            captured: BTreeMap::new(),
            members: Vec::new(),
            world: World::new(Snapshot::default()),
            follower: None,
            filters,
            trigger,
            patience,
            usr1,
            taken: 0,
            limits: Limits::default(),
            pairs: None,
            show: false,
            seams: false,
            shifts: None,
            told: Timestamp(0),
        })
    }

    /// Ends it when nobody reads stdout any more.
    pub(super) fn end_with_reader(&self) {
        // A reader that goes away is an error on the pipe; of a file nothing can be waited for.
        let _ = self.session.watch_end(std::io::stdout().as_fd(), READER);
    }

    /// Takes what was opened at first.
    pub(super) fn begin(&mut self, begun: Begun) -> Result<(), Failure> {
        self.world = begun.world;
        for (ring, spot) in begun.rings {
            self.attach(ring, spot)?;
        }
        for member in begun.members {
            self.join(member)?;
        }
        if let Some(follower) = begun.follower {
            self.session.expect_more(true);
            self.session.watch(&follower, FOLLOWER)?;
            self.follower = Some(follower);
        }
        self.tell_names()
    }

    /// Says what is being captured.
    pub(super) fn announce(&self) {
        let names: Vec<&str> =
            self.captured.values().map(|captured| captured.spot.interface.name.as_str()).collect();
        let names = match names.as_slice() {
            [] => "nothing yet, waiting for a target that fits".to_owned(),
            [first, second, third, _, _, ..] => {
                format!("{first}, {second}, {third} and {} more", names.len() - 3)
            }
            all => all.join(", "),
        };
        // With stderr gone there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "snorkel: capturing on {}; Ctrl-C ends it", printable(&names));
    }

    /// Adds a ring that was opened.
    fn attach(&mut self, ring: Ring, spot: Spot) -> Result<(), Failure> {
        let filter = filter_here(&self.filters, &self.world.snapshot, &spot)?;
        let memory = ring.bytes();
        let id = self.session.add(ring)?;
        let since = now();
        self.sink.interface(&spot.interface).map_err(|trouble| trouble.failure)?;
        self.world.whose.sees(&self.world.snapshot, id, &spot);
        // Two ends stand next to each other, the container's first.
        let before = self.captured.last_key_value().filter(|(_, before)| {
            before.spot.is_own_end() && before.spot.home == spot.home && !spot.is_own_end()
        });
        if let (Some(pairs), Some((own, before))) = (&mut self.pairs, before) {
            pairs.add(*own, id, since.max(before.since));
        }
        let captured = Captured {
            since,
            until: None,
            ring: memory,
            netmask: netmask(&self.world.snapshot, &spot),
            filter,
            ledger: Ledger::default(),
            turned_away: 0,
            surplus: 0,
            left_out: 0,
            spot,
        };
        self.captured.insert(id, captured);
        Ok(())
    }

    /// Watches a process that lives on a captured network.
    fn join(&mut self, member: Member) -> Result<(), Failure> {
        self.session.watch(&member.process, MEMBERS + self.members.len() as u64)?;
        self.members.push(Some(member));
        Ok(())
    }

    fn tell_names(&mut self) -> Result<(), Failure> {
        let names = Arc::new(self.world.whose.names().clone());
        let certain = self.world.whose.unambiguous();
        self.sink.names(&names, certain).map_err(|trouble| trouble.failure)
    }

    /// Takes what the opener has to say.
    fn follow(&mut self) -> Result<(), Failure> {
        let Some(follower) = &mut self.follower else { return Ok(()) };
        match follower.next()? {
            Some((Message::Snapshot(snapshot), _)) => {
                self.world = World::new(*snapshot);
                for (ring, captured) in &self.captured {
                    self.world.whose.sees(&self.world.snapshot, *ring, &captured.spot);
                }
            }
            Some((Message::Ring { spot, handed }, descriptors)) => {
                let name = spot.interface.name.clone();
                let joined = Ring::adopt(descriptors, handed).map_err(Failure::from);
                match joined.and_then(|ring| self.attach(ring, *spot)) {
                    Ok(()) => self.note(&format!("{name} joins")),
                    // The others go on.
                    Err(failure) => {
                        self.note(&format!("{name} is not captured: {failure}"));
                        if let Some(follower) = &mut self.follower {
                            follower.closed();
                        }
                    }
                }
            }
            Some((Message::Member { target, home }, process)) => {
                if let Some(process) = process.into_iter().next() {
                    self.join(Member { process, target, home })?;
                }
            }
            Some((Message::Ready, _)) => self.tell_names()?,
            Some((Message::Warning(text) | Message::Failed { message: text, .. }, _)) => self.note(&text),
            None => {
                self.session.unwatch(&*follower)?;
                self.session.expect_more(false);
                self.follower = None;
                self.note(
                    "nothing that starts from now on is captured: the process that opens links has ended",
                );
            }
        }
        Ok(())
    }

    /// Captures until the end.
    pub(super) fn run(mut self) -> Result<Outcome, Failure> {
        // Lines need no clock.
        let ticks = self.show || self.sink.written().is_some();
        let mut course = Course::begin(self.limits, ticks);
        self.patience.end_at(course.ends_at());
        if let Err(failure) = self.turns(&mut course) {
            // What was captured is kept, and accounted for.
            course.fail(Trouble { failure, lost: Lost::default(), closed: false });
        }
        self.finish(course)
    }

    /// One thing after the other, until there is nothing more to come.
    fn turns(&mut self, course: &mut Course) -> Result<(), Failure> {
        loop {
            match self.session.next(course.deadline())? {
                Turn::Packets => self.packets(course)?,
                // What comes over it is looked at after every turn.
                Turn::Woken(STOP) => {}
                Turn::Woken(USR1) => {
                    drain(&self.usr1);
                    if self.trigger.as_mut().is_some_and(Trigger::by_signal) {
                        self.release(course);
                    }
                }
                Turn::Woken(READER) => {
                    let _ = self.session.unwatch(std::io::stdout().as_fd());
                    course.stop();
                }
                Turn::Woken(FOLLOWER) => self.follow()?,
                Turn::Woken(number) => {
                    if self.ended((number - MEMBERS) as usize)? {
                        self.release(course);
                    }
                }
                Turn::Link { ring, state } => self.tell_link(ring, state),
                Turn::Closed { ring, ledger } => self.closed(ring, ledger),
                Turn::Deadline => {}
                Turn::Finished => {
                    if !course.is_ending() {
                        // Nothing is left that could pull the trigger: what is held is all that there will be.
                        self.release(course);
                    }
                    return Ok(());
                }
            }
            self.shifts.as_mut().map(Shifts::keep);
            // At every turn: where packets never pause there is no turn for the time alone.
            self.keep_time(course)?;
            match self.patience.asked() {
                Asked::No => {}
                Asked::Once => course.stop(),
                // What is still under way is not waited for.
                Asked::Again => return Ok(()),
            }
            if course.begins_to_end() {
                self.session.expect_more(false);
                self.session.stop_all()?;
            }
            self.patience.end_at(course.ends_at());
        }
    }

    /// Hands packets on, as many as are wanted.
    fn packets(&mut self, course: &mut Course) -> Result<(), Failure> {
        self.tell_before_a_seam()?;
        let wanted = let_through(self.session.packets(), &mut self.captured);
        let all = wanted.as_deref().unwrap_or(self.session.packets());
        let left = self.limits.count.map_or(u64::MAX, |count| count - self.taken);
        let (packets, surplus) = all.split_at(all.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        for packet in surplus {
            if let Some(captured) = self.captured.get_mut(&packet.interface) {
                captured.surplus += 1;
                captured.left_out += u64::from(packet.original_length);
            }
        }
        if course.has_failed() {
            course.lose(packets);
            return Ok(());
        }
        if let Some(pairs) = &mut self.pairs {
            packets.iter().for_each(|packet| {
                pairs.see(packet);
            });
        }
        self.taken += packets.len() as u64;
        if self.limits.count == Some(self.taken) {
            self.patience.end_at(Some(Instant::now()));
        }
        let captured = &self.captured;
        let kind = |ring| {
            let captured: &Captured = captured.get(&ring)?;
            Some(Kind { link_type: captured.spot.interface.link_type, netmask: captured.netmask })
        };
        let result = take(self.sink.as_mut(), self.trigger.as_mut(), packets, kind);
        match result {
            Ok(triggered) => {
                if triggered {
                    course.end_within(self.limits.after);
                }
                if self.limits.count == Some(self.taken) {
                    course.stop();
                }
                course.flush_soon();
            }
            Err(trouble) => course.fail(trouble),
        }
        Ok(())
    }

    /// The trigger came otherwise than by a packet.
    fn release(&mut self, course: &mut Course) {
        course.end_within(self.limits.after);
        if let Err(trouble) = self.sink.release() {
            course.fail(trouble);
        }
    }

    fn closed(&mut self, ring: RingId, ledger: Ledger) {
        if let Some(captured) = self.captured.get_mut(&ring) {
            captured.ledger = ledger;
            captured.until = Some(now());
        }
        if let Some(follower) = &mut self.follower {
            follower.closed();
        }
    }

    /// Does what it is time for.
    fn keep_time(&mut self, course: &mut Course) -> Result<(), Failure> {
        let Due { flush, tick } = course.due(Instant::now());
        if flush && !course.has_failed() {
            self.sink.flush().unwrap_or_else(|trouble| course.fail(trouble));
        }
        if tick {
            self.tick()?.unwrap_or_else(|trouble| course.fail(trouble));
        }
        Ok(())
    }

    fn finish(mut self, mut course: Course) -> Result<Outcome, Failure> {
        if self.show {
            // The last counters give way to the summary.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        for (ring, captured) in &mut self.captured {
            if let Some(ledger) = self.session.ledger(*ring)? {
                captured.ledger = ledger;
            }
        }
        let end = course.end();
        for (ring, captured) in &self.captured {
            let told = self.sink.statistics(*ring, captured.statistics(end));
            told.unwrap_or_else(|trouble| course.fail(trouble));
        }
        self.sink.finish().unwrap_or_else(|trouble| course.fail(trouble));
        let (unwritten, failure) = course.outcome();
        let fate = |ring: RingId| {
            let captured = self.captured.get(&ring);
            let until = captured.and_then(|captured| captured.until).map_or(end, |until| until.min(end));
            Fate { until, dropped: captured.map_or(0, |captured| captured.ledger.dropped) }
        };
        let pairs = self.pairs.map(|pairs| pairs.finish(fate)).unwrap_or_default();
        Ok(Outcome { captured: self.captured, pairs, unwritten, failure, sink: self.sink })
    }

    /// A process ended. Says whether that is the trigger.
    fn ended(&mut self, number: usize) -> Result<bool, Failure> {
        let Some(member) = self.members.get_mut(number).and_then(Option::take) else { return Ok(false) };
        self.session.unwatch(&member.process)?;
        self.note(&format!("{} ended", member.target));
        // Others may live on in the same network; with the last of them it is over.
        if !self.members.iter().flatten().any(|other| other.home == member.home) {
            let deserted = self.captured.iter().filter(|(_, captured)| captured.spot.home == member.home);
            for ring in deserted.map(|(ring, _)| *ring).collect::<Vec<_>>() {
                self.session.stop(ring)?;
            }
        }
        Ok(self.trigger.as_mut().is_some_and(Trigger::by_exit))
    }

    fn tell_link(&self, ring: RingId, state: LinkState) {
        let Some(captured) = self.captured.get(&ring) else { return };
        let name = &captured.spot.interface.name;
        self.note(&match state {
            LinkState::Down => format!("{name} is down; the capture goes on when it is up again"),
            LinkState::Up => format!("{name} is up again"),
            LinkState::Gone => format!("{name} is gone"),
        });
    }

    fn note(&self, text: &str) {
        if self.show {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        warn_all([&text.to_owned()]);
    }

    /// A file of a series may end with any packet, and is to have an account that is not older than this.
    fn tell_before_a_seam(&mut self) -> Result<(), Failure> {
        let now = now();
        if !self.seams || now.0 < self.told.0 + SEAM.as_nanos() as u64 {
            return Ok(());
        }
        self.told = now;
        for (ring, captured) in &mut self.captured {
            if let Some(ledger) = self.session.ledger(*ring)? {
                captured.ledger = ledger;
            }
            // What is wrong with the file shows when packets are written to it.
            let _ = self.sink.statistics(*ring, captured.statistics(now));
        }
        Ok(())
    }

    /// Once a second: the counters, on the terminal and for the files that end meanwhile.
    fn tick(&mut self) -> Result<Result<(), Trouble>, Failure> {
        let now = now();
        let mut all = Ledger::default();
        let mut told = Ok(());
        for (ring, captured) in &mut self.captured {
            if let Some(ledger) = self.session.ledger(*ring)? {
                captured.ledger = ledger;
            }
            all.add(&captured.ledger);
            told = told.and(self.sink.statistics(*ring, captured.statistics(now)));
        }
        if self.show {
            let line = crate::render::capture::counters(&all, self.taken, self.sink.written());
            let mut stderr = std::io::stderr();
            // With stderr gone there is nobody to tell.
            let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
        }
        Ok(told.and(self.sink.tick(now)))
    }
}

/// Hands packets to the sink; those before the trigger as held back, those behind it as released.
fn take(
    sink: &mut dyn Sink,
    trigger: Option<&mut Trigger>,
    packets: &[Packet<'_>],
    kind: impl Fn(RingId) -> Option<Kind>,
) -> Result<bool, Trouble> {
    let Some(at) = trigger.and_then(|trigger| trigger.by_packet(packets, kind)) else {
        sink.take(packets)?;
        return Ok(false);
    };
    sink.take(&packets[..at])?;
    sink.release().map_err(|trouble| trouble.and(&packets[at..]))?;
    sink.take(&packets[at..])?;
    Ok(true)
}

/// Whether counters are to be shown while it runs: on a terminal that no lines go to.
pub(super) fn shows_counters(lines: bool) -> bool {
    std::io::stderr().is_terminal() && !(lines && std::io::stdout().is_terminal())
}
