//! One log line as one JSON object: `ts`, `level`, `target`, `msg`, then the event's own fields.

use std::fmt;

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

pub(crate) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "{{\"ts\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        write!(writer, "\",\"level\":\"{}\",\"target\":\"{}\"", metadata.level(), metadata.target())?;
        let mut fields = Fields { writer: &mut writer, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        writeln!(writer, "}}")
    }
}

struct Fields<'w, 'a> {
    writer: &'w mut Writer<'a>,
    outcome: fmt::Result,
}

impl Fields<'_, '_> {
    fn write(&mut self, field: &Field, value: impl fmt::Display) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.outcome = self.outcome.and_then(|()| write!(self.writer, ",\"{name}\":{value}"));
    }
}

impl Visit for Fields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, serde_json::Value::from(value)); // not a number becomes null
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, serde_json::Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, serde_json::Value::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one writer").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_it_says() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).event_format(Json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(topic = "a\"b\n", n = 7_u64, ratio = f64::NAN, ok = true, error = ?"x", "said \"so\"");
        });
        let text = String::from_utf8(lines.0.lock().expect("written").clone()).expect("text");
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).expect("an object");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(line["msg"], "said \"so\"");
        assert_eq!(line["topic"], "a\"b\n");
        assert_eq!(line["n"], 7);
        assert_eq!(line["level"], "INFO");
        assert!(line["ratio"].is_null());
    }
}
