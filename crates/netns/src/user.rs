//! The host's users, read from /etc/passwd and /etc/group (passwd(5), group(5)).
//!
//! getpwnam(3) is out of reach: in a static binary it would load the host's name service modules. Users that only a
//! directory service knows are meant by number.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::{Error, Result};

/// Whom a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name, if /etc/passwd has one.
    pub name: Option<String>,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory; `/` if unknown.
    pub home: PathBuf,
    /// Login shell; `/bin/sh` if unknown.
    pub shell: PathBuf,
}

impl User {
    /// Looks up `NAME` or `UID`, with `:GROUP` or `:GID` behind it or not; `None` if the host has no such user or group.
    pub fn find(spec: &str) -> Result<Option<User>> {
        let passwd = read("/etc/passwd")?;
        let group = read("/etc/group")?;
        Ok(find(spec, &passwd, &group))
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::os(format!("read {path}"), e))
}

fn find(spec: &str, passwd: &[u8], group: &[u8]) -> Option<User> {
    let (who, wanted_gid) = match spec.split_once(':') {
        Some((who, wanted)) => (who, Some(wanted.parse().ok().or_else(|| gid_of(wanted, group))?)),
        None => (spec, None),
    };
    let number: Option<u32> = who.parse().ok();
    let entry = passwd.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
        let (uid, gid) = (decimal(uid)?, decimal(gid)?);
        (name == who.as_bytes() || number == Some(uid)).then(|| User {
            name: Some(String::from_utf8_lossy(name).into_owned()),
            uid,
            gid,
            groups: vec![gid],
            home: path_or(home, "/"),
            shell: path_or(shell, "/bin/sh"),
        })
    });
    let mut user = match (entry, number) {
        (Some(user), _) => user,
        // root's group for a number that no line explains would be a gift; its own number is what docker does not
        // grant either, but what a fresh user of that number would have.
        (None, Some(uid)) => {
            User { name: None, uid, gid: uid, groups: vec![uid], home: "/".into(), shell: "/bin/sh".into() }
        }
        (None, None) => return None,
    };
    if let Some(gid) = wanted_gid {
        user.gid = gid;
        user.groups = vec![gid];
    }
    if let Some(name) = &user.name {
        for gid in groups_of(name, group) {
            if !user.groups.contains(&gid) {
                user.groups.push(gid);
            }
        }
    }
    Some(user)
}

fn gid_of(name: &str, group: &[u8]) -> Option<u32> {
    group.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        (fields.next()? == name.as_bytes()).then(|| decimal(fields.nth(1)?))?
    })
}

fn groups_of(name: &str, group: &[u8]) -> Vec<u32> {
    let lines = group.split(|&b| b == b'\n');
    lines
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
            let [_, _, gid, members] = fields[..] else { return None };
            members.split(|&b| b == b',').any(|member| member == name.as_bytes()).then(|| decimal(gid))?
        })
        .collect()
}

