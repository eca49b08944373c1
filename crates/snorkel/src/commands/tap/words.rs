//! `TARGET:PORT`, and the peers of `--to`, as they are typed.

use std::str::FromStr;

use snorkel_bpf::tap::Transport;
use snorkel_engines::TargetSpec;
use snorkel_tap::steer::Door;

/// A port of a target.
#[derive(Debug, Clone)]
pub(crate) struct Tapped {
    pub(crate) target: TargetSpec,
    pub(crate) door: Door,
}

impl FromStr for Tapped {
    type Err = String;

    fn from_str(text: &str) -> Result<Tapped, String> {
        let wanted =
            || format!("TARGET:PORT is wanted, as web:80, docker:web:443/tcp or dns:53/udp, not '{text}'");
        let (target, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let (port, transport) = match port.split_once('/') {
            Some((port, "tcp")) => (port, Transport::Tcp),
            Some((port, "udp")) => (port, Transport::Udp),
            Some(_) => return Err(wanted()),
            None => (port, Transport::Tcp),
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wanted)?;
        let target = target.parse().map_err(|error| format!("{error}"))?;
        Ok(Tapped { target, door: Door { transport, port } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_behind_the_last_colon() {
        for (typed, target, door) in [
            ("web:80", "web", "80/tcp"),
            ("docker:web:80", "docker:web", "80/tcp"),
            ("lab:x/web:53/tcp", "lab:x/web", "53/tcp"),
            ("lab:x/web:53/udp", "lab:x/web", "53/udp"),
            ("web:80/tcp", "web", "80/tcp"),
        ] {
            let tapped: Tapped = typed.parse().unwrap();
            assert_eq!(
                (tapped.target.to_string().as_str(), tapped.door.to_string().as_str()),
                (target, door)
            );
        }
        for wrong in ["web", "web:", "web:http", "web:0", "web:70000", "web:80/sctp", ":80"] {
            assert!(wrong.parse::<Tapped>().is_err(), "{wrong}");
        }
    }
}
