use std::time::Duration;

use centaur_apis::{
    admin::{PrintStackRequest, ReconnectClientsRequest, VerifyMessageRequest, admin_client::AdminClient},
    log::TopicType,
    transport::Transport,
    v2::{Code, telemetry_command::Command, *},
};
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use crate::{
    harness::*,
    telemetry::{consumer, open, producer, say, told},
};

fn operator(h: &Harness) -> AdminClient<Transport> {
    AdminClient::new(Transport::Local(h.proxy.admin_routes()))
}

async fn heard(stream: &mut Streaming<TelemetryCommand>) -> Command {
    let frame = timeout(Duration::from_secs(10), stream.message()).await.expect("in time").expect("well");
    frame.expect("a frame").command.expect("a command")
}

fn status(code: Code, message: &str) -> Option<Status> {
    Some(Status { code: code.into(), message: message.into() })
}

#[tokio::test]
async fn a_client_shows_its_threads() {
    both(async |mut h: Harness| {
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        say(&out, producer(&[])).await;
        told(&mut stream).await;
        let mut admin = operator(&h);
        let asking = tokio::spawn(async move { admin.print_stack(PrintStackRequest { client: CLIENT.into() }).await });
        let Command::PrintThreadStackTraceCommand(asked) = heard(&mut stream).await else { panic!("a question") };
        let answer = |nonce: &str, text: &str| TelemetryCommand {
            status: status(Code::Ok, ""),
            command: Some(Command::ThreadStackTrace(ThreadStackTrace {
                nonce: nonce.into(),
                thread_stack_trace: Some(text.into()),
            })),
        };
        out.send(answer("of something else", "wrong")).await.expect("open");
        out.send(answer(&asked.nonce, "main: parked")).await.expect("open");
        let answer = asking.await.expect("done").expect("answered").into_inner();
        assert_eq!((answer.text.as_str(), answer.status.as_str()), ("main: parked", "OK"));
    })
    .await;
}

#[tokio::test]
async fn a_consumer_handles_a_message_that_an_operator_names() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        send(&mut h.client, vec![message("orders", "1")]).await;
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        say(&out, consumer(Language::Java)).await;
        told(&mut stream).await;
        let request = |offset| VerifyMessageRequest { client: CLIENT.into(), topic: "orders".into(), queue: 0, offset };
        let mut admin = operator(&h);
        let missing = admin.verify_message(request(5)).await.expect_err("no such message");
        assert_eq!(missing.code(), tonic::Code::NotFound);
        let asking = tokio::spawn(async move { admin.verify_message(request(0)).await });
        let Command::VerifyMessageCommand(asked) = heard(&mut stream).await else { panic!("a question") };
        let system = asked.message.and_then(|message| message.system_properties).expect("the message");
        assert_eq!((system.message_id.as_str(), system.receipt_handle), ("1", None));
        let result = Command::VerifyMessageResult(VerifyMessageResult { nonce: asked.nonce });
        let refused =
            TelemetryCommand { status: status(Code::FailedToConsumeMessage, "out of paper"), command: Some(result) };
        out.send(refused).await.expect("open");
        let answer = asking.await.expect("done").expect("answered").into_inner();
        assert_eq!((answer.status.as_str(), answer.message.as_str()), ("FAILED_TO_CONSUME_MESSAGE", "out of paper"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_given_up_after_5_s() {
    let mut h = Harness::local(|_| ());
    let mut admin = operator(&h);
    let absent = admin.print_stack(PrintStackRequest { client: "nobody".into() }).await.expect_err("not there");
    assert_eq!(absent.code(), tonic::Code::NotFound);
    assert!(absent.message().contains("\"nobody\""), "{absent}");
    let (out, mut stream) = open(&mut h.client, CLIENT).await;
    say(&out, producer(&[])).await;
    told(&mut stream).await;
    let began = Instant::now();
    let silent = admin.print_stack(PrintStackRequest { client: CLIENT.into() }).await.expect_err("silent");
    assert_eq!(silent.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_to_connect_anew_one_after_the_other() {
    let mut h = Harness::local(|_| ());
    let mut streams = Vec::new();
    for id in ["a", "b", "c", "d"] {
        let (out, mut stream) = open(&mut h.client, id).await;
        say(&out, producer(&[])).await;
        told(&mut stream).await;
        streams.push((out, stream));
    }
    let began = Instant::now();
    let request = ReconnectClientsRequest { clients: vec!["a".into(), "nobody".into()], spread_ms: 0 };
    assert_eq!(operator(&h).reconnect_clients(request).await.expect("told").into_inner().told, 1);
    assert!(matches!(heard(&mut streams[0].1).await, Command::ReconnectEndpointsCommand(_)));
    let all = ReconnectClientsRequest { clients: vec![], spread_ms: 4_000 };
    assert_eq!(operator(&h).reconnect_clients(all).await.expect("told").into_inner().told, 4);
    let mut times = Vec::new();
    for (_, stream) in &mut streams {
        assert!(matches!(heard(stream).await, Command::ReconnectEndpointsCommand(_)));
        times.push(began.elapsed().as_secs());
    }
    assert_eq!(times.iter().max(), Some(&3), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_sends_its_clients_away_if_there_is_time() {
    let mut h = Harness::local(|_| ());
    let (out, mut stream) = open(&mut h.client, CLIENT).await;
    say(&out, producer(&[])).await;
    told(&mut stream).await;
    h.proxy.send_clients_away(Duration::ZERO);
    assert!(timeout(Duration::from_secs(10), stream.message()).await.is_err());
    h.proxy.send_clients_away(Duration::from_secs(10));
    assert!(matches!(heard(&mut stream).await, Command::ReconnectEndpointsCommand(_)));
}
