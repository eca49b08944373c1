//! How many threads a process has. The only test of its process, in which others would count.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use std::sync::mpsc;
use std::thread;

use snorkel_netns::os;

#[test]
fn a_thread_counts_until_it_was_waited_for() {
    let before = os::threads().unwrap();
    for _ in 0..2000 {
        let (end, ended) = mpsc::channel::<()>();
        let waiting = thread::spawn(move || ended.recv());
        assert_eq!(os::threads().unwrap(), before + 1);
        drop(end);
        assert!(waiting.join().unwrap().is_err());
        assert_eq!(os::threads().unwrap(), before);
    }
}
