//! Many rings read by one thread: one wait for all of them, their packets in order of time.
//!
//! A ring's packets come in order, block by block. To merge rings it must be known of each how far it can still be
//! behind, its *bound*: no packet that it has yet to hand over is older. While a ring has a block to read that is the
//! block's first packet; for one that has none, the newest moment at which the kernel's block was seen to be empty. The
//! kernel hands a block over when it is full or after the ring's `retire` time, so a packet waits for the other rings no
//! longer than that. Packets come before order: if a ring fills up meanwhile, its packets are handed out without waiting,
//! and those of other rings that turn out to be older are counted ([`Ledger::late`](super::Ledger::late)).
//!
//! A session of one ring has nothing to wait for.
//!
//! Costs go with blocks, not with rings: the wait is edge-triggered, and a ring without a new block is looked at only when
//! others wait for it.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};

use super::member::{Member, SLACK};
use super::ring::{Ring, Trouble};
use super::{Error, Ledger, Result};
use crate::Packet;

/// Beyond a ring's retire time, this much more patience for one that does not hand over its block.
const PATIENCE: Duration = Duration::from_millis(50);
/// After full blocks the reader sleeps a while before it waits for the next, so that it is woken once for many: for so
/// long if a ring has [`NAP_BYTES`], the less the less it has. At 2 GB/s an eighth of the ring fills meanwhile.
const NAP: Duration = Duration::from_millis(4);
/// See [`NAP`].
const NAP_BYTES: u32 = 64 << 20;
/// A shorter sleep is not worth it.
const SHORTEST_NAP: Duration = Duration::from_micros(500);
/// A link that is down is looked at so often, whether it is still there: a socket whose link is down is not told when
/// that is deleted (net/packet/af_packet.c, `packet_notifier`).
const LOOK: Duration = Duration::from_millis(200);
/// Marks the epoll data of descriptors that are not rings.
const WATCHED: u64 = 1 << 63;

/// A ring of a session: the `interface` of its packets. Counted from 0 in the order in which rings are added, never
/// given twice.
pub type RingId = usize;

/// Rings that are read together.
pub struct Session {
    epoll: OwnedFd,
    members: BTreeMap<RingId, Member>,
    next_id: RingId,
    /// The packets of the batch that is lent; they lie in the members' held blocks.
    batch: Vec<Packet<'static>>,
    /// What else is to be told, oldest last.
    news: Vec<News>,
    events: Vec<epoll::Event>,
    /// The newest time stamp that was handed out.
    handed_out: u64,
    /// Since when packets have been waiting for other rings.
    waiting: Option<Instant>,
    /// Full blocks have been handed out since the last sleep: there will be more soon.
    busy: bool,
    /// Whether rings may still come when there is none.
    expecting: bool,
    /// Threads that close rings: the kernel lets each wait for some milliseconds.
    closing: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
enum News {
    Woken(u64),
    Link(RingId, LinkState),
    Closed(RingId, Ledger),
}

/// What has happened to a ring's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It was set down. Packets come again when it is set up.
    Down,
    /// A packet came after it had been down.
    Up,
    /// It was deleted, or moved to another namespace. The ring hands out what it has, and is closed.
    Gone,
}

/// What [`Session::next`] returns with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There are packets: [`Session::packets`].
    Packets,
    /// A descriptor that is watched has something to say.
    Woken(u64),
    /// A link went down, up, or away.
    Link {
        /// The ring.
        ring: RingId,
        /// What happened.
        state: LinkState,
    },
    /// A ring was stopped, or its link went away, and its last packet has been handed out.
    Closed {
        /// The ring.
        ring: RingId,
        /// Its account: received = delivered + dropped + unreadable.
        ledger: Ledger,
    },
    /// The deadline has passed.
    Deadline,
    /// There is no ring (any more).
    Finished,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("members", &self.members).finish_non_exhaustive()
    }
}

