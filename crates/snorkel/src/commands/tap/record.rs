//! What is kept of a tap: packets in a file (`-w`), exchanges of HTTP in another (`--har`).
//!
//! A thread of its own writes both, so that a terminal that is held up holds up no file. A file that cannot be written on
//! ends where it can be read, and is told of; the connections go on.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use snorkel_bpf::tap::Transport;
use snorkel_capture::file::{
    Lost, Output, OutputOptions, Patience as WriterPatience, Pieces, Statistics, WriteError,
};
use snorkel_capture::{Direction as Way, Interface, LinkType, Packet, Timestamp};
use snorkel_netns::chain;
use snorkel_tap::event::{Direction, Event, What};
use snorkel_tap::packets::Packets;

use super::har::{self, Archivist};
use super::queue::{Patience, Receiver, Sender, queue};
use crate::commands::capture::captured::now;
use crate::commands::capture::names::Whose;
use crate::commands::capture::{owner, section};
use crate::commands::warn_all;
use crate::failure::Failure;
use crate::render::capture::{bytes, thousands};
use crate::render::text::printable;

/// What is to be kept, and where.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Packets.
    pub(super) packets: Option<PathBuf>,
    /// Exchanges of HTTP.
    pub(super) har: Option<PathBuf>,
}

impl Wanted {
    pub(super) fn is_some(&self) -> bool {
        self.packets.is_some() || self.har.is_some()
    }

    /// Whether one of them is stdout, on which nothing else can be said then.
    pub(super) fn takes_stdout(&self) -> bool {
        [&self.packets, &self.har].into_iter().flatten().any(|path| path.as_os_str() == "-")
    }

    pub(super) fn are_both_stdout(&self) -> bool {
        [&self.packets, &self.har]
            .into_iter()
            .all(|path| path.as_ref().is_some_and(|path| path.as_os_str() == "-"))
    }

    /// Opens the files. `taps`: what each is of, and its ports, in words.
    pub(super) fn open(
        &self,
        taps: &[(Transport, String)],
        whose: &Whose,
        bell: &Bell,
    ) -> Result<Files, Failure> {
        let owner = owner()?;
        let mut all: Vec<Box<dyn Keep>> = Vec::new();
        if let Some(path) = &self.packets {
            let options = OutputOptions {
                path: path.clone(),
                owner,
                section: section(),
                patience: Some(bell.patience.clone()),
                ..OutputOptions::default()
            };
            let mut output = Output::prepare(options)?;
            warn_all(&output.notes());
            for (transport, doors) in taps {
                output.interface(interface(*transport, doors))?;
            }
            output.names(whose.unambiguous())?;
            if output.waits_for_reader() {
                waits_for_reader(path);
            } else {
                // Whoever reads a pipe sees what it will be at once.
                output.flush()?;
            }
            let makers = taps.iter().map(|(transport, _)| Packets::new(*transport)).collect();
            all.push(Box::new(Recorded { output, makers, path: path.clone(), since: now() }));
        }
        if let Some(path) = &self.har {
            let (head, patience) = (har::head(), Some(bell.patience.clone()));
            let mut pieces = Pieces::begin(path, owner, patience, head.as_bytes(), har::END.as_bytes())?;
            warn_all(&pieces.note());
            if pieces.waits_for_reader() {
                waits_for_reader(path);
            }
            let archivists = taps.iter().map(|_| Archivist::default()).collect();
            all.push(Box::new(Archived { pieces, archivists, path: path.clone() }));
        }
        Ok(Files { all, complete: true })
    }
}

fn waits_for_reader(path: &Path) {
    warn_all([&format!("nobody reads {} yet: what is recorded waits for that", path.display())]);
}

/// Rings when the taps have ended: who reads a pipe is not waited for much longer then.
#[derive(Clone)]
pub(super) struct Bell {
    rope: Arc<UnixStream>,
    patience: WriterPatience,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Bell> {
        let (rope, heard) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        Ok(Bell { rope: Arc::new(rope), patience: WriterPatience::new(heard) })
    }

