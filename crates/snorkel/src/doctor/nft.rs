//! The trial of nftables: a table with an owner, which goes with its socket.

use rustix::io::Errno;
use snorkel_netns::Netns;
use snorkel_rtnl::Nftables;

use super::trial::{During, Ground, Outcome, Trouble};

const NAME: &str = "snorkel-probe";

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
    let mut socket = Nftables::open_in(netns)?;
    if let Err(error) = socket.add_table(NAME, true) {
        let trouble = Trouble::from(error);
        // Is it the flag that the kernel does not know, or nftables at all?
        return Err(match socket.add_table(NAME, false) {
            Ok(()) => Trouble { what: format!("{}, though one without", trouble.what), ..trouble },
            Err(_) => trouble,
        });
    }
    if !socket.has_table(NAME)? {
        return Err(Errno::NOENT).during("find the table that was made");
    }
    drop(socket);
    match Nftables::open_in(netns)?.has_table(NAME)? {
        false => Ok("a table with an owner goes with its socket".into()),
        true => Err(Errno::OPNOTSUPP).during("see the table go with its socket"),
    }
}
