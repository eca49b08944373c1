//! Questions: what is there (rtnetlink(7)).

use std::os::fd::{AsFd, AsRawFd};

use snorkel_netns::Netns;

use crate::name::{ALT_NAME_MAX, NAME_MAX, unescape};
use crate::parse;
use crate::wire::Request;
use crate::{Address, Error, Family, IfIndex, Link, Neighbour, NsId, Result, Route, Socket};

pub(crate) const QUERY: u16 = libc::NLM_F_REQUEST as u16;
pub(crate) const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
/// The length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// The length of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// The length of `struct rtmsg`, and of `struct ndmsg`.
const RTMSG: usize = 12;
/// The length of `struct rtgenmsg` with its padding.
const RTGENMSG: usize = 4;
/// So many links the kernel looks at faster than it adds up the statistics of one.
const FEW_LINKS: usize = 64;

impl Socket {
    /// The id that the socket's namespace has for another (or for itself). Gives it one if it has none, which needs
    /// CAP_NET_ADMIN in the socket's namespace.
    ///
    /// It holds as long as the namespace lives, so keep `netns` open while it is in use. The kernel looks ids up by
    /// walking over all of them, from the first that was given: ask for the one that most links lead to (the host's)
    /// before the others.
    pub fn nsid(&mut self, netns: &Netns) -> Result<NsId> {
        const TRIES: usize = 4;
        let what = format!("find the id of the network namespace net:[{}]", netns.inode());
        for _ in 0..TRIES {
            if let Some(id) = self.known_nsid(netns)? {
                return Ok(id);
            }
            match self.assign(&what, netns, parse::NOT_ASSIGNED) {
                // Another process was faster: its number is as good.
                Err(error) if !error.already_exists() => return Err(error),
                _ => (),
            }
        }
        Err(Error::Unsettled { what, tries: TRIES })
    }

    /// The id that the socket's namespace has for another, if it has one; none is given.
    pub fn known_nsid(&mut self, netns: &Netns) -> Result<Option<NsId>> {
        let what = format!("find the id of the network namespace net:[{}]", netns.inode());
        let mut question = Request::new(libc::RTM_GETNSID, QUERY);
        question.raw(&[0; RTGENMSG]).put_i32(parse::NETNSA_FD, netns.as_fd().as_raw_fd());
        self.netlink.ask(&what, &question, libc::RTM_NEWNSID, |payload| Ok(parse::nsid(payload)?))
    }

    /// As [`Socket::nsid`], for a namespace that probably has no id yet: it gets `wish` if nobody has that. The kernel
    /// then walks over the ids once instead of three times.
    pub fn give_nsid(&mut self, netns: &Netns, wish: NsId) -> Result<NsId> {
        let what = format!("give an id to the network namespace net:[{}]", netns.inode());
        match self.assign(&what, netns, wish.get()) {
            Ok(()) => Ok(wish),
            // It has one, or the one that is wished for is another's.
            Err(error) if error.already_exists() => self.nsid(netns),
            Err(error) => Err(error),
        }
    }

    fn assign(&mut self, what: &str, netns: &Netns, nsid: i32) -> Result<()> {
        let mut wish = Request::new(libc::RTM_NEWNSID, QUERY | libc::NLM_F_ACK as u16);
        wish.raw(&[0; RTGENMSG])
            .put_i32(parse::NETNSA_NSID, nsid)
            .put_i32(parse::NETNSA_FD, netns.as_fd().as_raw_fd());
        self.netlink.change(what, &wish)
    }

    /// The links of a namespace, the socket's own if `None`.
    ///
    /// [`Error::Unsupported`] where the kernel answers for its own namespace only. An id whose namespace is gone is
    /// an error, not an empty list.
    pub fn links(&mut self, of: Option<NsId>) -> Result<Vec<Link>> {
        let what = of_namespace("list the links", of);
        let request = links_request(of, of.is_none() || self.own_links <= FEW_LINKS);
        let links =
            self.netlink.dump(&what, &request, libc::RTM_NEWLINK, |payload| parse::link(payload, of))?;
        if of.is_none() {
            self.own_links = links.len();
        }
        Ok(links)
    }

    /// The addresses of a namespace, the socket's own if `None`. Errors as of [`Socket::links`].
    pub fn addresses(&mut self, of: Option<NsId>) -> Result<Vec<Address>> {
        let what = of_namespace("list the addresses", of);
        if of.is_some() && !self.strict {
            // The attribute came with strict checking, in 4.20. Unlike a list of links, one of addresses may be
            // empty: then nothing in the answer would show whose it is.
            return Err(Error::Unsupported { what });
        }
        let mut request = addresses_request();
        if let Some(id) = of {
            request.put_i32(parse::IFA_TARGET_NETNSID, id.get());
        }
        self.netlink.dump(&what, &request, libc::RTM_NEWADDR, |payload| parse::address(payload, of))
    }

