//! What retention takes, when, and what becomes of messages that somebody still had.

mod harness;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use centaur_apis::store::{
    AppendRequest, Batch, DescribeGroupRequest, DescribeRequest, DescribeTopicRequest, NewMessage, PopRequest,
    PutTopicRequest, QueueState, RecallRequest,
};
use centaur_store::{Config, Flush, Store};
use harness::{Client, Hands, Medium, START_MS, UNLIMITED, ack, create_topic, message, pop, send};
use tempfile::TempDir;

const TOPIC: &str = "orders";
const FILLER: &str = "filler";
const GROUP: &str = "workers";
const GRAVE: &str = "%DLQ%workers";
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Longest wait for what the store does in the background.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    dir: TempDir,
    config: Config,
    hands: Hands,
    store: Option<Store>,
    client: Client,
}

impl Bench {
    async fn new(config: Config) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config { data_dir: dir.path().into(), segment_bytes: 1 << 20, flush: Flush::Async, ..config };
        let hands = Hands::default();
        let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
        for topic in [TOPIC, FILLER] {
            create_topic(&mut client, topic, 1).await.expect("made");
        }
        Self { dir, config, hands, store: Some(store), client }
    }

    async fn reopen(&mut self) {
        let store = self.store.take().expect("open");
        tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
        let (store, client) = harness::open(&self.config, &self.hands, &Medium::Real).expect("opens");
        (self.store, self.client) = (Some(store), client);
    }

    async fn keep_for(&mut self, topic: &str, retention_ms: u64) {
        let request = PutTopicRequest { name: topic.into(), retention_ms: Some(retention_ms), ..Default::default() };
        self.client.put_topic(request).await.expect("set");
    }

    async fn send(&mut self, topic: &str, messages: usize, bytes: usize) {
        let messages = (0..messages)
            .map(|n| NewMessage { queue: 0, ..message(topic, &n.to_string(), None, &[], vec![1; bytes]) })
            .collect();
        let request = AppendRequest { batches: vec![Batch { topic: topic.to_owned(), messages }] };
        let answer = self.client.append(request).await.expect("sent").into_inner();
        assert!(answer.results.iter().all(|result| result.error.is_none()));
    }

    /// Files of the log with that ending.
    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.dir.path().join("log")).expect("listed").map(|file| file.expect("listed").path());
        let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
        found.sort_unstable();
        found
    }

    fn all_files(&self) -> Vec<PathBuf> {
        ["seg", "thin", "idx"].map(|ending| self.files(ending)).concat()
    }

    /// Sends what is of no use until so many segments more are sealed.
    async fn fill(&mut self, segments: usize) {
        let newest = |bench: &Self| bench.files("seg").into_iter().max();
        for _ in 0..segments {
            let before = newest(self);
            while newest(self) == before {
                self.send(FILLER, 1, 32 << 10).await;
            }
        }
    }

    /// Lets time go by, and the store do what that brings.
    async fn pass(&mut self, ms: u64) {
        self.hands.pass(ms);
        for _ in 0..2 {
            self.client.describe(DescribeRequest {}).await.expect("described");
        }
    }

    /// The same in small steps until something is so.
    async fn pass_until(&mut self, is_so: impl AsyncFn(&mut Self) -> bool) {
        let started = Instant::now();
        while !is_so(self).await {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.all_files());
            self.pass(100).await;
        }
    }

    async fn queue(&mut self, topic: &str) -> QueueState {
        let request = DescribeTopicRequest { name: topic.to_owned() };
        let described = self.client.describe_topic(request).await;
        described.map(|described| described.into_inner().queues[0]).unwrap_or_default()
    }
}

