//! Reading on several processors: batches are worked on side by side, and their results come out in the file's order.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use super::{Batch, Reader};
use crate::file::ReadError;

/// How many batches may wait for a worker, and as many results of it to be fetched: one while it works on another.
const AHEAD: usize = 1;

/// A batch, what was found out about it beforehand, and what was made of it.
type Work<T> = (Batch, T, Vec<u8>);

impl Reader {
    /// Reads all that is left: `prepare` looks at each batch in turn, on this thread, and may end the reading; then a
    /// worker makes bytes of the batch and what was found (put at the end of the vector, which comes empty), on one of
    /// `workers` threads of which each has its own; and `write` gets them in the order of the batches, on a thread of its
    /// own.
    ///
    /// What a batch becomes is written as soon as it and those before it are done, also while a slow source is waited
    /// for. `write` ends the reading with [`ControlFlow::Break`]; then what was read ahead is dropped. Memory is that of
    /// a few batches for each worker. An error comes after everything before the fault was written.
    pub fn for_each_batch<T, W>(
        &mut self,
        workers: usize,
        prepare: impl FnMut(&Batch, &mut T) -> ControlFlow<()>,
        worker: impl Fn() -> W + Sync,
        mut write: impl FnMut(&[u8]) -> ControlFlow<()> + Send,
    ) -> Result<(), ReadError>
    where
        T: Default + Send,
        W: FnMut(&Batch, &T, &mut Vec<u8>),
    {
        thread::scope(|scope| {
            let workers = workers.max(1);
            let (mut todo, mut done) = (Vec::new(), Vec::new());
            for _ in 0..workers {
                let (give, take) = sync_channel::<Work<T>>(AHEAD);
                let (put, fetch) = sync_channel::<Work<T>>(AHEAD);
                let worker = &worker;
                scope.spawn(move || {
                    let mut work = worker();
                    for (batch, found, mut made) in take {
                        made.clear();
                        work(&batch, &found, &mut made);
                        if put.send((batch, found, made)).is_err() {
                            return;
                        }
                    }
                });
                todo.push(give);
                done.push(fetch);
            }
            // What is written is used again.
            let (back, used) = channel::<Work<T>>();
            scope.spawn(move || {
                // The first worker that has nothing more got the end: the others have nothing for it either.
                for fetch in done.iter().cycle() {
                    let Ok((batch, found, made)) = fetch.recv() else { return };
                    if write(&made).is_break() {
                        return;
                    }
                    // Nobody takes it once all is read.
                    let _ = back.send((batch, found, made));
                }
            });
            self.hand_out(&todo, &used, prepare)
        })
    }

    fn hand_out<T: Default>(
        &mut self,
        todo: &[SyncSender<Work<T>>],
        used: &Receiver<Work<T>>,
        mut prepare: impl FnMut(&Batch, &mut T) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for give in todo.iter().cycle() {
            let (batch, mut found, made) = used.try_recv().unwrap_or_default();
            let Some(batch) = self.next_batch(batch)? else { break };
            let flow = prepare(&batch, &mut found);
            // A worker is gone only if nobody wants its results.
            if give.send((batch, found, made)).is_err() || flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
