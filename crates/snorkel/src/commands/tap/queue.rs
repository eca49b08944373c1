//! What relays tell, on its way to whoever keeps it: in order, and in bounded memory.
//!
//! What is kept is meant to be whole. So a relay that is faster than a disk waits for it, and its connections with it, as
//! for any slow reader. But a disk or a pipe that takes nothing at all is no reason for connections to stand still: after
//! a while nothing is waited for, what finds no room is lost and counted, until there is room again.
//!
//! A relay of datagrams never waits: nobody is slowed down by that, and the kernel would throw away what comes meanwhile,
//! from those who speak and not from the file alone, without a word.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many bytes may wait.
const ROOM: usize = 32 << 20;
/// How long a relay waits for room at most.
const LONGEST: Duration = Duration::from_secs(1);

/// Whether room is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// For a while.
    Some,
    /// Not at all.
    None,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    weight: usize,
    senders: usize,
    /// It was waited for room in vain, and nothing has been taken since.
    stuck: bool,
    /// Nobody takes anything any more.
    closed: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    room: Condvar,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // A panic elsewhere leaves the queue as it is: in order.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end at which things are put in.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// The end at which they are taken.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// A queue that is empty.
pub(super) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), weight: 0, senders: 1, stuck: false, closed: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), came: Condvar::new(), room: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts something in that takes about so many bytes; whether there was room for it, or nobody who would take it.
    pub(super) fn put(&self, item: T, weight: usize, patience: Patience) -> bool {
        let mut state = self.0.state();
        let is_full = |state: &mut State<T>| !state.closed && state.weight + weight > ROOM;
        if is_full(&mut state) {
            if patience == Patience::None || state.stuck {
                return false;
            }
            let waited = self.0.room.wait_timeout_while(state, LONGEST, is_full);
            let (waited, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if result.timed_out() {
                state.stuck = true;
                return false;
            }
        }
        if state.closed {
            return true;
        }
        let was_empty = state.items.is_empty();
        state.items.push_back(item);
        state.weight += weight;
        drop(state);
        if was_empty {
            self.0.came.notify_one();
        }
        true
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.state().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().senders -= 1;
        self.0.came.notify_one();
    }
}

impl<T> Receiver<T> {
    /// Waits for what comes next, and takes all that is there; none once there are no senders any more.
    pub(super) fn take(&self) -> Option<VecDeque<T>> {
        let state = self.0.state();
        let waits = |state: &mut State<T>| state.items.is_empty() && state.senders > 0;
        let mut state = self.0.came.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        let items = std::mem::take(&mut state.items);
        (state.weight, state.stuck) = (0, false);
        drop(state);
        self.0.room.notify_all();
        if items.is_empty() { None } else { Some(items) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        (state.items, state.weight) = (VecDeque::new(), 0);
        drop(state);
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_waits_for_a_reader_that_reads() {
        let (sender, receiver) = queue();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            while let Some(some) = receiver.take() {
                all.extend(some);
            }
            all
        });
        // Many times the room.
        assert!((0..100).all(|number| sender.put(number, ROOM / 3, Patience::Some)));
        drop(sender);
        assert_eq!(reader.join().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_reads_nothing_is_waited_for_once_until_it_reads_again() {
        let (sender, receiver) = queue();
        assert!(sender.put(1, ROOM, Patience::Some));
        assert!(!sender.put(2, 1, Patience::Some));
        // From here on without a wait: a thousand of these would take as many seconds.
        assert!((0..1000).all(|_| !sender.put(3, 1, Patience::Some)));
        assert_eq!(receiver.take().unwrap(), [1]);
        assert!(sender.put(4, 1, Patience::Some));
        assert_eq!(receiver.take().unwrap(), [4]);
        drop(sender);
        assert_eq!(receiver.take(), None);
    }

    #[test]
    fn who_has_no_patience_waits_never_and_takes_it_from_nobody() {
        let (sender, receiver) = queue();
        assert!(sender.put(1, ROOM, Patience::None));
        assert!((0..1000).all(|_| !sender.put(2, 1, Patience::None)));
        let begun = std::time::Instant::now();
        assert!(!sender.put(3, 1, Patience::Some));
        assert!(begun.elapsed() >= LONGEST);
        assert_eq!(receiver.take().unwrap(), [1]);
    }

    #[test]
    fn without_a_reader_nothing_is_kept_and_nothing_waited_for() {
        let (sender, receiver) = queue();
        drop(receiver);
        assert!((0..100).all(|number| sender.put(number, ROOM, Patience::Some)));
        assert!(sender.0.state().items.is_empty());
    }
}
