//! Where packets go: lines, objects, files, the flight recorder.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use snorkel_capture::dissect::{Printer, Sequences, Summary};
use snorkel_capture::file::{Lost, Output, Statistics, Stream, WriteError, Written};
use snorkel_capture::names::Names;
use snorkel_capture::recorder::Recorder;
use snorkel_capture::{Interface, LinkType, Packet, Timestamp};

use crate::commands::look::Look;
use crate::failure::Failure;

/// Connections whose relative sequence numbers are kept.
const CONNECTIONS: usize = 16_384;

/// Why nothing more can be taken.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Why.
    pub(super) failure: Failure,
    /// Which packets were taken and are not in the file.
    pub(super) lost: Lost,
    /// It is only that nobody reads any more.
    pub(super) closed: bool,
}

impl Trouble {
    /// The same, and these packets were not tried any more. Whoever does not read any more does not miss them.
    pub(super) fn and(mut self, packets: &[Packet<'_>]) -> Trouble {
        if !self.closed {
            self.lost.extend(packets.iter().map(|packet| packet.interface));
        }
        self
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        Trouble { failure: error.into(), lost: Lost::default(), closed }
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Trouble {
        let closed = matches!(error, WriteError::Closed { .. });
        let lost = error.lost().cloned().unwrap_or_default();
        Trouble { failure: error.into(), lost, closed }
    }
}

/// What becomes of packets.
pub(crate) trait Sink {
    /// Makes the next interface known; they are numbered in this order.
    fn interface(&mut self, interface: &Interface) -> Result<(), Trouble>;

    /// Takes packets. It may keep them until the next flush.
    fn take(&mut self, packets: &[Packet<'_>]) -> Result<(), Trouble>;

    /// Has everything out that was taken.
    fn flush(&mut self) -> Result<(), Trouble>;

    /// The names of addresses, which may grow.
    fn names(&mut self, _names: &Arc<Names>, _certain: Vec<(IpAddr, String)>) -> Result<(), Trouble> {
        Ok(())
    }

    /// The trigger came: what was held back goes out, and what comes from now on as well.
    fn release(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// What can be done now and then.
    fn tick(&mut self, _now: Timestamp) -> Result<(), Trouble> {
        Ok(())
    }

    /// The last word on an interface.
    fn statistics(&mut self, _interface: usize, _statistics: Statistics) -> Result<(), Trouble> {
        Ok(())
    }

    /// Ends it.
    fn finish(&mut self) -> Result<(), Trouble> {
        self.flush()
    }

    /// What was written, in packets and bytes; of text only where it is not everything.
    fn written(&self) -> Option<Written> {
        None
    }

    /// What is worth saying in the end.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A line a packet, on stdout.
pub(super) struct Lines {
    numeric: bool,
    printer: Printer,
    /// None: numbers as on the wire.
    sequences: Option<Sequences>,
    link_types: Vec<LinkType>,
    stdout: Text,
}

impl Lines {
    pub(super) fn new(look: &Look, stdout: Stream) -> Lines {
        Lines {
            numeric: look.numeric,
            printer: Printer::new(look.style(), Arc::default()),
            sequences: (!look.absolute).then(|| Sequences::new(CONNECTIONS)),
            link_types: Vec::new(),
            stdout: Text::new(stdout),
        }
    }
}

impl Sink for Lines {
    fn interface(&mut self, interface: &Interface) -> Result<(), Trouble> {
        self.link_types.push(interface.link_type);
        self.printer.interface(interface);
        Ok(())
    }

    fn names(&mut self, names: &Arc<Names>, _: Vec<(IpAddr, String)>) -> Result<(), Trouble> {
        if !self.numeric {
            self.printer.set_names(Arc::clone(names));
        }
        Ok(())
    }

    fn take(&mut self, packets: &[Packet<'_>]) -> Result<(), Trouble> {
        let Lines { printer, sequences, link_types, stdout, .. } = self;
        stdout.take(packets, |packet, text| {
            let link_type = link_types.get(packet.interface).copied();
            let base =
                sequences.as_mut().zip(link_type).map(|(known, link_type)| known.base(link_type, packet));
            printer.line(packet, base.unwrap_or_default(), text);
            Ok(())
        })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.stdout.flush()
    }

    fn written(&self) -> Option<Written> {
        self.stdout.written()
    }
}

/// An object a packet, on stdout.
pub(super) struct Objects {
    names: Arc<Names>,
    interfaces: Vec<Interface>,
    stdout: Text,
}

impl Objects {
    pub(super) fn new(stdout: Stream) -> Objects {
        Objects { names: Arc::default(), interfaces: Vec::new(), stdout: Text::new(stdout) }
    }
}

impl Sink for Objects {
    fn interface(&mut self, interface: &Interface) -> Result<(), Trouble> {
        self.interfaces.push(interface.clone());
        Ok(())
    }

    fn names(&mut self, names: &Arc<Names>, _: Vec<(IpAddr, String)>) -> Result<(), Trouble> {
        self.names = Arc::clone(names);
        Ok(())
    }

    fn take(&mut self, packets: &[Packet<'_>]) -> Result<(), Trouble> {
        let Objects { names, interfaces, stdout } = self;
        stdout.take(packets, |packet, text| {
            let Some(interface) = interfaces.get(packet.interface) else { return Ok(()) };
            serde_json::to_writer(&mut *text, &Summary::new(packet, interface, names))?;
            text.push(b'\n');
            Ok(())
        })
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.stdout.flush()
    }

    fn written(&self) -> Option<Written> {
        self.stdout.written()
    }
}

/// What is said of packets, on stdout.
struct Text {
    stdout: Stream,
    /// Whether some of it was not taken by whom it is for.
    is_short: bool,
}

impl Text {
    fn new(stdout: Stream) -> Text {
        Text { stdout, is_short: false }
    }

    /// Has out what `say` says of each packet: it is looked at as it comes.
    fn take(
        &mut self,
        packets: &[Packet<'_>],
        mut say: impl FnMut(&Packet<'_>, &mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), Trouble> {
        for (number, packet) in packets.iter().enumerate() {
            say(packet, self.stdout.text())?;
            self.stdout.end_packet(packet.interface);
            if self.stdout.text().len() > 64 * 1024 {
                self.flush().map_err(|trouble| trouble.and(&packets[number + 1..]))?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        let flushed = self.stdout.flush().map_err(Trouble::from);
        self.is_short |= flushed.as_ref().is_err_and(|trouble| !trouble.closed);
        flushed
    }

    /// What the reader has, where that is not everything.
    fn written(&self) -> Option<Written> {
        self.is_short.then(|| self.stdout.written())
    }
}

/// Files.
pub(super) struct Files {
    output: Output,
    /// Of a file in which a name holds throughout, while names may change: every address with the one name that it has
    /// had so far, which was told at once, or none if it has had two. In the end these are told to be called nothing.
    throughout: Option<BTreeMap<IpAddr, Option<String>>>,
}

impl Files {
    /// `changing`: of an address that has had two names neither holds in the end.
    pub(super) fn new(output: Output, changing: bool) -> Files {
        Files { output, throughout: changing.then(BTreeMap::new) }
    }
}

impl Sink for Files {
    fn interface(&mut self, interface: &Interface) -> Result<(), Trouble> {
        self.output.interface(interface.clone())?;
        Ok(())
    }

    fn names(&mut self, _: &Arc<Names>, certain: Vec<(IpAddr, String)>) -> Result<(), Trouble> {
        let Some(throughout) = &mut self.throughout else { return Ok(self.output.names(certain)?) };
        let mut new = Vec::new();
        for (address, name) in certain {
            match throughout.entry(address) {
                Entry::Vacant(entry) => {
                    entry.insert(Some(name.clone()));
                    new.push((address, name));
                }
                Entry::Occupied(known) if known.get().as_ref() == Some(&name) => {}
                Entry::Occupied(mut known) => *known.get_mut() = None,
            }
        }
        Ok(self.output.names(new)?)
    }

    fn take(&mut self, packets: &[Packet<'_>]) -> Result<(), Trouble> {
        Ok(self.output.packets(packets)?)
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        Ok(self.output.flush()?)
    }

    fn tick(&mut self, now: Timestamp) -> Result<(), Trouble> {
        Ok(self.output.tick(now)?)
    }

    fn statistics(&mut self, interface: usize, statistics: Statistics) -> Result<(), Trouble> {
        Ok(self.output.statistics(interface, statistics)?)
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        let names = self.throughout.take().into_iter().flatten();
        // What was told cannot be taken back; but an address that is called by its numbers is called nothing.
        let unnamed =
            names.filter(|(_, name)| name.is_none()).map(|(address, _)| (address, address.to_string()));
        let told = self.output.names(unnamed);
        self.output.finish()?;
        Ok(told?)
    }

    fn written(&self) -> Option<Written> {
        Some(self.output.written())
    }

    fn remarks(&mut self) -> Vec<String> {
        self.output.notes()
    }
}

/// Files, of what was in memory when the trigger came, and of what came after it.
pub(super) struct Flight {
    files: Files,
    recorder: Recorder,
    released: bool,
    remarks: Vec<String>,
}

impl Flight {
    pub(super) fn new(files: Files, recorder: Recorder) -> Flight {
        Flight { files, recorder, released: false, remarks: Vec::new() }
    }
}

impl Sink for Flight {
    fn interface(&mut self, interface: &Interface) -> Result<(), Trouble> {
        self.files.interface(interface)
    }

    fn names(&mut self, names: &Arc<Names>, certain: Vec<(IpAddr, String)>) -> Result<(), Trouble> {
        self.files.names(names, certain)
    }

    fn take(&mut self, packets: &[Packet<'_>]) -> Result<(), Trouble> {
        if self.released {
            return self.files.take(packets);
        }
        packets.iter().for_each(|packet| self.recorder.push(packet));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        self.files.flush()
    }

    fn release(&mut self) -> Result<(), Trouble> {
        if std::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        if let Some(held) = self.recorder.shortened_to() {
            self.remarks.push(format!(
                "memory held only the last {:.1} s before the trigger; more of it: --ring-size",
                held.as_secs_f64()
            ));
        }
        let mut held = self.recorder.packets();
        while let Some(packet) = held.next() {
            if let Err(error) = self.files.output.packet(&packet) {
                let mut trouble = Trouble::from(error);
                trouble.lost.extend(held.map(|packet| packet.interface));
                return Err(trouble);
            }
        }
        drop(held);
        self.recorder.clear();
        self.files.flush()
    }

    fn tick(&mut self, now: Timestamp) -> Result<(), Trouble> {
        self.files.tick(now)
    }

    fn statistics(&mut self, interface: usize, statistics: Statistics) -> Result<(), Trouble> {
        self.files.statistics(interface, statistics)
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        if !self.released {
            self.remarks.push("the trigger did not come: no packet was written".to_owned());
        }
        self.files.finish()
    }

    fn written(&self) -> Option<Written> {
        self.files.written()
    }

    fn remarks(&mut self) -> Vec<String> {
        let mut remarks = self.files.remarks();
        remarks.append(&mut self.remarks);
        remarks
    }
}
