//! LXC, and with it LXD and Incus: the monitor of every running container listens on an abstract socket.
//!
//! The socket is `@LXCPATH/NAME/command`, or `@lxc/HASH/command` where that would be too long. A request is C's
//! `struct lxc_cmd_req` (command, length of data, pointer) with the sender's credentials beside it, an answer
//! `struct lxc_cmd_rsp` (result, length of data, pointer); an answer that fits into a pointer stands in its place
//! (lxc, `src/lxc/commands.c` and `commands.h`; the names as `lxc-ls --active` finds them, `lxccontainer.c`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred, sendmsg};
use snorkel_netns::{Pid, Process};

use crate::asking::Sink;
use crate::fault::{Fault, Result, escaped};
use crate::unixsockets::{self, Conversation, is_timeout};
use crate::{Container, Engine, LxcPlaces, State, users};

/// `enum lxc_cmd_t`.
const GET_STATE: i32 = 3;
const GET_INIT_PID: i32 = 4;
const GET_NAME: i32 = 8;
/// What goes and comes is two ints and a pointer.
const MESSAGE: usize = 8 + size_of::<usize>();
/// Names are shorter; a longer answer is no name.
const LONGEST_NAME: usize = 4096;
/// So many monitors of other users are waited for at the same time.
const AT_ONCE: usize = 64;

/// The running containers, by their monitors, and the stopped ones, by their directories.
pub(crate) fn list(places: &LxcPlaces, timeout: Duration, sink: &Sink) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let mut talks = Talks { places, timeout, sink, running: Vec::new(), silent: BTreeMap::new() };
    // Anyone can take such a name and never answer. Whoever may be such a one is asked last, all of them at once: he can
    // keep nobody waiting but those who wait for him.
    let mut strangers = Vec::new();
    for socket in unixsockets::listening(&places.sockets)? {
        let Some(name) = monitor_name(&socket) else { continue };
        match Conversation::open_at_once(&socket, deadline) {
            Ok(begun) if is_trusted(begun.uid) => {
                let uid = begun.uid;
                let answer = ask(begun, &socket, &name, deadline);
                talks.tell(&socket, &name, Some(uid), answer);
            }
            Ok(begun) if !may_keep(begun.uid, &name) => {
                tracing::debug!(uid = begun.uid, socket = %shown(&socket).display(), "no monitor of lxc's");
            }
            Ok(begun) => strangers.push((socket, name, Some(begun))),
            Err(e) if is_timeout(&e) => strangers.push((socket, name, None)),
            Err(e) => talks.tell(&socket, &name, None, Err(e)),
        }
    }
    for some in strangers.chunks_mut(AT_ONCE) {
        std::thread::scope(|scope| {
            let asking: Vec<_> = some
                .iter_mut()
                .map(|(socket, name, begun)| {
                    let uid = begun.as_ref().map(|begun| begun.uid);
                    let begun = begun.take();
                    let (socket, name) = (&*socket, &*name);
                    let asked = std::thread::Builder::new().spawn_scoped(scope, move || {
                        let begun = begun.map_or_else(|| Conversation::open(socket, deadline), Ok)?;
                        ask(begun, socket, name, deadline)
                    });
                    (socket, name, uid, asked)
                })
                .collect();
            for (socket, name, uid, asked) in asking {
                let answer = match asked {
                    Ok(asked) => asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    Err(no_thread) => Err(no_thread),
                };
                talks.tell(socket, name, uid, answer);
            }
        });
    }
    talks.tell_of_silence();
    let running = talks.running;
    for dir in &places.dirs {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(source) => {
                let fault = Fault::Read { path: dir.clone(), source };
                if !fault.is_absence() {
                    sink.warn(fault);
                }
                continue;
            }
        };
        for entry in entries.flatten().filter(is_container) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let runs = |(at, called): &(Option<PathBuf>, String)| {
                *called == name && at.as_ref().is_none_or(|at| at == dir)
            };
            if !running.iter().any(runs) {
                sink.push(Container {
                    names: vec![name.clone()],
                    state: State::Stopped,
                    status: "STOPPED".into(),
                    ..Container::new(Engine::Lxc, name)
                });
            }
        }
    }
    Ok(())
}

