//! Which calls are open on one connection: what decides whether it is idle.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use tonic::{service::Routes, transport::server::TcpConnectInfo};

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
    pub(crate) peer: TcpConnectInfo,
    pub(crate) activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        request.extensions_mut().insert(self.peer.clone());
        let open = Some(self.activity.begin());
        // Routes are always ready; a clone is one count.
        Answer { routes: tower::Service::call(&mut self.routes.clone(), request), open }
    }
}

pub(crate) struct Answer {
    routes: RoutesFuture,
    open: Option<OpenCall>,
}

impl Future for Answer {
    type Output = Result<Response<CountedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.routes).poll(cx));
        let open = self.open.take();
        Poll::Ready(answer.map(|response| response.map(|body| CountedBody { body, _open: open })))
    }
}

/// A body whose call is open until it is dropped.
pub(crate) struct CountedBody {
    body: tonic::body::Body,
    _open: Option<OpenCall>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
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
