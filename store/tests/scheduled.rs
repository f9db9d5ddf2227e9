//! Scheduled messages through the store's calls: each comes when it is due, once, in order, and not
//! when it was recalled, whatever happens to the store in between.
//!
//! `CENTAUR_FAULTS_SEED` decides what a power failure leaves of what was not synced.

mod harness;

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::store::{
    AppendRequest, Batch, DeleteTopicRequest, Delivery, DescribeRequest, ListScheduledRequest, ListScheduledResponse,
    NewMessage, Reason, RecallRequest,
};
use centaur_store::{
    Config, Flush, Store,
    log::faulty::{Faults, FaultyDisk, Random},
};
use harness::{Client, Hands, Medium, START_MS, ack, create_topic, message, message_id, pop, reason, setting};
use tempfile::TempDir;

const TOPIC: &str = "reminders";
const GROUP: &str = "workers";
const HOUR_MS: u64 = 3_600_000;

struct Bench {
    /// Removed when this is dropped.
    data: TempDir,
    config: Config,
    hands: Hands,
    medium: Medium,
}

impl Bench {
    fn new(medium: Medium) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let config = Config {
            data_dir: data.path().to_owned(),
            segment_bytes: 192 << 10,
            tail_bytes: 64 << 10,
            ..Config::default()
        };
        Self { data, config, hands: Hands::default(), medium }
    }

    fn open(&self) -> (Store, Client) {
        self.try_open().expect("opened")
    }

    fn try_open(&self) -> Result<(Store, Client), centaur_store::OpenError> {
        harness::open(&self.config, &self.hands, &self.medium)
    }

    /// A store with the topic.
    async fn start(&self, queues: u32) -> (Store, Client) {
        let (store, mut client) = self.open();
        create_topic(&mut client, TOPIC, queues).await.expect("created");
        (store, client)
    }

    /// Now, by the tests' clock.
    async fn pass(&self, client: &mut Client, ms: u64) {
        self.hands.pass(ms);
        settle(client).await;
    }
}

/// Waits until nothing is due any more.
async fn settle(client: &mut Client) {
    // The thread wakes for a question; what is due is dealt with behind it, before the next but one.
    loop {
        let now_ms = client.describe(DescribeRequest {}).await.expect("described").into_inner().store_time_ms;
        let first = list(client, "", 1).await.messages;
        if first.first().is_none_or(|first| first.due_ms > now_ms) {
            return;
        }
    }
}

fn new(id: &str, queue: u32, due_ms: u64) -> NewMessage {
    NewMessage { queue, due_ms, ..message(TOPIC, id, None, &[], vec![7; 100]) }
}

/// Stores messages; gives their tickets.
async fn schedule(client: &mut Client, messages: Vec<NewMessage>) -> Result<Vec<String>, Reason> {
    let count = messages.len();
    let batch = Batch { topic: TOPIC.to_owned(), messages };
    let answer = client.append(AppendRequest { batches: vec![batch] }).await.map_err(|status| reason(&status))?;
    let mut result = answer.into_inner().results.remove(0);
    result.tickets.resize(count, String::new());
    result.error.map_or(Ok(result.tickets), |error| Err(error.reason()))
}

async fn schedule_one(client: &mut Client, id: &str, due_ms: u64) -> String {
    schedule(client, vec![new(id, 0, due_ms)]).await.expect("scheduled").remove(0)
}

async fn recall(client: &mut Client, ticket: &str) -> Result<String, Reason> {
    recall_of(client, TOPIC, ticket).await
}

async fn recall_of(client: &mut Client, topic: &str, ticket: &str) -> Result<String, Reason> {
    let request = RecallRequest { topic: topic.to_owned(), ticket: ticket.to_owned() };
    client.recall(request).await.map(|answer| answer.into_inner().message_id).map_err(|status| reason(&status))
}

async fn list(client: &mut Client, topic: &str, limit: u32) -> ListScheduledResponse {
    let request = ListScheduledRequest { topic: topic.to_owned(), limit, ..Default::default() };
    client.list_scheduled(request).await.expect("listed").into_inner()
}

async fn listed(client: &mut Client, topic: &str, limit: u32) -> (Vec<String>, u64) {
    let answer = list(client, topic, limit).await;
    (answer.messages.into_iter().map(|message| message.message_id).collect(), answer.total)
}

