//! The server beside the bare echo, and beside peers, in one run: every round does the same steps
//! and every other round does them backwards, so that a machine that changes its mood changes it
//! for all. What counts is the ratio within a round.

pub(crate) mod ratios;
mod restart;
pub(crate) mod scrape;
pub(crate) mod servers;
mod steps;
pub(crate) mod table;

use std::{fs, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use self::{
    ratios::{Goal, Row, cpu, p50, p99, p99_9, rate},
    servers::{Launch, Server, Start},
};
use crate::{disk, machine::Machine, report::Report, target::seconds};

/// Share of the slower rate at which latency is measured.
const LATENCY_LOAD: f64 = 0.2;

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
    /// Bodies in the log of the server that is killed and started again, in GiB; 0 leaves that out
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=1024))]
    pub(crate) restart_gib: u64,
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
    /// Measured time of a step.
    pub(crate) seconds: f64,
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
    /// How many messages shared a block of the log; none where nothing was written.
    pub(crate) messages_per_block: Option<f64>,
    pub(crate) report: Report,
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
    let steps = steps::steps(&echo, &quick, &durable, &options.peers);
    let latency_rate = LATENCY_LOAD * steps::slowest_rate(options, &steps).await?;
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
    drop((echo, quick, durable));
    let restarts = restarts(&launch, options).await?;
    let binary_bytes = fs::metadata(&options.binary)?.len();
    let once = once_rows(&starts, &restarts, options.restart_gib, binary_bytes);
    Ok(Comparison {
        machine: Machine::describe(),
        rounds: options.rounds,
        seconds: options.duration,
        body_bytes: options.size,
        connections: options.connections,
        in_flight: options.in_flight,
        latency_rate,
        rows: rows(&samples, options).into_iter().chain(once).collect(),
        disk,
        samples,
    })
}

async fn probe(directory: PathBuf, options: &Options) -> Result<disk::Probe> {
    let size = u32::try_from(options.size.max(1))?;
    let probe = disk::Options { directory, size, batch: vec![1, 16, 64], duration: 1.0 };
    tokio::task::spawn_blocking(move || disk::run(&probe)).await?
}

async fn restarts(launch: &Launch, options: &Options) -> Result<Vec<Duration>> {
    if options.restart_gib == 0 {
        return Ok(Vec::new());
    }
    eprintln!("restarts with {} GiB of log", options.restart_gib);
    restart::run(launch, options.restart_gib << 30, options.rounds).await
}

/// What the rounds showed.
fn rows(samples: &[Sample], options: &Options) -> Vec<Row> {
    use Goal::{AtLeast, AtMost, Open};
    let against = |name: &str, goal, figure, step: &str, reference: &str| {
        Row::ratio(name, goal, samples, figure, step, reference)
    };
    let written = |name: &str, goal, step: &str| {
        let per_byte = |sample: &Sample| Some(sample.report.written_per_message()? / options.size as f64);
        Row::of_step(name, "x", goal, samples, step, per_byte)
    };
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
        written("send, async flush: device bytes per byte of body", AtMost(1.15), "send"),
        written("send, sync flush: device bytes per byte of body", AtMost(1.3), "send sync"),
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
    own.into_iter().chain(options.peers.iter().flat_map(of_peer)).flatten().collect()
}

/// What is measured outside of the rounds.
fn once_rows(starts: &[Start], restarts: &[Duration], restart_gib: u64, binary_bytes: u64) -> Vec<Row> {
    use Goal::AtMost;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let first_ok = starts.iter().map(|start| milliseconds(start.first_ok)).collect();
    let idle = starts.iter().map(|start| mebibytes(start.idle_bytes)).collect();
    let back = restarts.iter().copied().map(milliseconds).collect();
    let rows = [
        Row::new("start on an empty directory to first OK", "ms", AtMost(100.0), first_ok),
        Row::new(format!("restart after kill -9, {restart_gib} GiB, to first OK"), "ms", AtMost(1000.0), back),
        Row::new("resident memory, idle", "MiB", AtMost(24.0), idle),
        Row::new("size of the binary", "MiB", AtMost(20.0), vec![mebibytes(binary_bytes)]),
    ];
    rows.into_iter().flatten().collect()
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
