//! Mount tables, read from `/proc/PID/mountinfo` and `/proc/PID/mountstats` (proc_pid_mountinfo(5)).
//!
//! Needed to keep what is mounted below a directory when that directory is covered, and to know whether a file of a
//! container lies on a file system that another process can stall (FUSE, network file systems).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of a mountinfo file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What of the file system is mounted: `/` as a rule, `net:[4026531840]` for a namespace.
    pub root: Vec<u8>,
    /// Where it is mounted, unescaped.
    pub point: PathBuf,
    /// The file system's type, as `ext4` or `fuse.sshfs`.
    pub kind: String,
}

/// The mount table of a process, from its `/proc/PID/mountinfo`.
///
/// The kernel gives about a page of the text at a time (fs/seq_file.c): a larger buffer would only cost memory that is
/// touched for the first time.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    const USUAL: usize = 8 * 1024;
    let mut text = Vec::with_capacity(USUAL);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// Parses a mountinfo file; a line that does not have the form is left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |[root, point, kind]: [&[u8]; 3]| Mount {
        root: unescape(root),
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        kind: String::from_utf8_lossy(kind).into_owned(),
    };
    lines(text).map(mount).collect()
}

/// Whether one of the file systems that a process sees is of a kind that another process or machine can stall; `folder`
/// is its folder in /proc. Where that cannot be known, one may be.
///
/// `mountstats` tells no options, for which the kernel takes most of the time that mountinfo takes. Other users may not
/// read it.
pub fn any_may_stall(folder: &Path) -> bool {
    match read(&folder.join("mountstats")) {
        Ok(text) => any_stalls_by_stats(&text),
        Err(_) => read(&folder.join("mountinfo")).map_or(true, |table| {
            lines(&table).any(|[_, _, kind]| may_stall(&String::from_utf8_lossy(kind)))
        }),
    }
}

/// Whether one of those in a mountstats file is of such a kind.
pub fn any_stalls_by_stats(text: &[u8]) -> bool {
    kinds(text).any(|kind| may_stall(&String::from_utf8_lossy(kind)))
}

/// The types in a mountstats file: `device DEVICE mounted on POINT with fstype TYPE`, or `no device mounted …`
/// (fs/proc_namespace.c, `show_vfsstat`). Points are escaped; a device need not be, so that it may hold anything but the
/// end of a line that counts. What a file system tells of itself stands in lines that begin with a tab.
fn kinds(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEFORE: &[u8] = b" with fstype ";
    text.split(|&b| b == b'\n').filter(|line| !line.starts_with(b"\t")).filter_map(|line| {
        let at = line.windows(BEFORE.len()).rposition(|part| part == BEFORE)?;
        line[at + BEFORE.len()..].split(|&b| b == b' ').next()
    })
}

/// Root, mount point and type of each line, still escaped.
fn lines(text: &[u8]) -> impl Iterator<Item = [&[u8]; 3]> {
    text.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        // Between the options and the type stand any number of tags, ended by a lone hyphen.
        fields.find(|field| *field == b"-")?;
        Some([root, point, fields.next()?])
    })
}

/// Undoes the kernel's octal escapes (`\040` for a space; fs/seq_file.c, `mangle_path`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// Of these mount points those that hang directly below `dir` (not those that hang below another of them), each once, the
/// topmost.
pub(crate) fn directly_below(points: &[PathBuf], dir: &Path) -> Vec<PathBuf> {
    let mut points: Vec<&Path> =
        points.iter().map(PathBuf::as_path).filter(|p| p.starts_with(dir) && *p != dir).collect();
    points.sort();
    points.dedup();
    let mut kept: Vec<PathBuf> = Vec::new();
    for point in points {
        if !kept.last().is_some_and(|above| point.starts_with(above)) {
            kept.push(point.to_owned());
        }
    }
    kept
}

