//! The truth: one commit log per store group, and everything else computed from it.

mod clock;
mod config;
mod engine;
mod filter;
pub mod log;
mod metrics;
mod service;
pub mod state;
mod wait;

use std::sync::Arc;

use centaur_apis::store::{DescribeResponse, Error, store_server::StoreServer};
use tonic::service::Routes;

pub use clock::{Clock, SystemClock};
pub use config::{Config, Flush};
pub use engine::{Facts, OpenError};
pub use log::OpenError as LogError;

use engine::Engine;

/// Bytes of one internal call: a batch of the largest messages, and what goes with it.
const CALL_BYTES_MAX: usize = 64 << 20;

/// A running store role.
pub struct Store {
    engine: Engine,
    routes: Routes,
}

impl Store {
    /// Opens a data directory and recovers what is in it. Blocking; needs no runtime.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_with(config, Box::new(SystemClock), Arc::new(log::Disk))
    }

    /// The same with a clock and a disk of the caller's.
    pub fn open_with(config: Config, clock: Box<dyn Clock>, io: Arc<dyn log::Io>) -> Result<Self, OpenError> {
        let engine = Engine::open(config, clock, io)?;
        let service = service::Service::new(engine.handle.clone(), engine.reader.clone());
        let server = StoreServer::new(service)
            .max_decoding_message_size(CALL_BYTES_MAX)
            .max_encoding_message_size(CALL_BYTES_MAX);
        Ok(Self { engine, routes: Routes::new(server).prepare() })
    }

    /// The internal store contract, for a listener or a local transport.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// What the start found.
    pub fn facts(&self) -> &Facts {
        &self.engine.facts
    }

    /// What the store is and how it fares.
    pub async fn describe(&self) -> Result<DescribeResponse, Error> {
        self.engine.handle.ask(|machine| Ok(machine.describe())).await
    }

    /// Resolves when the log has failed: nothing is accepted any more, the process has to end.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let handle = self.engine.handle.clone();
        async move { handle.failed().await }
    }

    /// Ends the store in order and leaves the clean marker. Blocking.
    pub fn close(mut self) -> Result<(), log::Failure> {
        self.engine.close()
    }
}
