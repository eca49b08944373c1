//! A packet socket (packet(7)), and the order in which it is made.
//!
//! Protocol 0 at first, then the filter, then the ring, and `bind` last: not one packet arrives before everything
//! stands, so none slips past the filter and none has to be drained. The filter is locked (`SO_LOCK_FILTER`) then.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, sockaddr_ll};

use super::budget::Plan;

/// `ETH_P_ALL` of linux/if_ether.h, in network byte order.
const EVERYTHING: u16 = (libc::ETH_P_ALL as u16).to_be();
/// An EtherType that is reserved and never to be used (IANA's registry): what a stopped socket listens for.
const NOTHING: u16 = 0xffff;

/// Counters since they were last read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Statistics {
    pub(super) packets: u32,
    pub(super) drops: u32,
    pub(super) freezes: u32,
}

/// A packet socket of the calling thread's network namespace; it hears nothing yet.
pub(super) struct Socket(OwnedFd);

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Socket {
        Socket(fd)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.0
    }
}

impl Socket {
    /// `cooked`: without the link's headers.
    pub(super) fn new(cooked: bool) -> io::Result<Socket> {
        let kind = if cooked { libc::SOCK_DGRAM } else { libc::SOCK_RAW };
        // SAFETY: socket takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Socket(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Version 3 of the ring, and so much room in front of each packet.
    pub(super) fn prepare(&self, headroom: u32) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as c_int))?;
        self.set(libc::SOL_PACKET, libc::PACKET_RESERVE, &headroom)
    }

    /// Attaches the filter and locks it.
    pub(super) fn filter(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // The kernel only reads what the pointer points to.
        let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        self.set(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1)
    }

    /// Makes the ring; a block that is not empty is given to the reader after `retire` at the latest.
    pub(super) fn ring(&self, plan: Plan, retire: Duration) -> io::Result<()> {
        let number =
            |n: usize| libc::c_uint::try_from(n).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
        // Frames mean nothing to version 3, but the kernel checks that they fill the ring.
        let frame = 2048;
        let request = libc::tpacket_req3 {
            tp_block_size: number(plan.block)?,
            tp_block_nr: number(plan.count)?,
            tp_frame_size: number(frame)?,
            tp_frame_nr: number(plan.bytes() / frame)?,
            tp_retire_blk_tov: libc::c_uint::try_from(retire.as_millis()).unwrap_or(u32::MAX).max(1),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        self.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
    }

    /// Takes the ring away again.
    pub(super) fn no_ring(&self) -> io::Result<()> {
        // SAFETY: a request is plain numbers; zeroes mean no ring.
        let request: libc::tpacket_req3 = unsafe { std::mem::zeroed() };
        self.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
    }

    /// Has the link accept packets that are for others, as long as the socket is open.
    pub(super) fn promiscuous(&self, index: c_int) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// From now on packets arrive.
    pub(super) fn start(&self, index: c_int) -> io::Result<()> {
        self.bind(index, EVERYTHING)
    }

    /// From now on no packet arrives; those in the ring stay there. Takes the kernel some milliseconds, in which it
    /// waits for those that are on their way.
    pub(super) fn stop(&self, index: c_int) -> io::Result<()> {
        self.bind(index, NOTHING)
    }

    fn bind(&self, index: c_int, protocol: u16) -> io::Result<()> {
        // SAFETY: an address is plain numbers; the fields that matter are set below.
        let mut address: sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = protocol;
        address.sll_ifindex = index;
        let length = size_of::<sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is as long as is said; the socket is open.
        check(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) })
    }

    /// What the socket is bound to: the link's index, -1 if that is gone, and its `ARPHRD_` number.
    pub(super) fn bound_to(&self) -> io::Result<(c_int, u16)> {
        // SAFETY: an address is plain numbers; the kernel fills it in.
        let mut address: sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to the address, which is that long.
        check(unsafe { libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
        Ok((address.sll_ifindex, address.sll_hatype))
    }

    /// What has happened to the link (`SO_ERROR`), which forgets it: `ENETDOWN`, or nothing.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let mut code: c_int = 0;
        self.get(libc::SOL_SOCKET, libc::SO_ERROR, &mut code)?;
        Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
    }

    /// The counters since the last time (`PACKET_STATISTICS` clears them); drops are among the packets.
    pub(super) fn take_statistics(&self) -> io::Result<Statistics> {
        let mut read = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        self.get(libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut read)?;
        Ok(Statistics { packets: read.tp_packets, drops: read.tp_drops, freezes: read.tp_freeze_q_cnt })
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel reads at most `length` bytes of the value, which is that long.
        check(unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const *value).cast(), length)
        })
    }

    fn get<T>(&self, level: c_int, option: c_int, value: &mut T) -> io::Result<()> {
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to the value, which is that long; all values that are asked
        // for are plain numbers.
        check(unsafe {
            libc::getsockopt(self.0.as_raw_fd(), level, option, (&raw mut *value).cast(), &raw mut length)
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
