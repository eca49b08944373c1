//! Where a capture goes: one file, standard output, or a series of files of which each is a capture of its own.
//!
//! What has been announced (interfaces, names) is remembered, and stands at the start of every file; what was counted
//! last stands at its end. A file of a series is made when its first packet comes, so that none is empty, and that
//! packet is its first, so that none is lost in between.

mod naming;
mod pieces;
mod place;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use pieces::Pieces;
pub use place::{Owner, Rights};

use crate::file::{Patience, Section, Statistics, WriteError, Writer, Written};
use crate::packet::{Interface, Packet, Timestamp};
use naming::Series;
use place::{Inode, Opened, Place};

/// When a new file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    /// Before a file would be longer than so many bytes, of a compressed one those that are in it. A packet that is too
    /// long for it is written all the same.
    Size(u64),
    /// With the first packet that is so much later than the file's first.
    Time(Duration),
}

/// What is wanted of an output.
#[derive(Debug, Clone, Default)]
pub struct OutputOptions {
    /// The file; `-` is standard output. With `rotate` what the files' names are made of.
    pub path: PathBuf,
    /// When a new file begins; `None`: there is one.
    pub rotate: Option<Rotate>,
    /// How many files of a series are left when there are more.
    pub keep: Option<usize>,
    /// Whether files are compressed by zstd; their names end in `.zst` then.
    pub compress: bool,
    /// Whom new files are given to.
    pub owner: Option<Owner>,
    /// What every file says about itself.
    pub section: Section,
    /// How long it is waited for who reads a pipe; `None`: as long as it takes.
    pub patience: Option<Patience>,
}

/// An output.
///
/// [`Output::prepare`] opens the file, or of a series the directory, so that rights can be dropped afterwards, as far as
/// [`Output::rights`] says that they are not needed for later files. Those are made by name in the open directory.
#[derive(Debug)]
pub struct Output {
    options: OutputOptions,
    /// The file that is being written. Of a series there is none between files.
    writer: Option<Writer>,
    series: Option<Files>,
    interfaces: Vec<Interface>,
    statistics: Vec<Option<Statistics>>,
    names: BTreeMap<IpAddr, String>,
    /// What the files that are finished have come to.
    finished: Written,
    notes: Vec<String>,
    waits_for_reader: bool,
}

/// A series of files.
#[derive(Debug)]
struct Files {
    place: Place,
    series: Series,
    rotate: Rotate,
    /// How many have been made.
    number: u64,
    /// Those that are there, the oldest first.
    files: VecDeque<(OsString, Option<Inode>)>,
    /// The time of the current file's first packet.
    since: Timestamp,
}

impl Output {
    /// Opens the file, empties it if it is there already; of a series opens the directory.
    pub fn prepare(mut options: OutputOptions) -> Result<Output, WriteError> {
        let mut notes = Vec::new();
        let mut writer = None;
        let mut series = None;
        let mut waits_for_reader = false;
        if options.path.as_os_str() == "-" {
            if options.rotate.is_some() {
                return Err(WriteError::refused(STDOUT, "a series of files needs a file's name"));
            }
            writer = Some(begin(stdout()?, STDOUT, &options)?);
        } else {
            let name = name_of(&options.path)?;
            let name = if options.compress { naming::compressed(name) } else { name.to_owned() };
            options.path.set_file_name(&name);
            let place = place_of(&options.path, options.owner)?;
            if let Some(rotate) = options.rotate {
                place.writable()?;
                naming::prepare();
                series = Some(Files {
                    place,
                    series: Series::of(&name),
                    rotate,
                    number: 0,
                    files: VecDeque::new(),
                    since: Timestamp(0),
                });
            } else {
                let Opened { file, note, unread, .. } = single(&place, &name, &options.path)?;
                notes.extend(note);
                let begun = begin(file, &options.path.display().to_string(), &options)?;
                waits_for_reader = unread;
                writer = Some(if unread { begun.unread() } else { begun });
            }
        }
        Ok(Output {
            options,
            writer,
            series,
            interfaces: Vec::new(),
            statistics: Vec::new(),
            names: BTreeMap::new(),
            finished: Written::default(),
            notes,
            waits_for_reader,
        })
    }

    /// Whether it is a FIFO that nobody had open for reading when it was opened: what is written waits until somebody has.
    pub fn waits_for_reader(&self) -> bool {
        self.waits_for_reader
    }

