//! Reading a queue without leases, asking for places in it, and putting a group at one.

mod harness;

use centaur_apis::store::{
    ChangeVisibilityRequest, DeleteTopicRequest, Delivery, Filter, GetOffsetRequest, PopRequest, QueryOffsetRequest,
    ReadRequest, ReadResponse, Reason, ResetGroupRequest, ResetQueue, filter::Kind, query_offset_request,
    reset_group_request::To,
};
use centaur_store::{Config, Store};
use harness::{Client, Hands, Medium, START_MS, UNLIMITED, ack, create_topic, message, message_id, pop, reason, send};

const TOPIC: &str = "orders";
const GROUP: &str = "workers";

/// A store with one message a second in the one queue of a topic, numbered.
async fn store_with(messages: u64) -> (tempfile::TempDir, Hands, Store, Client) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    let hands = Hands::default();
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    for number in 0..messages {
        put(&mut client, number, (number % 2 == 1).then_some("odd")).await;
        hands.pass(1_000);
    }
    (dir, hands, store, client)
}

async fn put(client: &mut Client, number: u64, tag: Option<&str>) {
    let message = message(TOPIC, &number.to_string(), tag, &[], vec![1; 100]);
    assert_eq!(send(client, TOPIC, 0, message).await, Ok(number));
}

fn ids(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| message_id(&delivery.properties).parse().expect("a number")).collect()
}

fn read_request(offset: u64, messages_max: u32) -> ReadRequest {
    ReadRequest { topic: TOPIC.into(), offset, messages_max, bytes_max: UNLIMITED, ..Default::default() }
}

async fn read(client: &mut Client, request: ReadRequest) -> Result<ReadResponse, Reason> {
    client.read(request).await.map(tonic::Response::into_inner).map_err(|status| reason(&status))
}

async fn reset(client: &mut Client, to: To, dry_run: bool) -> Result<Vec<ResetQueue>, Reason> {
    let request =
        ResetGroupRequest { group: GROUP.into(), topic: TOPIC.into(), to: Some(to), dry_run, ..Default::default() };
    client.reset_group(request).await.map(|answer| answer.into_inner().queues).map_err(|status| reason(&status))
}