/// The ids on each page of a list.
async fn pages(client: &mut Client, topic: &str, limit: u32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let request = ListScheduledRequest { topic: topic.to_owned(), limit, after };
        let page = client.list_scheduled(request).await.expect("listed").into_inner();
        pages.push(page.messages.into_iter().map(|message| message.message_id).collect());
        after = page.next;
        if after.is_empty() {
            return pages;
        }
    }
}

/// Takes and acknowledges everything visible.
async fn take(client: &mut Client) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let some = pop(client, GROUP, TOPIC, 256).await.expect("answered");
        if some.is_empty() {
            return all;
        }
        for delivery in &some {
            ack(client, GROUP, TOPIC, &delivery.handle).await.expect("acked");
        }
        all.extend(some);
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| message_id(&delivery.properties)).collect()
}

async fn take_ids(client: &mut Client) -> Vec<String> {
    ids(&take(client).await)
}

async fn close(store: Store) {
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}

#[tokio::test]
async fn a_message_comes_when_it_is_due_and_not_before() {
    let bench = Bench::new(Medium::Real);
    let (_store, mut client) = bench.start(1).await;
    let ticket = schedule_one(&mut client, "later", START_MS + 5_000).await;
    assert!(!ticket.is_empty());
    assert_eq!(schedule_one(&mut client, "past", START_MS - 5_000).await, "", "what is past is stored at once");
    assert_eq!(schedule_one(&mut client, "now", START_MS).await, "");
    assert_eq!(take_ids(&mut client).await, ["past", "now"]);
    bench.pass(&mut client, 4_999).await;
    assert_eq!(take_ids(&mut client).await, Vec::<String>::new());
    bench.pass(&mut client, 1).await;
    let due = take(&mut client).await;
    assert_eq!(ids(&due), ["later"]);
    assert_eq!((due[0].queue, due[0].offset, due[0].attempt), (0, 2, 1));
    assert_eq!(due[0].stored_ms, START_MS + 5_000, "its time in the queue begins when it comes into it");
    assert_eq!(due[0].body, vec![7; 100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_waits_gets_what_comes_due() {
    let bench = Bench::new(Medium::Real);
    let (_store, mut client) = bench.start(1).await;
    schedule_one(&mut client, "later", START_MS + 60_000).await;
    take(&mut client).await;
    let mut waiting = client.clone();
    let request = centaur_apis::store::PopRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        client: "consumer".to_owned(),
        messages_max: 8,
        bytes_max: harness::UNLIMITED,
        invisible_ms: 60_000,
        wait_ms: 20 * HOUR_MS,
        ..Default::default()
    };
    let poll = tokio::spawn(async move { waiting.pop(request).await });
    bench.pass(&mut client, 60_000).await;
    let deliveries = poll.await.expect("joined").expect("answered").into_inner().deliveries;
    assert_eq!(ids(&deliveries), ["later"]);
}

#[tokio::test]
async fn messages_come_in_the_order_of_their_times() {
    let bench = Bench::new(Medium::Real);
    let (store, mut client) = bench.start(1).await;
    // Enough for several index runs, several batches, and many in one millisecond.
    let mut due = Vec::new();
    for round in 0..40u64 {
        let due_ms = |number: u64| START_MS + 1 + (round * 100 + number).wrapping_mul(7_919) % 900;
        let batch: Vec<_> = (0..100).map(|number| (due_ms(number), round * 100 + number)).collect();
        let messages = batch.iter().map(|(due_ms, id)| new(&id.to_string(), 0, *due_ms)).collect();
        schedule(&mut client, messages).await.expect("scheduled");
        due.extend(batch);
    }
    due.sort_unstable();
    let by_pages = pages(&mut client, TOPIC, 1_000).await.concat();
    assert_eq!(by_pages, due.iter().map(|(_, id)| id.to_string()).collect::<Vec<_>>(), "none is missed, or met twice");
    let wrong = ListScheduledRequest { after: "soon".into(), ..Default::default() };
    assert_eq!(reason(&client.list_scheduled(wrong).await.expect_err("refused")), Reason::Invalid);
    assert_eq!(listed(&mut client, TOPIC, 3).await, (due[..3].iter().map(|(_, id)| id.to_string()).collect(), 4_000));
    bench.pass(&mut client, 400).await;
    let mut seen = take_ids(&mut client).await;
    assert_eq!(seen.len(), due.iter().filter(|(due_ms, _)| *due_ms <= START_MS + 400).count());
    drop(client);
    close(store).await;
    let (_store, mut client) = bench.open();
    bench.pass(&mut client, HOUR_MS).await;
    seen.extend(take_ids(&mut client).await);
    let expected: Vec<String> = due.into_iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(seen, expected);
    assert_eq!(listed(&mut client, "", 0).await, (vec![], 0));
}

#[tokio::test]
async fn a_burst_does_not_hold_up_who_sends() {
    let mut bench = Bench::new(Medium::Real);
    bench.config.segment_bytes = 4 << 20;
    let (_store, mut client) = bench.start(1).await;
    for round in 0..20 {
        let messages = (0..500).map(|number| new(&format!("{round}-{number}"), 0, START_MS + 10)).collect();
        schedule(&mut client, messages).await.expect("scheduled");
    }
    bench.hands.pass(10);
    let sent = harness::send(&mut client, TOPIC, 0, new("now", 0, 0)).await.expect("stored");
    assert!(sent < 2_000, "it was stored behind {sent} of the burst");
    settle(&mut client).await;
    assert_eq!(take(&mut client).await.len(), 10_001);
}

#[tokio::test]
async fn a_recalled_message_never_comes() {
    let bench = Bench::new(Medium::Real);
    let (store, mut client) = bench.start(1).await;
    let ticket = schedule_one(&mut client, "kept back", START_MS + HOUR_MS).await;
    let other = schedule_one(&mut client, "delivered", START_MS + HOUR_MS).await;
    assert_eq!(recall(&mut client, &ticket).await.as_deref(), Ok("kept back"));
    assert_eq!(recall(&mut client, &ticket).await.as_deref(), Ok("kept back"), "again, the same answer");
    assert_eq!(listed(&mut client, TOPIC, 0).await, (vec!["delivered".to_owned()], 1));
    drop(client);
    close(store).await;
    let (_store, mut client) = bench.open();
    assert_eq!(recall(&mut client, &ticket).await.as_deref(), Ok("kept back"));
    bench.pass(&mut client, HOUR_MS).await;
    assert_eq!(take_ids(&mut client).await, ["delivered"]);
    assert_eq!(recall(&mut client, &other).await, Err(Reason::TooLate));
    assert_eq!(recall(&mut client, &ticket).await.as_deref(), Ok("kept back"), "also a moment after its time");
    assert_eq!(listed(&mut client, TOPIC, 0).await, (vec![], 0));
}

#[tokio::test]
async fn a_ticket_recalls_what_it_was_made_for_and_nothing_else() {
    let bench = Bench::new(Medium::Real);
    let (_store, mut client) = bench.start(1).await;
    create_topic(&mut client, "other", 1).await.expect("created");
    let ticket = schedule_one(&mut client, "later", START_MS + HOUR_MS).await;
    assert_eq!(recall_of(&mut client, "other", &ticket).await, Err(Reason::Invalid));
    assert_eq!(recall_of(&mut client, "nowhere", &ticket).await, Err(Reason::TopicNotFound));
    for forged in ["", "x", &ticket[1..], &format!("{ticket}A"), &ticket.to_lowercase(), "v1 topic broker 1 id"] {
        assert_eq!(recall(&mut client, forged).await, Err(Reason::Invalid), "{forged}");
    }
    let elsewhere = Bench::new(Medium::Real);
    let (_elsewhere, mut stranger) = elsewhere.start(1).await;
    let strange = schedule_one(&mut stranger, "later", START_MS + HOUR_MS).await;
    assert_eq!(recall(&mut client, &strange).await, Err(Reason::Invalid), "another store's");
    bench.pass(&mut client, HOUR_MS).await;
    assert_eq!(take_ids(&mut client).await, ["later"]);
}

#[tokio::test]
async fn what_a_deleted_topic_had_scheduled_goes_with_it() {
    let bench = Bench::new(Medium::Real);
    let (store, mut client) = bench.start(1).await;
    create_topic(&mut client, "other", 1).await.expect("created");
    let ticket = schedule_one(&mut client, "old", START_MS + HOUR_MS).await;
    client.delete_topic(DeleteTopicRequest { name: TOPIC.to_owned(), dry_run: false }).await.expect("deleted");
    assert_eq!(recall(&mut client, &ticket).await, Err(Reason::TopicNotFound));
    create_topic(&mut client, TOPIC, 1).await.expect("created again");
    assert_eq!(recall(&mut client, &ticket).await, Err(Reason::TooLate));
    assert_eq!(listed(&mut client, "", 0).await, (vec![], 0));
    schedule_one(&mut client, "new", START_MS + HOUR_MS).await;
    drop(client);
    close(store).await;
    let (_store, mut client) = bench.open();
    bench.pass(&mut client, HOUR_MS).await;
    assert_eq!(take_ids(&mut client).await, ["new"]);
}

#[tokio::test]
async fn an_outage_of_any_length_delays_and_loses_nothing() {
    let bench = Bench::new(Medium::Real);
    let (store, mut client) = bench.start(2).await;
    for number in 0..50u64 {
        let due_ms = START_MS + 1 + number * 50 * HOUR_MS;
        schedule(&mut client, vec![new(&number.to_string(), (number % 2) as u32, due_ms)]).await.expect("scheduled");
    }
    drop(client);
    close(store).await;
    bench.hands.pass(60 * 24 * HOUR_MS);
    let (store, mut client) = bench.open();
    settle(&mut client).await;
    let mut seen = take_ids(&mut client).await;
    assert_eq!(seen.len(), 29);
    // The wall clock goes back and forth; store time does not follow.
    bench.hands.jump(-(40 * 24 * HOUR_MS as i64));
    bench.pass(&mut client, 1_000).await;
    bench.hands.jump(90 * 24 * HOUR_MS as i64);
    bench.pass(&mut client, 1_000).await;
    assert_eq!(take_ids(&mut client).await, Vec::<String>::new());
    drop(client);
    close(store).await;
    let (_store, mut client) = bench.open();
    settle(&mut client).await;
    seen.extend(take_ids(&mut client).await);
    seen.sort_unstable_by_key(|id| id.parse::<u64>().expect("a number"));
    assert_eq!(seen, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Runs are made again, the open segment is read again, and snapshots lie in between.
#[tokio::test]
async fn a_store_without_its_index_runs_finds_all_that_waits() {
    let bench = Bench::new(Medium::Real);
    let (mut store, mut client) = bench.start(1).await;
    let mut expected = BTreeSet::new();
    let mut seen = Vec::new();
    for round in 0..8u64 {
        for step in 0..5 {
            let messages = (0..100u64).map(|number| {
                let id = format!("{round}-{step}-{number}");
                expected.insert(id.clone());
                new(&id, 0, START_MS + 1 + round * 1_000 + number.wrapping_mul(104_729) % 4_000)
            });
            schedule(&mut client, messages.collect()).await.expect("scheduled");
        }
        bench.pass(&mut client, 1_000).await;
        seen.extend(take_ids(&mut client).await);
        let (ids, total) = listed(&mut client, TOPIC, 1_000).await;
        drop(client);
        close(store).await;
        for file in std::fs::read_dir(bench.data.path().join("log")).expect("listed") {
            let path = file.expect("listed").path();
            if round % 2 == 0 && path.extension().is_some_and(|ending| ending == "idx") {
                std::fs::remove_file(path).expect("removed");
            }
        }
        if round % 3 == 0 {
            std::fs::remove_dir_all(bench.data.path().join("snapshot")).expect("removed");
        }
        (store, client) = bench.open();
        assert_eq!(listed(&mut client, TOPIC, 1_000).await, (ids, total), "round {round}");
    }
    bench.pass(&mut client, HOUR_MS).await;
    seen.extend(take_ids(&mut client).await);
    assert_eq!(seen.len(), expected.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    drop(store);
}

/// What the store said OK to.
#[derive(Default)]
struct Promises {
    /// By id.
    tickets: BTreeMap<String, String>,
    recalled: BTreeSet<String>,
    recall_asked: BTreeSet<String>,
    too_late: BTreeSet<String>,
    seen: Vec<String>,
}

/// Schedules, recalls and takes until the work is done or the store is.
async fn work(bench: &Bench, client: &mut Client, promises: &mut Promises) -> Result<(), Reason> {
    create_topic(client, TOPIC, 2).await?;
    for round in 0..12u64 {
        let due_ms = |number: u64| START_MS + round * 1_000 + 500 + number * 700;
        let ids: Vec<String> = (0..4).map(|number| format!("{round}-{number}")).collect();
        let messages = (0..4u64).zip(&ids).map(|(number, id)| NewMessage {
            body: vec![1; if number == 0 { 30_000 } else { 10 }].into(),
            ..new(id, (number % 2) as u32, due_ms(number))
        });
        let tickets = schedule(client, messages.collect()).await?;
        promises.tickets.extend(ids.into_iter().zip(tickets));
        if let Some((id, ticket)) = promises.tickets.iter().nth((round * 3) as usize) {
            promises.recall_asked.insert(id.clone());
            match recall(client, ticket).await {
                Ok(found) => assert_eq!(&found, id),
                Err(Reason::TooLate) => drop(promises.too_late.insert(id.clone())),
                Err(reason) => return Err(reason),
            }
            if !promises.too_late.contains(id) {
                promises.recalled.insert(id.clone());
            }
        }
        bench.hands.pass(1_000);
        client.describe(DescribeRequest {}).await.map_err(|status| reason(&status))?;
        let some = pop(client, GROUP, TOPIC, 256).await?;
        promises.seen.extend(ids_of(&some));
    }
    Ok(())
}

fn ids_of(deliveries: &[Delivery]) -> Vec<String> {
    ids(deliveries)
}

/// Everything that was promised to come comes, at one place; nothing that was promised not to.
async fn check(bench: &Bench, promises: &Promises, what: &str) {
    let (_store, mut client) = bench.try_open().unwrap_or_else(|error| panic!("{what}: {error}"));
    if promises.tickets.is_empty() {
        return;
    }
    bench.pass(&mut client, HOUR_MS).await;
    let mut places = BTreeMap::new();
    for delivery in pop(&mut client, GROUP, TOPIC, 256).await.expect("answered") {
        let id = message_id(&delivery.properties);
        let other = places.insert(id.clone(), (delivery.queue, delivery.offset));
        assert_eq!(other, None, "{what}: {id} is in two places");
    }
    for id in promises.tickets.keys() {
        let comes = places.contains_key(id);
        assert!(!comes || !promises.recalled.contains(id), "{what}: {id} came after its recall");
        assert!(comes || promises.recall_asked.contains(id), "{what}: {id} is lost");
        assert!(comes || !promises.too_late.contains(id), "{what}: {id} was delivered and is not there");
    }
    assert!(promises.seen.iter().all(|id| places.contains_key(id)), "{what}: something seen is gone");
}

#[tokio::test]
async fn a_power_failure_at_any_step_delivers_each_message_once() {
    for step in 0.. {
        let disk = FaultyDisk::default();
        let bench = Bench::new(Medium::Faulty(disk.clone()));
        let what = format!("power failure at step {step}");
        disk.set(Faults { die_at_step: Some(step), ..Faults::default() });
        let mut promises = Promises::default();
        let mut outcome = Err(Reason::Failed);
        if let Ok((_store, mut client)) = bench.try_open() {
            outcome = work(&bench, &mut client, &mut promises).await;
        }
        let is_over = disk.counts().0 <= step;
        disk.power_failure(&mut Random(setting("CENTAUR_FAULTS_SEED", 0) << 32 | step));
        check(&bench, &promises, &what).await;
        if is_over {
            assert_eq!(outcome, Ok(()), "{what}");
            assert!(step > 40, "the work has more steps than {step}");
            return;
        }
    }
}

#[tokio::test]
async fn a_message_with_flush_async_is_not_forgotten_when_the_process_is_killed() {
    let disk = FaultyDisk::default();
    let mut bench = Bench::new(Medium::Faulty(disk.clone()));
    bench.config.flush = Flush::Async;
    let (store, mut client) = bench.start(1).await;
    let ticket = schedule_one(&mut client, "kept back", START_MS + 5).await;
    schedule_one(&mut client, "later", START_MS + 5).await;
    recall(&mut client, &ticket).await.expect("recalled");
    bench.medium = Medium::Faulty(disk.copy());
    drop(store);
    let (_store, mut client) = bench.open();
    bench.pass(&mut client, 5).await;
    assert_eq!(take_ids(&mut client).await, ["later"]);
}
