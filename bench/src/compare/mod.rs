//! The server beside the bare echo, and beside peers, in one run: every round does the same steps
//! and every other round does them backwards, so that a machine that changes its mood changes it
//! for all. What counts is the ratio within a round.

mod ratios;
mod servers;

use std::{
    fmt::{self, Display, Formatter},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use self::{
    ratios::{Figure, Goal, Row, cpu, p50, p99, p99_9, rate},
    servers::{Launch, Server, Start},
};
use crate::{
    disk, e2e,
    machine::{Machine, Ticks},
    receive,
    report::Report,
    send,
    target::{Shape, Target, seconds},
};

/// Share of the slower rate at which latency is measured.
const LATENCY_LOAD: f64 = 0.2;
/// Receives in flight: more would only wait for the same two CPUs.
const RECEIVES: u32 = 16;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The server to measure
    #[arg(long, default_value = "target/release/centaur")]
    pub(crate) binary: PathBuf,
    /// Rounds; the steps of every other round run backwards
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..))]
    pub(crate) rounds: u32,
    /// Measured time of a step, in seconds
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) duration: f64,
    /// Time before the measured time of a step, in seconds
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Body of a message, in bytes
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Connections of a step
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// Sends in flight
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Messages received in a receive step
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) receive_messages: u64,
    /// Directory in which data directories are made; the temporary one of the system unless given
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
    /// Setting for the server, as key=value; may be repeated
    #[arg(long = "set")]
    pub(crate) settings: Vec<String>,
    /// Another server to measure in the same rounds, as name=host:port,pid[,pid...]; may be repeated
    #[arg(long = "peer")]
    pub(crate) peers: Vec<Peer>,
}

/// A server that is already running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    pub(crate) pid: Vec<u32>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("give it as name=host:port,pid")?;
        let mut parts = rest.split(',');
        let endpoint = parts.next().filter(|endpoint| endpoint.contains(':')).ok_or("the endpoint has no port")?;
        let pid =
            parts.map(|pid| pid.parse().map_err(|_| format!("{pid:?} is no process id"))).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), endpoint: endpoint.to_owned(), pid })
    }
}

/// All that a comparison showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    pub(crate) body_bytes: usize,
    pub(crate) connections: u16,
    pub(crate) in_flight: u32,
    /// Messages a second in the end to end steps.
    pub(crate) latency_rate: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) disk: disk::Probe,
    pub(crate) samples: Vec<Sample>,
}

/// One step of one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) step: String,
    /// CPU time that the host gave to others meanwhile; distrust a sample with more than 1 %.
    pub(crate) stolen_percent: f64,
    pub(crate) report: Report,
}

#[derive(Clone, Copy, Debug)]
enum Load {
    Send(Shape),
    Receive,
    EndToEnd,
    TwoHops,
}

/// What every round does once.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    load: Load,
    endpoint: String,
    pid: Vec<u32>,
}

/// Starts the servers, measures, and stops them.
///
/// Errors: a server does not start or ends, or any call of a measured load fails.
pub(crate) async fn run(options: &Options) -> Result<Comparison> {
    let directory = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let disk = probe(directory.clone(), options).await?;
    let launch = Launch { binary: options.binary.clone(), directory, settings: options.settings.clone() };
    let mut starts = Vec::new();
    for _ in 0..options.rounds {
        starts.push(Server::start_cost(&launch).await.context("the first message after a start failed")?);
    }
    let (echo, quick, durable) = (Server::echo().await?, launch.start("async").await?, launch.start("sync").await?);
    let steps = steps(&echo, &quick, &durable, &options.peers);
    let latency_rate = LATENCY_LOAD * slowest_rate(options, &steps).await?;
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        let mut order: Vec<_> = steps.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for step in order {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, step.name);
            samples.push(step.sample(options, round, latency_rate).await?);
        }
    }
    Ok(Comparison {
        machine: Machine::describe(),
        rounds: options.rounds,
        body_bytes: options.size,
        connections: options.connections,
        in_flight: options.in_flight,
        latency_rate,
        rows: rows(&samples, &starts, &options.peers),
        disk,
        samples,
    })
}

async fn probe(directory: PathBuf, options: &Options) -> Result<disk::Probe> {
    let size = u32::try_from(options.size.max(1))?;
    let probe = disk::Options { directory, size, batch: vec![1, 16, 64], duration: 1.0 };
    tokio::task::spawn_blocking(move || disk::run(&probe)).await?
}

fn steps(echo: &Server, quick: &Server, durable: &Server, peers: &[Peer]) -> Vec<Step> {
    let step = |name: &str, load, server: &Server| Step {
        name: name.to_owned(),
        load,
        endpoint: server.endpoint.clone(),
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
        let step =
            |(what, load)| Step { name: format!("{what} {name}"), load, endpoint: endpoint.clone(), pid: pid.clone() };
        steps.extend(loads.map(step));
    }
    steps
}

/// The lowest rate of any send, from a round that is not counted and warms everything up.
async fn slowest_rate(options: &Options, steps: &[Step]) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for step in steps.iter().filter(|step| matches!(step.load, Load::Send(_)) && step.name != "send sync") {
        eprintln!("warming up: {}", step.name);
        slowest = slowest.min(step.run(options, 0, 0.0).await?.rate);
    }
    Ok(slowest)
}

