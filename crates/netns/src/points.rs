//! Where something is mounted, without what it is.
//!
//! A line of mountinfo costs the kernel some ten microseconds, most of it for options that are not asked for here (an overlay
//! names all its layers), and a host with a hundred containers has hundreds of lines. Since Linux 6.8 it tells the mount points
//! alone (listmount(2), statmount(2); linux/mount.h).

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::mounts;

/// `__NR_statmount` and `__NR_listmount` of asm-generic/unistd.h. Where numbers are counted otherwise (MIPS, Alpha), the
/// kernel knows none of these, and mountinfo is read.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
/// `LSMT_ROOT`: everything that can be reached from the root directory.
const ROOT: u64 = u64::MAX;
/// `STATMOUNT_MNT_POINT`.
const POINT: u64 = 0x10;
/// How many mounts are asked for at once.
const MANY: usize = 512;
/// `struct statmount` in words of 64 bits, behind which its texts stand; its second word says which fields are filled.
const FIXED: usize = 64;
const MASK: usize = 1;
/// The word whose upper half in memory is the place of the mount point's text, counted from the end of the fixed part.
const PLACE: usize = 13;
/// Room for the text: a mount whose ancestors were renamed can lie deeper than any path that can be typed (PATH_MAX).
const TEXT: usize = 4096;

/// `struct mnt_id_req` in its first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    parameter: u64,
}

impl Request {
    fn new(mount: u64, parameter: u64) -> Request {
        Request { size: size_of::<Request>() as u32, spare: 0, mount, parameter }
    }
}

/// The mount points of the calling thread's mount namespace, as it sees them from its root directory.
pub(crate) fn here() -> io::Result<Vec<PathBuf>> {
    // The kernel is older, a seccomp filter does not know these calls, a path is longer than there is room for.
    told(&mut [0; MANY]).or_else(|_| {
        let table = mounts::read(Path::new("/proc/thread-self/mountinfo"))?;
        Ok(mounts::parse(&table).into_iter().map(|mount| mount.point).collect())
    })
}

/// Asks for as many mounts at once as there is place for.
fn told(numbers: &mut [u64]) -> io::Result<Vec<PathBuf>> {
    let mut points = Vec::new();
    let mut last = 0;
    loop {
        let request = Request::new(ROOT, last);
        // SAFETY: the kernel reads the request and writes at most as many numbers as there is place for.
        let count =
            unsafe { libc::syscall(LISTMOUNT, &raw const request, numbers.as_mut_ptr(), numbers.len(), 0) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for &number in numbers.iter().take(count) {
            match point(number) {
                Ok(found) => points.push(found),
                // It has been unmounted meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
            last = number;
        }
        if count < numbers.len() {
            return Ok(points);
        }
    }
}

/// The mount point of one mount.
fn point(number: u64) -> io::Result<PathBuf> {
    let request = Request::new(number, POINT);
    let mut answer = [0u64; FIXED + TEXT / 8];
    // SAFETY: the kernel reads the request and writes at most as many bytes as the answer has.
    let done =
        unsafe { libc::syscall(STATMOUNT, &raw const request, answer.as_mut_ptr(), size_of_val(&answer), 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let [_, _, _, _, at @ ..] = answer[PLACE].to_ne_bytes();
    let place = u32::from_ne_bytes(at) as usize;
    // SAFETY: words are bytes, and these are as many.
    let text = unsafe { std::slice::from_raw_parts(answer[FIXED..].as_ptr().cast::<u8>(), TEXT) };
    let text = text.get(place..).and_then(|text| CStr::from_bytes_until_nul(text).ok());
    match text {
        Some(text) if answer[MASK] & POINT != 0 => Ok(PathBuf::from(OsStr::from_bytes(text.to_bytes()))),
        _ => Err(io::Error::other("statmount(2) told no mount point")),
    }
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    use rustix::thread::UnshareFlags;

    use super::*;

    fn sorted(mut points: Vec<PathBuf>) -> Vec<PathBuf> {
        points.sort();
        points
    }

    fn by_table() -> Vec<PathBuf> {
        let table = mounts::read(Path::new("/proc/thread-self/mountinfo")).unwrap();
        sorted(mounts::parse(&table).into_iter().map(|mount| mount.point).collect())
    }

    /// Runs this on a thread with mounts of its own, and a tmpfs on /mnt.
    fn apart(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(move || {
            // SAFETY: nothing of this thread's depends on where things are mounted.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.expect("needs root");
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            tmpfs(Path::new("/mnt"));
            test();
        })
        .join()
        .unwrap();
    }

    fn tmpfs(at: &Path) {
        std::fs::create_dir_all(at).unwrap();
        mount("none", at, "tmpfs", MountFlags::empty(), None).unwrap();
    }

    #[test]
    fn they_are_those_of_mountinfo_however_many_are_asked_for_at_once() {
        apart(|| {
            tmpfs(Path::new("/mnt/a\n b\\c"));
            for many in [2, 3, MANY] {
                match told(&mut vec![0; many]) {
                    Ok(points) => assert_eq!(sorted(points), by_table()),
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
                        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
                        let numbers: Vec<u32> =
                            release.split('.').filter_map(|number| number.parse().ok()).collect();
                        assert!(numbers[..] < [6, 8][..], "Linux {release} has the calls");
                    }
                }
            }
            assert_eq!(sorted(here().unwrap()), by_table());
        });
    }

    #[test]
    fn a_mount_deeper_than_a_path_can_be_keeps_nobody_from_the_others() {
        apart(|| {
            tmpfs(Path::new("/mnt/s/m"));
            let mut deep = PathBuf::from("/mnt");
            // Two halves, each of which can be typed.
            let half: PathBuf = (0..15).map(|_| "d".repeat(200)).collect();
            deep.push(&half);
            std::fs::create_dir_all(&deep).unwrap();
            std::fs::rename("/mnt/s", deep.join("s")).unwrap();
            std::fs::create_dir_all(Path::new("/mnt/e").join(&half)).unwrap();
            let first = half.iter().next().unwrap();
            std::fs::rename(Path::new("/mnt").join(first), Path::new("/mnt/e").join(&half).join(first))
                .unwrap();
            let found = sorted(here().unwrap());
            assert_eq!(found, by_table());
            assert!(found.iter().any(|point| point.as_os_str().len() > 4096));
        });
    }
}
