//! The nodes as the holder knows them: who runs, who has ended; and taking them all down.
//!
//! The main thread of the holder reaps (it must never end: the nodes' parent-death signal is tied to that thread).
//! A child is looked at before it is reaped, and reaped under the lock under which signals are sent, so a PID that is
//! marked as running is the node's own.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
use snorkel_netns::{Pid, os};

use crate::spec::Kind;
use crate::wire::{Down, Lab, Node, State};

/// The lab that is up.
pub(crate) struct Members {
    lab: Mutex<Lab>,
    changed: Condvar,
}

impl Members {
    pub(crate) fn new(lab: Lab) -> Members {
        Members { lab: Mutex::new(lab), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lab> {
        // Nothing in a critical section can leave the records half-written.
        self.lab.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands.
    pub(crate) fn list(&self) -> Lab {
        self.lock().clone()
    }

    /// Reaps the nodes that end, for ever.
    pub(crate) fn reap(&self) -> ! {
        while let Ok(Some(ended)) = os::next_ended_child() {
            let mut lab = self.lock();
            let _ = waitpid(Some(ended), WaitOptions::NOHANG);
            for node in &mut lab.nodes {
                if node.pid.map(Pid::get) == Some(ended.as_raw_nonzero().get()) {
                    node.pid = None;
                    node.nested = None;
                    node.state = State::Exited;
                }
            }
            drop(lab);
            self.changed.notify_all();
        }
        // No node is left; the switch is. An unparked thread parks again.
        loop {
            std::thread::park();
        }
    }

    /// Kills every node and waits until the last one is reaped.
    pub(crate) fn take_down(&self) -> Down {
        let mut lab = self.lock();
        let mut down = Down { name: lab.name.clone(), ended: Vec::new(), had_exited: Vec::new() };
        for node in &lab.nodes {
            match pid_of(node) {
                Some(pid) => {
                    // It cannot have been reaped meanwhile; if it is dead already that is as well.
                    let _ = kill_process(pid, Signal::KILL);
                    down.ended.push(node.name.clone());
                }
                None if node.kind == Kind::Switch => down.ended.push(node.name.clone()),
                None => down.had_exited.push(node.name.clone()),
            }
        }
        while lab.nodes.iter().any(|node| pid_of(node).is_some()) {
            lab = self.changed.wait(lab).unwrap_or_else(PoisonError::into_inner);
        }
        down
    }
}

/// The process of a node that runs; `None` for the switch, which is the holder itself.
fn pid_of(node: &Node) -> Option<rustix::process::Pid> {
    if node.kind == Kind::Switch {
        return None;
    }
    node.pid.and_then(|pid| rustix::process::Pid::from_raw(pid.get()))
}
