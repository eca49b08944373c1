//! How names resolve for the command: the three files of /etc that decide it.
//!
//! glibc asks `/etc/nsswitch.conf` which modules resolve a host name (nsswitch.conf(5)). The modules are the host's,
//! and some of them leave the network namespace by a unix socket: `resolve` (systemd-resolved), `mdns*` (Avahi),
//! `sss`, `ldap`, `mymachines`. Only `files` and `dns` read what a container would read.

use std::net::IpAddr;
use std::path::Path;

use super::cover::EtcFile;
use super::guest::{Guest, Refused};

/// A resolv.conf of more than this many bytes is not one.
const RESOLV_CONF_LIMIT: u64 = 64 * 1024;
/// A hosts file can be a long list of blocked names.
const HOSTS_LIMIT: u64 = 8 * 1024 * 1024;
const NSSWITCH_LIMIT: u64 = 64 * 1024;

/// Where the command's resolver configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// The container's own resolv.conf, hosts and search list.
    Container,
    /// The file that the engine keeps for the container, on the host's side.
    Engine,
    /// The host's /etc as it is.
    Host,
    /// These name servers; search list and hosts file stay the container's.
    Servers(Vec<IpAddr>),
}

/// The content of the files that decide how names resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `/etc/resolv.conf`, resolv.conf(5).
    pub resolv_conf: Vec<u8>,
    /// `/etc/hosts`, hosts(5).
    pub hosts: Vec<u8>,
    /// `/etc/nsswitch.conf`: the host's, with another line for hosts.
    pub nsswitch: Vec<u8>,
}

/// A file of the container that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its path inside the container.
    pub path: &'static str,
    /// The reason.
    pub why: Refused,
}

impl Names {
    /// Reads the container's files; what cannot be taken is left empty and reported. Without a resolv.conf no name server
    /// is asked, unless one is chosen later.
    pub fn of_container(guest: &Guest) -> (Names, Vec<Rejected>) {
        let mut rejected = Vec::new();
        let mut read = |path: &'static str, limit| match guest.read(Path::new(path), limit) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                rejected.push(Rejected { path, why });
                None
            }
        };
        let resolv_conf = read("etc/resolv.conf", RESOLV_CONF_LIMIT);
        let hosts = read("etc/hosts", HOSTS_LIMIT).unwrap_or_else(|| LOCALHOST.to_vec());
        let order = read("etc/nsswitch.conf", NSSWITCH_LIMIT);
        let names = match resolv_conf {
            Some(resolv_conf) => Names { resolv_conf, hosts, nsswitch: nsswitch_of_host(order.as_deref()) },
            None => Names { hosts, ..Names::that_ask_nobody() },
        };
        // Without an nsswitch.conf glibc and musl have their defaults, and without a hosts file localhost is known
        // all the same: nothing is missing then.
        rejected.retain(|r| r.why != Refused::Missing || r.path == "etc/resolv.conf");
        (names, rejected)
    }

    /// What is left where the container's files cannot be read at all: nobody is asked, localhost is known.
    pub fn without_container() -> (Names, Vec<Rejected>) {
        (Names::that_ask_nobody(), Vec::new())
    }

    /// For want of a resolv.conf. glibc takes an empty one for a name server at 127.0.0.1 (resolv.conf(5)), which in the
    /// host's network is the host's own: only the order of services keeps it from asking there.
    fn that_ask_nobody() -> Names {
        let host = std::fs::read("/etc/nsswitch.conf").unwrap_or_default();
        let nsswitch = nsswitch(&host, Some(b"hosts: files\n"));
        Names { resolv_conf: Vec::new(), hosts: LOCALHOST.to_vec(), nsswitch }
    }

    /// With the resolv.conf that lies at this path of the host, read with the same care: the container may be able to
    /// write to it. If an `owner` (a UID) is given, whose engine named the path, it must be that user's file.
    pub fn with_resolv_conf_of(mut self, path: &Path, owner: Option<u32>) -> Result<Names, Refused> {
        self.resolv_conf = Guest::of_host(owner)?.read(path, RESOLV_CONF_LIMIT)?;
        Ok(self.that_asks_servers())
    }

    /// Who names servers wants them to be asked, whatever the container's nsswitch.conf says.
    fn that_asks_servers(mut self) -> Names {
        if !asks_servers(&self.nsswitch) {
            self.nsswitch = nsswitch(&self.nsswitch, None);
        }
        self
    }

    /// As files below /etc.
    pub fn into_files(self) -> Vec<EtcFile> {
        let file = |path: &str, content| EtcFile { path: path.into(), content };
        vec![
            file("resolv.conf", self.resolv_conf),
            file("hosts", self.hosts),
            file("nsswitch.conf", self.nsswitch),
        ]
    }

    /// Puts these name servers in the place of those in resolv.conf; search list and options stay.
    #[must_use]
    pub fn with_servers(mut self, servers: &[IpAddr]) -> Names {
        self.resolv_conf = with_servers(&self.resolv_conf, servers);
        self.that_asks_servers()
    }
}

