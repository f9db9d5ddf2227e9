//! Connections, headers and sizes: what holds whatever is asked.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use centaur_apis::v2::{receive_message_response::Content, *};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use super::{broker::Broker, client::*};
use crate::harness::Server;

/// A connection that is never made anew unseen: the number says how often it was.
pub async fn counted_channel(address: SocketAddr, endpoint: Endpoint) -> (Channel, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let connect = move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { tokio::net::TcpStream::connect(address).await.map(TokioIo::new) }
    };
    let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await.expect("connected");
    (channel, connections)
}

async fn counted_client(broker: &Broker, id: &str) -> (Client, Arc<AtomicUsize>) {
    let endpoint = Endpoint::from_static("http://localhost");
    let (channel, connections) = counted_channel(broker.server.clients(), endpoint).await;
    (Client::new(channel, id), connections)
}

/// Trusts whoever answers, as some official clients do.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection by TLS that insists on HTTP/2 being agreed on.
async fn tls_channel(address: SocketAddr) -> Channel {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = move |_| {
        let connector = connector.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = ServerName::try_from("any.name").expect("a name");
            let stream = connector.connect(name, stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            std::io::Result::Ok(TokioIo::new(stream))
        }
    };
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(tower::service_fn(connect)).await.expect("TLS is spoken")
}

// 1, 2
#[tokio::test(flavor = "multi_thread")]
async fn tls_and_plaintext_clients_share_a_port_and_a_topic() {
    let broker = Broker::shared().await;
    broker.topic("tls").await;
    let plain = broker.client("tls-plain").await;
    let secret = Client::new(tls_channel(broker.server.clients()).await, "tls-secret");
    secret.publish("tls", &["1"]).await;
    let taken = plain.take_one("tls", "tls").await;
    assert_eq!(secret.ack_one("tls", "tls", handle(&taken)).await, Code::Ok);
    plain.publish("tls", &["2"]).await;
    assert_eq!(id(&secret.take_one("tls", "tls").await), "2");
}

// 3
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_body_with_the_largest_properties_passes() {
    let broker = Broker::shared().await;
    broker.topic("largest").await;
    let client = broker.client("largest").await;
    let mut largest = message("largest", "1");
    largest.body = vec![b'x'; 4 << 20].into();
    // 128 properties with keys of 8 and values of 120 bytes: 16 KiB.
    largest.user_properties = (0..128).map(|i| (format!("key-{i:04}"), "v".repeat(120))).collect();
    client.store(vec![largest.clone()]).await;
    let received = client.take_one("largest", "largest").await;
    assert_eq!(received.user_properties, largest.user_properties);
    assert!(received.body == largest.body, "the body has changed");
}

// 4
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiting_receives_on_one_connection_are_all_served() {
    const POLLS: usize = 1_000;
    let broker = Broker::shared().await;
    broker.topic("thousand").await;
    let client = broker.client("thousand").await;
    let request = ReceiveMessageRequest {
        batch_size: 1,
        long_polling_timeout: Some(seconds(20)),
        ..receive("thousand", "thousand")
    };
    let polls: Vec<_> = (0..POLLS)
        .map(|_| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.receive(request).await })
        })
        .collect();
    broker.until_parked("thousand", "thousand", POLLS as u32).await;
    let ids: Vec<String> = (0..POLLS).map(|i| format!("{i}")).collect();
    for ids in ids.chunks(100) {
        client.store(ids.iter().map(|id| message("thousand", id)).collect()).await;
    }
    let mut seen = HashSet::new();
    for poll in polls {
        seen.extend(poll.await.expect("no panic").ids());
    }
    assert_eq!(seen.len(), POLLS, "each receive got a message of its own");
}

