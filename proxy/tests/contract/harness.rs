//! A proxy over a fake store, and a client that speaks the public contract to it.

use std::{net::SocketAddr, time::Duration};

use centaur_apis::{
    names::StoreGroupName,
    store::store_server::StoreServer,
    transport::Transport,
    v2::{messaging_service_client::MessagingServiceClient, receive_message_response::Content, *},
};
use centaur_proxy::{Config, Proxy};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request,
    service::Routes,
    transport::{Channel, Server},
};

use crate::fake_store::FakeStore;

pub const CLIENT: &str = "host@1@0@abc";
/// As the official clients have it: no answer is larger.
const ANSWER_BYTES_MAX: usize = 64 << 20;

pub type Client = MessagingServiceClient<Transport>;

pub struct Harness {
    pub store: FakeStore,
    pub proxy: Proxy,
    pub client: Client,
    pub transport: Transport,
}

impl Harness {
    /// Everything in this process.
    pub fn local(change: impl Fn(&mut Config)) -> Self {
        let store = FakeStore::new();
        let proxy = Proxy::open(config(change), Transport::Local(store_routes(&store)));
        let transport = Transport::Local(proxy.routes());
        Self { client: client(&transport), store, proxy, transport }
    }

    /// Client, proxy and store with connections between them.
    pub async fn remote(change: impl Fn(&mut Config)) -> Self {
        let store = FakeStore::new();
        let behind = Transport::Remote(serve(store_routes(&store)).await.1);
        let proxy = Proxy::open(config(change), behind);
        let transport = Transport::Remote(serve(proxy.routes()).await.1);
        Self { client: client(&transport), store, proxy, transport }
    }
}

/// Keeps a promise in both arrangements.
pub async fn both(promise: impl AsyncFn(Harness)) {
    both_with(|_| (), promise).await;
}

pub async fn both_with(change: impl Fn(&mut Config), promise: impl AsyncFn(Harness)) {
    promise(Harness::local(&change)).await;
    promise(Harness::remote(&change).await).await;
}

fn config(change: impl Fn(&mut Config)) -> Config {
    let mut config = Config::new(StoreGroupName::parse("broker-a").expect("a name"));
    change(&mut config);
    config
}

fn store_routes(store: &FakeStore) -> Routes {
    Routes::new(StoreServer::new(store.clone()).max_decoding_message_size(ANSWER_BYTES_MAX))
}

pub fn client(transport: &Transport) -> Client {
    MessagingServiceClient::new(transport.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// Serves routes on a free port until the test ends.
async fn serve(routes: Routes) -> (SocketAddr, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).expect("a uri").connect().await.expect("listening");
    (address, channel)
}

/// A request with the headers of an ordinary client.
pub fn from<T>(client: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", client.parse().expect("ascii"));
    request.metadata_mut().insert("x-mq-language", "HTTP".parse().expect("ascii"));
    request.metadata_mut().insert("x-mq-client-version", "5.0.4".parse().expect("ascii"));
    request
}

pub fn ours<T>(message: T) -> Request<T> {
    from(CLIENT, message)
}

pub fn within<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = ours(message);
    request.set_timeout(deadline);
    request
}

pub fn named(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: "ns".into(), name: name.into() })
}

pub fn message(topic: &str, id: &str) -> Message {
    let system = SystemProperties { message_id: id.into(), ..Default::default() };
    Message {
        topic: named(topic),
        system_properties: Some(system),
        body: format!("body of {id}").into(),
        ..Default::default()
    }
}

pub fn grouped(topic: &str, id: &str, group: &str) -> Message {
    let mut message = message(topic, id);
    if let Some(system) = &mut message.system_properties {
        system.message_group = Some(group.into());
    }
    message
}

/// A message with other system properties.
pub fn message_with(topic: &str, id: &str, change: impl FnOnce(&mut SystemProperties)) -> Message {
    let mut message = message(topic, id);
    change(message.system_properties.as_mut().expect("set"));
    message
}

pub fn receive_from(topic: &str, group: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: named(group),
        message_queue: Some(MessageQueue { topic: named(topic), ..Default::default() }),
        batch_size: 32,
        invisible_duration: Some(seconds(30)),
        long_polling_timeout: Some(seconds(5)),
        ..Default::default()
    }
}

pub fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub async fn send(client: &mut Client, messages: Vec<Message>) -> SendMessageResponse {
    let answer = client.send_message(ours(SendMessageRequest { messages })).await;
    answer.expect("a refusal is in the status").into_inner()
}

/// The frames of a receive, in order.
pub async fn frames(client: &mut Client, request: Request<ReceiveMessageRequest>) -> Vec<Content> {
    let mut stream = client.receive_message(request).await.expect("a refusal is in a frame").into_inner();
    let mut frames = Vec::new();
    while let Some(frame) = stream.message().await.expect("the stream ends well") {
        frames.push(frame.content.expect("no frame is empty"));
    }
    frames
}

/// Status and messages of a receive; checks the order of frames.
pub async fn receive(client: &mut Client, request: Request<ReceiveMessageRequest>) -> (Code, Vec<Message>) {
    let mut frames = frames(client, request).await;
    let last = frames.pop();
    assert!(matches!(last, Some(Content::DeliveryTimestamp(_))), "{last:?} is not the time");
    let mut frames = frames.into_iter();
    let code = match frames.next() {
        Some(Content::Status(status)) => status.code(),
        other => panic!("{other:?} is not a status"),
    };
    let message = |frame| match frame {
        Content::Message(message) => message,
        other => panic!("{other:?} is not a message"),
    };
    (code, frames.map(message).collect())
}

pub fn handle_of(message: &Message) -> String {
    let system = message.system_properties.as_ref();
    system.and_then(|s| s.receipt_handle.clone()).expect("every message has a handle")
}

pub fn code(status: Option<&Status>) -> Code {
    status.expect("every answer has a status").code()
}
