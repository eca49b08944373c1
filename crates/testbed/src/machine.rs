//! The machine: namespaces that play the host, held by a supervisor (`supervise.sh`, `furnish.sh`).

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::daemon::Daemon;
use crate::resolver::Resolver;
use crate::{Containerd, Cri, Docker, Lxc, Lxd, Nspawn, Podman, User, cgroup, succeed};

/// A private machine: network, mount, UTS and cgroup namespaces of its own, the real pid namespace.
///
/// Private are /run, /etc (a copy), /var/lib, /var/log, /sys and its cgroups. Programs, /proc, /dev, /tmp and the home
/// directories are the real machine's. Its links are a loopback with 127.0.0.1, ::1 and 192.0.2.53, and what engines
/// and tests add; no route leads out of it. Its resolv.conf has `nameserver 192.0.2.53`, which answers
/// `resolver.testbed.invalid` with that very address and denies all other names, and `search testbed.invalid`.
#[derive(Debug)]
pub struct Machine {
    supervisor: Mutex<Option<(Child, ChildStdin, Resolver)>>,
    /// The process whose namespaces are the machine's: a PID in the real /proc, and its pidfd.
    holder: (i32, OwnedFd),
    cgroups: Vec<PathBuf>,
    directory: PathBuf,
    pub(crate) containerd: OnceLock<Daemon>,
    pub(crate) docker: OnceLock<Daemon>,
    pub(crate) podman: OnceLock<Daemon>,
    lxc_bridge: OnceLock<()>,
    pub(crate) lxd: OnceLock<Daemon>,
    pub(crate) dbus: OnceLock<Daemon>,
    pub(crate) machined: OnceLock<Daemon>,
    /// The engines of users, and containers that are daemons themselves, by name.
    pub(crate) others: Mutex<Vec<(String, Daemon)>>,
    /// Locked while a user is made.
    pub(crate) users: Mutex<()>,
    /// The images that were loaded, as (engine, image); locked while one is loaded.
    pub(crate) loaded: Mutex<Vec<(String, crate::Image)>>,
}

impl Machine {
    /// Makes a machine with nothing but a loopback link. Needs root.
    #[track_caller]
    pub fn new() -> Machine {
        if !rustix::process::geteuid().is_root() {
            panic!("this test makes namespaces and starts container engines: run it as root");
        }
        let directory = tempfile::Builder::new().prefix("snorkel-testbed-").tempdir();
        // From here on the supervisor removes it, also if this process is killed.
        let directory =
            directory.unwrap_or_else(|e| panic!("cannot make a directory for the machine: {e}")).keep();
        // A user of the machine has to get at his home and at the socket where his daemon reports, and at nothing else.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))
            .unwrap_or_else(|e| panic!("cannot open {} to users: {e}", directory.display()));
        let name =
            directory.file_name().unwrap_or(OsStr::new("snorkel-testbed")).to_string_lossy().into_owned();
        let cgroups = cgroup::directories(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), &name);
        for part in ["sys", "etc", "etc.own/containers", "lib", "log", "images"] {
            make_directory(&directory.join(part));
        }
        write(&directory.join("furnish.sh"), include_str!("furnish.sh"));
        write(&directory.join("etc.own/containers/containers.conf"), include_str!("containers.conf"));