// 7
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_client_id_is_a_status_of_every_call() {
    let broker = Broker::shared().await;
    let (client, connections) = counted_client(&broker, "unused").await;
    let mut rpc = client.rpc;
    // The request of one procedure, with default contents and without a header.
    macro_rules! check {
        ($($procedure:ident($request:ident)),* $(,)?) => {$(
            let answer = rpc.$procedure(Request::new($request::default())).await;
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", stringify!($procedure)));
            refused(&answer.into_inner().status, Code::ClientIdRequired, &["x-mq-client-id"]);
        )*};
    }
    check!(
        query_route(QueryRouteRequest),
        heartbeat(HeartbeatRequest),
        send_message(SendMessageRequest),
        query_assignment(QueryAssignmentRequest),
        ack_message(AckMessageRequest),
        forward_message_to_dead_letter_queue(ForwardMessageToDeadLetterQueueRequest),
        update_offset(UpdateOffsetRequest),
        get_offset(GetOffsetRequest),
        query_offset(QueryOffsetRequest),
        end_transaction(EndTransactionRequest),
        notify_client_termination(NotifyClientTerminationRequest),
        change_invisible_duration(ChangeInvisibleDurationRequest),
        recall_message(RecallMessageRequest),
        sync_lite_subscription(SyncLiteSubscriptionRequest),
    );
    let mut frames = rpc.receive_message(ReceiveMessageRequest::default()).await.expect("a stream").into_inner();
    let first = frames.message().await.expect("a frame").and_then(|frame| frame.content);
    assert!(matches!(&first, Some(Content::Status(s)) if s.code() == Code::ClientIdRequired), "{first:?}");
    let mut frames = rpc.pull_message(PullMessageRequest::default()).await.expect("a stream").into_inner();
    let first = frames.message().await.expect("a frame").and_then(|frame| frame.content);
    assert!(
        matches!(&first, Some(pull_message_response::Content::Status(s)) if s.code() == Code::ClientIdRequired),
        "{first:?}"
    );
    let mut frames = rpc.telemetry(tokio_stream::pending()).await.expect("a stream").into_inner();
    let first = frames.message().await.expect("a frame").expect("a frame");
    refused(&first.status, Code::ClientIdRequired, &["x-mq-client-id"]);
    assert_eq!(first.command, None);
    assert_eq!(frames.message().await.expect("a clean end"), None);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

// 8
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_heartbeat_without_headers_leaves_the_connection_alone() {
    let broker = Broker::shared().await;
    let (client, connections) = counted_client(&broker, "unsigned").await;
    for _ in 0..3 {
        let answer = client.rpc.clone().heartbeat(HeartbeatRequest::default()).await.expect("a status");
        refused(&answer.into_inner().status, Code::ClientIdRequired, &[]);
    }
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// Fails unless calls of every shape are answered as ever when these headers come with them.
async fn check_served(client: &Client, topic: &str, with: impl Fn(&mut MetadataMap)) {
    fn changed<T>(client: &Client, message: T, with: impl Fn(&mut MetadataMap)) -> Request<T> {
        let mut request = client.request(message);
        with(request.metadata_mut());
        request
    }
    let mut rpc = client.rpc.clone();
    let beat = HeartbeatRequest { group: None, client_type: ClientType::Producer.into() };
    let beaten = rpc.heartbeat(changed(client, beat, &with)).await.expect("a status").into_inner();
    assert_eq!(code(&beaten.status), Code::Ok);
    let send = SendMessageRequest { messages: vec![message(topic, "1")] };
    let sent = rpc.send_message(changed(client, send, &with)).await.expect("a status").into_inner();
    assert_eq!(code(&sent.status), Code::Ok);
    let received = client.receive_by(changed(client, receive(topic, topic), &with)).await;
    assert_eq!((received.code(), received.ids()), (Code::Ok, vec!["1".to_owned()]));
    let (say, said) = tokio::sync::mpsc::channel(1);
    let opened = rpc.telemetry(changed(client, ReceiverStream::new(said), &with)).await;
    Line { say, heard: opened.expect("the stream opens").into_inner() }.settle(producer(&[topic])).await;
}

// 9, 17
#[tokio::test(flavor = "multi_thread")]
async fn unknown_languages_and_bogus_authorization_do_not_matter() {
    let broker = Broker::shared().await;
    broker.topic("languages").await;
    let client = broker.client("languages").await;
    for (name, value) in [
        ("x-mq-language", "HTTP"),
        ("x-mq-language", "KLINGON"),
        ("x-mq-language", ""),
        ("x-mq-protocol-version", "2.0.0"),
        ("x-mq-date-time", "20240101T010203Z"),
        ("authorization", "MQv2-HMAC-SHA1 Credential=, SignedHeaders=x-mq-date-time, Signature=00"),
        ("authorization", "nonsense"),
    ] {
        check_served(&client, "languages", |headers| {
            headers.insert(name, value.parse().expect("ASCII"));
        })
        .await;
    }
}

// 10: some clients add all their headers once more each time they try again.
#[tokio::test(flavor = "multi_thread")]
async fn headers_may_come_in_several_generations() {
    let broker = Broker::shared().await;
    broker.topic("generations").await;
    let client = broker.client("generations").await;
    check_served(&client, "generations", |headers| {
        for generation in ["1", "2"] {
            let signature = "9".repeat(40);
            let authorization = format!("MQv2-HMAC-SHA1 Credential={generation}, SignedHeaders=x-mq-date-time, ")
                + &format!("Signature={signature}");
            for (name, value) in [
                ("x-mq-client-id", "generations"),
                ("x-mq-language", "GO"),
                ("x-mq-protocol", "v2"),
                ("x-mq-client-version", "5.1.2"),
                ("x-mq-request-id", generation),
                ("x-mq-namespace", ""),
                ("x-mq-session-token", generation),
                ("x-mq-date-time", &format!("20240101T01020{generation}Z")),
                ("authorization", &authorization),
            ] {
                headers.append(name, value.parse().expect("ASCII"));
            }
        }
    })
    .await;
    assert_eq!(broker.clients().await.iter().filter(|id| *id == "generations").count(), 1);
}

// Of the contract's section 1.2
#[tokio::test(flavor = "multi_thread")]
async fn headers_may_take_sixteen_kibibytes() {
    let broker = Broker::shared().await;
    let client = broker.client("long-headers").await;
    let mut request = client.request(HeartbeatRequest { group: None, client_type: ClientType::Producer.into() });
    request.metadata_mut().insert("x-mq-session-token", "t".repeat(15_500).parse().expect("ASCII"));
    let answer = client.rpc.clone().heartbeat(request).await.expect("a status").into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
}

// 11
#[tokio::test(flavor = "multi_thread")]
async fn pulls_and_offsets_are_answered() {
    let broker = Broker::shared().await;
    let (client, connections) = counted_client(&broker, "offsets").await;
    let mut rpc = client.rpc.clone();
    let answered = |status: Option<Status>| assert_ne!(code(&status), Code::Ok, "{status:?}");
    answered(rpc.update_offset(client.request(UpdateOffsetRequest::default())).await.expect("ok").into_inner().status);
    answered(rpc.get_offset(client.request(GetOffsetRequest::default())).await.expect("ok").into_inner().status);
    answered(rpc.query_offset(client.request(QueryOffsetRequest::default())).await.expect("ok").into_inner().status);
    let pulled = rpc.pull_message(client.request(PullMessageRequest::default())).await.expect("a stream");
    let first = pulled.into_inner().message().await.expect("a frame").and_then(|frame| frame.content);
    assert!(matches!(first, Some(pull_message_response::Content::Status(_))), "{first:?}");
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

// Of the contract's section 1.2: a planned stop is no error to those who wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_waiting_receives_well() {
    let broker = Broker::of(Arc::new(Server::start())).await;
    broker.topic("stopping").await;
    let client = broker.client("stopping").await;
    let request = ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..receive("stopping", "stopping") };
    let poll = tokio::spawn(async move { client.receive(request).await });
    broker.until_parked("stopping", "stopping", 1).await;
    let begun = Instant::now();
    broker.server.signal("TERM");
    assert_eq!(poll.await.expect("no panic").code(), Code::MessageNotFound);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
