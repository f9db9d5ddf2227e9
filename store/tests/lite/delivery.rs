//! Who gets which message, and when.

use super::*;

#[tokio::test]
async fn a_message_reaches_only_clients_that_are_subscribed() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.add("two", &["b"]).await;
    bench.send_all("a", &["a1", "a2"]).await;
    bench.send_all("b", &["b1"]).await;
    bench.send_all("c", &["c1"]).await;
    bench.reopen().await;
    assert_eq!(bench.names().await, ["a", "b", "c"]);
    assert_eq!(bench.pop_ids("two").await, ["b1"]);
    assert_eq!(bench.pop_ids("one").await, ["a1", "a2"]);
    assert_eq!(bench.pop_ids("three").await, [""; 0]);
    bench.add("three", &["c", "a"]).await;
    assert_eq!(bench.pop_ids("three").await, ["c1"]);
}

#[tokio::test]
async fn a_lite_topic_is_consumed_in_order_one_batch_at_a_time() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.add("two", &["a"]).await;
    bench.send_all("a", &["1", "2", "3", "4"]).await;
    let first = bench.pop("one", 2).await;
    assert_eq!(ids(&first), ["1", "2"]);
    assert_eq!(bench.pop_ids("two").await, [""; 0]);
    bench.ack(&first[1]).await;
    assert_eq!(bench.pop_ids("two").await, [""; 0]);
    bench.reopen().await;
    // What was not settled comes again, with what follows it; what was settled does not.
    bench.hands.pass(INVISIBLE_MS + 1);
    let again = bench.pop("two", 2).await;
    assert_eq!((ids(&again), again[0].attempt, again[1].attempt), (vec!["1".to_owned(), "3".to_owned()], 2, 1));
    for delivery in &again {
        bench.ack(delivery).await;
    }
    assert_eq!(bench.pop_ids("one").await, ["4"]);
}

#[tokio::test]
async fn what_is_given_back_comes_again_before_what_follows() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["1", "2"]).await;
    let first = bench.pop("one", 1).await;
    let change = ChangeVisibilityRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        handle: first[0].handle.clone(),
        invisible_ms: 5_000,
        uncounted: true,
    };
    bench.client.change_visibility(change).await.expect("changed");
    assert_eq!(bench.pop_ids("one").await, [""; 0]);
    bench.hands.pass(5_000);
    let again = bench.pop("one", 32).await;
    assert_eq!((ids(&again), again[0].attempt), (vec!["1".to_owned(), "2".to_owned()], 1));
}

#[tokio::test]
async fn a_message_without_attempts_left_leaves_its_lite_topic_and_the_next_one_goes_on() {
    let mut bench = Bench::new().await;
    bench.put_group_of_one_attempt().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["1", "2"]).await;
    assert_eq!(ids(&bench.pop("one", 1).await), ["1"]);
    bench.hands.pass(INVISIBLE_MS);
    assert_eq!(bench.pop_ids("one").await, ["2"]);
    let dead = harness::pop(&mut bench.client, "undertakers", "%DLQ%bots", 1).await.expect("answered");
    assert_eq!(ids(&dead), ["1"]);
}

#[tokio::test]
async fn a_dead_letter_goes_back_to_its_lite_topic() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    let properties =
        v2::SystemProperties { message_id: "1".to_owned(), lite_topic: Some("a".to_owned()), ..Default::default() };
    let new = NewMessage {
        lite_topic: "a".to_owned(),
        properties: properties.encode_to_vec().into(),
        ..message(TOPIC, "1", None, &[], vec![])
    };
    send(&mut bench.client, TOPIC, 0, new).await.expect("sent");
    let taken = bench.pop("one", 1).await;
    let dead = DeadLetterRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        handle: taken[0].handle.clone(),
        ..Default::default()
    };
    bench.client.dead_letter(dead).await.expect("moved");
    let redrive =
        RedriveRequest { group: GROUP.to_owned(), places: vec![Place { queue: 0, offset: 0 }], dry_run: false };
    let results = bench.client.redrive(redrive).await.expect("answered").into_inner().results;
    assert_eq!((results[0].error.as_ref(), results[0].offset), (None, 1));
    assert_eq!(bench.pop_ids("one").await, ["1"]);
}

#[tokio::test]
async fn an_attempt_repeated_gets_the_same_messages() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["1", "2"]).await;
    let attempt = PopRequest { attempt: "x".to_owned(), ..poll("one", 1, 0) };
    let first = bench.client.pop(attempt.clone()).await.expect("answered").into_inner();
    bench.reopen().await;
    let again = bench.client.pop(attempt).await.expect("answered").into_inner();
    assert_eq!((ids(&first.deliveries), first.deliveries), (vec!["1".to_owned()], again.deliveries));
}

