//! Peers that make mistakes, and peers that mean harm: one clear sentence each, and nobody else
//! notices.

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use centaur_apis::v2::*;
use http::{Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{body::Body, transport::Channel};
use tower::Service as _;

use super::{broker::Broker, client::*};
use crate::harness::PATIENCE;

/// A frame of gRPC: compressed or not, its length, its bytes.
fn frame(flag: u8, length: usize, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(length as u32);
    frame.put_slice(bytes);
    frame.freeze()
}

/// Calls a procedure with these bytes; the gRPC status and the body that come back.
async fn call(channel: &mut Channel, procedure: &str, bytes: Bytes) -> (tonic::Status, Bytes) {
    let request = Request::post(format!("/apache.rocketmq.v2.MessagingService/{procedure}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .header("x-mq-client-id", "raw")
        .body(Body::new(Full::new(bytes)))
        .expect("a request");
    poll_fn(|context| channel.poll_ready(context)).await.expect("the connection lives");
    let answer = channel.call(request).await.expect("an answer");
    let headers = answer.headers().clone();
    let body = answer.into_body().collect().await.expect("a body");
    let trailers = body.trailers().cloned().unwrap_or(headers);
    (tonic::Status::from_header_map(&trailers).expect("every answer has a status"), body.to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_are_errors_of_their_call_alone() {
    let broker = Broker::shared().await;
    broker.topic("broken").await;
    let mut channel = broker.server.channel().await;
    let client = Client::new(channel.clone(), "raw");
    let whole = SendMessageRequest { messages: vec![message("broken", "1")] }.encode_to_vec();
    let broken_frames = [
        Bytes::new(),
        Bytes::from_static(&[0, 0, 0]),
        frame(0, whole.len(), &whole[..whole.len() / 2]),
        frame(1, whole.len(), &whole),
        frame(7, whole.len(), &whole),
        frame(0, u32::MAX as usize, &whole),
    ];
    let broken_messages = [
        frame(0, 64, &[0xff; 64]),
        frame(0, 4, &[0x0a, 0xff, 0xff, 0x7f]),
        frame(0, whole.len() - 3, &whole[..whole.len() - 3]),
    ];
    for procedure in ["SendMessage", "ReceiveMessage", "AckMessage", "QueryRoute", "Telemetry"] {
        for bytes in broken_frames.iter().chain(&broken_messages) {
            let (status, body) = call(&mut channel, procedure, bytes.clone()).await;
            let what = format!("{procedure} of {bytes:?}: {status}");
            let is_announced_too_large = bytes.starts_with(&[0, 0xff]);
            match status.code() {
                tonic::Code::ResourceExhausted => assert!(is_announced_too_large, "{what}"),
                tonic::Code::Internal => assert!(!is_announced_too_large && !status.message().is_empty(), "{what}"),
                // A stream on which nothing is said ends as if nothing had been.
                tonic::Code::Ok if procedure == "Telemetry" => assert!(bytes.is_empty(), "{what}"),
                tonic::Code::Ok if procedure == "SendMessage" => {
                    assert!(broken_messages.contains(bytes), "{what}");
                    let answer = SendMessageResponse::decode(&body[5..]).expect("a response");
                    refused(&answer.status, Code::MessageCorrupted, &["damaged"]);
                }
                _ => panic!("{what}"),
            }
            assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok, "after {what}");
        }
    }
    let (status, _) = call(&mut channel, "NoSuchProcedure", frame(0, 0, &[])).await;
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    client.publish("broken", &["2"]).await;
    assert_eq!(id(&client.take_one("broken", "broken").await), "2", "nothing broken was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_disturbs_nobody() {
    let broker = Broker::shared().await;
    let client = broker.client("beside-garbage").await;
    let address = broker.server.clients();
    let mut preface_and_half_a_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface_and_half_a_frame.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1]);
    let mut preface_and_garbage = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface_and_garbage.extend([0xff; 512]);
    let kept: Vec<TcpStream> =
        [&[0xff; 512][..], b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", &preface_and_half_a_frame, &preface_and_garbage]
            .into_iter()
            .cycle()
            .take(50)
            .map(|bytes| {
                let mut stream = TcpStream::connect(address).expect("connected");
                // The server may close before all is written.
                let _ = stream.write_all(bytes);
                stream
            })
            .collect();
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok, "an old connection");
    let fresh = broker.client("beside-garbage").await;
    assert_eq!(fresh.heartbeat(ClientType::Producer, "").await, Code::Ok, "a new connection");
    drop(kept);
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&[0xff; 16]).expect("sent");
    let mut rest = Vec::new();
    // A reset closes as well as an end does.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
}

// 68
#[tokio::test(flavor = "multi_thread")]
async fn handles_that_were_not_given_out_are_refused() {
    let broker = Broker::shared().await;
    broker.topic("forged").await;
    broker.topic("forged-other").await;
    let client = broker.client("forged").await;
    client.publish("forged", &["1"]).await;
    let taken = client.take_one("forged", "forged").await;
    let real = handle(&taken);
    let changed_at = |at: usize| {
        let mut bytes = real.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let mut forged: Vec<String> = (0..real.len()).map(changed_at).collect();
    forged.extend([String::new(), " ".into(), "garbage".into(), "ä".repeat(33), "A".repeat(real.len())]);
    forged.extend([real[1..].to_owned(), format!("{real}A"), "x".repeat(100_000)]);
    forged.push("0 1700000000000 60000 0 0 broker-a 0 0 0".into());
    for (i, forged) in forged.iter().enumerate() {
        let acked = client.ack("forged", "forged", &[forged]).await;
        refused(&acked.status, Code::InvalidReceiptHandle, &["handle"]);
        let changed = client.change(change("forged", "forged", forged, 0)).await;
        refused(&changed.status, Code::InvalidReceiptHandle, &["handle"]);
        // An empty handle with an id is looked up; the others are not.
        if !forged.is_empty() {
            let request = ForwardMessageToDeadLetterQueueRequest {
                group: named("forged"),
                topic: named("forged"),
                receipt_handle: forged.clone(),
                message_id: "1".into(),
                ..Default::default()
            };
            assert_eq!(client.dead_letter(request).await, Code::InvalidReceiptHandle, "{i}: {forged:?}");
        }
    }
    for (topic, group) in [("forged-other", "forged"), ("forged", "forged-other"), ("nowhere", "forged")] {
        let acked = client.ack(topic, group, &[real]).await;
        refused(&acked.status, Code::InvalidReceiptHandle, &["handle"]);
    }
    assert_eq!(broker.backlog("forged", "forged").await.in_flight, 1);
    assert_eq!(client.ack_one("forged", "forged", real).await, Code::Ok, "the real one still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_message_of_a_request_leaves_none_behind() {
    let broker = Broker::shared().await;
    broker.topic("half").await;
    let client = broker.client("half").await;
    let mut empty = message("half", "2");
    empty.body = Bytes::new();
    let answer = client.send(vec![message("half", "1"), empty, message("half", "3")]).await;
    refused(&answer.status, Code::MessageBodyEmpty, &["body"]);
    assert!(answer.entries.is_empty());
    client.publish("half", &["4"]).await;
    assert_eq!(id(&client.take_one("half", "half").await), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_the_transport_limit_ends_its_call_alone() {
    let broker = Broker::shared().await;
    broker.topic("huge").await;
    let client = broker.client("huge").await;
    let mut huge = message("huge", "1");
    huge.body = vec![b'x'; 40 << 20].into();
    let answer = client.rpc.clone().send_message(client.request(SendMessageRequest { messages: vec![huge] })).await;
    let refused = answer.expect_err("too large for the transport");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    client.publish("huge", &["2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_say_who_is_there() {
    let broker = Broker::shared().await;
    let client = broker.client("heartbeats").await;
    assert_eq!(client.heartbeat(ClientType::Unspecified, "g").await, Code::UnrecognizedClientType);
    assert_eq!(client.heartbeat(ClientType::PushConsumer, "").await, Code::IllegalConsumerGroup);
    for kind in [
        ClientType::PushConsumer,
        ClientType::SimpleConsumer,
        ClientType::PullConsumer,
        ClientType::LitePushConsumer,
        ClientType::LiteSimpleConsumer,
    ] {
        let client = broker.client(&format!("heartbeats-{kind:?}")).await;
        assert_eq!(client.heartbeat(kind, "heartbeats").await, Code::Ok, "{kind:?}");
    }
    let blank = broker.client(" ").await;
    assert_eq!(blank.heartbeat(ClientType::Producer, "").await, Code::ClientIdRequired);
    let long = broker.client(&"x".repeat(2_000)).await;
    assert_eq!(long.heartbeat(ClientType::Producer, "").await, Code::BadRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_to_clients_has_bounds() {
    let broker = Broker::shared().await;
    broker.topic("given-back").await;
    let client = broker.client("given-back").await;
    let at = |topic: &Option<Resource>, host: usize| QueryRouteRequest {
        topic: topic.clone(),
        endpoints: Some(Endpoints {
            scheme: AddressScheme::DomainName.into(),
            addresses: vec![Address { host: "h".repeat(host), port: 8081 }],
        }),
    };
    let within = |bytes: usize| Some(Resource { resource_namespace: "n".repeat(bytes), name: "given-back".into() });
    for (topic, host, expected) in [
        (within(255), 255, Code::Ok),
        (within(256), 255, Code::IllegalTopic),
        (within(250_000), 255, Code::IllegalTopic),
        (within(255), 256, Code::IllegalAccessPoint),
    ] {
        assert_eq!(code(&client.route(at(&topic, host)).await.status), expected);
        let sent = client.send(vec![Message { topic, ..message("given-back", "1") }]).await;
        assert_eq!(code(&sent.status), if expected == Code::IllegalTopic { expected } else { Code::Ok });
    }
}
