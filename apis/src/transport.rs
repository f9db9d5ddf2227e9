//! One way to call a role, wherever it runs: its own routes in this process, or a channel.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body, service::Routes, transport::Channel};
use tower::Service;

/// Carries calls of a generated client to the role that answers them.
#[derive(Clone, Debug)]
pub enum Transport {
    /// The role runs in this process: its routes are called as a function.
    Local(Routes),
    /// The role runs elsewhere.
    Remote(Channel),
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Local(routes) => <Routes as Service<Request<Body>>>::poll_ready(routes, cx).map_err(unreachable),
            Self::Remote(channel) => channel.poll_ready(cx).map_err(|error| Status::unavailable(error.to_string())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Local(routes) => {
                let answer = routes.call(request);
                Box::pin(async { answer.await.map_err(unreachable) })
            }
            Self::Remote(channel) => {
                let answer = channel.call(request);
                Box::pin(async { answer.await.map_err(|error| Status::unavailable(error.to_string())) })
            }
        }
    }
}

fn unreachable(error: std::convert::Infallible) -> Status {
    match error {}
}
