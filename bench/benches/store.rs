//! What the store costs by itself: appends, pops with acks, and the opening of a directory, through
//! the internal contract over the local transport, with a real log on the disk of the checkout.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use centaur_apis::{
    store::{
        AckEntry, AckRequest, AppendRequest, Batch, Delivery, NewMessage, PopRequest, PutGroupRequest, PutTopicRequest,
        store_client::StoreClient,
    },
    transport::Transport,
    v2,
};
use centaur_store::{Config, Flush, Store};
use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The allocator of the server: what allocations cost is part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const QUEUES: u32 = 8;
const BODY_BYTES: usize = 1024;
const APPENDED: [u32; 3] = [1, 16, 64];
const POPPED: u32 = 32;
/// Message groups of a group that consumes in order; half of them are in hand all the time.
const MESSAGE_GROUPS: [u32; 3] = [1, 100, 4000];
/// Log of a directory that is opened, in MiB: part of one segment, one and a bit, and several.
const LOG_MIB: [u32; 3] = [64, 300, 1024];
const LARGE_BODY_BYTES: usize = 64 << 10;
/// Longer than a run, so that nothing is delivered twice.
const INVISIBLE_MS: u64 = 600_000;

type Client = StoreClient<Transport>;

/// A store with one topic, in a directory that goes with it.
struct Fixture {
    client: Client,
    _store: Store,
    _directory: TempDir,
}

impl Fixture {
    fn open(runtime: &Runtime, flush: Flush) -> Self {
        let directory = directory();
        let store = open(directory.path(), flush);
        let client = client(&store);
        runtime.block_on(make_topic(client.clone()));
        Self { client, _store: store, _directory: directory }
    }
}

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn open(directory: &Path, flush: Flush) -> Store {
    let config = Config { data_dir: directory.to_owned(), flush, ..Config::default() };
    Store::open(config).expect("a store")
}

fn client(store: &Store) -> Client {
    StoreClient::new(Transport::Local(store.routes())).max_decoding_message_size(usize::MAX)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

async fn make_topic(mut client: Client) {
    let topic = PutTopicRequest { name: TOPIC.to_owned(), queues: Some(QUEUES), ..Default::default() };
    client.put_topic(topic).await.expect("a topic");
}

/// A request for messages of a range of message groups, in turn.
fn grouped_request(messages: u32, message_groups: std::ops::Range<u32>) -> AppendRequest {
    let mut request = request(messages, BODY_BYTES);
    for (message_group, batch) in message_groups.cycle().zip(&mut request.batches) {
        let properties = v2::SystemProperties {
            message_group: Some(message_group.to_string()),
            ..v2::SystemProperties::decode(properties()).expect("properties")
        };
        batch.messages[0].properties = properties.encode_to_vec().into();
        batch.messages[0].queue = message_group % QUEUES;
    }
    request
}

/// One message a batch, as sends of many producers share a call.
fn request(messages: u32, body_bytes: usize) -> AppendRequest {
    let message = NewMessage {
        head: Bytes::from_static(b"\x0a\x08\x12\x06orders"),
        properties: properties(),
        body: Bytes::from(vec![9; body_bytes]),
        ..Default::default()
    };
    let batch = |queue| {
        let message = NewMessage { queue: queue % QUEUES, ..message.clone() };
        Batch { topic: TOPIC.to_owned(), messages: vec![message] }
    };
    AppendRequest { batches: (0..messages).map(batch).collect() }
}

/// What a client says about a message that it does not say much about.
fn properties() -> Bytes {
    let properties = v2::SystemProperties {
        message_id: "01F4A739C2B10000000000000000000000".to_owned(),
        message_type: v2::MessageType::Normal.into(),
        body_encoding: v2::Encoding::Identity.into(),
        born_timestamp: Some(SystemTime::UNIX_EPOCH.into()),
        born_host: "bench".to_owned(),
        ..Default::default()
    };
    properties.encode_to_vec().into()
}

async fn append(mut client: Client, request: AppendRequest) {
    let results = client.append(request).await.expect("an answer").into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()), "{results:?}");
}

/// Takes `POPPED` messages and settles them.
async fn pop_and_ack(client: &mut Client) {
    let deliveries = pop(client).await;
    let entry = |handle| AckEntry { group: GROUP.to_owned(), topic: TOPIC.to_owned(), handle };
    let entries = deliveries.into_iter().map(|delivery| entry(delivery.handle)).collect();
    let results = client.ack(AckRequest { entries }).await.expect("an answer").into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()), "{results:?}");
}

