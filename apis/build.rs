//! Compiles the protos without `protoc`: protox parses them, prost and tonic write the code.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 6] = [
    "proto/apache/rocketmq/v2/definition.proto",
    "proto/apache/rocketmq/v2/service.proto",
    "proto/apache/rocketmq/v2/admin.proto",
    "proto/internal/log.proto",
    "proto/internal/store.proto",
    "proto/internal/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    // Served by gRPC reflection, and compared with the official clients' descriptors by a test.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.pb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".") // a body is a slice of the frame it came in, never a copy
        .btree_map(".") // properties keep one order, so equal messages have equal bytes
        .include_file("generated.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
