//! A client of the public contract with nothing of its own: it says what a test wants said.

use std::time::Duration;

use centaur_apis::v2::{
    messaging_service_client::MessagingServiceClient, receive_message_response::Content, settings::PubSub,
    telemetry_command::Command, *,
};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, transport::Channel};

use crate::harness::in_time;

/// No answer is larger, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest lease of most tests, in seconds: none of them waits for its end.
const LEASE_SECONDS: i64 = 300;

/// The generated client.
pub type Rpc = MessagingServiceClient<Channel>;

/// A client with an id.
#[derive(Clone)]
pub struct Client {
    pub rpc: Rpc,
    pub id: String,
    /// As it says in its headers; empty: it does not.
    pub version: &'static str,
}

/// What came of a receive, its frames checked for their order.
#[derive(Debug)]
pub struct Received {
    pub status: Status,
    pub messages: Vec<Message>,
}

impl Received {
    pub fn code(&self) -> Code {
        self.status.code()
    }

    pub fn ids(&self) -> Vec<String> {
        self.messages.iter().map(id).collect()
    }
}

impl Client {
    pub fn new(channel: Channel, id: &str) -> Self {
        let rpc = MessagingServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Self { rpc, id: id.to_owned(), version: "5.0.8" }
    }

    /// A request with the headers of an ordinary client.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("x-mq-client-id", self.id.parse().expect("ASCII"));
        headers.insert("x-mq-language", "JAVA".parse().expect("ASCII"));
        headers.insert("x-mq-protocol", "v2".parse().expect("ASCII"));
        if !self.version.is_empty() {
            headers.insert("x-mq-client-version", self.version.parse().expect("ASCII"));
        }
        request
    }

    pub async fn send(&self, messages: Vec<Message>) -> SendMessageResponse {
        let answer = self.rpc.clone().send_message(self.request(SendMessageRequest { messages })).await;
        answer.expect("a refusal is in the status").into_inner()
    }

    /// Sends messages with these ids, one by one; each must be stored.
    pub async fn publish(&self, topic: &str, ids: &[&str]) {
        for id in ids {
            self.store(vec![message(topic, id)]).await;
        }
    }

    /// Sends messages in one request that must be stored.
    pub async fn store(&self, messages: Vec<Message>) -> Vec<SendResultEntry> {
        let answer = self.send(messages).await;
        assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
        answer.entries
    }

    pub async fn receive(&self, request: ReceiveMessageRequest) -> Received {
        self.receive_by(self.request(request)).await
    }

    /// A receive that its caller waits for no longer than this.
    pub async fn receive_within(&self, deadline: Duration, request: ReceiveMessageRequest) -> Received {
        let mut request = self.request(request);
        request.set_timeout(deadline);
        self.receive_by(request).await
    }

    pub async fn receive_by(&self, request: Request<ReceiveMessageRequest>) -> Received {
        let answer = self.rpc.clone().receive_message(request).await;
        let mut stream = answer.expect("a refusal is in a frame").into_inner();
        let mut frames = Vec::new();
        while let Some(frame) = stream.message().await.expect("the stream ends well") {
            frames.push(frame.content.expect("no frame is empty"));
        }
        in_order(frames)
    }

    /// Receives until so many messages have come.
    pub async fn take(&self, topic: &str, group: &str, count: usize) -> Vec<Message> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let received = self.receive(receive(topic, group)).await;
            assert_eq!(received.code(), Code::Ok, "{} of {count} came: {taken:?}", taken.len());
            taken.extend(received.messages);
        }
        assert_eq!(taken.len(), count, "{taken:?}");
        taken
    }

    /// Receives the one message there is.
    pub async fn take_one(&self, topic: &str, group: &str) -> Message {
        self.take(topic, group, 1).await.remove(0)
    }

    pub async fn ack(&self, topic: &str, group: &str, handles: &[&str]) -> AckMessageResponse {
        let entry = |handle: &&str| AckMessageEntry { receipt_handle: (*handle).to_owned(), ..Default::default() };
        let entries = handles.iter().map(entry).collect();
        let request = AckMessageRequest { group: named(group), topic: named(topic), entries };
        let answer = self.rpc.clone().ack_message(self.request(request)).await;
        answer.expect("a refusal is in the status").into_inner()
    }

    /// Acks one message; how it went.
    pub async fn ack_one(&self, topic: &str, group: &str, handle: &str) -> Code {
        code(&self.ack(topic, group, &[handle]).await.status)
    }

    pub async fn change(&self, request: ChangeInvisibleDurationRequest) -> ChangeInvisibleDurationResponse {
        let answer = self.rpc.clone().change_invisible_duration(self.request(request)).await;
        answer.expect("a refusal is in the status").into_inner()
    }

    pub async fn dead_letter(&self, request: ForwardMessageToDeadLetterQueueRequest) -> Code {
        let answer = self.rpc.clone().forward_message_to_dead_letter_queue(self.request(request)).await;
        code(&answer.expect("a refusal is in the status").into_inner().status)
    }

    pub async fn heartbeat(&self, kind: ClientType, group: &str) -> Code {
        let request = HeartbeatRequest { group: named(group), client_type: kind.into() };
        let answer = self.rpc.clone().heartbeat(self.request(request)).await;
        code(&answer.expect("a refusal is in the status").into_inner().status)
    }

    /// Ends a transaction, from no source in particular; how it went.
    pub async fn end_transaction(&self, topic: &str, id: &str, resolution: TransactionResolution) -> Code {
        let request = EndTransactionRequest {
            topic: named(topic),
            transaction_id: id.to_owned(),
            resolution: resolution.into(),
            ..Default::default()
        };
        let answer = self.rpc.clone().end_transaction(self.request(request)).await;
        code(&answer.expect("a refusal is in the status").into_inner().status)
    }

    pub async fn recall(&self, topic: &str, handle: &str) -> RecallMessageResponse {
        let request = RecallMessageRequest { topic: named(topic), recall_handle: handle.to_owned() };
        let answer = self.rpc.clone().recall_message(self.request(request)).await;
        answer.expect("a refusal is in the status").into_inner()
    }

    pub async fn sync_lite(&self, request: SyncLiteSubscriptionRequest) -> Code {
        let answer = self.rpc.clone().sync_lite_subscription(self.request(request)).await;
        code(&answer.expect("a refusal is in the status").into_inner().status)
    }

    pub async fn route(&self, request: QueryRouteRequest) -> QueryRouteResponse {
        let answer = self.rpc.clone().query_route(self.request(request)).await;
        answer.expect("a refusal is in the status").into_inner()
    }

    /// Opens a telemetry stream.
    pub async fn telemetry(&self) -> Line {
        let (say, said) = mpsc::channel(16);
        let mut rpc = self.rpc.clone();
        let answer = in_time("a stream", rpc.telemetry(self.request(ReceiverStream::new(said)))).await;
        Line { say, heard: answer.expect("the stream opens").into_inner() }
    }
}