#[tokio::test]
async fn a_queue_is_read_in_pages_and_nothing_is_leased() {
    let (_dir, _hands, _store, mut client) = store_with(10).await;
    let mut offset = 0;
    let mut seen = Vec::new();
    while offset < 10 {
        let page = read(&mut client, read_request(offset, 3)).await.expect("answered");
        assert!(page.messages.iter().all(|message| message.handle.is_empty()));
        seen.extend(ids(&page.messages));
        offset = page.next_offset;
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    let end = read(&mut client, read_request(10, 3)).await.expect("answered");
    assert_eq!((end.messages.len(), end.next_offset), (0, 10));
    assert_eq!(read(&mut client, read_request(11, 3)).await.err(), Some(Reason::IllegalOffset));
    let elsewhere = ReadRequest { queue: 1, ..read_request(0, 1) };
    assert_eq!(read(&mut client, elsewhere).await.err(), Some(Reason::Invalid));
    assert_eq!(pop(&mut client, GROUP, TOPIC, 32).await.expect("answered").len(), 10, "all are there for a group");
}

#[tokio::test]
async fn a_read_takes_only_what_matches_and_goes_on_behind_what_does_not() {
    let (_dir, _hands, _store, mut client) = store_with(10).await;
    let filter = Some(Filter { kind: Kind::Tags.into(), tags: vec!["odd".into()], ..Default::default() });
    let page = read(&mut client, ReadRequest { filter: filter.clone(), ..read_request(0, 2) }).await.expect("answered");
    assert_eq!((ids(&page.messages), page.next_offset), (vec![1, 3], 5));
    let rest = ReadRequest { filter: filter.clone(), ..read_request(page.next_offset, 32) };
    let page = read(&mut client, rest).await.expect("answered");
    assert_eq!((ids(&page.messages), page.next_offset), (vec![5, 7, 9], 10));
    let one = ReadRequest { filter, bytes_max: 1, ..read_request(0, 32) };
    assert_eq!(ids(&read(&mut client, one).await.expect("answered").messages), [1], "one at least");
}

#[tokio::test]
async fn a_read_at_the_end_waits_for_the_next_message() {
    let (_dir, _hands, _store, mut client) = store_with(2).await;
    let mut reader = client.clone();
    let waiting = tokio::spawn(async move {
        read(&mut reader, ReadRequest { wait_ms: 30_000, ..read_request(2, 8) }).await.expect("answered")
    });
    tokio::task::yield_now().await;
    put(&mut client, 2, None).await;
    let page = waiting.await.expect("not panicked");
    assert_eq!((ids(&page.messages), page.next_offset), (vec![2], 3));
}

#[tokio::test]
async fn a_read_that_waits_is_told_that_its_topic_is_gone() {
    let (_dir, _hands, _store, mut client) = store_with(2).await;
    let mut reader = client.clone();
    let waiting =
        tokio::spawn(async move { read(&mut reader, ReadRequest { wait_ms: 30_000, ..read_request(2, 8) }).await });
    tokio::task::yield_now().await;
    client.delete_topic(DeleteTopicRequest { name: TOPIC.into(), ..Default::default() }).await.expect("deleted");
    assert_eq!(waiting.await.expect("not panicked").err(), Some(Reason::TopicNotFound));
}

#[tokio::test]
async fn places_are_found_by_edge_and_by_time() {
    let (_dir, _hands, _store, mut client) = store_with(10).await;
    use query_offset_request::At;
    for (at, offset) in [
        (At::Earliest(true), 0),
        (At::Latest(true), 10),
        (At::FromMs(0), 0),
        (At::FromMs(START_MS + 3_000), 3),
        (At::FromMs(START_MS + 3_001), 4),
        (At::FromMs(START_MS + 60_000), 10),
    ] {
        let request = QueryOffsetRequest { topic: TOPIC.into(), queue: 0, at: Some(at) };
        assert_eq!(client.query_offset(request).await.expect("answered").into_inner().offset, offset, "{at:?}");
    }
}

#[tokio::test]
async fn a_reset_voids_what_is_in_hand_and_delivery_begins_there() {
    let (_dir, _hands, _store, mut client) = store_with(10).await;
    let place = GetOffsetRequest { group: GROUP.into(), topic: TOPIC.into(), queue: 0 };
    assert_eq!(reset(&mut client, To::Earliest(true), false).await.err(), Some(Reason::GroupNotFound));
    let first = pop(&mut client, GROUP, TOPIC, 4).await.expect("answered");
    ack(&mut client, GROUP, TOPIC, &first[0].handle).await.expect("settled");
    assert_eq!(client.get_offset(place.clone()).await.expect("answered").into_inner().offset, 1);

    let foreseen = reset(&mut client, To::FromMs(START_MS + 7_000), true).await.expect("answered");
    let expected = ResetQueue { topic: TOPIC.into(), queue: 0, before: 1, after: 7, released: 3, again: 0, skipped: 6 };
    assert_eq!(foreseen, std::slice::from_ref(&expected));
    ack(&mut client, GROUP, TOPIC, &first[1].handle).await.expect("a dry run changes nothing");
    let done = reset(&mut client, To::FromMs(START_MS + 7_000), false).await.expect("answered");
    assert_eq!(done, [ResetQueue { before: 2, released: 2, skipped: 5, ..expected }]);

    assert_eq!(ack(&mut client, GROUP, TOPIC, &first[2].handle).await, Err(Reason::InvalidHandle));
    assert_eq!(client.get_offset(place).await.expect("answered").into_inner().offset, 7);
    let next = pop(&mut client, GROUP, TOPIC, 32).await.expect("answered");
    assert_eq!(ids(&next), [7, 8, 9]);
    assert!(next.iter().all(|delivery| delivery.attempt == 1));
    reset(&mut client, To::Offset(99), false).await.expect("moved to the edge");
    assert!(pop(&mut client, GROUP, TOPIC, 32).await.expect("answered").is_empty());
    reset(&mut client, To::Earliest(true), false).await.expect("answered");
    assert_eq!(ids(&pop(&mut client, GROUP, TOPIC, 32).await.expect("answered")), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reset_says_how_many_messages_come_again_and_how_many_are_lost() {
    let (_dir, hands, _store, mut client) = store_with(10).await;
    let first = pop(&mut client, GROUP, TOPIC, 8).await.expect("answered");
    for delivery in first.iter().filter(|delivery| delivery.offset != 1) {
        ack(&mut client, GROUP, TOPIC, &delivery.handle).await.expect("settled");
    }
    // Message 1 is stuck, all others up to 8 are finished, and 8 and 9 were never handed out.
    let foreseen = async |client: &mut Client, to| {
        let moved = reset(client, to, true).await.expect("answered").remove(0);
        (moved.before, moved.again, moved.skipped)
    };
    assert_eq!(foreseen(&mut client, To::Earliest(true)).await, (1, 8, 0));
    assert_eq!(foreseen(&mut client, To::Offset(1)).await, (1, 7, 0));
    assert_eq!(foreseen(&mut client, To::Offset(5)).await, (1, 3, 1), "three come again, the stuck one never does");
    assert_eq!(foreseen(&mut client, To::Offset(9)).await, (1, 0, 2));
    assert_eq!(foreseen(&mut client, To::Latest(true)).await, (1, 0, 3));

    let stuck = &first.iter().find(|delivery| delivery.offset == 1).expect("given out").handle;
    let later = ChangeVisibilityRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        handle: stuck.clone(),
        invisible_ms: 30_000,
        uncounted: false,
    };
    client.change_visibility(later).await.expect("given back");
    let moved = reset(&mut client, To::Latest(true), true).await.expect("answered");
    assert_eq!((moved[0].released, moved[0].skipped), (0, 3), "nobody has it in hand");
    pop(&mut client, GROUP, TOPIC, 32).await.expect("answered");
    let moved = reset(&mut client, To::Latest(true), true).await.expect("answered");
    assert_eq!(moved[0].released, 2);
    hands.pass(61_000);
    let moved = reset(&mut client, To::Latest(true), true).await.expect("answered");
    assert_eq!((moved[0].released, moved[0].skipped), (0, 3), "their leases are over");
}

#[tokio::test]
async fn a_strict_reset_refuses_what_is_outside_of_the_queue() {
    let (_dir, _hands, _store, mut client) = store_with(3).await;
    let request = |offset, queue| ResetGroupRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        queue: Some(queue),
        to: Some(To::Offset(offset)),
        strict: true,
        create_group: true,
        ..Default::default()
    };
    let refused = client.reset_group(request(4, 0)).await.expect_err("refused");
    assert_eq!(reason(&refused), Reason::IllegalOffset);
    let refused = client.reset_group(request(0, 1)).await.expect_err("refused");
    assert_eq!(reason(&refused), Reason::Invalid);
    client.reset_group(request(2, 0)).await.expect("moved");
    assert_eq!(ids(&pop(&mut client, GROUP, TOPIC, 32).await.expect("answered")), [2]);
}

/// Has the first message leased by the store for a client that does not look at the answer.
async fn answered<'a>(asking: &'a mut Client, other: &mut Client) -> impl Future<Output: Sized> + 'a {
    let request = PopRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        client: "gone".into(),
        messages_max: 1,
        bytes_max: UNLIMITED,
        invisible_ms: 60_000,
        wait_ms: 60_000,
        create_group: true,
        ..Default::default()
    };
    let mut answer = Box::pin(asking.pop(request));
    assert!(futures_util::poll!(answer.as_mut()).is_pending());
    put(other, 0, None).await;
    assert_eq!(pop(other, GROUP, TOPIC, 1).await, Ok(vec![]), "it is leased");
    answer
}