#[tokio::test]
async fn what_nobody_finished_for_too_long_is_dead_lettered_without_a_pause() {
    let mut bench = Bench::new(Config::default()).await;
    bench.keep_for(TOPIC, HOUR_MS).await;
    bench.send(TOPIC, 200, 10).await;
    while !pop(&mut bench.client, GROUP, TOPIC, 256).await.expect("answered").is_empty() {}
    bench.fill(3).await;
    bench.hands.pass(60 * HOUR_MS);
    bench.pass_until(async |bench| bench.queue(GRAVE).await.end > 0).await;
    assert!((1..200).contains(&bench.queue(GRAVE).await.end));
    for _ in 0..20 {
        bench.pass(100).await;
    }
    assert_eq!(bench.queue(GRAVE).await.end, 200);
    assert!(pop(&mut bench.client, GROUP, TOPIC, 256).await.expect("answered").is_empty());
}

#[tokio::test]
async fn what_missed_clients_had_is_given_to_others_however_many_they_were() {
    let mut bench = Bench::new(Config::default()).await;
    let clients = 100;
    for _ in 0..clients {
        bench.send(TOPIC, 256, 1).await;
    }
    let ask = |client: String| PopRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        client,
        messages_max: 256,
        bytes_max: UNLIMITED,
        session_bound: true,
        create_group: true,
        ..Default::default()
    };
    for client in 0..clients {
        let taken = bench.client.pop(ask(client.to_string())).await.expect("answered").into_inner().deliveries;
        assert_eq!(taken.len(), 256);
    }
    bench.pass(59_000).await;
    assert!(bench.client.pop(ask("late".into())).await.expect("answered").into_inner().deliveries.is_empty());
    bench.pass(2_000).await;
    for _ in 0..clients {
        let taken = bench.client.pop(ask("late".into())).await.expect("answered").into_inner().deliveries;
        assert!(taken.len() == 256 && taken.iter().all(|delivery| delivery.attempt == 2));
    }
}

#[tokio::test]
async fn a_small_store_loses_what_is_too_old_also_when_nothing_comes_any_more() {
    let mut bench = Bench::new(Config { retention_ms: 4 * HOUR_MS, ..Config::default() }).await;
    bench.send(TOPIC, 10, 10).await;
    bench.pass(HOUR_MS).await;
    assert_eq!(bench.files("seg").len(), 1);
    bench.pass(11_000).await;
    bench.send(TOPIC, 10, 10).await;
    assert_eq!(bench.files("seg").len(), 2);
    bench.pass(3 * HOUR_MS - 11_000).await;
    assert_eq!(bench.queue(TOPIC).await.start, 0);
    bench.pass(11_000).await;
    let QueueState { start, end, .. } = bench.queue(TOPIC).await;
    assert_eq!((start, end), (10, 20));
    // Nothing more is sent: the rest goes as well, and in the end there is nothing left to do.
    for _ in 0..8 {
        bench.pass(HOUR_MS).await;
    }
    bench.pass_until(async |bench| bench.files("seg").len() <= 2 && bench.files("thin").is_empty()).await;
    assert_eq!(bench.queue(TOPIC).await.start, 20);
    let files = bench.files("seg");
    for _ in 0..40 {
        bench.pass(HOUR_MS).await;
    }
    assert_eq!(bench.files("seg"), files);
}

#[tokio::test]
async fn a_segment_that_was_sealed_early_does_not_keep_its_empty_file() {
    let mut bench = Bench::new(Config { retention_ms: 72 * HOUR_MS, ..Config::default() }).await;
    bench.keep_for(FILLER, 4 * HOUR_MS).await;
    for round in 0..8 {
        bench.send(TOPIC, 10, 10).await;
        bench.pass(HOUR_MS + 1).await;
        bench.pass(10_000).await;
        assert!(round > 2 || bench.files("thin").is_empty(), "state can be made again from what is young");
    }
    bench.pass_until(async |bench| bench.files("thin").len() >= 2).await;
    let taken = pop(&mut bench.client, GROUP, TOPIC, 256).await.expect("answered");
    assert_eq!(taken.len(), 80);
}

