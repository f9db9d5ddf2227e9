//! Owns the parts of a store and the thread they live on. Callers send jobs and await answers;
//! everything that is decided is decided here, one job after the other.

mod catalog;
mod consume;
mod contents;
mod dead_letter;
mod duplicates;
mod housekeeper;
mod lite;
mod lives;
mod machine;
mod needed;
mod offsets;
mod origin;
mod produce;
mod query;
mod redrive;
mod retention;
mod schedule;
mod start;
mod transact;
mod upcoming;
mod upkeep;

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use centaur_apis::store::{Error, Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::{log, metrics};

pub use consume::{Grant, Granted};
pub use machine::Machine;
pub use offsets::Page;
pub use produce::batch_bytes;
pub use query::{Answer, Found, Hits};
pub use redrive::{Chosen, Letter};
pub use schedule::Listed;
pub use start::{Engine, OpenError};
pub use transact::{CHECKS_MAX, Undecided};

/// Jobs waiting for the thread; more are refused.
const COMMANDS_MAX: usize = 16_384;
/// Bytes of messages waiting for the thread; more are refused.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Permits stand for this many bytes each.
const PERMIT_BYTES: usize = 1 << 10;

/// Told once what a job decided is confirmed, or that it is unknown whether it will be.
type Settle = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What is asked of the thread.
pub enum Command {
    /// Runs on the thread, with the bytes it may add to the block.
    Job {
        bytes: usize,
        job: Box<dyn FnOnce(&mut Machine) + Send>,
        permit: Option<OwnedSemaphorePermit>,
    },
    Stop,
}

/// Facts of the start that do not change.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub recovered_ms: u64,
    pub was_clean: bool,
    /// Records applied at the start.
    pub replayed: u64,
    /// Where a torn tail was cut, and how many bytes it had.
    pub cut: Option<(u64, u64)>,
}

/// The way to the thread: cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::SyncSender<Command>,
    room: Arc<Semaphore>,
    failed: watch::Receiver<Option<String>>,
}

impl Handle {
    fn new(commands: mpsc::SyncSender<Command>, failed: watch::Receiver<Option<String>>) -> Self {
        Self { commands, room: Arc::new(Semaphore::new(WAITING_BYTES_MAX / PERMIT_BYTES)), failed }
    }

    /// Has a job run and awaits the confirmed outcome. `bytes` is what it may add to the log.
    ///
    /// Errors: what the job says, `Busy` when too much is waiting, `Stopping`.
    /// Cancel: a job that was sent is carried out.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce(&mut Machine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, outcome) = oneshot::channel();
        self.send(bytes, move |machine| machine.run(reply, job))?;
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Has a question answered that changes nothing, also by a store that takes nothing more.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(0, move |machine| machine.ask(reply, question))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Sends a job that answers in its own way.
    pub fn send(&self, bytes: usize, job: impl FnOnce(&mut Machine) + Send + 'static) -> Result<(), Error> {
        let permits =
            u32::try_from(bytes.div_ceil(PERMIT_BYTES).min(WAITING_BYTES_MAX / PERMIT_BYTES)).unwrap_or(u32::MAX);
        let permit = match permits {
            0 => None,
            _ => Some(Arc::clone(&self.room).try_acquire_many_owned(permits).map_err(|_| busy())?),
        };
        self.commands.try_send(Command::Job { bytes, job: Box::new(job), permit }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => busy(),
            mpsc::TrySendError::Disconnected(_) => stopping(),
        })
    }

    /// Resolves with the reason when the log has failed and the process has to end.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        let reason = failed.wait_for(Option::is_some).await.map(|reason| reason.clone());
        match reason {
            Ok(reason) => reason.unwrap_or_default(),
            // The thread has ended without a failure; there is none to come.
            Err(_) => std::future::pending().await,
        }
    }
}

fn busy() -> Error {
    metrics::refused_busy();
    Error::new(Reason::Busy, "store has too much waiting; try again in a moment")
}

fn stopping() -> Error {
    Error::new(Reason::Stopping, "store is stopping; try again")
}

/// Runs the machine until it is told to stop.
fn serve(mut machine: Machine, commands: mpsc::Receiver<Command>) -> Result<(), log::Failure> {
    loop {
        let wait = Duration::from_millis(machine.upkeep_due_in_ms());
        match commands.recv_timeout(wait) {
            Ok(first) => {
                let mut next = Some(first);
                while let Some(command) = next {
                    match command {
                        Command::Job { bytes, job, permit } => {
                            machine.read_clock(); // the turn may have begun before the job was sent
                            machine.reserve(bytes);
                            job(&mut machine);
                            drop(permit);
                        }
                        Command::Stop => {
                            // Who waits behind this is told, and nobody waits for room in a queue
                            // that is not emptied any more: closing waits for such a thread.
                            drop(commands);
                            return machine.close();
                        }
                    }
                    next = if machine.block_is_full() { None } else { commands.try_recv().ok() };
                }
            }
            Err(RecvTimeoutError::Timeout) => machine.read_clock(),
            Err(RecvTimeoutError::Disconnected) => return machine.close(),
        }
        machine.keep_up();
        machine.write_block();
    }
}

/// Starts the thread; it ends with the outcome of closing the log.
fn spawn(
    machine: Machine,
    commands: mpsc::Receiver<Command>,
) -> std::io::Result<thread::JoinHandle<Result<(), log::Failure>>> {
    thread::Builder::new().name("store-writer".to_owned()).spawn(move || serve(machine, commands))
}