/// Whether a file system's answers come from a process or a machine that may never give one.
pub(crate) fn may_stall(kind: &str) -> bool {
    let of_others =
        ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "afs", "coda", "pvfs2", "lustre", "autofs"];
    (kind.starts_with("fuse") && kind != "fusectl") || of_others.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::process::CommandExt;

    #[test]
    fn a_line_with_tags_and_escapes_is_read() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw\n";
        let mount = &parse(text)[0];
        assert_eq!(mount.point, Path::new("/mnt 2"));
        assert_eq!((mount.root.as_slice(), mount.kind.as_str()), (&b"/mnt1"[..], "ext3"));
    }

    #[test]
    fn what_may_stall_is_seen_in_either_table() {
        let dir = tempfile::tempdir().unwrap();
        assert!(any_may_stall(dir.path()), "what cannot be known may be");
        let is_seen = |file: &str, text: &str| {
            std::fs::write(dir.path().join(file), text).unwrap();
            any_may_stall(dir.path())
        };
        let calm = "36 35 98:0 / / rw - ext3 /dev/root rw\n";
        assert!(!is_seen("mountinfo", calm));
        assert!(is_seen("mountinfo", &format!("{calm}40 36 0:33 / /mnt rw - fuse.sshfs host: rw\n")));
        let calm = "device overlay mounted on / with fstype overlay\n";
        assert!(!is_seen("mountstats", calm));
        assert!(!is_seen("mountstats", &format!("{calm}\tdevice x mounted on / with fstype fuse\n")));
        for line in [
            "device a:/b mounted on /mnt\\040with\\040fstype\\040ext4 with fstype nfs4 statvers=1.1\n\topts:\trw",
            "device //a/b\nc mounted on /mnt with fstype cifs",
            "device  with fstype ext4  mounted on /mnt with fstype ceph",
            "no device mounted on /mnt with fstype fuse.sshfs",
        ] {
            assert!(is_seen("mountstats", &format!("{calm}{line}\n")), "{line}");
        }
    }

    #[test]
    fn both_tables_of_the_kernel_name_the_same_types() {
        // In a table of its own, which nobody changes meanwhile.
        let mut command = std::process::Command::new("cat");
        command.stdin(std::process::Stdio::piped());
        // SAFETY: two system calls.
        unsafe {
            command.pre_exec(|| {
                rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS)?;
                let private =
                    rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                Ok(rustix::mount::mount_change("/", private)?)
            })
        };
        let mut apart = command.spawn().expect("this test needs root");
        let folder = PathBuf::from(format!("/proc/{}", apart.id()));
        let [table, stats] = ["mountinfo", "mountstats"].map(|file| read(&folder.join(file)).unwrap());
        // It ends with its input.
        drop(apart.stdin.take());
        apart.wait().unwrap();
        let mut named: Vec<&[u8]> = lines(&table).map(|[_, _, kind]| kind).collect();
        let mut counted: Vec<&[u8]> = kinds(&stats).collect();
        named.sort_unstable();
        counted.sort_unstable();
        assert!(!named.is_empty());
        assert_eq!(named, counted);
    }

    #[test]
    fn only_the_topmost_mounts_below_a_directory_are_named() {
        let points: Vec<PathBuf> = ["/sys", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup", "/system", "/sys/fs/bpf"]
            .iter()
            .map(PathBuf::from)
            .collect();
        let below = directly_below(&points, Path::new("/sys"));
        assert_eq!(below, [Path::new("/sys/fs/bpf"), Path::new("/sys/fs/cgroup")]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            parse(&bytes);
            kinds(&bytes).count();
        }

        #[test]
        fn what_the_kernel_escapes_comes_back(name in "[ -~\t\n]{0,40}") {
            let escaped: String = name.chars().map(|c| match c {
                ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", c as u32),
                c => c.to_string(),
            }).collect();
            prop_assert_eq!(unescape(escaped.as_bytes()), name.as_bytes());
        }
    }
}