/// The container of one monitor again.
pub(crate) fn recheck(socket: &Path, timeout: Duration, sink: &Sink) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let Some(bytes) = socket.as_os_str().as_bytes().strip_prefix(b"@") else { return Ok(()) };
    let Some(name) = monitor_name(bytes) else { return Ok(()) };
    match Conversation::open(bytes, deadline).and_then(|begun| ask(begun, bytes, &name, deadline)) {
        Ok(container) => sink.extend(container),
        Err(e) if is_timeout(&e) => return Err(Fault::TimedOut(timeout)),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(source) => return Err(Fault::Connect { path: socket.to_owned(), source }),
    }
    Ok(())
}

/// What came of the conversations so far.
struct Talks<'a> {
    places: &'a LxcPlaces,
    timeout: Duration,
    sink: &'a Sink,
    /// What runs: by the directory of containers where the socket's name tells it.
    running: Vec<(Option<PathBuf>, String)>,
    /// Who did not answer in time, by user where he is known.
    silent: BTreeMap<Option<u32>, Vec<String>>,
}

impl Talks<'_> {
    fn tell(
        &mut self,
        socket: &[u8],
        name: &MonitorName,
        uid: Option<u32>,
        answer: io::Result<Option<Container>>,
    ) {
        match answer {
            Ok(Some(container)) => {
                let dir = match name {
                    MonitorName::Plain { dir, .. } => Some(dir.clone()),
                    MonitorName::Hashed => None,
                };
                self.running.push((dir, container.id.clone()));
                self.sink.push(container);
            }
            // It ended in the meantime.
            Ok(None) => {}
            Err(source) if is_timeout(&source) => {
                self.silent.entry(uid).or_default().push(shown(socket).to_string_lossy().into_owned());
            }
            Err(source) if source.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) if !unixsockets::still_listens(&self.places.sockets, socket) => {}
            Err(source) => self.sink.warn(Fault::Connect { path: shown(socket), source }),
        }
    }

    /// One line for each user, however many sockets he has.
    fn tell_of_silence(&mut self) {
        for (uid, sockets) in std::mem::take(&mut self.silent) {
            let of = uid.map_or_else(String::new, |uid| format!(" of user {}", users::name_of(uid)));
            let who = match &sockets[..] {
                [only] => format!("the monitor {}{of}", escaped(only)),
                [first, ..] => format!("{} monitors{of}, {} among them,", sockets.len(), escaped(first)),
                [] => continue,
            };
            self.sink.warn(Fault::Silent { who, time: self.timeout });
        }
    }
}

/// A socket as it is shown, with `@` for the byte before an abstract name.
fn shown(socket: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec([b"@", socket].concat()))
}

/// Root and oneself.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == users::own_uid()
}

/// Whether a user can be the keeper of the container that a name tells of: its directory is his. Only root works in the
/// containers of others.
fn may_keep(uid: u32, name: &MonitorName) -> bool {
    users::own_uid() == 0
        && match name {
            MonitorName::Plain { dir, name } => fs::metadata(dir.join(name)).is_ok_and(|m| m.uid() == uid),
            MonitorName::Hashed => true,
        }
}

/// Whether an entry in a directory of containers is one: LXC keeps a directory with a configuration for each, LXD and
/// Incus a link into the storage pool (lxd, `lxd/storage/backend_lxd.go`, ensureInstanceSymlink), which stays when it is
/// stopped and the pool is not mounted.
fn is_container(entry: &fs::DirEntry) -> bool {
    entry.path().join("config").is_file()
        || fs::read_link(entry.path())
            .is_ok_and(|to| to.components().any(|part| part.as_os_str() == "storage-pools"))
}

/// What stands in the name of a monitor's socket.
#[derive(Debug, PartialEq, Eq)]
enum MonitorName {
    /// The directory of containers and the container's name.
    Plain {
        /// `/var/lib/lxc`.
        dir: PathBuf,
        /// The name.
        name: String,
    },
    /// A hash of path and name: the monitor knows the name.
    Hashed,
}

/// Other programs have sockets that end in "command": LXC's lie in a directory of containers.
fn monitor_name(socket: &[u8]) -> Option<MonitorName> {
    let path = socket.strip_suffix(b"/command")?;
    if let Some(hash) = path.strip_prefix(b"lxc/") {
        return (hash.len() == 16 && hash.iter().all(u8::is_ascii_hexdigit)).then_some(MonitorName::Hashed);
    }
    let text = String::from_utf8_lossy(path);
    let path = Path::new(text.as_ref());
    let dir = path.parent()?;
    let known = dir.ends_with("lxc") || dir.ends_with("containers") || dir.ends_with("lxc/containers");
    (path.is_absolute() && known).then_some(())?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(MonitorName::Plain { dir: dir.to_owned(), name })
}

