//! Half messages: invisible before their transaction is committed, and visible exactly once after;
//! the first decision stands; who owes one is asked. With the store opened again at any moment.

mod harness;

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::{
    log::Resolution,
    store::{
        AppendRequest, Batch, Check, DeleteTopicRequest, EndTransactionRequest, Half, ListTransactionsRequest,
        NewMessage, Reason, TakeChecksRequest, TakeChecksResponse, Transaction,
    },
};
use centaur_store::{
    Config, Flush, Store,
    log::faulty::{Faults, FaultyDisk, Random},
};
use harness::{Client, Hands, Medium, ack, create_topic, message, message_id, pop, reason, send, setting};

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 6_000;
const CHECKS_MAX: u32 = 3;
const DISCARDED_MS: u64 = 3 * 86_400_000;

struct Bench {
    _data: tempfile::TempDir,
    config: Config,
    hands: Hands,
    medium: Medium,
}

impl Bench {
    fn new() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let config = Config {
            data_dir: data.path().to_owned(),
            segment_bytes: 1 << 20,
            transaction_checks_max: CHECKS_MAX,
            ..Config::default()
        };
        Self { _data: data, config, hands: Hands::default(), medium: Medium::Real }
    }

    fn open(&self) -> (Store, Client) {
        harness::open(&self.config, &self.hands, &self.medium).expect("opens")
    }

    async fn with_topic(&self) -> (Store, Client) {
        let (store, mut client) = self.open();
        create_topic(&mut client, TOPIC, 2).await.expect("made");
        (store, client)
    }

    async fn reopen(&self, store: Store) -> (Store, Client) {
        tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
        self.open()
    }
}

fn half(id: &str, first_check_ms: u64) -> NewMessage {
    let half = Some(Half { first_check_ms });
    NewMessage { half, queue: 1, ..message(TOPIC, id, Some("red"), &["key"], id.as_bytes().to_vec()) }
}

/// Sends a half message; gives the id of its transaction.
async fn begin(client: &mut Client, topic: &str, new: NewMessage) -> Result<String, Reason> {
    let batch = Batch { topic: topic.to_owned(), messages: vec![new] };
    let answer = client.append(AppendRequest { batches: vec![batch] }).await.map_err(|status| reason(&status))?;
    let mut result = answer.into_inner().results.remove(0);
    result.error.map_or(Ok(()), |error| Err(error.reason()))?;
    assert_eq!(result.offsets, [0]);
    Ok(result.tickets.remove(0))
}

async fn end_by(
    client: &mut Client,
    topic: &str,
    ticket: &str,
    message_id: &str,
    resolution: Resolution,
) -> Result<Resolution, Reason> {
    let request = EndTransactionRequest {
        topic: topic.to_owned(),
        ticket: ticket.to_owned(),
        message_id: message_id.to_owned(),
        resolution: resolution.into(),
    };
    let answer = client.end_transaction(request).await;
    answer.map(|answer| answer.into_inner().resolution()).map_err(|status| reason(&status))
}

async fn end(client: &mut Client, ticket: &str, resolution: Resolution) -> Result<Resolution, Reason> {
    end_by(client, TOPIC, ticket, "", resolution).await
}

async fn take(client: &mut Client, topics: &[&str], checks_max: u32) -> TakeChecksResponse {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    client.take_checks(TakeChecksRequest { topics, checks_max }).await.expect("taken").into_inner()
}

async fn list(client: &mut Client, topic: &str, discarded_only: bool, limit: u32) -> (Vec<Transaction>, u64) {
    let request = ListTransactionsRequest { topic: topic.to_owned(), discarded_only, limit, ..Default::default() };
    let listed = client.list_transactions(request).await.expect("listed").into_inner();
    (listed.transactions, listed.total)
}

/// The ids on each page of a list.
async fn pages(client: &mut Client, discarded_only: bool, limit: u32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let request = ListTransactionsRequest { discarded_only, limit, after, ..Default::default() };
        let page = client.list_transactions(request).await.expect("listed").into_inner();
        pages.push(page.transactions.into_iter().map(|transaction| transaction.message_id).collect());
        after = page.next;
        if after.is_empty() {
            return pages;
        }
    }
}

