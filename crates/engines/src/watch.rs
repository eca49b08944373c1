//! Following what happens, without asking again and again: the engines' event streams, the table of mounts, the
//! directory of machines, and what labs tell. LXC tells nobody; its links do (rtnetlink), which the floor above follows.
//!
//! An engine that goes away is tried again when something happens in its socket's directory. A short series of
//! attempts follows each such event, and the end of a stream: events alone would not do. inotify(7) tells that bind(2)
//! made the socket, but nothing tells of listen(2), before which it refuses connections; and where systemd holds the
//! socket, the directory does not change at all while the engine starts anew.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::fault::{Fault, Result};
use crate::{Endpoint, Engine, Query, containerd, cri, docker, grpc, http, mounts, podman};

mod directory;
mod labs;

use directory::DirWatch;

/// How long after an event in its directory a socket is tried again; after the last the next event is waited for.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// A stream that lasted so long was a real one: when it ends the series begins anew.
const LASTING: Duration = Duration::from_secs(10);
const MOUNTS: &str = "/proc/self/mountinfo";

type OnChange = Arc<dyn Fn(Engine) + Send + Sync>;

/// Follows the engines until it is dropped.
#[must_use = "it stops when it is dropped"]
#[derive(Debug)]
pub struct Watch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that followed the engines panicked");
        }
    }
}

/// Calls `on_change` whenever an engine's containers may have changed: once as soon as it is being followed, so that
/// nothing between the caller's last look and then is missed, and from then on at every event.
///
/// It is called on a thread of the watch's own, and must not block it for long.
pub fn watch(query: &Query, on_change: impl Fn(Engine) + Send + Sync + 'static) -> Watch {
    let (stop, stopped) = oneshot::channel();
    let query = query.clone();
    let on_change: OnChange = Arc::new(on_change);
    let thread = std::thread::Builder::new().name("snorkel-watch".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(async {
                    start(&query, &on_change);
                    // Only its end is of interest: nothing is ever sent.
                    let _ = stopped.await;
                });
                runtime.shutdown_background();
            }
            Err(error) => tracing::warn!(%error, "cannot follow the engines"),
        }
    });
    match thread {
        Ok(thread) => Watch { stop: Some(stop), thread: Some(thread) },
        Err(error) => {
            tracing::warn!(%error, "cannot follow the engines");
            Watch { stop: None, thread: None }
        }
    }
}

fn start(query: &Query, on_change: &OnChange) {
    let wanted = |engine| query.engines.as_ref().is_none_or(|engines| engines.contains(&engine));
    let from = &query.endpoints;
    let streams = [
        (Engine::Docker, &from.docker),
        (Engine::Podman, &from.podman),
        (Engine::Containerd, &from.containerd),
        (Engine::Cri, &from.cri),
    ];
    for (engine, endpoints) in streams {
        for endpoint in endpoints.iter().filter(|_| wanted(engine)) {
            tokio::spawn(keep(engine, endpoint.clone(), Arc::clone(on_change)));
        }
    }
    if let Some(places) = from.nspawn.clone().filter(|_| wanted(Engine::Nspawn)) {
        tokio::spawn(logged("machines", follow_dir(places.machines, Engine::Nspawn, Arc::clone(on_change))));
    }
    if from.lab && wanted(Engine::Lab) {
        tokio::spawn(logged("labs", labs::follow(Arc::clone(on_change))));
    }
    if !from.netns_dirs.is_empty() && wanted(Engine::Netns) {
        tokio::spawn(logged("mounts", follow_mounts(Arc::clone(on_change))));
    }
}

async fn logged(what: &'static str, work: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = work.await {
        tracing::warn!(%error, what, "cannot follow");
    }
}

/// Follows one engine's stream, and finds it again when it comes back.
async fn keep(engine: Engine, endpoint: Endpoint, on_change: OnChange) {
    let dir = endpoint.path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut pauses = PAUSES.iter();
    loop {
        // Before the attempt: a socket that comes to exist right after it is an event.
        let mut eye = match DirWatch::open(&dir) {
            Ok(eye) => eye,
            Err(error) => {
                tracing::warn!(%engine, %error, dir = %dir.display(), "cannot watch for the engine");
                return;
            }
        };
        let begun = Instant::now();
        let mut connected = false;
        let ended = follow(engine, &endpoint, &mut || {
            connected = true;
            on_change(engine);
        })
        .await;
        if connected {
            on_change(engine);
        }
        let waits_for_socket = match ended {
            Ok(()) => false,
            Err(fault) => {
                tracing::debug!(%engine, %fault, "stopped following");
                // A containerd without CRI, a runtime without events: there is nothing to follow.
                if grpc::is_unimplemented(&fault) {
                    return;
                }
                fault.is_absence() || fault.is_permission()
            }
        };
        if begun.elapsed() > LASTING {
            pauses = PAUSES.iter();
        }
        match pauses.next().filter(|_| !waits_for_socket) {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => {
                if eye.changed().await.is_err() {
                    return;
                }
                pauses = PAUSES.iter();
            }
        }
    }
}

