use std::time::Duration;

use centaur_apis::{log::TopicType, v2::*};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tonic::Request;

use crate::harness::*;

fn beat(kind: ClientType, group: Option<Resource>) -> HeartbeatRequest {
    HeartbeatRequest { group, client_type: kind.into() }
}

#[tokio::test]
async fn nobody_gets_by_without_a_client_id() {
    both(async |mut h: Harness| {
        let answer = h.client.heartbeat(Request::new(HeartbeatRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::ClientIdRequired);
        let answer = h.client.query_route(Request::new(QueryRouteRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::ClientIdRequired);
        let answer = h.client.send_message(Request::new(SendMessageRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::ClientIdRequired);
        let answer = h.client.ack_message(Request::new(AckMessageRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::ClientIdRequired);
        let (refused, _) = receive(&mut h.client, Request::new(ReceiveMessageRequest::default())).await;
        assert_eq!(refused, Code::ClientIdRequired);
    })
    .await;
}

#[tokio::test]
async fn a_client_without_settings_is_taken_at_its_word() {
    both(async |mut h: Harness| {
        for (request, expected) in [
            (beat(ClientType::Unspecified, None), Code::UnrecognizedClientType),
            (beat(ClientType::PushConsumer, None), Code::IllegalConsumerGroup),
            (beat(ClientType::PushConsumer, named("workers")), Code::Ok),
            // Now it is known as a push consumer.
            (beat(ClientType::Unspecified, named("workers")), Code::Ok),
            (beat(ClientType::Producer, named("a b")), Code::IllegalConsumerGroup),
        ] {
            let answer = h.client.heartbeat(ours(request.clone())).await.expect("a status");
            assert_eq!(code(answer.get_ref().status.as_ref()), expected, "{request:?}");
        }
        let answer = h.client.heartbeat(from("producer", beat(ClientType::Producer, None))).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::Ok);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_does_not_wait_for_a_slow_store() {
    let mut h = Harness::local(|_| ());
    h.store.world().is_slow = true;
    let beat = HeartbeatRequest { group: named("workers"), client_type: ClientType::PushConsumer.into() };
    let answer = timeout(Duration::from_secs(1), h.client.heartbeat(ours(beat))).await.expect("clients wait 3 s");
    assert_eq!(code(answer.expect("a status").get_ref().status.as_ref()), Code::Ok);
}

#[tokio::test]
async fn the_last_word_of_a_client_ends_its_leases() {
    both(async |mut h: Harness| {
        let last_word = |group| NotifyClientTerminationRequest { group };
        for (group, expected) in
            [(None, Code::Ok), (named("workers"), Code::Ok), (named("a b"), Code::IllegalConsumerGroup)]
        {
            let answer = h.client.notify_client_termination(ours(last_word(group))).await.expect("a status");
            assert_eq!(code(answer.get_ref().status.as_ref()), expected);
        }
        assert_eq!(h.store.world().ended, [CLIENT, CLIENT]);
    })
    .await;
}

/// Some clients shut down while a poll of theirs is open: what it would bring nobody would handle.
#[tokio::test]
async fn the_last_word_of_a_client_ends_its_poll() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let mut client = h.client.clone();
        let poll = tokio::spawn(async move { receive(&mut client, ours(receive_from("orders", "workers"))).await });
        h.store.until("the poll is parked", |world| world.parked == 1).await;
        let last_word = NotifyClientTerminationRequest { group: None };
        h.client.notify_client_termination(ours(last_word)).await.expect("a status");
        assert_eq!(poll.await.expect("no panic"), (Code::MessageNotFound, Vec::new()));
        h.store.until("the store knows that nobody waits", |world| world.parked == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_store_hears_who_takes_messages_and_when_they_fall_silent() {
    let mut h = Harness::local(|_| ());
    h.store.add_topic("orders", TopicType::Normal, 1);
    send(&mut h.client, vec![message("orders", "1")]).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let proxy = h.proxy.clone();
    let running = tokio::spawn(async move { proxy.run(async { drop(stopped.await) }).await });
    receive(&mut h.client, from("consumer", receive_from("orders", "workers"))).await;
    h.client.heartbeat(from("producer", beat(ClientType::Producer, None))).await.expect("a status");
    sleep(Duration::from_secs(119)).await;
    let touched = h.store.world().touched.clone();
    // Once, or twice when the report and the receive fall into one millisecond.
    assert!(touched.iter().all(|client| client == "consumer"), "{touched:?}");
    assert!((1..=2).contains(&touched.len()), "silence is not reported: {touched:?}");
    assert!(h.store.world().ended.is_empty());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(h.store.world().ended, ["consumer"], "producers hold no leases");
    stop.send(()).expect("running");
    running.await.expect("no panic");
}

#[tokio::test]
async fn an_empty_request_is_refused_in_good_form() {
    both(async |mut h: Harness| {
        let pulled = h.client.pull_message(ours(PullMessageRequest::default())).await.expect("a stream");
        let frame = pulled.into_inner().message().await.expect("well ended").and_then(|frame| frame.content);
        let Some(pull_message_response::Content::Status(status)) = frame else { panic!("{frame:?}") };
        assert_eq!(status.code(), Code::IllegalTopic);
        let answer = h
            .client
            .update_offset(ours(UpdateOffsetRequest { group: named("workers"), ..Default::default() }))
            .await
            .expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::IllegalTopic);
        let answer = h
            .client
            .get_offset(ours(GetOffsetRequest { group: named("workers"), ..Default::default() }))
            .await
            .expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::IllegalTopic);
        let answer = h.client.query_offset(ours(QueryOffsetRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::IllegalTopic);
        let answer = h.client.end_transaction(ours(EndTransactionRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::IllegalTopic);
        let answer = h.client.recall_message(ours(RecallMessageRequest::default())).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::IllegalTopic);
        let request = ours(SyncLiteSubscriptionRequest::default());
        let answer = h.client.sync_lite_subscription(request).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::IllegalTopic);
    })
    .await;
}
