//! The tap's programs (`c/tap.c`): new connections for a port are given to another socket, and the application is told
//! who the client is.
//!
//! Everything is held by the value: with it, or with its process, the links and the maps go, and the next connection
//! reaches the application as it always did (include/uapi/linux/bpf.h, BPF_PROG_TYPE_SK_LOOKUP, since 5.9;
//! BPF_CGROUP_INET4_GETPEERNAME, since 5.8; BPF_CGROUP_UDP4_RECVMSG, since 5.2). No packet is touched.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{HashMap, MapData, MapError, SockMap};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, SkLookup};
use aya::{Ebpf, EbpfError, Pod};

/// The compiled `c/tap.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../objects/tap.o");

/// How many ports one [`Steering`] can have: `max_entries` of `doors` in the source.
pub const MAX_DOORS: u32 = 256;

/// What went wrong with the tap's programs.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The programs could not be loaded.
    #[error("cannot load the programs of the tap")]
    Load(#[source] EbpfError),
    /// A program was refused by the kernel, or could not be attached.
    #[error("cannot {what}")]
    Program {
        /// The operation.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// A map could not be changed.
    #[error("cannot {what}")]
    Map {
        /// The operation.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// The object has no such part: it was not made from this source.
    #[error("the tap's programs lack their part {0}")]
    Lacks(&'static str),
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The number that IANA gave it.
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => libc::IPPROTO_TCP as u8,
            Transport::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

/// `struct place` of the source.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    address: [u8; 16],
    port: u16,
    protocol: u8,
    zero: u8,
}

/// `struct door`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Door {
    port: u16,
    protocol: u8,
    zero: u8,
}

/// `struct listeners`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Listeners {
    v4: u32,
    v6: u32,
    open: u32,
}

/// `struct client`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Client {
    address: [u8; 16],
    netns: u64,
    port: u16,
    zero: [u16; 3],
}

/// `struct answer`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Answer {
    address: [u8; 16],
    netns: u64,
    port: u16,
    from: u16,
    zero: u32,
}

// SAFETY: the layouts are those of the C structures, without padding, and any bytes are a value of them.
unsafe impl Pod for Place {}
// SAFETY: as above.
unsafe impl Pod for Door {}
// SAFETY: as above.
unsafe impl Pod for Listeners {}
// SAFETY: as above.
unsafe impl Pod for Client {}
// SAFETY: as above.
unsafe impl Pod for Answer {}

impl Place {
    fn new(transport: Transport, address: SocketAddr) -> Place {
        Place { address: mapped(address.ip()), port: address.port(), protocol: transport.number(), zero: 0 }
    }
}

impl Answer {
    fn new(client: SocketAddr, from: u16, netns: u64) -> Answer {
        Answer { address: mapped(client.ip()), netns, port: client.port(), from, zero: 0 }
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The tap's programs, loaded; at first they lead nothing anywhere.
pub struct Steering {
    programs: Ebpf,
    doors: HashMap<MapData, Door, Listeners>,
    sockets: SockMap<MapData>,
    listening: HashMap<MapData, Place, u32>,
    own: HashMap<MapData, Place, Client>,
    answers: HashMap<MapData, Answer, Place>,
    next: u32,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering").finish_non_exhaustive()
    }
}

impl Steering {
    /// Loads them. Needs CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN).
    pub fn load() -> Result<Steering, TapError> {
        let mut programs = crate::sys::with_memlock(|| Ebpf::load(OBJECT)).map_err(TapError::Load)?;
        let mut take = |name: &'static str| programs.take_map(name).ok_or(TapError::Lacks(name));
        let failed = |source| TapError::Map { what: "open the maps of the tap", source };
        Ok(Steering {
            doors: HashMap::try_from(take("doors")?).map_err(failed)?,
            sockets: SockMap::try_from(take("sockets")?).map_err(failed)?,
            listening: HashMap::try_from(take("listening")?).map_err(failed)?,
            own: HashMap::try_from(take("own")?).map_err(failed)?,
            answers: HashMap::try_from(take("answers")?).map_err(failed)?,
            programs,
            next: 0,
        })
    }

    /// Puts the program into the look-up of this network namespace. From now on doors count.
    pub fn attach(&mut self, netns: impl AsFd) -> Result<(), TapError> {
        let program: &mut SkLookup = self
            .programs
            .program_mut("tap")
            .and_then(|program| program.try_into().ok())
            .ok_or(TapError::Lacks("tap"))?;
        let failed = |what| move |source| TapError::Program { what, source };
        program.load().map_err(failed("load the program that steers connections"))?;
        program
            .attach(netns)
            .map(drop)
            .map_err(failed("attach the program that steers connections to the network namespace"))
    }