    /// The taps have ended, or the user asks once more.
    pub(super) fn ring(&self) {
        // If there is no room for it, it has been rung often enough.
        let _ = (&*self.rope).write(b"e");
    }
}

/// What stands for a tap in the file.
fn interface(transport: Transport, doors: &str) -> Interface {
    let what = match transport {
        Transport::Tcp => "numbers, acknowledgements and sizes of packets",
        Transport::Udp => "numbers, hops and fragments of packets",
    };
    Interface {
        name: doors.to_owned(),
        description: format!("made by snorkel tap from what it relayed: {what} are not those of the wire"),
        link_type: LinkType::RAW,
        // No packet is cut.
        snaplen: 0,
        mac: None,
        filter: None,
    }
}

/// A file that is written.
trait Keep: Send {
    /// Writes what is to be kept of an event of this tap.
    fn take(&mut self, tap: usize, event: &Event) -> Result<(), WriteError>;

    /// Has everything out that was taken.
    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    /// Ends it, also after an error; what there is, in words. `lost`: events that never came here.
    fn finish(&mut self, lost: u64) -> Result<String, WriteError>;
}

/// Packets.
struct Recorded {
    output: Output,
    /// By tap, as the interfaces of the file.
    makers: Vec<Packets>,
    path: PathBuf,
    since: Timestamp,
}

impl Keep for Recorded {
    fn take(&mut self, tap: usize, event: &Event) -> Result<(), WriteError> {
        let Some(maker) = self.makers.get_mut(tap) else { return Ok(()) };
        maker.take(event, |time, direction, packet| {
            self.output.packet(&Packet {
                time: Timestamp(time.0),
                interface: tap,
                // Seen from the target.
                direction: Some(match direction {
                    Direction::ToServer => Way::Inbound,
                    Direction::ToClient => Way::Outbound,
                }),
                original_length: packet.len() as u32,
                data: packet,
            })
        })
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.output.flush()
    }

    fn finish(&mut self, lost: u64) -> Result<String, WriteError> {
        let end = now();
        for interface in 0..self.makers.len() {
            let (since, dropped) = (Some(self.since), (interface == 0).then_some(lost));
            let statistics =
                Statistics { time: end, start: since, end: Some(end), dropped, ..Statistics::default() };
            self.output.statistics(interface, statistics)?;
        }
        self.output.finish()?;
        let written = self.output.written();
        Ok(format!(
            "{} packets in {}, {}",
            thousands(written.packets),
            shown(&self.path),
            bytes(written.bytes)
        ))
    }
}

/// Exchanges of HTTP.
struct Archived {
    pieces: Pieces,
    /// By tap.
    archivists: Vec<Archivist>,
    path: PathBuf,
}

impl Keep for Archived {
    fn take(&mut self, tap: usize, event: &Event) -> Result<(), WriteError> {
        let Some(archivist) = self.archivists.get_mut(tap) else { return Ok(()) };
        for entry in archivist.take(event) {
            let mut piece = if self.pieces.written() > 0 { ",\n" } else { "\n" }.to_owned();
            match serde_json::to_string(&entry) {
                Ok(entry) => piece.push_str(&entry),
                // Of texts and numbers nothing can fail.
                Err(error) => {
                    tracing::debug!("an exchange is no JSON: {error}");
                    continue;
                }
            }
            self.pieces.piece(piece.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self, _lost: u64) -> Result<String, WriteError> {
        self.pieces.finish()?;
        Ok(format!("{} exchanges in {}", thousands(self.pieces.written()), shown(&self.path)))
    }
}

fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard output".to_owned() } else { path.display().to_string() }
}

/// The files that are written, each as long as it can be.
pub(super) struct Files {
    all: Vec<Box<dyn Keep>>,
    /// Each is all that it should be.
    complete: bool,
}

/// The thread that writes.
pub(super) struct Recording {
    thread: JoinHandle<Files>,
    lost: Arc<AtomicU64>,
    bell: Bell,
}

/// The way to it.
#[derive(Clone)]
pub(super) struct Keeper {
    to: Sender<(usize, Event)>,
    lost: Arc<AtomicU64>,
    transport: Transport,
}

impl Keeper {
    /// The same way for a relay of this transport.
    pub(super) fn of(&self, transport: Transport) -> Keeper {
        Keeper { transport, ..self.clone() }
    }

