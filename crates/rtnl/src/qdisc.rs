//! Queueing disciplines (tc(8)), attached by rtnetlink to a link of the socket's own namespace.
//!
//! Written down in linux/rtnetlink.h (`struct tcmsg`), linux/pkt_sched.h, and Documentation/netlink/specs/tc.yaml of the
//! kernel.

use crate::change::{CHANGE, CREATE};
use crate::netem::Netem;
use crate::parse;
use crate::query::DUMP;
use crate::wire::Request;
use crate::{IfIndex, Result, Socket};

/// Places of linux/pkt_sched.h: the root of what a link sends, and beside it the one for filters alone.
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel reckons the time of a packet itself, and needs no table of it.
const LINKLAYER_ETHERNET: u8 = 1;

/// A queueing discipline with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qdisc {
    /// Delay, loss and their kin (tc-netem(8)); this one passes everything on. [`Socket::add_netem`] has all of it.
    Netem {
        /// How many packets it holds at most.
        limit: u32,
    },
    /// A token bucket (tc-tbf(8)).
    Tbf {
        /// Bytes per second.
        rate: u32,
        /// The size of the bucket, bytes. A packet that is larger is dropped.
        burst: u32,
        /// How much it holds at most, bytes.
        limit: u32,
    },
    /// No queue: the place for filters on what a link sends and receives.
    Clsact,
}

impl Qdisc {
    /// The kernel's name for the kind.
    pub fn kind(self) -> &'static str {
        match self {
            Qdisc::Netem { .. } => "netem",
            Qdisc::Tbf { .. } => "tbf",
            Qdisc::Clsact => "clsact",
        }
    }

    /// Handle and parent of `struct tcmsg`; the handle 0 lets the kernel choose.
    fn place(self) -> (u32, u32) {
        match self {
            Qdisc::Clsact => (0xffff_0000, TC_H_CLSACT),
            Qdisc::Netem { .. } | Qdisc::Tbf { .. } => (0, TC_H_ROOT),
        }
    }

    fn put_options(self, request: &mut Request) {
        match self {
            // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
            Qdisc::Netem { limit } => {
                request.put(libc::TCA_OPTIONS, &words([0, limit, 0, 0, 0, 0]));
            }
            Qdisc::Tbf { rate, burst, limit } => {
                request.nest(libc::TCA_OPTIONS, |options| {
                    // struct tc_tbf_qopt: two struct tc_ratespec (rate and peak rate), then limit, buffer, mtu.
                    let parameters = [
                        &[0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0][..],
                        &words([rate, 0, 0, 0, limit, 0, 0]),
                    ];
                    options.put(TCA_TBF_PARMS, &parameters.concat()).put_u32(TCA_TBF_BURST, burst);
                });
            }
            Qdisc::Clsact => (),
        }
    }
}

/// A queueing discipline that the kernel has on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedQdisc {
    /// The link.
    pub link: IfIndex,
    /// Its own number, `MAJOR:0` in 32 bits.
    pub handle: u32,
    /// The class it hangs from, or [`AttachedQdisc::ROOT`].
    pub parent: u32,
    /// The kernel's name for the kind.
    pub kind: String,
    /// Its options if it is a netem.
    pub netem: Option<Netem>,
    /// What it counted.
    pub statistics: QdiscStatistics,
}

impl AttachedQdisc {
    /// The parent of one that takes all that a link sends.
    pub const ROOT: u32 = TC_H_ROOT;

    /// Whether it takes the place of filters on what a link receives: clsact, or its elder ingress.
    pub fn holds_filters(&self) -> bool {
        self.parent == TC_H_CLSACT
    }
}

/// What a queueing discipline counted (linux/gen_stats.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QdiscStatistics {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets that wait.
    pub waiting: u32,
    /// Bytes that wait.
    pub backlog: u32,
    /// Packets dropped; those that netem loses by chance are among them.
    pub drops: u32,
}

impl Socket {
    /// Attaches a queueing discipline to a link. Where a kernel has none of the kind, the error
    /// [says that it is missing](crate::Error::is_missing).
    pub fn add_qdisc(&mut self, link: IfIndex, qdisc: Qdisc) -> Result<()> {
        let (handle, parent) = qdisc.place();
        let mut request = Request::new(libc::RTM_NEWQDISC, CREATE);
        // struct tcmsg: family and padding, link, handle, parent, info.
        request
            .raw(&words([0, link.get(), handle, parent, 0]))
            .put_text(libc::TCA_KIND, qdisc.kind().as_bytes());
        qdisc.put_options(&mut request);
        self.netlink.change(&format!("attach a {} qdisc to link {link}", qdisc.kind()), &request)
    }

    /// Attaches a netem with all its options as the root of what a link sends. Errors as of [`Socket::add_qdisc`].
    pub fn add_netem(&mut self, link: IfIndex, netem: &Netem) -> Result<()> {
        let mut request = Request::new(libc::RTM_NEWQDISC, CREATE);
        request.raw(&words([0, link.get(), 0, TC_H_ROOT, 0])).put_text(libc::TCA_KIND, b"netem");
        request.nest(libc::TCA_OPTIONS, |options| netem.put(options));
        self.netlink.change(&format!("attach a netem qdisc to link {link}"), &request)
    }

    /// The queueing disciplines of a link, of all links of the socket's own namespace if `None`. `noqueue` is one that a link
    /// has where it has none.
    pub fn qdiscs(&mut self, link: Option<IfIndex>) -> Result<Vec<AttachedQdisc>> {
        let mut request = Request::new(libc::RTM_GETQDISC, DUMP);
        request.raw(&words([0; 5]));
        let all = self.netlink.dump("list the qdiscs", &request, libc::RTM_NEWQDISC, parse::qdisc)?;
        // The kernel lists those of every link, whichever is named.
        Ok(all.into_iter().filter(|one| link.is_none_or(|link| one.link == link)).collect())
    }

    /// Removes the clsact qdisc of a link, and with it every filter there: look first whose they are.
    pub fn remove_clsact(&mut self, link: IfIndex) -> Result<()> {
        let (handle, parent) = Qdisc::Clsact.place();
        let mut request = Request::new(libc::RTM_DELQDISC, CHANGE);
        request.raw(&words([0, link.get(), handle, parent, 0])).put_text(libc::TCA_KIND, b"clsact");
        self.netlink.change(&format!("remove the clsact qdisc of link {link}"), &request)
    }
}

pub(crate) fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}