#[tokio::test]
async fn each_group_is_told_what_it_never_had() {
    let mut bench = Bench::new(Config { retention_ms: 4 * HOUR_MS, ..Config::default() }).await;
    bench.send(TOPIC, 10, 10).await;
    for (group, messages) in [("one", 10), ("two", 4)] {
        assert_eq!(pop(&mut bench.client, group, TOPIC, messages).await.expect("answered").len(), messages as usize);
    }
    for _ in 0..3 {
        bench.pass(2 * HOUR_MS).await;
    }
    assert_eq!(bench.queue(TOPIC).await.start, 10);
    for reopened in [false, true] {
        if reopened {
            bench.reopen().await;
        }
        for (group, expired) in [("one", 0), ("two", 6)] {
            let request = DescribeGroupRequest { name: group.to_owned() };
            let described = bench.client.describe_group(request).await.expect("described").into_inner();
            assert_eq!(described.topics[0].expired_unconsumed, expired, "{group}");
        }
    }
}

#[tokio::test]
async fn what_a_group_has_in_hand_is_kept_for_it_wherever_it_lies() {
    let mut bench = Bench::new(Config { retention_ms: 4 * HOUR_MS, ..Config::default() }).await;
    let scheduled = NewMessage { due_ms: START_MS + MINUTE_MS, ..message(TOPIC, "late", None, &[], b"late".to_vec()) };
    send(&mut bench.client, TOPIC, 0, scheduled).await.expect("sent");
    send(&mut bench.client, TOPIC, 0, message(TOPIC, "direct", None, &[], b"direct".to_vec())).await.expect("sent");
    bench.fill(1).await;
    bench.pass(MINUTE_MS).await;
    let ask = PopRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        messages_max: 32,
        bytes_max: UNLIMITED,
        invisible_ms: 24 * HOUR_MS,
        create_group: true,
        ..Default::default()
    };
    assert_eq!(bench.client.pop(ask.clone()).await.expect("answered").into_inner().deliveries.len(), 2);
    bench.fill(3).await;
    bench.pass(5 * HOUR_MS).await;
    bench.pass_until(async |bench| bench.files("thin").len() >= 2).await;
    bench.reopen().await;
    bench.pass(24 * HOUR_MS).await;
    let again = bench.client.pop(ask).await.expect("answered").into_inner().deliveries;
    let mut bodies: Vec<&[u8]> = again.iter().map(|delivery| delivery.body.as_ref()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [&b"direct"[..], b"late"]);
    assert_eq!(bench.queue(TOPIC).await.start, 2);
}

#[tokio::test]
async fn a_recalled_message_that_nothing_comes_after_does_not_hold_its_segment() {
    let mut bench = Bench::new(Config { retention_ms: HOUR_MS, ..Config::default() }).await;
    let later = NewMessage { due_ms: START_MS + 10 * MINUTE_MS, ..message(TOPIC, "1", None, &[], vec![1; 10]) };
    let request = AppendRequest { batches: vec![Batch { topic: TOPIC.to_owned(), messages: vec![later] }] };
    let ticket = bench.client.append(request).await.expect("sent").into_inner().results[0].tickets[0].clone();
    let recall = RecallRequest { topic: TOPIC.to_owned(), ticket };
    bench.client.recall(recall.clone()).await.expect("recalled");
    let first = bench.files("seg")[0].clone();
    bench.fill(3).await;
    bench.pass(3 * HOUR_MS).await;
    bench.pass_until(async |bench| !bench.all_files().iter().any(|file| file.file_stem() == first.file_stem())).await;
    assert!(bench.client.recall(recall).await.is_err(), "nothing is known of it any more");
}

#[tokio::test]
async fn a_damaged_block_does_not_keep_a_segment_of_which_nothing_is_needed() {
    let mut bench = Bench::new(Config { retention_ms: HOUR_MS, ..Config::default() }).await;
    bench.fill(3).await;
    let first = bench.files("seg")[0].clone();
    let mut bytes = fs::read(&first).expect("read");
    bytes[8192] ^= 1;
    fs::write(&first, bytes).expect("written");
    bench.pass(3 * HOUR_MS).await;
    bench.pass_until(async |bench| !bench.all_files().iter().any(|file| file.file_stem() == first.file_stem())).await;
}