    /// Lets processes of this cgroup (of the unified hierarchy), and those below it, see the client as their peer; with
    /// `Udp` as the sender of what they receive, and as who gets their answers.
    pub fn name_clients(&mut self, transport: Transport, cgroup: impl AsFd) -> Result<(), TapError> {
        let programs: &[&'static str] = match transport {
            Transport::Tcp => &["peer4", "peer6"],
            Transport::Udp => &["answer4", "answer6", "receive4", "receive6"],
        };
        for name in programs.iter().copied() {
            let program: &mut CgroupSockAddr = self
                .programs
                .program_mut(name)
                .and_then(|program| program.try_into().ok())
                .ok_or(TapError::Lacks(name))?;
            let failed = |what| move |source| TapError::Program { what, source };
            program.load().map_err(failed("load the program that names clients"))?;
            // A link is one of many in any case, and the kernel refuses to be told so with one.
            program
                .attach(&cgroup, CgroupAttachMode::Single)
                .map(drop)
                .map_err(failed("attach the program that names clients to the cgroup"))?;
        }
        Ok(())
    }

    /// Opens a door: what comes for this port and finds somebody listening is given to one of these sockets.
    pub fn open_door(
        &mut self,
        transport: Transport,
        port: u16,
        v4: &impl AsRawFd,
        v6: Option<&impl AsRawFd>,
    ) -> Result<(), TapError> {
        let failed = |source| TapError::Map { what: "give the tap's socket to the program", source };
        let at = self.next;
        self.sockets.set(at, v4, 0).map_err(failed)?;
        if let Some(v6) = v6 {
            self.sockets.set(at + 1, v6, 0).map_err(failed)?;
        }
        self.next += 2;
        let door = Door { port, protocol: transport.number(), zero: 0 };
        self.doors.insert(door, Listeners { v4: at, v6: at + 1, open: 1 }, 0).map_err(failed)
    }

    /// Leads new connections for this port past the tap, or to it again.
    pub fn set_open(&mut self, transport: Transport, port: u16, open: bool) -> Result<(), TapError> {
        let failed = |source| TapError::Map { what: "lead connections past the tap", source };
        let door = Door { port, protocol: transport.number(), zero: 0 };
        let listeners = self.doors.get(&door, 0).map_err(failed)?;
        self.doors.insert(door, Listeners { open: u32::from(open), ..listeners }, 0).map_err(failed)
    }