/// Calls `news` when the stream stands, and at every event, until it ends.
async fn follow(engine: Engine, endpoint: &Endpoint, news: &mut (dyn FnMut() + Send)) -> Result<()> {
    match engine {
        Engine::Docker => follow_http(&endpoint.path, &docker::events(), news).await,
        Engine::Podman => follow_http(&endpoint.path, &podman::events(), news).await,
        Engine::Containerd => follow_containerd(&endpoint.path, news).await,
        Engine::Cri => {
            let client = grpc::Client::connect(&endpoint.path).await?;
            let stream =
                client.follow::<_, cri::proto::Event>(cri::EVENTS, cri::proto::ListRequest {}).await?;
            follow_messages(cri::EVENTS, stream, news).await
        }
        _ => Ok(()),
    }
}

async fn follow_http(path: &Path, target: &str, news: &mut (dyn FnMut() + Send)) -> Result<()> {
    let mut client = http::Client::connect(path).await?;
    let response = client.open(target).await?;
    if response.status() != hyper::StatusCode::OK {
        return Err(Fault::Refused {
            request: format!("GET {target}"),
            status: format!("HTTP {}", response.status().as_u16()),
            message: "it does not tell its events".into(),
        });
    }
    news();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        match frame {
            // What happened is found out by asking; that something happened is enough.
            Ok(frame) if frame.data_ref().is_some_and(|data| !data.trim_ascii().is_empty()) => news(),
            Ok(_) => {}
            Err(e) => return Err(Fault::Broken { request: format!("GET {target}"), why: e.to_string() }),
        }
    }
    Ok(())
}

async fn follow_containerd(path: &Path, news: &mut (dyn FnMut() + Send)) -> Result<()> {
    const TOPICS: [&str; 8] = [
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
        "/tasks/paused",
        "/tasks/resumed",
        "/containers/create",
        "/containers/update",
        "/containers/delete",
    ];
    let filters = TOPICS.iter().map(|topic| format!("topic==\"{topic}\"")).collect();
    let client = grpc::Client::connect(path).await?;
    let stream = client
        .follow::<_, containerd::proto::Envelope>(
            containerd::EVENTS,
            containerd::proto::SubscribeRequest { filters },
        )
        .await?;
    follow_messages(containerd::EVENTS, stream, news).await
}

async fn follow_messages<T>(
    method: &str,
    mut stream: tonic::Streaming<T>,
    news: &mut (dyn FnMut() + Send),
) -> Result<()> {
    news();
    loop {
        match stream.message().await {
            Ok(Some(_)) => news(),
            Ok(None) => return Ok(()),
            Err(status) => return Err(grpc::refused(method, &status)),
        }
    }
}

/// Every change in a directory, which may come and go itself.
async fn follow_dir(dir: PathBuf, engine: Engine, on_change: OnChange) -> std::io::Result<()> {
    loop {
        let mut eye = DirWatch::open(&dir)?;
        if eye.exact {
            on_change(engine);
        }
        loop {
            eye.changed().await?;
            if !eye.exact {
                break;
            }
            on_change(engine);
        }
    }
}

/// Every change of the mounted network namespaces. The kernel reports a change of the table as an exceptional
/// condition of the open file (proc_pid_mounts(5)); `ip netns` makes a file first and mounts over it later, so the
/// directory alone would tell too early.
async fn follow_mounts(on_change: OnChange) -> std::io::Result<()> {
    let file = std::fs::File::open(MOUNTS)?;
    // SAFETY: a File is one open descriptor as long as it lives, and it lives in the AsyncFd.
    let table = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }?;
    let mut known = mounts::parse(&std::fs::read(MOUNTS)?);
    on_change(Engine::Netns);
    loop {
        table.ready(Interest::PRIORITY).await?.clear_ready();
        let now = mounts::parse(&std::fs::read(MOUNTS)?);
        if now != known {
            known = now;
            on_change(Engine::Netns);
        }
    }
}
