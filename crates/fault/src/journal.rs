//! The journal of what the kernel does not take back by itself: written before the change, so that whoever comes later can
//! take it back.
//!
//! That is a link that is down; and on kernels without tcx filters, though they let everything pass. For each such link
//! there is one file, written aside, flushed and renamed into its place (rename(2) is atomic). The directory is root's alone
//! and is there only as long as a file is. It is also the lock under which links are set down and up, and filters come and
//! go (flock(2)): a fault that ends sees all others on the same link.
//!
//! What lies there is believed only if nobody but its owner could have written it: links are not followed, nor are files
//! of others read. An entry leads to a link, and that link is touched only if it is the very one (`carrier.rs`).

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use snorkel_netns::{NetnsId, Pid, Process};
use snorkel_rtnl::{IfIndex, Kept, Mac};

use crate::{Error, FaultId, Result};

/// How long the lock is waited for, and how long between two tries.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);

/// The environment's word for another place than `/run/snorkel`.
const PLACE: &str = "SNORKEL_RUN";
const USUAL_PLACE: &str = "/run/snorkel";
/// The directory of faults in it.
const FAULTS: &str = "faults";
/// An entry with ten thousand routes is smaller.
const LARGEST: u64 = 4 << 20;
/// The form of entries that this program writes and understands.
const VERSION: u32 = 1;
/// How often a directory that vanishes meanwhile is made again.
const TRIES: usize = 64;

/// A process, as one that is looked at later can be told from another with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its number in the PID namespace of the entry.
    pub pid: Pid,
    /// When it was started, in clock ticks after the machine booted (proc_pid_stat(5)).
    pub started: u64,
}

impl Who {
    /// The process that this number means now.
    pub fn of(pid: Pid) -> Result<Who> {
        let process = Process::open(pid)?;
        Ok(Who { pid, started: process.start_ticks()? })
    }

    /// Whether it still runs. One that is dead and not reaped does not.
    fn is_alive(&self) -> bool {
        Process::open(self.pid)
            .map(|process| (process.start_ticks(), process.check_alive()))
            .is_ok_and(|(started, alive)| alive.is_ok() && started.is_ok_and(|at| at == self.started))
    }
}

/// One link that a fault has set down or put filters at, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    version: u32,
    /// The fault.
    pub fault: FaultId,
    /// Which of the fault's links it is, from 0.
    pub number: usize,
    /// The boot of the machine (proc_sys_kernel(5), `random/boot_id`): nothing is left of an earlier one.
    boot: String,
    /// The inode of the PID namespace in which the processes below have their numbers.
    pid_namespace: u64,
    /// Who holds the fault.
    pub holder: Who,
    /// Who takes it back if the holder ends without doing so.
    pub guardian: Option<Who>,
    /// The namespace that the link is in.
    pub netns: NetnsId,
    /// The link's number in it.
    pub index: IfIndex,
    /// The link's name.
    pub link: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The target and its own link, for people: `docker:web/eth0`.
    pub target: String,
    /// Whether the link was up before any fault.
    pub was_up: bool,
    /// Whether the fault wants it down at the moment.
    pub wants_down: bool,
    /// What it lost by being set down.
    pub kept: Vec<Kept>,
    /// Filters stand at the link that no descriptor holds (kernels before 6.6), instead of it being set down.
    #[serde(default)]
    pub filters: bool,
    /// Whether a clsact qdisc comes and goes with those.
    #[serde(default)]
    pub qdisc: bool,
}

/// What an entry says of its link and its fault; the rest is filled in.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) fault: FaultId,
    pub(crate) number: usize,
    pub(crate) guardian: Option<Who>,
    pub(crate) netns: NetnsId,
    pub(crate) index: IfIndex,
    pub(crate) link: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) target: String,
}

impl Entry {
    /// An entry of the calling process, of a link as it stands.
    pub(crate) fn new(about: About, was_up: bool, kept: Vec<Kept>) -> Result<Entry> {
        Ok(Entry {
            version: VERSION,
            fault: about.fault,
            number: about.number,
            boot: boot()?,
            pid_namespace: pid_namespace()?,
            holder: Who::of(Pid::own())?,
            guardian: about.guardian,
            netns: about.netns,
            index: about.index,
            link: about.link,
            mac: about.mac,
            target: about.target,
            was_up,
            wants_down: true,
            kept,
            filters: false,
            qdisc: false,
        })
    }

    /// An entry of the calling process, of a link at which filters are to stand.
    pub(crate) fn of_filters(about: About) -> Result<Entry> {
        Ok(Entry { wants_down: false, filters: true, ..Entry::new(about, false, Vec::new())? })
    }

