//! How many threads a process has. The only test of its process, in which others would count.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use snorkel_netns::os;

/// A thread that waits until its sender is dropped.
fn waiting() -> (Sender<()>, JoinHandle<()>) {
    let (end, ended) = mpsc::channel::<()>();
    (end, thread::spawn(move || assert!(ended.recv().is_err())))
}

fn end((end, thread): (Sender<()>, JoinHandle<()>)) {
    drop(end);
    thread.join().unwrap();
}

#[test]
fn a_thread_counts_until_it_was_waited_for_also_while_others_end() {
    let before = os::threads().unwrap();
    for _ in 0..500 {
        let one = waiting();
        assert_eq!(os::threads().unwrap(), before + 1);
        end(one);
        assert_eq!(os::threads().unwrap(), before);
    }

    // The list of threads is read while those in front of others end: the next one waits before the last one ends, so
    // there are two more than before at any moment.
    let enough = AtomicBool::new(false);
    let (begun, beginning) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = waiting();
            begun.send(()).unwrap();
            while !enough.load(Ordering::Relaxed) {
                end(std::mem::replace(&mut last, waiting()));
            }
            end(last);
        });
        beginning.recv().unwrap();
        let least = (0..500).map(|_| os::threads().unwrap()).min();
        enough.store(true, Ordering::Relaxed);
        assert!(least >= Some(before + 2), "{least:?} threads where there were {}", before + 2);
    });
}
