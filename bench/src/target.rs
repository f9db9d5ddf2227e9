//! What a load runs against, and with what: the settings all scenarios share.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    client::{self, Connection, Role},
    meter::Extent,
    process::Processes,
    requests::Run,
};

/// A server and the shape of the load on it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Where the server listens, as host:port
    #[arg(long)]
    pub(crate) endpoint: String,
    /// Process of the server, to measure; repeat it for a server of several processes
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
    /// Topic to use; made by asking for its route where the server creates on demand
    #[arg(long, default_value = "bench")]
    pub(crate) topic: String,
    /// Consumer group to use
    #[arg(long, default_value = "bench")]
    pub(crate) group: String,
    /// Body of a message, in bytes
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Connections, each a client of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// Calls in flight over all connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Measured time, in seconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) duration: f64,
    /// Time before the measured time, in seconds
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Messages instead of a time; the first tenth is not measured
    #[arg(long)]
    pub(crate) messages: Option<u64>,
}

/// What a send is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Shape {
    /// The public SendMessage, by a producer that knows its topic
    Send,
    /// The public SendMessage and nothing before it, as the echo answers it
    Bare,
    /// An echo of as many bytes
    Echo,
}

impl Target {
    pub(crate) fn processes(&self) -> Processes {
        Processes::new(self.pid.clone())
    }

    pub(crate) fn extent(&self) -> Extent {
        match self.messages {
            Some(messages) => Extent::Messages(messages),
            None => Extent::Time {
                warm_up: Duration::from_secs_f64(self.warm_up),
                measured: Duration::from_secs_f64(self.duration),
            },
        }
    }

    pub(crate) async fn connect(&self, run: &Run) -> Result<Vec<Connection>> {
        client::connect(&self.endpoint, usize::from(self.connections), run).await
    }

    /// Connections of consumers that the server knows as such.
    pub(crate) async fn consumers(&self, run: &Run) -> Result<Vec<Connection>> {
        let mut connections = self.connect(run).await?;
        for connection in &mut connections {
            connection.declare(Role::Consumer { topic: &self.topic, group: &self.group }).await?;
        }
        Ok(connections)
    }

    /// Connections of producers to a topic that exists.
    pub(crate) async fn producers(&self, run: &Run) -> Result<Vec<Connection>> {
        let mut connections = self.connect(run).await?;
        for connection in &mut connections {
            connection.queues(&self.topic).await?;
            connection.declare(Role::Producer { topic: &self.topic }).await?;
        }
        Ok(connections)
    }
}

/// A time that can be waited for: a day at most.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err(format!("{seconds} is not between 0 and 86400 seconds"));
    }
    Ok(seconds)
}
