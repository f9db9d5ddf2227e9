//! Numbers of the process in the Prometheus text form.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{InitError, process::Process};

/// Upper bounds of histograms whose name ends in `_seconds`.
const SECONDS: [f64; 16] =
    [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds of histograms whose name ends in `_bytes`.
const BYTES: [f64; 11] =
    [64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
/// Upper bounds of all others, which count things.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0];

/// Keeps what was set up; gives the numbers.
#[derive(Clone)]
pub struct Guard {
    prometheus: PrometheusHandle,
    process: Process,
}

impl Guard {
    /// Every series as Prometheus text, the process's own included.
    pub fn render(&self) -> String {
        let mut text = self.prometheus.render();
        self.process.render(&mut text);
        text
    }

    /// Folds what histograms gathered since the last call; without it they grow between scrapes.
    pub fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }
}

pub(crate) fn install(build: &[(&'static str, String)]) -> Result<Guard, InitError> {
    let prometheus = builder().expect("the bounds above are not empty").install_recorder();
    let prometheus = prometheus.map_err(|_| InitError::Twice)?;
    metrics::describe_gauge!("centaur_build_info", "What is running; always 1");
    let labels: Vec<_> = build.iter().map(|(name, value)| metrics::Label::new(*name, value.clone())).collect();
    metrics::gauge!("centaur_build_info", labels).set(1.0);
    Ok(Guard { prometheus, process: Process::open()? })
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_and_process_come_in_one_text() {
        let guard = install(&[("version", "1.2.3".into())]).expect("first in this process");
        metrics::histogram!("centaur_test_seconds").record(0.002);
        let text = guard.render();
        for expected in [
            "centaur_build_info{version=\"1.2.3\"} 1",
            "centaur_test_seconds_bucket{le=\"0.0025\"} 1",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
        }
        assert!(matches!(install(&[]), Err(InitError::Twice)));
    }
}