impl Session {
    /// A session without rings.
    pub fn new() -> Result<Session> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::os("make an epoll instance", e))?;
        Ok(Session {
            epoll,
            members: BTreeMap::new(),
            next_id: 0,
            batch: Vec::new(),
            news: Vec::new(),
            events: Vec::with_capacity(64),
            handed_out: 0,
            waiting: None,
            busy: false,
            expecting: false,
            closing: Vec::new(),
        })
    }

    /// Adds a ring, also while others run.
    pub fn add(&mut self, ring: Ring) -> Result<RingId> {
        let id = self.next_id;
        let what = || format!("wait for the ring on {}", ring.name());
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ERR | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &ring, epoll::EventData::new_u64(id as u64), flags)
            .map_err(|e| Error::os(what(), e))?;
        self.next_id += 1;
        self.members.insert(id, Member::new(ring));
        Ok(id)
    }

    /// Whether [`Session::next`] waits when there is no ring (any more), because one may be added; at first it does not.
    pub fn expect_more(&mut self, expecting: bool) {
        self.expecting = expecting;
    }

    /// Has [`Session::next`] return with [`Turn::Woken`] and this number when the descriptor can be read: a signalfd, a
    /// pidfd, a subscription. It does so again and again as long as it can be read. To be taken off before it is closed.
    pub fn watch(&self, fd: impl AsFd, number: u64) -> Result<()> {
        let data = epoll::EventData::new_u64(number | WATCHED);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
            .map_err(|e| Error::os("watch a descriptor", e))
    }

    /// As [`Session::watch`], but for the end of whoever is on the other side alone: what he has to say is not read.
    pub fn watch_end(&self, fd: impl AsFd, number: u64) -> Result<()> {
        let data = epoll::EventData::new_u64(number | WATCHED);
        // What is not asked for is told all the same: EPOLLERR, EPOLLHUP (epoll_ctl(2)).
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::empty())
            .map_err(|e| Error::os("watch a descriptor's end", e))
    }

    /// Ends what [`Session::watch`] began.
    pub fn unwatch(&self, fd: impl AsFd) -> Result<()> {
        epoll::delete(&self.epoll, fd).map_err(|e| Error::os("stop watching a descriptor", e))
    }

    /// The rings that are open, by their ids.
    pub fn rings(&self) -> impl Iterator<Item = (RingId, &Ring)> {
        self.members.iter().map(|(id, member)| (*id, &member.ring))
    }

    /// The account of a ring so far; `None` if it is closed and [`Turn::Closed`] has told its account.
    pub fn ledger(&mut self, ring: RingId) -> Result<Option<Ledger>> {
        let untold = self.news.iter().find_map(|news| match news {
            News::Closed(id, ledger) if *id == ring => Some(*ledger),
            _ => None,
        });
        match untold {
            Some(ledger) => Ok(Some(ledger)),
            None => self.members.get_mut(&ring).map(|member| member.ledger()).transpose(),
        }
    }

    /// Stops a ring: no packet comes in any more, those that are in are handed out, then [`Turn::Closed`] is returned.
    pub fn stop(&mut self, ring: RingId) -> Result<()> {
        match self.members.get_mut(&ring) {
            Some(member) => member.stop(),
            None => Ok(()),
        }
    }

    /// Stops all rings. The kernel takes some milliseconds for each, and does many at the same time.
    pub fn stop_all(&mut self) -> Result<()> {
        let mut running: Vec<&mut Member> = self.members.values_mut().filter(|m| !m.stopping).collect();
        let hands = 16;
        let each = running.len().div_ceil(hands).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = running
                .chunks_mut(each)
                .map(|some| scope.spawn(|| some.iter_mut().try_for_each(|member| member.stop())))
                .collect();
            let mut result = Ok(());
            for thread in threads {
                // A panic there is a bug: it goes on where it can be seen.
                let stopped = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(stopped);
            }
            result
        })
    }

    /// The packets that [`Turn::Packets`] announced, in order of time. They lie in the rings' blocks, which
    /// [`Session::next`] gives back to the kernel: the sooner it is called again, the less is lost.
    pub fn packets(&self) -> &[Packet<'_>] {
        &self.batch
    }

    /// Waits for what comes next: packets, something that happened, or the deadline.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Turn> {
        self.give_back();
        let mut timeout = Some(Duration::ZERO);
        loop {
            self.wait(timeout)?;
            self.close_the_drained()?;
            if let Some(news) = self.news.pop() {
                return Ok(match news {
                    News::Woken(number) => Turn::Woken(number),
                    News::Link(ring, state) => Turn::Link { ring, state },
                    News::Closed(ring, ledger) => Turn::Closed { ring, ledger },
                });
            }
            if self.members.is_empty() && !self.expecting {
                self.wait_for_closing();
                return Ok(Turn::Finished);
            }
            let again = self.gather();
            if !self.batch.is_empty() {
                return Ok(Turn::Packets);
            }
            if again.is_none() && self.members.values().any(|member| !member.closed.is_empty()) {
                // There was nothing in the blocks that could be read.
                self.give_back();
                timeout = Some(Duration::ZERO);
                continue;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(Turn::Deadline);
            }
            let left = deadline.map(|deadline| deadline - now);
            if std::mem::take(&mut self.busy) {
                let nap = self.nap().min(left.unwrap_or(NAP));
                if nap >= SHORTEST_NAP {
                    std::thread::sleep(nap);
                    timeout = Some(Duration::ZERO);
                    continue;
                }
            }
            let down = self.members.values().any(Member::is_down).then_some(LOOK);
            timeout = [left, again, down].into_iter().flatten().min();
        }
    }

    /// How long the reader can sleep amid traffic.
    fn nap(&self) -> Duration {
        let bytes = self.members.values().map(|member| member.ring.bytes()).min().unwrap_or(0);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(NAP_BYTES);
        NAP.mul_f64(f64::from(bytes) / f64::from(NAP_BYTES))
    }

    /// Waits for events and takes them in.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::os("wait for packets", e)),
        }
        for event in &self.events {
            let data = event.data.u64();
            if data & WATCHED != 0 {
                self.news.push(News::Woken(data & !WATCHED));
                continue;
            }
            let id = data as RingId;
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.scan();
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::ERR) {
                match member.ring.look_at_link() {
                    Trouble::None => {}
                    Trouble::Down => {
                        if member.down.replace(now()).is_none() {
                            self.news.push(News::Link(id, LinkState::Down));
                        }
                    }
                    Trouble::Gone => {
                        if !std::mem::replace(&mut member.stopping, true) {
                            self.news.push(News::Link(id, LinkState::Gone));
                        }
                    }
                    Trouble::Other(error) => {
                        return Err(Error::os(format!("capture on {}", member.ring.name()), error));
                    }
                }
            } else if let (Some(down), Some(closed)) = (member.down, member.closed.back())
                && closed.last > down
            {
                member.down = None;
                self.news.push(News::Link(id, LinkState::Up));
            }
        }
        for (id, member) in self.members.iter_mut().filter(|(_, member)| member.is_down()) {
            if member.ring.is_gone() {
                member.stopping = true;
                self.news.push(News::Link(*id, LinkState::Gone));
            }
        }
        Ok(())
    }

    /// Puts the packets that can be handed out into the batch. If there are some that must wait for other rings: how long
    /// until it is worth looking again.
    fn gather(&mut self) -> Option<Duration> {
        self.batch.clear();
        if self.members.len() == 1 {
            let (id, member) =
                self.members.first_key_value().map(|(id, _)| *id).zip(self.members.values_mut().next())?;
            self.busy |= member.closed.front().is_some_and(|closed| closed.full);
            member.hand_out_some(id, &mut self.batch);
            if let Some(last) = self.batch.last() {
                self.handed_out = self.handed_out.max(last.time.0);
            }
            return None;
        }
        // A batch takes no more than one whole block of any ring, so that blocks are given back soon.
        let mut target = u64::MAX;
        let mut pressed = false;
        for member in self.members.values() {
            let Some(closed) = member.closed.front() else { continue };
            target = target.min(closed.last);
            self.busy |= closed.full;
            pressed |= member.pressed();
        }
        if target == u64::MAX {
            self.waiting = None;
            return None;
        }
        let mut patience = PATIENCE;
        let now = now();
        let mut reached = target;
        for member in self.members.values_mut().filter(|member| member.closed.is_empty()) {
            if member.bound < target {
                member.look(now);
            }
            reached = reached.min(member.bound);
            patience = patience.max(PATIENCE + member.ring.retire());
        }
        let waiting = *self.waiting.get_or_insert_with(Instant::now);
        if reached < target && !pressed && waiting.elapsed() <= patience {
            // Less than a block is not handed out: it would be more and more turns for fewer and fewer packets. Until the
            // rings that are silent have been looked at late enough; one that hands over its block wakes anyway.
            let missing = Duration::from_nanos((target + SLACK).saturating_sub(now));
            return Some(missing.clamp(Duration::from_millis(1), Duration::from_millis(5)));
        }
        let mut rings = 0;
        for (id, member) in &mut self.members {
            let before = self.batch.len();
            while member.hand_out_block(*id, target, &mut self.batch) {}
            rings += usize::from(self.batch.len() > before);
        }
        self.waiting = None;
        if self.batch.is_empty() {
            return None;
        }
        if rings > 1 {
            // The rings' packets follow each other as runs in order, which this sort merges.
            self.batch.sort_by_key(|packet| packet.time);
        }
        for packet in self.batch.iter().take_while(|packet| packet.time.0 < self.handed_out) {
            if let Some(member) = self.members.get_mut(&packet.interface) {
                member.ring.late();
            }
        }
        if let Some(last) = self.batch.last() {
            self.handed_out = self.handed_out.max(last.time.0);
        }
        None
    }

    /// Gives the blocks of the last batch back to the kernel.
    fn give_back(&mut self) {
        self.batch.clear();
        for member in self.members.values_mut() {
            member.give_back();
        }
    }

    /// Waits until the rings that were closed are gone.
    fn wait_for_closing(&mut self) {
        for thread in self.closing.drain(..) {
            // Closing does not panic; if it did the ring is gone none the less.
            let _ = thread.join();
        }
    }

    /// Closes a ring without waiting for it.
    fn close(&mut self, member: Member) {
        self.closing.retain(|thread| !thread.is_finished());
        // If there can be no thread the ring is closed here and now, with the closure.
        if let Ok(thread) = std::thread::Builder::new().name("snorkel-closing".into()).spawn(|| drop(member))
        {
            self.closing.push(thread);
        }
    }

    /// Closes rings that were stopped and are empty.
    fn close_the_drained(&mut self) -> Result<()> {
        if !self.members.values().any(|member| member.stopping) {
            return Ok(());
        }
        for member in self.members.values_mut().filter(|member| member.stopping) {
            member.scan();
        }
        let drained: Vec<RingId> =
            self.members.iter().filter(|(_, member)| member.drained()).map(|(id, _)| *id).collect();
        for id in drained {
            if let Some(mut member) = self.members.remove(&id) {
                let ledger = member.ledger()?;
                self.news.insert(0, News::Closed(id, ledger));
                self.close(member);
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        while let Some((_, member)) = self.members.pop_first() {
            self.close(member);
        }
        self.wait_for_closing();
    }
}

/// The clock of the packets' time stamps.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
