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

/// `__NR_statmount` and `__NR_listmount`: the same on every architecture that Linux has had since numbers are shared.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
/// `LSMT_ROOT`: everything that can be reached from the root directory.
const ROOT: u64 = u64::MAX;
/// `STATMOUNT_MNT_POINT`.
const POINT: u64 = 0x10;
/// How many mounts are asked for at once.
const MANY: usize = 512;
/// `struct statmount`, behind which its texts stand.
const FIXED: usize = 512;
/// Where in it the place of the mount point's text stands, counted from the end of the fixed part.
const PLACE_OF_POINT: usize = 108;
/// Where in it stands which of its fields are filled.
const MASK: usize = 8;

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
    match told() {
        Ok(points) => Ok(points),
        // The kernel is older, or somebody's seccomp filter does not know these calls.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            let table = mounts::read(Path::new("/proc/thread-self/mountinfo"))?;
            Ok(mounts::parse(&table).into_iter().map(|mount| mount.point).collect())
        }
        Err(error) => Err(error),
    }
}

fn told() -> io::Result<Vec<PathBuf>> {
    let mut points = Vec::new();
    let mut numbers = [0; MANY];
    let mut last = 0;
    loop {
        let request = Request::new(ROOT, last);
        // SAFETY: the kernel reads the request and writes at most as many numbers as there is place for.
        let count =
            unsafe { libc::syscall(LISTMOUNT, &raw const request, numbers.as_mut_ptr(), numbers.len(), 0) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for &number in &numbers[..count.min(MANY)] {
            match point(number) {
                Ok(found) => points.extend(found),
                // It has been unmounted meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
            last = number;
        }
        if count < MANY {
            return Ok(points);
        }
    }
}

/// The mount point of one mount; none if it cannot be reached.
fn point(number: u64) -> io::Result<Option<PathBuf>> {
    let request = Request::new(number, POINT);
    // The text is no longer than a path can be (PATH_MAX); of words, so that it is aligned as the kernel's struct.
    let mut answer = [0u64; (FIXED + 4096) / 8];
    // SAFETY: the kernel reads the request and writes at most as many bytes as the answer has.
    let done =
        unsafe { libc::syscall(STATMOUNT, &raw const request, answer.as_mut_ptr(), size_of_val(&answer), 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let filled = answer[MASK / 8];
    let place = u32::from_ne_bytes([
        bytes[PLACE_OF_POINT],
        bytes[PLACE_OF_POINT + 1],
        bytes[PLACE_OF_POINT + 2],
        bytes[PLACE_OF_POINT + 3],
    ]);
    let text = bytes.get(FIXED + place as usize..).and_then(|text| CStr::from_bytes_until_nul(text).ok());
    Ok(text.filter(|_| filled & POINT != 0).map(|text| PathBuf::from(OsStr::from_bytes(text.to_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_mountinfo() {
        let sorted = |mut points: Vec<PathBuf>| {
            points.sort();
            points
        };
        // Other tests mount nothing in this namespace, and the host's own tables change seldom, but may.
        let table = || {
            let table = mounts::read(Path::new("/proc/thread-self/mountinfo")).unwrap();
            sorted(mounts::parse(&table).into_iter().map(|mount| mount.point).collect())
        };
        let (before, found, after) = (table(), sorted(here().unwrap()), table());
        assert!(found == before || found == after, "{found:?}\n{before:?}");
        assert!(!found.is_empty());
    }
}
