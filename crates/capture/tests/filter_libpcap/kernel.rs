//! The kernel takes the programs, and says what our own interpreter says: first with bytes alone, over a pair of
//! sockets, then with frames on a link, whose VLAN tags the kernel takes out and whose direction it knows.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use snorkel_capture::filter::{Filter, Instruction, Metadata, Mode};

use crate::{Sample, expressions, live_samples, ours, packets, private};

fn check(result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    result
}

/// Sets an option of a socket.
fn set<T>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the size are those of a value that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (value as *const T).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn attach(socket: &impl AsRawFd, program: &[Instruction]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// The corpus as it is for the kernel.
fn programs() -> Vec<(&'static str, Filter)> {
    let filters = expressions::expressions().into_iter().filter_map(|text| {
        let filter = ours(text, 1, Mode::Live, false).ok()?;
        filter.kernel_program().is_ok().then_some((text, filter))
    });
    filters.collect()
}

#[test]
fn the_kernel_agrees_on_the_bytes() {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    receiver.set_nonblocking(true).unwrap();
    // No link is known of what comes out of a socket; what the kernel says then is of no use.
    let programs: Vec<_> = programs().into_iter().filter(|(text, _)| !text.contains("ifindex")).collect();
    let samples = live_samples();
    let mut matches = 0;
    for (text, filter) in &programs {
        attach(&receiver, filter.kernel_program().unwrap()).unwrap_or_else(|error| panic!("{text}: {error}"));
        for Sample { data, .. } in samples.iter().step_by(17) {
            sender.send(data).unwrap();
            let theirs = receiver.recv(&mut [0; 2048]).is_ok();
            let metadata = Metadata { packet_type: Some(0), ..Metadata::default() };
            let our = filter.run(data, data.len() as u32, &metadata) != 0;
            assert_eq!(our, theirs, "{text}: {data:02x?}\n{}", filter.disassembly());
            matches += usize::from(our);
        }
    }
    println!("{} programs, {matches} matches", programs.len());
    assert!(programs.len() > 700 && matches > 10_000);
}

/// A packet socket bound to a link.
fn packet_socket(link: &str) -> OwnedFd {
    let name = std::ffi::CString::new(link).unwrap();
    // SAFETY: a name that ends with a zero; then plain numbers; then an address of the size that is given.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        assert_ne!(index, 0, "{link}");
        let fd = check(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0));
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size));
        socket
    }
}

/// A frame as the kernel hands it out, with what it knows of it.
struct Seen {
    data: Vec<u8>,
    metadata: Metadata,
}

/// The next frame; none if there is none yet and `wait` is not set.
fn receive(socket: &OwnedFd, wait: bool) -> Option<Seen> {
    let mut data = vec![0u8; 4096];
    let mut control = [0u64; 16];
    // SAFETY: all buffers outlive the call and have the sizes that are given; the headers of the control data are read
    // as the kernel's macros do.
    unsafe {
        let mut address: libc::sockaddr_ll = mem::zeroed();
        let mut vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags);
        if length < 0 {
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            return None;
        }
        data.truncate(length as usize);
        let mut metadata = Metadata {
            packet_type: Some(u32::from(address.sll_pkttype)),
            link_index: Some(address.sll_ifindex as u32),
            vlan_tag: None,
        };
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null() && (*header).cmsg_type == libc::PACKET_AUXDATA {
            let auxiliary: libc::tpacket_auxdata =
                libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
            if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                metadata.vlan_tag = Some(auxiliary.tp_vlan_tci);
            }
        }
        Some(Seen { data, metadata })
    }
}

fn send(socket: &OwnedFd, data: &[u8]) {
    // SAFETY: the pointer and the length are those of the bytes.
    let sent = unsafe { libc::send(socket.as_raw_fd(), data.as_ptr().cast(), data.len(), 0) };
    assert_eq!(sent, data.len() as isize, "{}", io::Error::last_os_error());
}

/// A frame that marks the end of what was sent before it.
const MARK: [u8; 20] = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5, b'm', b'a', b'r', b'k', 0, 0];

#[test]
fn the_kernel_agrees_on_frames_of_a_link() {
    private::network(|| {
        private::ip("link add near type veth peer name far");
        // Without addresses of their own the links send nothing by themselves.
        private::ip("link set near addrgenmode none");
        private::ip("link set far addrgenmode none");
        private::ip("link set near up");
        private::ip("link set far up");
        let near = packet_socket("near");
        // What the far end receives and what the near end sends.
        for link in ["far", "near"] {
            let all = packet_socket(link);
            set(&all, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32).unwrap();
            let filtered = packet_socket(link);
            let mut tagged = 0;
            let texts = [
                "vlan",
                "vlan 5",
                "vlan 100",
                "not vlan",
                "vlan and ip",
                "vlan 5 and tcp port 80",
                "vlan 100 and vlan 5",
                "vlan and vlan",
                "vlan or ip",
                "ip or vlan",
                "ip or vlan and ip",
                "vlan 5 or vlan 100",
                "vlan and arp",
                "vlan and ip6 and udp port 53",
                "vlan and mpls and ip",
                "vlan and pppoes and tcp",
                "vlan and llc",
                "vlan and stp",
                "inbound",
                "outbound",
                "outbound and vlan",
                "not inbound and ip",
                "ifindex 1",
                "ifindex 2",
                "ifindex 3",
                "less 60",
                "len > 100",
                "tcp",
                "ether[12:2] = 0x8100",
                "ip",
                "ip6",
                "geneve",
                "vlan and ip[9] = 6",
                "vlan and tcp[0:2] = 80",
                "port 80 or 53",
                "ip[ip[0] & 0xf] = 64",
                "ip[-1] != 1",
                "ether[ether[13] - 6] = 2",
                "broadcast",
                "multicast",
            ];
            for text in texts {
                let Ok(filter) = ours(text, 1, Mode::Live, false) else { continue };
                attach(&filtered, filter.kernel_program().unwrap()).unwrap_or_else(|e| panic!("{text}: {e}"));
                while receive(&filtered, false).is_some() {}
                for packet in packets::ethernet_packets().iter().filter(|packet| packet.len() >= 14) {
                    send(&near, packet);
                    send(&near, &MARK);
                    // Once the mark has come, the frame before it has gone through all sockets.
                    let mut expected = Vec::new();
                    loop {
                        let seen = receive(&all, true).unwrap();
                        if seen.data == MARK {
                            break;
                        }
                        tagged += usize::from(seen.metadata.vlan_tag.is_some());
                        if filter.run(&seen.data, seen.data.len() as u32, &seen.metadata) != 0 {
                            expected.push(seen.data);
                        }
                    }
                    let mut received = Vec::new();
                    while let Some(seen) = receive(&filtered, false) {
                        if seen.data != MARK {
                            received.push(seen.data);
                        }
                    }
                    assert_eq!(expected, received, "{text} on {link}\n{}", filter.disassembly());
                }
            }
            println!("{link}: {tagged} frames with tags beside them");
            assert!(link == "near" || tagged > 1000);
        }
    });
}
