//! What faults left whose process is dead: links that are down, filters on kernels without tcx. It is found in the journal,
//! and taken back.

use std::path::{Path, PathBuf};

use snorkel_bpf::gate;
use snorkel_netns::{Netns, NetnsId, chain, mounts};
use snorkel_rtnl::Socket;

use crate::carrier::{Released, is_the_very, link, release};
use crate::journal::{Entry, Journal, Locked, Standing};
use crate::stage::reached;
use crate::{FaultId, Result};

/// What was done about the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Entries that were ended: the fault, the link, what became of it.
    pub ended: Vec<(FaultId, String, Released)>,
    /// What could not be done or was not believed, a line each.
    pub warnings: Vec<String>,
}

/// Ends every entry that nobody else will end. If there is no journal this costs one system call.
pub fn mend(journal: &Journal) -> Result<Mended> {
    let mut mended = Mended::default();
    let Some(locked) = journal.lock()? else { return Ok(mended) };
    let (entries, warnings) = locked.entries()?;
    mended.warnings = warnings;
    for entry in entries {
        let link = format!("{}, the far end of {}", entry.link, entry.target);
        let released = match entry.standing()? {
            Standing::Held | Standing::OutOfSight => continue,
            Standing::OfAnotherBoot => locked.remove(&entry).map(|()| Released::Gone),
            Standing::Orphaned => find_and_end(&locked, &entry),
        };
        match released {
            Ok(released) => mended.ended.push((entry.fault.clone(), link, released)),
            Err(error) => mended.warnings.push(format!("{link} is not as it was: {}", chain(&error))),
        }
    }
    Ok(mended)
}

/// The entries of faults that are held, or whose holder cannot be seen: what is in force by the journal.
pub fn held(journal: &Journal) -> Result<Vec<Entry>> {
    let Some(locked) = journal.lock()? else { return Ok(Vec::new()) };
    let (entries, _) = locked.entries()?;
    let stands = |entry: &Entry| matches!(entry.standing(), Ok(Standing::Held | Standing::OutOfSight));
    Ok(entries.into_iter().filter(stands).collect())
}

fn find_and_end(locked: &Locked, entry: &Entry) -> Result<Released> {
    reached("mending");
    // Another fault that has ended meanwhile may have handed over what the link lost.
    let entry = locked.again(entry).unwrap_or_else(|| entry.clone());
    match find(entry.netns) {
        Some(netns) => end(locked, &entry, &netns),
        // With the namespace the link is gone.
        None => locked.remove(&entry).map(|()| Released::Gone),
    }
}

/// Ends what an entry stands for, whose link is in this namespace, and removes the entry. For whoever has the journal's
/// lock, once the holder is dead.
pub(crate) fn end(locked: &Locked, entry: &Entry, netns: &Netns) -> Result<Released> {
    let mut socket = Socket::open_in(netns)?;
    if !entry.filters {
        return release(locked, entry, &mut socket);
    }
    let released = match link(&mut socket, entry.index)? {
        None => Released::Gone,
        Some(link) => {
            // Filters say whose they are; a qdisc does not.
            let qdisc = entry.qdisc && is_the_very(&link, entry);
            Released::Swept(gate::sweep(netns, entry.index, &entry.owner(), qdisc)?)
        }
    };
    locked.remove(entry).map(|()| released)
}

/// The namespace, if a process or a mount keeps it: the caller's own first, that of most links.
fn find(id: NetnsId) -> Option<Netns> {
    let is_it = |netns: &Netns| netns.inode() == id.inode && netns.id().is_ok_and(|found| found == id);
    if let Some(own) = Netns::current().ok().filter(is_it) {
        return Some(own);
    }
    let name = format!("net:[{}]", id.inode);
    let of_processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let is_process = entry.file_name().to_str()?.bytes().all(|b| b.is_ascii_digit());
        let path = entry.path().join("ns/net");
        (is_process && std::fs::read_link(&path).ok()?.as_os_str() == name.as_str()).then_some(path)
    });
    let table = mounts::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let of_mounts: Vec<PathBuf> = mounts::parse(&table)
        .into_iter()
        .filter(|mount| mount.kind == "nsfs" && mount.root == name.as_bytes())
        .map(|mount| mount.point)
        .collect();
    of_processes.chain(of_mounts).find_map(|path| Netns::open(&path).ok().filter(is_it))
}
