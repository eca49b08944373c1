//! Docker Engine, over its REST API.
//!
//! Paths carry no version: the engine then uses its own newest (moby, `api/server/server.go` registers every route
//! with and without one), which both an old engine and one that has dropped the old versions accept. The list has
//! everything but the process, so the running ones are inspected, a few at a time, over kept connections.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tokio::task::JoinSet;

use crate::asking::{Sink, go_on};
use crate::fault::{Fault, Result};
use crate::http::{self, Answered, Client, Reply};
use crate::{Container, Endpoint, Engine, State};

pub(crate) mod model;

/// How many connections inspect side by side. More do not help: the daemon serialises much of an inspect.
const CONNECTIONS: usize = 4;

/// Every container of one engine.
pub(crate) async fn list(endpoint: &Endpoint, sink: &Sink) -> Result<()> {
    let mut client = Client::connect(&endpoint.path).await?;
    sink.served_by(client.uid());
    let reply = client.get("/containers/json?all=1").await?;
    if reply.status != StatusCode::OK {
        return Err(reply.refusal());
    }
    let (listed, unread) = http::each::<model::Listed>("GET /containers/json", &reply.body)?;
    for fault in unread {
        sink.warn(fault);
    }
    let listed: Vec<Container> = listed.into_iter().map(|c| c.into_container(endpoint)).collect();
    inspect_running(client, endpoint, listed, sink).await;
    Ok(())
}

async fn inspect_running(first: Client, endpoint: &Endpoint, listed: Vec<Container>, sink: &Sink) {
    let (running, others): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|c| matches!(c.state, State::Running | State::Paused | State::Unknown));
    sink.extend(others);
    let workers = running.len().div_ceil(8).clamp(1, CONNECTIONS);
    let queue = Arc::new(Mutex::new(VecDeque::from(running)));
    let mut tasks = JoinSet::new();
    let uid = first.uid();
    let mut first = Some(first);
    for _ in 0..workers {
        let queue = Arc::clone(&queue);
        let sink = sink.clone();
        let path = endpoint.path.clone();
        let client = first.take();
        tasks.spawn(async move {
            let client = match client {
                Some(client) => Ok(client),
                None => Client::connect_to(&path, uid).await,
            };
            match client {
                Ok(mut client) => inspect_queued(&mut client, &queue, &sink).await,
                // The other connections do the work.
                Err(fault) => tracing::debug!(%fault, "no further connection to docker"),
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    // Left over only if every connection broke: known from the list, but without a process.
    sink.extend(std::mem::take(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner)));
}

async fn inspect_queued(client: &mut Client, queue: &Mutex<VecDeque<Container>>, sink: &Sink) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(mut container) = next else { return };
        let reply = client.get(&inspect_path(&container.id)).await;
        let is_broken = matches!(&reply, Err(Fault::Broken { .. } | Fault::Connect { .. }));
        match reply.and_then(|reply| inspected(&reply)) {
            Ok(Some(inspected)) => {
                inspected.complete(&mut container);
                sink.push(container);
            }
            // It was removed between list and inspect.
            Ok(None) => {}
            Err(fault) => {
                sink.warn(fault);
                sink.push(container);
                if is_broken {
                    return;
                }
            }
        }
    }
}

/// A container that was asked for by its full id; `None` if there is none.
fn inspected(reply: &Reply) -> Result<Option<model::Inspected>> {
    match reply.status {
        StatusCode::NOT_FOUND => Ok(None),
        _ => reply.json().map(Some),
    }
}

fn inspect_path(reference: &str) -> String {
    format!("/containers/{}/json", http::segment(reference))
}

/// What a reference may mean, in one request; the engine's own order (id, name, start of an id) decides. When it
/// says that the reference is ambiguous, or means nothing at all by it, the whole list is asked for. `meanwhile` is done
/// while the engine thinks.
pub(crate) fn lookup(
    endpoint: &Endpoint,
    reference: &str,
    time: Duration,
    sink: &Sink,
    meanwhile: &mut dyn FnMut(),
) -> Result<()> {
    let Answered { reply, uid, begun } =
        http::ask(&endpoint.path, &inspect_path(reference), time, meanwhile)?;
    sink.served_by(uid);
    let inspected: model::Inspected = match reply.status {
        StatusCode::OK => reply.json()?,
        // A redirect is what `.` and `..` get: no container is called that.
        status if status == StatusCode::NOT_FOUND || status.is_redirection() => return Ok(()),
        _ => {
            tracing::debug!(fault = %reply.refusal(), "docker cannot inspect; asking for the list");
            return go_on(begun, time, list(endpoint, sink));
        }
    };
    let mut container = inspected.into_container(endpoint);
    if !container.is_up() {
        // Only the list has the words that people know: "Exited (137) 3 minutes ago".
        let status = go_on(begun, time, status_of(&endpoint.path, uid, &container.id));
        if let Some(status) = status.unwrap_or_default() {
            container.status = status;
        }
    }
    sink.push(container);
    Ok(())
}

async fn status_of(socket: &Path, uid: u32, id: &str) -> Result<Option<String>> {
    let id_alone = serde_json::json!({ "id": [id] }).to_string();
    let filter = http::segment(&id_alone);
    let mut client = Client::connect_to(socket, uid).await?;
    let reply = client.get(&format!("/containers/json?all=1&filters={filter}")).await?;
    let (listed, _) = http::each::<model::Listed>("GET /containers/json", &reply.body)?;
    let status = listed.into_iter().find(|c| c.id() == id).map(|c| c.status().to_owned());
    Ok(status.filter(|status| !status.is_empty()))
}

/// This very container again, by its full id.
pub(crate) fn recheck(endpoint: &Endpoint, id: &str, time: Duration, sink: &Sink) -> Result<()> {
    let Answered { reply, uid, .. } = http::ask(&endpoint.path, &inspect_path(id), time, || ())?;
    sink.served_by(uid);
    sink.extend(inspected(&reply)?.map(|c| c.into_container(endpoint)));
    Ok(())
}

/// Where its events come from. Those of exec and of health checks, which come all the time, are left out.
pub(crate) fn events() -> String {
    let filters = r#"{"type":["container","network"],"event":["create","start","die","destroy","rename","pause","unpause","connect","disconnect"]}"#;
    format!("/events?filters={}", http::segment(filters))
}

/// A container with what every answer of this engine has in common.
pub(crate) fn container(endpoint: &Endpoint, engine: Engine, id: String) -> Container {
    Container {
        scope: endpoint.scope.clone(),
        socket: Some(Path::to_owned(&endpoint.path)),
        ..Container::new(engine, id)
    }
}
