//! Filters of traffic control (tc(8), tc-bpf(8)) at the place that a clsact qdisc makes, on links of the socket's own
//! namespace: listed, and those that are an eBPF program added and removed.
//!
//! Written down in linux/rtnetlink.h (`struct tcmsg`), linux/pkt_cls.h (`TCA_BPF_*`), net/sched/cls_api.c and
//! net/sched/cls_bpf.c. Filters run in the order of their priorities, the smallest number first.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::change::{CHANGE, CREATE};
use crate::parse;
use crate::wire::Request;
use crate::{IfIndex, Result, Socket};

/// Options of cls_bpf in linux/pkt_cls.h.
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// The program's result is the verdict, and no class.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// `ETH_P_ALL` of linux/if_ether.h.
const ALL_PROTOCOLS: u16 = 3;

/// Which packets of a link a filter sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterSide {
    /// Those that the link receives.
    Ingress,
    /// Those that it sends.
    Egress,
}

impl FilterSide {
    /// Both.
    pub const ALL: [FilterSide; 2] = [FilterSide::Ingress, FilterSide::Egress];

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and its sibling, of linux/pkt_sched.h.
    pub(crate) fn parent(self) -> u32 {
        match self {
            FilterSide::Ingress => 0xffff_fff2,
            FilterSide::Egress => 0xffff_fff3,
        }
    }
}

/// Which filter of a link's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterId {
    /// The side.
    pub side: FilterSide,
    /// Its priority: smaller runs earlier, 0 is none.
    pub priority: u16,
    /// Its number among those of the same priority; never 0.
    pub handle: u32,
}

/// A filter that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Which one.
    pub id: FilterId,
    /// What it is: "bpf", "u32", "flower".
    pub kind: String,
    /// The kind of frames that it sees, `ETH_P_*` of linux/if_ether.h; 3 for all.
    pub protocol: u16,
    /// The id of its eBPF program.
    pub program: Option<u32>,
    /// What its eBPF program is called, safe to print.
    pub name: Option<String>,
}

impl Socket {
    /// The filters at a side of a link, in the order in which they run. None also where the link has no place for them,
    /// or is not there.
    pub fn filters(&mut self, link: IfIndex, side: FilterSide) -> Result<Vec<Filter>> {
        let mut request = Request::new(libc::RTM_GETTFILTER, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
        request.raw(&tcmsg(link, 0, side.parent(), 0));
        self.netlink.dump(
            &format!("list the filters of link {link}"),
            &request,
            libc::RTM_NEWTFILTER,
            |payload| parse::filter(payload, link, side),
        )
    }

    /// Adds a filter that is an eBPF program, for all frames; the program's result is the verdict (direct action).
    ///
    /// `name` is for people, who see it in `tc filter show`. An error if there is one of this id, or a filter of another
    /// kind with this priority.
    pub fn add_bpf_filter(
        &mut self,
        link: IfIndex,
        id: FilterId,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<()> {
        let mut request = Request::new(libc::RTM_NEWTFILTER, CREATE);
        request.raw(&tcmsg(link, id.handle, id.side.parent(), info(id.priority, ALL_PROTOCOLS)));
        request.put_text(libc::TCA_KIND, b"bpf").nest(libc::TCA_OPTIONS, |options| {
            // An open descriptor is never negative.
            options
                .put_u32(TCA_BPF_FD, program.as_raw_fd().cast_unsigned())
                .put_text(TCA_BPF_NAME, name.as_bytes())
                .put_u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
        });
        let what = format!("add the filter {name} of priority {} to link {link}", id.priority);
        self.netlink.change(&what, &request)
    }

    /// Removes an eBPF filter for all frames, as [`Socket::add_bpf_filter`] makes it.
    pub fn remove_bpf_filter(&mut self, link: IfIndex, id: FilterId) -> Result<()> {
        let mut request = Request::new(libc::RTM_DELTFILTER, CHANGE);
        request
            .raw(&tcmsg(link, id.handle, id.side.parent(), info(id.priority, ALL_PROTOCOLS)))
            .put_text(libc::TCA_KIND, b"bpf");
        let what = format!("remove the filter of priority {} from link {link}", id.priority);
        self.netlink.change(&what, &request)
    }
}

/// `struct tcmsg`: family and padding, link, handle, parent, info.
pub(crate) fn tcmsg(link: IfIndex, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, link.get(), handle, parent, info].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// `TC_H_MAKE(priority << 16, htons(protocol))`.
fn info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol.to_be())
}
