//! Faults in force: the loop that waits for signals, questions, ends and links that go.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use snorkel_fault::control::{Asked, Claim, Desk, Healed, Holder, OfFile, Request, SCHEMA, Served, Status};
use snorkel_fault::force::{Force, Means, Remains};
use snorkel_fault::guardian::Guardian;
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Kind, Plan};
use snorkel_fault::{Error, FaultId};
use snorkel_netns::enter::Signals;
use snorkel_netns::{Netns, NetnsId, chain};
use snorkel_rtnl::{Groups, Subscription};

use super::child::Running;
use super::{detach, now, warn_plain};
use crate::commands::warn_all;
use crate::entry::invoker::invoker;
use crate::failure::Failure;
use crate::render::faults as render;

/// What ends a fault. SIGHUP is the end of the terminal.
pub(crate) const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
/// The counters on the terminal.
const TICK: Duration = Duration::from_secs(1);

/// A fault that is in force.
struct Held {
    served: Served,
    kind: Kind,
    targets: Vec<String>,
    words: Vec<String>,
    /// Of which file, if of one.
    file: Option<OfFile>,
    since: f64,
    until: Option<f64>,
    end: Option<Instant>,
    /// When it turns from on to off or back.
    turn: Option<Instant>,
    force: Force,
}

impl Held {
    /// One that has just begun.
    fn new(
        served: Served,
        plan: &Plan,
        force: Force,
        words: Vec<String>,
        lasting: Option<Duration>,
        file: Option<OfFile>,
    ) -> Held {
        let (now, instant) = (now(), Instant::now());
        Held {
            served,
            kind: plan.kind,
            targets: plan.targets(),
            words,
            file,
            since: now,
            until: lasting.map(|lasting| now + lasting.as_secs_f64()),
            end: lasting.map(|lasting| instant + lasting),
            turn: force.flap().map(|flap| instant + flap.on),
            force,
        }
    }

    fn status(&mut self, holder: &Holder) -> Status {
        Status {
            schema: SCHEMA,
            id: self.served.id.clone(),
            kind: self.kind,
            targets: self.targets.clone(),
            words: self.words.clone(),
            file: self.file.clone(),
            since: self.since,
            until: self.until,
            on: self.force.is_on(),
            holder: holder.clone(),
            same: self.served.same.clone(),
            links: self.force.status(),
        }
    }
}

/// A fault that has ended.
pub(crate) struct EndedFault {
    /// What was done to end it.
    pub(crate) healed: Healed,
    /// How it stood before that.
    pub(crate) last: Option<Status>,
    /// Whether its links had gone before: it did not last as long as it was to.
    pub(crate) gone: bool,
}

/// How it all ended.
pub(crate) struct Ended {
    /// Whether one could not be healed, or was over before its time.
    pub(crate) troubled: bool,
    /// How the command ended, if there was one.
    pub(crate) command: Option<ExitStatus>,
    /// What went wrong with one that was to begin later.
    pub(crate) failure: Option<Failure>,
}

/// Begins what is of this number.
pub(crate) type Begin<'b> = &'b mut dyn FnMut(&mut Live<'_>, usize) -> Result<(), Failure>;

/// Tells of one that has ended.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(&EndedFault) -> Result<(), Failure>;

/// The holder of faults.
pub(crate) struct Live<'a> {
    desk: Desk,
    signals: Signals,
    journal: &'a Journal,
    guardian: Option<&'a Guardian>,
    guardian_lives: bool,
    open: &'a dyn Fn(NetnsId) -> Result<Netns, Error>,
    holder: Holder,
    /// When it all began.
    pub(crate) begun: Instant,
    /// What begins later: when, and its number.
    pub(crate) waiting: Vec<(Instant, usize)>,
    held: Vec<Held>,
    /// How many of those that began were told of.
    news: Vec<FaultId>,
    watches: Vec<(NetnsId, Subscription)>,
    command: Option<Running>,
    /// Those that have ended and were not told of.
    over: Vec<EndedFault>,
    ended: Ended,
    /// Whether the counters are shown as they grow.
    pub(crate) show: bool,
}