    /// The directory of a series, open: what rights have to leave within reach (Landlock).
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.series.as_ref().map(|files| files.place.directory())
    }

    /// The rights that later files need, of a process that keeps its user and group.
    pub fn rights(&self) -> Rights {
        let removes = self.options.keep.is_some();
        self.series.as_ref().map(|files| files.place.rights(removes)).unwrap_or_default()
    }

    /// Announces an interface; gives the number that its packets name it by.
    pub fn interface(&mut self, interface: Interface) -> Result<usize, WriteError> {
        if let Some(writer) = &mut self.writer {
            writer.interface(&interface)?;
        }
        self.interfaces.push(interface);
        self.statistics.push(None);
        Ok(self.interfaces.len() - 1)
    }

    /// Tells names of addresses. Those that are known already are not written again.
    pub fn names(&mut self, names: impl IntoIterator<Item = (IpAddr, String)>) -> Result<(), WriteError> {
        let mut new = Vec::new();
        for (address, name) in names {
            if self.names.get(&address) != Some(&name) {
                new.push((address, name.clone()));
                self.names.insert(address, name);
            }
        }
        match &mut self.writer {
            Some(writer) => writer.names(new.iter().map(|(address, name)| (*address, name.as_str()))),
            None => Ok(()),
        }
    }

    /// Tells an interface's counters as they are now: what is told last stands at the end of the file.
    pub fn statistics(&mut self, interface: usize, statistics: Statistics) -> Result<(), WriteError> {
        let known = self.interfaces.len();
        match self.statistics.get_mut(interface) {
            Some(last) => *last = Some(statistics),
            None => return Err(WriteError::UnknownInterface { interface, known }),
        }
        Ok(())
    }

    /// Writes a packet: as [`Output::packets`].
    #[inline]
    pub fn packet(&mut self, packet: &Packet<'_>) -> Result<(), WriteError> {
        self.packets(std::slice::from_ref(packet))
    }

    /// Writes packets; see [`Writer::packets`].
    pub fn packets(&mut self, packets: &[Packet<'_>]) -> Result<(), WriteError> {
        if self.series.is_none() {
            // None: the single file is finished.
            return self.writer.as_mut().map_or(Ok(()), |writer| writer.packets(packets));
        }
        for (at, packet) in packets.iter().enumerate() {
            self.turn(packet).map_err(|error| error.and(&packets[at..]))?;
            if let Some(writer) = &mut self.writer {
                writer.packet(packet).map_err(|error| error.and(&packets[at + 1..]))?;
            }
        }
        Ok(())
    }

    /// Ends a file of a series whose time is over: it is not kept open until a packet comes.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), WriteError> {
        match &self.series {
            Some(Files { rotate: Rotate::Time(after), since, .. })
                if self.writer.is_some() && later(*since, *after, now) =>
            {
                self.end()
            }
            _ => Ok(()),
        }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.as_mut().map_or(Ok(()), Writer::flush)
    }

    /// Ends the file that is being written: counters, then the rest. Also to be called after an error: what still fits
    /// is written, and the file is left in order.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.end()
    }

    /// Packets and bytes in all files, those removed included, and of what will be written with the next flush.
    pub fn written(&self) -> Written {
        let current = self.writer.as_ref().map(Writer::written).unwrap_or_default();
        Written {
            packets: self.finished.packets + current.packets,
            bytes: self.finished.bytes + current.bytes,
        }
    }

    /// How many files have been made.
    pub fn files(&self) -> u64 {
        self.series.as_ref().map_or(1, |files| files.number)
    }

    /// What went not quite as it should since this was asked last, in words.
    pub fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Begins the next file of the series if this packet belongs there.
    fn turn(&mut self, packet: &Packet<'_>) -> Result<(), WriteError> {
        let reserve = self.reserve();
        let Some(files) = &self.series else { return Ok(()) };
        if let Some(writer) = &mut self.writer {
            let full = match files.rotate {
                Rotate::Size(most) => {
                    let is_full = |writer: &Writer| {
                        writer.written().packets > 0 && writer.size_with(packet) + reserve > most
                    };
                    // How long the file would be is known of what is compressed. With less and less room each piece is
                    // smaller, down to one that is not worth it.
                    if is_full(writer) && writer.uncompressed() > PIECE.min(most / 8) {
                        writer.flush()?;
                    }
                    is_full(writer)
                }
                Rotate::Time(after) => later(files.since, after, packet.time),
            };
            if !full {
                return Ok(());
            }
            self.end()?;
        }
        self.next(packet.time)
    }

    /// What the counters at a file's end will take, about: 4 counters, 2 moments; and, of a compressed file, the headers
    /// of what cannot be compressed.
    fn reserve(&self) -> u64 {
        let of = |statistics: &Option<Statistics>| {
            statistics
                .as_ref()
                .map_or(0, |s| 132 + s.comments.iter().map(|comment| comment.len() as u64 + 8).sum::<u64>())
        };
        let headers = if self.options.compress { HEADERS } else { 0 };
        self.statistics.iter().map(of).sum::<u64>() + headers
    }

    fn next(&mut self, time: Timestamp) -> Result<(), WriteError> {
        let Some(files) = &mut self.series else { return Ok(()) };
        // Before the new one is made: there are never more than were asked for, and there is room for it.
        if let Some(keep) = self.options.keep {
            while files.files.len() >= keep.max(1) {
                if let Some((name, Some(made))) = files.files.pop_front()
                    && let Err(note) = files.place.remove(&name, made)
                {
                    self.notes.push(note);
                }
            }
        }
        let name = files.series.name(files.number + 1, time);
        let Opened { file, made, note, .. } = files.place.file(&name, true)?;
        self.notes.extend(note);
        let shown = files.place.name(&name);
        let begun = begin(file, &shown, &self.options).and_then(|mut writer| {
            for interface in &self.interfaces {
                writer.interface(interface)?;
            }
            writer.names(self.names.iter().map(|(address, name)| (*address, name.as_str())))?;
            Ok(writer)
        });
        match begun {
            Ok(writer) => {
                files.number += 1;
                files.files.push_back((name, made));
                files.since = time;
                self.writer = Some(writer);
                Ok(())
            }
            Err(e) => {
                if let Some(made) = made {
                    self.notes.extend(files.place.remove(&name, made).err());
                }
                Err(e)
            }
        }
    }

    fn end(&mut self) -> Result<(), WriteError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        // First the packets: that these are written is not to depend on what follows.
        let mut result = writer.flush();
        for (interface, statistics) in self.statistics.iter().enumerate() {
            if let Some(statistics) = statistics {
                result = result.and(writer.statistics(interface, statistics));
            }
        }
        result = result.and(writer.flush());
        let written = writer.written();
        result = result.and(writer.finish().map(drop));
        self.finished.packets += written.packets;
        self.finished.bytes += written.bytes;
        // A full disk can leave a file of a series without its first packet.
        if let Some(files) = &mut self.series
            && written.packets == 0
            && let Some((name, Some(made))) = files.files.pop_back()
        {
            files.number -= 1;
            self.notes.extend(files.place.remove(&name, made).err());
        }
        result
    }
}