/// Ids of the messages that a group gets, each of them acknowledged.
async fn consume(client: &mut Client) -> Vec<String> {
    let mut ids = Vec::new();
    for delivery in pop(client, GROUP, TOPIC, 64).await.expect("answered") {
        ack(client, GROUP, TOPIC, &delivery.handle).await.expect("acked");
        ids.push(message_id(&delivery.properties));
    }
    ids
}

fn asked(checks: &[Check]) -> Vec<String> {
    checks.iter().map(|check| message_id(&check.message.as_ref().expect("a message").properties)).collect()
}

#[tokio::test]
async fn a_half_message_is_visible_once_after_its_commit_and_never_before() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_topic().await;
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    assert_eq!(consume(&mut client).await, [""; 0]);
    let (_store, mut client) = bench.reopen(store).await;
    assert_eq!(consume(&mut client).await, [""; 0]);
    send(&mut client, TOPIC, 1, message(TOPIC, "b", None, &[], vec![])).await.expect("sent");

    assert_eq!(end(&mut client, &ticket, Resolution::Committed).await, Ok(Resolution::Committed));
    let deliveries = pop(&mut client, GROUP, TOPIC, 64).await.expect("answered");
    let found: Vec<_> = deliveries.iter().map(|d| (message_id(&d.properties), d.queue, d.offset, d.attempt)).collect();
    assert_eq!(found, [("b".to_owned(), 1, 0, 1), ("a".to_owned(), 1, 1, 1)]);
    assert_eq!(&deliveries[1].body[..], b"a");
    for _ in 0..2 {
        assert_eq!(end(&mut client, &ticket, Resolution::Committed).await, Ok(Resolution::Committed));
    }
    assert_eq!(consume(&mut client).await, [""; 0]);
}

#[tokio::test]
async fn a_list_goes_on_where_the_one_before_ended() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_topic().await;
    create_topic(&mut client, "invoices", 2).await.expect("made");
    assert_eq!(pages(&mut client, false, 2).await, [[""; 0]]);
    for (id, topic) in [("a", TOPIC), ("b", "invoices"), ("c", TOPIC), ("d", TOPIC)] {
        begin(&mut client, topic, half(id, 0)).await.expect("begun");
    }
    assert_eq!(pages(&mut client, false, 2).await, [["a", "b"], ["c", "d"]], "of all topics, the oldest first");
    assert_eq!(pages(&mut client, false, 3).await, [vec!["a", "b", "c"], vec!["d"]]);
    assert_eq!(pages(&mut client, true, 3).await, [[""; 0]]);
    let wrong = ListTransactionsRequest { after: "there".into(), ..Default::default() };
    assert_eq!(reason(&client.list_transactions(wrong).await.expect_err("refused")), Reason::Invalid);
}

#[tokio::test]
async fn the_first_decision_stands_and_later_ones_are_told() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_topic().await;
    let first = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    let second = begin(&mut client, TOPIC, half("b", 0)).await.expect("begun");
    assert_eq!(end(&mut client, &first, Resolution::Undecided).await, Ok(Resolution::Undecided));
    assert_eq!(end(&mut client, &first, Resolution::RolledBack).await, Ok(Resolution::RolledBack));
    assert_eq!(end(&mut client, &second, Resolution::Committed).await, Ok(Resolution::Committed));
    let (_store, mut client) = bench.reopen(store).await;
    for asked in [Resolution::Committed, Resolution::RolledBack, Resolution::Undecided] {
        assert_eq!(end(&mut client, &first, asked).await, Ok(Resolution::RolledBack));
        assert_eq!(end(&mut client, &second, asked).await, Ok(Resolution::Committed));
    }
    assert_eq!(consume(&mut client).await, ["b"]);
}

