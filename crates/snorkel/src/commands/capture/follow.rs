//! `--follow`: two processes, one that may and one that reads.
//!
//! What starts later has to be found and opened later, which takes every right that opening took at first; but what
//! reads strangers' packets is to have none. So this program is started once more with the same words as the *opener*:
//! it follows engines and links, opens rings, and passes them on (unix(7), `SCM_RIGHTS`). The reader, which called it,
//! gives up its rights at once. The opener ends with its reader.

use std::collections::HashSet;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use snorkel_capture::ring::Handed;
use snorkel_netns::{NetnsId, Process};
use snorkel_topology::{Snapshot, Survey, Surveyor};

use super::filter::Filters;
use super::opening::{Opener, Settings, share};
use super::spots::{Spot, spots_of_now};
use super::wanted::Wanted;
use crate::commands::unlisted;
use crate::commands::watch::Changes;
use crate::failure::{Failure, Outcome};

/// The environment's word that this process is an opener; its standard input is the way to its reader.
const OPENER: &str = "SNORKEL_CAPTURE_OPENER";
/// An opener that began a message does not stop in the middle of it for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// As many links may join as there are at the beginning, and at least so many in all, before memory is short.
const EXPECTED: usize = 8;

/// When something could not be read, or found no memory, it is read again after this time if nothing happens before, then
/// after twice the time, and so on.
const AGAIN: Duration = Duration::from_secs(1);
/// But never later than after this.
const AT_LAST: Duration = Duration::from_secs(60);

/// What the opener tells.
#[derive(Serialize, Deserialize)]
pub(super) enum Message {
    /// The world as it is now. Names are learnt from it.
    Snapshot(Box<Snapshot>),
    /// A ring was opened; its descriptors come along.
    Ring { spot: Box<Spot>, handed: Handed },
    /// A process lives on a captured network; its pidfd comes along.
    Member { target: String, home: NetnsId },
    /// What was there at first has all been told.
    Ready,
    /// Something could not be done; the rest goes on.
    Warning(String),
    /// There is no use in going on.
    Failed { message: String, hint: Option<String> },
}

/// The reader's end.
pub(super) struct Follower {
    channel: UnixStream,
}

impl Follower {
    /// Starts the opener, with the very words that this process was started with.
    pub(super) fn start() -> Result<Follower, Failure> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        Command::new("/proc/self/exe")
            .args(std::env::args_os().skip(1))
            .env(OPENER, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // The terminal's Ctrl-C is for the reader, which ends both.
            .process_group(0)
            .spawn()?;
        Ok(Follower { channel: ours })
    }

