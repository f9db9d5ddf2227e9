//! How fast a server is back after it was killed with a long log behind it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::servers::{Launch, Server};
use crate::{requests::Run, send, target::Target};

const BODY_BYTES: usize = 16 << 10;
const IN_FLIGHT: u32 = 16;

/// Fills a log with `bytes` of bodies, then kills and starts the server `times` times; each time is
/// from the start of the process to the first `OK` for a message.
///
/// Errors: a server does not start, or a send fails.
pub(crate) async fn run(launch: &Launch, bytes: u64, times: u32) -> Result<Vec<Duration>> {
    let mut server = launch.start("async").await?;
    fill(&server, bytes).await.context("the log cannot be filled")?;
    let mut taken = Vec::new();
    for _ in 0..times {
        let directory = server.kill().await?;
        let started = Instant::now();
        server = launch.start_in(directory, "async").await?;
        server.first_ok().await?;
        taken.push(started.elapsed());
    }
    Ok(taken)
}

async fn fill(server: &Server, bytes: u64) -> Result<()> {
    let target = Target {
        endpoint: server.endpoint.clone(),
        pid: Vec::new(),
        topic: "restart".to_owned(),
        group: "restart".to_owned(),
        size: BODY_BYTES,
        connections: 4,
        in_flight: IN_FLIGHT,
        duration: 0.0,
        warm_up: 0.0,
        messages: None,
    };
    send::backlog(&target, &Run::begin(), bytes.div_ceil(BODY_BYTES as u64)).await
}
