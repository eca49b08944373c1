//! The guardian: a second process that takes back what the kernel does not, should its holder end without doing so: links
//! that are down, and filters on kernels without tcx.
//!
//! It is forked while the holder has one thread, has a session of its own, so that no terminal ends it, and nothing of
//! the holder's but one end of a socket pair. Over that it is told of each link before the link is changed, with a
//! descriptor of the link's namespace (unix(7), `SCM_RIGHTS`). When the other end is closed, by whatever end of the
//! holder, it takes everything back that it was not told to forget, and ends.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use snorkel_netns::os::{self, Disposition, Fork};
use snorkel_netns::{Netns, Pid};

use crate::journal::{Entry, Journal, Locked, Who};
use crate::orphans::end;
use crate::stage::reached;
use crate::{Error, FaultId, Result};

/// A guardian that takes longer to nod has died.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// A message has a fault's name and a number.
const LARGEST: usize = 256;

/// The holder's way to its guardian.
#[derive(Debug)]
pub struct Guardian {
    channel: OwnedFd,
    who: Who,
    /// It did not nod once: nothing is said to it any more, and no nod that comes late is taken for another.
    lost: Cell<bool>,
}

/// Which entry, and what about it.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    fault: FaultId,
    number: usize,
    guard: bool,
}

impl Guardian {
    /// Starts one. The calling process must have one thread.
    pub fn start(journal: &Journal) -> Result<Guardian> {
        let what = "start the guardian";
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| Error::os(what, e))?;
        match os::fork().map_err(|e| Error::os(what, e))? {
            Fork::Child => {
                let status = match live(&theirs, journal) {
                    Ok(()) => 0,
                    Err(_) => 1,
                };
                os::exit_now(status)
            }
            Fork::Parent(pid) => {
                drop(theirs);
                let pid = Pid::new(pid.as_raw_nonzero().get())
                    .ok_or_else(|| Error::os(what, std::io::Error::other("fork gave no process id")))?;
                let guardian = Guardian { who: Who::of(pid)?, channel: ours, lost: Cell::new(false) };
                // It nods when it has left the session, and what the terminal sends does not reach it any more.
                guardian.wait_for_nod()?;
                Ok(guardian)
            }
        }
    }

    /// Which process it is.
    pub fn who(&self) -> Who {
        self.who
    }

    /// Tells it of an entry that is about to be written; comes back when it has heard. Told first, it misses none.
    pub(crate) fn guard(&self, fault: &FaultId, number: usize, netns: &Netns) -> Result<()> {
        self.ask(fault, number, Some(netns.as_fd()))
    }

    /// Tells it of one that has been ended. If it does not hear that, it will find the entry gone.
    pub(crate) fn release(&self, entry: &Entry) {
        let _ = self.ask(&entry.fault, entry.number, None);
    }

    fn ask(&self, fault: &FaultId, number: usize, netns: Option<BorrowedFd<'_>>) -> Result<()> {
        if self.lost.get() {
            return Err(Error::os("tell the guardian", Errno::PIPE));
        }
        let told = self.tell(fault, number, netns).and_then(|()| self.wait_for_nod());
        self.lost.set(told.is_err());
        told
    }

    fn tell(&self, fault: &FaultId, number: usize, netns: Option<BorrowedFd<'_>>) -> Result<()> {
        let message = Message { fault: fault.clone(), number, guard: netns.is_some() };
        let text = serde_json::to_vec(&message).map_err(|e| Error::os("tell the guardian", e))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = netns.into_iter().collect();
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        rustix::net::sendmsg(&self.channel, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|e| Error::os("tell the guardian", e))
    }

    fn wait_for_nod(&self) -> Result<()> {
        let failed = |e| Error::os("hear from the guardian", e);
        let mut there = [PollFd::new(&self.channel, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut there, Some(&PATIENCE))).map_err(failed)? == 0 {
            return Err(failed(Errno::TIMEDOUT));
        }
        let mut nod = [0];
        let (_, got) = rustix::net::recv(&self.channel, &mut nod[..], RecvFlags::empty()).map_err(failed)?;
        if got == 0 { Err(failed(Errno::PIPE)) } else { Ok(()) }
    }
}