/// An open telemetry stream.
pub struct Line {
    pub say: mpsc::Sender<TelemetryCommand>,
    pub heard: Streaming<TelemetryCommand>,
}

impl Line {
    pub async fn say(&self, settings: Settings) {
        let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        self.say.send(command).await.expect("the stream is open");
    }

    /// The next frame.
    pub async fn hear(&mut self) -> TelemetryCommand {
        in_time("a frame", self.heard.message()).await.expect("the stream goes on").expect("a frame")
    }

    /// Says settings and hears the server's.
    pub async fn settle(&mut self, settings: Settings) -> Settings {
        self.say(settings).await;
        let frame = self.hear().await;
        assert_eq!(code(&frame.status), Code::Ok, "{frame:?}");
        match frame.command {
            Some(Command::Settings(settings)) => settings,
            other => panic!("{other:?} is not settings"),
        }
    }

    /// Ends the stream, and waits until the server has let go of it.
    pub async fn close(self) {
        let Self { say, mut heard } = self;
        drop(say);
        let last = in_time("the end of a stream", heard.message()).await.expect("a clean end");
        assert_eq!(last, None);
    }

    /// Says settings that are not taken; the error that ends the stream.
    pub async fn refused(&mut self, settings: Settings) -> tonic::Status {
        self.say(settings).await;
        in_time("a refusal", self.heard.message()).await.expect_err("the stream ends with an error")
    }
}

