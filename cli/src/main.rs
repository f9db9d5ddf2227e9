//! The binary: the server and the commands to run it.

mod banner;
mod config;
mod data_dir;
mod exit;
mod listener;
mod metrics;
mod operators;
mod ports;
mod roles;
mod serve;
mod signals;
mod tls;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit::Failure;

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
  centaur serve --config centaur.toml            the same with a file
  centaur config check centaur.toml              is the file right?";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the broker
    Serve(serve::Arguments),
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
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(false),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Config(command) => config::command::run(command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "centaur", &mut std::io::stdout());
            Ok(())
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
