//! Waiting until something happens in a directory, or until it comes to exist: inotify(7).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An eye on one directory, open from the moment it is made: what happens before anyone waits is not missed.
pub(crate) struct DirWatch {
    queue: AsyncFd<OwnedFd>,
    /// Whether it is the directory that was asked for, or one above it because that does not exist.
    pub(crate) exact: bool,
}

impl DirWatch {
    /// Watches a directory, or the nearest one above it that exists.
    pub(crate) fn open(dir: &Path) -> std::io::Result<DirWatch> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let wanted = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut at: PathBuf = dir.to_owned();
        // There, but not for this user to look into.
        let mut barred: Vec<PathBuf> = Vec::new();
        loop {
            match inotify::add_watch(&fd, &at, wanted) {
                Ok(_) => {
                    let came = |above: &Path| above.is_dir() && !barred.iter().any(|barred| barred == above);
                    if !dir.ancestors().take_while(|above| *above != at).any(came) {
                        break;
                    }
                    // It came to exist between the two looks.
                    at = dir.to_owned();
                }
                Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)) => {
                    if error == Errno::ACCESS {
                        barred.push(at.clone());
                    }
                    match at.parent() {
                        Some(above) => at = above.to_owned(),
                        None => return Err(error.into()),
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        // SAFETY: an OwnedFd is one open descriptor as long as it lives, and it lives in the AsyncFd.
        let queue = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(DirWatch { queue, exact: at == dir })
    }

    /// Comes back when something has happened since the last time.
    pub(crate) async fn changed(&mut self) -> std::io::Result<()> {
        loop {
            let mut ready = self.queue.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(ready.get_inner(), &mut buffer);
            let mut any = false;
            let mut gone = false;
            loop {
                match events.next() {
                    Ok(event) => {
                        any = true;
                        gone |= event.events().contains(ReadFlags::IGNORED);
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
                // The reader refills itself without end under a flood; one buffer is news enough.
                if events.is_buffer_empty() {
                    break;
                }
            }
            if any {
                self.exact &= !gone;
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::process::Uid;
    use rustix::thread::set_thread_res_uid;

    use super::*;

    #[test]
    fn a_directory_that_one_may_not_look_into_is_watched_from_above() {
        let above = tempfile::tempdir().unwrap();
        fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let barred = above.path().join("barred");
        fs::create_dir(&barred).unwrap();
        fs::set_permissions(&barred, fs::Permissions::from_mode(0o700)).unwrap();
        let (tell, told) = mpsc::channel();
        // Identity is a thread's own here: the system call, not the C library's, which changes the whole process.
        std::thread::spawn(move || {
            let nobody = Uid::from_raw(65534);
            set_thread_res_uid(nobody, nobody, nobody).expect("this test needs root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            let exact = runtime.block_on(async { DirWatch::open(&barred).map(|watch| watch.exact) });
            // The test may have given up.
            let _ = tell.send(exact.unwrap());
        });
        let exact =
            told.recv_timeout(Duration::from_secs(30)).expect("it looks for a place to watch without end");
        assert!(!exact);
    }
}