#[tokio::test]
async fn a_message_id_does_for_a_ticket_and_nothing_else_does() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_topic().await;
    create_topic(&mut client, "other", 1).await.expect("made");
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    let mut forged = ticket.clone().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    let unknown = Err(Reason::TransactionNotFound);
    let commit = Resolution::Committed;
    for (topic, ticket, id) in [
        (TOPIC, forged.as_str(), ""),
        (TOPIC, "", ""),
        (TOPIC, "", "b"),
        ("other", ticket.as_str(), ""),
        ("other", ticket.as_str(), "a"),
        (TOPIC, "some other system's id", "b"),
    ] {
        assert_eq!(end_by(&mut client, topic, ticket, id, commit).await, unknown, "{topic} {ticket} {id}");
    }
    assert_eq!(end_by(&mut client, "none", &ticket, "a", commit).await, Err(Reason::TopicNotFound));
    assert_eq!(consume(&mut client).await, [""; 0]);
    assert_eq!(end_by(&mut client, TOPIC, &forged, "a", commit).await, Ok(commit));
    assert_eq!(end_by(&mut client, TOPIC, "", "a", Resolution::RolledBack).await, Ok(commit));
    assert_eq!(end(&mut client, &ticket, Resolution::RolledBack).await, Ok(commit));
    assert_eq!(consume(&mut client).await, ["a"]);
}

#[tokio::test]
async fn an_id_that_was_sent_twice_is_committed_once_by_its_id() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_topic().await;
    begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    for _ in 0..3 {
        let ended = end_by(&mut client, TOPIC, "", "a", Resolution::Committed).await;
        assert_eq!(ended, Ok(Resolution::Committed));
    }
    assert_eq!(consume(&mut client).await, ["a"]);
    assert_eq!(list(&mut client, "", false, 0).await.1, 1);
}

#[tokio::test]
async fn producers_are_asked_in_time_and_until_it_is_enough() {
    let bench = Bench::new();
    let (mut store, mut client) = bench.with_topic().await;
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    let later = begin(&mut client, TOPIC, half("b", 3_600_000)).await.expect("begun");
    bench.hands.pass(TIMEOUT_MS - 1);
    assert_eq!(take(&mut client, &[TOPIC], 10).await, TakeChecksResponse::default());
    bench.hands.pass(1);
    for round in 1..=CHECKS_MAX {
        let taken = take(&mut client, &[TOPIC, TOPIC], 10).await;
        assert_eq!(asked(&taken.checks), ["a"], "round {round}");
        let check = &taken.checks[0];
        assert_eq!((check.topic.as_str(), &check.ticket), (TOPIC, &ticket));
        let delivery = check.message.as_ref().expect("a message");
        assert_eq!((delivery.queue, &delivery.body[..], delivery.handle.as_str()), (1, &b"a"[..], ""));
        assert_eq!(take(&mut client, &[TOPIC], 10).await.checks, [], "it was just asked");
        assert_eq!(list(&mut client, TOPIC, false, 0).await.0[0].checks, round);
        bench.hands.pass(INTERVAL_MS - 1);
        assert_eq!(take(&mut client, &[TOPIC], 10).await.checks, []);
        (store, client) = bench.reopen(store).await;
        bench.hands.pass(1);
    }
    assert_eq!(list(&mut client, "", true, 0).await, (vec![], 0));
    assert_eq!(take(&mut client, &[TOPIC], 10).await.checks, []);
    let (discarded, total) = list(&mut client, "", true, 0).await;
    assert_eq!((discarded.len(), total), (1, 1));
    assert_eq!((discarded[0].message_id.as_str(), discarded[0].checks, discarded[0].body_bytes), ("a", CHECKS_MAX, 1));
    assert_eq!(discarded[0].ticket, ticket);
    bench.hands.pass(INTERVAL_MS);
    assert_eq!(take(&mut client, &[TOPIC], 10).await, TakeChecksResponse::default());
    // An operator may still decide it.
    assert_eq!(end(&mut client, &ticket, Resolution::Committed).await, Ok(Resolution::Committed));
    assert_eq!(consume(&mut client).await, ["a"]);
    assert_eq!(end(&mut client, &later, Resolution::Undecided).await, Ok(Resolution::Undecided));
    drop(store);
}

