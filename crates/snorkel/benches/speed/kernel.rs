//! The bare kernel: the questions about network namespaces that a listing cannot do without, and nothing made of the
//! answers. What `snorkel ls` takes beyond this is its own.
//!
//! One part of it does not grow in proportion. The kernel finds the number that a namespace has for another by walking
//! over all that were given (`__peernet2id`, net/core/net_namespace.c): once when a namespace is given its number, and
//! once for each veth of the host's, whose other end is told by such a number. No other way leads to the two ends.

use std::time::{Duration, Instant};

use snorkel_netns::{Netns, Pid, Process};
use snorkel_rtnl::{NsId, Socket};

/// What the questions took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    /// All of them.
    pub(crate) all: Duration,
    /// Those among them in which the kernel walks over the numbers.
    pub(crate) walks: Duration,
}

/// Asks once, of the namespaces that these processes are in; the first is the one that all others are plugged into.
pub(crate) fn ask(processes: &[Pid]) -> Took {
    let begun = Instant::now();
    let mut walks = Duration::ZERO;
    let apart = Netns::private().expect("a namespace can be made; this needs root");
    let mut socket = Socket::open_in(&apart).expect("a routing socket can be made there");
    let (mut held, mut numbers) = (Vec::new(), Vec::new());
    for (number, pid) in (0..).zip(processes) {
        let netns = Process::open(*pid).and_then(|process| process.netns()).expect("the node runs");
        let walk = Instant::now();
        numbers.push(socket.give_nsid(&netns, NsId::new(number)).expect("it can be given a number"));
        walks += walk.elapsed();
        held.push(netns);
    }
    for (place, number) in numbers.iter().enumerate() {
        let walk = Instant::now();
        socket.links(Some(*number)).expect("its links can be read");
        if place == 0 {
            walks += walk.elapsed();
        }
        socket.addresses(Some(*number)).expect("its addresses can be read");
    }
    Took { all: begun.elapsed(), walks }
}
