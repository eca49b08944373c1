//! A link that is down: the host's side of a target's link is set down, so that the target sees no carrier (veth(4)).
//! Its own addresses and routes stay.
//!
//! The kernel does not take this back when the process ends. So a guardian is told first (`guardian.rs`), an entry is written
//! to the journal (`journal.rs`), and only then the link is set down. Several faults may want the same link down:
//! it is up again when the last of them has ended, and only if it was up before the first. All of this happens under
//! the journal's lock.

use snorkel_netns::Netns;
use snorkel_rtnl::{IfIndex, Link, Socket};

use crate::guardian::Guardian;
use crate::journal::{About, Entry, Journal, Locked};
use crate::stage::reached;
use crate::{Error, Result};

/// A link that this process holds down.
#[derive(Debug)]
pub(crate) struct Carrier {
    entry: Entry,
    socket: Socket,
    journal: Journal,
}

/// What became of a link when a fault let go of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is up again.
    Up,
    /// Somebody else had set it up meanwhile.
    WasUp,
    /// It was down before the fault, and is left down.
    LeftDown,
    /// Another fault wants it down.
    HeldDown,
    /// It is gone, or another is in its place.
    Gone,
    /// So many filters that a killed process had left were removed from it.
    Swept(usize),
}

impl Carrier {
    /// Sets the link down, after `guardian` was told and it was written down.
    pub(crate) fn cut(
        journal: &Journal,
        guardian: &Guardian,
        about: About,
        netns: &Netns,
    ) -> Result<Carrier> {
        guardian.guard(&about.fault, about.number, netns)?;
        reached("guarded");
        let mut socket = Socket::open_in(netns)?;
        let locked = journal.make()?;
        let what = about.target.clone();
        let link =
            link(&mut socket, about.index)?.ok_or_else(|| Error::Gone(format!("the far end of {what}")))?;
        let (entries, _) = locked.entries()?;
        // Another fault that wants it down knows how it was before.
        let earlier = entries.into_iter().find(|entry| entry.is_of(about.netns, about.index));
        let (was_up, kept) = match earlier {
            Some(earlier) if !link.flags.up => (earlier.was_up, earlier.kept),
            Some(earlier) => (earlier.was_up, socket.keep(about.index)?),
            None => (link.flags.up, socket.keep(about.index)?),
        };
        let entry = Entry::new(about, was_up, kept)?;
        reached("before-journal");
        locked.write(&entry)?;
        reached("journalled");
        let mut carrier = Carrier { entry, socket, journal: journal.clone() };
        let set_down = carrier.socket.set_down(carrier.entry.index).map_err(Error::from);
        let done = set_down.and_then(|()| {
            reached("down");
            carrier.check_down()
        });
        if let Err(error) = done {
            // What went wrong first is what is told.
            let _ = release(&locked, &carrier.entry, &mut carrier.socket);
            return Err(error);
        }
        Ok(carrier)
    }

    /// Whether the link is there and down.
    fn check_down(&mut self) -> Result<()> {
        match link(&mut self.socket, self.entry.index)? {
            None => Err(Error::Gone(self.name())),
            Some(link) if link.flags.up => Err(Error::NotInForce(format!("{} is up", self.name()))),
            Some(_) => Ok(()),
        }
    }

    /// Whether the fault is in force as it should be at the moment.
    pub(crate) fn verify(&mut self) -> Result<()> {
        if self.entry.wants_down { self.check_down() } else { Ok(()) }
    }

    /// Whether the link is still there.
    pub(crate) fn is_there(&mut self) -> bool {
        // What cannot be asked is not gone.
        !matches!(link(&mut self.socket, self.entry.index), Ok(None))
    }

    /// The link, for people.
    fn name(&self) -> String {
        format!("{}, the far end of {}", self.entry.link, self.entry.target)
    }

    /// The link's name.
    pub(crate) fn link_name(&self) -> String {
        self.entry.link.clone()
    }

    /// Lets the link up for a while, or sets it down again.
    pub(crate) fn want(&mut self, down: bool) -> Result<()> {
        self.entry.wants_down = down;
        let locked = self.journal.make()?;
        if down {
            let is_up = link(&mut self.socket, self.entry.index)?.is_some_and(|link| link.flags.up);
            if is_up {
                self.entry.kept = self.socket.keep(self.entry.index)?;
            }
        }
        locked.write(&self.entry)?;
        if down {
            self.socket.set_down(self.entry.index)?;
        } else if wanted_down_by_another(&locked, &self.entry)?.is_none() && self.entry.was_up {
            set_up(&mut self.socket, &self.entry)?;
        }
        Ok(())
    }

    /// What is written down of it.
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Ends it.
    pub(crate) fn heal(&mut self, locked: &Locked) -> Result<Released> {
        reached("before-heal");
        release(locked, &self.entry, &mut self.socket)
    }
}

/// Ends what an entry stands for, in the namespace that the socket is in, and removes the entry. For whoever has the
/// journal's lock. What is not the very link is not touched.
pub(crate) fn release(locked: &Locked, entry: &Entry, socket: &mut Socket) -> Result<Released> {
    let found = link(socket, entry.index)?.filter(|link| is_the_very(link, entry));
    let released = match found {
        None => Released::Gone,
        Some(link) => match wanted_down_by_another(locked, entry)? {
            Some(other) => {
                hand_over(locked, entry, other)?;
                Released::HeldDown
            }
            None if !entry.was_up => Released::LeftDown,
            None => {
                set_up(socket, entry)?;
                reached("up");
                if link.flags.up { Released::WasUp } else { Released::Up }
            }
        },
    };
    locked.remove(entry)?;
    Ok(released)
}

/// Sets the link up, and gives back what it lost. Of what cannot be given back the rest is, and the first is told.
fn set_up(socket: &mut Socket, entry: &Entry) -> Result<()> {
    socket.set_up(entry.index)?;
    if let Ok(Some(link)) = link(socket, entry.index) {
        // Packets flow without that too, only a little later.
        let _ = socket.settle(&link);
    }
    let mut first = Ok(());
    for kept in &entry.kept {
        first = first.and(socket.give_back(kept));
    }
    Ok(first?)
}

/// The fault, if there is one, that wants the same link down too.
fn wanted_down_by_another(locked: &Locked, entry: &Entry) -> Result<Option<Entry>> {
    let (entries, _) = locked.entries()?;
    let other = |other: &Entry| {
        (&other.fault, other.number) != (&entry.fault, entry.number)
            && other.is_of(entry.netns, entry.index)
            && other.wants_down
    };
    Ok(entries.into_iter().find(other))
}

/// What the link lost at first is given back by whoever ends last: what only this entry knows goes to the other.
fn hand_over(locked: &Locked, entry: &Entry, mut other: Entry) -> Result<()> {
    let unknown: Vec<_> = entry.kept.iter().filter(|kept| !other.kept.contains(kept)).cloned().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    other.kept.extend(unknown);
    locked.write(&other)
}

/// The link of this number in the socket's namespace.
pub(crate) fn link(socket: &mut Socket, index: IfIndex) -> Result<Option<Link>> {
    Ok(socket.links(None)?.into_iter().find(|link| link.index == index))
}

/// Whether it is the link of the entry: in a namespace that has its cookie a number is another's only if somebody asked
/// for that number. A name can be changed, and a hardware address too; hardly both.
pub(crate) fn is_the_very(link: &Link, entry: &Entry) -> bool {
    match (&link.mac, &entry.mac) {
        (Some(now), Some(then)) => now == then,
        _ => link.name == entry.link,
    }
}
