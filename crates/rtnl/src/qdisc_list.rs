//! The queueing disciplines that are there on links of the socket's own namespace (tc(8)): listed, and a place for
//! filters removed.

use crate::change::CHANGE;
use crate::filter::tcmsg;
use crate::parse;
use crate::wire::Request;
use crate::{IfIndex, Result, Socket};

/// `TC_H_CLSACT` of linux/pkt_sched.h, and the handle that a qdisc there always has.
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// A queueing discipline as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedQdisc {
    /// The link.
    pub link: IfIndex,
    /// What it is: "netem", "clsact", "noqueue"; safe to print.
    pub kind: String,
    /// Its handle, major number in the upper half; 0 for one that the kernel put there itself.
    pub handle: u32,
    /// Where it hangs: `TC_H_ROOT` (0xffffffff), `TC_H_CLSACT` (0xfffffff1), or a class of another.
    pub parent: u32,
}

impl AttachedQdisc {
    /// Whether it takes the place of filters on what a link receives: clsact, or its elder ingress.
    pub fn holds_filters(&self) -> bool {
        self.parent == TC_H_CLSACT
    }
}

impl Socket {
    /// The queueing disciplines of a link, of all links of the namespace if `None`.
    pub fn qdiscs(&mut self, link: Option<IfIndex>) -> Result<Vec<AttachedQdisc>> {
        let mut request = Request::new(libc::RTM_GETQDISC, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
        request.raw(&[0; 20]);
        let all =
            self.netlink.dump("list the queueing disciplines", &request, libc::RTM_NEWQDISC, parse::qdisc)?;
        // The kernel lists those of every link, whichever is named.
        Ok(all.into_iter().filter(|one| link.is_none_or(|link| one.link == link)).collect())
    }

    /// Removes the clsact qdisc of a link, and with it every filter there: look first whose they are.
    pub fn remove_clsact(&mut self, link: IfIndex) -> Result<()> {
        let mut request = Request::new(libc::RTM_DELQDISC, CHANGE);
        request.raw(&tcmsg(link, CLSACT_HANDLE, TC_H_CLSACT, 0)).put_text(libc::TCA_KIND, b"clsact");
        self.netlink.change(&format!("remove the clsact qdisc of link {link}"), &request)
    }
}
