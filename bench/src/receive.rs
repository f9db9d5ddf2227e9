//! Takes a backlog in: receive, acknowledge in one call what came, and again.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use centaur_apis::v2;
use clap::Args;
use tokio::task::JoinSet;

use crate::{
    client::{Connection, Lease},
    meter::{Extent, Latencies, Progress},
    process::Processes,
    report::Report,
    requests::{self, Run},
    send,
    target::Target,
};

/// Messages to receive when the caller names no number.
const MESSAGES: u64 = 200_000;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Messages that one receive asks for
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=32))]
    pub(crate) batch: i32,
    /// Messages to send first; as many as will be received unless given, 0 when they are there
    #[arg(long)]
    pub(crate) backlog: Option<u64>,
}

/// Makes the backlog, then consumes it and reports on that. It ends by messages, never by time.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let target = &options.target;
    let run = Run::begin();
    let messages = target.messages.unwrap_or(MESSAGES);
    let backlog = options.backlog.unwrap_or(messages);
    if backlog > 0 {
        send::backlog(target, &run, backlog).await?;
    }
    let consumer = |connection| Consumer { connection, group: target.group.clone() };
    let intake = Intake {
        topic: target.topic.clone(),
        consumers: target.consumers(&run).await?.into_iter().map(consumer).collect(),
        filter: requests::everything(),
        batch: options.batch,
        in_flight: target.in_flight,
    };
    intake.run(Extent::Messages(messages), &target.processes()).await
}

/// A connection and the group it consumes for.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) connection: Connection,
    pub(crate) group: String,
}

/// Who takes a backlog in, and how.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) topic: String,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) filter: v2::FilterExpression,
    /// Messages that one receive asks for.
    pub(crate) batch: i32,
    /// Receives in flight over all consumers.
    pub(crate) in_flight: u32,
}

impl Intake {
    /// Receives and acknowledges until the end of `extent`.
    ///
    /// Errors: the topic has no queue, or a process to be measured is gone; calls that failed are in
    /// the report.
    pub(crate) async fn run(&self, extent: Extent, server: &Processes) -> Result<Report> {
        let first = self.consumers.first().context("nobody consumes")?;
        let queues = first.connection.clone().queues(&self.topic).await?;
        let progress = Arc::new(Progress::new());
        let mut workers = JoinSet::new();
        let places = self.consumers.iter().cycle().zip(queues.iter().cycle());
        for (_, (Consumer { connection, group }, queue)) in (0..self.in_flight).zip(places) {
            let worker = Worker {
                progress: Arc::clone(&progress),
                connection: connection.clone(),
                request: requests::receive(group, queue, self.filter.clone(), self.batch),
                group: group.clone(),
                topic: self.topic.clone(),
                latencies: Latencies::default(),
            };
            workers.spawn(worker.work());
        }
        let window = progress.watch(extent, server).await?;
        let mut latencies = Latencies::default();
        while let Some(worker) = workers.join_next().await {
            latencies.add(&worker?);
        }
        Ok(Report::new("receive", &progress, &window, &latencies))
    }
}

struct Worker {
    progress: Arc<Progress>,
    connection: Connection,
    request: Bytes,
    group: String,
    topic: String,
    latencies: Latencies,
}

impl Worker {
    async fn work(mut self) -> Latencies {
        let progress = Arc::clone(&self.progress);
        while !progress.is_stopped() {
            // A receive that waits when the load is over would wait for nothing.
            let round = tokio::select! {
                biased;
                round = self.round() => round,
                () = progress.stopped() => break,
            };
            match round {
                Ok(messages) => progress.did(messages),
                Err(error) => progress.failed(&error),
            }
        }
        self.latencies
    }

    async fn round(&mut self) -> Result<u64> {
        let started = Instant::now();
        let leases = self.connection.receive(self.request.clone()).await?;
        if leases.is_empty() {
            return Ok(0);
        }
        self.record("receive", started);
        self.ack(leases).await
    }

    async fn ack(&mut self, leases: Vec<Lease>) -> Result<u64> {
        let messages = leases.len() as u64;
        let started = Instant::now();
        self.connection.ack(&self.group, &self.topic, leases).await?;
        self.record("ack", started);
        Ok(messages)
    }

    fn record(&mut self, call: &'static str, started: Instant) {
        if self.progress.is_measuring() {
            self.latencies.record(call, started.elapsed());
        }
    }
}
