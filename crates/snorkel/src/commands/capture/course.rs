//! Where a running capture stands: when it ends, what is due, what went wrong.

use std::time::{Duration, Instant};

use snorkel_capture::file::Lost;
use snorkel_capture::{Packet, Timestamp};

use super::captured::now;
use super::sink::Trouble;
use crate::failure::Failure;

/// What was gathered is written out after this time at the latest.
const FLUSH: Duration = Duration::from_millis(200);
/// The counters on the terminal.
const TICK: Duration = Duration::from_secs(1);

/// When to stop of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// After so many packets.
    pub(super) count: Option<u64>,
    /// At this moment.
    pub(super) until: Option<Instant>,
    /// So long after the trigger.
    pub(super) after: Duration,
}

/// The course of a capture.
pub(super) struct Course {
    until: Option<Instant>,
    tick: Option<Instant>,
    flush: Option<Instant>,
    stop: bool,
    ending: bool,
    /// When all rings were told to close.
    end: Option<(Timestamp, Instant)>,
    /// What stopped the writing: the first of it.
    trouble: Option<Trouble>,
    unwritten: Lost,
}

/// What it is time for.
pub(super) struct Due {
    /// To write out what was gathered.
    pub(super) flush: bool,
    /// To show and tell the counters.
    pub(super) tick: bool,
}

impl Course {
    pub(super) fn begin(limits: Limits, ticks: bool) -> Course {
        Course {
            until: limits.until,
            tick: ticks.then(|| Instant::now() + TICK),
            flush: None,
            stop: false,
            ending: false,
            end: None,
            trouble: None,
            unwritten: Lost::default(),
        }
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.until, self.tick, self.flush].into_iter().flatten().min()
    }

    /// What is due now; each is told once. The end, if it has come, is noted.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let past = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        self.stop |= past(self.until);
        let due = Due { flush: past(self.flush), tick: past(self.tick) };
        if due.flush {
            self.flush = None;
        }
        if due.tick {
            self.tick = Some(now + TICK);
        }
        due
    }

    /// Something was gathered that is to be written out.
    pub(super) fn flush_soon(&mut self) {
        self.flush.get_or_insert_with(|| Instant::now() + FLUSH);
    }

    /// It ends after this time, if not sooner.
    pub(super) fn end_within(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.until = Some(self.until.map_or(end, |until| until.min(end)));
    }

    /// It ends now.
    pub(super) fn stop(&mut self) {
        self.stop = true;
    }

    /// Nothing more can be written: it ends.
    pub(super) fn fail(&mut self, trouble: Trouble) {
        self.unwritten.merge(&trouble.lost);
        self.trouble.get_or_insert(trouble);
        self.stop = true;
    }

    /// Packets were captured that cannot be written. Whoever does not read any more does not miss them.
    pub(super) fn lose(&mut self, packets: &[Packet<'_>]) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.closed) {
            return;
        }
        self.unwritten.extend(packets.iter().map(|packet| packet.interface));
    }

    /// Whether something went wrong.
    pub(super) fn has_failed(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether the end has come and was not begun yet; true once.
    pub(super) fn begins_to_end(&mut self) -> bool {
        if !self.stop || self.ending {
            return false;
        }
        self.ending = true;
        self.until = None;
        self.end = Some((now(), Instant::now()));
        true
    }

    /// Whether the end has begun.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// When it ends or has begun to end, as far as that is known.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.end.map_or(self.until, |(_, moment)| Some(moment))
    }

    /// Until when everything was captured.
    pub(super) fn end(&self) -> Timestamp {
        self.end.map_or_else(now, |(time, _)| time)
    }

    /// Which packets could not be written, and why. That nobody reads any more is no failure.
    pub(super) fn outcome(self) -> (Lost, Option<Failure>) {
        (self.unwritten, self.trouble.filter(|trouble| !trouble.closed).map(|trouble| trouble.failure))
    }
}