#[tokio::test]
async fn one_that_waits_for_long_keeps_little_of_what_came_after_it() {
    let mut bench = Bench::new(Config { retention_ms: HOUR_MS, ..Config::default() }).await;
    let far = NewMessage { due_ms: START_MS + 30 * HOUR_MS, ..message(TOPIC, "far", None, &[], b"far".to_vec()) };
    send(&mut bench.client, TOPIC, 0, far).await.expect("sent");
    while bench.files("seg").len() < 5 {
        bench.send(FILLER, 1_000, 10).await;
    }
    let index_bytes = |bench: &Bench| -> u64 {
        let files = bench.files("idx").into_iter().map(|path| fs::metadata(path).expect("there").len());
        files.sum()
    };
    assert!(index_bytes(&bench) > 500_000, "{}", index_bytes(&bench));
    let first = bench.files("seg")[0].clone();
    let runs = bench.files("idx").into_iter();
    let whole: Vec<_> = runs.map(|path| (path.clone(), fs::read(path).expect("read"))).collect();
    bench.fill(1).await;
    bench.pass(3 * HOUR_MS).await;
    bench.pass_until(async |bench| bench.files("thin").len() >= 4 && index_bytes(bench) < 150_000).await;
    bench.send(TOPIC, 1, 10).await;
    let unfinished = first.with_extension("idx.tmp");
    fs::write(&unfinished, b"half").expect("written");
    let written = |bench: &Bench| -> Vec<_> {
        let small = bench.files("thin").into_iter().map(|path| path.with_extension("idx"));
        small.map(|path| fs::metadata(path).and_then(|file| file.modified()).expect("there")).collect()
    };
    let before = written(&bench);
    bench.reopen().await;
    assert!(!unfinished.exists(), "half of a file is of no use");
    assert_eq!(written(&bench), before, "a run that fits its segment is kept");
    // As if the store had ended before the runs were made again.
    for (path, run) in &whole {
        fs::write(path, run).expect("written");
    }
    bench.reopen().await;
    assert!(index_bytes(&bench) < 150_000, "{}", index_bytes(&bench));
    bench.pass(27 * HOUR_MS).await;
    bench.pass_until(async |bench| bench.queue(TOPIC).await.end == 2).await;
    let came = pop(&mut bench.client, GROUP, TOPIC, 32).await.expect("answered");
    assert_eq!(came.last().map(|delivery| delivery.body.as_ref()), Some(&b"far"[..]));
    for delivery in came {
        ack(&mut bench.client, GROUP, TOPIC, &delivery.handle).await.expect("acknowledged");
    }
    bench.pass(2 * HOUR_MS).await;
    bench.pass_until(async |bench| !bench.all_files().iter().any(|file| file.file_stem() == first.file_stem())).await;
}

#[tokio::test]
async fn a_message_sent_again_is_known_behind_a_segment_without_messages() {
    let mut bench = Bench::new(Config { retention_ms: HOUR_MS, ..Config::default() }).await;
    let once = PutTopicRequest { name: TOPIC.into(), dedupe_ms: Some(HOUR_MS), ..Default::default() };
    bench.client.put_topic(once).await.expect("set");
    let known = message(TOPIC, "known", None, &[], b"known".to_vec());
    send(&mut bench.client, FILLER, 0, message(FILLER, "first", None, &[], vec![1])).await.expect("sent");
    bench.pass(20 * MINUTE_MS).await;
    let sealed = bench.files("seg").len();
    let offset = send(&mut bench.client, TOPIC, 0, known.clone()).await.expect("sent");
    bench.pass(20 * MINUTE_MS).await;
    bench.pass_until(async |bench| bench.files("seg").len() > sealed).await;
    assert_eq!(pop(&mut bench.client, GROUP, TOPIC, 1).await.expect("answered").len(), 1);
    bench.pass(16 * MINUTE_MS).await;
    bench.pass_until(async |bench| bench.files("seg").len() > sealed + 1).await;
    bench.pass_until(async |bench| bench.files("idx").len() > sealed).await;
    assert_eq!(send(&mut bench.client, TOPIC, 0, known).await, Ok(offset));
}
