//! A detour: new TCP connections that leave a namespace for some peers reach a socket of the namespace instead.
//!
//! It is a table of nftables that its socket owns (since 5.12), so it goes with that socket, at the latest with the
//! process. Its rules see the packet that opens a connection, and that one alone: a connection that exists is no more than
//! looked at, although connection tracking may take it for new when it begins (nf_conntrack_tcp_loose). Three chains stand
//! in the output hook, in this order (linux/netfilter_ipv4.h has the numbers):
//!
//! 1. hold, before connection tracking: the packet waits in a queue ([`crate::Queue`]) until somebody has decided;
//! 2. refuse: what that one marked as refused is answered with a reset, or as unreachable;
//! 3. lead: the rest is redirected to the listener on the loopback.
//!
//! What carries the mark [`Detour::OWN`] goes straight on. Names and numbers are those of linux/netfilter/nf_tables.h.

use std::net::IpAddr;

use crate::nftables::{BATCH, NEWCHAIN, SUBSYSTEM, about, message};
use crate::wire::Request;
use crate::{Error, Family, Nftables, Prefix, Result};

const NEWRULE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWRULE as u16;
const DELRULE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_DELRULE as u16;
/// A request in a batch; none is acknowledged but the last.
const ONE: u16 = libc::NLM_F_REQUEST as u16;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const REGISTER_1: u32 = libc::NFT_REG_1 as u32;
/// In bytes from the beginning of the header (RFC 9293, 3.1).
const TCP_PORT: u32 = 2;
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
/// FIN, SYN, RST and ACK.
const OPENING: u8 = 0x17;
/// What iptables calls NFQUEUE, in its first revision (linux/netfilter/xt_NFQUEUE.h), padded as the kernel pads it.
const NFQUEUE: &[u8] = b"NFQUEUE";
const NFQUEUE_INFO: usize = 8;

/// Which connections make a detour, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The name of the table.
    pub table: String,
    /// Where the connections want to go: a block of addresses, and a port if not all are meant.
    pub peers: Vec<(Prefix, Option<u16>)>,
    /// The queue in which their first packets wait.
    pub queue: u16,
    /// The port of the loopback of each family that they are led to.
    pub listener: u16,
}

/// How the first packets are made to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// By nftables' own expression.
    Queue,
    /// By iptables' target, where the kernel has no such expression.
    Target,
    /// Not at all: the kernel has neither.
    Not,
}

/// A chain of the detour, in the output hook.
struct Stage {
    name: &'static str,
    kind: &'static str,
    priority: i32,
}

const HOLD: Stage = Stage { name: "hold", kind: "filter", priority: -300 };
const REFUSE: Stage = Stage { name: "refuse", kind: "filter", priority: -250 };
const LEAD: Stage = Stage { name: "lead", kind: "nat", priority: -100 };

impl Detour {
    /// The mark (socket(7), SO_MARK) of packets that go straight on.
    pub const OWN: u32 = 0x736e_6b01;
    /// The mark of one that is answered with a reset.
    pub const REFUSED: u32 = 0x736e_6b02;
    /// The mark of one that is answered as host unreachable.
    pub const UNREACHABLE: u32 = 0x736e_6b03;

    /// The families that have peers.
    fn families(&self) -> impl Iterator<Item = Family> + '_ {
        let has = |family: &Family| self.peers.iter().any(|(to, _)| Family::of(to.address) == *family);
        [Family::Inet, Family::Inet6].into_iter().filter(has)
    }
}

impl Nftables {
    /// Makes the tables of the detour, empty yet. A kernel that knows no owners (before 5.12) refuses them as invalid.
    pub fn add_detour_tables(&mut self, detour: &Detour) -> Result<()> {
        detour.families().try_for_each(|family| self.add_table_of(family, &detour.table, true))
    }

