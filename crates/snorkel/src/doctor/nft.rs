//! The trial of nftables: a table with an owner, which goes with its socket.
//!
//! Written down in the kernel's include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use snorkel_netns::Netns;

use super::netlink::{ACK, CREATE, Message, REQUEST, Socket};
use super::trial::{During, Ground, Outcome, Trouble};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_GETTABLE: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_OWNER: u32 = 2;
const NFPROTO_INET: u8 = 1;
const NAME: &[u8] = b"snorkel-probe\0";

/// `struct nfgenmsg`: family, version 0, resource in network byte order.
fn nfgen(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn new_table(socket: &Socket, flags: u32) -> Result<(), Errno> {
    let batch = |kind| Message::new(kind, REQUEST, &nfgen(0, NFNL_SUBSYS_NFTABLES));
    let table = Message::new(NFT_MSG_NEWTABLE, REQUEST | ACK | CREATE, &nfgen(NFPROTO_INET, 0))
        .attribute(NFTA_TABLE_NAME, NAME)
        .attribute(NFTA_TABLE_FLAGS, &flags.to_be_bytes());
    socket.ask(vec![batch(NFNL_MSG_BATCH_BEGIN), table, batch(NFNL_MSG_BATCH_END)]).map(drop)
}

fn get_table(socket: &Socket) -> Result<(), Errno> {
    let message = Message::new(NFT_MSG_GETTABLE, REQUEST | ACK, &nfgen(NFPROTO_INET, 0));
    socket.ask(vec![message.attribute(NFTA_TABLE_NAME, NAME)]).map(drop)
}

/// Makes a table that its socket owns, and looks whether the table is gone when the socket is.
pub(super) fn owner(ground: &Ground<'_>) -> Outcome {
    let netns = match ground.netns() {
        Ok(netns) => netns,
        Err(outcome) => return outcome,
    };
    let absent = [Errno::OPNOTSUPP, Errno::INVAL, Errno::PROTONOSUPPORT];
    ground.judge(owned_table(netns), &absent)
}

fn owned_table(netns: &Netns) -> Result<String, Trouble> {
    let socket = Socket::open_in(netns, Some(NETFILTER))?;
    if let Err(errno) = new_table(&socket, NFT_TABLE_F_OWNER) {
        // Is it the flag that the kernel does not know, or nftables at all?
        let what = match new_table(&socket, 0) {
            Ok(()) => "make an nftables table with an owner, though one without",
            Err(_) => "make an nftables table",
        };
        return Err(errno).during(what);
    }
    get_table(&socket).during("find the table that was made")?;
    drop(socket);
    match get_table(&Socket::open_in(netns, Some(NETFILTER))?) {
        Err(Errno::NOENT) => Ok("a table with an owner goes with its socket".into()),
        Ok(()) => Err(Errno::OPNOTSUPP).during("see the table go with its socket"),
        Err(errno) => Err(errno).during("look whether the table went with its socket"),
    }
}