/// Splits the frames of a receive; fails unless they are status, messages, time.
fn in_order(mut frames: Vec<Content>) -> Received {
    let last = frames.pop();
    assert!(matches!(last, Some(Content::DeliveryTimestamp(_))), "{last:?} is not the time");
    let mut frames = frames.into_iter();
    let status = match frames.next() {
        Some(Content::Status(status)) => status,
        other => panic!("{other:?} is not a status"),
    };
    let message = |frame| match frame {
        Content::Message(message) => message,
        other => panic!("{other:?} is not a message"),
    };
    Received { status, messages: frames.map(message).collect() }
}

pub fn named(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

pub fn message(topic: &str, id: &str) -> Message {
    let system = SystemProperties { message_id: id.into(), ..Default::default() };
    let body = format!("body of {id}").into();
    Message { topic: named(topic), system_properties: Some(system), body, ..Default::default() }
}

/// A message with other system properties.
pub fn message_with(topic: &str, id: &str, change: impl FnOnce(&mut SystemProperties)) -> Message {
    let mut message = message(topic, id);
    change(message.system_properties.as_mut().expect("set above"));
    message
}

/// A receive of up to 32 messages that waits as short as possible.
pub fn receive(topic: &str, group: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: named(group),
        message_queue: Some(MessageQueue { topic: named(topic), ..Default::default() }),
        batch_size: 32,
        invisible_duration: Some(seconds(LEASE_SECONDS)),
        long_polling_timeout: Some(seconds(5)),
        ..Default::default()
    }
}

/// A receive whose leases live as long as the client.
pub fn receive_renewed(topic: &str, group: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest { auto_renew: true, invisible_duration: None, ..receive(topic, group) }
}

/// A change of a lease to so many seconds from now.
pub fn change(topic: &str, group: &str, handle: &str, length: i64) -> ChangeInvisibleDurationRequest {
    ChangeInvisibleDurationRequest {
        group: named(group),
        topic: named(topic),
        receipt_handle: handle.to_owned(),
        invisible_duration: Some(seconds(length)),
        ..Default::default()
    }
}

pub fn by_tag(expression: &str) -> Option<FilterExpression> {
    Some(FilterExpression { r#type: FilterType::Tag.into(), expression: expression.into() })
}

pub fn by_sql(expression: &str) -> Option<FilterExpression> {
    Some(FilterExpression { r#type: FilterType::Sql.into(), expression: expression.into() })
}

pub fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// So many seconds from now; negative: ago.
pub fn in_seconds(seconds: i64) -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Timestamp { seconds: since.as_secs().cast_signed() + seconds, nanos: 0 }
}

/// Settings of a producer of these topics.
pub fn producer(topics: &[&str]) -> Settings {
    let topics = topics.iter().filter_map(|topic| named(topic)).collect();
    Settings {
        client_type: Some(ClientType::Producer.into()),
        request_timeout: Some(seconds(3)),
        pub_sub: Some(PubSub::Publishing(Publishing { topics, ..Default::default() })),
        ..Default::default()
    }
}

/// Settings of a consumer of these topics.
pub fn consumer(kind: ClientType, group: &str, topics: &[&str]) -> Settings {
    let entry = |topic: &&str| SubscriptionEntry { topic: named(topic), expression: by_tag("*") };
    let subscriptions = topics.iter().map(entry).collect();
    Settings {
        client_type: Some(kind.into()),
        pub_sub: Some(PubSub::Subscription(Subscription { group: named(group), subscriptions, ..Default::default() })),
        ..Default::default()
    }
}

pub fn system(message: &Message) -> &SystemProperties {
    message.system_properties.as_ref().expect("every message has system properties")
}

pub fn id(message: &Message) -> String {
    system(message).message_id.clone()
}

pub fn handle(message: &Message) -> &str {
    system(message).receipt_handle.as_deref().expect("every message has a handle")
}

pub fn attempt(message: &Message) -> i32 {
    system(message).delivery_attempt.expect("every message has an attempt")
}

pub fn code(status: &Option<Status>) -> Code {
    status.as_ref().expect("every answer has a status").code()
}

/// Fails unless a refusal has this code and its sentence has all these words.
pub fn refused(status: &Option<Status>, expected: Code, words: &[&str]) {
    let status = status.as_ref().expect("every answer has a status");
    assert_eq!(status.code(), expected, "{}", status.message);
    for word in words {
        assert!(status.message.contains(word), "{word:?} is not in {:?}", status.message);
    }
}