    /// Says that somebody listens there, or no longer. The unspecified address stands for all of its family.
    pub fn set_listening(&mut self, transport: Transport, at: SocketAddr, yes: bool) -> Result<(), TapError> {
        let failed = |source| TapError::Map { what: "tell the program who listens", source };
        let place = Place::new(transport, at);
        if yes {
            return self.listening.insert(place, 1, 0).map_err(failed);
        }
        match self.listening.remove(&place) {
            Err(MapError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
            Err(source) => Err(failed(source)),
        }
    }

    /// Says that what comes from this address is the tap's own, on behalf of a client. `netns` is the namespace's cookie.
    pub fn add_own(
        &mut self,
        transport: Transport,
        own: SocketAddr,
        client: SocketAddr,
        netns: u64,
    ) -> Result<(), TapError> {
        let client = Client { address: mapped(client.ip()), netns, port: client.port(), zero: [0; 3] };
        self.own
            .insert(Place::new(transport, own), client, 0)
            .map_err(|source| TapError::Map { what: "note a connection of the tap's own", source })
    }

    /// Says that what an application sends to this client, from this port, is for the tap at that address.
    pub fn add_answer(
        &mut self,
        own: SocketAddr,
        client: SocketAddr,
        from: u16,
        netns: u64,
    ) -> Result<(), TapError> {
        let place = Place::new(Transport::Udp, own);
        self.answers
            .insert(Answer::new(client, from, netns), place, 0)
            .map_err(|source| TapError::Map { what: "note where answers go", source })
    }

    /// Forgets it.
    pub fn remove_answer(&mut self, client: SocketAddr, from: u16, netns: u64) {
        // One that is not there is what is wanted.
        let _ = self.answers.remove(&Answer::new(client, from, netns));
    }

    /// Forgets one of the tap's own.
    pub fn remove_own(&mut self, transport: Transport, own: SocketAddr) {
        // One that is not there is what is wanted.
        let _ = self.own.remove(&Place::new(transport, own));
    }
}

/// An address that stands for all of its family in [`Steering::set_listening`].
pub fn everywhere(v6: bool, port: u16) -> SocketAddr {
    match v6 {
        true => (Ipv6Addr::UNSPECIFIED, port).into(),
        false => (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use snorkel_netns::Netns;

    use super::*;

    #[test]
    fn a_door_takes_what_finds_a_listener_and_leaves_its_own_and_the_refused_alone() {
        let netns = Netns::private().expect("needs root: a network namespace is made");
        netns.run(set_loopback_up).unwrap();
        let inside = netns.try_clone().unwrap();
        netns
            .run(move || {
                let mut steering = Steering::load().unwrap();
                let application = TcpListener::bind("127.0.0.1:8080").unwrap();
                let tap = TcpListener::bind("127.0.0.1:0").unwrap();
                steering.attach(&inside).unwrap();
                steering.open_door(Transport::Tcp, 8080, &tap, None::<&TcpListener>).unwrap();
                // Nobody is said to listen: it goes to the application as ever.
                let past = TcpStream::connect("127.0.0.1:8080").unwrap();
                assert_eq!(application.accept().unwrap().1, past.local_addr().unwrap());
                steering.set_listening(Transport::Tcp, everywhere(false, 8080), true).unwrap();
                let mut led = TcpStream::connect("127.0.0.1:8080").unwrap();
                let (mut taken, from) = tap.accept().unwrap();
                assert_eq!(from, led.local_addr().unwrap());
                assert_eq!(taken.local_addr().unwrap(), "127.0.0.1:8080".parse().unwrap());
                taken.write_all(b"x").unwrap();
                let mut byte = [0];
                led.read_exact(&mut byte).unwrap();
                assert_eq!(&byte, b"x");
                steering.set_open(Transport::Tcp, 8080, false).unwrap();
                let past = TcpStream::connect("127.0.0.1:8080").unwrap();
                assert_eq!(application.accept().unwrap().1, past.local_addr().unwrap());
                drop(steering);
                let past = TcpStream::connect("127.0.0.1:8080").unwrap();
                assert_eq!(application.accept().unwrap().1, past.local_addr().unwrap());
            })
            .unwrap();
    }

    #[test]
    fn datagrams_are_led_and_the_application_speaks_with_the_client_by_its_own_address() {
        let netns = Netns::private().expect("needs root: a network namespace is made");
        netns.run(set_loopback_up).unwrap();
        let table = snorkel_netns::mounts::read("/proc/self/mountinfo".as_ref()).unwrap();
        let mounts = snorkel_netns::mounts::parse(&table);
        let unified = mounts.iter().find(|mount| mount.kind == "cgroup2").expect("needs cgroup2");
        let cgroup = std::fs::File::open(&unified.point).unwrap();
        let inside = netns.try_clone().unwrap();
        let run = move || {
            let bound = |at: &str| {
                let socket = UdpSocket::bind(at).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
                let own = socket.local_addr().unwrap();
                (socket, own)
            };
            let receive = |socket: &UdpSocket| {
                let mut word = [0; 8];
                let (length, from) = socket.recv_from(&mut word).unwrap();
                (word[..length].to_vec(), from)
            };
            let mut steering = Steering::load().unwrap();
            let cookie = snorkel_netns::cookie_here().unwrap();
            let (application, at) = bound("127.0.0.1:8080");
            let (tap, _) = bound("127.0.0.1:0");
            let (client, its) = bound("127.0.0.1:0");
            let (upstream, own) = bound("127.0.0.1:0");
            steering.attach(&inside).unwrap();
            steering.name_clients(Transport::Udp, &cgroup).unwrap();
            steering.open_door(Transport::Udp, 8080, &tap, None::<&UdpSocket>).unwrap();
            steering.set_listening(Transport::Udp, at, true).unwrap();
            client.send_to(b"led", at).unwrap();
            assert_eq!(receive(&tap), (b"led".to_vec(), its));
            steering.add_own(Transport::Udp, own, its, cookie).unwrap();
            steering.add_answer(own, its, 8080, cookie).unwrap();
            upstream.send_to(b"past", at).unwrap();
            assert_eq!(receive(&application), (b"past".to_vec(), its));
            application.send_to(b"answer", its).unwrap();
            assert_eq!(receive(&upstream), (b"answer".to_vec(), at));
            // What another port of the application's network sends to the client is the client's.
            tap.send_to(b"other", its).unwrap();
            assert_eq!(receive(&client).0, b"other");
            drop(steering);
            client.send_to(b"direct", at).unwrap();
            assert_eq!(receive(&application), (b"direct".to_vec(), its));
            application.send_to(b"direct", its).unwrap();
            assert_eq!(receive(&client), (b"direct".to_vec(), at));
        };
        netns.run(run).unwrap();
    }

    /// SIOCSIFFLAGS on a socket of this namespace (netdevice(7)).
    fn set_loopback_up() {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut request = [0u8; 40];
        request[..2].copy_from_slice(b"lo");
        request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
        // SAFETY: the request is a whole `struct ifreq` of 40 bytes, which the kernel reads.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, request.as_mut_ptr()) };
        assert_eq!(done, 0);
    }
}