#[tokio::test]
async fn what_nobody_asks_about_stays_due() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_topic().await;
    create_topic(&mut client, "other", 1).await.expect("made");
    for id in ["a", "b", "c"] {
        begin(&mut client, TOPIC, half(id, 0)).await.expect("begun");
        bench.hands.pass(1);
    }
    begin(&mut client, "other", NewMessage { queue: 0, ..half("o", 0) }).await.expect("begun");
    bench.hands.pass(100 * INTERVAL_MS);
    let nobody = take(&mut client, &[], 10).await;
    assert_eq!((nobody.checks.len(), nobody.due_topics), (0, vec![TOPIC.to_owned(), "other".to_owned()]));
    let taken = take(&mut client, &["other", "none"], 10).await;
    assert_eq!((asked(&taken.checks), taken.due_topics), (vec!["o".to_owned()], vec![TOPIC.to_owned()]));
    // Those due longest first, and no more than wanted.
    assert_eq!(asked(&take(&mut client, &[TOPIC], 2).await.checks), ["a", "b"]);
    assert_eq!(asked(&take(&mut client, &[TOPIC], 2).await.checks), ["c"]);
    let (rows, total) = list(&mut client, TOPIC, false, 2).await;
    assert_eq!((rows.iter().map(|row| row.checks).collect::<Vec<_>>(), total), (vec![1, 1], 3));
}

#[tokio::test]
async fn a_discarded_transaction_is_rolled_back_in_the_end() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_topic().await;
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    for _ in 0..=CHECKS_MAX {
        bench.hands.pass(INTERVAL_MS);
        take(&mut client, &[TOPIC], 10).await;
    }
    assert_eq!(list(&mut client, "", true, 0).await.1, 1);
    bench.hands.pass(DISCARDED_MS - 1);
    let (_store, mut client) = bench.reopen(store).await;
    assert_eq!(list(&mut client, "", true, 0).await.1, 1);
    bench.hands.pass(1);
    while list(&mut client, "", false, 0).await.1 > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(end(&mut client, &ticket, Resolution::Committed).await, Ok(Resolution::RolledBack));
    assert_eq!(consume(&mut client).await, [""; 0]);
}

#[tokio::test]
async fn the_transactions_of_a_deleted_topic_are_gone() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_topic().await;
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    client.delete_topic(DeleteTopicRequest { name: TOPIC.into(), dry_run: false }).await.expect("deleted");
    assert_eq!(end(&mut client, &ticket, Resolution::Committed).await, Err(Reason::TopicNotFound));
    create_topic(&mut client, TOPIC, 2).await.expect("made");
    let commit = Resolution::Committed;
    assert_eq!(end_by(&mut client, TOPIC, &ticket, "a", commit).await, Err(Reason::TransactionNotFound));
    let (_store, mut client) = bench.reopen(store).await;
    assert_eq!(end_by(&mut client, TOPIC, &ticket, "a", commit).await, Err(Reason::TransactionNotFound));
    bench.hands.pass(INTERVAL_MS);
    assert_eq!(take(&mut client, &[TOPIC], 10).await, TakeChecksResponse::default());
    assert_eq!(list(&mut client, "", false, 0).await, (vec![], 0));
    assert_eq!(consume(&mut client).await, [""; 0]);
}

#[tokio::test]
async fn no_more_transactions_are_begun_than_the_store_keeps() {
    let mut bench = Bench::new();
    bench.config.transactions_max = 2;
    let (_store, mut client) = bench.with_topic().await;
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    begin(&mut client, TOPIC, half("b", 0)).await.expect("begun");
    assert_eq!(begin(&mut client, TOPIC, half("c", 0)).await, Err(Reason::Busy));
    send(&mut client, TOPIC, 0, message(TOPIC, "d", None, &[], vec![])).await.expect("sent");
    end(&mut client, &ticket, Resolution::RolledBack).await.expect("ended");
    begin(&mut client, TOPIC, half("c", 0)).await.expect("begun");
}

