//! What peers of the client port may do to each other: nothing.

mod harness;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use harness::{Options, PATIENCE, Server, wait_until};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1alpha::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Begins a TLS record of the handshake, and of no kind that exists.
const HALF_A_TLS_RECORD: &[u8] = &[0x16, 0x03, 0x01, 0x02];

fn logging() -> Options {
    Options::default().with(&["--log-level", "info,client=debug"])
}

async fn is_serving(channel: Channel) -> bool {
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// A connection by TLS that trusts the server's self-signed certificate and nothing else.
async fn tls_channel(server: &Server) -> Channel {
    let certificate = fs::read(server.data_dir().join("tls/self-signed.crt")).expect("the server made one");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, address) = (TlsConnector::from(Arc::new(config)), server.clients());
    let connect = move |_| {
        let connector = connector.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").expect("a name");
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    };
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(tower::service_fn(connect)).await.expect("TLS is spoken")
}

/// Sends bytes and reads until the server closes; `None` when it keeps the connection.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = send(address, bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => Some(answer),
        // Closed with bytes unread: as much an end as any.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Some(answer),
        Err(_) => None,
    }
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_served() {
    let server = Server::start();
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "apache.rocketmq.v2.MessagingService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap_or_else(|status| panic!("{service:?}: {status}"));
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_shows_the_public_service_only() {
    let server = Server::start();
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.expect("answered");
    let answer = answers.into_inner().message().await.expect("a frame").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"apache.rocketmq.v2.MessagingService"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("centaur.")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_plaintext_share_one_port() {
    let server = Server::start();
    assert!(is_serving(tls_channel(&server).await).await);
    assert!(is_serving(server.channel().await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_survives_a_restart() {
    let mut server = Server::start();
    let read = |server: &Server| fs::read(server.data_dir().join("tls/self-signed.crt")).expect("a certificate");
    let first = read(&server);
    server.stop();
    server.restart();
    assert_eq!(read(&server), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_where_tls_is_required_is_named_in_the_log() {
    let server = Options::default().set("proxy.tls.mode", "required").start();
    let answer = answer_to(server.clients(), PREFACE).expect("closed");
    assert!(String::from_utf8_lossy(&answer).contains("turn TLS on in the client"), "{answer:?}");
    server.wait_for_log("plaintext HTTP/2 came, but proxy.tls.mode is required");
    let output = server.centaur(&["produce", "hello", "--body", "x"]);
    let errors = harness::text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{errors}");
    assert!(errors.contains("proxy.tls.mode=required"), "{errors}");
    assert!(is_serving(tls_channel(&server).await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_where_it_is_off_is_named_in_the_log() {
    let server = Options::default().set("proxy.tls.mode", "off").start();
    assert_eq!(answer_to(server.clients(), HALF_A_TLS_RECORD), Some(Vec::new()));
    server.wait_for_log("a TLS hello came, but proxy.tls.mode is off");
    assert!(is_serving(server.channel().await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_closed_quietly_and_counted() {
    let server = logging().start();
    for (bytes, reason) in [
        (&b"\x80\x00\x00\x01\x13\x14"[..], "garbage"),
        (b"PRI * HTTP/9.9\r\n\r\n", "garbage"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "http1"),
        (b"\x16\x03\x01\x00\x05\xff\x00\x00\x01\x00", "tls_handshake"),
    ] {
        let answer = answer_to(server.clients(), bytes);
        let answer = answer.unwrap_or_else(|| panic!("{reason}: the connection stays open"));
        if reason == "http1" {
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.contains("400 Bad Request") && answer.contains("gRPC over HTTP/2"), "{answer}");
        }
        let series = format!("centaur_connections_refused_total{{port=\"clients\",reason=\"{reason}\"}}");
        wait_until(&series, || server.get("/metrics").1.contains(&series));
    }
    assert!(!server.log().contains("\"level\":\"ERROR\""), "{}", server.log());
    assert!(is_serving(server.channel().await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_finished_peers_do_not_disturb_others() {
    let server = Server::start();
    let channel = server.channel().await;
    let mut frame_without_end = PREFACE.to_vec();
    frame_without_end.extend([0, 0, 100, 0x4, 0, 0, 0, 0, 0, 1]); // SETTINGS of 100 bytes, one of them
    let halves: Vec<_> = [&b""[..], &PREFACE[..7], &frame_without_end, HALF_A_TLS_RECORD]
        .into_iter()
        .cycle()
        .take(100)
        .map(|bytes| send(server.clients(), bytes))
        .collect();
    assert!(is_serving(channel).await, "an old connection");
    assert!(is_serving(server.channel().await).await, "a new connection");
    drop(halves);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_closed() {
    let server = logging().start();
    let mut stream = TcpStream::connect(server.clients()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(stream.read(&mut [0]).expect("closed, not left open"), 0);
    server.wait_for_log("nothing came within 5s");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped() {
    let server = Options::default().set("limits.connections_per_address", "2").start();
    let (first, second) = (server.channel().await, server.channel().await);
    assert_eq!(answer_to(server.clients(), PREFACE), Some(Vec::new()), "the third is refused");
    assert!(is_serving(first).await);
    drop(second);
    // The place is free as soon as the server has seen the end of the connection.
    let clients = server.clients();
    wait_until("a free place", move || {
        let mut stream = send(clients, PREFACE);
        stream.read(&mut [0]).is_ok_and(|read| read > 0)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_descriptors_is_survived_without_spinning() {
    let server = Server::start();
    let channel = server.channel().await;
    assert!(is_serving(channel.clone()).await);
    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a pid"));
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its descriptors").count() as u64;
    let limit = Rlimit { current: Some(open + 8), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(pid, Resource::Nofile, limit).expect("the child is ours");
    let crowd: Vec<_> = (0..50).map(|_| send(server.clients(), b"")).collect();
    server.wait_for_log("cannot take connections");
    assert!(is_serving(channel).await, "an open connection goes on");
    let warnings = server.log().matches("cannot take connections").count();
    assert!(warnings < 20, "{warnings} lines for 50 connections");
    drop(crowd);
    wait_until("room for a new connection", || {
        let mut stream = send(server.clients(), PREFACE);
        stream.read(&mut [0]).is_ok_and(|read| read > 0)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_more_than_a_thousand_waiting_calls() {
    let server = Server::start();
    let mut health = HealthClient::new(server.channel().await);
    let mut watches = Vec::new();
    for _ in 0..1_500 {
        let mut watch = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
        assert!(watch.message().await.expect("a frame").is_some());
        watches.push(watch);
    }
    assert_eq!(
        health.check(HealthCheckRequest::default()).await.expect("answered").into_inner().status(),
        ServingStatus::Serving
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_sessions_and_the_process() {
    let mut server = Server::start();
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    assert_eq!(watch.message().await.expect("a frame").map(|frame| frame.status()), Some(ServingStatus::Serving));
    server.signal("TERM");
    let ended = loop {
        match watch.message().await {
            Ok(Some(_)) => {} // not serving any more
            Ok(None) => panic!("the stream ended as if all were well"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}