    /// The name that its filters bear: the fault's, and its holder's number, since who has another journal may give the same
    /// name to another fault.
    pub(crate) fn owner(&self) -> String {
        format!("{}.{}", self.fault, self.holder.pid)
    }

    /// Whether it is about this link's being set down.
    pub fn is_of(&self, netns: NetnsId, index: IfIndex) -> bool {
        !self.filters && self.netns == netns && self.index == index
    }

    /// What became of those who were to end it.
    pub fn standing(&self) -> Result<Standing> {
        Ok(if self.boot != boot()? {
            Standing::OfAnotherBoot
        } else if self.pid_namespace != pid_namespace()? {
            Standing::OutOfSight
        } else if self.holder.is_alive() || self.guardian.is_some_and(|guardian| guardian.is_alive()) {
            Standing::Held
        } else {
            Standing::Orphaned
        })
    }

    /// The name of its file.
    fn file(&self) -> String {
        format!("{}.{}", self.fault, self.number)
    }
}

/// How it stands with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its holder or its guardian lives.
    Held,
    /// Both are dead: somebody else has to end it.
    Orphaned,
    /// Its processes cannot be seen from here.
    OutOfSight,
    /// The machine has booted since: the link is no more.
    OfAnotherBoot,
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(|e| Error::os(format!("read {path}"), e))?;
    Ok(text.trim().to_owned())
}

fn pid_namespace() -> Result<u64> {
    let path = "/proc/self/ns/pid";
    Ok(rustix::fs::stat(path).map_err(|e| Error::os(format!("look at {path}"), e))?.st_ino)
}

/// Where the journal is.
#[derive(Clone, Debug)]
pub struct Journal {
    place: PathBuf,
}

impl Journal {
    /// The machine's: `/run/snorkel`, unless the environment says otherwise.
    pub fn usual() -> Journal {
        Journal { place: std::env::var_os(PLACE).map_or_else(|| USUAL_PLACE.into(), PathBuf::from) }
    }

    /// The journal in a directory of its own.
    pub fn at(place: &Path) -> Journal {
        Journal { place: place.to_owned() }
    }

    /// Locks the journal, if there is one. It costs one system call if there is none, and for whoever may not see it.
    pub fn lock(&self) -> Result<Option<Locked>> {
        for _ in 0..TRIES {
            match open_directory(&self.faults()) {
                Ok(directory) => {
                    if let Some(locked) = self.locked(directory)? {
                        return Ok(Some(locked));
                    }
                }
                Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
                Err(e) => return Err(self.wrong("open", e)),
            }
        }
        Err(self.wrong("lock", Errno::AGAIN))
    }

    /// Locks the journal; makes it if there is none.
    pub(crate) fn make(&self) -> Result<Locked> {
        for _ in 0..TRIES {
            for directory in [&self.place, &self.faults()] {
                let mode = if directory == &self.place { 0o755 } else { 0o700 };
                match rustix::fs::mkdir(directory, Mode::from_raw_mode(mode)) {
                    // Somebody removes the one that the other is to be made in.
                    Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                    Err(e) => return Err(self.wrong("make", e)),
                }
            }
            match open_directory(&self.faults()) {
                Ok(directory) => {
                    if let Some(locked) = self.locked(directory)? {
                        return Ok(locked);
                    }
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.wrong("open", e)),
            }
        }
        Err(self.wrong("lock", Errno::AGAIN))
    }

    /// Takes the lock; `None` if the directory was removed meanwhile.
    fn locked(&self, directory: OwnedFd) -> Result<Option<Locked>> {
        let look = |fd: &OwnedFd| rustix::fs::fstat(fd).map_err(|e| self.wrong("look at", e));
        check(&look(&directory)?).map_err(|why| self.distrusted(&self.faults(), why))?;
        // Who may write to the directory above could put another in its place.
        if let Ok(above) = rustix::fs::lstat(&self.place) {
            check(&above).map_err(|why| self.distrusted(&self.place, why))?;
        }
        let end = Instant::now() + PATIENCE;
        while let Err(e) = rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            // Whoever has it needs milliseconds, unless he was stopped; nobody is to hang for that.
            if !matches!(e, Errno::INTR | Errno::WOULDBLOCK) || Instant::now() >= end {
                return Err(self.wrong("lock", e));
            }
            std::thread::sleep(PAUSE);
        }
        if look(&directory)?.st_nlink == 0 {
            return Ok(None);
        }
        Ok(Some(Locked { directory, journal: self.clone() }))
    }

    fn faults(&self) -> PathBuf {
        self.place.join(FAULTS)
    }

    fn wrong(&self, what: &str, e: Errno) -> Error {
        Error::os(format!("{what} the journal {}", self.faults().display()), e)
    }

    fn distrusted(&self, path: &Path, why: &'static str) -> Error {
        Error::Distrusted { path: path.display().to_string(), why }
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Whether nobody but this user could have written it.
fn check(stat: &Stat) -> Result<(), &'static str> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user");
    }
    if stat.st_mode & 0o022 != 0 {
        return Err("others may write to it");
    }
    Ok(())
}