#[tokio::test]
async fn a_transaction_outlives_the_segment_it_was_begun_in() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_topic().await;
    let ticket = begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    let decided = begin(&mut client, TOPIC, half("b", 0)).await.expect("begun");
    end(&mut client, &decided, Resolution::RolledBack).await.expect("ended");
    bench.hands.pass(INTERVAL_MS);
    assert_eq!(asked(&take(&mut client, &[TOPIC], 10).await.checks), ["a"]);
    for filler in 0..40 {
        let filler = message(TOPIC, &format!("filler-{filler}"), None, &[], vec![7; 64 << 10]);
        send(&mut client, TOPIC, 0, filler).await.expect("sent");
    }
    let (store, mut client) = bench.reopen(store).await;
    let (rows, _) = list(&mut client, TOPIC, false, 0).await;
    assert_eq!((rows[0].message_id.as_str(), rows[0].checks, &rows[0].ticket), ("a", 1, &ticket));
    assert_eq!(end(&mut client, &decided, Resolution::Committed).await, Ok(Resolution::RolledBack));
    assert_eq!(end(&mut client, &ticket, Resolution::Committed).await, Ok(Resolution::Committed));
    let (_store, mut client) = bench.reopen(store).await;
    let found = consume(&mut client).await;
    assert_eq!((found.len(), found.iter().filter(|id| *id == "a").count()), (41, 1));
    assert!(!found.contains(&"b".to_owned()));
}

/// What the store said OK to.
#[derive(Default)]
struct Promises {
    begun: BTreeMap<String, String>,
    asked: BTreeMap<String, Resolution>,
    ended: BTreeMap<String, Resolution>,
    consumed: BTreeSet<String>,
}

/// Begins, ends, checks and consumes, with enough around it to fill segments, until the store fails.
async fn work(client: &mut Client, hands: &Hands, promises: &mut Promises) -> Option<()> {
    create_topic(client, TOPIC, 2).await.ok()?;
    for round in 0..9 {
        let id = format!("m{round}");
        let new = NewMessage { body: vec![7; 20_000].into(), ..half(&id, 0) };
        promises.begun.insert(id, begin(client, TOPIC, new).await.ok()?);
        hands.pass(INTERVAL_MS);
        let request = TakeChecksRequest { topics: vec![TOPIC.to_owned()], checks_max: 2 };
        client.take_checks(request).await.ok()?;
        // Every third one stays open; the others are decided two rounds later.
        if round < 2 || round % 3 == 0 {
            continue;
        }
        let id = format!("m{}", round - 2);
        let resolution = if round % 2 == 0 { Resolution::Committed } else { Resolution::RolledBack };
        promises.asked.insert(id.clone(), resolution);
        let ended = end(client, &promises.begun[&id].clone(), resolution).await.ok()?;
        promises.ended.insert(id, ended);
        for delivery in pop(client, GROUP, TOPIC, 1).await.ok()? {
            ack(client, GROUP, TOPIC, &delivery.handle).await.ok()?;
            assert!(promises.consumed.insert(message_id(&delivery.properties)), "delivered again after its ack");
        }
    }
    Some(())
}

async fn check(client: &mut Client, promises: &Promises, what: &str) {
    let open: BTreeSet<String> = match create_topic(client, TOPIC, 2).await {
        Ok(()) => list(client, TOPIC, false, 1000).await.0.into_iter().map(|row| row.message_id).collect(),
        Err(reason) => panic!("{what}: {reason:?}"),
    };
    let mut committed = BTreeSet::new();
    for (id, ticket) in &promises.begun {
        let standing = match open.contains(id) {
            true => Resolution::Undecided,
            false => end(client, ticket, Resolution::Undecided).await.expect("known"),
        };
        match (promises.ended.get(id), promises.asked.get(id)) {
            (Some(ended), _) => assert_eq!(standing, *ended, "{what}: {id}"),
            (None, Some(asked)) => assert!([Resolution::Undecided, *asked].contains(&standing), "{what}: {id}"),
            (None, None) => assert_eq!(standing, Resolution::Undecided, "{what}: {id}"),
        }
        if standing == Resolution::Committed {
            committed.insert(id.clone());
        }
        // Now all of them are committed that can be.
        if end(client, ticket, Resolution::Committed).await.expect("ended") == Resolution::Committed {
            committed.insert(id.clone());
        }
    }
    let found = consume(client).await;
    let once: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(once.len(), found.len(), "{what}: {found:?}");
    assert!(once.is_disjoint(&promises.consumed), "{what}: {found:?}");
    let all: BTreeSet<String> = once.union(&promises.consumed).cloned().collect();
    // One that was consumed last, and whose ack has no answer, is not in either.
    assert!(all.is_subset(&committed), "{what}: {all:?} of {committed:?}");
    assert!(committed.difference(&all).count() <= 1, "{what}: {committed:?} and not {all:?}");
}

