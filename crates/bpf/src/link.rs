//! Programs attached by a bpf link: as long as its descriptor is open, and never longer than the process.
//!
//! tcx (since 6.6, kernel/bpf/tcx.c) keeps a chain of programs at each side of a network link, with a revision that grows
//! with every change. A new program is put at the head, and only if the chain is the one that was looked at.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use snorkel_rtnl::IfIndex;

use crate::sys::{self, Chain, Target};
use crate::{Error, Result};

/// `BPF_TCX_INGRESS` of `enum bpf_attach_type` in linux/bpf.h; egress follows.
const TCX_INGRESS: u32 = 46;

/// Which packets of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those that it receives.
    Ingress,
    /// Those that it sends.
    Egress,
}

impl Side {
    fn attach_type(self) -> u32 {
        match self {
            Side::Ingress => TCX_INGRESS,
            Side::Egress => TCX_INGRESS + 1,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        })
    }
}

/// A hook for traffic control programs. The index counts in the namespace of the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The network link.
    pub(crate) link: IfIndex,
    /// Its side.
    pub(crate) side: Side,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of link {}", self.side, self.link)
    }
}

impl Hook {
    fn target(self) -> Target<'static> {
        Target::Interface(self.link.get())
    }

    /// What is attached by tcx; `None` where the kernel has no tcx.
    pub(crate) fn chain(self) -> Result<Option<Chain>> {
        match sys::chain(self.target(), self.side.attach_type()) {
            Ok(chain) => Ok(Some(chain)),
            // The hook's number, or a part of the request, is not known to the kernel.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::E2BIG)) => Ok(None),
            Err(e) => Err(Error::os(format!("look at the programs at {self}"), e)),
        }
    }
}

/// An attached program. Dropped, it is detached.
#[derive(Debug)]
pub(crate) struct Link {
    fd: OwnedFd,
    id: u32,
    program: u32,
    name: &'static str,
    hook: Hook,
}

impl Link {
    /// Puts a program at the head of a hook's chain, if that still has this revision; `None` if it has another.
    pub(crate) fn first(
        name: &'static str,
        program: BorrowedFd<'_>,
        hook: Hook,
        revision: u64,
    ) -> Result<Option<Link>> {
        let failed = |e: io::Error| Error::os(format!("attach {name} to {hook}"), e);
        let fd = match sys::link_first(program, hook.target(), hook.side.attach_type(), revision) {
            Ok(fd) => fd,
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let facts = sys::link_facts(fd.as_fd()).map_err(failed)?;
        Ok(Some(Link { fd, id: facts.id, program: facts.program, name, hook }))
    }

    /// Checks that the program is still where it was put: the link has its network link and its program, and stands in
    /// the hook's chain. To be called in the hook's namespace.
    pub(crate) fn verify(&self) -> Result<()> {
        let what = || format!("{} at {}", self.name, self.hook);
        let not = |why: &str| Err(Error::NotInForce { what: what(), why: why.to_owned() });
        let facts =
            sys::link_facts(self.fd.as_fd()).map_err(|e| Error::os(format!("look at {}", what()), e))?;
        if facts.ifindex != self.hook.link.get() {
            return not("the network link is gone");
        }
        if facts.program != self.program {
            return not("the bpf link has another program");
        }
        let chain = self.hook.chain()?.unwrap_or_default();
        match chain.links.iter().position(|&id| id == self.id) {
            Some(place) if chain.programs.get(place) == Some(&self.program) => Ok(()),
            Some(_) => not("the chain has another program in its place"),
            None => not("it is not in the chain"),
        }
    }
}
