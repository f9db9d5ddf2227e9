use std::time::Duration;

use centaur_apis::{
    log::TopicType,
    store::{Error, Reason, filter::Kind},
    v2::{pull_message_response::Content, *},
};
use tonic::Request;

use crate::harness::*;

fn pull_from(topic: &str, offset: i64) -> PullMessageRequest {
    PullMessageRequest {
        group: named("workers"),
        message_queue: Some(MessageQueue { topic: named(topic), ..Default::default() }),
        offset,
        batch_size: 2,
        filter_expression: Some(FilterExpression { r#type: FilterType::Tag.into(), expression: "red".into() }),
        long_polling_timeout: Some(seconds(5)),
    }
}

/// Status, messages and next offset; checks the order of frames.
async fn pull(client: &mut Client, request: Request<PullMessageRequest>) -> (Code, Vec<Message>, Option<i64>) {
    let mut stream = client.pull_message(request).await.expect("a refusal is in a frame").into_inner();
    let (mut code, mut messages, mut next) = (None, Vec::new(), None);
    while let Some(frame) = stream.message().await.expect("the stream ends well") {
        assert!(next.is_none(), "the next offset is the last frame");
        match frame.content.expect("no frame is empty") {
            Content::Status(status) => assert!(code.replace(status.code()).is_none(), "one status"),
            Content::Message(message) => {
                assert!(code.is_some(), "the status comes first");
                messages.push(message);
            }
            Content::NextOffset(offset) => next = Some(offset),
        }
    }
    (code.expect("a status"), messages, next)
}

#[tokio::test]
async fn a_queue_is_read_without_leases() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        for id in ["1", "2", "3"] {
            send(&mut h.client, vec![message("orders", id)]).await;
        }
        let (code, messages, next) = pull(&mut h.client, ours(pull_from("orders", 0))).await;
        assert_eq!((code, messages.len(), next), (Code::Ok, 2, Some(2)));
        let (_, messages, next) = pull(&mut h.client, ours(pull_from("orders", 2))).await;
        let system = messages[0].system_properties.as_ref().expect("set");
        assert_eq!((system.message_id.as_str(), system.queue_offset, next), ("3", Some(2), Some(3)));
        assert_eq!(system.receipt_handle, None);
        assert!(system.body_digest.is_some());
        let world = h.store.world();
        let read = &world.reads[0];
        assert_eq!((read.group.as_str(), read.messages_max, read.wait_ms), ("workers", 2, 5_000));
        assert_eq!(read.filter.as_ref().map(|filter| filter.kind()), Some(Kind::Tags));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_of_nothing_waits_its_time() {
    let mut h = Harness::local(|_| ());
    h.store.add_topic("orders", TopicType::Normal, 1);
    let began = tokio::time::Instant::now();
    let answer = pull(&mut h.client, ours(pull_from("orders", 0))).await;
    assert_eq!(answer, (Code::MessageNotFound, vec![], Some(0)));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_pull_ends_early_when_the_server_drains() {
    both(async |h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let mut client = h.client.clone();
        let pulling = tokio::spawn(async move { pull(&mut client, ours(pull_from("orders", 0))).await });
        h.store.until("the pull waits", |world| world.parked == 1).await;
        h.proxy.drain();
        let answer = tokio::time::timeout(Duration::from_secs(3), pulling).await.expect("early").expect("done");
        assert_eq!(answer, (Code::MessageNotFound, vec![], Some(0)));
    })
    .await;
}

#[tokio::test]
async fn a_pull_says_why_it_is_refused() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let mut groupless = pull_from("orders", 0);
        groupless.group = None;
        groupless.filter_expression = Some(FilterExpression { r#type: FilterType::Sql.into(), expression: " ".into() });
        let mut anywhere = pull_from("orders", 0);
        anywhere.message_queue.as_mut().expect("set").id = -1;
        for (request, expected) in [
            (ours(pull_from("orders", -1)), Code::IllegalOffset),
            (ours(pull_from("nowhere", 0)), Code::TopicNotFound),
            (ours(pull_from("a b", 0)), Code::IllegalTopic),
            (ours(groupless), Code::IllegalFilterExpression),
            (ours(anywhere), Code::BadRequest),
            (within(Duration::from_secs(2), pull_from("orders", 0)), Code::IllegalPollingTime),
            (Request::new(pull_from("orders", 0)), Code::ClientIdRequired),
        ] {
            assert_eq!(pull(&mut h.client, request).await, (expected, vec![], None));
        }
        h.store.world().error = Some(Error::new(Reason::IllegalOffset, "beyond the end"));
        assert_eq!(pull(&mut h.client, ours(pull_from("orders", 9))).await.0, Code::IllegalOffset);
    })
    .await;
}
