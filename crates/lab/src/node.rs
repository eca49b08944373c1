//! One node: from the fork to the loop in which it waits for the holder's end.
//!
//! The order matters. Everything is closed that is not the node's own; then the node ties its life to the holder's,
//! twice: by the parent-death signal (PR_SET_PDEATHSIG(2const)), which the kernel sends when the *thread* that forked
//! ends, and by the read end of a pipe whose only write end the holder has. A holder that was gone before the signal
//! was asked for shows in the pipe. The node is PID 1 of its PID namespace, so its descendants go with it
//! (pid_namespaces(7)).

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use snorkel_netns::Netns;
use snorkel_netns::os::{self, Disposition, Fork};
use snorkel_rtnl::Socket;

use crate::error::Report;
use crate::links::{self, Switch};
use crate::plan::{Plan, PlannedNode};
use crate::server::{self, echo, http};
use crate::spec::Kind;
use crate::{Error, Result, image};

/// What a node gets from the holder.
pub(crate) struct Stage<'a> {
    pub(crate) plan: &'a Plan,
    /// Ends when the holder does.
    pub(crate) life: &'a OwnedFd,
    /// Where the node says that it is ready, or why not.
    pub(crate) status: OwnedFd,
    /// The namespace that the node is to share.
    pub(crate) shared: Option<&'a Netns>,
    pub(crate) switch: Switch,
}

/// What a node says to the holder, once, on one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Word {
    /// The node's place in the plan.
    pub(crate) node: usize,
    /// `None` if it is ready.
    pub(crate) failure: Option<Report>,
}

impl Word {
    /// Writes the line in one piece (pipe(7): up to PIPE_BUF bytes are not torn apart).
    fn send(mut self, to: BorrowedFd<'_>) {
        // PIPE_BUF is 4096, and a character takes up to six bytes in JSON.
        if let Some(Report::Failed(text)) = &mut self.failure
            && let Some((end, _)) = text.char_indices().nth(600)
        {
            text.truncate(end);
        }
        if let Ok(mut line) = serde_json::to_vec(&self) {
            line.push(b'\n');
            // A holder that does not listen any more is gone, and the node is about to notice.
            let _ = rustix::io::write(to, &line);
        }
    }
}

/// Becomes the node. Called in the forked child, in the switch's network namespace; never returns.
pub(crate) fn run(stage: Stage<'_>, index: usize, node: &PlannedNode) -> ! {
    let ready = std::panic::catch_unwind(AssertUnwindSafe(|| {
        // The threads of the servers come last: nothing is forked after them.
        become_node(&stage, node)?.into_iter().try_for_each(|start| start())
    }))
    .unwrap_or_else(|_| Err(Error::Failed("a bug: the node panicked".to_owned())));
    let failure = ready.err().map(|error| Report::of_node(&node.spec.name, &error));
    let failed = failure.is_some();
    Word { node: index, failure }.send(stage.status.as_fd());
    if failed {
        os::exit_now(1);
    }
    // The holder counts the nodes that still may say something.
    drop(stage.status);
    wait_for_the_end(stage.life.as_fd())
}

/// Waits until the holder is gone.
fn wait_for_the_end(life: BorrowedFd<'_>) -> ! {
    let mut byte = [0];
    // Nothing is ever written to the pipe: whatever comes is the end, or an interruption.
    while let Err(rustix::io::Errno::INTR) = rustix::io::read(life, &mut byte) {}
    os::exit_now(0)
}

type Start = Box<dyn FnOnce() -> Result<()>>;

