//! Connections to a server that speaks the public contract, as thin as a gRPC client can be:
//! requests go out encoded, and of an answer only the needed fields are read.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes};
use centaur_apis::{
    fields::{Fields, Value, message, system, text},
    v2,
};
use prost::Message as _;
use tokio::{sync::mpsc, task::AbortHandle, time};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use crate::requests::{self, POLL_SECONDS, Payload, Run};

pub(crate) const SEND: &str = "/apache.rocketmq.v2.MessagingService/SendMessage";
pub(crate) const ECHO: &str = "/centaur.bench.Echo/Call";
const RECEIVE: &str = "/apache.rocketmq.v2.MessagingService/ReceiveMessage";
const ACK: &str = "/apache.rocketmq.v2.MessagingService/AckMessage";
const END_TRANSACTION: &str = "/apache.rocketmq.v2.MessagingService/EndTransaction";
const SYNC_LITE: &str = "/apache.rocketmq.v2.MessagingService/SyncLiteSubscription";
const ROUTE: &str = "/apache.rocketmq.v2.MessagingService/QueryRoute";

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_SLACK: Duration = Duration::from_secs(3);
const ROUTE_TIMEOUT: Duration = Duration::from_secs(10);
const ROUTE_PAUSE: Duration = Duration::from_millis(20);
/// Clients renew their settings, else a server forgets them.
const SETTINGS_PERIOD: Duration = Duration::from_secs(30);
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
    grpc: Grpc<Channel>,
    metadata: Arc<MetadataMap>,
    /// Tells the server what this client is; ends with the last clone.
    session: Option<Arc<Session>>,
}

/// A telemetry stream that is kept open by a task.
#[derive(Debug)]
struct Session(AbortHandle);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A message received and not yet acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) message_id: String,
    pub(crate) receipt_handle: String,
}

/// A half message that is stored and not yet decided.
#[derive(Clone, Debug)]
pub(crate) struct HalfMessage {
    message_id: String,
    transaction_id: String,
}

/// What a client declares itself to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role<'a> {
    Producer {
        topic: &'a str,
    },
    Consumer {
        topic: &'a str,
        group: &'a str,
    },
    /// Of lite topics below `topic`.
    LiteConsumer {
        topic: &'a str,
        group: &'a str,
    },
}

/// Opens `count` connections, each a client of its own.
pub(crate) async fn connect(endpoint: &str, count: usize, run: &Run) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for i in 0..count {
        connections.push(Connection::open(endpoint, &format!("bench@{}@{i}", run.as_str())).await?);
    }
    Ok(connections)
}

impl Connection {
    async fn open(endpoint: &str, client_id: &str) -> Result<Self> {
        let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let channel = Endpoint::from_shared(url)?
            .tcp_nodelay(true)
            .connect_timeout(CALL_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect()
            .await
            .with_context(|| format!("cannot connect to {endpoint}"))?;
        let mut metadata = MetadataMap::new();
        metadata.insert("x-mq-client-id", client_id.parse()?);
        for (key, value) in [("x-mq-language", "RUST"), ("x-mq-client-version", "5.0.8"), ("x-mq-protocol", "v2")] {
            metadata.insert(key, value.parse()?);
        }
        let grpc = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { channel, grpc, metadata: Arc::new(metadata), session: None })
    }

    /// Carries one encoded request and brings the encoded answer.
    pub(crate) async fn unary(&mut self, path: &'static str, payload: Payload) -> Result<Bytes> {
        self.grpc.ready().await?;
        let request = self.request(payload, CALL_TIMEOUT);
        let answer = self.grpc.unary(request, PathAndQuery::from_static(path), Encoded).await;
        Ok(answer.with_context(|| format!("{path} failed"))?.into_inner())
    }

    /// Sends what `payload` holds and sees that it was accepted.
    pub(crate) async fn send(&mut self, payload: Payload) -> Result<()> {
        let answer = self.unary(SEND, payload).await?;
        accepted(&answer, "send")
    }

    /// Sends the half message that `payload` holds.
    pub(crate) async fn send_half(&mut self, payload: Payload) -> Result<HalfMessage> {
        let answer = self.unary(SEND, payload).await?;
        accepted(&answer, "send")?;
        let entry = v2::SendMessageResponse::decode(answer)?.entries.pop();
        let v2::SendResultEntry { message_id, transaction_id, .. } = entry.context("a send has no result")?;
        Ok(HalfMessage { message_id, transaction_id })
    }