/// The journal, while nobody else changes it. When this ends an empty journal is removed.
#[derive(Debug)]
pub struct Locked {
    directory: OwnedFd,
    journal: Journal,
}

impl Locked {
    /// All entries that are to be believed; and a line for each that is not.
    pub fn entries(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        let (mut entries, mut warnings) = (Vec::new(), Vec::new());
        for name in self.files()? {
            match self.read(&name) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(why) => {
                    let path = self.journal.faults().join(&name);
                    warnings.push(format!("{} is passed over: {why}", path.display()));
                }
            }
        }
        entries.sort_by(|a, b| (&a.fault, a.number).cmp(&(&b.fault, b.number)));
        Ok((entries, warnings))
    }

    fn files(&self) -> Result<Vec<String>> {
        let wrong = |e| self.journal.wrong("read", e);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            } else if name != "." && name != ".." {
                // It was being written when its writer died: nobody writes now but who has the lock.
                let _ = rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty());
            }
        }
        names.sort();
        Ok(names)
    }

    /// `None` if it is gone.
    fn read(&self, name: &str) -> Result<Option<Entry>, String> {
        // A FIFO is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err("it is a symbolic link".to_owned()),
            Err(e) => return Err(e.to_string()),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| e.to_string())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("it is no regular file".to_owned());
        }
        check(&stat)?;
        if stat.st_nlink != 1 {
            return Err("it has other names".to_owned());
        }
        let mut text = Vec::new();
        std::fs::File::from(file).take(LARGEST + 1).read_to_end(&mut text).map_err(|e| e.to_string())?;
        if text.len() as u64 > LARGEST {
            return Err("it is too large".to_owned());
        }
        let entry: Entry = serde_json::from_slice(&text).map_err(|e| format!("it is no entry: {e}"))?;
        if entry.version != VERSION {
            return Err(format!(
                "it is of version {}, and this program understands {VERSION}",
                entry.version
            ));
        }
        if entry.file() != name {
            return Err(format!("it says that it is {}", entry.file()));
        }
        Ok(Some(entry))
    }

    /// Writes an entry in the place of an older one of its name. When this returns it survives whatever happens, but a
    /// boot.
    pub(crate) fn write(&self, entry: &Entry) -> Result<()> {
        let name = entry.file();
        let aside = format!(".{name}");
        let wrong = |e: std::io::Error| {
            Error::os(format!("write {}", self.journal.faults().join(&name).display()), e)
        };
        let text = serde_json::to_vec(entry).map_err(|e| wrong(e.into()))?;
        match rustix::fs::unlinkat(&self.directory, &aside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(wrong(e.into())),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &aside, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| wrong(e.into()))?;
        let mut file = std::fs::File::from(file);
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(wrong)?;
        rustix::fs::renameat(&self.directory, &aside, &self.directory, &name).map_err(|e| wrong(e.into()))?;
        rustix::fs::fsync(&self.directory).map_err(|e| wrong(e.into()))
    }

    /// Removes an entry; one that is gone is no mistake.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<()> {
        match rustix::fs::unlinkat(&self.directory, entry.file(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.journal.wrong("remove an entry of", e)),
        }
    }

    /// Whether there is an entry of this fault.
    pub(crate) fn knows(&self, id: &FaultId) -> Result<bool> {
        let prefix = format!("{id}.");
        Ok(self.files()?.iter().any(|name| name.starts_with(&prefix)))
    }

    /// The very entry as it is written now, if it is.
    pub(crate) fn again(&self, entry: &Entry) -> Option<Entry> {
        self.read(&entry.file()).ok().flatten()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Each goes only if it is empty. The lock is still held, so nobody writes into what is being removed: whoever
        // waits for the lock sees that the directory is gone, and makes it again.
        let _ =
            rustix::fs::rmdir(self.journal.faults()).and_then(|()| rustix::fs::rmdir(&self.journal.place));
        let _ = rustix::fs::flock(self.directory.as_fd(), FlockOperation::Unlock);
    }
}
