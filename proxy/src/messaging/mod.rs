//! The public service: one line per procedure, each calling a file below. Whatever goes wrong with
//! a request is said by the status inside a normal response.

mod front;
mod lite;
mod offsets;
mod pull;
mod recall;
mod receive;
mod redelivery;
mod reply;
mod route;
mod send;
pub(crate) mod session;
mod settings;
mod settle;
mod telemetry;
mod transaction;

use std::sync::Arc;

use bytes::Bytes;
use centaur_apis::v2::{self, messaging_service_server::MessagingService};
use http::uri::Authority;
use tonic::{Request, Response, Status, Streaming};

use crate::{Inner, caller::Caller, metrics::Rpc, refusal::Refusal, sessions::Frames};

pub(crate) use front::Front;
pub(crate) use lite::Pace;
use receive::Answer;
use reply::Reply;

/// The generated trait over one proxy.
#[derive(Clone)]
pub(crate) struct Messaging(Arc<Inner>);

type Answered<T> = Result<Response<T>, Status>;

impl Messaging {
    pub(crate) fn new(proxy: Arc<Inner>) -> Self {
        Self(proxy)
    }

    /// Puts a result into its response and counts it.
    fn answer<T: HasStatus>(&self, rpc: Rpc, result: Result<T, Refusal>) -> Answered<T> {
        let mut response = result.unwrap_or_else(|refusal| {
            tracing::debug!(?rpc, %refusal, "refused");
            let mut response = T::default();
            *response.status() = Some(refusal.into());
            response
        });
        let code = response.status().as_ref().map_or(v2::Code::Unspecified, v2::Status::code);
        self.0.metrics.answered(rpc, code);
        Ok(Response::new(response))
    }

    /// SendMessage, whose request is read where it lies.
    async fn send(&self, request: Request<Bytes>) -> Response<Reply> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => send::send(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        let reply = result.unwrap_or_else(|refusal| {
            tracing::debug!(rpc = ?Rpc::SendMessage, %refusal, "refused");
            Reply::refused(refusal)
        });
        self.0.metrics.answered(Rpc::SendMessage, reply.code());
        Response::new(reply)
    }

    /// ReceiveMessage, whose frames are put together by hand.
    async fn receive(&self, request: Request<v2::ReceiveMessageRequest>) -> Response<Answer> {
        let (headers, extensions, request) = request.into_parts();
        let answer = match Caller::of(&headers, &extensions) {
            Ok(caller) => receive::receive(&self.0, &caller, request).await,
            Err(refusal) => Answer::without_messages(refusal.into()),
        };
        self.0.metrics.answered(Rpc::ReceiveMessage, answer.code());
        Response::new(answer)
    }
}

