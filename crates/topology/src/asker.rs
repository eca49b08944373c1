//! Who asks the kernel about all the namespaces: one routing socket in a private namespace.
//!
//! The kernel finds the number (nsid) that a namespace has for another by walking over all that it has given
//! (`__peernet2id`, net/core/net_namespace.c), so each question costs the more the more namespaces there are. Hence the
//! host, which nearly every link's other end is in, gets the first number; every other namespace is given one with a
//! single question, before links are read; and what was given once is not asked again.

use std::collections::HashMap;

use snorkel_netns::{Netns, NetnsId};
use snorkel_rtnl::{Error, NsId, Socket};

use crate::join::RawNamespace;

/// A socket, the private namespace that it asks from, and the numbers of the others there.
#[derive(Debug)]
pub(crate) struct Asker {
    netns: Netns,
    socket: Socket,
    /// Of the namespaces that were read last. A number holds as long as its namespace lives, and a cookie is never given
    /// twice.
    known: HashMap<NetnsId, NsId>,
    /// The next number to give.
    next: i32,
}

impl Asker {
    /// Makes the private namespace.
    pub(crate) fn new() -> Result<Asker, Error> {
        let netns = Netns::private()?;
        let mut socket = Socket::open_in(&netns)?;
        let host = socket.nsid(&Netns::current()?)?;
        Ok(Asker { netns, socket, known: HashMap::new(), next: host.get().saturating_add(1) })
    }

    /// The namespace that it asks from.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Reads links and addresses of all these namespaces, in their order.
    pub(crate) fn read<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a Netns, NetnsId)>,
    ) -> Vec<Result<RawNamespace, Error>> {
        let mut before = std::mem::take(&mut self.known);
        let numbers: Vec<_> = all.map(|(netns, id)| self.number(netns, id, before.remove(&id))).collect();
        numbers.into_iter().map(|nsid| self.read_one(nsid?)).collect()
    }

    fn number(&mut self, netns: &Netns, id: NetnsId, before: Option<NsId>) -> Result<NsId, Error> {
        let nsid = match before {
            Some(nsid) => nsid,
            None => self.socket.give_nsid(netns, NsId::new(self.next))?,
        };
        self.next = self.next.max(nsid.get().saturating_add(1));
        // An inode alone may have gone to another namespace since.
        if id.cookie != 0 {
            self.known.insert(id, nsid);
        }
        Ok(nsid)
    }

    fn read_one(&mut self, nsid: NsId) -> Result<RawNamespace, Error> {
        Ok(RawNamespace {
            nsid: Some(nsid),
            links: self.socket.links(Some(nsid))?,
            addresses: self.socket.addresses(Some(nsid))?,
        })
    }
}
