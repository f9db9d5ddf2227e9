//! Millions of messages that wait: what they cost in memory, in the rate of sends and at a start, and
//! how fast they come when all are due. By hand, in release, on a disk with room for the log:
//!
//! `cargo test --release -p centaur-store --test many_scheduled -- --ignored --nocapture`
//!
//! `CENTAUR_SCHEDULED_MILLIONS` says how many.

mod harness;

use std::{
    fs,
    time::{Duration, Instant},
};

use centaur_apis::store::{AppendRequest, Batch, DescribeTopicRequest, ListScheduledRequest, NewMessage};
use centaur_store::{Config, Flush};
use harness::{Client, Hands, Medium, START_MS, create_topic, message, setting};

const TOPIC: &str = "reminders";
const QUEUES: u32 = 8;
const HOUR_MS: u64 = 3_600_000;
/// Messages of one call.
const BATCH: u64 = 64;
const PLAIN: u64 = 1_000_000;

/// Sends that many; `due_ms` says when each is due.
async fn send(client: &mut Client, name: &str, count: u64, due_ms: impl Fn(u64) -> u64) {
    let meter = Meter::start();
    for first in (0..count).step_by(BATCH as usize) {
        let new = |number: u64| NewMessage {
            queue: (number % u64::from(QUEUES)) as u32,
            due_ms: due_ms(number),
            ..message(TOPIC, &format!("{name}{number}"), None, &[], vec![7; 16])
        };
        let messages = (first..count.min(first + BATCH)).map(new).collect();
        let batch = Batch { topic: TOPIC.to_owned(), messages };
        let answer = client.append(AppendRequest { batches: vec![batch] }).await.expect("answered").into_inner();
        assert_eq!(answer.results[0].error, None);
    }
    meter.print(name, count);
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

/// Wall clock and processor time, this program's part of them included.
struct Meter {
    started: Instant,
    ticks: u64,
}

impl Meter {
    fn start() -> Self {
        Self { started: Instant::now(), ticks: ticks() }
    }

    fn print(&self, what: &str, count: u64) {
        let (rate, cpu) = (count as f64 / self.started.elapsed().as_secs_f64(), (ticks() - self.ticks) as f64 / 100.0);
        println!("{what}: {rate:.0}/s, {:.2} CPU s/million; {} MiB", cpu * 1e6 / count as f64, memory_mib());
    }
}

/// Processor time of this process, in hundredths of a second.
fn ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and gigabytes"]
async fn millions_wait_at_no_cost_to_those_who_send() {
    let count = setting("CENTAUR_SCHEDULED_MILLIONS", 10) * 1_000_000;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = Config { data_dir: dir.path().to_owned(), flush: Flush::Async, ..Config::default() };
    let hands = Hands::default();
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opened");
    create_topic(&mut client, TOPIC, QUEUES).await.expect("created");

    send(&mut client, "warming up", PLAIN / 4, |_| 0).await;
    send(&mut client, "plain", PLAIN, |_| 0).await;
    let due_ms = |number: u64| START_MS + 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % HOUR_MS;
    send(&mut client, "scheduled", count, due_ms).await;
    send(&mut client, "plain while they wait", PLAIN, |_| 0).await;

    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    println!("closed: {} MiB", memory_mib());
    let started = Instant::now();
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opened again");
    let waiting = pending(&mut client).await;
    println!("start: {:?}; {} MiB with {waiting} waiting", started.elapsed(), memory_mib());

    hands.pass(HOUR_MS + 1);
    send(&mut client, "plain while they are due", PLAIN, |_| 0).await;
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
    assert_eq!(stored, count + 3 * PLAIN + PLAIN / 4, "each came once");
    drop(store);
}
