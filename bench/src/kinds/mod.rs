//! Every kind of message beside normal ones, on one server in one run: what it costs to send them,
//! and to receive and acknowledge them. Every round does all kinds once, and every other round does
//! them backwards; what counts is the ratio within a round.

mod kind;
mod stage;
mod table;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use self::{
    kind::{Course, Kind},
    stage::Stage,
};
use crate::{
    compare::{
        Sample,
        ratios::{Goal, Row, cpu},
        servers::Launch,
    },
    machine::Machine,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The server to measure
    #[arg(long, default_value = "target/release/centaur")]
    pub(crate) binary: PathBuf,
    /// Rounds; the kinds of every other round run backwards
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Messages of each kind in a round
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) messages: u64,
    /// Body of a message, in bytes
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4 << 20))]
    pub(crate) size: u32,
    /// Connections of a step
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// Sends in flight
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Message groups of the messages that have one
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) message_groups: u32,
    /// Lite topics; they are made before anything is measured
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) lite_topics: u32,
    /// Directory in which the data directory is made; the temporary one of the system unless given
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
    /// Setting for the server, as key=value; may be repeated
    #[arg(long = "set")]
    pub(crate) settings: Vec<String>,
}

/// All that the rounds showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Survey {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    /// Messages of each kind in a round.
    pub(crate) messages: u64,
    pub(crate) body_bytes: u32,
    pub(crate) connections: u16,
    pub(crate) in_flight: u32,
    /// CPU time of the server per message, divided by that of a normal one.
    pub(crate) rows: Vec<Row>,
    pub(crate) samples: Vec<Sample>,
}

/// What is done with a kind, and the name of its sample.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Receive,
    /// Receive, counted by the messages that a filter looked at.
    Examine,
}

/// Starts the server, measures, and stops it.
///
/// Errors: the server does not start or ends, or any call of a measured load fails.
pub(crate) async fn run(options: &Options) -> Result<Survey> {
    let directory = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let launch = Launch { binary: options.binary.clone(), directory, settings: options.settings.clone() };
    let server = launch.start("async").await?;
    let kinds = kind::all(options);
    let stage = Stage::set_up(&server, options, &kinds).await?;
    let samples = rounds(&stage, &kinds, options.rounds).await?;
    Ok(Survey {
        machine: Machine::describe(),
        rounds: options.rounds,
        messages: options.messages,
        body_bytes: options.size,
        connections: options.connections,
        in_flight: options.in_flight,
        rows: rows(&kinds, &samples),
        samples,
    })
}

async fn rounds(stage: &Stage<'_>, kinds: &[Kind], rounds: u32) -> Result<Vec<Sample>> {
    // Normal messages come first; how long they take here says how far ahead to schedule others.
    eprintln!("warming up");
    let warm_up = stage.play(&kinds[0], "warm-up", Duration::ZERO).await?;
    let sending = Duration::from_secs_f64(warm_up.send.report.seconds);
    let mut samples = Vec::new();
    for round in 0..rounds {
        let mut order: Vec<_> = kinds.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for kind in order {
            eprintln!("round {} of {rounds}: {}", round + 1, kind.name);
            let played = stage.play(kind, &round.to_string(), sending).await;
            let played = played.with_context(|| format!("kind {:?} failed", kind.name))?;
            samples.extend(played.samples(kind, round));
        }
    }
    Ok(samples)
}

/// Every kind but the first against the first.
fn rows(kinds: &[Kind], samples: &[Sample]) -> Vec<Row> {
    let Some((normal, others)) = kinds.split_first() else { return Vec::new() };
    let against = |kind: &Kind, step: Step, reference: Step| {
        let (name, reference) = (step.of(kind), reference.of(normal));
        Row::ratio(format!("{name} / {reference}"), Goal::Open, samples, cpu, &name, &reference)
    };
    let of = |kind: &Kind| {
        let examined = kind.examined_per_delivered().is_some().then_some((Step::Examine, Step::Receive));
        let steps = [Some((Step::Send, Step::Send)), Some((Step::Receive, Step::Receive)), examined];
        steps.into_iter().flatten().filter_map(|(step, reference)| against(kind, step, reference)).collect::<Vec<_>>()
    };
    others.iter().flat_map(of).collect()
}

impl Step {
    fn of(self, kind: &Kind) -> String {
        let name = kind.name;
        match (self, &kind.course) {
            (Self::Send, Course::Committed) => format!("{name}: half + commit"),
            (Self::Send, _) => format!("{name}: send"),
            (Self::Receive, Course::Due) => format!("{name}: come due + receive + ack"),
            (Self::Receive, Course::Filtered(_)) => format!("{name}: receive + ack, by delivered"),
            (Self::Receive, _) => format!("{name}: receive + ack"),
            (Self::Examine, _) => format!("{name}: receive + ack, by examined"),
        }
    }
}