    /// Fills them: the detour begins. Says how first packets are held.
    pub fn add_detour(&mut self, detour: &Detour) -> Result<Hold> {
        let mut last = None;
        for hold in [Hold::Queue, Hold::Target, Hold::Not] {
            match self.add_stages(detour, hold) {
                Ok(()) => return Ok(hold),
                // An expression, or a target, that the kernel has not got; or something else, which then comes again.
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(Error::Invalid { what: "make a detour".into(), why: "it was not tried" }))
    }

    fn add_stages(&mut self, detour: &Detour, hold: Hold) -> Result<()> {
        let what = format!("make the chains of the nftables table {}", detour.table);
        let mut requests = Vec::new();
        for family in detour.families() {
            for stage in [HOLD, REFUSE, LEAD] {
                requests.push(chain(&what, family, detour, &stage)?);
            }
            requests.extend(rules(&what, family, detour, hold, true)?);
        }
        self.change_batch(&what, requests)
    }

    /// Lets new connections go straight on, or leads them again. Connections that were led stay so.
    pub fn set_detour(&mut self, detour: &Detour, hold: Hold, open: bool) -> Result<()> {
        let what = format!("change the nftables table {}", detour.table);
        let mut requests = Vec::new();
        for family in detour.families() {
            for stage in [HOLD, REFUSE, LEAD] {
                let mut all = about(&what, DELRULE, ONE, family.raw(), &detour.table)?;
                all.put_text(NFTA_RULE_CHAIN, stage.name.as_bytes());
                requests.push(all);
            }
            requests.extend(rules(&what, family, detour, hold, open)?);
        }
        self.change_batch(&what, requests)
    }

    /// All or nothing; the last request asks for the kernel's verdict, behind all that can be refused.
    fn change_batch(&mut self, what: &str, mut requests: Vec<Request>) -> Result<()> {
        let [begin, end] = BATCH.map(|kind| message(kind as u16, ONE, 0, SUBSYSTEM));
        if let Some(last) = requests.last_mut() {
            last.add_flags(libc::NLM_F_ACK as u16);
        }
        let all: Vec<&Request> = [&begin].into_iter().chain(&requests).chain([&end]).collect();
        self.netlink().change_all(what, &all)
    }
}

fn chain(what: &str, family: Family, detour: &Detour, stage: &Stage) -> Result<Request> {
    let mut chain = about(what, NEWCHAIN, ONE | libc::NLM_F_CREATE as u16, family.raw(), &detour.table)?;
    chain.put_text(NFTA_CHAIN_NAME, stage.name.as_bytes());
    chain.nest(NFTA_CHAIN_HOOK, |hook| {
        hook.put(NFTA_HOOK_HOOKNUM, &(libc::NF_INET_LOCAL_OUT as u32).to_be_bytes());
        hook.put(NFTA_HOOK_PRIORITY, &stage.priority.to_be_bytes());
    });
    chain.put_text(NFTA_CHAIN_TYPE, stage.kind.as_bytes());
    Ok(chain)
}

/// The rules of one family.
fn rules(what: &str, family: Family, detour: &Detour, hold: Hold, open: bool) -> Result<Vec<Request>> {
    let peers = || detour.peers.iter().filter(|(to, _)| Family::of(to.address) == family);
    let own = vec![Expression::Mark, Expression::is(Detour::OWN), Expression::Accept];
    let mut rules: Vec<(Stage, Vec<Expression>)> = Vec::new();
    let waits = match hold {
        Hold::Queue => Some(Expression::Queue(detour.queue)),
        Hold::Target => Some(Expression::Target(detour.queue)),
        Hold::Not => None,
    };
    if let Some(waits) = waits.filter(|_| open) {
        rules.push((HOLD, own.clone()));
        rules.extend(peers().map(|(to, port)| (HOLD, [opens(*to, *port), vec![waits.clone()]].concat())));
    }
    for (mark, answer) in
        [(Detour::REFUSED, Expression::Reset), (Detour::UNREACHABLE, Expression::Unreachable(family))]
    {
        rules.push((REFUSE, vec![Expression::Mark, Expression::is(mark), answer]));
    }
    rules.push((LEAD, own));
    if !open {
        // The rules behind it stay: with the last of them the kernel would no longer translate what it began.
        rules.push((LEAD, vec![Expression::Accept]));
    }
    let leads = [Expression::Value(detour.listener.to_be_bytes().to_vec()), Expression::Redirect];
    rules.extend(peers().map(|(to, port)| (LEAD, [opens(*to, *port), leads.to_vec()].concat())));
    rules.iter().map(|(stage, expressions)| rule(what, family, detour, stage, expressions)).collect()
}

fn rule(
    what: &str,
    family: Family,
    detour: &Detour,
    stage: &Stage,
    expressions: &[Expression],
) -> Result<Request> {
    let flags = ONE | (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;
    let mut rule = about(what, NEWRULE, flags, family.raw(), &detour.table)?;
    rule.put_text(NFTA_RULE_CHAIN, stage.name.as_bytes());
    rule.nest(NFTA_RULE_EXPRESSIONS, |list| {
        for expression in expressions {
            list.nest(NFTA_LIST_ELEM, |element| expression.put(element));
        }
    });
    Ok(rule)
}

/// What is true of a packet that opens a TCP connection to there.
fn opens(to: Prefix, port: Option<u16>) -> Vec<Expression> {
    // Where the destination stands: RFC 791, 3.1; RFC 8200, 3.
    let (offset, address) = match to.address {
        IpAddr::V4(address) => (16, address.octets().to_vec()),
        IpAddr::V6(address) => (24, address.octets().to_vec()),
    };
    let mut all = vec![Expression::Protocol, Expression::Equals(vec![libc::IPPROTO_TCP as u8])];
    if to.length > 0 {
        all.push(Expression::Network { offset, length: address.len() });
        if usize::from(to.length) < address.len() * 8 {
            let mask = (0..address.len()).map(|at| match usize::from(to.length).saturating_sub(at * 8) {
                0 => 0,
                bits => !(0xff_u32 >> bits.min(8)) as u8,
            });
            all.push(Expression::Mask(mask.collect()));
        }
        all.push(Expression::Equals(address));
    }
    if let Some(port) = port {
        all.push(Expression::Transport { offset: TCP_PORT, length: 2 });
        all.push(Expression::Equals(port.to_be_bytes().to_vec()));
    }
    all.push(Expression::Transport { offset: TCP_FLAGS, length: 1 });
    all.push(Expression::Mask(vec![OPENING]));
    all.push(Expression::Equals(vec![SYN]));
    all
}

/// A step of a rule. What is loaded goes into the first register, what is compared comes from there.
#[derive(Clone, Debug)]
enum Expression {
    /// Loads the mark.
    Mark,
    /// Loads the number of the transport protocol.
    Protocol,
    /// Loads bytes of the network header.
    Network {
        offset: u32,
        length: usize,
    },
    /// Loads bytes of the transport header.
    Transport {
        offset: u32,
        length: usize,
    },
    /// Loads this.
    Value(Vec<u8>),
    /// Keeps these bits of what was loaded.
    Mask(Vec<u8>),
    /// Ends the rule unless it was this that was loaded.
    Equals(Vec<u8>),
    Accept,
    Queue(u16),
    Target(u16),
    /// To the port that was loaded, on the loopback.
    Redirect,
    Reset,
    Unreachable(Family),
}

impl Expression {
    /// Of a mark, which is in the machine's order.
    fn is(mark: u32) -> Expression {
        Expression::Equals(mark.to_ne_bytes().to_vec())
    }

    fn put(&self, element: &mut Request) {
        let number = |request: &mut Request, kind: u16, value: u32| {
            request.put(kind, &value.to_be_bytes());
        };
        let value = |request: &mut Request, kind: u16, bytes: &[u8]| {
            request.nest(kind, |data| {
                data.put(NFTA_DATA_VALUE, bytes);
            });
        };
        let mut is = |name: &str, fill: &dyn Fn(&mut Request)| {
            element.put_text(NFTA_EXPR_NAME, name.as_bytes()).nest(NFTA_EXPR_DATA, |data| fill(data));
        };
        // The kinds of attributes are those of the enumerations nft_NAME_attributes.
        let meta = |key: libc::c_int| {
            move |data: &mut Request| {
                number(data, 1, REGISTER_1);
                number(data, 2, key as u32);
            }
        };
        let load = |base: libc::c_int, offset: u32, length: usize| {
            move |data: &mut Request| {
                // An address has 16 bytes at most.
                for (kind, what) in [(1, REGISTER_1), (2, base as u32), (3, offset), (4, length as u32)] {
                    number(data, kind, what);
                }
            }
        };
        match self {
            Expression::Mark => is("meta", &meta(libc::NFT_META_MARK)),
            Expression::Protocol => is("meta", &meta(libc::NFT_META_L4PROTO)),
            Expression::Network { offset, length } => {
                is("payload", &load(libc::NFT_PAYLOAD_NETWORK_HEADER, *offset, *length));
            }
            Expression::Transport { offset, length } => {
                is("payload", &load(libc::NFT_PAYLOAD_TRANSPORT_HEADER, *offset, *length));
            }
            Expression::Value(bytes) => is("immediate", &|data| {
                number(data, 1, REGISTER_1);
                value(data, 2, bytes);
            }),
            Expression::Mask(mask) => is("bitwise", &|data| {
                for (kind, what) in [(1, REGISTER_1), (2, REGISTER_1), (3, mask.len() as u32)] {
                    number(data, kind, what);
                }
                value(data, 4, mask);
                value(data, 5, &vec![0; mask.len()]);
            }),
            Expression::Equals(bytes) => is("cmp", &|data| {
                number(data, 1, REGISTER_1);
                number(data, 2, libc::NFT_CMP_EQ as u32);
                value(data, 3, bytes);
            }),
            Expression::Accept => is("immediate", &|data| {
                number(data, 1, libc::NFT_REG_VERDICT as u32);
                data.nest(2, |data| {
                    data.nest(NFTA_DATA_VERDICT, |verdict| {
                        number(verdict, NFTA_VERDICT_CODE, libc::NF_ACCEPT as u32);
                    });
                });
            }),
            Expression::Queue(queue) => is("queue", &|data| {
                data.put(1, &queue.to_be_bytes()).put(2, &1u16.to_be_bytes());
            }),
            Expression::Target(queue) => is("target", &|data| {
                let mut info = [0; NFQUEUE_INFO];
                info[..2].copy_from_slice(&queue.to_ne_bytes());
                data.put_text(1, NFQUEUE);
                number(data, 2, 0);
                data.put(3, &info);
            }),
            Expression::Redirect => is("redir", &|data| number(data, 1, REGISTER_1)),
            Expression::Reset => is("reject", &|data| number(data, 1, libc::NFT_REJECT_TCP_RST as u32)),
            Expression::Unreachable(family) => is("reject", &|data| {
                number(data, 1, libc::NFT_REJECT_ICMP_UNREACH as u32);
                // Host unreachable (RFC 792), address unreachable (RFC 4443, 3.1).
                data.put(2, &[if *family == Family::Inet { 1 } else { 3 }]);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_compared_in_its_own_bits_alone() {
        let mask = |length| {
            let to = Prefix { address: IpAddr::from([10, 1, 2, 0]), length };
            opens(to, None).into_iter().find_map(|expression| match expression {
                Expression::Mask(mask) if mask.len() == 4 => Some(mask),
                _ => None,
            })
        };
        assert_eq!(mask(23), Some(vec![255, 255, 254, 0]));
        assert_eq!(mask(8), Some(vec![255, 0, 0, 0]));
        assert_eq!(mask(32), None);
    }
}
