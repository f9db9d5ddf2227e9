//! End to end: messages sent at a fixed rate, and how long each takes from the moment it should
//! have been sent until a waiting consumer has it. Beside it the reference: the same bytes through
//! two hops of the echo, one for the way in and one for the way out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use tokio::{task::JoinSet, time};

use crate::{
    client::{Connection, Lease},
    meter::{Latencies, Progress, Window},
    pace::Pace,
    report::Report,
    requests::{self, Run},
    target::Target,
};

/// How long messages that were sent may take to arrive after the load is over.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);
const ARRIVAL_PERIOD: Duration = Duration::from_millis(5);

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Messages a second
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Twice through the echo instead of once through a server
    #[arg(long)]
    pub(crate) echo: bool,
    /// Messages that one receive asks for
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=32))]
    pub(crate) batch: i32,
}

/// Runs the load and reports on it. `--in-flight` is the number of receives that wait.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    if options.echo { through_echo(options).await } else { through_server(options).await }
}

async fn through_server(options: &Options) -> Result<Report> {
    let target = &options.target;
    let run = Run::begin();
    let producers = target.producers(&run).await?;
    let consumers = target.consumers(&Run::begin()).await?;
    let queues = consumers[0].clone().queues(&target.topic).await?;
    let load = Load::new(options.rate);
    // Dropped, and with it every receive that waits, when the load is over.
    let mut waiting = JoinSet::new();
    let places = consumers.iter().cycle().zip(queues.iter().cycle());
    for (_, (connection, queue)) in (0..target.in_flight).zip(places) {
        let consumer = Consumer {
            load: Arc::clone(&load),
            run: run.clone(),
            connection: connection.clone(),
            request: requests::receive(&target.group, queue, requests::everything(), options.batch),
            group: target.group.clone(),
            topic: target.topic.clone(),
        };
        waiting.spawn(consumer.work());
    }
    let template = run.send(&target.topic, target.size, 1);
    load.drive(producers, move |load, mut connection, number| {
        let payload = template.numbered(number);
        async move {
            let sent = connection.send(payload).await;
            load.observe("send", number);
            sent
        }
    })?;
    load.finish("end to end", target).await
}

async fn through_echo(options: &Options) -> Result<Report> {
    let target = &options.target;
    let run = Run::begin();
    let connections = target.connect(&run).await?;
    let load = Load::new(options.rate);
    let echo = run.send(&target.topic, target.size, 1).echo();
    load.drive(connections, move |load, mut connection, number| {
        let echo = echo.clone();
        async move {
            connection.echo(echo.clone()).await?;
            connection.echo(echo).await?;
            load.arrived(number);
            Ok(())
        }
    })?;
    load.finish("two echo hops", target).await
}

/// One open loop and what it has seen.
struct Load {
    pace: Pace,
    progress: Arc<Progress>,
    /// Numbers are given in order, so a count of them and a count of arrivals say what is missing.
    sent: Mutex<u64>,
    latencies: Mutex<Latencies>,
}

impl Load {
    fn new(rate: f64) -> Arc<Self> {
        let (pace, progress) = (Pace::begin(rate), Arc::new(Progress::new()));
        Arc::new(Self { pace, progress, sent: Mutex::new(0), latencies: Mutex::default() })
    }

    /// Begins `work` for every message that falls due, on the connections in turn.
    fn drive<F>(
        self: &Arc<Self>,
        connections: Vec<Connection>,
        work: impl Fn(Arc<Self>, Connection, u64) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let load = Arc::clone(self);
        let count = connections.len() as u64;
        self.pace.drive(Arc::clone(&self.progress), move |number| {
            *lock(&load.sent) = number + 1;
            load.observe("lateness of the generator", number);
            let connection = connections[(number % count) as usize].clone();
            let done = work(Arc::clone(&load), connection, number);
            let progress = Arc::clone(&load.progress);
            tokio::spawn(async move {
                if let Err(error) = done.await {
                    progress.failed(&error);
                }
            });
        })
    }

    /// Records the time from when message `number` was due.
    fn observe(&self, call: &'static str, number: u64) {
        if self.progress.is_measuring() {
            lock(&self.latencies).record(call, self.pace.due(number).elapsed());
        }
    }

    fn arrived(&self, number: u64) {
        self.observe("end to end", number);
        self.progress.did(1);
    }

    async fn finish(&self, scenario: &'static str, target: &Target) -> Result<Report> {
        let window = self.progress.watch(target.extent(), &target.processes()).await?;
        self.all_arrived().await?;
        Ok(self.report(scenario, &window))
    }

    /// Waits for what was sent and had not arrived when the load ended.
    ///
    /// Errors: some never came, and no failed call explains it.
    async fn all_arrived(&self) -> Result<()> {
        let ended = Instant::now();
        loop {
            let missing = lock(&self.sent).saturating_sub(self.progress.messages() + self.progress.errors());
            if missing == 0 {
                return Ok(());
            }
            if ended.elapsed() > ARRIVAL_MAX {
                bail!("{missing} messages that were sent did not arrive within {} s", ARRIVAL_MAX.as_secs());
            }
            time::sleep(ARRIVAL_PERIOD).await;
        }
    }

    fn report(&self, scenario: &'static str, window: &Window) -> Report {
        Report::new(scenario, &self.progress, window, &lock(&self.latencies))
    }
}

/// A receive that always waits, and acknowledges what it got.
struct Consumer {
    load: Arc<Load>,
    run: Run,
    connection: Connection,
    request: Bytes,
    group: String,
    topic: String,
}

impl Consumer {
    /// Works until it is dropped: messages still come after the load is over.
    async fn work(mut self) {
        loop {
            if let Err(error) = self.round().await {
                self.load.progress.failed(&error);
                if self.load.progress.is_stopped() {
                    return;
                }
            }
        }
    }

    async fn round(&mut self) -> Result<()> {
        let leases = self.connection.receive(self.request.clone()).await?;
        for Lease { message_id, .. } in &leases {
            if let Some(number) = self.run.number_of(message_id) {
                self.load.arrived(number);
            }
        }
        if leases.is_empty() {
            return Ok(());
        }
        self.connection.ack(&self.group, &self.topic, leases).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|error| error.to_string())?;
    if !(0.1..=1e6).contains(&rate) {
        return Err(format!("{rate} is not between 0.1 and 1000000 messages a second"));
    }
    Ok(rate)
}
