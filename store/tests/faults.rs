//! Whole stores on a disk that fails: nothing is answered with OK after a failure, and nothing that
//! was answered with OK is lost by it; a full disk refuses what it must and nothing else.
//!
//! `CENTAUR_FAULTS_SEED` decides what a power failure leaves of what was not synced.

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use centaur_apis::store::{
    AppendRequest, Batch, ChangeVisibilityRequest, Delivery, DescribeRequest, DescribeTopicRequest, Place, PopRequest,
    QueryMessagesRequest, Reason, query_messages_request::By,
};
use centaur_store::{
    Config, Flush, Store,
    log::faulty::{Faults, FaultyDisk, Random},
};
use harness::{Client, Hands, Medium, UNLIMITED, ack, create_topic, message, message_id, pop, reason, send, setting};
use tempfile::TempDir;

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const QUEUES: u32 = 2;
/// Rounds of work; enough to fill a few segments.
const ROUNDS: u64 = 30;
/// Longest wait for what has to happen by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the store said OK to.
#[derive(Default)]
struct Promises {
    /// Queue, offset and id of every message stored.
    stored: Vec<(u32, u64, String)>,
    acked: BTreeSet<String>,
    /// Whose ack was asked for, whatever came of it.
    ack_asked: BTreeSet<String>,
    /// The highest attempt seen of each message.
    attempts: BTreeMap<String, u32>,
    /// Why the store refused something for good.
    failure: Option<Reason>,
}

impl Promises {
    /// Notes an outcome; after a failure there is no success.
    fn note<T>(&mut self, outcome: Result<T, Reason>) -> Option<T> {
        match outcome {
            Ok(value) => {
                assert_eq!(self.failure, None, "something was answered with OK after a failure");
                Some(value)
            }
            // A segment ahead could not be made: no loss, and no reason to stop for good.
            Err(Reason::Full) => None,
            Err(reason) => {
                let expected = [Reason::UnknownOutcome, Reason::Failed, Reason::Stopping];
                assert!(
                    expected.contains(&reason) || (reason == Reason::TopicNotFound && self.stored.is_empty()),
                    "{reason:?}"
                );
                self.failure = (reason != Reason::TopicNotFound).then_some(reason).or(self.failure);
                None
            }
        }
    }
}

struct Bench {
    /// Removed when this is dropped.
    _data: TempDir,
    config: Config,
    hands: Hands,
    disk: FaultyDisk,
}

impl Bench {
    fn new(flush: Flush) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let config = Config {
            data_dir: data.path().to_owned(),
            flush,
            segment_bytes: 192 << 10,
            tail_bytes: 64 << 10,
            ..Config::default()
        };
        Self { _data: data, config, hands: Hands::default(), disk: FaultyDisk::default() }
    }

    fn open(&self) -> Result<(Store, Client), centaur_store::OpenError> {
        harness::open(&self.config, &self.hands, &Medium::Faulty(self.disk.clone()))
    }
}

/// Sends, receives and acknowledges until the work is done or the store is.
async fn work(client: &mut Client, hands: &Hands, promises: &mut Promises) {
    promises.note(create_topic(client, TOPIC, QUEUES).await);
    for round in 0..ROUNDS {
        let (queue, id) = ((round % u64::from(QUEUES)) as u32, format!("m{round}"));
        let body = vec![round as u8; if round % 3 == 0 { 30_000 } else { 100 }];
        let sent = send(client, TOPIC, queue, message(TOPIC, &id, None, &[], body)).await;
        if let Some(offset) = promises.note(sent) {
            promises.stored.push((queue, offset, id));
        }
        if round % 4 != 3 {
            continue;
        }
        let popped = pop(client, GROUP, TOPIC, 3).await;
        for (place, delivery) in promises.note(popped).unwrap_or_default().into_iter().enumerate() {
            let id = message_id(&delivery.properties);
            promises.attempts.insert(id.clone(), delivery.attempt);
            if place == 2 {
                continue; // it has to come again
            }
            promises.ack_asked.insert(id.clone());
            let acked = ack(client, GROUP, TOPIC, &delivery.handle).await;
            if promises.note(acked).is_some() {
                promises.acked.insert(id);
            }
        }
        hands.pass(40_000);
    }
}

