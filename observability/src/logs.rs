//! Log lines on standard error: which are written, and in which form.

use std::{
    env,
    io::{self, IsTerminal as _},
    panic,
};

use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{Format, InitError, json::Json};

/// Parts of the program that a level may name without the prefix of their crates.
const PARTS: [&str; 4] = ["cli", "observability", "proxy", "store"];

pub(crate) fn install(level: &str, format: Format) -> Result<(), InitError> {
    let targets = targets(level)?;
    let layer = match format {
        Format::Text => fmt::layer().with_writer(io::stderr).with_ansi(is_coloured()).boxed(),
        Format::Json => fmt::layer().with_writer(io::stderr).event_format(Json).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().map_err(|_| InitError::Twice)
}

/// What is not said unless it is asked for: clients that name an address where TLS wants a host name
/// would each be a warning at every connection.
const QUIET: &str = "rustls::msgs::handshake=error";

/// Reads a level such as `info,store=debug`.
pub(crate) fn targets(level: &str) -> Result<Targets, InitError> {
    let mut full: Vec<String> = level.split(',').map(|part| full_target(part.trim())).collect();
    if !full.iter().any(|directive| directive.starts_with("rustls") || directive == "off") {
        full.push(QUIET.to_owned());
    }
    let parsed = full.join(",").parse::<Targets>();
    parsed.map_err(|error| InitError::Level { level: level.to_owned(), reason: error.to_string() })
}

fn full_target(directive: &str) -> String {
    let name = directive.split(['=', ':']).next().unwrap_or_default();
    match directive.strip_prefix(name) {
        Some(rest) if name == "cli" => format!("centaur{rest}"),
        Some(rest) if PARTS.contains(&name) => format!("centaur_{name}{rest}"),
        _ => directive.to_owned(),
    }
}

/// Makes a panic a log line like any other, so that whoever collects lines sees it.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("no text");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(location, error = message, %backtrace, "panic");
    }));
}

fn is_coloured() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_shortly() {
        let targets = targets("warn, store=debug,proxy::messaging=trace,h2=error").expect("a level");
        let would = |target, level| targets.would_enable(target, &level);
        assert!(would("centaur_store::log", tracing::Level::DEBUG));
        assert!(would("centaur_proxy::messaging", tracing::Level::TRACE));
        assert!(!would("centaur_proxy", tracing::Level::INFO));
        assert!(!would("h2", tracing::Level::WARN));
    }

    #[test]
    fn warnings_about_addresses_in_handshakes_are_not_said_unless_asked_for() {
        for (level, said) in [("info", false), ("off", false), ("info,rustls=warn", true)] {
            let targets = targets(level).expect("a level");
            assert_eq!(targets.would_enable("rustls::msgs::handshake", &tracing::Level::WARN), said, "{level}");
        }
    }

    #[test]
    fn a_wrong_level_is_refused() {
        assert!(matches!(targets("store=loud"), Err(InitError::Level { .. })));
    }
}
