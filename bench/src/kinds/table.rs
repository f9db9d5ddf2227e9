//! The survey as people read it: plain text, and Markdown for a page.

use std::fmt::{self, Display, Formatter};

use super::Survey;
use crate::compare::{
    ratios::Row,
    table::{StepMedians, figure, stolen_percent, table},
};

impl Display for Survey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.conditions())?;
        writeln!(f, "{:<82} {:>9} {:>9} {:>9}", "server CPU per message, x", "median", "min", "max")?;
        for Row { name, median, min, max, .. } in &self.rows {
            writeln!(f, "{name:<82} {median:>9.3} {min:>9.3} {max:>9.3}")?;
        }
        writeln!(f, "\n{}", StepMedians::of(&self.samples))
    }
}

impl Survey {
    /// The survey as Markdown: the machine, a table of rows, and a table of steps.
    pub(crate) fn to_markdown(&self) -> String {
        let mut page = format!("{}.\n\n", self.conditions());
        let rows = self.rows.iter().map(|Row { name, median, min, max, .. }| {
            let [median, min, max] = [*median, *min, *max].map(figure);
            vec![name.clone(), median, min, max]
        });
        table(&mut page, &["Server CPU per message", "Median, x", "Lowest", "Highest"], rows);
        StepMedians::of(&self.samples).write_markdown(&mut page);
        page
    }

    /// The machine and the load, in one line.
    fn conditions(&self) -> String {
        let Self { machine, rounds, messages, body_bytes, connections, in_flight, .. } = self;
        let stolen = stolen_percent(&self.samples);
        format!(
            "{machine}; {rounds} rounds of {messages} messages of each kind, bodies of {body_bytes} B, {in_flight} \
             sends in flight over {connections} connections, received in batches of 32, asynchronous flush; CPU time \
             stolen by the host: {stolen:.1} % of a step at most"
        )
    }
}
