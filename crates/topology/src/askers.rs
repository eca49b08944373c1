//! The routing sockets through which namespaces are read.
//!
//! For root there is one, in a private namespace (`IFLA_TARGET_NETNSID`, linux/if_link.h; rtnetlink(7)): the numbers that
//! it has to give the others (nsids) stay in that namespace and go with it, and neither the host nor a container is left
//! with a number that it did not have. Others have one for each user namespace of theirs, likewise in a private
//! namespace: by it they see the networks of their own rootless containers.

use std::collections::{HashMap, HashSet};
use std::fs;

use snorkel_netns::{Netns, Pid, Process, routing_socket_beside};
use snorkel_rtnl::{Error, NsId, Socket};

use crate::join::{Asker, RawNamespace};

/// The sockets that were made so far.
#[derive(Debug)]
pub(crate) struct Askers {
    /// Root's, and the namespace it asks from; none if this process may not make one.
    first: Option<(Netns, Socket)>,
    /// The others.
    sockets: Vec<Socket>,
    /// Which of the others is of which user namespace, as `/proc/PID/ns/user` names it; none if there can be none.
    of_users: HashMap<String, Option<usize>>,
}

/// The number of root's socket; the others follow.
const FIRST: Asker = 0;

impl Askers {
    pub(crate) fn new() -> Askers {
        let first = Netns::private().map_err(Error::from).and_then(|netns| {
            let mut socket = Socket::open_in(&netns)?;
            // The host gets the first number: the kernel looks numbers up one after the other (`__peernet2id` of
            // net/core/net_namespace.c), and it is the host that nearly every link's other end is in.
            socket.nsid(&Netns::current()?)?;
            Ok((netns, socket))
        });
        let first =
            first.inspect_err(|e| tracing::info!("only what is the user's own can be read: {e}")).ok();
        Askers { first, sockets: Vec::new(), of_users: HashMap::new() }
    }

    /// The namespace of root's socket.
    pub(crate) fn vantage(&self) -> Option<&Netns> {
        self.first.as_ref().map(|(netns, _)| netns)
    }

    /// Reads the links of a namespace, in which a process is known; `own` if it is the one that snorkel is in.
    pub(crate) fn read(&mut self, netns: &Netns, pid: Option<Pid>, own: bool) -> Result<RawNamespace, Error> {
        if let Some((_, socket)) = &mut self.first {
            return read_through(FIRST, socket, netns);
        }
        if own {
            let mut socket = Socket::open()?;
            return Ok(RawNamespace {
                nsid: None,
                links: socket.links(None)?,
                addresses: socket.addresses(None)?,
            });
        }
        let asker = pid.and_then(|pid| self.of_user(pid));
        let socket = asker.and_then(|asker| Some((asker, self.sockets.get_mut(asker)?)));
        match socket {
            Some((asker, socket)) => read_through(FIRST + 1 + asker, socket, netns),
            None => Err(Error::from(snorkel_netns::Error::os(
                "read the links of another network namespace without CAP_SYS_ADMIN (run as root)",
                std::io::Error::from(std::io::ErrorKind::PermissionDenied),
            ))),
        }
    }

    /// Which of these numbers a namespace has.
    pub(crate) fn number(&mut self, netns: &Netns, among: &HashSet<(Asker, NsId)>) -> Option<(Asker, NsId)> {
        let first = self.first.iter_mut().map(|(_, socket)| socket);
        let sockets = first.map(|socket| (FIRST, socket));
        let others = self.sockets.iter_mut().enumerate().map(|(asker, socket)| (FIRST + 1 + asker, socket));
        sockets.chain(others).find_map(|(asker, socket)| {
            let concerned = among.iter().any(|(of, _)| *of == asker);
            let number = (asker, concerned.then(|| socket.nsid(netns).ok()).flatten()?);
            among.contains(&number).then_some(number)
        })
    }

    /// The socket in the user namespace of a process; made where there is none yet.
    fn of_user(&mut self, pid: Pid) -> Option<usize> {
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
            self.sockets.push(socket);
            self.sockets.len() - 1
        });
        self.of_users.insert(name, made);
        made
    }
}

fn read_through(asker: Asker, socket: &mut Socket, netns: &Netns) -> Result<RawNamespace, Error> {
    let nsid = socket.nsid(netns)?;
    Ok(RawNamespace {
        nsid: Some((asker, nsid)),
        links: socket.links(Some(nsid))?,
        addresses: socket.addresses(Some(nsid))?,
    })
}
