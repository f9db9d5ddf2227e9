//! The closed loop of sends: so many calls in flight, each followed by the next at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use tokio::task::JoinSet;

use crate::{
    client::Connection,
    meter::{Extent, Latencies, Progress},
    process::Processes,
    report::Report,
    requests::{Payload, Run, Template},
    target::{Shape, Target},
};

/// Messages in one request while a backlog is made.
const BACKLOG_BATCH: usize = 32;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What to send
    #[arg(long, value_enum, default_value_t = Shape::Send)]
    pub(crate) shape: Shape,
    /// Messages in one request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
}

/// Runs the load and reports on it.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let target = &options.target;
    let run = Run::begin();
    let template = run.send(&target.topic, target.size, usize::from(options.batch));
    let connections = match options.shape {
        Shape::Send => target.producers(&run).await?,
        Shape::Bare | Shape::Echo => target.connect(&run).await?,
    };
    let load = Load::new(template, options.shape);
    let scenario = match options.shape {
        Shape::Send => "send",
        Shape::Bare => "bare send",
        Shape::Echo => "echo",
    };
    load.run(scenario, &connections, target.in_flight, target.extent(), &target.processes()).await
}

/// Leaves at least `messages` messages in the topic.
///
/// Errors: any of them was refused.
pub(crate) async fn backlog(target: &Target, run: &Run, messages: u64) -> Result<()> {
    let connections = target.producers(run).await?;
    let load = Load::new(run.send(&target.topic, target.size, BACKLOG_BATCH), Shape::Send);
    let (extent, unmeasured) = (Extent::Messages(messages), Processes::default());
    let report = load.run("backlog", &connections, target.in_flight, extent, &unmeasured).await?;
    match report.first_error {
        Some(error) => Err(anyhow::anyhow!("the backlog could not be made: {error}")),
        None => Ok(()),
    }
}

/// One closed loop, shared by its workers.
#[derive(Clone, Debug)]
struct Load {
    template: Template,
    echo: Payload,
    shape: Shape,
    next: Arc<AtomicU64>,
    progress: Arc<Progress>,
}

impl Load {
    fn new(template: Template, shape: Shape) -> Self {
        let echo = template.echo();
        let next = Arc::new(AtomicU64::new(0));
        Self { template, echo, shape, next, progress: Arc::new(Progress::new()) }
    }

    async fn run(
        &self,
        scenario: &'static str,
        connections: &[Connection],
        in_flight: u32,
        extent: Extent,
        server: &Processes,
    ) -> Result<Report> {
        let mut workers = JoinSet::new();
        for (_, connection) in (0..in_flight).zip(connections.iter().cycle()) {
            workers.spawn(self.clone().work(connection.clone()));
        }
        let window = self.progress.watch(extent, server).await?;
        let mut latencies = Latencies::default();
        while let Some(worker) = workers.join_next().await {
            latencies.add(&worker?);
        }
        Ok(Report::new(scenario, &self.progress, &window, &latencies))
    }

    async fn work(self, mut connection: Connection) -> Latencies {
        let mut latencies = Latencies::default();
        while !self.progress.is_stopped() {
            let started = Instant::now();
            match self.call(&mut connection).await {
                Ok(()) => self.progress.did(self.template.messages()),
                Err(error) => self.progress.failed(&error),
            }
            if self.progress.is_measuring() {
                latencies.record("call", started.elapsed());
            }
        }
        latencies
    }

    async fn call(&self, connection: &mut Connection) -> Result<()> {
        match self.shape {
            Shape::Send | Shape::Bare => {
                let first = self.next.fetch_add(self.template.messages(), Relaxed);
                connection.send(self.template.numbered(first)).await
            }
            Shape::Echo => connection.echo(self.echo.clone()).await.map(drop),
        }
    }
}
