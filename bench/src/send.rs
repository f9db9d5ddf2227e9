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
    let call = match options.shape {
        Shape::Send | Shape::Bare => Call::Send([template].into()),
        Shape::Echo => Call::Echo { payload: template.echo(), messages: template.messages() },
    };
    let load = Load::new(call);
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
    let load = Load::new(Call::Send([run.send(&target.topic, target.size, BACKLOG_BATCH)].into()));
    let (extent, unmeasured) = (Extent::Messages(messages), Processes::default());
    let report = load.run("backlog", &connections, target.in_flight, extent, &unmeasured).await?;
    match report.first_error {
        Some(error) => Err(anyhow::anyhow!("the backlog could not be made: {error}")),
        None => Ok(()),
    }
}

/// What a worker does again and again.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// Sends, from these templates in turn; all have as many messages.
    Send(Arc<[Template]>),
    /// Sends a half message, and commits it when it is stored.
    Commit { half: Template, topic: String },
    /// Has a payload echoed that stands for so many messages.
    Echo { payload: Payload, messages: u64 },
}

/// One closed loop, shared by its workers.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    call: Call,
    next: Arc<AtomicU64>,
    progress: Arc<Progress>,
}

impl Load {
    /// A load whose messages are numbered from 0 on.
    pub(crate) fn new(call: Call) -> Self {
        Self { call, next: Arc::default(), progress: Arc::new(Progress::new()) }
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Works on all connections until the end of `extent`.
    ///
    /// Errors: a process to be measured is gone; calls that failed are in the report.
    pub(crate) async fn run(
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
                Ok(()) => self.progress.did(self.call.messages()),
                Err(error) => self.progress.failed(&error),
            }
            if self.progress.is_measuring() {
                latencies.record("call", started.elapsed());
            }
        }
        latencies
    }

    async fn call(&self, connection: &mut Connection) -> Result<()> {
        let first = self.next.fetch_add(self.call.messages(), Relaxed);
        match &self.call {
            Call::Send(templates) => {
                let turn = first / self.call.messages() % templates.len() as u64;
                connection.send(templates[turn as usize].numbered(first)).await
            }
            Call::Commit { half, topic } => {
                let half = connection.send_half(half.numbered(first)).await?;
                connection.commit(topic, half).await
            }
            Call::Echo { payload, .. } => connection.echo(payload.clone()).await.map(drop),
        }
    }
}

impl Call {
    /// Messages in one call.
    fn messages(&self) -> u64 {
        match self {
            Self::Send(templates) => templates.first().map_or(1, Template::messages),
            Self::Commit { half, .. } => half.messages(),
            Self::Echo { messages, .. } => *messages,
        }
    }
}
