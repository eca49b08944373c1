//! How a TCP connection fares, told from its segments as they passed one link.
//!
//! A segment with data that does not advance the sequence is a retransmission, or one that others overtook; which of
//! them cannot be known for certain from outside. The rules are Wireshark's (its user's guide, "TCP Analysis"), so
//! that both say the same of the same capture: where the receiver has acknowledged the data already it was sent again
//! in vain; after two repeated acknowledgements of its very beginning, within 20 ms, it is a fast retransmission; within
//! one round trip after the segment with the highest number it was only overtaken; else it was sent again.

use serde::{Serialize, Serializer};

use crate::dissect::{Tcp, TcpFlags};
use crate::packet::Timestamp;

/// What one end of a connection sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// Segments that carry data, SYN or FIN and were sent again, of any kind.
    pub retransmissions: u64,
    /// Those of them that repeated acknowledgements asked for.
    pub fast: u64,
    /// Those of them that had been acknowledged before.
    pub spurious: u64,
    /// Segments that others of the same sender overtook.
    pub out_of_order: u64,
    /// Segments before which something is missing in the capture.
    pub gaps: u64,
    /// Acknowledgements that only repeat the one before.
    pub duplicate_acks: u64,
    /// Segments that tell the other end to stop sending.
    pub zero_windows: u64,
    /// Resets.
    pub resets: u64,
    /// Bytes of payload, also those that were sent again.
    pub payload: u64,
    /// Whether it said that there is no more.
    pub fin: bool,
}

/// How long the beginning of a connection took, in nanoseconds. Seen from the link that was captured, the first part
/// is the way to the server and back, the second the way to the client and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Handshake {
    /// From the last SYN to the SYN/ACK.
    pub server: u64,
    /// From the SYN/ACK to the client's acknowledgement.
    pub client: u64,
}

impl Handshake {
    /// The round trip between the two ends.
    pub fn total(&self) -> u64 {
        self.server.saturating_add(self.client)
    }
}

/// How a connection fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TcpHealth {
    /// How long its beginning took, if all three segments of it were seen.
    #[serde(serialize_with = "handshake")]
    pub handshake: Option<Handshake>,
    /// What the client sent.
    pub client: Sender,
    /// What the server sent.
    pub server: Sender,
    #[serde(skip)]
    opening: Opening,
    #[serde(skip)]
    ways: [Way; 2],
}

fn handshake<S: Serializer>(value: &Option<Handshake>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct WithTotal {
        server: u64,
        client: u64,
        total: u64,
    }
    value
        .map(|both| WithTotal { server: both.server, client: both.client, total: both.total() })
        .serialize(serializer)
}

/// How far the beginning of a connection has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Opening {
    /// When the last SYN was seen, and its number.
    syn: Option<(Timestamp, u32)>,
    /// The same of the SYN/ACK.
    syn_ack: Option<(Timestamp, u32)>,
}

/// What is known of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Way {
    /// The number behind the highest that was sent, and when that was.
    next: Option<(u32, Timestamp)>,
    /// The last acknowledgement, when it was sent and with which window.
    acknowledged: Option<(u32, Timestamp, u16)>,
    /// How often in a row it was repeated.
    repeated: u32,
    /// Whether the last segment asked only whether the other end is still there.
    probed: bool,
}

/// What a segment is to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Usual,
    Again,
    Fast,
    Spurious,
    Overtaken,
}

/// Whether `a` lies before `b` in sequence space.
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Repeated acknowledgements longer ago than this did not cause a segment to be sent again.
const FAST: u64 = 20_000_000;
/// How long segments overtake each other where the round trip is not known.
const REORDERING: u64 = 3_000_000;

impl Tcp<'_> {
    /// Whether this opens a connection.
    pub(super) fn begins(&self) -> bool {
        self.flags.0 & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN
    }

    /// Whether this accepts a connection.
    pub(super) fn answers(&self) -> bool {
        self.flags.0 & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN | TcpFlags::ACK
    }
}

impl TcpHealth {
    /// Client and server change places.
    pub(super) fn turn(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
        self.ways.swap(0, 1);
    }

