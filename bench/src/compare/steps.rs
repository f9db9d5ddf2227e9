//! What every round does: one load on one server, and what it cost.

use anyhow::{Context as _, Result, bail};

use super::{Options, Peer, Sample, scrape, servers::Server};
use crate::{
    e2e,
    machine::Ticks,
    receive,
    report::Report,
    send,
    target::{Shape, Target},
};

/// Receives in flight: more would only wait for the same two CPUs.
const RECEIVES: u32 = 16;

#[derive(Clone, Copy, Debug)]
enum Load {
    Send(Shape),
    Receive,
    EndToEnd,
    TwoHops,
}

/// What every round does once.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    load: Load,
    endpoint: String,
    /// Where its metrics are; none for the echo and for peers.
    operators: Option<String>,
    pid: Vec<u32>,
}

/// The steps of a round, in order.
pub(crate) fn steps(echo: &Server, quick: &Server, durable: &Server, peers: &[Peer]) -> Vec<Step> {
    let step = |name: &str, load, server: &Server| Step {
        name: name.to_owned(),
        load,
        endpoint: server.endpoint.clone(),
        operators: server.operators.clone(),
        pid: vec![server.pid],
    };
    let mut steps = vec![
        step("echo", Load::Send(Shape::Echo), echo),
        step("bare send", Load::Send(Shape::Bare), echo),
        step("send", Load::Send(Shape::Send), quick),
        step("send sync", Load::Send(Shape::Send), durable),
        step("receive", Load::Receive, quick),
        step("two echo hops", Load::TwoHops, echo),
        step("end to end", Load::EndToEnd, quick),
    ];
    for Peer { name, endpoint, pid } in peers {
        let loads = [("send", Load::Send(Shape::Send)), ("receive", Load::Receive), ("end to end", Load::EndToEnd)];
        steps.extend(loads.map(|(what, load)| Step {
            name: format!("{what} {name}"),
            load,
            endpoint: endpoint.clone(),
            operators: None,
            pid: pid.clone(),
        }));
    }
    steps
}

/// The lowest rate of any send without syncs, from a round that is not counted and warms everything
/// up.
pub(crate) async fn slowest_rate(options: &Options, steps: &[Step]) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for step in steps.iter().filter(|step| matches!(step.load, Load::Send(_)) && step.name != "send sync") {
        eprintln!("warming up: {}", step.name);
        slowest = slowest.min(step.run(options, 0, 0.0).await?.rate);
    }
    Ok(slowest)
}

impl Step {
    /// Does the step and notes what it cost.
    ///
    /// Units: `latency_rate` in messages a second, for the steps that keep a rate.
    /// Errors: any call of the load fails, or a process is gone.
    pub(crate) async fn sample(&self, options: &Options, round: u32, latency_rate: f64) -> Result<Sample> {
        let (before, stored_before) = (Ticks::now(), self.stored().await?);
        let report = self.run(options, round, latency_rate).await?;
        let (after, stored) = (Ticks::now(), self.stored().await?);
        let messages_per_block = stored_before.zip(stored).and_then(|(before, after)| after.messages_per_block(before));
        Ok(Sample {
            round,
            step: self.name.clone(),
            stolen_percent: after.stolen_percent(&before),
            messages_per_block,
            report,
        })
    }

    async fn stored(&self) -> Result<Option<scrape::Stored>> {
        match &self.operators {
            Some(address) => scrape::stored(address).await.map(Some),
            None => Ok(None),
        }
    }

    async fn run(&self, options: &Options, round: u32, latency_rate: f64) -> Result<Report> {
        let target = |topic: String, in_flight, messages| Target {
            endpoint: self.endpoint.clone(),
            pid: self.pid.clone(),
            group: format!("bench-{topic}"),
            topic,
            size: options.size,
            connections: options.connections,
            in_flight,
            duration: options.duration,
            warm_up: options.warm_up,
            messages,
        };
        let report = match self.load {
            Load::Send(shape) => {
                let target = target("send".into(), options.in_flight, None);
                send::run(&send::Options { target, shape, batch: 1 }).await
            }
            Load::Receive => {
                let target = target(format!("receive-{round}"), RECEIVES, Some(options.receive_messages));
                receive::run(&receive::Options { target, batch: 32, backlog: None }).await
            }
            Load::EndToEnd | Load::TwoHops => {
                let target = target(format!("end-to-end-{round}"), options.in_flight, None);
                let echo = matches!(self.load, Load::TwoHops);
                e2e::run(&e2e::Options { target, rate: latency_rate, echo, batch: 32 }).await
            }
        };
        let report = report.with_context(|| format!("step {:?} failed", self.name))?;
        match &report.first_error {
            Some(error) => bail!("step {:?}: {} calls failed, the first with: {error}", self.name, report.errors),
            None => Ok(report),
        }
    }
}
