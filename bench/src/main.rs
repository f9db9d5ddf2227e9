//! Load generator over the public gRPC API, for this server and for any other that speaks it; the
//! bare echo that limits them all; and the comparison of both in one run.
//!
//! How to use it, and what the figures mean: docs/benchmarks.md.

mod client;
mod compare;
mod disk;
mod e2e;
mod echo;
#[cfg(test)]
mod fake;
mod idle;
mod kinds;
mod machine;
mod meter;
mod pace;
mod process;
mod receive;
mod report;
mod requests;
mod send;
mod target;

use std::{fmt::Display, future::Future, net::SocketAddr, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator over the public API, and the bare echo that limits it
#[derive(Debug, Parser)]
#[command(name = "centaur-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
    /// Threads of this process; as many as the machine has CPUs unless given
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    /// Only for compare and kinds
    Markdown,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the bare echo and the bare SendMessage; prints where, as one line of JSON
    Echo {
        /// Address to listen on; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Send in a closed loop
    Send(send::Options),
    /// Receive and acknowledge a backlog that is made first
    Receive(receive::Options),
    /// Send at a fixed rate and time each message until it is received
    E2e(e2e::Options),
    /// Park receives on an empty topic and see what they cost
    Idle(idle::Options),
    /// Start the server and the echo, and measure both in turns
    Compare(compare::Options),
    /// Start the server, and measure every kind of message beside normal ones
    Kinds(kinds::Options),
    /// Probe a disk with bare writes and syncs
    Disk(disk::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<()> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = arguments.threads {
        builder.worker_threads(usize::from(threads));
    }
    let runtime = builder.enable_all().build()?;
    let output = arguments.output;
    if output == Output::Markdown && !matches!(arguments.command, Command::Compare(_) | Command::Kinds(_)) {
        bail!("only compare and kinds can be printed as Markdown; use table or json");
    }
    match arguments.command {
        Command::Echo { listen } => runtime.block_on(echo::run(listen)),
        Command::Send(options) => runtime.block_on(reported(send::run(&options), output)),
        Command::Receive(options) => runtime.block_on(reported(receive::run(&options), output)),
        Command::E2e(options) => runtime.block_on(reported(e2e::run(&options), output)),
        Command::Idle(options) => runtime.block_on(reported(idle::run(&options), output)),
        Command::Compare(options) => {
            let comparison = runtime.block_on(compare::run(&options))?;
            if output == Output::Markdown {
                print!("{}", comparison.to_markdown());
                return Ok(());
            }
            print(&comparison, output)
        }
        Command::Kinds(options) => {
            let survey = runtime.block_on(kinds::run(&options))?;
            if output == Output::Markdown {
                print!("{}", survey.to_markdown());
                return Ok(());
            }
            print(&survey, output)
        }
        Command::Disk(options) => print(&disk::run(&options)?, output),
    }
}

/// Prints the report of a load; a load with errors fails after that.
async fn reported(load: impl Future<Output = Result<Report>>, output: Output) -> Result<()> {
    let report = load.await?;
    print(&report, output)?;
    if report.errors > 0 {
        bail!("{} calls failed", report.errors);
    }
    Ok(())
}

fn print(result: &(impl Display + Serialize), output: Output) -> Result<()> {
    match output {
        Output::Table | Output::Markdown => print!("{result}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(result)?),
    }
    Ok(())
}
