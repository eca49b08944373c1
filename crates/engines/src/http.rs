//! HTTP over a unix socket, as Docker and Podman speak it: GET only, everything limited. A list is made over kept connections
//! (HTTP/1.1), a single question goes over one of its own.

mod once;

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use snorkel_netns::chain;
use tokio::net::UnixStream;

use crate::fault::{Fault, Result, escaped};
use crate::owner;

pub(crate) use once::{Answered, ask, fuzz};

/// A list of ten thousand containers is some 30 MiB.
const LONGEST_BODY: usize = 64 << 20;
/// The engines send five or six headers.
const MOST_HEADERS: usize = 64;
const LONGEST_HEAD: usize = 64 << 10;

/// Connects to a unix socket; the error names it.
pub(crate) async fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|source| Fault::Connect { path: path.to_owned(), source })
}

/// A connection to an engine, used for one request after the other.
pub(crate) struct Client {
    path: PathBuf,
    /// Whose engine it is, as the kernel knows him.
    uid: u32,
    sender: http1::SendRequest<Empty<Bytes>>,
}

/// What came back: any status, the whole body.
pub(crate) struct Reply {
    request: String,
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Whether it is known to have come to its end: by its length, or by what stands at the end.
    is_whole: bool,
}

impl Client {
    pub(crate) async fn connect(path: &Path) -> Result<Client> {
        let stream = connect(path).await?;
        let uid = owner::of_engine(&stream, path)?;
        let (sender, connection) = http1::Builder::new()
            .max_headers(MOST_HEADERS)
            .max_buf_size(LONGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken("the first byte", &e))?;
        // The connection ends with the sender, and its errors reach whoever waits for an answer.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an engine ended");
            }
        });
        Ok(Client { path: path.to_owned(), uid, sender })
    }

    /// Whose engine it is.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// A further connection to the engine of this user, and to nobody else's.
    pub(crate) async fn connect_to(path: &Path, uid: u32) -> Result<Client> {
        let client = Client::connect(path).await?;
        if client.uid == uid {
            return Ok(client);
        }
        Err(Fault::Foreign("another user answers on its socket than a moment ago".to_owned()))
    }

    /// Sends a request and gives the answer's head; the body can still be read.
    pub(crate) async fn open(&mut self, target: &str) -> Result<Response<Incoming>> {
        let what = format!("GET {target}");
        tracing::debug!(socket = %self.path.display(), request = %what, "asking");
        let request = Request::get(target)
            // What a name service would make of the host matters to nobody: the socket is the host.
            .header(hyper::header::HOST, "localhost")
            .body(Empty::new())
            .map_err(|e| Fault::Broken { request: what.clone(), why: e.to_string() })?;
        // A kept connection may have been closed since; a request on it fails at once.
        if self.sender.ready().await.is_err() {
            *self = Client::connect_to(&self.path, self.uid).await?;
        }
        self.sender.send_request(request).await.map_err(|e| broken(&what, &e))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn get(&mut self, target: &str) -> Result<Reply> {
        let request = format!("GET {target}");
        let response = self.open(target).await?;
        let status = response.status();
        let body = read_all(&request, response.into_body()).await?;
        Ok(Reply { request, status, body, is_whole: true })
    }
}

async fn read_all(request: &str, mut body: Incoming) -> Result<Bytes> {
    let too_long = || Fault::TooLong { request: request.to_owned(), limit: LONGEST_BODY };
    if body.size_hint().lower() > LONGEST_BODY as u64 {
        return Err(too_long());
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| broken(request, &e))?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > LONGEST_BODY {
                return Err(too_long());
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

impl Reply {
    /// The body of a success as JSON; anything else is what the engine complains of.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if self.status != StatusCode::OK {
            return Err(self.refusal());
        }
        let read = serde_json::from_str(&String::from_utf8_lossy(&self.body));
        read.map_err(|error| match error.is_eof() && !self.is_whole {
            // One that broke off is known by what is missing of it.
            true => Fault::Broken { request: self.request.clone(), why: error.to_string() },
            false => garbage(&self.request, &error),
        })
    }

    /// The error that the body of a failure describes: `{"message": …}` or plain text.
    pub(crate) fn refusal(&self) -> Fault {
        #[derive(serde::Deserialize)]
        struct Refusal {
            message: String,
        }
        let text = String::from_utf8_lossy(&self.body);
        let message =
            serde_json::from_str::<Refusal>(&text).map_or_else(|_| text.into_owned(), |r| r.message);
        Fault::Refused {
            request: self.request.clone(),
            status: format!("HTTP {}", self.status.as_u16()),
            message: if message.trim().is_empty() { "no reason given".into() } else { escaped(&message) },
        }
    }
}

/// Reads JSON; bytes that are not UTF-8 are replaced.
pub(crate) fn json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_str(&String::from_utf8_lossy(body)).map_err(|error| garbage(what, &error))
}

fn garbage(what: &str, error: &serde_json::Error) -> Fault {
    Fault::Garbage { what: format!("the answer to {what}"), why: error.to_string() }
}

/// hyper's own words say little ("connection error"); what lies beneath says more.
fn broken(request: &str, error: &hyper::Error) -> Fault {
    Fault::Broken { request: request.to_owned(), why: chain(error) }
}

/// A name as one segment of a path or one value of a query (RFC 3986, section 2.3 lists what may stay).
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Serde's own default does for a missing field; Go writes `null` for an empty list or map as well.
pub(crate) fn null_is_default<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(from)?.unwrap_or_default())
}

/// The entries of a JSON list one by one: one that cannot be read does not take the others with it. What cannot be
/// read is named by its `Id`, if it has one.
pub(crate) fn each<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<(Vec<T>, Vec<Fault>)> {
    let entries: Vec<serde_json::Value> = json(what, body)?;
    let (mut read, mut unread) = (Vec::with_capacity(entries.len()), Vec::new());
    for (i, entry) in entries.into_iter().enumerate() {
        let id = entry.get("Id").and_then(|id| id.as_str()).map(str::to_owned);
        match serde_json::from_value(entry) {
            Ok(entry) => read.push(entry),
            Err(e) => unread.push(Fault::Garbage {
                what: match id {
                    Some(id) => format!("container {} in the answer to {what}", escaped(&id)),
                    None => format!("entry {i} of the answer to {what}"),
                },
                why: e.to_string(),
            }),
        }
    }
    Ok((read, unread))
}