const LOCALHOST: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

/// The host's nsswitch.conf with a line for hosts that keeps to the container's view: its own, as far as its services
/// read what a container would read.
pub fn nsswitch_of_host(container: Option<&[u8]>) -> Vec<u8> {
    let host = std::fs::read("/etc/nsswitch.conf").unwrap_or_default();
    nsswitch(&host, container)
}

fn nsswitch(host: &[u8], container: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(host.len() + 16);
    for line in
        host.split(|&b| b == b'\n').filter(|line| database(line) != Some(b"hosts") && !line.is_empty())
    {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(b"hosts: ");
    out.extend_from_slice(&container.and_then(hosts_services).unwrap_or_else(|| b"files dns".to_vec()));
    out.push(b'\n');
    out
}

/// The database that a line of nsswitch.conf is for.
fn database(line: &[u8]) -> Option<&[u8]> {
    let at = line.iter().position(|&b| b == b':')?;
    Some(line[..at].trim_ascii())
}

/// What the line for hosts says of `files` and `dns`, with what is to be done after each (nsswitch.conf(5), `[…]`);
/// nothing if it says nothing of them. systemd-resolved (`resolve`) asks name servers, as `dns` does.
fn hosts_services(nsswitch: &[u8]) -> Option<Vec<u8>> {
    let line = nsswitch.split(|&b| b == b'\n').find(|line| database(line) == Some(b"hosts"))?;
    let line = line.split(|&b| b == b'#').next()?;
    let mut rest = &line[line.iter().position(|&b| b == b':')? + 1..];
    let has_dns = words(rest).any(|word| word == b"dns");
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut is_kept = false;
    loop {
        rest = rest.trim_ascii_start();
        let end = match rest.first() {
            None => break,
            Some(b'[') => rest.iter().position(|&b| b == b']').map_or(rest.len(), |at| at + 1),
            Some(_) => rest.iter().position(|b| b.is_ascii_whitespace() || *b == b'[').unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        if word.starts_with(b"[") {
            // An action belongs to the service before it.
            if is_kept && word.ends_with(b"]") && word.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
                kept.push(word);
            }
            continue;
        }
        let service: &[u8] = if word == b"resolve" && !has_dns { b"dns" } else { word };
        is_kept = matches!(service, b"files" | b"dns") && !kept.contains(&service);
        if is_kept {
            kept.push(service);
        }
    }
    (!kept.is_empty()).then(|| kept.join(&b' '))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Whether name servers are asked at all.
fn asks_servers(nsswitch: &[u8]) -> bool {
    let line = nsswitch.split(|&b| b == b'\n').find(|line| database(line) == Some(b"hosts"));
    line.is_some_and(|line| words(line).any(|word| word == b"dns"))
}

fn with_servers(resolv_conf: &[u8], servers: &[IpAddr]) -> Vec<u8> {
    let mut out = Vec::new();
    for server in servers {
        out.extend_from_slice(format!("nameserver {server}\n").as_bytes());
    }
    for line in resolv_conf.split(|&b| b == b'\n') {
        if !line.is_empty()
            && line.split(u8::is_ascii_whitespace).find(|w| !w.is_empty()) != Some(b"nameserver")
        {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_hosts_line_of_the_host_gives_way_to_one_that_leaks_nothing() {
        let host = b"passwd: files sss\nhosts: files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns\n";
        assert_eq!(text(nsswitch(host, None)), "passwd: files sss\nhosts: files dns\n");
    }

    #[test]
    fn the_containers_order_of_files_and_dns_is_kept() {
        assert_eq!(text(nsswitch(b"", Some(b"hosts:\tdns  files\n"))), "hosts: dns files\n");
        assert_eq!(text(nsswitch(b"", Some(b"hosts: files mdns dns\n"))), "hosts: files dns\n");
        assert_eq!(text(nsswitch(b"", Some(b"# hosts: dns files\n"))), "hosts: files dns\n");
    }

    #[test]
    fn a_container_that_knows_only_files_or_only_servers_stays_so() {
        let hosts = |line: &str| text(nsswitch(b"", Some(line.as_bytes())));
        assert_eq!(hosts("hosts: files # and no dns\n"), "hosts: files\n");
        assert_eq!(hosts("hosts:dns\n"), "hosts: dns\n");
        assert_eq!(hosts("hosts: sss ldap\n"), "hosts: files dns\n");
        // systemd-resolved asks servers.
        assert_eq!(
            hosts("hosts: files myhostname resolve [!UNAVAIL=return]\n"),
            "hosts: files dns [!UNAVAIL=return]\n"
        );
        assert_eq!(hosts("hosts: resolve [!UNAVAIL=return] files dns\n"), "hosts: files dns\n");
    }

    #[test]
    fn what_is_to_be_done_after_a_service_goes_with_it() {
        let hosts = |line: &str| text(nsswitch(b"", Some(line.as_bytes())));
        assert_eq!(
            hosts(
                "hosts: files [SUCCESS=merge NOTFOUND = continue] mdns4 [NOTFOUND=return] dns[!UNAVAIL=return]\n"
            ),
            "hosts: files [SUCCESS=merge NOTFOUND = continue] dns [!UNAVAIL=return]\n"
        );
        assert_eq!(hosts("hosts: files [SUCCESS\x1b=merge] dns [x\n"), "hosts: files dns\n");
    }

    #[test]
    fn who_names_servers_has_them_asked() {
        let (names, _) = Names::without_container();
        // An empty resolv.conf would be a name server at 127.0.0.1.
        assert!(!asks_servers(&names.nsswitch));
        let names = names.with_servers(&["10.0.0.53".parse().unwrap()]);
        assert!(asks_servers(&names.nsswitch));
        assert_eq!(text(names.resolv_conf), "nameserver 10.0.0.53\n");
    }

    #[test]
    fn other_servers_leave_the_search_list_alone() {
        let conf =
            b"# by docker\nnameserver 127.0.0.11\n  nameserver\t::1\nsearch a.example\noptions ndots:0\n";
        let servers = ["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()];
        assert_eq!(
            text(with_servers(conf, &servers)),
            "nameserver 10.0.0.53\nnameserver fd00::53\n# by docker\nsearch a.example\noptions ndots:0\n"
        );
    }

    proptest! {
        #[test]
        fn no_name_server_of_the_container_survives(conf: Vec<u8>) {
            let out = with_servers(&conf, &[]);
            let survived = out.split(|&b| b == b'\n').any(|line| line.trim_ascii().starts_with(b"nameserver "));
            prop_assert!(!survived);
        }

        #[test]
        fn whatever_a_container_says_only_files_and_dns_are_asked(said in "([a-z]{1,9}|files|dns|resolve|[\\[\\]!= \t#])*") {
            let out = text(nsswitch(b"", Some(format!("hosts:{said}\n").as_bytes())));
            let mut services = out.strip_prefix("hosts: ").unwrap().trim_end().to_owned();
            while let Some((before, rest)) = services.split_once('[') {
                let (_, after) = rest.split_once(']').unwrap();
                services = format!("{before}{after}");
            }
            prop_assert!(services.split_whitespace().all(|word| word == "files" || word == "dns"), "{}", out);
        }

        #[test]
        fn there_is_always_exactly_one_line_for_hosts(host: Vec<u8>, container: Vec<u8>) {
            let out = nsswitch(&host, Some(&container));
            prop_assert_eq!(out.split(|&b| b == b'\n').filter(|l| database(l) == Some(b"hosts")).count(), 1);
        }
    }
}
