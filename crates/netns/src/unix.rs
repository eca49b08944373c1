//! The unix sockets of a network namespace, to which abstract names belong.
//!
//! The table is `/proc/PID/net/unix` (proc_net_unix(5)); it shows an abstract name with `@` for its first byte.

/// `__SO_ACCEPTCON` of linux/net.h, as the flags column shows it: a socket that is bound only does not have it.
const LISTENING: u32 = 1 << 16;
/// `SOCK_DGRAM`, as the type column shows it.
const DATAGRAM: u32 = 2;

/// The abstract names on which somebody listens, without the `@`, each once, in the order of the table.
pub fn listening(text: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for socket in sockets(text).filter(|socket| socket.flags & LISTENING != 0) {
        if !names.iter().any(|known| known == socket.name) {
            names.push(socket.name.to_owned());
        }
    }
    names
}

/// The abstract names to which datagrams can be sent, without the `@`, in the order of the table.
pub fn receiving(text: &[u8]) -> Vec<Vec<u8>> {
    let datagram = sockets(text).filter(|socket| socket.kind == DATAGRAM);
    datagram.map(|socket| socket.name.to_owned()).collect()
}

/// A line of the table.
struct Socket<'a> {
    flags: u32,
    kind: u32,
    /// Without the `@`.
    name: &'a [u8],
}

/// Those with an abstract name.
fn sockets(text: &[u8]) -> impl Iterator<Item = Socket<'_>> {
    text.split(|b| *b == b'\n').filter_map(parse_line)
}

/// `Num: RefCount Protocol Flags Type St Inode @NAME`; the name may hold spaces.
fn parse_line(line: &[u8]) -> Option<Socket<'_>> {
    let mut rest = line;
    let (mut flags, mut kind) = (0, 0);
    for column in 0..7 {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|b| *b == b' ')?;
        let (field, after) = rest.split_at(end);
        let number = || u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok();
        match column {
            3 => flags = number()?,
            4 => kind = number()?,
            _ => {}
        }
        rest = after;
    }
    let name = rest.strip_prefix(b" ")?.strip_prefix(b"@").filter(|name| !name.is_empty())?;
    Some(Socket { flags, kind, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn abstract_sockets_are_found_by_what_they_are_for() {
        let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000002 00000000 00010000 0001 01 12345 @/var/lib/lxc/my web/command\n\
            ffff: 00000003 00000000 00000000 0001 03 12346 @/var/lib/lxc/my web/command\n\
            ffff: 00000002 00000000 00010000 0001 01   999 /run/x.sock\n\
            ffff: 00000002 00000000 00010000 0001 01 12347 @snorkel-lab/lab\n\
            ffff: 00000002 00000000 00010000 0001 01 12347\n\
            ffff: 00000002 00000000 00000000 0002 01 12348 @of datagrams\n\
            ffff: 00000002 00000000 00000000 0002 01 12349 /run/systemd/notify\n\
            ffff: 00000002 00000000 00000000 0002 01 12350\n\
            ffff: 00000002 00000000 00000000 0005 01 12351 @of packets\n";
        let names = listening(text);
        assert_eq!(names, [b"/var/lib/lxc/my web/command".to_vec(), b"snorkel-lab/lab".to_vec()]);
        assert_eq!(receiving(text), [b"of datagrams".to_vec()]);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            listening(&text);
            receiving(&text);
        }
    }
}
