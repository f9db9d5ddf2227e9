//! The language Centaur's roles share: the public contract, what roles say to each other, and the
//! few types both sides need. No configuration and no decisions live here.

pub mod error;
pub mod fields;
pub mod names;
pub mod receipt_handle;
mod seal;
pub mod ticket;
pub mod transport;
pub mod units;

#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

/// The public contract.
pub use generated::apache::rocketmq::v2;
/// What operators ask of a cluster.
pub use generated::centaur::admin::v1 as admin;
/// Records of the commit log other than messages.
pub use generated::centaur::log::v1 as log;
/// What a proxy asks of a store.
pub use generated::centaur::store::v1 as store;

/// Every proto above as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.pb"));

/// A stable 64-bit hash of text or bytes: tags, message groups, keys, client ids.
///
/// It is written to disk, so its definition (XXH3, seed 0) never changes; 0 is kept for "none".
pub fn hash64(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes).max(1)
}
