//! A comparison as people read it: plain text, and Markdown for a page.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{
    Comparison, Sample,
    ratios::{Goal, Row, cpu, rate},
};

/// Medians of every step.
pub(crate) struct StepMedians<'a>(Vec<StepMedian<'a>>);

/// Medians of one step over all rounds.
struct StepMedian<'a> {
    step: &'a str,
    cpu_per_million: Option<f64>,
    rate: Option<f64>,
    generator_cpu_per_million: Option<f64>,
    messages_per_block: Option<f64>,
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.conditions())?;
        writeln!(f, "{:<62} {:>9} {:>9} {:>9}  goal", "", "median", "min", "max")?;
        for Row { name, unit, median, min, max, goal, holds, .. } in &self.rows {
            let name = format!("{name}, {unit}");
            write!(f, "{name:<62} {median:>9.3} {min:>9.3} {max:>9.3}")?;
            writeln!(f, "  {} {}", bound(*goal), verdict(*holds))?;
        }
        writeln!(f, "\n{}", StepMedians::of(&self.samples))?;
        writeln!(f, "{}", self.disk)
    }
}

impl Comparison {
    /// The comparison as Markdown: the machine, a table of rows, a table of steps, and one of the disk.
    pub(crate) fn to_markdown(&self) -> String {
        let mut page = format!("{}.\n\n", self.conditions());
        let rows = self.rows.iter().map(|row| {
            let Row { name, unit, median, min, max, goal, holds, .. } = row;
            let [median, min, max] = [*median, *min, *max].map(figure);
            vec![name.clone(), (*unit).to_owned(), median, min, max, bound(*goal), verdict(*holds).to_owned()]
        });
        table(&mut page, &["Row", "Unit", "Median", "Lowest", "Highest", "Goal", "Verdict"], rows);
        StepMedians::of(&self.samples).write_markdown(&mut page);
        let record_bytes = self.disk.record_bytes;
        page.push_str(&format!("\nThe disk by itself, `pwrite` and `fdatasync` of records of {record_bytes} B.\n\n"));
        let disk = self.disk.rows.iter().map(|row| {
            let [p50, p99] = [row.latency.p50, row.latency.p99].map(|us| us.to_string());
            vec![row.records_per_sync.to_string(), figure(row.records_per_second), p50, p99]
        });
        table(&mut page, &["Records a sync", "Records/s", "p50, µs", "p99, µs"], disk);
        page
    }

    /// The machine and the load, in one line.
    fn conditions(&self) -> String {
        let Self { machine, rounds, seconds, body_bytes, connections, in_flight, latency_rate, .. } = self;
        let stolen = stolen_percent(&self.samples);
        format!(
            "{machine}; {rounds} rounds of {seconds} s a step, bodies of \
             {body_bytes} B, {in_flight} sends in flight over {connections} connections, end to end at \
             {latency_rate:.0} messages/s; CPU time stolen by the host: {stolen:.1} % of a step at most"
        )
    }
}

impl<'a> StepMedians<'a> {
    /// The steps in the order of the first round.
    pub(crate) fn of(samples: &'a [Sample]) -> Self {
        let first = samples.iter().filter(|sample| sample.round == 0);
        Self(first.map(|sample| StepMedian::of(samples, &sample.step)).collect())
    }

    pub(crate) fn write_markdown(&self, page: &mut String) {
        page.push_str("\nMedians by step; the generator runs on the same machine.\n\n");
        let steps = self.0.iter().map(|median| {
            let [cpu, rate, generator, block] = median.cells();
            vec![median.step.to_owned(), cpu, rate, generator, block]
        });
        let headings =
            ["Step", "Server CPU s per million", "Messages/s", "Generator CPU s per million", "Messages in a block"];
        table(page, &headings, steps);
    }
}

impl Display for StepMedians<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let headings = ["CPU s/M", "msg/s", "client", "msg/block"];
        write!(f, "{:<62}", "medians by step")?;
        headings.iter().try_for_each(|heading| write!(f, " {heading:>9}"))?;
        writeln!(f)?;
        for median in &self.0 {
            write!(f, "{:<62}", median.step)?;
            median.cells().iter().try_for_each(|cell| write!(f, " {cell:>9}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl<'a> StepMedian<'a> {
    fn of(samples: &[Sample], step: &'a str) -> Self {
        let median = |figure: fn(&Sample) -> Option<f64>| {
            Row::of_step(step, "", Goal::Open, samples, step, figure).map(|row| row.median)
        };
        Self {
            step,
            cpu_per_million: median(|sample| cpu(&sample.report)),
            rate: median(|sample| rate(&sample.report)),
            generator_cpu_per_million: median(|sample| sample.report.generator_cpu_per_million),
            messages_per_block: median(|sample| sample.messages_per_block),
        }
    }

    fn cells(&self) -> [String; 4] {
        [self.cpu_per_million, self.rate, self.generator_cpu_per_million, self.messages_per_block]
            .map(|value| value.map_or_else(|| "-".to_owned(), figure))
    }
}

/// The most CPU time that the host took away during one sample, in percent.
pub(crate) fn stolen_percent(samples: &[Sample]) -> f64 {
    samples.iter().map(|sample| sample.stolen_percent).fold(0.0, f64::max)
}

/// Adds a table to a Markdown page.
pub(crate) fn table(page: &mut String, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let line = |page: &mut String, cells: &str| {
        writeln!(page, "| {cells} |").expect("a string takes everything");
    };
    line(page, &headings.join(" | "));
    line(page, &vec!["---"; headings.len()].join(" | "));
    rows.for_each(|cells| line(page, &cells.join(" | ")));
}

/// As many places as tell a figure from its goal, and no more.
pub(crate) fn figure(value: f64) -> String {
    let places = match value.abs() {
        size if size < 10.0 => 3,
        size if size < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.places$}")
}

fn bound(goal: Goal) -> String {
    match goal {
        Goal::AtMost(bound) => format!("≤ {}", rounded(bound)),
        Goal::AtLeast(bound) => format!("≥ {}", rounded(bound)),
        Goal::Open => String::new(),
    }
}

/// A goal as it is written, without the noise of thirds.
fn rounded(bound: f64) -> f64 {
    (bound * 1e3).round() / 1e3
}

fn verdict(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "holds",
        Some(false) => "missed",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_few_digits_and_goals_fewer() {
        let figures = [0.3333, 1.1529, 24.04, 20_000.4].map(figure);
        assert_eq!(figures, ["0.333", "1.153", "24.0", "20000"]);
        let goals = [Goal::AtMost(1.0 / 3.0), Goal::AtLeast(0.85), Goal::AtMost(1000.0)].map(bound);
        assert_eq!(goals, ["≤ 0.333", "≥ 0.85", "≤ 1000"]);
    }

    #[test]
    fn a_table_is_markdown() {
        let mut page = String::new();
        table(&mut page, &["Row", "Goal"], [vec!["send".to_owned(), bound(Goal::AtMost(1.1))]].into_iter());
        assert_eq!(page, "| Row | Goal |\n| --- | --- |\n| send | ≤ 1.1 |\n");
    }
}
