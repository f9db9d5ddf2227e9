//! A server of the public contract that keeps messages in memory, for the tests of the load.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use centaur_apis::v2::{self, messaging_service_server as server};
use tokio::{net::TcpListener, sync::Notify};
use tokio_stream::{Iter, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server, transport::server::TcpIncoming};

/// What the fake has seen, and how it should behave.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    messages: Mutex<VecDeque<v2::Message>>,
    leased: Mutex<HashMap<String, v2::Message>>,
    arrived: Notify,
    receipts: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) waiting: AtomicU64,
    /// Refuses every send when set.
    pub(crate) refuses: bool,
}

/// Serves `fake` in this runtime and says where.
pub(crate) async fn start(fake: Arc<Fake>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = server::MessagingServiceServer::new(Service(fake));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    address
}

#[derive(Clone, Debug)]
struct Service(Arc<Fake>);

type Frames<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;
type Answer<T> = Result<Response<T>, Status>;

fn status(code: v2::Code) -> Option<v2::Status> {
    Some(v2::Status { code: code.into(), message: code.as_str_name().into() })
}

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("no load uses it"))
}

impl Service {
    fn take(&self, batch: usize) -> Vec<v2::Message> {
        let mut messages = self.0.messages.lock().expect("no panic");
        let count = batch.min(messages.len());
        let mut taken: Vec<_> = messages.drain(..count).collect();
        for message in &mut taken {
            let handle = self.0.receipts.fetch_add(1, Relaxed).to_string();
            let properties = message.system_properties.as_mut().expect("properties");
            properties.receipt_handle = Some(handle.clone());
            self.0.leased.lock().expect("no panic").insert(handle, message.clone());
        }
        taken
    }

    async fn wait(&self, batch: usize) -> Vec<v2::Message> {
        loop {
            let arrival = self.0.arrived.notified();
            let taken = self.take(batch);
            if !taken.is_empty() {
                return taken;
            }
            self.0.waiting.fetch_add(1, Relaxed);
            arrival.await;
            self.0.waiting.fetch_sub(1, Relaxed);
        }
    }
}