#[tokio::test]
async fn a_power_failure_between_any_two_steps_changes_no_decision() {
    for moment in 0.. {
        let mut bench = Bench::new();
        bench.config.flush = Flush::Sync;
        bench.config.segment_bytes = 128 << 10;
        let disk = FaultyDisk::default();
        bench.medium = Medium::Faulty(disk.clone());
        disk.set(Faults { die_at_step: Some(moment), ..Faults::default() });
        let mut promises = Promises::default();
        let mut done = None;
        if let Ok((_store, mut client)) = harness::open(&bench.config, &bench.hands, &bench.medium) {
            done = work(&mut client, &bench.hands, &mut promises).await;
        }
        let is_over = done.is_some() && disk.counts().0 <= moment;
        disk.power_failure(&mut Random(setting("CENTAUR_FAULTS_SEED", 0) << 32 | moment));
        bench.hands.pass(100_000); // every lease is over
        let (_store, mut client) = bench.open();
        check(&mut client, &promises, &format!("power failure at step {moment}")).await;
        if is_over {
            assert!(moment > 30, "the work has more steps than {moment}");
            return;
        }
    }
}

#[tokio::test]
async fn one_that_nobody_is_there_to_decide_is_discarded_with_age_and_rolled_back() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_topic().await;
    let kept_ms = bench.config.retention_ms;
    begin(&mut client, TOPIC, half("a", 0)).await.expect("begun");
    bench.hands.pass(1_000);
    let second = begin(&mut client, TOPIC, half("b", 0)).await.expect("begun");
    bench.hands.pass(kept_ms - 1_000);
    assert_eq!(list(&mut client, TOPIC, true, 9).await.1, 0);
    bench.hands.pass(1);
    list(&mut client, TOPIC, true, 9).await;
    let (discarded, _) = list(&mut client, TOPIC, true, 9).await;
    assert_eq!(discarded.iter().map(|t| (t.checks, t.discarded)).collect::<Vec<_>>(), [(0, true)]);
    let (_store, mut client) = bench.reopen(store).await;
    bench.hands.pass(1_000);
    list(&mut client, TOPIC, true, 9).await;
    assert_eq!(list(&mut client, TOPIC, true, 9).await.1, 2);
    assert_eq!(take(&mut client, &[TOPIC], 9).await.checks, []);
    // An operator still may.
    assert_eq!(end(&mut client, &second, Resolution::Committed).await, Ok(Resolution::Committed));
    bench.hands.pass(DISCARDED_MS);
    list(&mut client, TOPIC, false, 9).await;
    assert_eq!(list(&mut client, TOPIC, false, 9).await.1, 0);
    assert_eq!(consume(&mut client).await, ["b"]);
}

#[tokio::test]
async fn of_very_many_topics_with_questions_all_are_named_to_everyone() {
    let mut bench = Bench::new();
    bench.config.flush = Flush::Async;
    let (_store, mut client) = bench.with_topic().await;
    let topics: BTreeSet<String> = (0..2_000).map(|n| format!("t{n}")).collect();
    for topic in &topics {
        create_topic(&mut client, topic, 1).await.expect("made");
        begin(&mut client, topic, NewMessage { queue: 0, ..half("a", 1) }).await.expect("begun");
    }
    bench.hands.pass(1);
    let mut named = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..8 {
        for caller in &mut named {
            let due = take(&mut client, &[], 1).await.due_topics;
            assert_eq!(due.len(), 1_000);
            caller.extend(due);
        }
    }
    assert_eq!(named, [topics.clone(), topics]);
}
