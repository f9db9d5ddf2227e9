//! Logs and metrics of a process: one [`init`], one [`Guard`].
//!
//! Roles speak to the `tracing` and `metrics` facades; this crate alone knows where that goes.

mod json;
mod logs;
mod metrics;
mod process;

use std::io;

use thiserror::Error;

pub use crate::metrics::Guard;

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Comma-separated: a default level, then `target=level`, such as `info,store=debug`.
    pub level: String,
    pub format: Format,
    /// Name and value pairs of the `centaur_build_info` series.
    pub build: Vec<(&'static str, String)>,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    Text,
    /// One object per line.
    Json,
}

/// Why logs or metrics could not be set up.
#[derive(Debug, Error)]
pub enum InitError {
    #[error("log level {level:?} is not one: {reason}")]
    Level { level: String, reason: String },
    #[error("logs or metrics are already set up in this process")]
    Twice,
    #[error("the process cannot be measured: {0}")]
    Process(#[from] io::Error),
}

/// Sets up logs on standard error, the log of panics, and metrics; once per process.
///
/// Errors: `Level` when the level cannot be read, `Twice` at the second call.
pub fn init(config: &Config) -> Result<Guard, InitError> {
    logs::install(&config.level, config.format)?;
    logs::log_panics();
    metrics::install(&config.build)
}

/// Says why a log level cannot be read, without setting anything up.
///
/// Errors: `Level` with the reason.
pub fn check_level(level: &str) -> Result<(), InitError> {
    logs::targets(level).map(drop)
}
