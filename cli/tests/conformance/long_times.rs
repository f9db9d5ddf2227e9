//! Promises about times that have to pass, kept side by side within about a minute.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use centaur_apis::{store::PutGroupRequest, v2::*};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;

use super::{
    broker::{Broker, group},
    client::*,
    transport::counted_channel,
};

/// A renewed lease is shown as 60 s long; it is tested beyond that.
const LONG: Duration = Duration::from_secs(62);
/// A client that beats every 30 s, as one of the official clients does, is not taken for dead.
const EXPIRY_MIN: Duration = Duration::from_secs(31);
/// Expiry of a client as the contract has it, and 10 s.
const EXPIRY_MAX: Duration = Duration::from_secs(130);
/// What a busy machine may add to a waiting time.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn promises_about_long_times_are_kept() {
    let broker = Arc::new(Broker::shared().await);
    // One task each, so that a promise that is broken does not hide the others.
    macro_rules! side_by_side {
        ($($promise:ident),* $(,)?) => {
            [$((stringify!($promise), tokio::spawn({
                let broker = broker.clone();
                async move { $promise(&broker).await }
            }))),*]
        };
    }
    let promises = side_by_side![
        pings_are_welcome,
        an_idle_stream_stays_open,
        empty_polls_take_their_time,
        an_ack_comes_too_late_after_its_lease,
        a_renewed_lease_keeps_its_handle,
        what_a_killed_client_held_is_given_on,
        a_message_never_settled_is_buried,
        unmatched_messages_end_a_poll_empty,
    ];
    let mut broken = Vec::new();
    for (name, promise) in promises {
        if promise.await.is_err() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

// 5: as many pings as in two hours of the busiest client.
async fn pings_are_welcome(broker: &Broker) {
    let endpoint = Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(Duration::from_millis(80))
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    let (channel, connections) = counted_channel(broker.server.clients(), endpoint).await;
    let client = Client::new(channel, "pings");
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    sleep(LONG).await;
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection was kept");
}

// 6: for a minute instead of ten.
async fn an_idle_stream_stays_open(broker: &Broker) {
    let endpoint = Endpoint::from_static("http://localhost");
    let (channel, connections) = counted_channel(broker.server.clients(), endpoint).await;
    let client = Client::new(channel, "idle");
    let mut line = client.telemetry().await;
    line.settle(producer(&[])).await;
    let heard = timeout(LONG, line.hear()).await;
    assert!(heard.is_err(), "{heard:?}");
    line.settle(producer(&[])).await;
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection was kept");
}

// 54, 55
async fn empty_polls_take_their_time(broker: &Broker) {
    broker.topic("empty").await;
    let client = broker.client("empty").await;
    // Asked for, deadline, and how long it takes; all in ms.
    let cases = [
        (Some(1_000), None, 5_000),
        (Some(60_000), None, 20_000),
        (Some(60_000), Some(90_000), 20_000),
        (Some(1_000), Some(60_000), 5_000),
        (Some(20_000), Some(10_000), 9_800),
        (Some(20_000), Some(20_000), 19_800),
        (Some(40_000), Some(40_000), 20_000),
        (Some(5_000), Some(5_100), 4_900),
        (None, Some(10_000), 8_500),
        (None, None, 20_000),
    ];
    let polls = cases.map(|(asked, deadline, expected)| {
        let client = client.clone();
        let asked = asked.map(|ms: i64| prost_types::Duration { seconds: ms / 1000, nanos: 0 });
        let request = ReceiveMessageRequest { long_polling_timeout: asked, ..receive("empty", "empty") };
        tokio::spawn(async move {
            let begun = Instant::now();
            let received = match deadline {
                Some(ms) => client.receive_within(Duration::from_millis(ms), request).await,
                None => client.receive(request).await,
            };
            let (took, expected) = (begun.elapsed(), Duration::from_millis(expected));
            assert_eq!(received.code(), Code::MessageNotFound, "{received:?}");
            // A deadline has come nearer while the request was on its way.
            let least = expected - Duration::from_millis(if deadline.is_some() { 150 } else { 5 });
            assert!((least..expected + SLACK).contains(&took), "{took:?} instead of {expected:?}");
        })
    });
    for poll in polls {
        poll.await.expect("each poll keeps its time");
    }
}

// 54, 62: the contract lets a poll go on when everything there was for others.
async fn unmatched_messages_end_a_poll_empty(broker: &Broker) {
    broker.topic("unmatched").await;
    let client = broker.client("unmatched").await;
    client.publish("unmatched", &["1", "2"]).await;
    let request = ReceiveMessageRequest { filter_expression: by_tag("red"), ..receive("unmatched", "unmatched") };
    let received = client.receive(request).await;
    assert_eq!((received.code(), received.messages.len()), (Code::MessageNotFound, 0));
    assert_eq!(broker.backlog("unmatched", "unmatched").await, Default::default());
}

// 68
async fn an_ack_comes_too_late_after_its_lease(broker: &Broker) {
    broker.topic("late").await;
    let client = broker.client("late").await;
    client.publish("late", &["1"]).await;
    let request = ReceiveMessageRequest { invisible_duration: Some(seconds(10)), ..receive("late", "late") };
    let begun = Instant::now();
    let received = client.receive(request.clone()).await;
    let handle = handle(&received.messages[0]);
    while broker.backlog("late", "late").await.in_flight > 0 {
        assert!(begun.elapsed() < Duration::from_secs(15), "the lease does not end");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(10), "the lease ended early: {:?}", begun.elapsed());
    assert_eq!(client.ack_one("late", "late", handle).await, Code::InvalidReceiptHandle);
    let changed = client.change(change("late", "late", handle, 10)).await;
    assert_eq!(code(&changed.status), Code::InvalidReceiptHandle);
    let again = client.receive(request).await;
    assert_eq!(attempt(&again.messages[0]), 2);
    assert_eq!(client.ack_one("late", "late", handle).await, Code::InvalidReceiptHandle);
    assert_eq!(client.ack_one("late", "late", super::client::handle(&again.messages[0])).await, Code::Ok);
}

// 73, for a minute instead of two.
async fn a_renewed_lease_keeps_its_handle(broker: &Broker) {
    broker.topic("slow").await;
    let client = broker.client("slow").await;
    client.publish("slow", &["1"]).await;
    let received = client.receive(receive_renewed("slow", "slow")).await;
    let other = broker.client("slow-other").await;
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        assert_eq!(client.heartbeat(ClientType::PushConsumer, "slow").await, Code::Ok);
        let others = other.receive(receive_renewed("slow", "slow")).await;
        assert_eq!(others.code(), Code::MessageNotFound, "after {:?}: {others:?}", begun.elapsed());
    }
    assert_eq!(client.ack_one("slow", "slow", handle(&received.messages[0])).await, Code::Ok);
    assert_eq!(broker.backlog("slow", "slow").await, Default::default());
}

