//! The bare server that limits every other: tonic as it comes, and a handler that does nothing.
//!
//! It answers two methods. `Call` returns the bytes it was given and is the reference of the
//! goals; `SendMessage` decodes a public request and answers `OK` for each message, and shows what
//! the shape of the public messages costs by itself.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use anyhow::Result;
use centaur_apis::v2;
use serde::Serialize;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, http},
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::requests::Blob;

const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Where an echo listens; printed as one line of JSON.
#[derive(Debug, Serialize)]
struct Place {
    address: SocketAddr,
    pid: u32,
}

/// Serves on `listen` until the process ends, after saying where.
pub(crate) async fn run(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let place = Place { address: listener.local_addr()?, pid: std::process::id() };
    println!("{}", serde_json::to_string(&place)?);
    serve(listener).await
}

/// Serves connections of `listener` until it fails.
pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(Echo).add_service(Send).serve_with_incoming(incoming).await?;
    Ok(())
}

/// The same bytes back.
#[derive(Clone, Copy, Debug)]
struct Echo;

impl UnaryService<Blob> for Echo {
    type Response = Blob;
    type Future = Ready<Result<Response<Blob>, Status>>;

    fn call(&mut self, request: Request<Blob>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// `OK` for every message of a public request.
#[derive(Clone, Copy, Debug)]
struct Send;

impl UnaryService<v2::SendMessageRequest> for Send {
    type Response = v2::SendMessageResponse;
    type Future = Ready<Result<Response<v2::SendMessageResponse>, Status>>;

    fn call(&mut self, request: Request<v2::SendMessageRequest>) -> Self::Future {
        let ok = || Some(v2::Status { code: v2::Code::Ok.into(), message: "OK".into() });
        let entry = |message: v2::Message| {
            let message_id = message.system_properties.unwrap_or_default().message_id;
            v2::SendResultEntry { status: ok(), transaction_id: message_id.clone(), message_id, ..Default::default() }
        };
        let entries = request.into_inner().messages.into_iter().map(entry).collect();
        ready(Ok(Response::new(v2::SendMessageResponse { status: ok(), entries })))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "centaur.bench.Echo";
}

impl NamedService for Send {
    const NAME: &'static str = "apache.rocketmq.v2.MessagingService";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (method, codec) = (*self, ProstCodec::<Blob, Blob>::default());
        Box::pin(async move {
            let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
            Ok(grpc.unary(method, request).await)
        })
    }
}

impl Service<http::Request<Body>> for Send {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = *self;
        Box::pin(async move {
            if !request.uri().path().ends_with("/SendMessage") {
                return Ok(Status::unimplemented("the echo answers SendMessage only").into_http());
            }
            let codec = ProstCodec::<v2::SendMessageResponse, v2::SendMessageRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
            Ok(grpc.unary(method, request).await)
        })
    }
}
