//! Millions of messages that wait: what they cost in memory, in the rate of sends and at a start, and
//! how fast they come when all are due. By hand, in release, on a disk with room for the log:
//!
//! `cargo test --release -p centaur-store --test many_scheduled -- --ignored --nocapture`
//!
//! `CENTAUR_SCHEDULED_MILLIONS` says how many, `CENTAUR_PLAIN_MILLIONS` how many others each figure is of. A second
//! store beside it has as many messages, none of which waits; the two are sent to in turn, `CENTAUR_SCHEDULED_ROUNDS`
//! times, and compared round by round: what else the machine does meets both.

mod harness;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use centaur_apis::store::{AppendRequest, Batch, DescribeTopicRequest, ListScheduledRequest, NewMessage};
use centaur_store::{Config, Flush, Store};
use harness::{Client, Hands, Medium, START_MS, create_topic, message, setting};
use tempfile::TempDir;

const TOPIC: &str = "reminders";
const QUEUES: u32 = 8;
const HOUR_MS: u64 = 3_600_000;
/// Messages of one call.
const BATCH: u64 = 64;
/// Calls under way at once.
const SENDERS: u64 = 8;

/// Sends that many, several calls at a time; `due_ms` says when each is due. Returns how many a second.
async fn send(client: &Client, name: &str, count: u64, due_ms: impl Fn(u64) -> u64 + Clone + Send + 'static) -> f64 {
    let meter = Meter::start();
    let senders = (0..SENDERS).map(|sender| {
        let (mut client, name, due_ms) = (client.clone(), name.to_owned(), due_ms.clone());
        tokio::spawn(async move {
            for first in (sender * BATCH..count).step_by((SENDERS * BATCH) as usize) {
                let new = |number: u64| NewMessage {
                    queue: (number % u64::from(QUEUES)) as u32,
                    due_ms: due_ms(number),
                    ..message(TOPIC, &format!("{name}{number}"), None, &[], vec![7; 16])
                };
                let messages = (first..count.min(first + BATCH)).map(new).collect();
                let batch = Batch { topic: TOPIC.to_owned(), messages };
                let answer = client.append(AppendRequest { batches: vec![batch] }).await.expect("answered");
                assert_eq!(answer.into_inner().results[0].error, None);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("all were sent");
    }
    meter.print(name, count)
}

async fn pending(client: &mut Client) -> u64 {
    let request = ListScheduledRequest { topic: TOPIC.to_owned(), limit: 1, ..Default::default() };
    client.list_scheduled(request).await.expect("listed").into_inner().total
}

/// Memory of this process that no file stands behind, MiB.
fn memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

/// Wall clock and processor time by thread, this program's part of them included.
struct Meter {
    started: Instant,
    ticks: BTreeMap<String, u64>,
}

impl Meter {
    fn start() -> Self {
        Self { started: Instant::now(), ticks: ticks() }
    }

    /// Prints what was used for each, and returns how many it were a second.
    fn print(&self, what: &str, count: u64) -> f64 {
        let rate = count as f64 / self.started.elapsed().as_secs_f64();
        let used = |(thread, ticks): (String, u64)| {
            let before = self.ticks.get(&thread).copied().unwrap_or_default();
            (thread, (ticks.saturating_sub(before)) as f64 * 1e4 / count as f64)
        };
        let by_thread: Vec<(String, f64)> = ticks().into_iter().map(used).filter(|(_, cpu)| *cpu > 0.005).collect();
        let total: f64 = by_thread.iter().map(|(_, cpu)| cpu).sum();
        let parts: Vec<String> = by_thread.iter().map(|(thread, cpu)| format!("{thread} {cpu:.2}")).collect();
        println!("{what}: {rate:.0}/s, {total:.2} CPU s/million ({}); {} MiB", parts.join(", "), memory_mib());
        rate
    }
}

/// Processor time of this process's threads by their names, in hundredths of a second.
fn ticks() -> BTreeMap<String, u64> {
    let mut ticks = BTreeMap::new();
    let tasks = fs::read_dir("/proc/self/task").expect("this is Linux");
    for stat in tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok()) {
        let (before, after) = stat.rsplit_once(')').expect("a name in brackets");
        let name = before.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields = after.split_whitespace().skip(11).take(2);
        *ticks.entry(name).or_default() += fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>();
    }
    ticks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and gigabytes"]
async fn millions_wait_at_no_cost_to_those_who_send() {
    let count = setting("CENTAUR_SCHEDULED_MILLIONS", 10) * 1_000_000;
    let plain = setting("CENTAUR_PLAIN_MILLIONS", 1) * 1_000_000;
    let rounds = setting("CENTAUR_SCHEDULED_ROUNDS", 11);
    let hands = Hands::default();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (store, mut client) = open(&dir, &hands);
    create_topic(&mut client, TOPIC, QUEUES).await.expect("created");

    let due_ms = |number: u64| START_MS + 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % HOUR_MS;
    send(&client, "scheduled", count, due_ms).await;
    // The first of these share the processor with the runs of the last segments, written behind them.
    send(&client, "plain right after", plain, |_| 0).await;

    let other_dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (other_store, mut other) = open(&other_dir, &hands);
    create_topic(&mut other, TOPIC, QUEUES).await.expect("created");
    send(&other, "to the other", count + plain, |_| 0).await;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let names = [format!("round {round}, beside those that wait"), format!("round {round}, the other")];
        // Every other round goes backwards.
        let (beside, alone) = if round % 2 == 0 {
            let beside = send(&client, &names[0], plain, |_| 0).await;
            (beside, send(&other, &names[1], plain, |_| 0).await)
        } else {
            let alone = send(&other, &names[1], plain, |_| 0).await;
            (send(&client, &names[0], plain, |_| 0).await, alone)
        };
        ratios.push(beside / alone);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    if let [lowest, .., highest] = ratios[..] {
        println!("beside those that wait: {:.3} of the rate ({lowest:.3} to {highest:.3})", ratios[ratios.len() / 2]);
    }
    drop((other, other_store));

    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    println!("closed: {} MiB", memory_mib());
    let started = Instant::now();
    let (store, mut client) = open(&dir, &hands);
    let waiting = pending(&mut client).await;
    println!("start: {:?}; {} MiB with {waiting} waiting", started.elapsed(), memory_mib());

    hands.pass(HOUR_MS + 1);
    send(&client, "plain while they are due", plain, |_| 0).await;
    let left = pending(&mut client).await;
    println!("of them came: {}", waiting - left);
    let meter = Meter::start();
    while pending(&mut client).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    meter.print("the others came", left);
    let request = DescribeTopicRequest { name: TOPIC.to_owned() };
    let queues = client.describe_topic(request).await.expect("described").into_inner().queues;
    let stored: u64 = queues.iter().map(|queue| queue.end).sum();
    assert_eq!(stored, count + (rounds + 2) * plain, "each came once");
    drop(store);
}

fn open(dir: &TempDir, hands: &Hands) -> (Store, Client) {
    let config = Config { data_dir: dir.path().to_owned(), flush: Flush::Async, ..Config::default() };
    harness::open(&config, hands, &Medium::Real).expect("opened")
}