    /// Has a half message delivered.
    pub(crate) async fn commit(&mut self, topic: &str, half: HalfMessage) -> Result<()> {
        let request = v2::EndTransactionRequest {
            topic: Some(requests::resource(topic)),
            message_id: half.message_id,
            transaction_id: half.transaction_id,
            resolution: v2::TransactionResolution::Commit.into(),
            source: v2::TransactionSource::SourceClient.into(),
            ..Default::default()
        };
        let answer = self.unary(END_TRANSACTION, Payload::Whole(request.encode_to_vec().into())).await?;
        accepted(&answer, "commit")
    }

    /// Subscribes to these lite topics below `topic` and to no others; those that are missing come
    /// into being.
    pub(crate) async fn subscribe(&mut self, topic: &str, group: &str, lite_topics: Vec<String>) -> Result<()> {
        let request = v2::SyncLiteSubscriptionRequest {
            action: v2::LiteSubscriptionAction::CompleteAdd.into(),
            topic: Some(requests::resource(topic)),
            group: Some(requests::resource(group)),
            lite_topic_set: lite_topics,
            ..Default::default()
        };
        let answer = self.unary(SYNC_LITE, Payload::Whole(request.encode_to_vec().into())).await?;
        accepted(&answer, "subscription")
    }

    /// Has the payload echoed and sees that it came back whole.
    pub(crate) async fn echo(&mut self, payload: Payload) -> Result<Bytes> {
        let length = payload.len();
        let answer = self.unary(ECHO, payload).await?;
        if answer.len() != length {
            bail!("the echo of {length} bytes has {} bytes", answer.len());
        }
        Ok(answer)
    }

    /// Takes messages for a while; empty when none came in time.
    pub(crate) async fn receive(&mut self, request: Bytes) -> Result<Vec<Lease>> {
        self.grpc.ready().await?;
        let timeout = Duration::from_secs(POLL_SECONDS.unsigned_abs()) + POLL_SLACK;
        let request = self.request(Payload::Whole(request), timeout);
        let mut frames =
            self.grpc.server_streaming(request, PathAndQuery::from_static(RECEIVE), Encoded).await?.into_inner();
        let mut leases = Vec::new();
        while let Some(frame) = frames.next().await {
            match Fields::new(&frame?).next() {
                Some((1, Value::Bytes(status))) => received(status)?,
                Some((2, Value::Bytes(message))) => leases.push(Lease::read(message)?),
                _ => {}
            }
        }
        Ok(leases)
    }

    /// Settles leases in one call.
    pub(crate) async fn ack(&mut self, group: &str, topic: &str, leases: Vec<Lease>) -> Result<()> {
        let entry = |lease: Lease| v2::AckMessageEntry {
            message_id: lease.message_id,
            receipt_handle: lease.receipt_handle,
            lite_topic: None,
        };
        let request = requests::ack(group, topic, leases.into_iter().map(entry).collect());
        let answer = self.unary(ACK, Payload::Whole(request)).await?;
        accepted(&answer, "ack")
    }

    /// The queues of a topic; asking makes the topic where the server creates on demand.
    pub(crate) async fn queues(&mut self, topic: &str) -> Result<Vec<v2::MessageQueue>> {
        let request = v2::QueryRouteRequest { topic: Some(requests::resource(topic)), endpoints: None };
        let request = Payload::Whole(request.encode_to_vec().into());
        let deadline = time::Instant::now() + ROUTE_TIMEOUT;
        loop {
            let answer = v2::QueryRouteResponse::decode(self.unary(ROUTE, request.clone()).await?)?;
            if !answer.message_queues.is_empty() {
                return Ok(answer.message_queues);
            }
            if time::Instant::now() > deadline {
                let status = answer.status.unwrap_or_default();
                bail!("topic {topic} has no queue: {} {}", status.code, status.message);
            }
            time::sleep(ROUTE_PAUSE).await;
        }
    }