    /// Whether anything is kept of an event: of flows it is the datagrams alone.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.transport == Transport::Tcp || matches!(event.what, What::Datagram { .. })
    }

    /// Has an event kept, of the tap with this number.
    pub(super) fn keep(&self, tap: usize, event: Event) {
        // What was said has texts, of which it is only known that they are bounded.
        let more = match &event.what {
            What::Bytes { bytes, .. } | What::Datagram { bytes, .. } => bytes.len(),
            What::Said(_) => 2048,
            _ => 0,
        };
        let patience = match self.transport {
            Transport::Tcp => Patience::Some,
            Transport::Udp => Patience::None,
        };
        if !self.to.put((tap, event), size_of::<Event>() + more, patience) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What waits to be written, before there is somebody who writes.
pub(super) struct Inbox {
    from: Receiver<(usize, Event)>,
    lost: Arc<AtomicU64>,
}

/// The way to a recording that is to begin: taps come before their files, since a tap that is refused must not cost what
/// was in a file before.
pub(super) fn way() -> (Keeper, Inbox) {
    let ((to, from), lost) = (queue(), Arc::new(AtomicU64::new(0)));
    (Keeper { to, lost: Arc::clone(&lost), transport: Transport::Tcp }, Inbox { from, lost })
}

impl Recording {
    /// Begins to write. It ends when the last way to it is gone.
    pub(super) fn start(files: Files, Inbox { from, lost }: Inbox, bell: Bell) -> Result<Recording, Failure> {
        let counter = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name("snorkel-record".into())
            .spawn(move || files.run(&from, &counter))?;
        Ok(Recording { thread, lost, bell })
    }

    /// Waits for its end; whether the files are all that they should be.
    pub(super) fn finish(self) -> Result<bool, Failure> {
        self.bell.ring();
        let files = self.thread.join().map_err(|_| Failure::new("a bug: the thread that writes panicked"))?;
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            warn_all([&format!(
                "{} events were not recorded: what they are written to was too slow",
                thousands(lost)
            )]);
        }
        Ok(files.complete && lost == 0)
    }
}

impl Files {
    /// Writes what comes, until nothing comes any more, or nothing can be written any more.
    fn run(mut self, from: &Receiver<(usize, Event)>, lost: &AtomicU64) -> Files {
        self.each(|file| file.flush());
        while !self.all.is_empty()
            && let Some(events) = from.take()
        {
            for (tap, event) in &events {
                self.each(|file| file.take(*tap, event));
            }
            self.each(|file| file.flush());
        }
        let lost = lost.load(Ordering::Relaxed);
        for mut file in std::mem::take(&mut self.all) {
            match file.finish(lost) {
                // With stderr gone there is nobody to tell.
                Ok(what) => drop(writeln!(std::io::stderr(), "snorkel: {}", printable(&what))),
                Err(error) => self.failed(&error, ""),
            }
        }
        self
    }

    /// Does this to each file. One that cannot be written on is closed, in order, and told of.
    fn each(&mut self, mut what: impl FnMut(&mut dyn Keep) -> Result<(), WriteError>) {
        let mut at = 0;
        while let Some(file) = self.all.get_mut(at) {
            match what(file.as_mut()) {
                Ok(()) => at += 1,
                Err(error) => {
                    // What still fits is written; that it fails again is no news.
                    let _ = self.all.remove(at).finish(0);
                    self.failed(&error, "; it ends here, and the connections go on");
                }
            }
        }
    }

    fn failed(&mut self, error: &WriteError, and: &str) {
        // That nobody reads it any more is no fault.
        if !matches!(error, WriteError::Closed { .. }) {
            self.complete = false;
            let lost = match error.lost().map_or(0, Lost::total) {
                0 => String::new(),
                lost => format!("; {} packets could not be written", thousands(lost)),
            };
            warn_all([&format!("{}{lost}{and}", chain(error))]);
        }
    }
}
