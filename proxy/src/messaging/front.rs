//! The public service as one tower service: the generated one with a size limit for each kind of
//! request, and SendMessage and ReceiveMessage with codecs of our own.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use centaur_apis::v2::{self, messaging_service_server::MessagingServiceServer};
use http::{HeaderValue, Request, Response};
use tonic::{
    Code, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
};
use tower::Service;

use super::{
    Messaging,
    receive::{Answer, Frame, ReceiveCodec},
    reply::{Reply, SendCodec},
};
use crate::Inner;

/// Most bytes of a frame on a telemetry stream: stack traces come this way.
const TELEMETRY_BYTES_MAX: usize = 4 << 20;
/// Most bytes of a request without message bodies.
const REQUEST_BYTES_MAX: usize = 256 << 10;
/// Most bytes of a request that says which lite topics a client consumes: 100,000 names fit.
const LITE_BYTES_MAX: usize = 8 << 20;
/// Room for what a send request says besides one body, in bytes.
const SEND_BYTES_BESIDE_BODY: usize = 128 << 10;

const SEND: &str = "SendMessage";
const RECEIVE: &str = "ReceiveMessage";
const TELEMETRY: &str = "Telemetry";
const SYNC_LITE: &str = "SyncLiteSubscription";

/// The public service.
#[derive(Clone)]
pub(crate) struct Front {
    messaging: Messaging,
    send_bytes_max: usize,
    telemetry: MessagingServiceServer<Messaging>,
    lite: MessagingServiceServer<Messaging>,
    others: MessagingServiceServer<Messaging>,
}

impl Front {
    pub(crate) fn new(proxy: Arc<Inner>) -> Self {
        let send_bytes_max = proxy.config.send_bytes_max.max(proxy.config.body_bytes_max + SEND_BYTES_BESIDE_BODY);
        let messaging = Messaging::new(proxy);
        let shared = Arc::new(messaging.clone());
        let server = |limit| MessagingServiceServer::from_arc(shared.clone()).max_decoding_message_size(limit);
        Self {
            send_bytes_max,
            telemetry: server(TELEMETRY_BYTES_MAX),
            lite: server(LITE_BYTES_MAX),
            others: server(REQUEST_BYTES_MAX),
            messaging,
        }
    }
}

impl NamedService for Front {
    const NAME: &'static str = v2::messaging_service_server::SERVICE_NAME;
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        match path.rsplit('/').next() {
            Some(SEND) => {
                let send = Sending(self.messaging.clone());
                let mut grpc = Grpc::new(SendCodec).max_decoding_message_size(self.send_bytes_max);
                Box::pin(async move { Ok(in_the_contracts_words(grpc.unary(send, request).await)) })
            }
            Some(RECEIVE) => {
                let receive = Receiving(self.messaging.clone());
                let mut grpc = Grpc::new(ReceiveCodec).max_decoding_message_size(REQUEST_BYTES_MAX);
                Box::pin(async move { Ok(in_the_contracts_words(grpc.server_streaming(receive, request).await)) })
            }
            Some(TELEMETRY) => self.telemetry.call(request),
            Some(SYNC_LITE) => {
                let answering = self.lite.call(request);
                Box::pin(async move { answering.await.map(in_the_contracts_words) })
            }
            _ => {
                // Routes name the address that the client dialled when the client does not.
                if let Some(authority) = request.uri().authority().cloned() {
                    request.extensions_mut().insert(authority);
                }
                let answering = self.others.call(request);
                Box::pin(async move { answering.await.map(in_the_contracts_words) })
            }
        }
    }
}

/// A request beyond its limit exhausts a resource, says the contract; the decoder calls it out of
/// range, which nothing else here is.
fn in_the_contracts_words(mut response: Response<Body>) -> Response<Body> {
    if let Some(status) = response.headers_mut().get_mut(Status::GRPC_STATUS)
        && *status == HeaderValue::from(Code::OutOfRange as i32)
    {
        *status = HeaderValue::from(Code::ResourceExhausted as i32);
    }
    response
}

struct Sending(Messaging);

impl UnaryService<Bytes> for Sending {
    type Response = Reply;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Reply>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let messaging = self.0.clone();
        Box::pin(async move { Ok(messaging.send(request).await) })
    }
}

struct Receiving(Messaging);

impl ServerStreamingService<v2::ReceiveMessageRequest> for Receiving {
    type Response = Frame;
    type ResponseStream = Answer;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<v2::ReceiveMessageRequest>) -> Self::Future {
        let messaging = self.0.clone();
        Box::pin(async move { Ok(messaging.receive(request).await) })
    }
}
