//! Promises about times that have to pass, kept side by side: the test takes as long as the longest.
//!
//! By itself about 80 s: what the contract promises for longer is then watched for a minute. With
//! `CENTAUR_LONG_TIMES=full`, as `./test` sets it, ten minutes, and every promise is held in full.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use centaur_apis::{store::PutGroupRequest, v2::*};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;

use super::{
    broker::{Broker, group},
    client::*,
    fifo, lite,
    transport::counted_channel,
};
use crate::harness::Options;

/// What is promised for longer is watched for so long: a renewed lease is shown as 60 s long, and a
/// client that holds messages is missed after as long.
const SHORT: Duration = Duration::from_secs(62);
/// A connection is asked to go after 120 s without an open call.
const PINGS: Duration = Duration::from_secs(300);
const IDLE_STREAM: Duration = Duration::from_secs(600);
const WITHOUT_STREAM: Duration = Duration::from_secs(105);
const SLOW_CONSUMER: Duration = Duration::from_secs(125);
/// A client that does not repeat its lite topics loses them after 3 min; the rest is for the server
/// to find out, and for a busy machine.
const LITE_SILENCE: Duration = Duration::from_secs(195);
/// How often clients say which lite topics they consume, and that they are there.
const LITE_BEAT: Duration = Duration::from_secs(30);
/// A client that holds messages and says nothing is gone after this.
const EXPIRY: Duration = Duration::from_secs(60);
/// What may be added: its proxy tells what it heard every 5 s, and its store looks every second; the
/// rest is for a busy machine.
const EXPIRY_SLACK: Duration = Duration::from_secs(15);
/// What may be missing from a time by another clock: the store counts whole milliseconds, and may be one behind the
/// wall clock when a time begins and not when it ends.
pub const TICKS: Duration = Duration::from_millis(3);
/// What a busy machine may add to a waiting time.
const SLACK: Duration = Duration::from_secs(2);