fn decimal(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn path_or(field: &[u8], default: &str) -> PathBuf {
    if field.is_empty() { default.into() } else { PathBuf::from(OsString::from_vec(field.to_vec())) }
}

/// The names of all users with their ids, in the order of /etc/passwd.
pub fn all() -> Vec<(String, u32)> {
    all_in(&fs::read("/etc/passwd").unwrap_or_default())
}

fn all_in(passwd: &[u8]) -> Vec<(String, u32)> {
    let lines = passwd.split(|&b| b == b'\n');
    lines
        .filter_map(|line| {
            let mut fields = line.split(|&b| b == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((String::from_utf8_lossy(name).into_owned(), decimal(fields.nth(1)?)?))
        })
        .collect()
}

/// Becomes this user for good, keeping these capabilities (numbers of linux/capability.h) through the exec as ambient
/// ones (capabilities(7), "Ambient").
pub(crate) fn become_user(user: &User, keep: &[u32]) -> Result<()> {
    let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
    let what = |step: &str| format!("{step} of user {name}");
    let os = |step: &str| Error::os(what(step), std::io::Error::last_os_error());
    // SAFETY: these calls change the credentials of the calling process alone and read `groups`, which outlives them.
    // The raw system calls would act on one thread; libc's wrappers act on the whole process.
    unsafe {
        if !keep.is_empty() && libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 {
            return Err(os("keep the capabilities"));
        }
        if libc::setgroups(user.groups.len(), user.groups.as_ptr()) != 0 {
            return Err(os("take the groups"));
        }
        if libc::setresgid(user.gid, user.gid, user.gid) != 0 {
            return Err(os("take the group"));
        }
        if libc::setresuid(user.uid, user.uid, user.uid) != 0 {
            return Err(os("take the identity"));
        }
    }
    if !keep.is_empty() {
        set_ambient(keep).map_err(|e| Error::os(what("raise the capabilities"), e))?;
    }
    Ok(())
}

/// Makes `keep` the permitted, effective, inheritable and ambient set (capset(2), `PR_CAP_AMBIENT_RAISE` of prctl(2)).
fn set_ambient(keep: &[u32]) -> std::io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
    const VERSION_3: u32 = 0x2008_0522;
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    for capability in keep {
        let bit = 1u32 << (capability % 32);
        let word = &mut data[usize::from(*capability >= 32)];
        word.effective |= bit;
        word.permitted |= bit;
        word.inheritable |= bit;
    }
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: header and data have the layout of capset(2), version 3, and outlive the call.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    for capability in keep {
        let raise = libc::PR_CAP_AMBIENT_RAISE;
        // SAFETY: takes numbers only.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, *capability as libc::c_ulong, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A string for the kernel; an inner NUL is the caller's mistake and named as such.
pub(crate) fn c_string(what: &str, value: OsString) -> Result<CString> {
    CString::new(value.into_vec()).map_err(|e| Error::os(format!("pass on {what}"), std::io::Error::from(e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:,,,:/home/ann:/usr/bin/zsh\nbroken:x\n";
    const GROUP: &[u8] = b"root:x:0:\nwireshark:x:120:bob,ann\nann:x:1000:\nannex:x:7:annex\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_all_groups() {
        let ann = find("ann", PASSWD, GROUP).unwrap();
        assert_eq!((ann.uid, ann.gid, ann.groups.as_slice()), (1000, 1000, &[1000, 120][..]));
        assert_eq!(ann.home, PathBuf::from("/home/ann"));
        assert_eq!(find("1000", PASSWD, GROUP), Some(ann));
    }

    #[test]
    fn a_number_without_a_name_is_a_user_too_but_a_name_without_a_line_is_not() {
        assert_eq!(find("4242:7", PASSWD, GROUP).unwrap().groups, [7]);
        assert_eq!(find("nobody-here", PASSWD, GROUP), None);
        assert_eq!(find("broken", PASSWD, GROUP), None);
    }

    #[test]
    fn a_group_is_meant_by_its_name_or_its_number() {
        let ann = find("ann:wireshark", PASSWD, GROUP).unwrap();
        assert_eq!((ann.uid, ann.gid, ann.groups.as_slice()), (1000, 120, &[120][..]));
        assert_eq!(find("1000:120", PASSWD, GROUP), Some(ann));
        assert_eq!(find("ann:no-such-group", PASSWD, GROUP), None);
    }

    #[test]
    fn lines_without_a_name_or_a_number_are_nobody() {
        let lines =
            b"root:x:0:0::/root:/bin/sh\nbroken\n::5:\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:no:1:::\n";
        assert_eq!(all_in(lines), [("root".to_owned(), 0), ("ann".to_owned(), 1000)]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(spec: String, passwd: Vec<u8>, group: Vec<u8>) {
            find(&spec, &passwd, &group);
            all_in(&passwd);
        }
    }
}
