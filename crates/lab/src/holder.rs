//! The holder: the one process that a lab hangs on, and the switch of the lab.
//!
//! Everything the lab consists of belongs to this process or to a child of it, so the kernel takes it all back when
//! the process ends, however it ends. No file is written, nothing is mounted where the host would see it, no link is
//! made in the host's network namespace. The nodes are forked while the process has one thread; threads come after.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use snorkel_netns::Netns;
use snorkel_netns::os::{self, Disposition, Fork};

use crate::error::Report;
use crate::links::{self, Switch};
use crate::members::Members;
use crate::node::{self, Stage, Word};
use crate::plan::{Plan, SWITCH, ports_of};
use crate::server::{self, dns};
use crate::spec::{Kind, LabSpec};
use crate::wire::{LAB_LABEL, Lab, Node, Outcome, State};
use crate::{Error, Result, control};

/// So many nodes are made at a time: enough to keep the processors busy while one waits for the kernel's locks, and
/// few enough not to keep the machine from everything else.
const WAVE: usize = 32;

/// Becomes the holder of a lab: reads a [`LabSpec`] from its standard input, says on its standard output how it went,
/// and goes on in the background. To be called first thing in `main`, before any thread is started or file opened,
/// when the only argument is [`crate::HOLDER_ARGUMENT`].
pub fn holder_main() -> ! {
    let Err(error) = hold();
    tracing::error!("{}", snorkel_netns::chain(&error));
    os::exit_now(1)
}

fn hold() -> Result<Infallible> {
    let copy = |fd| os::copy_of_standard(fd).map_err(|e| Error::os("keep the pipes of the caller", e));
    let (input, output) = (copy(0)?, copy(1)?);
    os::close_all_but(&[input.as_fd(), output.as_fd()])
        .map_err(|e| Error::os("close inherited descriptors", e))?;
    let mut caller = BufReader::new(File::from(input));
    let tell = |outcome: &Outcome| -> io::Result<()> {
        let mut line = serde_json::to_vec(outcome)?;
        line.push(b'\n');
        File::from(output.try_clone()?).write_all(&line)
    };
    match prepare(&mut caller).and_then(bring_up) {
        Ok((lab, socket, life, tied)) => {
            let members = Arc::new(Members::new(lab.clone()));
            let started = control::serve(socket, Arc::clone(&members)).and_then(|serving| {
                if tied {
                    tie(caller, Arc::clone(&members))?;
                }
                Ok(serving)
            });
            let outcome = match &started {
                Ok(_) => Outcome::Up(lab),
                Err(error) => Outcome::Failed(Report::from(error)),
            };
            if tell(&outcome).is_err() || started.is_err() {
                // Whoever wanted a lab does not know that it is there: it goes again, with this process.
                os::exit_now(1);
            }
            drop(output);
            let _alive = (life, started);
            members.reap()
        }
        Err(error) => {
            let _ = tell(&Outcome::Failed(Report::from(&error)));
            Err(error)
        }
    }
}

/// Reads what is wanted, and leaves the caller's session, terminal and folder.
fn prepare(caller: &mut impl BufRead) -> Result<Plan> {
    let mut line = String::new();
    caller.read_line(&mut line).map_err(|e| Error::os("read the specification of the lab", e))?;
    let spec: LabSpec = serde_json::from_str(&line).map_err(|e| Error::Spec(e.to_string()))?;
    let plan = Plan::new(spec)?;
    match os::fork().map_err(|e| Error::os("fork the holder", e))? {
        Fork::Parent(_) => os::exit_now(0),
        Fork::Child => {}
    }
    rustix::process::setsid().map_err(|e| Error::os("begin a session", e))?;
    std::env::set_current_dir("/").map_err(|e| Error::os("change to /", e))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::os("open /dev/null", e))?;
    for standard in 0..3 {
        os::redirect(null.as_fd(), standard).map_err(|e| Error::os("give up the terminal", e))?;
    }
    // An ignored SIGCHLD, inherited over exec, would reap the nodes behind the holder's back (wait(2)).
    os::on_signal(Signal::CHILD, Disposition::Default);
    os::on_signal(Signal::PIPE, Disposition::Ignore);
    os::unblock_signals();
    node::set_name(SWITCH)?;
    more_descriptors();
    Ok(plan)
}