    /// Looks at the connection's next segment.
    pub(super) fn segment(&mut self, time: Timestamp, tcp: &Tcp<'_>, from_client: bool) {
        self.open(time, tcp, from_client);
        let [client, server] = &mut self.ways;
        let (way, back) = if from_client { (client, &*server) } else { (server, &*client) };
        let sender = if from_client { &mut self.client } else { &mut self.server };
        let closes = tcp.flags.any(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST);
        let next = way.next.map(|(next, _)| next);

        sender.payload += tcp.length as u64;
        sender.fin |= tcp.flags.any(TcpFlags::FIN);
        sender.resets += u64::from(tcp.flags.any(TcpFlags::RST));
        sender.zero_windows += u64::from(tcp.window == 0 && !closes);
        let gap = next.is_some_and(|next| before(next, tcp.seq)) && !tcp.flags.any(TcpFlags::RST);
        sender.gaps += u64::from(gap);

        let window_probe = tcp.length == 1
            && next == Some(tcp.seq)
            && back.acknowledged.is_some_and(|(_, _, window)| window == 0);
        let keep_alive = !window_probe
            && tcp.length <= 1
            && !closes
            && next.is_some_and(|next| tcp.seq == next.wrapping_sub(1));
        let repeats = !closes
            && tcp.length == 0
            && tcp.window != 0
            && !back.probed
            && next == Some(tcp.seq)
            && way.acknowledged.is_some_and(|(ack, _, window)| (ack, window) == (tcp.ack, tcp.window));
        if repeats {
            sender.duplicate_acks += 1;
            way.repeated += 1;
        }
        if way.acknowledged.is_none_or(|(ack, ..)| ack != tcp.ack) {
            way.repeated = 0;
        }

        let round_trip = self.handshake.map_or(REORDERING, |handshake| handshake.total());
        match way.verdict(back, time, tcp, keep_alive, round_trip) {
            Verdict::Usual => {}
            Verdict::Overtaken => sender.out_of_order += 1,
            verdict => {
                sender.retransmissions += 1;
                sender.fast += u64::from(verdict == Verdict::Fast);
                sender.spurious += u64::from(verdict == Verdict::Spurious);
            }
        }

        let end = tcp.end();
        if !window_probe && next.is_none_or(|next| before(next, end)) {
            way.next = Some((end, time));
        }
        way.acknowledged = Some((tcp.ack, time, tcp.window));
        way.probed = keep_alive;
    }

    /// Follows the three segments that open a connection.
    fn open(&mut self, time: Timestamp, tcp: &Tcp<'_>, from_client: bool) {
        if tcp.begins() {
            // A port that is used anew: the segments of the connection before do not count for this one.
            if self.opening.syn.is_some_and(|(_, seq)| seq != tcp.seq) {
                (self.opening, self.ways) = (Opening::default(), <[Way; 2]>::default());
            }
            self.opening.syn = Some((time, tcp.seq));
        } else if tcp.answers() && !from_client {
            self.opening.syn_ack = Some((time, tcp.seq));
        } else if from_client
            && self.handshake.is_none()
            && tcp.flags.any(TcpFlags::ACK)
            && let (Some((began, syn)), Some((answered, syn_ack))) = (self.opening.syn, self.opening.syn_ack)
            && tcp.seq == syn.wrapping_add(1)
            && tcp.ack == syn_ack.wrapping_add(1)
        {
            self.handshake = Some(Handshake {
                server: answered.0.saturating_sub(began.0),
                client: time.0.saturating_sub(answered.0),
            });
        }
    }
}

impl Tcp<'_> {
    /// The number behind this segment's last: SYN and FIN count as a byte.
    fn end(&self) -> u32 {
        let flag = u32::from(self.flags.any(TcpFlags::SYN | TcpFlags::FIN));
        self.seq.wrapping_add(self.length as u32).wrapping_add(flag)
    }
}

impl Way {
    fn verdict(
        &self,
        back: &Way,
        time: Timestamp,
        tcp: &Tcp<'_>,
        keep_alive: bool,
        round_trip: u64,
    ) -> Verdict {
        let Some((next, highest)) = self.next else { return Verdict::Usual };
        if keep_alive || (tcp.length == 0 && !tcp.flags.any(TcpFlags::SYN | TcpFlags::FIN)) {
            return Verdict::Usual;
        }
        let behind = tcp.seq.wrapping_add(tcp.length as u32);
        if tcp.length > 0 && back.acknowledged.is_some_and(|(ack, ..)| ack != 0 && !before(ack, behind)) {
            return Verdict::Spurious;
        }
        // More than a byte from just before the end: a probe was sent before, and this brings something new.
        if !before(tcp.seq, next) || (tcp.length > 1 && tcp.seq == next.wrapping_sub(1)) {
            return Verdict::Usual;
        }
        if let Some((ack, at, _)) = back.acknowledged
            && back.repeated >= 2
            && ack == tcp.seq
            && time.0.saturating_sub(at.0) < FAST
        {
            return Verdict::Fast;
        }
        if time.0.saturating_sub(highest.0) < round_trip && tcp.end() != next {
            return Verdict::Overtaken;
        }
        Verdict::Again
    }
}
