//! What one record of the commit log costs to encode, decode and check, by body size.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use centaur_store::log::record::{self, Message, Place};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BODY_BYTES: [usize; 4] = [64, 1024, 64 << 10, 1 << 20];

fn message(body: usize) -> Message {
    let properties = Bytes::from(vec![7; 100]);
    Message::new(
        1,
        2,
        Place::Queued(3),
        4,
        Bytes::from_static(b"\x0a\x08\x12\x06orders"),
        properties,
        Bytes::from(vec![9; body]),
    )
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    for size in BODY_BYTES {
        let message = message(size);
        let mut encoded = BytesMut::with_capacity(message.encoded_len());
        message.encode(&mut encoded);
        let encoded = encoded.freeze();
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        let mut out = BytesMut::with_capacity(encoded.len());
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&message).encode(&mut out);
            });
        });
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| record::decode(black_box(&encoded)));
        });
        group.bench_function(BenchmarkId::new("checksum", size), |bencher| {
            bencher.iter(|| record::checksum(black_box(&encoded)));
        });
    }
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
