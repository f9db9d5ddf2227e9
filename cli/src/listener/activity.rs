//! Which calls are open on one connection: what decides whether it is idle, and what must be over
//! before it can go.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, service::Routes};

/// Streams that last as long as their client: they end when the server drains.
const SESSIONS: [&str; 4] = [
    "/apache.rocketmq.v2.MessagingService/Telemetry",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

type RoutesFuture = <Routes as tower::Service<Request<Incoming>>>::Future;

/// Calls begun and ended on one connection since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> OpenCall {
        self.begun.fetch_add(1, Relaxed);
        OpenCall(self.clone())
    }

    /// Calls begun so far, when none of them is open; `None` while one is.
    pub(crate) fn rest(&self) -> Option<u64> {
        let ended = self.ended.load(Relaxed);
        (self.begun.load(Relaxed) == ended).then_some(ended)
    }
}

/// One open call.
struct OpenCall(Arc<Activity>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

/// The routes as one connection sees them: each request knows its peer, each call is counted until
/// the last byte of its answer is given away.
pub(crate) struct Calls {
    pub(crate) routes: Routes,
    pub(crate) peer: SocketAddr,
    pub(crate) activity: Arc<Activity>,
    pub(crate) drain: CancellationToken,
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        let is_session = SESSIONS.contains(&request.uri().path());
        let end = is_session.then(|| Box::pin(self.drain.clone().cancelled_owned()));
        request.extensions_mut().insert(self.peer);
        let open = self.activity.begin();
        // Routes are always ready; a clone is one count.
        Answer { routes: tower::Service::call(&mut self.routes.clone(), request), rest: Some((open, end)) }
    }
}

/// When a session has to end.
type End = Option<Pin<Box<WaitForCancellationFutureOwned>>>;

pub(crate) struct Answer {
    routes: RoutesFuture,
    /// What goes into the body.
    rest: Option<(OpenCall, End)>,
}

impl Future for Answer {
    type Output = Result<Response<CountedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.routes).poll(cx));
        let (open, end) = self.rest.take().map_or((None, None), |(open, end)| (Some(open), end));
        Poll::Ready(answer.map(|response| response.map(|body| CountedBody { body, end, is_over: false, _open: open })))
    }
}

/// A body whose call is open until it is dropped.
pub(crate) struct CountedBody {
    body: tonic::body::Body,
    end: End,
    is_over: bool,
    _open: Option<OpenCall>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.is_over = true;
            let mut trailers = HeaderMap::new();
            let added =
                Status::unavailable("the server is draining: open the stream on another").add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_between_calls_only() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.rest(), Some(0));
        let call = activity.begin();
        assert_eq!(activity.rest(), None);
        drop(call);
        assert_eq!(activity.rest(), Some(1));
    }
}