/// How long something is watched that is promised for longer than a minute.
fn watched(whole: Duration) -> Duration {
    match env::var("CENTAUR_LONG_TIMES").as_deref() {
        Ok("full") => whole,
        Ok(other) => panic!("CENTAUR_LONG_TIMES is {other:?}; it may be \"full\""),
        Err(_) => SHORT,
    }
}

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
        many_pings_are_welcome,
        an_idle_stream_stays_open,
        a_client_works_on_without_a_stream,
        empty_polls_take_their_time,
        an_ack_comes_too_late_after_its_lease,
        an_ordered_batch_whose_lease_ends_comes_again_in_order,
        a_renewed_lease_keeps_its_handle,
        renewing_a_lease_has_an_end,
        what_a_killed_client_held_is_given_on,
        a_message_never_settled_is_buried,
        unmatched_messages_end_a_poll_empty,
        who_does_not_repeat_its_lite_topics_loses_them,
    ];
    let mut broken = Vec::new();
    for (name, promise) in promises {
        if promise.await.is_err() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

// 5
async fn pings_are_welcome(broker: &Broker) {
    let (client, connections) = pinging_client(broker, "pings", Duration::from_secs(10)).await;
    let mut line = client.telemetry().await;
    line.settle(producer(&[])).await;
    let heard = timeout(watched(PINGS), line.heard.message()).await;
    assert!(heard.is_err(), "{heard:?}");
    line.settle(producer(&[])).await;
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection was kept");
}

// 5: as many pings as in two hours of the busiest client.
async fn many_pings_are_welcome(broker: &Broker) {
    let (client, connections) = pinging_client(broker, "many-pings", Duration::from_millis(80)).await;
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    sleep(SHORT).await;
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection was kept");
}

async fn pinging_client(broker: &Broker, id: &str, interval: Duration) -> (Client, Arc<AtomicUsize>) {
    let endpoint = Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    let (channel, connections) = counted_channel(broker.server.clients(), endpoint).await;
    (Client::new(channel, id), connections)
}

// 6
async fn an_idle_stream_stays_open(broker: &Broker) {
    let endpoint = Endpoint::from_static("http://localhost");
    let (channel, connections) = counted_channel(broker.server.clients(), endpoint).await;
    let client = Client::new(channel, "idle");
    let mut line = client.telemetry().await;
    line.settle(producer(&[])).await;
    let heard = timeout(watched(IDLE_STREAM), line.heard.message()).await;
    assert!(heard.is_err(), "{heard:?}");
    line.settle(producer(&[])).await;
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection was kept");
}

// 29
async fn a_client_works_on_without_a_stream(broker: &Broker) {
    let name = "streamless";
    broker.topic(name).await;
    let client = broker.client(name).await;
    let mut line = client.telemetry().await;
    line.settle(consumer(ClientType::SimpleConsumer, name, &[name])).await;
    line.close().await;
    let begun = Instant::now();
    while begun.elapsed() < watched(WITHOUT_STREAM) {
        sleep(Duration::from_secs(5)).await;
        // It does not say what it is: that has to be known from its settings.
        assert_eq!(client.heartbeat(ClientType::Unspecified, name).await, Code::Ok, "after {:?}", begun.elapsed());
        client.publish(name, &["1"]).await;
        let taken = client.take_one(name, name).await;
        assert_eq!(client.ack_one(name, name, handle(&taken)).await, Code::Ok);
    }
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
    assert!(begun.elapsed() >= Duration::from_secs(10) - TICKS, "the lease ended early: {:?}", begun.elapsed());
    assert_eq!(client.ack_one("late", "late", handle).await, Code::InvalidReceiptHandle);
    let changed = client.change(change("late", "late", handle, 10)).await;
    assert_eq!(code(&changed.status), Code::InvalidReceiptHandle);
    let again = client.receive(request).await;
    assert_eq!(attempt(&again.messages[0]), 2);
    assert_eq!(client.ack_one("late", "late", handle).await, Code::InvalidReceiptHandle);
    assert_eq!(client.ack_one("late", "late", super::client::handle(&again.messages[0])).await, Code::Ok);
}

// 79, by leases that end
async fn an_ordered_batch_whose_lease_ends_comes_again_in_order(broker: &Broker) {
    const LEASE: Duration = Duration::from_secs(10);
    let name = "fifo-expired";
    let client = fifo::ordered(broker, name, 4).await;
    let request = ReceiveMessageRequest {
        invisible_duration: Some(seconds(10)),
        long_polling_timeout: Some(seconds(20)),
        ..receive(name, name)
    };
    let begun = Instant::now();
    let batch = client.receive(request.clone()).await;
    assert_eq!(batch.ids(), ["1", "2", "3", "4"]);
    let leased = Instant::now();
    assert_eq!(client.ack_one(name, name, handle(&batch.messages[1])).await, Code::Ok, "before the first one");
    let again = broker.client("fifo-expired-other").await.receive(request).await;
    assert!(begun.elapsed() >= LEASE - TICKS, "the lease ended early: {:?}", begun.elapsed());
    assert!(leased.elapsed() < LEASE + SLACK, "the lease ended late: {:?}", leased.elapsed());
    let seen: Vec<(String, i32)> = again.messages.iter().map(|message| (id(message), attempt(message))).collect();
    assert_eq!(seen, [("1".to_owned(), 2), ("3".to_owned(), 2), ("4".to_owned(), 2)]);
}

// 73
async fn a_renewed_lease_keeps_its_handle(broker: &Broker) {
    broker.topic("slow").await;
    let client = broker.client("slow").await;
    client.publish("slow", &["1"]).await;
    let received = client.receive(receive_renewed("slow", "slow")).await;
    let other = broker.client("slow-other").await;
    let begun = Instant::now();
    while begun.elapsed() < watched(SLOW_CONSUMER) {
        assert_eq!(client.heartbeat(ClientType::PushConsumer, "slow").await, Code::Ok);
        let others = other.receive(receive_renewed("slow", "slow")).await;
        assert_eq!(others.code(), Code::MessageNotFound, "after {:?}: {others:?}", begun.elapsed());
    }
    assert_eq!(client.ack_one("slow", "slow", handle(&received.messages[0])).await, Code::Ok);
    assert_eq!(broker.backlog("slow", "slow").await, Default::default());
}

// 75, for seventy seconds instead of three hours
async fn renewing_a_lease_has_an_end(_: &Broker) {
    const RENEWED: Duration = Duration::from_secs(70);
    let broker = Broker::of(Arc::new(Options::default().set("groups.renewal_max", "70s").start())).await;
    let name = "endless";
    broker.topic(name).await;
    let client = broker.client(name).await;
    client.publish(name, &["1"]).await;
    let begun = Instant::now();
    let held = client.receive(receive_renewed(name, name)).await;
    let leased = Instant::now();
    let other = broker.client("endless-other").await;
    let given = loop {
        assert_eq!(client.heartbeat(ClientType::PushConsumer, name).await, Code::Ok);
        let mut received = other.receive(receive_renewed(name, name)).await;
        if let Some(message) = received.messages.pop() {
            break message;
        }
        assert!(leased.elapsed() < RENEWED + SLACK, "it has no end: {:?}", leased.elapsed());
    };
    assert!(begun.elapsed() >= RENEWED - TICKS, "it ended early: {:?}", begun.elapsed());
    assert!(leased.elapsed() < RENEWED + SLACK, "it ended late: {:?}", leased.elapsed());
    assert_eq!(attempt(&given), 2);
    assert_eq!(client.ack_one(name, name, handle(&held.messages[0])).await, Code::InvalidReceiptHandle);
    assert_eq!(other.ack_one(name, name, handle(&given)).await, Code::Ok);
}

// 74, for a client that ends without a word.
async fn what_a_killed_client_held_is_given_on(broker: &Broker) {
    broker.topic("killed").await;
    let killed = broker.client("killed").await;
    killed.publish("killed", &["1"]).await;
    let begun = Instant::now();
    let received = killed.receive(receive_renewed("killed", "killed")).await;
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
        assert!(begun.elapsed() < EXPIRY + EXPIRY_SLACK, "after {:?}", begun.elapsed());
    };
    let took = begun.elapsed();
    assert!((EXPIRY - TICKS..EXPIRY + EXPIRY_SLACK).contains(&took), "{took:?}");
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

// 89; watched for a minute only, both keep them.
async fn who_does_not_repeat_its_lite_topics_loses_them(broker: &Broker) {
    let name = "lite-silent";
    lite::rooms(broker, name, false).await;
    let (silent, faithful) = (broker.client("lite-silent").await, broker.client("lite-faithful").await);
    assert_eq!(silent.sync_lite(lite::add(name, name, "hall")).await, Code::Ok);
    assert_eq!(faithful.sync_lite(lite::add(name, name, "kitchen")).await, Code::Ok);
    let (begun, whole) = (Instant::now(), watched(LITE_SILENCE));
    while begun.elapsed() < whole {
        sleep(LITE_BEAT.min(whole.saturating_sub(begun.elapsed()))).await;
        for client in [&silent, &faithful] {
            assert_eq!(client.heartbeat(ClientType::LitePushConsumer, name).await, Code::Ok);
        }
        let repeated = lite::sync(name, name, LiteSubscriptionAction::CompleteAdd, &["kitchen"]);
        assert_eq!(faithful.sync_lite(repeated).await, Code::Ok);
    }
    faithful.store(vec![lite::into(name, "h", "hall"), lite::into(name, "k", "kitchen")]).await;
    assert_eq!(faithful.receive(receive(name, name)).await.ids(), ["k"]);
    let left = silent.receive(receive(name, name)).await.ids();
    let expected: &[&str] = if whole < LITE_SILENCE { &["h"] } else { &[] };
    assert_eq!(left, expected);
}
