//! From samples to rows: one figure a round, and of those the median with its extremes.

use serde::Serialize;

use super::Sample;
use crate::report::Report;

/// What a row holds the figure against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Shown for the reader's sake.
    Open,
}

/// One figure over all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Whether the median reaches the goal; none without a goal.
    pub(crate) holds: Option<bool>,
    pub(crate) rounds: Vec<f64>,
}

/// A figure of one report.
pub(crate) type Figure = fn(&Report) -> Option<f64>;

pub(crate) fn cpu(report: &Report) -> Option<f64> {
    report.cpu_per_million()
}

pub(crate) fn rate(report: &Report) -> Option<f64> {
    Some(report.rate)
}

pub(crate) fn p50(report: &Report) -> Option<f64> {
    Some(report.latency.get("end to end")?.p50 as f64)
}

pub(crate) fn p99(report: &Report) -> Option<f64> {
    Some(report.latency.get("end to end")?.p99 as f64)
}

pub(crate) fn p99_9(report: &Report) -> Option<f64> {
    Some(report.latency.get("end to end")?.p99_9 as f64)
}

impl Row {
    /// A row of plain figures; none when there are none.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, goal: Goal, rounds: Vec<f64>) -> Option<Self> {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        let holds = match goal {
            Goal::AtMost(bound) => Some(median <= bound),
            Goal::AtLeast(bound) => Some(median >= bound),
            Goal::Open => None,
        };
        Some(Self { name: name.into(), unit, goal, median, min, max, holds, rounds })
    }

    /// One figure of every sample of a step; none when no sample has it.
    pub(crate) fn of_step(
        name: impl Into<String>,
        unit: &'static str,
        goal: Goal,
        samples: &[Sample],
        step: &str,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Self> {
        let samples = samples.iter().filter(|sample| sample.step == step);
        Self::new(name, unit, goal, samples.filter_map(figure).collect())
    }

    /// The figure of one step divided by that of another in the same round.
    pub(crate) fn ratio(
        name: impl Into<String>,
        goal: Goal,
        samples: &[Sample],
        figure: Figure,
        step: &str,
        reference: &str,
    ) -> Option<Self> {
        let of = |step: &str, round| {
            let sample = samples.iter().find(|sample| sample.round == round && sample.step == step)?;
            figure(&sample.report)
        };
        let rounds = samples.iter().filter(|sample| sample.step == step);
        let ratio = |sample: &Sample| Some(figure(&sample.report)? / of(reference, sample.round)?);
        Self::new(name, "x", goal, rounds.filter_map(ratio).filter(|ratio| ratio.is_finite()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sample(round: u32, step: &str, rate: f64) -> Sample {
        let report = Report {
            scenario: "send",
            messages: 1,
            seconds: 1.0,
            rate,
            errors: 0,
            first_error: None,
            latency: BTreeMap::new(),
            server: None,
            generator_cpu_per_million: None,
        };
        Sample { round, step: step.into(), stolen_percent: 0.0, messages_per_block: None, report }
    }

    #[test]
    fn a_ratio_pairs_the_steps_of_one_round() {
        let rates = [(0, "send", 8.0), (0, "echo", 10.0), (1, "echo", 20.0), (1, "send", 18.0), (2, "send", 1.0)];
        let samples: Vec<_> = rates.into_iter().map(|(round, step, rate)| sample(round, step, rate)).collect();
        let row = Row::ratio("rate", Goal::AtLeast(0.85), &samples, rate_of, "send", "echo").expect("a row");
        assert_eq!(row.rounds, [0.8, 0.9]);
        assert_eq!((row.min, row.max, row.holds), (0.8, 0.9, Some(true)));
        assert!((row.median - 0.85).abs() < 1e-9);
        assert!(Row::ratio("cpu", Goal::Open, &samples, cpu, "send", "echo").is_none());
    }

    fn rate_of(report: &Report) -> Option<f64> {
        rate(report)
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let row = |rounds: &[f64]| Row::new("row", "ms", Goal::AtMost(3.0), rounds.to_vec());
        assert_eq!(row(&[9.0, 1.0, 2.0]).map(|row| (row.median, row.holds)), Some((2.0, Some(true))));
        assert_eq!(row(&[9.0, 1.0, 2.0, 8.0]).map(|row| (row.median, row.holds)), Some((5.0, Some(false))));
        assert!(row(&[]).is_none());
    }
}
