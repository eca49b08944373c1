//! nftables over its netlink protocol: tables, of which one with an owner goes with its socket.
//!
//! Written down in linux/netfilter/nfnetlink.h and nf_tables.h. A change is a batch of messages between two that mark
//! its begin and end; unlike rtnetlink's, numbers are in network byte order.

use snorkel_netns::Netns;

use crate::change::CHANGE;
use crate::name::escape;
use crate::netlink::Netlink;
use crate::query::QUERY;
use crate::wire::{Request, attributes, take};
use crate::{Error, Family, Result};

pub(crate) const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const NEWTABLE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWTABLE as u16;
const GETTABLE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_GETTABLE as u16;
pub(crate) const NEWCHAIN: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWCHAIN as u16;
const GETCHAIN: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_GETCHAIN as u16;
/// What a change begins and ends with.
pub(crate) const BATCH: [libc::c_int; 2] = [libc::NFNL_MSG_BATCH_BEGIN, libc::NFNL_MSG_BATCH_END];
/// The length of `struct nfgenmsg`.
pub(crate) const NFGENMSG: usize = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_OWNER: u32 = 2;
/// The family of tables for both IPv4 and IPv6.
const INET: u8 = libc::NFPROTO_INET as u8;
/// `NFT_NAME_MAXLEN`, with the zero that ends a name.
const NAME_MAX: usize = 256;

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The table that it is in; safe to print.
    pub table: String,
    /// Its name; safe to print.
    pub name: String,
}

/// A socket to nftables. It belongs to the namespace that it was made in, wherever it is used.
#[derive(Debug)]
pub struct Nftables {
    netlink: Netlink,
}

impl Nftables {
    /// Opens a socket inside a namespace, for use from anywhere.
    pub fn open_in(netns: &Netns) -> Result<Nftables> {
        let open = || Netlink::open("open a socket to nftables", Some(rustix::net::netlink::NETFILTER));
        Ok(Nftables { netlink: netns.run(open)?? })
    }

    pub(crate) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    /// Makes a table of the family inet, or does nothing if it is there. One that is `owned` by this socket can be
    /// changed by no other, and goes with it (since 5.12).
    pub fn add_table(&mut self, name: &str, owned: bool) -> Result<()> {
        self.add_table_to(INET, name, owned)
    }

    /// The same for one family alone.
    pub(crate) fn add_table_of(&mut self, family: Family, name: &str, owned: bool) -> Result<()> {
        self.add_table_to(family.raw(), name, owned)
    }

    fn add_table_to(&mut self, family: u8, name: &str, owned: bool) -> Result<()> {
        let what = format!("make the nftables table {name}{}", if owned { " with an owner" } else { "" });
        let mut table = about(&what, NEWTABLE, CHANGE | libc::NLM_F_CREATE as u16, family, name)?;
        let flags = if owned { NFT_TABLE_F_OWNER } else { 0 };
        table.put(NFTA_TABLE_FLAGS, &flags.to_be_bytes());
        let [begin, end] = BATCH.map(|kind| message(kind as u16, QUERY, 0, SUBSYSTEM));
        self.netlink.change_all(&what, &[&begin, &table, &end])
    }

    /// The chains of all tables and families, also those that iptables made by way of nftables.
    pub fn chains(&mut self) -> Result<Vec<Chain>> {
        let dump = QUERY | libc::NLM_F_DUMP as u16;
        let request = message(GETCHAIN, dump, libc::NFPROTO_UNSPEC as u8, 0);
        self.netlink.dump("list the chains of nftables", &request, NEWCHAIN, |payload| {
            let (_, rest) = take::<NFGENMSG>(payload, "a chain ends within its header")?;
            let (mut table, mut name) = (None, None);
            for attribute in attributes(rest) {
                let attribute = attribute?;
                match attribute.kind {
                    NFTA_CHAIN_TABLE => table = Some(escape(attribute.text())),
                    NFTA_CHAIN_NAME => name = Some(escape(attribute.text())),
                    _ => (),
                }
            }
            Ok(table.zip(name).map(|(table, name)| Chain { table, name }))
        })
    }

    /// Whether there is a table of that name and the family inet.
    pub fn has_table(&mut self, name: &str) -> Result<bool> {
        let what = format!("look for the nftables table {name}");
        let request = about(&what, GETTABLE, QUERY, INET, name)?;
        match self.netlink.ask(&what, &request, NEWTABLE, |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A message about the table of that name and family.
pub(crate) fn about(what: &str, kind: u16, flags: u16, family: u8, name: &str) -> Result<Request> {
    if name.len() >= NAME_MAX || name.contains('\0') {
        return Err(Error::Invalid { what: what.into(), why: "the name is too long, or has a zero byte" });
    }
    let mut request = message(kind, flags, family, 0);
    request.put_text(NFTA_TABLE_NAME, name.as_bytes());
    Ok(request)
}

/// A message that begins with `struct nfgenmsg`: family, version 0, resource.
pub(crate) fn message(kind: u16, flags: u16, family: u8, resource: u16) -> Request {
    let mut request = Request::new(kind, flags);
    let [high, low] = resource.to_be_bytes();
    request.raw(&[family, 0, high, low]);
    request
}
