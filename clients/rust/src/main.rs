//! Drives the official Rust client: `<endpoint> <scenario> [key=value ...]`.

mod arguments;
mod clients;
mod input;
mod kinds;
mod messages;
mod output;
mod scenario;

use std::process::ExitCode;

use arguments::Arguments;
use output::{StepFailed, StepResult};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(StepFailed { step, error }) => {
            output::failure(step, &error);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> StepResult<()> {
    match arguments.scenario.as_str() {
        "basic" => scenario::basic::run(arguments).await,
        "unknown" => scenario::unknown::run(arguments).await,
        "send" => scenario::transfer::send(arguments).await,
        "read" => scenario::transfer::read(arguments).await,
        "hold" => scenario::hold::run(arguments).await,
        "retry" => scenario::retry::run(arguments).await,
        "transaction" => scenario::transaction::run(arguments).await,
        "survive" => scenario::survive::run(arguments).await,
        other => Err(StepFailed::new("program", format!("there is no scenario named {other}"))),
    }
}