/// Everything up to bound sockets; what comes back starts the threads that serve them.
fn become_node(stage: &Stage<'_>, node: &PlannedNode) -> Result<Vec<Start>> {
    let mut keep = vec![stage.life.as_fd(), stage.status.as_fd()];
    keep.extend(stage.shared.map(AsFd::as_fd));
    os::close_all_but(&keep).map_err(|e| Error::os("close the holder's descriptors", e))?;
    tie_to_the_holder(stage.life.as_fd())?;
    set_name(&node.spec.name)?;
    rustix::process::setsid().map_err(|e| Error::os("begin a session", e))?;
    // PID 1 of a namespace is given the orphans: they are not left as zombies.
    os::on_signal(Signal::CHILD, Disposition::Ignore);

    let mut spaces = UnshareFlags::NEWUTS | UnshareFlags::NEWIPC | UnshareFlags::NEWNS;
    let mut outer = None;
    match stage.shared {
        Some(shared) => move_into_link_name_space(shared.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::os("join the shared network namespace", e))?,
        None => {
            // Made before the namespace is left: it goes on speaking for the switch.
            outer = Some(Socket::open()?);
            spaces |= UnshareFlags::NEWNET;
        }
    }
    os::unshare(spaces).map_err(|e| Error::needing("CAP_SYS_ADMIN", "make the namespaces of a node", e))?;
    rustix::system::sethostname(node.spec.name.as_bytes()).map_err(|e| Error::os("set the host name", e))?;
    image::enter(stage.plan, node)?;
    if let Some(mut outer) = outer {
        let own = Netns::current()?;
        links::plug(stage.plan, node, stage.switch, &mut outer, &own)?;
    }
    if node.spec.nested {
        nest(stage, node)?;
    }
    bind(node, stage.switch)
}

/// The node dies with the holder from here on.
fn tie_to_the_holder(life: BorrowedFd<'_>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Error::os("ask for the parent-death signal", e))?;
    let mut fds = [PollFd::new(&life, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(0) => Ok(()),
        // The holder ended before the signal was asked for.
        _ => os::exit_now(1),
    }
}

/// What ps(1) shows: `lab:web`.
pub(crate) fn set_name(name: &str) -> Result<()> {
    // The kernel cuts it to 15 bytes; a name has no zero in it (it was checked).
    let name = std::ffi::CString::new(format!("lab:{name}")).unwrap_or_default();
    rustix::thread::set_name(&name).map_err(|e| Error::os("set the process's name", e))
}

/// Binds what a node of this kind listens on.
fn bind(node: &PlannedNode, switch: Switch) -> Result<Vec<Start>> {
    let any = server::everywhere(switch.v6);
    let name = node.spec.name.clone();
    let mut starts: Vec<Start> = Vec::new();
    match node.spec.kind {
        Kind::Web => {
            let listener = server::listen(any, 80)?;
            starts.push(Box::new(move || {
                server::serve_tcp("http", listener, move |stream| http::serve(&name, stream))
            }));
        }
        Kind::Db => {
            for port in [7, 5432] {
                let listener = server::listen(any, port)?;
                starts.push(Box::new(move || server::serve_tcp("echo", listener, echo::tcp)));
            }
            let socket = server::bind_udp(any, 7)?;
            starts.push(Box::new(move || server::spawn("echo-udp", move || echo::udp(&socket))));
        }
        Kind::Idle | Kind::Switch => {}
    }
    Ok(starts)
}

/// Forks a process into a further namespace, with a veth pair between it and this one, and waits until that is up.
fn nest(stage: &Stage<'_>, node: &PlannedNode) -> Result<()> {
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::os("make a pipe", e))?;
    match os::fork().map_err(|e| Error::os("fork the nested node", e))? {
        Fork::Parent(_) => {
            drop(write);
            let mut said = String::new();
            std::fs::File::from(read)
                .read_to_string(&mut said)
                .map_err(|e| Error::os("read from the nested node", e))?;
            match said.as_str() {
                "ready" => Ok(()),
                "" => Err(Error::Failed("the nested node ended before it was ready".to_owned())),
                why => Err(Error::Failed(format!("the nested node: {why}"))),
            }
        }
        Fork::Child => {
            let made = std::panic::catch_unwind(AssertUnwindSafe(|| {
                set_name(&format!("{}+", node.spec.name))?;
                let mut outer = Socket::open()?;
                os::unshare(UnshareFlags::NEWNET)
                    .map_err(|e| Error::os("make the nested network namespace", e))?;
                links::plug_nested(&mut outer, &Netns::current()?)
            }))
            .unwrap_or_else(|_| Err(Error::Failed("a bug: the nested node panicked".to_owned())));
            let said =
                made.as_ref().map_or_else(|error| snorkel_netns::chain(error), |()| "ready".to_owned());
            let sent = std::fs::File::from(write).write_all(said.as_bytes());
            if made.is_err() || sent.is_err() {
                os::exit_now(1);
            }
            // The node's status pipe and sockets are not this process's to hold open.
            if os::close_all_but(&[stage.life.as_fd()]).is_err() {
                os::exit_now(1);
            }
            wait_for_the_end(stage.life.as_fd())
        }
    }
}