/// Every message that is there, by queue and offset, without a gap; none without the topic.
async fn stored(client: &mut Client, what: &str) -> Option<BTreeMap<(u32, u64), String>> {
    let described = client.describe_topic(DescribeTopicRequest { name: TOPIC.to_owned() }).await.ok()?.into_inner();
    let mut found = BTreeMap::new();
    for queue in described.queues {
        for offset in 0..queue.end {
            let by = Some(By::Place(Place { queue: queue.queue, offset }));
            let request = QueryMessagesRequest { topic: TOPIC.to_owned(), by, limit: 1 };
            let messages = client.query_messages(request).await.expect("answered").into_inner().messages;
            let message = messages.first().unwrap_or_else(|| panic!("{what}: nothing at {}/{offset}", queue.queue));
            found.insert((queue.queue, offset), message_id(&message.properties));
        }
    }
    Some(found)
}

/// Asserts that a store has all that was promised.
async fn check(client: &mut Client, hands: &Hands, promises: &Promises, what: &str) {
    if promises.stored.is_empty() {
        return;
    }
    let found = stored(client, what).await.unwrap_or_else(|| panic!("{what}: the topic is lost"));
    for (queue, offset, id) in &promises.stored {
        assert_eq!(found.get(&(*queue, *offset)), Some(id), "{what}: {id} was stored at {queue}/{offset}");
    }
    hands.pass(100_000); // every lease is over
    let delivered = pop(client, GROUP, TOPIC, 256).await.expect("answered");
    let attempts: BTreeMap<String, u32> = delivered.iter().map(|d| (message_id(&d.properties), d.attempt)).collect();
    for (_, _, id) in &promises.stored {
        match attempts.get(id) {
            Some(attempt) => {
                assert!(!promises.acked.contains(id), "{what}: {id} came back after its ack");
                let before = promises.attempts.get(id).copied().unwrap_or_default();
                assert!(*attempt > before, "{what}: attempt {attempt} of {id} after {before}");
            }
            None => assert!(promises.ack_asked.contains(id), "{what}: {id} is lost"),
        }
    }
}

fn chance(n: u64) -> Random {
    Random(setting("CENTAUR_FAULTS_SEED", 0) << 32 | n)
}

/// What is counted to say when the disk fails.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Step,
    Write,
    Sync,
}

impl Moment {
    fn faults(self, n: u64) -> Faults {
        match self {
            Self::Step => Faults { die_at_step: Some(n), ..Faults::default() },
            Self::Write => Faults { fail_write: Some(n), ..Faults::default() },
            Self::Sync => Faults { fail_sync: Some(n), ..Faults::default() },
        }
    }

    fn count(self, disk: &FaultyDisk) -> u64 {
        let (steps, writes, syncs) = disk.counts();
        match self {
            Self::Step => steps,
            Self::Write => writes,
            Self::Sync => syncs,
        }
    }
}

/// Lets the work fail at one moment after the other, until it is done before the next.
async fn fail_at_every(kind: Moment, flush: Flush) {
    for n in 0.. {
        let mut bench = Bench::new(flush);
        let mut promises = Promises::default();
        let what = format!("{kind:?} {n} fails");
        bench.disk.set(kind.faults(n));
        if let Ok((store, mut client)) = bench.open() {
            work(&mut client, &bench.hands, &mut promises).await;
            if promises.failure.is_some() {
                let failed = tokio::time::timeout(PATIENCE, store.failed()).await;
                assert!(failed.is_ok_and(|reason| !reason.is_empty()), "{what}: the store does not say that it failed");
            }
        }
        let is_over = kind.count(&bench.disk) <= n;
        match flush {
            Flush::Sync => bench.disk.power_failure(&mut chance(n)),
            Flush::Async => bench.disk = bench.disk.copy(),
        }
        let (_store, mut client) = bench.open().unwrap_or_else(|error| panic!("{what}: {error}"));
        check(&mut client, &bench.hands, &promises, &what).await;
        if is_over {
            assert_eq!(promises.failure, None, "{what}");
            assert!(n > ROUNDS, "the work has more moments than {n}");
            return;
        }
    }
}

#[tokio::test]
async fn a_failed_write_loses_nothing_that_was_promised() {
    for flush in [Flush::Sync, Flush::Async] {
        fail_at_every(Moment::Write, flush).await;
    }
}

#[tokio::test]
async fn a_failed_sync_loses_nothing_that_was_promised() {
    fail_at_every(Moment::Sync, Flush::Sync).await;
}

#[tokio::test]
async fn a_power_failure_loses_nothing_that_was_promised() {
    fail_at_every(Moment::Step, Flush::Sync).await;
}