    /// Declares what this client is, and keeps saying so as long as this connection or a later
    /// clone of it lives.
    pub(crate) async fn declare(&mut self, role: Role<'_>) -> Result<()> {
        let settings = settings(role);
        let (commands, stream) = mpsc::channel(1);
        commands.try_send(settings.clone())?;
        let request = self.request(ReceiverStream::new(stream), Duration::MAX);
        let mut client = v2::messaging_service_client::MessagingServiceClient::new(self.channel.clone());
        let mut answers = client.telemetry(request).await?.into_inner();
        answers.next().await.context("the server ended the telemetry stream")??;
        let session = tokio::spawn(async move {
            let mut period = time::interval_at(time::Instant::now() + SETTINGS_PERIOD, SETTINGS_PERIOD);
            loop {
                tokio::select! {
                    _ = period.tick() => if commands.send(settings.clone()).await.is_err() { return },
                    answer = answers.next() => if !matches!(answer, Some(Ok(_))) { return },
                }
            }
        });
        self.session = Some(Arc::new(Session(session.abort_handle())));
        Ok(())
    }

    fn request<T>(&self, body: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(body);
        *request.metadata_mut() = MetadataMap::clone(&self.metadata);
        if timeout < Duration::MAX {
            request.set_timeout(timeout);
        }
        request
    }
}

impl Lease {
    fn read(encoded: &[u8]) -> Result<Self> {
        let properties = Fields::new(encoded).find_map(|field| match field {
            (message::SYSTEM_PROPERTIES, Value::Bytes(properties)) => Some(properties),
            _ => None,
        });
        let properties = properties.context("a received message has no system properties")?;
        let field = |number| text(properties, number).map(str::to_owned);
        let message_id = field(system::MESSAGE_ID).context("a received message has no id")?;
        let receipt_handle = field(system::RECEIPT_HANDLE).context("a received message has no receipt handle")?;
        Ok(Self { message_id, receipt_handle })
    }
}

/// Checks the status of a unary answer: its first field in every answer of the contract.
fn accepted(answer: &[u8], what: &str) -> Result<()> {
    let status = match Fields::new(answer).find(|(number, _)| *number == 1) {
        Some((_, Value::Bytes(status))) => v2::Status::decode(status)?,
        _ => bail!("the answer to {what} has no status"),
    };
    if status.code() != v2::Code::Ok {
        bail!("{what} was refused: {} {}", status.code, status.message);
    }
    Ok(())
}

/// Checks the status of a receive, where nothing to receive is no failure.
fn received(status: &[u8]) -> Result<()> {
    let status = v2::Status::decode(status)?;
    match status.code() {
        v2::Code::Ok | v2::Code::MessageNotFound => Ok(()),
        _ => bail!("receive was refused: {} {}", status.code, status.message),
    }
}

fn settings(role: Role<'_>) -> v2::TelemetryCommand {
    let (client_type, pub_sub) = match role {
        Role::Producer { topic } => {
            let topics = vec![requests::resource(topic)];
            let publishing = v2::Publishing { topics, max_body_size: 4 << 20, validate_message_type: true };
            (v2::ClientType::Producer, v2::settings::PubSub::Publishing(publishing))
        }
        Role::Consumer { topic, group } => (v2::ClientType::SimpleConsumer, subscription(topic, group)),
        Role::LiteConsumer { topic, group } => (v2::ClientType::LiteSimpleConsumer, subscription(topic, group)),
    };
    let settings = v2::Settings {
        client_type: Some(client_type.into()),
        request_timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        pub_sub: Some(pub_sub),
        user_agent: Some(v2::Ua { language: v2::Language::Rust.into(), version: "5.0.8".into(), ..Default::default() }),
        ..Default::default()
    };
    v2::TelemetryCommand { status: None, command: Some(v2::telemetry_command::Command::Settings(settings)) }
}

fn subscription(topic: &str, group: &str) -> v2::settings::PubSub {
    let expression = Some(requests::everything());
    let subscription = v2::Subscription {
        group: Some(requests::resource(group)),
        subscriptions: vec![v2::SubscriptionEntry { topic: Some(requests::resource(topic)), expression }],
        ..Default::default()
    };
    v2::settings::PubSub::Subscription(subscription)
}

/// Leaves encoding and decoding to the caller.
#[derive(Clone, Copy, Debug)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Payload;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Payload;
    type Error = Status;

    fn encode(&mut self, payload: Payload, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(payload.len());
        payload.write(out);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
