//! The operators' port: admin gRPC, metrics and health over HTTP/1 and HTTP/2 on one port.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use centaur_observability::Guard;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{net::TcpStream, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};
use tracing::debug;

/// How long a connection may take to its first request, and HTTP/1 to each.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const STREAMS_MAX: u32 = 256;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Whether this process takes work now; shared by everyone who answers that question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Everything the connections of the operators' port share.
pub(crate) struct OperatorsPort {
    http: Builder<TokioExecutor>,
    answers: Answers,
    drain: CancellationToken,
}

#[derive(Clone)]
struct Answers {
    admin: Routes,
    metrics: Guard,
    readiness: Readiness,
}

impl OperatorsPort {
    pub(crate) fn new(admin: Routes, metrics: Guard, readiness: Readiness, drain: CancellationToken) -> Arc<Self> {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL);
        Arc::new(Self { http, answers: Answers { admin, metrics, readiness }, drain })
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let (answers, asked) = (self.answers.clone(), Arc::new(AtomicBool::new(false)));
        let was_asked = asked.clone();
        let service = service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            let answers = answers.clone();
            async move { answers.answer(request).await }
        });
        let silence = async {
            sleep(HEADER_TIMEOUT).await;
            if was_asked.load(Ordering::Relaxed) {
                future::pending::<()>().await;
            }
        };
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = silence => {
                debug!(%peer, "operator's connection asked nothing");
                return;
            }
            () = self.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            debug!(%peer, error, "operator's connection ended");
        }
    }
}

impl Answers {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if is_grpc(&request) {
            return tower::Service::call(&mut self.admin.clone(), request).await;
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        Ok(match request.uri().path() {
            _ if !is_read => text(StatusCode::METHOD_NOT_ALLOWED, TEXT_TYPE, "only GET and HEAD\n"),
            "/metrics" => text(StatusCode::OK, METRICS_TYPE, self.metrics.render()),
            "/healthz" | "/livez" => text(StatusCode::OK, TEXT_TYPE, "ok\n"),
            "/readyz" if self.readiness.is_ready() => text(StatusCode::OK, TEXT_TYPE, "ready\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, TEXT_TYPE, "not ready: starting or draining\n"),
            _ => text(StatusCode::NOT_FOUND, TEXT_TYPE, "here are /metrics, /healthz and /readyz\n"),
        })
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

fn text(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