    /// The routes of the socket's own namespace, of all tables, IPv4 first.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [Family::Inet, Family::Inet6] {
            // Where a kernel has no IPv6 it lists all families instead: the parser takes only the one that is meant.
            let request = routes_request(family);
            let part = self.netlink.dump("list the routes", &request, libc::RTM_NEWROUTE, |payload| {
                parse::route(payload, family)
            })?;
            routes.extend(part);
        }
        Ok(routes)
    }

    /// The neighbours of the socket's own namespace, IPv4 and IPv6.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        self.netlink.dump("list the neighbours", &neighbours_request(), libc::RTM_NEWNEIGH, parse::neighbour)
    }

    /// Has the kernel take note at once that this link of the socket's own namespace, and the one at its other end, carry
    /// packets again.
    ///
    /// A link whose carrier comes back sends nothing until a work queue of the kernel has seen that, up to a second later
    /// (net/core/link_watch.c); who asks for a single link has it looked at first (net/core/rtnetlink.c, `rtnl_getlink`,
    /// since 6.13). On an older kernel nothing happens sooner.
    pub fn settle(&mut self, link: &Link) -> Result<()> {
        let mut ends = vec![(link.index, None)];
        if let Some(other) = link.link {
            ends.push((other, link.link_nsid.filter(|id| id.is_assigned())));
        }
        for (index, of) in ends {
            let mut request = Request::new(libc::RTM_GETLINK, QUERY);
            let mut fixed = [0; IFINFOMSG];
            fixed[4..8].copy_from_slice(&index.get().to_ne_bytes());
            request.raw(&fixed);
            if let Some(id) = of {
                request.put_i32(libc::IFLA_TARGET_NETNSID, id.get());
            }
            let what = of_namespace(&format!("look at link {index}"), of);
            self.netlink.ask(&what, &request, libc::RTM_NEWLINK, |_| Ok(()))?;
        }
        Ok(())
    }

    /// The link of that name (or alternative name) in the socket's own namespace, `None` if there is none.
    ///
    /// The name as [`Link::name`] writes it, with `\xNN` for bytes that are not printable.
    pub fn index_of(&mut self, name: &str) -> Result<Option<IfIndex>> {
        let bytes = unescape(name);
        if bytes.is_empty() || bytes.len() > ALT_NAME_MAX || bytes.contains(&0) {
            return Ok(None);
        }
        let attribute = if bytes.len() > NAME_MAX { libc::IFLA_ALT_IFNAME } else { libc::IFLA_IFNAME };
        let what = format!("find the link {name}");
        let mut request = Request::new(libc::RTM_GETLINK, QUERY);
        request.raw(&[0; IFINFOMSG]).put_text(attribute, &bytes);
        request.put_u32(libc::IFLA_EXT_MASK, libc::RTEXT_FILTER_SKIP_STATS as u32);
        let found =
            self.netlink.ask(&what, &request, libc::RTM_NEWLINK, |payload| parse::link(payload, None));
        match found {
            Ok(link) => Ok(link.map(|link| link.index)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Asks for the links of a namespace; without their statistics if `filtered`.
///
/// Statistics cost a walk over all CPUs for each link, and a filter leaves them out. But a filter also makes the kernel
/// look at every link of the *asking* namespace before it answers, to size its buffer (net/core/rtnetlink.c,
/// `rtnl_calcit`): for a container's two links, asked for from a host of a thousand, that is nine tenths of the time.
pub(crate) fn links_request(of: Option<NsId>, filtered: bool) -> Request {
    let mut request = Request::new(libc::RTM_GETLINK, DUMP);
    request.raw(&[0; IFINFOMSG]);
    if filtered {
        request.put_u32(libc::IFLA_EXT_MASK, libc::RTEXT_FILTER_SKIP_STATS as u32);
    }
    if let Some(id) = of {
        request.put_i32(libc::IFLA_TARGET_NETNSID, id.get());
    }
    request
}

/// Asks for the addresses of the socket's own namespace.
pub(crate) fn addresses_request() -> Request {
    let mut request = Request::new(libc::RTM_GETADDR, DUMP);
    request.raw(&[0; IFADDRMSG]);
    request
}

/// Asks for the routes of a family in the socket's own namespace.
pub(crate) fn routes_request(family: Family) -> Request {
    let mut request = Request::new(libc::RTM_GETROUTE, DUMP);
    let mut fixed = [0; RTMSG];
    fixed[0] = family.raw();
    request.raw(&fixed);
    request
}

/// Asks for the neighbours in the socket's own namespace.
pub(crate) fn neighbours_request() -> Request {
    let mut request = Request::new(libc::RTM_GETNEIGH, DUMP);
    request.raw(&[0; RTMSG]);
    request
}

fn of_namespace(what: &str, of: Option<NsId>) -> String {
    match of {
        Some(id) => format!("{what} of the namespace with id {id}"),
        None => what.to_owned(),
    }
}
