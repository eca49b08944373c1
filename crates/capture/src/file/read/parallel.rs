//! Reading on several processors: batches are worked on side by side, and their results come out in the file's order.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use super::{Batch, Reader};
use crate::file::ReadError;

/// How many batches may wait for a worker, and as many results of it to be fetched: one while it works on another.
const AHEAD: usize = 1;

/// A batch and what was made of it.
type Work = (Batch, Vec<u8>);

impl Reader {
    /// Reads all that is left: `work` makes bytes of each batch (put at the end of the vector, which comes empty), on
    /// `workers` threads, and `write` gets them in the order of the batches, on a thread of its own.
    ///
    /// What a batch becomes is written as soon as it and those before it are done, also while a slow source is waited
    /// for. `write` ends the reading with [`ControlFlow::Break`]; then what was read ahead is dropped. Memory is that of
    /// a few batches for each worker. An error comes after everything before the fault was written.
    pub fn for_each_batch(
        &mut self,
        workers: usize,
        work: impl Fn(&Batch, &mut Vec<u8>) + Sync,
        mut write: impl FnMut(&[u8]) -> ControlFlow<()> + Send,
    ) -> Result<(), ReadError> {
        thread::scope(|scope| {
            let workers = workers.max(1);
            let (mut todo, mut done) = (Vec::new(), Vec::new());
            for _ in 0..workers {
                let (give, take) = sync_channel::<Work>(AHEAD);
                let (put, fetch) = sync_channel::<Work>(AHEAD);
                let work = &work;
                scope.spawn(move || {
                    for (batch, mut made) in take {
                        made.clear();
                        work(&batch, &mut made);
                        if put.send((batch, made)).is_err() {
                            return;
                        }
                    }
                });
                todo.push(give);
                done.push(fetch);
            }
            // What is written is used again.
            let (back, used) = channel::<Work>();
            scope.spawn(move || {
                // The first worker that has nothing more got the end: the others have nothing for it either.
                for fetch in done.iter().cycle() {
                    let Ok((batch, made)) = fetch.recv() else { return };
                    if write(&made).is_break() {
                        return;
                    }
                    // Nobody takes it once all is read.
                    let _ = back.send((batch, made));
                }
            });
            self.hand_out(&todo, &used)
        })
    }

    fn hand_out(&mut self, todo: &[SyncSender<Work>], used: &Receiver<Work>) -> Result<(), ReadError> {
        for give in todo.iter().cycle() {
            let (batch, made) = used.try_recv().unwrap_or_default();
            let Some(batch) = self.next_batch(batch)? else { break };
            // A worker is gone only if nobody wants its results.
            if give.send((batch, made)).is_err() {
                break;
            }
        }
        Ok(())
    }
}
