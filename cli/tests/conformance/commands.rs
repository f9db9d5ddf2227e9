//! What operators have connected clients do.

use std::time::Duration;

use centaur_apis::{
    admin::{PrintStackRequest, ReconnectClientsRequest, VerifyMessageRequest},
    v2::{telemetry_command::Command, *},
};
use tokio::time::{Instant, timeout};

use super::{broker::Broker, client::*};

/// How long a client may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(2);

async fn told(line: &mut Line) -> Command {
    line.hear().await.command.expect("a command")
}

fn answer(code: Code, command: Command) -> TelemetryCommand {
    TelemetryCommand { status: Some(Status { code: code.into(), message: "as asked".into() }), command: Some(command) }
}

fn trace(nonce: &str, text: &str) -> Command {
    Command::ThreadStackTrace(ThreadStackTrace { nonce: nonce.into(), thread_stack_trace: Some(text.into()) })
}

// 31, 33
#[tokio::test(flavor = "multi_thread")]
async fn answers_find_their_questions() {
    let broker = Broker::shared().await;
    let client = broker.client("threads").await;
    let mut older = client.telemetry().await;
    older.settle(producer(&[])).await;
    let mut line = client.telemetry().await;
    line.settle(producer(&[])).await;
    let ask = || {
        let mut admin = broker.admin();
        tokio::spawn(async move { admin.print_stack(PrintStackRequest { client: "threads".into() }).await })
    };
    let mut asking = Vec::new();
    let mut nonces = Vec::new();
    for _ in 0..2 {
        asking.push(ask());
        let Command::PrintThreadStackTraceCommand(asked) = told(&mut line).await else { panic!("a question") };
        nonces.push(asked.nonce);
    }
    // The later question is answered first.
    for (nonce, text) in [("no such", "wrong"), (&nonces[1], "second"), (&nonces[0], "first")] {
        line.say.send(answer(Code::Ok, trace(nonce, text))).await.expect("open");
    }
    for (asked, expected) in asking.into_iter().zip(["first", "second"]) {
        let answer = asked.await.expect("no panic").expect("answered").into_inner();
        assert_eq!((answer.text.as_str(), answer.status.as_str()), (expected, "OK"));
    }
    let unheard = timeout(Duration::from_millis(500), older.hear()).await;
    assert!(unheard.is_err(), "the newest stream is asked: {unheard:?}");

    older.close().await;
    let asking = ask();
    let Command::PrintThreadStackTraceCommand(asked) = told(&mut line).await else { panic!("a question") };
    line.say.send(answer(Code::Ok, trace(&asked.nonce, "third"))).await.expect("open");
    assert_eq!(asking.await.expect("no panic").expect("answered").into_inner().text, "third");
}

/// Fails unless an operator was told after five seconds that nobody answers.
fn check_unanswered<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, took: Duration) {
    let silent = answer.expect_err("nobody answers");
    assert_eq!(silent.code(), tonic::Code::DeadlineExceeded, "{silent}");
    assert!((ANSWER_TIME..ANSWER_TIME + SLACK).contains(&took), "{took:?}");
}

// 33
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_waits_five_seconds_for_an_answer() {
    let broker = Broker::shared().await;
    broker.put_topic(super::broker::topic("mute", 1)).await;
    let client = broker.client("mute").await;
    client.publish("mute", &["1"]).await;
    let mut line = client.telemetry().await;
    line.settle(consumer(ClientType::PushConsumer, "mute", &["mute"])).await;
    let begun = Instant::now();
    let stack = async {
        let silent = broker.admin().print_stack(PrintStackRequest { client: "mute".into() }).await;
        check_unanswered(silent, begun.elapsed());
    };
    let verify = async {
        let request = VerifyMessageRequest { client: "mute".into(), topic: "mute".into(), queue: 0, offset: 0 };
        check_unanswered(broker.admin().verify_message(request).await, begun.elapsed());
    };
    // Answers to something else are none, whatever was asked.
    let beside_the_point = async {
        for _ in 0..2 {
            let (nonce, other) = match told(&mut line).await {
                Command::PrintThreadStackTraceCommand(asked) => (asked.nonce, trace("no such", "wrong")),
                Command::VerifyMessageCommand(asked) => {
                    let result = VerifyMessageResult { nonce: "no such".into() };
                    (asked.nonce, Command::VerifyMessageResult(result))
                }
                other => panic!("{other:?} is no question"),
            };
            assert_ne!(nonce, "no such");
            line.say.send(answer(Code::Ok, other)).await.expect("open");
        }
    };
    tokio::join!(stack, verify, beside_the_point);
    let absent = broker.admin().print_stack(PrintStackRequest { client: "absent".into() }).await.expect_err("absent");
    assert_eq!(absent.code(), tonic::Code::NotFound);
    assert!(absent.message().contains("absent"), "{absent}");
}

// 33
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_given_a_message_to_try() {
    let broker = Broker::shared().await;
    broker.put_topic(super::broker::topic("tried", 1)).await;
    let client = broker.client("tried").await;
    client.publish("tried", &["1"]).await;
    let mut line = client.telemetry().await;
    line.settle(consumer(ClientType::PushConsumer, "tried", &["tried"])).await;
    let request = VerifyMessageRequest { client: "tried".into(), topic: "tried".into(), queue: 0, offset: 0 };
    let mut admin = broker.admin();
    let asking = tokio::spawn(async move { admin.verify_message(request).await });
    let Command::VerifyMessageCommand(asked) = told(&mut line).await else { panic!("a question") };
    let message = asked.message.expect("the message");
    assert_eq!((id(&message).as_str(), system(&message).receipt_handle.as_ref()), ("1", None));
    assert!(system(&message).body_digest.is_some());
    let result = Command::VerifyMessageResult(VerifyMessageResult { nonce: asked.nonce });
    line.say.send(answer(Code::FailedToConsumeMessage, result)).await.expect("open");
    let answer = asking.await.expect("no panic").expect("answered").into_inner();
    assert_eq!((answer.status.as_str(), answer.message.as_str()), ("FAILED_TO_CONSUME_MESSAGE", "as asked"));
    assert_eq!(client.take_one("tried", "tried").await.body, "body of 1", "it was not touched");
}

// Of the contract's section 7.6
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_to_connect_anew() {
    let broker = Broker::shared().await;
    let client = broker.client("anew").await;
    let mut line = client.telemetry().await;
    line.settle(producer(&[])).await;
    let request = ReconnectClientsRequest { clients: vec!["anew".into(), "absent".into()], spread_ms: 0 };
    let answer = broker.admin().reconnect_clients(request).await.expect("told").into_inner();
    assert_eq!(answer.told, 1);
    assert!(matches!(told(&mut line).await, Command::ReconnectEndpointsCommand(_)));
}