#[tonic::async_trait]
impl MessagingService for Messaging {
    type ReceiveMessageStream = tokio_stream::Empty<Result<v2::ReceiveMessageResponse, Status>>;
    type PullMessageStream = pull::Frames;
    type TelemetryStream = Frames;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answered<v2::QueryRouteResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => route::query_route(&self.0, &caller, extensions.get::<Authority>(), request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::QueryRoute, result)
    }

    async fn heartbeat(&self, request: Request<v2::HeartbeatRequest>) -> Answered<v2::HeartbeatResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => session::heartbeat(&self.0, &caller, &request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::Heartbeat, result)
    }

    /// Never reached: `Front` answers this path from bytes of its own.
    async fn send_message(&self, _: Request<v2::SendMessageRequest>) -> Answered<v2::SendMessageResponse> {
        Err(Status::unimplemented("answered in front of this service"))
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Answered<v2::QueryAssignmentResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => route::query_assignment(&self.0, &caller, extensions.get::<Authority>(), request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::QueryAssignment, result)
    }

    /// Never reached: `Front` answers this path with frames of its own.
    async fn receive_message(&self, _: Request<v2::ReceiveMessageRequest>) -> Answered<Self::ReceiveMessageStream> {
        Err(Status::unimplemented("answered in front of this service"))
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Answered<v2::AckMessageResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => settle::ack(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::AckMessage, result)
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answered<v2::ForwardMessageToDeadLetterQueueResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => settle::dead_letter(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::ForwardMessageToDeadLetterQueue, result)
    }

    async fn pull_message(&self, request: Request<v2::PullMessageRequest>) -> Answered<Self::PullMessageStream> {
        let (headers, extensions, request) = request.into_parts();
        let frames = match Caller::of(&headers, &extensions) {
            Ok(caller) => pull::pull(&self.0, &caller, request).await,
            Err(refusal) => pull::refuse(refusal),
        };
        self.0.metrics.answered(Rpc::PullMessage, frames.code);
        Ok(Response::new(frames.stream))
    }

    async fn update_offset(&self, request: Request<v2::UpdateOffsetRequest>) -> Answered<v2::UpdateOffsetResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => offsets::update(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::UpdateOffset, result)
    }

    async fn get_offset(&self, request: Request<v2::GetOffsetRequest>) -> Answered<v2::GetOffsetResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => offsets::get(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::GetOffset, result)
    }

    async fn query_offset(&self, request: Request<v2::QueryOffsetRequest>) -> Answered<v2::QueryOffsetResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => offsets::query(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::QueryOffset, result)
    }

    async fn end_transaction(
        &self,
        request: Request<v2::EndTransactionRequest>,
    ) -> Answered<v2::EndTransactionResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => transaction::end(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::EndTransaction, result)
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answered<Self::TelemetryStream> {
        let (headers, extensions, inbound) = request.into_parts();
        let frames = match Caller::of(&headers, &extensions) {
            Ok(caller) => telemetry::open(self.0.clone(), telemetry::Opener::new(&caller), inbound),
            Err(refusal) => {
                self.0.metrics.answered(Rpc::Telemetry, refusal.code);
                telemetry::refuse(&self.0, refusal)
            }
        };
        Ok(Response::new(frames))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answered<v2::NotifyClientTerminationResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => session::terminate(&self.0, &caller, &request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::NotifyClientTermination, result)
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answered<v2::ChangeInvisibleDurationResponse> {
        let (headers, extensions, request) = request.into_parts();
        let response = match Caller::of(&headers, &extensions) {
            Ok(caller) => settle::change_invisible(&self.0, &caller, request).await,
            Err(refusal) => settle::unchanged(refusal, request.receipt_handle),
        };
        self.answer(Rpc::ChangeInvisibleDuration, Ok(response))
    }

    async fn recall_message(&self, request: Request<v2::RecallMessageRequest>) -> Answered<v2::RecallMessageResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => recall::recall(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::RecallMessage, result)
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answered<v2::SyncLiteSubscriptionResponse> {
        let (headers, extensions, request) = request.into_parts();
        let result = match Caller::of(&headers, &extensions) {
            Ok(caller) => lite::sync(&self.0, &caller, request).await,
            Err(refusal) => Err(refusal),
        };
        self.answer(Rpc::SyncLiteSubscription, result)
    }
}

/// A response that says by a status how it went.
trait HasStatus: Default {
    fn status(&mut self) -> &mut Option<v2::Status>;
}

// The same line for every response of the contract.
macro_rules! has_status {
    ($($response:ident),*) => {$(
        impl HasStatus for v2::$response {
            fn status(&mut self) -> &mut Option<v2::Status> {
                &mut self.status
            }
        }
    )*};
}
has_status!(
    QueryRouteResponse,
    HeartbeatResponse,
    QueryAssignmentResponse,
    AckMessageResponse,
    ForwardMessageToDeadLetterQueueResponse,
    UpdateOffsetResponse,
    GetOffsetResponse,
    QueryOffsetResponse,
    EndTransactionResponse,
    NotifyClientTerminationResponse,
    ChangeInvisibleDurationResponse,
    RecallMessageResponse,
    SyncLiteSubscriptionResponse
);
