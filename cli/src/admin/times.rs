//! Times as options take them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::config::values;

/// A span in ms.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a time, in ms since 1970.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    if let Ok(ago) = values::duration(text.trim_start_matches('-').trim_end_matches(" ago")) {
        let then = SystemTime::now().checked_sub(ago).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
        return Ok(then.map_or(0, millis));
    }
    match text.parse::<Timestamp>() {
        Ok(Timestamp { seconds, nanos }) if seconds >= 0 => {
            Ok(seconds.unsigned_abs() * 1000 + u64::from(nanos.unsigned_abs()) / 1_000_000)
        }
        _ => Err(format!("{text:?} is not a time; write it like 30m, 2026-05-01T12:00:00Z or 1777636800000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time("1777636800000"), Ok(1_777_636_800_000));
        assert_eq!(time("2026-05-01T12:00:00.5Z"), Ok(1_777_636_800_500));
        assert!(time("30m").expect("ago") < time("-10m").expect("ago"));
        assert!(time("yesterday").is_err());
    }
}