#[tokio::test]
async fn a_power_failure_with_flush_async_takes_the_end_and_nothing_else() {
    for moment in (0..900).step_by(7) {
        let bench = Bench::new(Flush::Async);
        let mut promises = Promises::default();
        bench.disk.set(Faults { die_at_step: Some(moment), ..Faults::default() });
        if let Ok((_store, mut client)) = bench.open() {
            work(&mut client, &bench.hands, &mut promises).await;
        }
        bench.disk.power_failure(&mut chance(moment));
        let what = format!("power failure at step {moment}");
        let (_store, mut client) = bench.open().unwrap_or_else(|error| panic!("{what}: {error}"));
        let left = stored(&mut client, &what).await.unwrap_or_default();
        let mut lost = false;
        for (queue, offset, id) in &promises.stored {
            let found = left.get(&(*queue, *offset));
            lost |= found.is_none();
            assert_eq!(found, (!lost).then_some(id), "{what}: at {queue}/{offset}");
        }
    }
}

#[tokio::test]
async fn short_writes_are_completed() {
    let bench = Bench::new(Flush::Sync);
    bench.disk.set(Faults { short_writes: true, ..Faults::default() });
    let (store, mut client) = bench.open().expect("opened");
    let mut promises = Promises::default();
    work(&mut client, &bench.hands, &mut promises).await;
    assert_eq!(promises.failure, None);
    drop(store);
    let (_store, mut client) = bench.open().expect("opened again");
    check(&mut client, &bench.hands, &promises, "short writes").await;
}

async fn take(client: &mut Client, messages: u32) -> Vec<Delivery> {
    let taken = pop(client, GROUP, TOPIC, messages).await.expect("taken");
    assert_eq!(taken.len(), messages as usize);
    taken
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_settles_what_is_held() {
    let bench = Bench::new(Flush::Sync);
    let (store, mut client) = bench.open().expect("opened");
    create_topic(&mut client, TOPIC, QUEUES).await.expect("created");
    let new = |n: u64| message(TOPIC, &format!("m{n}"), None, &[], vec![7; 1000]);
    for n in 0..40 {
        send(&mut client, TOPIC, 0, new(n)).await.expect("stored");
    }
    let held = take(&mut client, 20).await;

    bench.disk.set_capacity(Some(1));
    assert_eq!(send(&mut client, TOPIC, 0, new(100)).await, Err(Reason::Full));
    for delivery in &held[..10] {
        ack(&mut client, GROUP, TOPIC, &delivery.handle).await.expect("acked on a full disk");
    }
    let more = take(&mut client, 5).await;

    // Also after a restart, and for long.
    store.close().expect("closed in order");
    let (store, mut client) = bench.open().expect("opened on a full disk");
    assert_eq!(send(&mut client, TOPIC, 1, new(101)).await, Err(Reason::Full));
    assert_eq!(change(&mut client, more[0].handle.clone(), 500).await, 500, "changed on a full disk");
    for delivery in &held[10..] {
        ack(&mut client, GROUP, TOPIC, &delivery.handle).await.expect("acked on a full disk");
    }

    bench.disk.set_capacity(None);
    assert_eq!(send(&mut client, TOPIC, 0, new(102)).await, Ok(40), "what was refused left no trace");
    bench.hands.pass(100_000);
    let left = pop(&mut client, GROUP, TOPIC, 256).await.expect("taken");
    assert_eq!(left.len(), 21, "nothing is lost and nothing comes back");
    drop(store);
}

/// Gives a lease another end again and again, `most` times if there is room; says how often.
async fn change(client: &mut Client, mut handle: String, most: u32) -> u32 {
    for changed in 0..most {
        let request = ChangeVisibilityRequest {
            group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            handle,
            invisible_ms: 60_000,
            uncounted: true,
        };
        match client.change_visibility(request).await {
            Ok(answer) => handle = answer.into_inner().handle,
            Err(status) => {
                assert_eq!(reason(&status), Reason::Full);
                return changed;
            }
        }
    }
    most
}

/// Sends until the store has found that there is room again.
async fn go_on(client: &mut Client) -> u64 {
    for _ in 0..1_000 {
        match send(client, TOPIC, 0, message(TOPIC, "late", None, &[], vec![7; 1000])).await {
            Err(Reason::Full) => tokio::task::yield_now().await,
            sent => return sent.expect("stored"),
        }
    }
    panic!("it stays full for ever");
}

/// What is kept for a full disk is begun, and too small for anything.
#[tokio::test]
async fn a_store_goes_on_after_its_disk_was_full() {
    let bench = Bench::new(Flush::Sync);
    let (store, mut client) = bench.open().expect("opened");
    create_topic(&mut client, TOPIC, QUEUES).await.expect("created");
    send(&mut client, TOPIC, 0, message(TOPIC, "m", None, &[], vec![7])).await.expect("stored");
    let handle = take(&mut client, 1).await.remove(0).handle;
    bench.disk.set_capacity(Some(1));
    change(&mut client, handle, u32::MAX).await;
    bench.disk.set_capacity(None);
    assert_eq!(go_on(&mut client).await, 1);
    drop(store);
    let (_store, mut client) = bench.open().expect("opened again");
    assert_eq!(go_on(&mut client).await, 2);
}

/// Fills a disk with other ends of one lease, `changes` of them at most, while there are answers that
/// then nobody takes; says how many there was room for.
async fn let_go_on_a_full_disk(changes: u32) -> u32 {
    const ANSWERS: u32 = 40;
    let bench = Bench::new(Flush::Sync);
    let (store, mut client) = bench.open().expect("opened");
    create_topic(&mut client, TOPIC, QUEUES).await.expect("created");
    send(&mut client, TOPIC, 0, message(TOPIC, "first", None, &[], vec![7])).await.expect("stored");
    let handle = take(&mut client, 1).await.remove(0).handle;
    let request = || PopRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        client: "gone".to_owned(),
        messages_max: 32,
        bytes_max: UNLIMITED,
        invisible_ms: 60_000,
        wait_ms: 60_000,
        ..Default::default()
    };
    let mut clients: Vec<Client> = (0..ANSWERS).map(|_| client.clone()).collect();
    let mut answers: Vec<_> = clients.iter_mut().map(|client| Box::pin(client.pop(request()))).collect();
    for answer in &mut answers {
        assert!(futures_util::poll!(answer.as_mut()).is_pending());
        let messages = (0..32).map(|n| message(TOPIC, &n.to_string(), None, &[], vec![7])).collect();
        let batch = Batch { topic: TOPIC.to_owned(), messages };
        client.append(AppendRequest { batches: vec![batch] }).await.expect("stored");
    }

    bench.disk.set_capacity(Some(1));
    let changed = change(&mut client, handle, changes).await;
    drop(answers);
    for _ in 0..3 {
        assert_eq!(send(&mut client, TOPIC, 0, message(TOPIC, "late", None, &[], vec![7])).await, Err(Reason::Full));
    }
    bench.disk.set_capacity(None);
    go_on(&mut client).await;
    bench.hands.pass(60_000);
    assert_eq!(take(&mut client, 256).await.len(), 256, "leases end by themselves");
    drop(store);
    changed
}