        let log = directory.join("log/supervisor");
        let supervisor = Command::new("setsid")
            .args(["sh", "-c", include_str!("supervise.sh"), "supervise"])
            .arg(&directory)
            .args(&cgroups)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(create(&log))
            .spawn();
        let mut supervisor =
            supervisor.unwrap_or_else(|e| panic!("cannot start the machine's supervisor: {e}"));
        let (Some(stdin), Some(stdout)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
            unreachable!("both were asked for as pipes");
        };
        let mut line = String::new();
        // An end of file, and so an empty line, means that the holder failed.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let holder =
            line.trim().strip_prefix("ready ").and_then(|pid| pid.parse().ok()).and_then(open_process);
        let Some(holder) = holder else {
            let why = read(&log);
            drop(stdin);
            let _ = supervisor.wait();
            panic!("cannot make a machine of namespaces:\n{why}");
        };
        let resolver = Resolver::start(holder.1.as_fd());
        Machine {
            supervisor: Mutex::new(Some((supervisor, stdin, resolver))),
            holder,
            cgroups,
            directory,
            containerd: OnceLock::new(),
            docker: OnceLock::new(),
            podman: OnceLock::new(),
            lxc_bridge: OnceLock::new(),
            lxd: OnceLock::new(),
            dbus: OnceLock::new(),
            machined: OnceLock::new(),
            others: Mutex::default(),
            users: Mutex::default(),
            loaded: Mutex::default(),
        }
    }

    /// The one machine that the tests of a process share. It is taken away when the process exits.
    pub fn shared() -> &'static Machine {
        static SHARED: OnceLock<Machine> = OnceLock::new();
        extern "C" fn at_exit() {
            if let Some(machine) = SHARED.get() {
                machine.take_away();
                let engines = [&machine.docker, &machine.containerd, &machine.podman, &machine.lxd];
                let buses = [&machine.dbus, &machine.machined];
                engines.into_iter().chain(buses).filter_map(OnceLock::get).for_each(Daemon::reap);
                let others = machine.others.lock().unwrap_or_else(PoisonError::into_inner);
                others.iter().for_each(|(_, daemon)| daemon.reap());
            }
        }
        SHARED.get_or_init(|| {
            let machine = Machine::new();
            // SAFETY: `at_exit` is a plain function that lives as long as the program and does not unwind.
            if unsafe { libc::atexit(at_exit) } != 0 {
                panic!("cannot ask for the machine's removal at exit");
            }
            machine
        })
    }

    /// A command that will run in this machine, with / as its working directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_in("/", program)
    }

    /// A command that will run in this machine, with `directory` (in the machine) as its working directory.
    ///
    /// [`Command::current_dir`] has no effect on it: entering the machine comes later.
    pub fn command_in(&self, directory: impl AsRef<Path>, program: impl AsRef<OsStr>) -> Command {
        let directory = CString::new(directory.as_ref().as_os_str().as_bytes())
            .unwrap_or_else(|e| panic!("not a directory's name: {e}"));
        let holder = clone_fd(&self.holder.1);
        let cgroups: Vec<File> =
            self.cgroups.iter().map(|c| open_for_writing(&c.join("machine/cgroup.procs"))).collect();
        let mut command = Command::new(program);
        command
            .env("PATH", path_with_sbin())
            .env("DOCKER_HOST", "unix:///run/docker.sock")
            .env("DOCKER_CONFIG", "/run/docker-cli")
            .env_remove("CONTAINER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("XDG_RUNTIME_DIR");
        let enter = move || {
            for procs in &cgroups {
                rustix::io::write(procs, b"0")?;
            }
            let all = ThreadNameSpaceType::NETWORK
                | ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::CONTROL_GROUP;
            move_into_thread_name_spaces(holder.as_fd(), all)?;
            rustix::process::chdir(directory.as_c_str())?;
            Ok(())
        };
        // SAFETY: between fork and exec `enter` makes system calls only; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a program with arguments in this machine and gives what it printed. Panics if it fails.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> String {
        succeed(self.command(program).args(arguments))
    }

    /// The PID, in the real /proc, of a process that does nothing but hold this machine's namespaces:
    /// `/proc/PID/ns/net` is the machine's "host" network, `/proc/PID/root` its files.
    pub fn pid(&self) -> i32 {
        self.holder.0
    }

    /// A file of the machine as the test process can open it: `/run/docker.sock` for instance.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// A directory for this machine's files, outside and inside of it under the same name.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The PIDs of all processes that run in this machine now, containers included.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut folders = self.cgroups.clone();
        while let Some(folder) = folders.pop() {
            // A cgroup may go while it is looked at; its processes went before.
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(procs.lines().filter_map(|pid| pid.parse::<i32>().ok()));
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            folders.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The cgroup directories that the machine's processes live in, one for each hierarchy.
    pub fn cgroups(&self) -> &[PathBuf] {
        &self.cgroups
    }

    /// `ip netns add NAME`: a network namespace at `/run/netns/NAME`.
    #[track_caller]
    pub fn netns_add(&self, name: &str) {
        self.run("ip", ["netns", "add", name]);
    }

    /// The machine's containerd; started if it is not yet.
    #[track_caller]
    pub fn containerd(&self) -> Containerd<'_> {
        Containerd::of(self)
    }

    /// The Container Runtime Interface of the machine's containerd, as a kubelet uses it.
    #[track_caller]
    pub fn cri(&self) -> Cri<'_> {
        Cri::of(self)
    }

    /// The machine's Docker, which uses the machine's containerd; both are started if they are not yet.
    #[track_caller]
    pub fn docker(&self) -> Docker<'_> {
        Docker::of(self)
    }

    /// The machine's Podman and its API service; started if it is not yet.
    #[track_caller]
    pub fn podman(&self) -> Podman<'_> {
        Podman::of(self)
    }

    /// The machine's LXC.
    #[track_caller]
    pub fn lxc(&self) -> Lxc<'_> {
        Lxc::of(self, &self.lxc_bridge)
    }

    /// The machine's LXD; started if it is not yet.
    #[track_caller]
    pub fn lxd(&self) -> Lxd<'_> {
        Lxd::of(self)
    }

    /// The machine's systemd-nspawn.
    #[track_caller]
    pub fn nspawn(&self) -> Nspawn<'_> {
        Nspawn::of(self)
    }

    /// A user of this machine; made if there is none of that name.
    #[track_caller]
    pub fn user(&self, name: &str) -> User<'_> {
        User::of(self, name)
    }

    /// The PID of the daemon of that name; it is started by `command` if it is not yet.
    #[track_caller]
    pub(crate) fn other(&self, name: &str, command: impl FnOnce() -> Command) -> u32 {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, daemon)) = others.iter().find(|(started, _)| started == name) {
            return daemon.pid();
        }
        let daemon = Daemon::start_command(self, name, command());
        let pid = daemon.pid();
        others.push((name.to_owned(), daemon));
        pid
    }

    /// Waits for the end of a daemon that [`Machine::other`] started and that ends by itself.
    pub(crate) fn forget(&self, name: &str) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|(started, daemon)| {
            let meant = started == name;
            if meant {
                daemon.wait();
            }
            !meant
        });
    }

    /// Kills all that runs in the machine and removes it; returns when that is done.
    fn take_away(&self) {
        let taken = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut supervisor, stdin, resolver)) = taken {
            drop(resolver);
            drop(stdin);
            let _ = supervisor.wait();
        }
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// The caller's PATH and the folders of the system's own tools, which root's login shell has and cargo may not.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

fn open_process(pid: i32) -> Option<(i32, OwnedFd)> {
    let opened = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid)?,
        rustix::process::PidfdFlags::empty(),
    );
    Some((pid, opened.ok()?))
}

#[track_caller]
fn clone_fd(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().unwrap_or_else(|e| panic!("cannot duplicate a descriptor: {e}"))
}

#[track_caller]
fn open_for_writing(path: &Path) -> File {
    File::options()
        .write(true)
        .open(path)
        .unwrap_or_else(|e| panic!("cannot open {} for writing: {e}", path.display()))
}

#[track_caller]
pub(crate) fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()))
}

#[track_caller]
pub(crate) fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()))
}

#[track_caller]
pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::write(path, contents).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}

#[track_caller]
pub(crate) fn make_directory(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
}

/// A file as text; what cannot be read is an empty one, for the caller's own message says what failed.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|mut f| f.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