/// What two polls give: the store hears of what a client lets go of with the first, and gives it to the second.
async fn pop_twice(client: &mut Client) -> Vec<Delivery> {
    let first = pop(client, GROUP, TOPIC, 1).await.expect("answered");
    [first, pop(client, GROUP, TOPIC, 1).await.expect("answered")].concat()
}

#[tokio::test]
async fn an_answer_nobody_takes_gives_its_lease_back() {
    let (_dir, _hands, _store, mut client) = store_with(0).await;
    let mut asking = client.clone();
    drop(answered(&mut asking, &mut client).await);
    let again = pop_twice(&mut client).await;
    assert_eq!((ids(&again), again[0].attempt), (vec![0], 1), "the delivery did not count");
}

#[tokio::test]
async fn an_answer_nobody_takes_after_a_reset_leaves_the_lease_of_another_alone() {
    let (_dir, _hands, _store, mut client) = store_with(0).await;
    let mut asking = client.clone();
    let answer = answered(&mut asking, &mut client).await;
    reset(&mut client, To::Earliest(true), false).await.expect("reset");
    let others = pop(&mut client, GROUP, TOPIC, 1).await.expect("answered");
    assert_eq!(ids(&others), [0]);
    drop(answer);
    assert_eq!(pop_twice(&mut client).await, [], "the other one has it still");
    assert_eq!(ack(&mut client, GROUP, TOPIC, &others[0].handle).await, Ok(()));
}
