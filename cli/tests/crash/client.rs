//! A client of the public contract for whom any answer may be missing.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use centaur_apis::v2::{
    AckMessageEntry, AckMessageRequest, Code, Message, MessageQueue, ReceiveMessageRequest, Resource,
    SendMessageRequest, Status, SystemProperties, messaging_service_client::MessagingServiceClient,
    receive_message_response::Content,
};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

/// The topic of every test.
pub const TOPIC: &str = "orders";
/// Length of a lease, the shortest there is.
pub const LEASE: Duration = Duration::from_secs(10);
/// Longest wait for one answer; it is unknown then what happened.
const ANSWER: Duration = Duration::from_secs(20);
/// A poll that finds nothing ends after this, the shortest there is.
const POLL_SECONDS: i64 = 5;
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What came of a call; none: nobody knows.
pub type Outcome = Option<Code>;

/// A message that came.
pub struct Received {
    pub id: String,
    pub body: Bytes,
    pub handle: String,
    pub attempt: i32,
}

#[derive(Clone)]
pub struct Client {
    rpc: MessagingServiceClient<Channel>,
    id: String,
}

impl Client {
    /// A client that connects when it has something to say, as often as needed.
    pub fn new(address: SocketAddr, id: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let rpc = MessagingServiceClient::new(endpoint.timeout(ANSWER).connect_lazy());
        Self { rpc: rpc.max_decoding_message_size(ANSWER_BYTES_MAX), id: id.to_owned() }
    }

    /// Sends a batch.
    pub async fn send(&mut self, messages: &[(String, Bytes)]) -> Outcome {
        let message = |(id, body): &(String, Bytes)| Message {
            topic: named(TOPIC),
            system_properties: Some(SystemProperties { message_id: id.clone(), ..Default::default() }),
            body: body.clone(),
            ..Default::default()
        };
        let request = self.request(SendMessageRequest { messages: messages.iter().map(message).collect() });
        let answer = self.rpc.send_message(request).await.ok()?.into_inner();
        code(answer.status)
    }

    /// Receives what there is; what came before the connection broke did come.
    pub async fn receive(&mut self, group: &str, batch_size: i32) -> Vec<Received> {
        let request = self.request(ReceiveMessageRequest {
            group: named(group),
            message_queue: Some(MessageQueue { topic: named(TOPIC), ..Default::default() }),
            batch_size,
            invisible_duration: Some(seconds(LEASE.as_secs().cast_signed())),
            long_polling_timeout: Some(seconds(POLL_SECONDS)),
            ..Default::default()
        });
        let Ok(answer) = self.rpc.receive_message(request).await else { return Vec::new() };
        let mut frames = answer.into_inner();
        let mut received = Vec::new();
        while let Ok(Some(frame)) = frames.message().await {
            if let Some(Content::Message(message)) = frame.content {
                let system = message.system_properties.expect("every message has system properties");
                received.push(Received {
                    id: system.message_id,
                    body: message.body,
                    handle: system.receipt_handle.expect("a handle"),
                    attempt: system.delivery_attempt.expect("an attempt"),
                });
            }
        }
        received
    }

    /// Acks messages together; each has an outcome of its own.
    pub async fn ack(&mut self, group: &str, messages: &[Received]) -> Vec<Outcome> {
        let entry =
            |message: &Received| AckMessageEntry { receipt_handle: message.handle.clone(), ..Default::default() };
        let entries = messages.iter().map(entry).collect();
        let request = self.request(AckMessageRequest { group: named(group), topic: named(TOPIC), entries });
        let Ok(answer) = self.rpc.ack_message(request).await else { return vec![None; messages.len()] };
        let entries = answer.into_inner().entries;
        assert_eq!(entries.len(), messages.len(), "every handle has an outcome");
        entries.into_iter().map(|entry| code(entry.status)).collect()
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("x-mq-client-id", self.id.parse().expect("ASCII"));
        headers.insert("x-mq-language", "JAVA".parse().expect("ASCII"));
        headers.insert("x-mq-protocol", "v2".parse().expect("ASCII"));
        headers.insert("x-mq-client-version", "5.0.8".parse().expect("ASCII"));
        request
    }
}

/// The code of a status; one that says that nobody knows is no outcome.
fn code(status: Option<Status>) -> Outcome {
    let code = status.expect("every answer has a status").code();
    let is_unknown = [Code::ProxyTimeout, Code::HaNotAvailable, Code::InternalServerError].contains(&code);
    (!is_unknown).then_some(code)
}

fn named(name: &str) -> Option<Resource> {
    Some(Resource { name: name.to_owned(), ..Default::default() })
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}