#[tokio::test]
async fn messages_and_lite_topics_have_to_fit() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.send("", "1").await, Err(Reason::TypeConflict));
    assert_eq!(bench.send("a.b", "1").await, Err(Reason::IllegalLiteTopic));
    create_topic(&mut bench.client, "plain", 1).await.expect("made");
    let new = NewMessage { lite_topic: "a".to_owned(), ..message("plain", "1", None, &[], vec![]) };
    assert_eq!(send(&mut bench.client, "plain", 0, new).await, Err(Reason::TypeConflict));
    let due = NewMessage {
        lite_topic: "a".to_owned(),
        due_ms: START_MS + 1_000_000,
        ..message(TOPIC, "1", None, &[], vec![])
    };
    assert_eq!(send(&mut bench.client, TOPIC, 0, due).await, Err(Reason::TypeConflict));
    assert_eq!(bench.names().await, [""; 0]);
}

#[tokio::test]
async fn everybody_in_a_wildcard_group_consumes_all_lite_topics() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { wildcard: true, ..Default::default() }).await.expect("made");
    bench.send_all("a", &["a1"]).await;
    bench.sync("one", Action::CompleteAdd, &[]).await.expect("heard");
    assert_eq!(bench.pop_ids("one").await, ["a1"]);
    bench.send_all("b", &["b1"]).await;
    bench.reopen().await;
    bench.send_all("c", &["c1"]).await;
    bench.send_all("a", &["a2"]).await; // a1 is in hand
    assert_eq!(bench.pop_ids("two").await, ["b1", "c1"]);
    assert_eq!(bench.end("one").await, 1);
    assert_eq!(bench.pop_ids("two").await, ["a1", "a2"]);
}

#[tokio::test]
async fn whoever_consumes_all_lite_topics_need_not_wait_for_the_first_one() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { wildcard: true, ..Default::default() }).await.expect("made");
    assert_eq!(bench.pop_ids("one").await, [""; 0]);
    bench.send_all("a", &["a1"]).await;
    assert_eq!(bench.pop_ids("one").await, ["a1"]);
}

#[tokio::test]
async fn a_parked_poll_is_woken_by_what_its_client_is_subscribed_to() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.add("two", &["a", "b"]).await;
    let polls: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|client| {
            let mut store = bench.client.clone();
            tokio::spawn(async move { store.pop(poll(client, 32, 3_600_000)).await.expect("answered").into_inner() })
        })
        .collect();
    let [one, two, three] = <[_; 3]>::try_from(polls).expect("three");
    parked(&mut bench, 3).await;
    bench.send_all("b", &["b1"]).await;
    assert_eq!(ids(&two.await.expect("joined").deliveries), ["b1"]);
    bench.send_all("a", &["a1"]).await;
    let first = one.await.expect("joined").deliveries;
    assert_eq!(ids(&first), ["a1"]);
    // A first subscription with something in it wakes, too, and so does what is settled.
    bench.send_all("a", &["a2"]).await;
    bench.add("three", &["a"]).await;
    parked(&mut bench, 1).await;
    bench.ack(&first[0]).await;
    assert_eq!(ids(&three.await.expect("joined").deliveries), ["a2"]);
}

#[tokio::test]
async fn nothing_is_lost_with_a_client_that_was_woken_and_went_away() {
    let mut bench = Bench::new().await;
    for client in ["one", "two"] {
        bench.add(client, &["a"]).await;
    }
    for round in 0..20 {
        let spawn = |client: &'static str| {
            let mut store = bench.client.clone();
            tokio::spawn(async move { store.pop(poll(client, 32, 3_600_000)).await.map(|answer| answer.into_inner()) })
        };
        let (gone, stays) = (spawn("one"), spawn("two"));
        parked(&mut bench, 2).await;
        gone.abort();
        let id = round.to_string();
        bench.send_all("a", &[&id]).await;
        let given = match gone.await {
            // It was faster than its end.
            Ok(answer) => {
                stays.abort();
                answer
            }
            Err(_) => stays.await.expect("joined"),
        };
        let deliveries = given.expect("answered").deliveries;
        assert_eq!(ids(&deliveries), [id]);
        bench.ack(&deliveries[0]).await;
        parked(&mut bench, 0).await;
    }
}

/// Waits until so many polls of the group are parked.
async fn parked(bench: &mut Bench, polls: u32) {
    loop {
        let request = DescribeGroupRequest { name: GROUP.to_owned() };
        let described = bench.client.describe_group(request).await.expect("described").into_inner();
        if described.topics.iter().map(|topic| topic.polls).sum::<u32>() == polls {
            return;
        }
        tokio::task::yield_now().await;
    }
}
