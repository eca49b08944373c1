//! Who asks the kernel about all the namespaces: routing sockets in private namespaces.
//!
//! For root there is one (`IFLA_TARGET_NETNSID`, linux/if_link.h; rtnetlink(7)): the numbers (nsids) that it has to give
//! the others stay in its private namespace and go with it, and neither the host nor a container is left with a number
//! that it did not have. Others have one for each user namespace of theirs: by it they see the networks of their own
//! rootless containers.
//!
//! The kernel finds the number that a namespace has for another by walking over all that it has given
//! (`__peernet2id`, net/core/net_namespace.c), so each question costs the more the more namespaces there are. Hence the
//! host, which nearly every link's other end is in, gets the first number; every other namespace is given one with a
//! single question, before links are read; and what was given once is not asked again.

use std::collections::{HashMap, HashSet};
use std::fs;

use snorkel_netns::{Netns, NetnsId, Pid, Process, routing_socket_beside};
use snorkel_rtnl::{Error, NsId, Socket};

use crate::join::{AskerId, RawNamespace};

/// Root's asker; the others follow.
const FIRST: AskerId = 0;

/// A namespace whose links are to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The namespace.
    pub(crate) netns: &'a Netns,
    /// Its identity; without a cookie its number is asked anew each time.
    pub(crate) id: NetnsId,
    /// A process in it, where one is known.
    pub(crate) pid: Option<Pid>,
    /// Whether it is the one that snorkel is in.
    pub(crate) own: bool,
}

/// The askers that were made so far.
#[derive(Debug)]
pub(crate) struct Askers {
    /// Root's, and the namespace it asks from; none if this process may not make one.
    first: Option<(Netns, Asker)>,
    /// The others.
    others: Vec<Asker>,
    /// Which of the others is of which user namespace, as `/proc/PID/ns/user` names it; none if there can be none.
    of_users: HashMap<String, Option<AskerId>>,
}

/// A socket, and the numbers that others have in the namespace that it asks from.
#[derive(Debug)]
struct Asker {
    socket: Socket,
    /// Of the namespaces that were read last. A number holds as long as its namespace lives, and a cookie is never given
    /// twice.
    known: HashMap<NetnsId, NsId>,
    /// The next number to give.
    next: i32,
}

impl Askers {
    /// Makes root's, where that is allowed.
    pub(crate) fn new() -> Askers {
        let first = Netns::private().map_err(Error::from).and_then(|netns| {
            let mut asker = Asker::over(Socket::open_in(&netns)?);
            let host = Netns::current()?;
            asker.number(&host, host.id()?)?;
            Ok((netns, asker))
        });
        let first =
            first.inspect_err(|e| tracing::info!("only what is the user's own can be read: {e}")).ok();
        Askers { first, others: Vec::new(), of_users: HashMap::new() }
    }

    /// The namespace of root's asker.
    pub(crate) fn vantage(&self) -> Option<&Netns> {
        self.first.as_ref().map(|(netns, _)| netns)
    }

    /// Reads links and addresses of all these namespaces, in their order.
    pub(crate) fn read(&mut self, all: &[Wanted<'_>]) -> Vec<Result<RawNamespace, Error>> {
        let numbers: Vec<_> = all.iter().map(|wanted| self.number(wanted)).collect();
        numbers.into_iter().map(|number| self.read_one(number?)).collect()
    }

    /// Which of these numbers a namespace has. None is given to it.
    pub(crate) fn number_among(
        &mut self,
        netns: &Netns,
        among: &HashSet<(AskerId, NsId)>,
    ) -> Option<(AskerId, NsId)> {
        let concerned: HashSet<AskerId> = among.iter().map(|(asker, _)| *asker).collect();
        concerned.into_iter().find_map(|asker| {
            let number = self.get(asker)?.socket.known_nsid(netns).ok()??;
            Some((asker, number)).filter(|number| among.contains(number))
        })
    }

    /// Forgets the numbers of all namespaces but these.
    pub(crate) fn keep(&mut self, ids: &[NetnsId]) {
        let ids: HashSet<&NetnsId> = ids.iter().collect();
        let first = self.first.as_mut().map(|(_, asker)| asker);
        for asker in first.into_iter().chain(&mut self.others) {
            asker.known.retain(|id, _| ids.contains(id));
        }
    }

    fn get(&mut self, asker: AskerId) -> Option<&mut Asker> {
        match asker.checked_sub(FIRST + 1) {
            None => self.first.as_mut().map(|(_, asker)| asker),
            Some(other) => self.others.get_mut(other),
        }
    }

    /// Through whom a namespace is read, and by which number; none for the own one, if that is read directly.
    fn number(&mut self, wanted: &Wanted<'_>) -> Result<Option<(AskerId, NsId)>, Error> {
        let asker = match &self.first {
            Some(_) => Some(FIRST),
            None if wanted.own => return Ok(None),
            None => wanted.pid.and_then(|pid| self.of_user(pid)),
        };
        let found = asker.and_then(|number| Some((number, self.get(number)?)));
        let (number, asker) = found.ok_or_else(denied)?;
        Ok(Some((number, asker.number(wanted.netns, wanted.id)?)))
    }

    fn read_one(&mut self, number: Option<(AskerId, NsId)>) -> Result<RawNamespace, Error> {
        let Some((number, nsid)) = number else {
            let mut socket = Socket::open()?;
            return Ok(RawNamespace {
                nsid: None,
                links: socket.links(None)?,
                addresses: socket.addresses(None)?,
            });
        };
        let socket = &mut self.get(number).ok_or_else(denied)?.socket;
        Ok(RawNamespace {
            nsid: Some((number, nsid)),
            links: socket.links(Some(nsid))?,
            addresses: socket.addresses(Some(nsid))?,
        })
    }

    /// The asker in the user namespace of a process; made where there is none yet.
    fn of_user(&mut self, pid: Pid) -> Option<AskerId> {
        let name = fs::read_link(format!("/proc/{pid}/ns/user")).ok()?.to_string_lossy().into_owned();
        if let Some(made) = self.of_users.get(&name) {
            return *made;
        }
        let made = Process::open(pid)
            .and_then(|process| routing_socket_beside(&process))
            .map_err(Error::from)
            .and_then(Socket::adopt)
            .inspect_err(|e| tracing::info!("{name} cannot be worked in: {e}"));
        let made = made.ok().map(|socket| {
            self.others.push(Asker::over(socket));
            FIRST + self.others.len()
        });
        self.of_users.insert(name, made);
        made
    }
}

impl Asker {
    fn over(socket: Socket) -> Asker {
        Asker { socket, known: HashMap::new(), next: 0 }
    }

    fn number(&mut self, netns: &Netns, id: NetnsId) -> Result<NsId, Error> {
        let nsid = match self.known.get(&id) {
            Some(nsid) => *nsid,
            None => self.socket.give_nsid(netns, NsId::new(self.next))?,
        };
        self.next = self.next.max(nsid.get().saturating_add(1));
        // An inode alone may have gone to another namespace since.
        if id.cookie != 0 {
            self.known.insert(id, nsid);
        }
        Ok(nsid)
    }
}

/// What is said of another namespace where none but the own can be read.
fn denied() -> Error {
    Error::from(snorkel_netns::Error::os(
        "read the links of another network namespace without CAP_SYS_ADMIN (run as root)",
        std::io::Error::from(std::io::ErrorKind::PermissionDenied),
    ))
}
