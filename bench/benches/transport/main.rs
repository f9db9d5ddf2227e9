//! What it costs to call a store in the same process through the generated client, against a call
//! of the trait itself: `docs/decisions/0005-local-transport.md` rests on the difference.
//!
//! `direct` calls the generated trait. `generated` is the generated client over the local
//! transport. `sized` is the same call with a buffer as large as the request, as the proxy makes it.

mod nothing;

use std::time::SystemTime;

use bytes::Bytes;
use centaur_apis::{
    store::{
        AppendRequest, AppendResponse, Batch, NewMessage,
        store_client::StoreClient,
        store_server::{Store as _, StoreServer},
    },
    transport::Transport,
    v2,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use tokio::runtime::Builder;
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{BufferSettings, Codec},
    codegen::http::uri::PathAndQuery,
    service::Routes,
};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::nothing::Nothing;

/// The allocator of the server: what allocations cost is part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: [u32; 4] = [1, 4, 16, 64];
const BODY_BYTES: usize = 1024;
/// What gRPC puts before a message.
const FRAME_HEADER_BYTES: usize = 5;
const APPEND: &str = "/centaur.store.v1.Store/Append";

/// As the proxy makes it: one batch for each send that shares the call.
fn request(messages: u32) -> AppendRequest {
    let message = NewMessage {
        head: Bytes::from_static(b"\x0a\x08\x12\x06orders"),
        properties: properties(),
        body: Bytes::from(vec![9; BODY_BYTES]),
        ..Default::default()
    };
    let batch = |queue| {
        let message = NewMessage { queue: queue % 8, ..message.clone() };
        Batch { topic: "orders".to_owned(), messages: vec![message] }
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

fn appends(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let transport = Transport::Local(Routes::new(StoreServer::new(Nothing)).prepare());
    let mut group = criterion.benchmark_group("transport");
    for messages in MESSAGES {
        let request = request(messages);
        let make = || request.clone();
        group.throughput(Throughput::Elements(u64::from(messages)));
        group.bench_function(BenchmarkId::new("direct", messages), |bencher| {
            let call = async |request| Nothing.append(Request::new(request)).await.expect("an answer");
            bencher.to_async(&runtime).iter_batched(make, call, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("generated", messages), |bencher| {
            let client = StoreClient::new(transport.clone());
            let call = |request| {
                let mut client = client.clone();
                async move { client.append(request).await.expect("an answer") }
            };
            bencher.to_async(&runtime).iter_batched(make, call, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("sized", messages), |bencher| {
            let call = |request| sized(transport.clone(), request);
            bencher.to_async(&runtime).iter_batched(make, call, BatchSize::SmallInput);
        });
    }
    group.finish();
}

async fn sized(transport: Transport, request: AppendRequest) -> Response<AppendResponse> {
    let codec = Sized { bytes: request.encoded_len() + FRAME_HEADER_BYTES };
    let mut grpc = Grpc::new(transport);
    grpc.ready().await.expect("a local transport is always ready");
    let answer: Result<_, Status> = grpc.unary(Request::new(request), PathAndQuery::from_static(APPEND), codec).await;
    answer.expect("an answer")
}

/// The generated codec with a buffer that never has to grow.
struct Sized {
    bytes: usize,
}

impl Codec for Sized {
    type Encode = AppendRequest;
    type Decode = AppendResponse;
    type Encoder = ProstEncoder<AppendRequest>;
    type Decoder = ProstDecoder<AppendResponse>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(self.bytes, usize::MAX))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

criterion_group!(benches, appends);
criterion_main!(benches);
