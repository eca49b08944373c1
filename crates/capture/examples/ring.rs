//! Captures links into a file the plainest way, and tells what it cost: for measuring the rings by themselves.
//!
//!     ring OUTPUT SECONDS BYTES LINK@NETNS...
//!
//! OUTPUT: a file, /dev/null, or "none" (the packets are only looked at). BYTES: of all rings together. NETNS: a path.
//! Ends after SECONDS, or on SIGINT or SIGTERM. FIRST=0 in the environment leaves the priority as it is, SNAPLEN is the
//! snaplen, RETIRE the time (ms) after which few packets are handed out.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use snorkel_capture::Packet;
use snorkel_capture::ring::{Budget, Ledger, Link, Ring, Session, Settings, Turn, run_first};
use snorkel_netns::Netns;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [output, seconds, bytes, links @ ..] = words.as_slice() else {
        return Err("usage: ring OUTPUT SECONDS BYTES LINK@NETNS...".into());
    };
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<i64>().ok());
    if variable("FIRST") != Some(0) {
        run_first()?;
    }
    let snaplen = variable("SNAPLEN").unwrap_or(0) as u32;
    let retire = variable("RETIRE").map(|ms| Duration::from_millis(ms as u64));
    let share = Budget { total: bytes.parse()? }.share(links.len())?;
    let signals = signals()?;

    let mut file = match output.as_str() {
        "none" => None,
        path => Some(OpenOptions::new().write(true).create(true).truncate(true).open(path)?),
    };
    let mut session = Session::new()?;
    session.watch(&signals, 1)?;
    let began = Instant::now();
    for link in links {
        let (name, path) = link.split_once('@').ok_or("LINK@NETNS")?;
        let settings = Settings { bytes: share, snaplen, retire, ..Settings::default() };
        session.add(Ring::open(&Netns::open(Path::new(path))?, Link::Name(name), &settings)?)?;
    }
    let opened = began.elapsed();
    if let Some(file) = &mut file {
        let link_types = session.rings().map(|(_, ring)| ring.link_type().0).collect::<Vec<_>>();
        file.write_all(&head(&link_types))?;
    }
    eprintln!("listening: {} rings of {share} bytes", links.len());
    let before = usage();
    println!("opened in {opened:?}, cpu {before:.3} s;");

    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut stopped = false;
    let mut total = Ledger::default();
    let mut batches = 0u64;
    let mut looked_at = 0u64;
    let mut writer = Writer::default();
    loop {
        match session.next((!stopped).then_some(end))? {
            Turn::Packets => {
                batches += 1;
                match &mut file {
                    Some(file) => writer.write(file, session.packets())?,
                    None => looked_at += session.packets().iter().map(|p| u64::from(p.data[0])).sum::<u64>(),
                }
            }
            Turn::Woken(_) | Turn::Deadline if !stopped => {
                stopped = true;
                session.unwatch(&signals)?;
                session.stop_all()?;
            }
            Turn::Woken(_) | Turn::Deadline => {}
            Turn::Link { ring, state } => eprintln!("ring {ring}: {state:?}"),
            Turn::Closed { ledger, .. } => total.add(&ledger),
            Turn::Finished => break,
        }
    }
    let usage = usage() - before;
    let gigabytes = total.bytes as f64 / 1e9;
    let lost = 100.0 * total.dropped as f64 / total.received.max(1) as f64;
    println!(
        "received {} delivered {} dropped {} ({lost:.2} %) full {} late {} clamped {} pending {} GB {gigabytes:.2} \
         batches {batches} cpu {usage:.3} s, {:.3} s/GB, {:.3} s/Mpackets{}",
        total.received,
        total.delivered,
        total.dropped,
        total.full,
        total.late,
        total.clamped,
        total.pending(),
        usage / gigabytes.max(1e-9),
        usage / (total.delivered as f64 / 1e6).max(1e-9),
        if looked_at == 1 { "!" } else { "" },
    );
    Ok(())
}

/// A descriptor that can be read when the process is asked to end.
fn signals() -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: a signal set is plain numbers, filled in by the calls; the descriptor is new and nobody else's.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(std::os::fd::OwnedFd::from_raw_fd(fd)) }
    }
}

/// Seconds of processor time of this process so far.
fn usage() -> f64 {
    // SAFETY: the kernel fills in the whole value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A pcapng section header and one interface a link, with nanoseconds.
fn head(link_types: &[u16]) -> Vec<u8> {
    let mut head = Vec::new();
    for word in [0x0a0d_0d0au32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28] {
        head.extend(word.to_ne_bytes());
    }
    for link_type in link_types {
        for word in [1u32, 32, u32::from(*link_type), 0] {
            head.extend(word.to_ne_bytes());
        }
        head.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        head.extend(32u32.to_ne_bytes());
    }
    head
}

/// Packets of at least so many bytes are written from where they lie.
const LARGE: usize = 2048;

#[derive(Default)]
struct Writer {
    /// Everything but the large packets' bytes.
    text: Vec<u8>,
    /// Up to where in `text`, and which packet's bytes come then.
    cuts: Vec<(usize, usize)>,
}

impl Writer {
    fn write(&mut self, file: &mut File, packets: &[Packet<'_>]) -> io::Result<()> {
        self.text.clear();
        self.cuts.clear();
        for (number, packet) in packets.iter().enumerate() {
            let length = packet.data.len();
            let padding = length.next_multiple_of(4) - length;
            let total = (32 + length + padding + 12) as u32;
            let time = packet.time.0;
            let words =
                [6u32, total, packet.interface as u32, (time >> 32) as u32, time as u32, length as u32];
            for word in words {
                self.text.extend_from_slice(&word.to_ne_bytes());
            }
            self.text.extend_from_slice(&packet.original_length.to_ne_bytes());
            if length >= LARGE {
                self.cuts.push((self.text.len(), number));
            } else {
                self.text.extend_from_slice(packet.data);
            }
            self.text.extend_from_slice(&[0; 3][..padding]);
            let direction =
                if packet.direction == Some(snorkel_capture::Direction::Outbound) { 2u32 } else { 1 };
            for word in [0x0004_0002u32, direction, 0, total] {
                self.text.extend_from_slice(&word.to_ne_bytes());
            }
        }
        let mut slices = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut from = 0;
        for (to, number) in &self.cuts {
            slices.push(IoSlice::new(&self.text[from..*to]));
            slices.push(IoSlice::new(packets[*number].data));
            from = *to;
        }
        slices.push(IoSlice::new(&self.text[from..]));
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            let written = file.write_vectored(&slices[..slices.len().min(1024)])?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }
}