async fn pop(client: &mut Client) -> Vec<Delivery> {
    let request = PopRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        client: "bench".to_owned(),
        messages_max: POPPED,
        bytes_max: 32 << 20,
        invisible_ms: INVISIBLE_MS,
        create_group: true,
        ..Default::default()
    };
    let deliveries = client.pop(request).await.expect("an answer").into_inner().deliveries;
    assert_eq!(deliveries.len(), POPPED as usize);
    deliveries
}

fn appends(criterion: &mut Criterion) {
    let runtime = runtime();
    for (name, flush) in [("append async", Flush::Async), ("append sync", Flush::Sync)] {
        let mut group = criterion.benchmark_group(name);
        for messages in APPENDED {
            let fixture = Fixture::open(&runtime, flush);
            let request = request(messages, BODY_BYTES);
            group.throughput(Throughput::Elements(u64::from(messages)));
            group.bench_function(BenchmarkId::from_parameter(messages), |bencher| {
                let call = |request| append(fixture.client.clone(), request);
                bencher.to_async(&runtime).iter_batched(|| request.clone(), call, BatchSize::SmallInput);
            });
        }
        group.finish();
    }
}

fn pops(criterion: &mut Criterion) {
    let runtime = runtime();
    let fixture = Fixture::open(&runtime, Flush::Async);
    let request = request(POPPED, BODY_BYTES);
    let mut group = criterion.benchmark_group("pop and ack");
    group.throughput(Throughput::Elements(u64::from(POPPED)));
    group.bench_function(BenchmarkId::from_parameter(POPPED), |bencher| {
        bencher.to_async(&runtime).iter_custom(|iterations| pops_taken(&fixture.client, &request, iterations));
    });
    group.finish();
}

/// The same by a group that consumes in order, while half of the message groups are in hand.
fn ordered_pops(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("pop and ack in order");
    group.throughput(Throughput::Elements(u64::from(POPPED)));
    for message_groups in MESSAGE_GROUPS {
        let fixture = Fixture::open(&runtime, Flush::Async);
        runtime.block_on(hold(fixture.client.clone(), message_groups / 2 / POPPED * POPPED));
        let free = message_groups / 2..message_groups;
        let request = grouped_request(POPPED, free);
        group.bench_function(BenchmarkId::from_parameter(message_groups), |bencher| {
            bencher.to_async(&runtime).iter_custom(|iterations| pops_taken(&fixture.client, &request, iterations));
        });
    }
    group.finish();
}

/// Makes the group one that consumes in order, and takes a message of each of the first message groups.
async fn hold(mut client: Client, message_groups: u32) {
    let group = PutGroupRequest { name: GROUP.to_owned(), fifo: Some(true), ..Default::default() };
    client.put_group(group).await.expect("a group");
    append(client.clone(), grouped_request(message_groups, 0..message_groups)).await;
    for _ in 0..message_groups / POPPED {
        pop(&mut client).await;
    }
}

/// How long so many pops with acks took, appends not counted.
async fn pops_taken(client: &Client, request: &AppendRequest, iterations: u64) -> Duration {
    let mut client = client.clone();
    let mut taken = Duration::ZERO;
    for _ in 0..iterations {
        append(client.clone(), request.clone()).await;
        let started = Instant::now();
        pop_and_ack(&mut client).await;
        taken += started.elapsed();
    }
    taken
}

/// Opens directories that have no clean marker, as a process leaves them that was killed.
fn recovery(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("recovery");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for mebibytes in LOG_MIB {
        let directory = directory();
        let store = open(directory.path(), Flush::Async);
        runtime.block_on(fill(client(&store), mebibytes));
        store.close().expect("a closed store");
        group.throughput(Throughput::Bytes(u64::from(mebibytes) << 20));
        group.bench_function(BenchmarkId::new("MiB", mebibytes), |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| reopened(directory.path())).sum());
        });
    }
    group.finish();
}

async fn fill(client: Client, mebibytes: u32) {
    make_topic(client.clone()).await;
    let request = request(16, LARGE_BODY_BYTES);
    for _ in 0..mebibytes {
        append(client.clone(), request.clone()).await;
    }
}

fn reopened(directory: &Path) -> Duration {
    fs::remove_file(directory.join("CLEAN")).expect("the store was closed");
    let started = Instant::now();
    let store = open(directory, Flush::Async);
    let taken = started.elapsed();
    store.close().expect("a closed store");
    taken
}

criterion_group!(benches, appends, pops, ordered_pops, recovery);
criterion_main!(benches);
