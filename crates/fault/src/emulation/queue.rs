//! Packets on their way, ordered by when they are due.
//!
//! As netem's: most packets come in the order in which they leave, so there is a plain queue for those, and a heap for those
//! that are due before its last one. Of two that are due at the same moment the earlier comes first. One that overtakes
//! all others stands before both.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::Moment;

/// A queue ordered by time; how much may be in it is its user's care.
#[derive(Debug)]
pub struct TimeQueue<T> {
    front: Vec<T>,
    line: VecDeque<(Moment, T)>,
    early: BinaryHeap<Reverse<Early<T>>>,
    arrivals: u64,
}

/// One that is due before the last of the line.
#[derive(Debug)]
struct Early<T> {
    due: Moment,
    arrival: u64,
    item: T,
}

impl<T> Early<T> {
    fn key(&self) -> (Moment, u64) {
        (self.due, self.arrival)
    }
}

impl<T> PartialEq for Early<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Early<T> {}

impl<T> PartialOrd for Early<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Early<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> Default for TimeQueue<T> {
    fn default() -> Self {
        TimeQueue { front: Vec::new(), line: VecDeque::new(), early: BinaryHeap::new(), arrivals: 0 }
    }
}

impl<T> TimeQueue<T> {
    /// Puts one in its place.
    pub fn push(&mut self, due: Moment, item: T) {
        match self.line.back() {
            Some((last, _)) if due < *last => {
                self.arrivals += 1;
                self.early.push(Reverse(Early { due, arrival: self.arrivals, item }));
            }
            _ => self.line.push_back((due, item)),
        }
    }

    /// Puts one before all others, due at once.
    pub fn push_front(&mut self, item: T) {
        self.front.push(item);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.front.len() + self.line.len() + self.early.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the first one is due: long ago for one that overtakes all.
    pub fn next_due(&self) -> Option<Moment> {
        if !self.front.is_empty() {
            return Some(Moment(0));
        }
        match (self.line.front(), self.early.peek()) {
            (Some((line, _)), Some(Reverse(early))) => Some(early.due.min(*line)),
            (Some((line, _)), None) => Some(*line),
            (None, early) => early.map(|Reverse(early)| early.due),
        }
    }

    /// The first one, if it is due now.
    pub fn pop_due(&mut self, now: Moment) -> Option<T> {
        if let Some(item) = self.front.pop() {
            return Some(item);
        }
        let early = self.early.peek().map(|Reverse(early)| early.due);
        let line = self.line.front().map(|(due, _)| *due);
        match (line, early) {
            (line, Some(early)) if line.is_none_or(|line| early < line) => {
                if early <= now {
                    self.early.pop().map(|Reverse(early)| early.item)
                } else {
                    None
                }
            }
            (Some(line), _) if line <= now => self.line.pop_front().map(|(_, item)| item),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_leave_in_order_of_time_and_none_too_soon(dues in prop::collection::vec(0u64..50, 0..200)) {
            let mut queue = TimeQueue::default();
            for (number, due) in dues.iter().enumerate() {
                queue.push(Moment(*due), (*due, number));
            }
            let mut wanted: Vec<(u64, usize)> = dues.iter().copied().zip(0..).collect();
            wanted.sort_by_key(|(due, _)| *due);
            let mut got = Vec::new();
            for now in 0..50 {
                prop_assert!(queue.next_due().is_none_or(|due| due >= Moment(now)));
                while let Some(item) = queue.pop_due(Moment(now)) {
                    prop_assert_eq!(item.0, now);
                    got.push(item);
                }
            }
            prop_assert!(queue.is_empty());
            let by_due = |all: &[(u64, usize)]| {
                let mut sorted = all.to_vec();
                sorted.sort_unstable();
                sorted
            };
            prop_assert_eq!(by_due(&got), by_due(&wanted));
            prop_assert!(got.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        }
    }

    #[test]
    fn who_is_due_at_the_same_moment_keeps_the_order() {
        let mut queue = TimeQueue::default();
        for item in 0..10 {
            queue.push(Moment(5), item);
        }
        let got: Vec<i32> = std::iter::from_fn(|| queue.pop_due(Moment(5))).collect();
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_overtakes_is_first_and_due_at_once() {
        let mut queue = TimeQueue::default();
        queue.push(Moment(5), "delayed");
        queue.push(Moment(3), "sooner");
        queue.push_front("first");
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.next_due(), Some(Moment(0)));
        assert_eq!(queue.pop_due(Moment(1)), Some("first"));
        assert_eq!((queue.next_due(), queue.pop_due(Moment(1))), (Some(Moment(3)), None));
        assert_eq!((queue.pop_due(Moment(9)), queue.pop_due(Moment(9))), (Some("sooner"), Some("delayed")));
    }
}