#[tokio::test]
async fn leases_nobody_took_do_not_end_the_store_on_a_full_disk() {
    let most = let_go_on_a_full_disk(u32::MAX).await;
    for changes in most.saturating_sub(10)..most {
        let_go_on_a_full_disk(changes).await;
    }
}

/// Some file systems copy on write, and have no room even for what was allocated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_finds_no_room_waits_for_it() {
    let bench = Bench::new(Flush::Sync);
    let (store, mut client) = bench.open().expect("opened");
    create_topic(&mut client, TOPIC, QUEUES).await.expect("created");
    let new = |n: u64| message(TOPIC, &format!("m{n}"), None, &[], vec![7; 1000]);
    send(&mut client, TOPIC, 0, new(0)).await.expect("stored");

    bench.disk.set(Faults { no_room: true, ..Faults::default() });
    let mut first = client.clone();
    let waiting = tokio::spawn(async move { send(&mut first, TOPIC, 0, new(1)).await });
    while client.describe(DescribeRequest {}).await.expect("described").into_inner().disk_stage != "full" {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&mut client, TOPIC, 0, new(2)).await, Err(Reason::Full));
    assert!(!waiting.is_finished(), "nothing is answered before it is written");
    bench.disk.set(Faults::default());
    assert_eq!(waiting.await.expect("sent"), Ok(1), "it was only late");
    while send(&mut client, TOPIC, 0, new(3)).await == Err(Reason::Full) {
        tokio::task::yield_now().await;
    }
    drop(store);

    let (store, mut client) = bench.open().expect("opened again");
    let bodies = pop(&mut client, GROUP, TOPIC, 256).await.expect("taken");
    assert_eq!(bodies.iter().map(|delivery| delivery.offset).collect::<Vec<_>>(), [0, 1, 2]);
    drop(store);
}