/// Raises the soft limit of open files to the hard one, where that is allowed; many labs do without.
fn more_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
}

/// Makes the lab. What comes back with it: the socket to serve, the pipe that the nodes' lives hang on, whether the
/// caller's life matters.
fn bring_up(plan: Plan) -> Result<(Lab, OwnedFd, OwnedFd, bool)> {
    // In the namespace of the caller, who is to find it there.
    let socket = control::claim(&plan.spec.name)?;
    os::unshare(UnshareFlags::NEWNET)
        .map_err(|e| Error::needing("CAP_SYS_ADMIN", "make the network namespaces of a lab", e))?;
    let (switch, mut socket_inside) = links::build_switch(&plan)?;
    let mut events = links::watch()?;
    let (life, alive) = pipe()?;
    let mut pids = vec![None; plan.nodes.len()];
    let done = launch(&plan, &life, switch, &mut pids)
        .and_then(|()| links::open_bridge(&plan, switch, &mut socket_inside, &mut events))
        .and_then(|()| name_server(&plan, switch));
    if let Err(error) = done {
        for pid in pids.into_iter().flatten() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        return Err(error);
    }
    let tied = plan.spec.tied;
    Ok((record(&plan, &pids), socket, alive, tied))
}

/// Forks the nodes, those first that have a network namespace of their own, and waits until they are ready.
fn launch(plan: &Plan, life: &OwnedFd, switch: Switch, pids: &mut [Option<Pid>]) -> Result<()> {
    let (sharing, owning): (Vec<usize>, Vec<usize>) = (0..plan.nodes.len())
        .partition(|&index| plan.nodes.get(index).is_some_and(|node| node.owner.is_some()));
    for wave in owning.chunks(WAVE).chain(sharing.chunks(WAVE)) {
        let (words, status) = pipe()?;
        for &index in wave {
            let pid = fork_node(plan, index, life, &status, switch, pids)?;
            if let Some(place) = pids.get_mut(index) {
                *place = Some(pid);
            }
        }
        drop(status);
        hear(plan, words, wave.to_vec())?;
    }
    Ok(())
}

/// Forks one node, as the first process of a new PID namespace.
fn fork_node(
    plan: &Plan,
    index: usize,
    life: &OwnedFd,
    status: &OwnedFd,
    switch: Switch,
    pids: &[Option<Pid>],
) -> Result<Pid> {
    let node = plan.nodes.get(index).ok_or_else(|| Error::Failed(format!("there is no node {index}")))?;
    let shared = match node.owner.and_then(|owner| pids.get(owner).copied().flatten()) {
        Some(pid) => Some(Netns::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))?),
        None => None,
    };
    let status = status.try_clone().map_err(|e| Error::os("duplicate a pipe", e))?;
    let own = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::os("open the holder's PID namespace", e))?;
    // The next child is the first of a new PID namespace; the one after that is not to be its second.
    os::unshare(UnshareFlags::NEWPID)
        .map_err(|e| Error::needing("CAP_SYS_ADMIN", "make the PID namespace of a node", e))?;
    let fork = os::fork().map_err(|e| Error::os("fork a node", e));
    if let Ok(Fork::Child) = fork {
        node::run(Stage { plan, life, status, shared: shared.as_ref(), switch }, index, node);
    }
    let back = move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID));
    match (fork?, back) {
        (Fork::Parent(pid), Ok(())) => Ok(pid),
        (Fork::Parent(pid), Err(e)) => {
            // Nobody else knows of the child yet.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            Err(Error::os("return to the holder's PID namespace", e))
        }
        (Fork::Child, _) => os::exit_now(1),
    }
}

