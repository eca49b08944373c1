//! The unix sockets of a network namespace, to which abstract names belong.
//!
//! The table is `/proc/PID/net/unix` (proc_net_unix(5)); it shows an abstract name with `@` for its first byte.

/// `__SO_ACCEPTCON` of linux/net.h, as the flags column shows it: a socket that is bound only does not have it.
const LISTENING: u32 = 1 << 16;

/// The abstract names on which somebody listens, without the `@`, each once, in the order of the table.
pub fn listening(text: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        if let Some(name) = parse_line(line)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// `Num: RefCount Protocol Flags Type St Inode @NAME`; the name may hold spaces.
fn parse_line(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    for column in 0..7 {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|b| *b == b' ')?;
        let (field, after) = rest.split_at(end);
        if column == 3 {
            let flags = u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()?;
            if flags & LISTENING == 0 {
                return None;
            }
        }
        rest = after;
    }
    rest.strip_prefix(b" ")?.strip_prefix(b"@").filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_listening_abstract_sockets_are_found() {
        let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000002 00000000 00010000 0001 01 12345 @/var/lib/lxc/my web/command\n\
            ffff: 00000003 00000000 00000000 0001 03 12346 @/var/lib/lxc/my web/command\n\
            ffff: 00000002 00000000 00010000 0001 01   999 /run/x.sock\n\
            ffff: 00000002 00000000 00010000 0001 01 12347 @snorkel-lab/lab\n\
            ffff: 00000002 00000000 00010000 0001 01 12347\n";
        let names = listening(text);
        assert_eq!(names, [b"/var/lib/lxc/my web/command".to_vec(), b"snorkel-lab/lab".to_vec()]);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            listening(&text);
        }
    }
}
