//! The binary: the server and the commands to run it.

mod admin;
mod banner;
mod config;
mod data_dir;
mod exit;
mod listener;
mod messaging;
mod metrics;
mod operators;
mod output;
mod ports;
mod roles;
mod serve;
mod signals;
mod tls;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{exit::Failure, output::Output};

// Short-lived allocations of many threads; measured against the system's allocator by the bench.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Centaur, a message broker for every official RocketMQ 5 client
#[derive(Parser, Debug)]
#[command(name = "centaur", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  centaur serve --dev                            a broker on this machine, topics come into being
  centaur produce hello --body hi                send a message to it
  centaur consume hello --group demo             and receive it
  centaur config check centaur.toml              is the file right?";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the broker
    Serve(serve::Arguments),
    /// Send messages
    Produce(messaging::produce::Command),
    /// Receive messages
    Consume(messaging::consume::Command),
    Topic(admin::topic::Command),
    Group(admin::group::Command),
    Message(admin::message::Command),
    Transaction(admin::transaction::Command),
    Dlq(admin::dlq::Command),
    Client(admin::client::Command),
    /// Look at a configuration without starting anything
    #[command(subcommand)]
    Config(config::command::Command),
    /// Print the completions of a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let as_json = command.output() == Output::Json;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(as_json),
    }
}

impl Command {
    /// How it prints its result, and its failure.
    fn output(&self) -> Output {
        match self {
            Self::Produce(command) => command.remote.output,
            Self::Consume(command) => command.remote.output,
            Self::Topic(command) => command.remote.output,
            Self::Group(command) => command.remote.output,
            Self::Message(command) => command.remote.output,
            Self::Transaction(command) => command.remote.output,
            Self::Dlq(command) => command.remote.output,
            Self::Client(command) => command.remote.output,
            Self::Serve(_) | Self::Config(_) | Self::Completions { .. } => Output::Table,
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Produce(command) => admin::block_on(messaging::produce::run(command)),
        Command::Consume(command) => admin::block_on(messaging::consume::run(command)),
        Command::Topic(command) => admin::block_on(admin::topic::run(command)),
        Command::Group(command) => admin::block_on(admin::group::run(command)),
        Command::Message(command) => admin::block_on(admin::message::run(command)),
        Command::Transaction(command) => admin::block_on(admin::transaction::run(command)),
        Command::Dlq(command) => admin::block_on(admin::dlq::run(command)),
        Command::Client(command) => admin::block_on(admin::client::run(command)),
        Command::Config(command) => config::command::run(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "centaur", &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
