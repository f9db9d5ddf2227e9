//! Consumers that wait and get nothing: what it costs to keep them waiting.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use tokio::task::JoinSet;

use crate::{
    client::Connection,
    meter::{Extent, Latencies, Progress},
    report::Report,
    requests::{self, Run},
    target::Target,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Receives that wait at the same time, over all connections
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) polls: u32,
}

/// Parks the receives, and reports what the server used in the measured time.
///
/// Resident memory grows from before the first receive was parked, so that growth divided by
/// `--polls` is what one costs.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let target = &options.target;
    let connections = target.consumers(&Run::begin()).await?;
    let queues = connections[0].clone().queues(&target.topic).await?;
    let processes = target.processes();
    let before = if processes.is_empty() { None } else { Some(processes.usage()?) };
    let progress = Arc::new(Progress::new());
    let mut workers = JoinSet::new();
    let places = connections.iter().cycle().zip(queues.iter().cycle());
    for (_, (connection, queue)) in (0..options.polls).zip(places) {
        let request = requests::receive(&target.group, queue, requests::everything(), 1);
        workers.spawn(wait(Arc::clone(&progress), connection.clone(), request));
    }
    let extent = Extent::Time {
        warm_up: Duration::from_secs_f64(target.warm_up),
        measured: Duration::from_secs_f64(target.duration),
    };
    let window = progress.watch(extent, &processes).await?;
    while let Some(worker) = workers.join_next().await {
        worker?;
    }
    let mut report = Report::new("idle", &progress, &window, &Latencies::default());
    if let (Some(server), Some(before)) = (&mut report.server, before) {
        server.resident_growth_bytes = server.resident_bytes.cast_signed() - before.resident_bytes.cast_signed();
    }
    Ok(report)
}

/// Waits again and again; messages that come are counted, and left to come again.
async fn wait(progress: Arc<Progress>, mut connection: Connection, request: Bytes) {
    while !progress.is_stopped() {
        let received = tokio::select! {
            received = connection.receive(request.clone()) => received,
            () = progress.stopped() => return,
        };
        match received {
            Ok(leases) => progress.did(leases.len() as u64),
            Err(error) => progress.failed(&error),
        }
    }
}