fn begin(to: impl Into<OwnedFd>, name: &str, options: &OutputOptions) -> Result<Writer, WriteError> {
    let mut writer = Writer::new(to, name, &options.section);
    if let Some(patience) = &options.patience {
        writer = writer.patient(patience.clone());
    }
    if !options.compress {
        return Ok(writer);
    }
    writer.compressed().map_err(|e| WriteError::open("set up the compression", e))
}

/// What is gathered for a compressed file is not compressed for the file's length alone if it is less than this.
const PIECE: u64 = 16 << 10;

/// A frame's header, and three bytes for each of the blocks of the last pieces (RFC 8878): a piece has eight at most.
const HEADERS: u64 = 64;

/// How messages call standard output.
const STDOUT: &str = "standard output";

/// Standard output, unless it is a terminal, which shows none of this.
fn stdout() -> Result<OwnedFd, WriteError> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(WriteError::refused(STDOUT, "it is a terminal; name a file, or lead it into a pipe"));
    }
    let descriptor = stdout.as_fd().try_clone_to_owned();
    descriptor.map_err(|e| WriteError::open(format!("write to {STDOUT}"), e))
}

fn name_of(path: &Path) -> Result<&OsStr, WriteError> {
    path.file_name().ok_or_else(|| WriteError::refused(path.display().to_string(), "it is a directory"))
}

fn place_of(path: &Path, owner: Option<Owner>) -> Result<Place, WriteError> {
    Place::open(path.parent().unwrap_or(Path::new("")), owner)
}

/// Opens a file that is not one of a series.
fn single(place: &Place, name: &OsStr, path: &Path) -> Result<Opened, WriteError> {
    let opened = place.file(name, false)?;
    if opened.file.is_terminal() {
        return Err(WriteError::refused(path.display().to_string(), "it is a terminal"));
    }
    Ok(opened)
}

fn later(since: Timestamp, by: Duration, now: Timestamp) -> bool {
    u128::from(now.0) >= u128::from(since.0) + by.as_nanos()
}
