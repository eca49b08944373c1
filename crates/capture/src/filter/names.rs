//! What names mean: of hosts, ports, protocols, networks and hardware addresses.
//!
//! The name service switch is never asked (getaddrinfo(3) and its kin cannot be used in a static binary, and a filter
//! that waits for a name server is one that starts too late): [`SystemNames`] reads the files in /etc as hosts(5),
//! services(5), protocols(5), networks(5) and ethers(5) describe them, and a caller that knows more, such as the names
//! of containers, puts its own [`Names`] before that.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

/// Who knows what names mean. Nothing known: the filter that has the name is refused.
pub trait Names {
    /// The addresses of a host.
    fn host(&self, name: &str) -> Vec<IpAddr>;

    /// The port of a service; `transport` is `tcp` or `udp`.
    fn port(&self, name: &str, transport: &str) -> Option<u16>;

    /// The number of a protocol over IP.
    fn protocol(&self, name: &str) -> Option<u8>;

    /// The number of a network, the first byte of its address in the highest bits: `loopback` is 0x7f000000.
    fn network(&self, name: &str) -> Option<u32>;

    /// The hardware address of a host.
    fn hardware(&self, name: &str) -> Option<[u8; 6]>;
}

/// The names in the files of a directory, usually /etc. A file is read when a name is looked up in it; one that is not
/// there knows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemNames {
    directory: PathBuf,
}

impl SystemNames {
    /// The names in `hosts`, `services`, `protocols`, `networks` and `ethers` of a directory.
    pub fn new(directory: impl Into<PathBuf>) -> SystemNames {
        SystemNames { directory: directory.into() }
    }

    fn file(&self, name: &str) -> String {
        fs::read(self.directory.join(name))
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into())
    }

    /// What stands second in the first line that has `name` first or after the second; lines that `fits` refuses are
    /// not looked at.
    fn second<T>(&self, file: &str, name: &str, fits: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.file(file).lines().map(fields).find_map(|fields| match fields[..] {
            [first, second, ref more @ ..] if first == name || more.contains(&name) => fits(second),
            _ => None,
        })
    }
}

impl Default for SystemNames {
    fn default() -> Self {
        SystemNames::new("/etc")
    }
}

/// The words of a line without its comment.
fn fields(line: &str) -> Vec<&str> {
    line.split('#').next().unwrap_or_default().split_whitespace().collect()
}

impl Names for SystemNames {
    fn host(&self, name: &str) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for line in self.file("hosts").lines() {
            let fields = fields(line);
            let Some((address, names)) = fields.split_first() else { continue };
            if names.iter().any(|known| known.eq_ignore_ascii_case(name))
                && let Ok(address) = address.parse()
                && !found.contains(&address)
            {
                found.push(address);
            }
        }
        found
    }

    fn port(&self, name: &str, transport: &str) -> Option<u16> {
        self.second("services", name, |second| {
            let (port, protocol) = second.split_once('/')?;
            if protocol == transport { port.parse().ok() } else { None }
        })
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        self.second("protocols", name, |second| second.parse().ok())
    }

    fn network(&self, name: &str) -> Option<u32> {
        self.second("networks", name, |second| {
            let mut number = 0;
            let mut parts = second.split('.');
            // What is left out at the end is 0.
            for _ in 0..4 {
                number = number << 8 | u32::from(parts.next().unwrap_or("0").parse::<u8>().ok()?);
            }
            parts.next().is_none().then_some(number)
        })
    }

    fn hardware(&self, name: &str) -> Option<[u8; 6]> {
        self.file("ethers").lines().map(fields).find_map(|fields| match fields[..] {
            [address, known, ..] if known == name => {
                let mut bytes = [0; 6];
                let mut parts = address.split(':');
                for byte in &mut bytes {
                    *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
                }
                parts.next().is_none().then_some(bytes)
            }
            _ => None,
        })
    }
}

/// Hosts that the caller knows, such as containers, before whatever else is known.
#[derive(Debug, Clone, Default)]
pub struct WithHosts<N> {
    /// The addresses of each host.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Asked for hosts that are not among them, and for everything else.
    pub otherwise: N,
}

impl<N: Names> Names for WithHosts<N> {
    fn host(&self, name: &str) -> Vec<IpAddr> {
        self.hosts.get(name).cloned().unwrap_or_else(|| self.otherwise.host(name))
    }

    fn port(&self, name: &str, transport: &str) -> Option<u16> {
        self.otherwise.port(name, transport)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        self.otherwise.protocol(name)
    }

    fn network(&self, name: &str) -> Option<u32> {
        self.otherwise.network(name)
    }

    fn hardware(&self, name: &str) -> Option<[u8; 6]> {
        self.otherwise.hardware(name)
    }
}