/// Asks one monitor, to which a connection was begun; each further command takes one of its own.
fn ask(
    begun: Conversation,
    socket: &[u8],
    name: &MonitorName,
    deadline: Instant,
) -> io::Result<Option<Container>> {
    let (uid, monitor) = (begun.uid, begun.pid);
    let pid = command(begun, GET_INIT_PID)?;
    let name = match name {
        MonitorName::Plain { name, .. } => name.clone(),
        MonitorName::Hashed => {
            let data = command(Conversation::open(socket, deadline)?, GET_NAME)?.data;
            let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
            String::from_utf8_lossy(&data[..end]).into_owned()
        }
    };
    if name.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the monitor gives no name"));
    }
    let state = command(Conversation::open(socket, deadline)?, GET_STATE)?;
    let (state, status) = state_of(state.value);
    let scope = (uid != 0 && uid != users::own_uid()).then(|| users::name_of(uid));
    let mut container = Container {
        scope,
        names: vec![name.clone()],
        state,
        status: status.into(),
        socket: Some(shown(socket)),
        keeper: monitor,
        ..Container::new(Engine::Lxc, name)
    };
    container.set_pid(i64::from(pid.value));
    // A monitor of another user's could name any process; the first one of its container is its child.
    if container.scope.is_some()
        && let Some(init) = container.pid
        && (monitor.is_none() || parent(init) != monitor)
    {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it says that process {init} is its container's, but that is not its child"),
        ));
    }
    Ok(Some(container))
}

fn parent(pid: Pid) -> Option<Pid> {
    Process::open(pid).ok()?.parent().ok()?
}

/// `enum lxc_state_t` of `src/lxc/state.h`, and the words that lxc-ls prints.
fn state_of(number: i32) -> (State, &'static str) {
    match number {
        0 => (State::Stopped, "STOPPED"),
        1 => (State::Created, "STARTING"),
        2 => (State::Running, "RUNNING"),
        3 => (State::Running, "STOPPING"),
        4 => (State::Running, "ABORTING"),
        5 => (State::Paused, "FREEZING"),
        6 => (State::Paused, "FROZEN"),
        7 => (State::Running, "THAWED"),
        _ => (State::Unknown, "UNKNOWN"),
    }
}

/// What a monitor answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The pointer, as the int that it stands for.
    pub(crate) value: i32,
    /// How many bytes of data follow.
    pub(crate) length: usize,
    /// Those bytes.
    pub(crate) data: Vec<u8>,
}

/// Reads `struct lxc_cmd_rsp`, without the data behind it.
pub(crate) fn parse_reply(bytes: &[u8]) -> io::Result<Reply> {
    let int = |at: usize| -> io::Result<i32> {
        let four: [u8; 4] = bytes
            .get(at..at + 4)
            .and_then(|s| s.try_into().ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(i32::from_ne_bytes(four))
    };
    let (result, length) = (int(0)?, int(4)?);
    if result < 0 {
        return Err(io::Error::from_raw_os_error(result.checked_neg().unwrap_or(libc::EINVAL)));
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|l| *l <= LONGEST_NAME)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer's length makes no sense"))?;
    // The pointer holds an int: on a big-endian machine that is its second half.
    let value = if cfg!(target_endian = "big") && size_of::<usize>() == 8 { int(12)? } else { int(8)? };
    Ok(Reply { value, length, data: Vec::new() })
}

fn command(mut to: Conversation, command: i32) -> io::Result<Reply> {
    let mut request = [0; MESSAGE];
    request[..4].copy_from_slice(&command.to_ne_bytes());
    let credentials = UCred {
        pid: rustix::process::getpid(),
        uid: rustix::process::getuid(),
        gid: rustix::process::getgid(),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmCredentials(credentials)) {
        return Err(io::Error::other("no room for credentials"));
    }
    let sent = sendmsg(to.stream()?, &[IoSlice::new(&request)], &mut beside, SendFlags::NOSIGNAL)?;
    if sent != MESSAGE {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut answer = [0; MESSAGE];
    to.read_exact(&mut answer)?;
    let mut reply = parse_reply(&answer)?;
    reply.data = vec![0; reply.length];
    to.read_exact(&mut reply.data)?;
    Ok(reply)
}

#[cfg(test)]
mod tests;
