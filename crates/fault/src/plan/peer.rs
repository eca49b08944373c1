//! Who is at the other side: a target, an address, a network, a name, the host; with a port or without.

use std::net::IpAddr;
use std::str::FromStr;

use snorkel_topology::Snapshot;

use super::{Refused, refuse};
use crate::rule::Network;

/// Somebody at the other side, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub who: String,
    /// The port there.
    pub port: Option<u16>,
}

impl FromStr for Peer {
    type Err = String;

    /// `web`, `docker:web`, `web:80`, `10.0.0.0/8`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]:80`, `db.example:5432`, `host`.
    fn from_str(text: &str) -> Result<Peer, String> {
        let whole = |who: &str| Peer { who: who.to_owned(), port: None };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(format!("'{text}' is no port")),
        };
        if text.is_empty() {
            return Err("a peer is needed: a target, an address, a network, a name, or `host`".to_owned());
        }
        if let Some(rest) = text.strip_prefix('[') {
            let Some((inside, behind)) = rest.split_once(']') else {
                return Err(format!("'{text}' has no closing bracket"));
            };
            let who = inside.to_owned();
            return match behind.strip_prefix(':') {
                Some(digits) => Ok(Peer { who, port: port(digits)? }),
                None if behind.is_empty() => Ok(Peer { who, port: None }),
                None => Err(format!("'{behind}' cannot stand behind a bracket")),
            };
        }
        if text.parse::<Network>().is_ok() {
            return Ok(whole(text));
        }
        match text.rsplit_once(':') {
            // `pid:4711` and `netns:12` are targets; a port stands behind them: `pid:4711:80`.
            Some((before, digits))
                if !before.is_empty()
                    && !digits.is_empty()
                    && digits.bytes().all(|b| b.is_ascii_digit())
                    && before.parse::<snorkel_engines::Engine>().is_err() =>
            {
                Ok(Peer { who: before.to_owned(), port: port(digits)? })
            }
            _ => Ok(whole(text)),
        }
    }
}

/// How names are looked up that are no target's: name to addresses, or why not.
pub type Names<'a> = &'a dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

impl Peer {
    /// Its addresses. A target has those of all its links; a name that no target has is looked up.
    pub fn networks(&self, snapshot: &Snapshot, names: Names<'_>) -> Result<Vec<Network>, Refused> {
        if let Ok(network) = self.who.parse() {
            return Ok(vec![network]);
        }
        if self.who == "host" {
            return match snapshot.namespaces.iter().find(|namespace| namespace.host) {
                Some(host) => addresses(host, "the host"),
                None => refuse("the host's own addresses are not known"),
            };
        }
        match self.who.parse().map(|spec| super::links::select(snapshot, &spec)) {
            Ok(Ok(target)) => addresses(super::links::namespace(snapshot, target)?, &target.name),
            // It may be ambiguous or stopped, and then it is not a name either.
            Ok(Err(error)) if !error.to_string().starts_with("no target") || !could_be_name(&self.who) => {
                Err(error)
            }
            _ => match names(&self.who) {
                Ok(found) if !found.is_empty() => Ok(sorted(found.into_iter().map(Network::from).collect())),
                Ok(_) => refuse(format!("'{}' is no target, and has no address", self.who)),
                Err(why) => {
                    refuse(format!("'{}' is no target, and as a name it was not found: {why}", self.who))
                }
            },
        }
    }
}

/// Whether it can be a host's name (RFC 1123).
fn could_be_name(text: &str) -> bool {
    text.len() < 254
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() < 64
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// The addresses of all links but the loopback.
pub(super) fn addresses(namespace: &snorkel_topology::Namespace, of: &str) -> Result<Vec<Network>, Refused> {
    let links = namespace.links.iter().filter(|link| !link.loopback);
    let found: Vec<Network> =
        links.flat_map(|link| &link.addresses).map(|address| Network::from(address.address)).collect();
    if found.is_empty() { refuse(format!("{of} has no address")) } else { Ok(sorted(found)) }
}

pub(super) fn sorted(mut networks: Vec<Network>) -> Vec<Network> {
    networks.sort_unstable();
    networks.dedup();
    networks
}