    /// The next message, and the descriptors that came along; `None` if the opener has ended.
    pub(super) fn next(&mut self) -> Result<Option<(Message, Vec<OwnedFd>)>, Failure> {
        // For its beginning there is all the time in the world: engines may be slow.
        let mut there = [PollFd::new(&self.channel, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut there, None) {}
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Handed::DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(
            &self.channel,
            &mut [IoSliceMut::new(&mut length)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
        );
        match got {
            Ok(message) if message.bytes == length.len() => {}
            Ok(_) | Err(Errno::CONNRESET) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.channel.read_exact(&mut body)?;
        Ok(Some((serde_json::from_slice(&body)?, descriptors)))
    }

    /// Tells the opener that a ring's memory is free again.
    pub(super) fn closed(&mut self) {
        // An opener that has ended needs no memory.
        let _ = self.channel.write_all(&[0]);
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The way to the reader, if this process was started as its opener.
pub(super) fn channel() -> Result<Option<UnixStream>, Failure> {
    if std::env::var_os(OPENER).is_none() {
        return Ok(None);
    }
    Ok(Some(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?)))
}

/// Finds, opens and passes on until the reader ends.
pub(super) fn open_for_reader(
    mut channel: UnixStream,
    survey: Survey,
    wanted: &Wanted,
    words: &[String],
    settings: Settings,
) -> Outcome {
    let result = follow(&mut channel, survey, wanted, words, settings);
    if let Err(failure) = result {
        let message = Message::Failed { message: failure.to_string(), hint: failure.hint_text() };
        // With the reader gone there is nobody to tell.
        let _ = send(&mut channel, &message, &[]);
    }
    Ok(ExitCode::SUCCESS)
}

fn follow(
    channel: &mut UnixStream,
    survey: Survey,
    wanted: &Wanted,
    words: &[String],
    settings: Settings,
) -> Result<(), Failure> {
    end_with(channel.try_clone()?)?;
    let query = survey.query.clone();
    let mut surveyor = Surveyor::new(survey);
    let changes = Changes::follow(&query, &surveyor)?;
    let mut known: HashSet<(NetnsId, snorkel_rtnl::IfIndex)> = HashSet::new();
    let mut members: HashSet<(String, i32)> = HashSet::new();
    let total = usize::try_from(settings.bytes).unwrap_or(usize::MAX);
    let mut each = None;
    let mut opened = 0;
    let mut told: HashSet<String> = HashSet::new();
    let mut last = None;
    let mut again = AGAIN;
    loop {
        let mut snapshot = surveyor.take()?;
        unlisted::join(&mut snapshot, &query, wanted.named());
        let (spots, failures) = match spots_of_now(&snapshot, wanted) {
            Ok((spots, mut failures)) if each.is_none() && spots.is_empty() && !failures.is_empty() => {
                return Err(failures.swap_remove(0));
            }
            Ok(found) => found,
            // Two that are called the same may have become one by the next change.
            Err(failure) if each.is_some() => (Vec::new(), vec![failure]),
            Err(failure) => return Err(failure),
        };
        for failure in failures {
            // Of one that has just been made this may be true for a moment; it is said once.
            if told.insert(failure.to_string()) {
                send(channel, &Message::Warning(failure.to_string()), &[])?;
            }
        }
        send(channel, &Message::Snapshot(Box::new(snapshot.clone())), &[])?;
        let filters: &Filters = match (Filters::new(words, settings.snaplen, &snapshot), &mut last) {
            (Ok(filters), None) => last.insert(filters),
            (Ok(filters), Some(last)) => {
                if let Some(name) = last.means_another(&filters) {
                    let text = format!(
                        "{name} has another address by now; links that were opened before are filtered by the old one"
                    );
                    send(channel, &Message::Warning(text), &[])?;
                }
                *last = filters;
                last
            }
            // Whom the filter names may be away for a moment: the address that it had last counts on.
            (Err(failure), Some(last)) => {
                if told.insert(failure.to_string()) {
                    let text = format!("{failure}; its last address counts on");
                    send(channel, &Message::Warning(text), &[])?;
                }
                last
            }
            (Err(failure), None) => return Err(failure),
        };
        let bytes = match each {
            Some(bytes) => bytes,
            None => *each.insert(share(total, (2 * spots.len()).max(EXPECTED))?),
        };
        let mut opener = Opener::new(&query, &snapshot, filters, settings.snaplen, bytes);
        let mut short = false;
        for spot in spots {
            if known.contains(&(spot.netns, spot.index)) {
                continue;
            }
            let name = spot.interface.name.clone();
            if (opened + 1) * bytes > total {
                let free = opened.saturating_sub(freed(channel)?);
                if (free + 1) * bytes > total {
                    // It is when another one has gone.
                    short = true;
                    let text = format!("{name} is not captured: --buffer is used up by {opened} links");
                    if told.insert(text.clone()) {
                        again = AGAIN;
                        send(channel, &Message::Warning(text), &[])?;
                    }
                    continue;
                }
                opened = free;
            }
            known.insert((spot.netns, spot.index));
            match opener.open(spot) {
                Ok((ring, spot)) => {
                    opened += 1;
                    let (descriptors, handed) = ring.hand_over();
                    let message = Message::Ring { spot: Box::new(spot), handed };
                    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
                    send(channel, &message, &descriptors)?;
                }
                // It may have ended between the look and the opening.
                Err(failure) => send(channel, &Message::Warning(format!("{name}: {failure}")), &[])?,
            }
        }
        for target in &snapshot.targets {
            let (Some(home), Some(pid)) = (target.netns, target.container.pid) else { continue };
            let captured = !target.host && known.iter().any(|(netns, _)| *netns == home);
            if captured && members.insert((target.container.qualified_id(), pid.get())) {
                let Ok(process) = Process::open(pid) else { continue };
                let message = Message::Member { target: target.name.clone(), home };
                send(channel, &message, &[process.as_fd()])?;
            }
        }
        send(channel, &Message::Ready, &[])?;
        let goes_on = if snapshot.warnings.is_empty() && !short {
            again = AGAIN;
            changes.wait()
        } else {
            // An engine that did not answer has things to tell that no event will announce once more; nor will one announce
            // that a ring's memory is free.
            let after = again;
            again = AT_LAST.min(2 * again);
            changes.wait_at_most(after)
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// Ends this process when the reader does.
fn end_with(channel: UnixStream) -> Result<(), Failure> {
    std::thread::Builder::new().name("snorkel-reader".into()).spawn(move || {
        let mut end = [PollFd::new(&channel, PollFlags::RDHUP)];
        while let Err(Errno::INTR) = poll(&mut end, None) {}
        std::process::exit(0);
    })?;
    Ok(())
}

/// How many rings the reader has closed since this was asked last.
fn freed(channel: &UnixStream) -> Result<usize, Failure> {
    let mut words = [0; 256];
    match rustix::net::recv(channel, &mut words, RecvFlags::DONTWAIT) {
        Ok((count, _)) => Ok(count),
        Err(Errno::AGAIN) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

fn send(channel: &mut UnixStream, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Handed::DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    rustix::net::sendmsg(&*channel, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(channel.write_all(&body)?)
}
