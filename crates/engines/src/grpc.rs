//! gRPC over a unix socket, as containerd and the CRI runtimes speak it.
//!
//! The messages are written by hand with prost's derive, with only the fields that are read: generated ones would need
//! `protoc` at build time.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use snorkel_netns::chain;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::fault::{Fault, Result, escaped};

/// A thousand containers with their specs are some 16 MiB.
const LONGEST_MESSAGE: usize = 64 << 20;

/// Makes connections to one socket; the first one is made before the channel is, so that its error is known.
struct Connector {
    path: PathBuf,
    first: Option<UnixStream>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let first = self.first.take();
        let path = self.path.clone();
        Box::pin(async move {
            let stream = match first {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// A connection to the services behind a socket.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) async fn connect(path: &Path) -> Result<Client> {
        let first = Some(crate::http::connect(path).await?);
        let broken = |e: tonic::transport::Error| Fault::Broken {
            request: "the first byte of gRPC".into(),
            why: chain(&e),
        };
        // The authority is only a header; runtimes ignore it.
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(Connector { path: path.to_owned(), first })
            .await
            .map_err(broken)?;
        Ok(Client { channel })
    }

    /// One question, one answer. `namespace` is containerd's.
    pub(crate) async fn ask<Q, R>(
        &self,
        method: &'static str,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<R>
    where
        Q: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc(method).await?;
        let codec: ProstCodec<Q, R> = ProstCodec::default();
        let answer = grpc
            .unary(in_namespace(method, namespace, question)?, PathAndQuery::from_static(method), codec)
            .await;
        answer.map(tonic::Response::into_inner).map_err(|status| refused(method, &status))
    }

    /// One question, and answers without end.
    pub(crate) async fn follow<Q, R>(&self, method: &'static str, question: Q) -> Result<Streaming<R>>
    where
        Q: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc(method).await?;
        let codec: ProstCodec<Q, R> = ProstCodec::default();
        let answer =
            grpc.server_streaming(Request::new(question), PathAndQuery::from_static(method), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| refused(method, &status))
    }

    async fn grpc(&self, method: &'static str) -> Result<Grpc<Channel>> {
        tracing::debug!(method, "asking");
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LONGEST_MESSAGE);
        grpc.ready().await.map_err(|e| Fault::Broken { request: method.into(), why: chain(&e) })?;
        Ok(grpc)
    }
}

fn in_namespace<Q>(method: &str, namespace: Option<&str>, question: Q) -> Result<Request<Q>> {
    let mut request = Request::new(question);
    if let Some(namespace) = namespace {
        let value = namespace.parse().map_err(|_| Fault::Garbage {
            what: format!("the namespace '{}' for {method}", escaped(namespace)),
            why: "it cannot stand in a header".into(),
        })?;
        request.metadata_mut().insert("containerd-namespace", value);
    }
    Ok(request)
}

const UNIMPLEMENTED: &str = "Unimplemented";

pub(crate) fn refused(method: &str, status: &Status) -> Fault {
    let message = match std::error::Error::source(status) {
        Some(below) => format!("{}: {}", status.message(), chain(below)),
        None => status.message().to_owned(),
    };
    Fault::Refused {
        request: method.to_owned(),
        status: format!("{:?}", status.code()),
        message: escaped(&message),
    }
}

/// Whether the service behind a method is not there at all.
pub(crate) fn is_unimplemented(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { status, .. } if status == UNIMPLEMENTED)
}

/// Whether what was asked for is not there (any more).
pub(crate) fn is_not_found(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { status, .. } if status == "NotFound")
}