// 74, for a client that ends without a word.
async fn what_a_killed_client_held_is_given_on(broker: &Broker) {
    broker.topic("killed").await;
    let killed = broker.client("killed").await;
    killed.publish("killed", &["1"]).await;
    let received = killed.receive(receive_renewed("killed", "killed")).await;
    let begun = Instant::now();
    let other = broker.client("killed-other").await;
    let stale = handle(&received.messages[0]);
    drop(killed);
    let request =
        ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..receive_renewed("killed", "killed") };
    let given = loop {
        let mut received = other.receive(request.clone()).await;
        if let Some(message) = received.messages.pop() {
            break message;
        }
        assert!(begun.elapsed() < EXPIRY_MAX, "after {:?}", begun.elapsed());
    };
    let took = begun.elapsed();
    assert!((EXPIRY_MIN..EXPIRY_MAX).contains(&took), "{took:?}");
    assert_eq!(attempt(&given), 2);
    assert_eq!(other.ack_one("killed", "killed", stale).await, Code::InvalidReceiptHandle);
    assert_eq!(other.ack_one("killed", "killed", handle(&given)).await, Code::Ok);
}

// 77
async fn a_message_never_settled_is_buried(broker: &Broker) {
    broker.topic("unsettled").await;
    broker.put_group(PutGroupRequest { max_attempts: Some(3), ..group("unsettled") }).await;
    let client = broker.client("unsettled").await;
    client.publish("unsettled", &["1"]).await;
    let request = ReceiveMessageRequest {
        invisible_duration: Some(seconds(10)),
        long_polling_timeout: Some(seconds(20)),
        ..receive("unsettled", "unsettled")
    };
    for expected in 1..=3 {
        let received = client.receive(request.clone()).await;
        assert_eq!(received.messages.len(), 1, "delivery {expected}: {received:?}");
        assert_eq!(attempt(&received.messages[0]), expected);
    }
    let fourth = client.receive(request).await;
    assert_eq!(fourth.code(), Code::MessageNotFound, "there is no fourth delivery: {fourth:?}");
    assert_eq!(client.take("%DLQ%unsettled", "unsettled-readers", 1).await[0].body, "body of 1");
    assert_eq!(broker.backlog("unsettled", "unsettled").await, Default::default());
}