/// Has an end (POLLHUP) when the guardian has died.
impl AsFd for Guardian {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The guardian's life.
fn live(channel: &OwnedFd, journal: &Journal) -> Result<()> {
    let failed = |what: &str, e: std::io::Error| Error::os(format!("{what}, as a guardian"), e);
    rustix::process::setsid().map_err(|e| failed("begin a session", e.into()))?;
    os::close_all_but(&[channel.as_fd()]).map_err(|e| failed("close inherited descriptors", e))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed("open /dev/null", e.into()))?;
    for standard in 0..3 {
        os::redirect(null.as_fd(), standard).map_err(|e| failed("give up the terminal", e))?;
    }
    drop(null);
    // No directory is kept from being unmounted.
    let _ = std::env::set_current_dir("/");
    let _ = rustix::thread::set_name(c"snorkel-guard");
    // Who ends a whole group of processes ends the holder too, and then there is something to do here.
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::PIPE] {
        os::on_signal(signal, Disposition::Ignore);
    }
    os::unblock_signals();
    nod(channel)?;
    let mut guarded = BTreeMap::new();
    while let Some((message, netns)) = next(channel)? {
        let key = (message.fault, message.number);
        match (message.guard, netns) {
            (true, Some(netns)) => drop(guarded.insert(key, netns)),
            (true, None) => {}
            (false, _) => drop(guarded.remove(&key)),
        }
        nod(channel)?;
    }
    reached("guardian-woken");
    take_back(journal, Who::of(Pid::own())?, &guarded)
}

/// Ends everything that is still written down of what was guarded by this guardian. All is tried; the first error is told.
fn take_back(journal: &Journal, own: Who, guarded: &BTreeMap<(FaultId, usize), OwnedFd>) -> Result<()> {
    let Some(locked) = lock_in_the_end(journal)? else { return Ok(()) };
    let (entries, _) = locked.entries()?;
    let mut first = Ok(());
    for entry in entries.into_iter().filter(|entry| entry.guardian == Some(own)) {
        let Some(descriptor) = guarded.get(&(entry.fault.clone(), entry.number)) else { continue };
        let done = namespace(descriptor).and_then(|netns| end(&locked, &entry, &netns));
        first = first.and(done.map(drop));
    }
    first
}

/// Locks the journal. Whoever keeps it that long was stopped, and nobody waits for this process.
fn lock_in_the_end(journal: &Journal) -> Result<Option<Locked>> {
    const TRIES: usize = 30;
    let mut locked = journal.lock();
    for _ in 1..TRIES {
        if locked.is_ok() {
            break;
        }
        locked = journal.lock();
    }
    locked
}

/// The namespace of a descriptor that was sent.
fn namespace(descriptor: &OwnedFd) -> Result<Netns> {
    Ok(Netns::open(&PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd())))?)
}

fn nod(channel: &OwnedFd) -> Result<()> {
    match rustix::net::send(channel, b"!", SendFlags::NOSIGNAL) {
        // The holder is gone; that comes out with the next message.
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(e) => Err(Error::os("nod to the holder", e)),
    }
}

/// The next message, and the descriptor that came along; `None` when the holder has ended.
fn next(channel: &OwnedFd) -> Result<Option<(Message, Option<OwnedFd>)>> {
    loop {
        let mut text = [0; LARGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(
            channel,
            &mut [IoSliceMut::new(&mut text)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        let length = match got {
            Ok(message) if message.bytes == 0 => return Ok(None),
            Ok(message) => message.bytes,
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(e) => return Err(Error::os("hear from the holder", e)),
        };
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptor = descriptors.flatten().last();
        match serde_json::from_slice(&text[..length]) {
            Ok(message) => return Ok(Some((message, descriptor))),
            Err(e) => return Err(Error::os("hear from the holder", e)),
        }
    }
}