/// Reads what the nodes have to say until none can say anything any more: each has its end of the pipe until it is
/// ready or gone.
fn hear(plan: &Plan, words: OwnedFd, mut waiting: Vec<usize>) -> Result<()> {
    for line in BufReader::new(File::from(words)).lines() {
        let line = line.map_err(|e| Error::os("read from the nodes", e))?;
        let word: Word = serde_json::from_str(&line).map_err(|e| Error::Failed(e.to_string()))?;
        if let Some(failure) = word.failure {
            return Err(failure.into());
        }
        waiting.retain(|&index| index != word.node);
    }
    match waiting.first().and_then(|&index| plan.nodes.get(index)) {
        None => Ok(()),
        Some(node) => Err(Error::Failed(format!("node {} ended before it was ready", node.spec.name))),
    }
}

/// Starts the lab's DNS server on the bridge's addresses.
fn name_server(plan: &Plan, switch: Switch) -> Result<()> {
    let zone = Arc::new(dns::Zone::new(plan));
    let mut addresses = vec![std::net::IpAddr::V4(plan.spec.address)];
    if switch.v6 {
        addresses.push(std::net::IpAddr::V6(plan.spec.address6));
    }
    for address in addresses {
        let socket = server::bind_udp(address, 53)?;
        let listener = server::listen(address, 53)?;
        let of_udp = Arc::clone(&zone);
        server::spawn("dns-udp", move || dns::udp(&of_udp, &socket))?;
        let of_tcp = Arc::clone(&zone);
        server::serve_tcp("dns-tcp", listener, move |stream| dns::tcp(&of_tcp, stream))?;
    }
    Ok(())
}

/// Takes the lab down when the caller, who holds the other end of the pipe, ends.
fn tie(mut caller: BufReader<File>, members: Arc<Members>) -> Result<()> {
    server::spawn("tie", move || {
        // Nothing more is written to the pipe: what comes is the end.
        let _ = caller.read(&mut [0]);
        members.take_down();
        os::exit_now(0)
    })
}

/// The lab as it is told to those who ask.
fn record(plan: &Plan, pids: &[Option<Pid>]) -> Lab {
    let label = || (LAB_LABEL.to_owned(), plan.spec.name.clone());
    let mut nodes: Vec<Node> = plan
        .nodes
        .iter()
        .zip(pids)
        .map(|(node, pid)| {
            let spec = &node.spec;
            let pid = pid.and_then(|pid| snorkel_netns::Pid::new(pid.as_raw_nonzero().get()));
            Node {
                name: spec.name.clone(),
                pid,
                kind: spec.kind,
                state: State::Running,
                labels: spec.labels.clone().into_iter().chain([label()]).collect(),
                ports: ports_of(spec.kind),
                addresses: plan.addresses(node),
                shares: spec.share.clone(),
                nested: pid.filter(|_| spec.nested).and_then(child_of),
            }
        })
        .collect();
    nodes.push(Node {
        name: SWITCH.to_owned(),
        pid: Some(snorkel_netns::Pid::own()),
        kind: Kind::Switch,
        state: State::Running,
        labels: [label()].into(),
        ports: ports_of(Kind::Switch),
        addresses: vec![plan.spec.address.into(), plan.spec.address6.into()],
        shares: None,
        nested: None,
    });
    Lab { name: plan.spec.name.clone(), nodes }
}

/// The one child that a node has, as the holder's `/proc` counts.
fn child_of(parent: snorkel_netns::Pid) -> Option<snorkel_netns::Pid> {
    std::fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // PID (NAME) STATE PPID …, and the name may hold anything (proc_pid_stat(5)).
        let ppid = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?;
        (ppid.parse() == Ok(parent.get())).then(|| snorkel_netns::Pid::new(pid))?
    })
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::os("make a pipe", e))
}
