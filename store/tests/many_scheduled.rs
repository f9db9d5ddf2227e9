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
async fn send(client: &mut Client, name: &str, count: u64, due_ms: impl Fn(u64) -> u64) -> Duration {
    let started = Instant::now();
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
    started.elapsed()
}

async fn pending(client: &mut Client) -> u64 {
    let request = ListScheduledRequest { topic: TOPIC.to_owned(), limit: 1 };
    client.list_scheduled(request).await.expect("listed").into_inner().total
}

/// Memory of this process that no file stands behind, MiB.
fn memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

fn rate(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
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

    let took = send(&mut client, "warm", PLAIN / 4, |_| 0).await;
    println!("warming up: {}/s", rate(PLAIN / 4, took));
    let took = send(&mut client, "plain", PLAIN, |_| 0).await;
    println!("plain sends: {}/s; {} MiB", rate(PLAIN, took), memory_mib());
    let due_ms = |number: u64| START_MS + 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % HOUR_MS;
    let took = send(&mut client, "later", count, due_ms).await;
    println!(
        "scheduled sends: {}/s; {} MiB with {} waiting",
        rate(count, took),
        memory_mib(),
        pending(&mut client).await
    );
    let took = send(&mut client, "beside", PLAIN, |_| 0).await;
    println!("plain sends beside: {}/s; {} MiB", rate(PLAIN, took), memory_mib());

    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    println!("closed: {} MiB", memory_mib());
    let started = Instant::now();
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opened again");
    let waiting = pending(&mut client).await;
    println!("start: {:?}; {} MiB with {waiting} waiting", started.elapsed(), memory_mib());

    hands.pass(HOUR_MS + 1);
    let started = Instant::now();
    let took = send(&mut client, "meanwhile", PLAIN, |_| 0).await;
    let left = pending(&mut client).await;
    println!("plain sends while all are due: {}/s, beside {}/s due", rate(PLAIN, took), rate(waiting - left, took));
    while pending(&mut client).await > 0 {
        tokio::task::yield_now().await;
    }
    println!("all came: {}/s; {} MiB", rate(waiting, started.elapsed()), memory_mib());
    let request = DescribeTopicRequest { name: TOPIC.to_owned() };
    let queues = client.describe_topic(request).await.expect("described").into_inner().queues;
    let stored: u64 = queues.iter().map(|queue| queue.end).sum();
    assert_eq!(stored, count + 3 * PLAIN + PLAIN / 4, "each came once");
    drop(store);
}