impl Step {
    async fn sample(&self, options: &Options, round: u32, latency_rate: f64) -> Result<Sample> {
        let before = Ticks::now();
        let report = self.run(options, round, latency_rate).await?;
        Ok(Sample { round, step: self.name.clone(), stolen_percent: Ticks::now().stolen_percent(&before), report })
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

fn rows(samples: &[Sample], starts: &[Start], peers: &[Peer]) -> Vec<Row> {
    use Goal::{AtLeast, AtMost, Open};
    let against = |name: &str, goal, figure, step: &str, reference: &str| {
        Row::ratio(name, goal, samples, figure, step, reference)
    };
    let first_ok = starts.iter().map(|start| start.first_ok.as_secs_f64() * 1e3).collect();
    let idle = starts.iter().map(|start| start.idle_bytes as f64 / f64::from(1 << 20)).collect();
    let own = [
        against("bare SendMessage: CPU per message / echo", Open, cpu, "bare send", "echo"),
        against("send, async flush: CPU per message / echo", AtMost(1.1), cpu, "send", "echo"),
        against("send, async flush: rate / echo", AtLeast(0.9), rate, "send", "echo"),
        against("send, sync flush: CPU per message / echo", Open, cpu, "send sync", "echo"),
        against("send, sync flush: rate / echo", AtLeast(0.85), rate, "send sync", "echo"),
        against("receive + ack by 32: CPU per message / echo", AtMost(1.0 / 3.0), cpu, "receive", "echo"),
        against("receive + ack by 32: rate / echo", AtLeast(3.0), rate, "receive", "echo"),
        against("end to end p50 / two echo hops", AtMost(1.5), p50, "end to end", "two echo hops"),
        against("end to end p99 / two echo hops", AtMost(2.0), p99, "end to end", "two echo hops"),
        against("end to end p99.9 / two echo hops", AtMost(4.0), p99_9, "end to end", "two echo hops"),
        Row::new("start on an empty directory to first OK", "ms", AtMost(100.0), first_ok),
        Row::new("resident memory, idle", "MiB", AtMost(24.0), idle),
    ];
    let of_peer = |Peer { name, .. }: &Peer| {
        let row = |title: &str, goal, figure, step: &str| {
            against(&format!("{title} / {name}"), goal, figure, step, &format!("{step} {name}"))
        };
        [
            row("send, async flush: CPU per message", AtMost(0.2), cpu, "send"),
            row("send, async flush: rate", Open, rate, "send"),
            row("receive + ack by 32: CPU per message", Open, cpu, "receive"),
            row("end to end p99", Open, p99, "end to end"),
        ]
    };
    own.into_iter().chain(peers.iter().flat_map(of_peer)).flatten().collect()
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu: model, cpus, kernel, .. } = &self.machine;
        writeln!(f, "{cpus} x {model}, Linux {kernel}")?;
        let Self { rounds, body_bytes, connections, in_flight, latency_rate, .. } = self;
        write!(f, "{rounds} rounds, {body_bytes} B, {in_flight} in flight over {connections} connections; ")?;
        writeln!(f, "end to end at {latency_rate:.0} messages/s\n")?;
        writeln!(f, "{:<54} {:>9} {:>9} {:>9}  goal", "", "median", "min", "max")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f, "\nmedians by step{:>39} {:>9} {:>9}", "CPU s/M", "msg/s", "client")?;
        for step in self.steps() {
            let middle =
                |figure: Figure| self.median(step, figure).map_or("-".to_owned(), |value| format!("{value:.1}"));
            let (cpu, rate) = (middle(cpu), middle(rate));
            let client = middle(|report| report.generator_cpu_per_million);
            writeln!(f, "{step:<44} {cpu:>9} {rate:>9} {client:>9}")?;
        }
        let most = self.samples.iter().map(|sample| sample.stolen_percent).fold(0.0, f64::max);
        writeln!(f, "\nCPU time stolen by the host, at most: {most:.1} % of a step\n\n{}", self.disk)
    }
}

impl Comparison {
    /// The names of the steps, in the order of the first round.
    fn steps(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().filter(|sample| sample.round == 0).map(|sample| sample.step.as_str())
    }

    fn median(&self, step: &str, figure: Figure) -> Option<f64> {
        let figures = self.samples.iter().filter(|sample| sample.step == step);
        let figures = figures.filter_map(|sample| figure(&sample.report)).collect();
        Row::new(step, "", Goal::Open, figures).map(|row| row.median)
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, unit, median, min, max, .. } = self;
        write!(f, "{:<54} {median:>9.3} {min:>9.3} {max:>9.3}", format!("{name}, {unit}"))?;
        let verdict = match self.holds {
            Some(true) => "holds",
            Some(false) => "missed",
            None => "",
        };
        match self.goal {
            Goal::AtMost(bound) => write!(f, "  <= {bound:.3} {verdict}"),
            Goal::AtLeast(bound) => write!(f, "  >= {bound:.3} {verdict}"),
            Goal::Open => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_an_endpoint_and_processes() {
        let peer = Peer { name: "other".into(), endpoint: "127.0.0.1:8081".into(), pid: vec![7, 8] };
        assert_eq!("other=127.0.0.1:8081,7,8".parse(), Ok(peer));
        for wrong in ["", "other", "other=here", "other=127.0.0.1:1,x"] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong:?} passed");
        }
    }
}
