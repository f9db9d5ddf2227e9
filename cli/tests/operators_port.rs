//! What operators, probes and Prometheus find on their port.

mod harness;

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use harness::{PATIENCE, Server};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[test]
fn probes_are_answered_over_http_1() {
    let server = Server::start();
    assert_eq!(server.get("/healthz"), (200, "ok\n".into()));
    assert_eq!(server.get("/readyz"), (200, "ready\n".into()));
    assert_eq!(server.get("/nothing").0, 404);
}

#[test]
fn only_reading_is_allowed() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.operators()).expect("connected");
    stream
        .write_all(b"POST /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[test]
fn who_asks_nothing_is_let_go() {
    let server = Server::start();
    let [mut silent, mut slow] = [0; 2].map(|_| TcpStream::connect(server.operators()).expect("connected"));
    slow.write_all(b"P").expect("sent"); // may become HTTP/1 or 2
    for stream in [&mut silent, &mut slow] {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let read = stream.read(&mut [0; 64]).or_else(|error| match error.kind() {
            io::ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        });
        assert_eq!(read.expect("closed in time"), 0);
    }
    assert_eq!(server.get("/healthz").0, 200);
}

#[test]
fn metrics_tell_about_the_process_and_the_connections() {
    let server = Server::start();
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200);
    for expected in [
        "centaur_build_info{version=",
        "centaur_connections{port=\"operators\"}",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds ",
    ] {
        assert!(metrics.contains(expected), "{expected:?} is missing in:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_shares_the_port() {
    let server = Server::start();
    let mut reflection = ServerReflectionClient::new(server.admin_channel().await);
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
    assert!(names.contains(&"centaur.admin.v1.Admin"), "{names:?}");
}
