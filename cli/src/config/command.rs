//! `centaur config`: look at a configuration without starting anything.

use std::{env, path::PathBuf};

use clap::{Args, Subcommand};

use crate::{
    config::{
        keys::{self, KEYS},
        load::{self, Flags, Loaded, Problem},
    },
    exit::{Exit, Failure},
    output,
};

/// Look at a configuration without starting anything
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Say "ok", or everything that is wrong
    Check(Check),
    /// Print the configuration as it would be used
    Print(Print),
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// File to check; the same as --config
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args, Debug)]
pub(crate) struct Print {
    /// Only what differs from the defaults
    #[arg(long)]
    changed: bool,
    /// Say where each value comes from
    #[arg(long)]
    sources: bool,
    /// As environment variables instead of TOML
    #[arg(long)]
    env: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs `centaur config`.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(check) => {
            let mut flags = check.flags;
            flags.config = check.file.or(flags.config);
            let loaded = from_process(&flags)?;
            output::line(&format!("ok: {} keys set", loaded.origins.len()))
        }
        Command::Print(print) => {
            let loaded = from_process(&print.flags)?;
            output::line(shown_keys(&print, &loaded).trim_end())
        }
    }
}

/// Loads the configuration with the variables of this process.
///
/// Errors: exit 78 with one line for each problem.
pub(crate) fn from_process(flags: &Flags) -> Result<Loaded, Failure> {
    // A variable that is not text cannot be one of ours.
    let environment =
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load::load(flags, environment).map_err(|problems| failure(&problems))
}

fn failure(problems: &[Problem]) -> Failure {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let what = if lines.len() == 1 { "1 problem" } else { "problems" };
    let count = if lines.len() == 1 { String::new() } else { format!("{} ", lines.len()) };
    Failure::new(Exit::Config, format!("the configuration has {count}{what}:\n  {}", lines.join("\n  ")))
        .hint("centaur config print shows every key with its value")
}

fn shown_keys(print: &Print, loaded: &Loaded) -> String {
    let (mut shown, mut table) = (String::new(), "");
    for key in KEYS {
        let origin = loaded.origin(key.path);
        if print.changed && origin == "default" {
            continue;
        }
        let value = (key.get)(&loaded.config);
        if print.env {
            shown += &format!("{}={value}\n", keys::variable(key.path));
            continue;
        }
        let (above, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if above != table {
            shown += &format!("{}[{above}]\n", if table.is_empty() { "" } else { "\n" });
            table = above;
        }
        let from = if print.sources { format!("  # {origin}") } else { format!("  # {}", key.help) };
        shown += &format!("{name} = {}{from}\n", toml_value(&value));
    }
    shown
}

fn toml_value(text: &str) -> String {
    let is_bare = text == "true" || text == "false" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    if is_bare { text.to_owned() } else { toml::Value::from(text).to_string() }
}