/// What woke the loop.
#[derive(Default)]
struct Woken {
    signal: bool,
    question: bool,
    guardian: bool,
    command: bool,
    links: bool,
}

impl<'a> Live<'a> {
    /// One that holds nothing yet.
    pub(crate) fn new(
        signals: Signals,
        journal: &'a Journal,
        guardian: Option<&'a Guardian>,
        open: &'a dyn Fn(NetnsId) -> Result<Netns, Error>,
    ) -> Result<Live<'a>, Failure> {
        Ok(Live {
            desk: Desk::open()?,
            signals,
            journal,
            guardian,
            guardian_lives: guardian.is_some(),
            open,
            holder: holder(),
            begun: Instant::now(),
            waiting: Vec::new(),
            held: Vec::new(),
            news: Vec::new(),
            watches: Vec::new(),
            command: None,
            over: Vec::new(),
            ended: Ended { troubled: false, command: None, failure: None },
            show: false,
        })
    }

    /// Puts a plan in force and holds it. If anything fails, nothing of it stays.
    pub(crate) fn begin(
        &mut self,
        plan: &Plan,
        words: Vec<String>,
        lasting: Option<Duration>,
        file: Option<OfFile>,
    ) -> Result<(), Failure> {
        let claim = Claim::take(&plan.key(), self.journal)?;
        let id = claim.id.clone();
        let force = Force::apply(plan, &self.means(&id))?;
        let followed = self.follow(&force);
        let served = match followed.and_then(|()| Ok(claim.serve(&self.desk)?)) {
            Ok(served) => served,
            // Nobody could find it, or it would not see its links go: then it is not held.
            Err(failure) => {
                force.heal(&self.means(&id));
                return Err(failure);
            }
        };
        self.held.push(Held::new(served, plan, force, words, lasting, file));
        self.news.push(id);
        Ok(())
    }

    /// Watches the links of a fault.
    fn follow(&mut self, force: &Force) -> Result<(), Failure> {
        for id in force.places() {
            if !self.watches.iter().any(|(known, _)| *known == id) {
                let netns = (self.open)(id)?;
                self.watches.push((id, Subscription::open_in(&netns, Groups::LINKS, false)?));
            }
        }
        Ok(())
    }

    /// Begins everything whose time has come. If one fails all that is held is ended.
    pub(crate) fn begin_due(&mut self, begin: Begin<'_>) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(at) = self.waiting.iter().position(|(start, _)| *start <= now) {
            let (_, number) = self.waiting.remove(at);
            if let Err(failure) = begin(self, number) {
                self.end_all();
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Whether nothing is in force.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// How those stand that have begun since this was asked last.
    pub(crate) fn news(&mut self) -> Vec<Status> {
        let news = std::mem::take(&mut self.news);
        let mut statuses = self.statuses();
        statuses.retain(|status| news.contains(&status.id));
        statuses
    }

    /// Starts the command for whose length the faults are held. If that fails they are ended.
    pub(crate) fn run_command(&mut self, words: &[OsString]) -> Result<(), Failure> {
        match Running::start(words, &self.signals) {
            Ok(running) => {
                self.command = Some(running);
                Ok(())
            }
            Err(failure) => {
                self.end_all();
                Err(failure)
            }
        }
    }

    /// How all of them stand.
    fn statuses(&mut self) -> Vec<Status> {
        let holder = &self.holder;
        self.held.iter_mut().map(|held| held.status(holder)).collect()
    }

    /// Holds them until all have ended.
    pub(crate) fn run(mut self, begin: Begin<'_>, tell: Tell<'_>) -> Result<Ended, Failure> {
        match self.hold(begin, &mut *tell) {
            Ok(()) => Ok(self.ended),
            Err(failure) => {
                self.end_all();
                self.tell_over(tell);
                Err(failure)
            }
        }
    }

    fn hold(&mut self, begin: Begin<'_>, tell: Tell<'_>) -> Result<(), Failure> {
        let mut tick = self.show.then(|| Instant::now() + TICK);
        while !self.held.is_empty() || !self.waiting.is_empty() || self.command.is_some() {
            let woken = self.wait(tick)?;
            let now = Instant::now();
            if woken.signal {
                self.take_signal()?;
            }
            while woken.question
                && let Some(asked) = self.desk.next()
            {
                self.answer(asked);
            }
            if woken.guardian {
                self.guardian_lives = false;
                warn_plain(
                    "the guardian was killed: if this process is killed too, the next snorkel command heals",
                );
            }
            if woken.links {
                self.look_for_gone()?;
            }
            if woken.command
                && let Some(mut command) = self.command.take()
            {
                self.ended.command = Some(command.wait()?);
                self.end_all();
            }
            self.end_due(now);
            self.turn_due(now);
            self.tell_over(tell);
            if let Err(failure) = self.begin_due(begin) {
                self.ended.failure.get_or_insert(failure);
                self.tell_over(tell);
            }
            if tick.is_some_and(|tick| tick <= now) {
                self.show_counters();
                tick = Some(now + TICK);
            }
        }
        Ok(())
    }

    /// Waits until something happens or is due.
    fn wait(&mut self, tick: Option<Instant>) -> Result<Woken, Failure> {
        let begin = self.waiting.iter().map(|(start, _)| *start);
        let of_held = self.held.iter().flat_map(|held| [held.end, held.turn]).flatten();
        let due = of_held.chain(begin).chain(tick).min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let (signals, desk) = (self.signals.as_fd(), self.desk.as_fd());
        let guardian = self.guardian.filter(|_| self.guardian_lives).map(AsFd::as_fd);
        let command = self.command.as_ref().map(AsFd::as_fd);
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN), PollFd::new(&desk, PollFlags::IN)];
        // Only those that are there take part; their places are counted from here. Of the guardian only its end counts.
        fds.extend(guardian.iter().map(|fd| PollFd::new(fd, PollFlags::empty())));
        fds.extend(command.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let first_link = fds.len();
        let links: Vec<_> = self.watches.iter().map(|(_, watch)| watch.as_fd()).collect();
        fds.extend(links.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Woken::default()),
            Err(e) => return Err(e.into()),
        }
        let is = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let of_guardian = guardian.is_some().then_some(2);
        let of_command = command.is_some().then_some(2 + usize::from(guardian.is_some()));
        Ok(Woken {
            signal: is(0),
            question: is(1),
            guardian: of_guardian.is_some_and(is),
            command: of_command.is_some_and(is),
            links: (first_link..fds.len()).any(is),
        })
    }

    fn take_signal(&mut self) -> Result<(), Failure> {
        let signal = self.signals.take()?;
        match &self.command {
            // The fault lasts as long as the command, which gets the signal too.
            Some(command) => command.pass_on(signal),
            None => self.end_all(),
        }
        Ok(())
    }

    fn answer(&mut self, asked: Asked) {
        let at = self.held.iter().position(|held| held.served.id == asked.id);
        match (asked.request, at) {
            (Request::Status, Some(at)) => asked.answer(&self.held[at].status(&self.holder)),
            (Request::Heal, Some(at)) => {
                let (healed, remains) = self.end(at, false);
                asked.answer(&healed);
                drop(remains);
            }
            // It has ended between the question and now.
            (_, None) => drop(asked),
        }
    }

    /// Ends those whose links are all gone.
    fn look_for_gone(&mut self) -> Result<(), Failure> {
        for (_, watch) in &mut self.watches {
            while watch.next()?.is_some() {}
        }
        let mut at = 0;
        while at < self.held.len() {
            let id = self.held[at].served.id.clone();
            let (journal, guardian, open) = (self.journal, self.guardian, self.open);
            let means = Means { id: &id, journal, guardian, open };
            for point in self.held[at].force.forget_gone(&means) {
                warn_plain(&format!("{id}: {point} is gone: its target has stopped or was started again"));
            }
            if self.held[at].force.is_empty() {
                self.end(at, true);
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    fn end_due(&mut self, now: Instant) {
        while let Some(at) = self.held.iter().position(|held| held.end.is_some_and(|end| end <= now)) {
            self.end(at, false);
        }
    }

    fn turn_due(&mut self, now: Instant) {
        for held in &mut self.held {
            let (Some(flap), Some(turn)) = (held.force.flap(), held.turn) else { continue };
            if turn > now {
                continue;
            }
            let on = !held.force.is_on();
            if let Err(error) = held.force.turn(on, self.journal) {
                warn_all([&format!("{}: {}", held.served.id, chain(&error))]);
            }
            held.turn = Some(now + if on { flap.on } else { flap.off });
        }
    }

    fn end_all(&mut self) {
        self.waiting.clear();
        let mut lasts = self.statuses();
        // Packets pass everywhere before anything is waited for.
        self.held.iter().for_each(|held| held.force.disarm());
        let mut remains = Vec::new();
        while let Some(held) = self.held.pop() {
            remains.push(self.finish(held, lasts.pop(), false).1);
        }
    }

    /// Ends one, and keeps what is to be told of it.
    fn end(&mut self, at: usize, gone: bool) -> (Healed, Remains) {
        let mut held = self.held.remove(at);
        let last = Some(held.status(&self.holder)).filter(|_| !gone);
        self.finish(held, last, gone)
    }

    fn finish(&mut self, held: Held, last: Option<Status>, gone: bool) -> (Healed, Remains) {
        let id = held.served.id.clone();
        let (healed, remains) = held.force.heal(&self.means(&id));
        self.over.push(EndedFault { healed: healed.clone(), last, gone });
        (healed, remains)
    }

    fn means<'m>(&'m self, id: &'m FaultId) -> Means<'m> {
        Means { id, journal: self.journal, guardian: self.guardian, open: self.open }
    }

    /// Tells of those that have ended. If nobody takes that, all that is held is ended, too, and what could not be healed is
    /// said on stderr.
    fn tell_over(&mut self, tell: Tell<'_>) {
        if self.show && !self.over.is_empty() {
            clear_line();
        }
        while !self.over.is_empty() {
            let one = self.over.remove(0);
            self.ended.troubled |= !one.healed.troubles.is_empty() || one.gone;
            if let Err(failure) = tell(&one) {
                self.ended.failure.get_or_insert(failure);
                for trouble in &one.healed.troubles {
                    warn_plain(&format!("{}: NOT healed: {trouble}", one.healed.id));
                }
                self.end_all();
            }
        }
    }

    fn show_counters(&mut self) {
        let lines: Vec<String> = self.statuses().iter().map(render::counters).collect();
        let mut stderr = std::io::stderr();
        // With stderr gone there is nobody to tell.
        let _ = write!(stderr, "\r\x1b[K{}", lines.join("; ")).and_then(|()| stderr.flush());
    }
}

/// Who this process is, for those who ask.
fn holder() -> Holder {
    let user = invoker().ok().map(|invoker| invoker.user);
    Holder {
        pid: snorkel_netns::Pid::own().get(),
        uid: user.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid),
        user: user.and_then(|user| user.name),
        terminal: detach::terminal(),
    }
}

fn clear_line() {
    let _ = write!(std::io::stderr(), "\r\x1b[K");
}

/// Whether counters are to be shown while it runs: on a terminal that no objects go to.
pub(super) fn shows_counters(objects: bool) -> bool {
    std::io::stderr().is_terminal() && !(objects && std::io::stdout().is_terminal())
}