#[tonic::async_trait]
impl server::MessagingService for Service {
    type ReceiveMessageStream = Frames<v2::ReceiveMessageResponse>;
    type PullMessageStream = Frames<v2::PullMessageResponse>;
    type TelemetryStream = ReceiverStream<Result<v2::TelemetryCommand, Status>>;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answer<v2::QueryRouteResponse> {
        let queue = v2::MessageQueue { topic: request.into_inner().topic, ..Default::default() };
        Ok(Response::new(v2::QueryRouteResponse { status: status(v2::Code::Ok), message_queues: vec![queue] }))
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Answer<v2::SendMessageResponse> {
        if self.0.refuses {
            let refusal = v2::SendMessageResponse { status: status(v2::Code::TooManyRequests), entries: vec![] };
            return Ok(Response::new(refusal));
        }
        self.0.messages.lock().expect("no panic").extend(request.into_inner().messages);
        self.0.arrived.notify_waiters();
        Ok(Response::new(v2::SendMessageResponse { status: status(v2::Code::Ok), entries: vec![] }))
    }

    async fn receive_message(&self, request: Request<v2::ReceiveMessageRequest>) -> Answer<Self::ReceiveMessageStream> {
        use v2::receive_message_response::Content;
        if !request.metadata().contains_key("x-mq-client-id") {
            return Err(Status::invalid_argument("no client id"));
        }
        let batch = request.into_inner().batch_size;
        let messages = self.wait(usize::try_from(batch).expect("a batch size")).await;
        self.0.received.fetch_add(messages.len() as u64, Relaxed);
        let first = status(v2::Code::Ok).map(Content::Status);
        let last = Some(Content::DeliveryTimestamp(prost_types::Timestamp::default()));
        let frames = first.into_iter().chain(messages.into_iter().map(Content::Message)).chain(last);
        let frames: Vec<_> = frames.map(|content| Ok(v2::ReceiveMessageResponse { content: Some(content) })).collect();
        Ok(Response::new(tokio_stream::iter(frames)))
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Answer<v2::AckMessageResponse> {
        let mut leased = self.0.leased.lock().expect("no panic");
        let is_leased = |entry: &v2::AckMessageEntry| leased.remove(&entry.receipt_handle).is_some();
        let entries = request.into_inner().entries;
        let count = entries.len();
        let acked = entries.iter().map(is_leased).filter(|known| *known).count();
        self.0.acked.fetch_add(acked as u64, Relaxed);
        let code = if acked == count { v2::Code::Ok } else { v2::Code::InvalidReceiptHandle };
        Ok(Response::new(v2::AckMessageResponse { status: status(code), entries: vec![] }))
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        let mut commands = request.into_inner();
        let (answers, stream) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(mut command)) = commands.next().await {
                command.status = status(v2::Code::Ok);
                if answers.send(Ok(command)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn heartbeat(&self, _: Request<v2::HeartbeatRequest>) -> Answer<v2::HeartbeatResponse> {
        unused()
    }

    async fn query_assignment(&self, _: Request<v2::QueryAssignmentRequest>) -> Answer<v2::QueryAssignmentResponse> {
        unused()
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        _: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<v2::ForwardMessageToDeadLetterQueueResponse> {
        unused()
    }

    async fn pull_message(&self, _: Request<v2::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        unused()
    }

    async fn update_offset(&self, _: Request<v2::UpdateOffsetRequest>) -> Answer<v2::UpdateOffsetResponse> {
        unused()
    }

    async fn get_offset(&self, _: Request<v2::GetOffsetRequest>) -> Answer<v2::GetOffsetResponse> {
        unused()
    }

    async fn query_offset(&self, _: Request<v2::QueryOffsetRequest>) -> Answer<v2::QueryOffsetResponse> {
        unused()
    }

    async fn end_transaction(&self, _: Request<v2::EndTransactionRequest>) -> Answer<v2::EndTransactionResponse> {
        unused()
    }

    async fn notify_client_termination(
        &self,
        _: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answer<v2::NotifyClientTerminationResponse> {
        unused()
    }

    async fn change_invisible_duration(
        &self,
        _: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answer<v2::ChangeInvisibleDurationResponse> {
        unused()
    }

    async fn recall_message(&self, _: Request<v2::RecallMessageRequest>) -> Answer<v2::RecallMessageResponse> {
        unused()
    }

    async fn sync_lite_subscription(
        &self,
        _: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answer<v2::SyncLiteSubscriptionResponse> {
        unused()
    }
}

mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        e2e, echo, idle, receive, send,
        target::{Shape, Target},
    };

    fn target(address: SocketAddr, messages: impl Into<Option<u64>>) -> Target {
        Target {
            endpoint: address.to_string(),
            pid: vec![std::process::id()],
            topic: "orders".into(),
            group: "workers".into(),
            size: 100,
            connections: 2,
            in_flight: 8,
            duration: 0.2,
            warm_up: 0.0,
            messages: messages.into(),
        }
    }

    async fn start_echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(echo::serve(listener));
        address
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_echo_is_measured() {
        let options = send::Options { target: target(start_echo().await, None), shape: Shape::Echo, batch: 1 };
        let report = send::run(&options).await.expect("a report");
        assert_eq!((report.scenario, report.errors), ("echo", 0));
        assert!(report.messages > 0 && report.rate > 0.0);
        assert!(report.cpu_per_million().expect("a process") > 0.0);
        assert!(report.latency["call"].count > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_echo_answers_a_bare_send() {
        let options = send::Options { target: target(start_echo().await, None), shape: Shape::Bare, batch: 2 };
        let report = send::run(&options).await.expect("a report");
        assert_eq!((report.scenario, report.first_error.as_deref()), ("bare send", None));
        assert!(report.messages > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_sent_message_arrives_once() {
        let fake = Arc::new(Fake::default());
        let options =
            send::Options { target: target(start(Arc::clone(&fake)).await, 1000), shape: Shape::Send, batch: 4 };
        let report = send::run(&options).await.expect("a report");
        assert_eq!(report.first_error, None);
        let messages = fake.messages.lock().expect("no panic");
        let id = |message: &v2::Message| message.system_properties.clone().expect("properties").message_id;
        let ids: std::collections::HashSet<_> = messages.iter().map(id).collect();
        assert_eq!(ids.len(), messages.len());
        assert!(messages.len() >= 1000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_is_an_error_with_its_reason() {
        let fake = Arc::new(Fake { refuses: true, ..Fake::default() });
        let options = send::Options { target: target(start(fake).await, 1000), shape: Shape::Send, batch: 1 };
        let report = send::run(&options).await.expect("a report");
        assert_eq!(report.messages, 0);
        assert!(report.first_error.expect("an error").contains("TOO_MANY_REQUESTS"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_backlog_is_received_and_acknowledged() {
        let fake = Arc::new(Fake::default());
        let target = target(start(Arc::clone(&fake)).await, 20_000);
        let report = receive::run(&receive::Options { target, batch: 32, backlog: None }).await.expect("a report");
        assert_eq!(report.first_error, None);
        assert!(report.messages > 0);
        assert!(fake.acked.load(Relaxed) >= 20_000);
        assert!(report.latency["receive"].count > 0 && report.latency["ack"].count > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn messages_are_timed_from_end_to_end() {
        let fake = Arc::new(Fake::default());
        let target = target(start(Arc::clone(&fake)).await, 500);
        let options = e2e::Options { target, rate: 2000.0, echo: false, batch: 32 };
        let report = e2e::run(&options).await.expect("a report");
        assert_eq!(report.first_error, None);
        let times = &report.latency["end to end"];
        assert!(times.count > 0 && times.p50 > 0, "{times:?}");
        assert!(fake.received.load(Relaxed) >= 500);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_echo_hops_are_timed() {
        let options = e2e::Options { target: target(start_echo().await, 500), rate: 2000.0, echo: true, batch: 1 };
        let report = e2e::run(&options).await.expect("a report");
        assert_eq!((report.scenario, report.errors), ("two echo hops", 0));
        assert!(report.latency["end to end"].count > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn polls_wait_at_the_server() {
        let fake = Arc::new(Fake::default());
        let options = idle::Options { target: target(start(Arc::clone(&fake)).await, None), polls: 50 };
        let most = async {
            let mut most = 0;
            while most < 50 {
                most = fake.waiting.load(Relaxed).max(most);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (report, ()) = tokio::join!(idle::run(&options), most);
        let report = report.expect("a report");
        assert_eq!((report.messages, report.errors), (0, 0));
        assert!(report.server.expect("a process").cpu_percent >= 0.0);
    }
}
