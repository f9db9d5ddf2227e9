//! What the server can be told: one struct per role. Where the values come from is in [`load`];
//! the names operators use for them are in [`keys`].

pub(crate) mod command;
pub(crate) mod keys;
pub(crate) mod load;
mod toml_file;
pub(crate) mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::config::values::Format;

/// Everything the server can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) proxy: Proxy,
    pub(crate) operators: Operators,
    pub(crate) store: Store,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) transaction: Transaction,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) shutdown: Shutdown,
}

/// This process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Everything durable lives here.
    pub(crate) data_dir: PathBuf,
}

/// What clients dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) listen: SocketAddr,
    /// `host:port` that clients are told; `None`: the one they dialled.
    pub(crate) advertise: Option<String>,
    pub(crate) body_bytes_max: u64,
    pub(crate) tls: Tls,
}

/// Encryption on the client port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) mode: TlsMode,
    /// PEM files; without them a self-signed pair is made and kept in the data directory.
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Which connections the client port takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// TLS and plaintext; the first byte decides.
    #[default]
    Permissive,
    Required,
    Off,
}

/// What operators, Prometheus and probes dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operators {
    pub(crate) listen: SocketAddr,
}

/// The commit log of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// Name of the store group; part of the data directory's identity.
    pub(crate) group: String,
    pub(crate) flush: Flush,
    pub(crate) segment_bytes: u64,
    pub(crate) retention_age: Duration,
    pub(crate) retention_bytes: Option<u64>,
}

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Once it is on the device.
    #[default]
    Sync,
    /// Once the operating system has it; a power failure loses the last moment.
    Async,
}

/// Topics that nobody made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topics {
    pub(crate) auto_create: bool,
    pub(crate) default_queues: u32,
}

/// What holds for every consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Whether there are some that nobody made by hand.
    pub(crate) auto_create: bool,
    /// How long a client that lives may hold one message by renewing it.
    pub(crate) renewal_max: Duration,
    /// A new group begins with the first message of a queue while that lies within the newest bytes
    /// of the log.
    pub(crate) young_bytes: u64,
}

/// Transactions whose producer is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// How long a producer may take before it is asked; messages may say otherwise.
    pub(crate) timeout: Duration,
    /// Between two questions about one transaction.
    pub(crate) check_interval: Duration,
    /// Questions about one transaction before it is discarded.
    pub(crate) checks_max: u32,
    /// How long a discarded one waits for an operator; then it is rolled back.
    pub(crate) discarded_for: Duration,
}

/// How much one peer, and all of them, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) connections: u32,
    /// From one IPv4 address or one IPv6 network of 64 bits.
    pub(crate) connections_per_address: u32,
    /// Open calls on one connection, parked receives included.
    pub(crate) streams_per_connection: u32,
    /// Furthest delivery time from now.
    pub(crate) delay_max: Duration,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

/// How the server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shutdown {
    /// From the signal to the end, at most.
    pub(crate) timeout: Duration,
    /// Between turning unready and refusing connections, for balancers to notice. Clients are told
    /// to connect elsewhere meanwhile. None: see [`Self::notice`].
    pub(crate) chosen_notice: Option<Duration>,
}

impl Shutdown {
    /// The notice that is given: five seconds unless set, or half of the timeout if that is shorter.
    pub(crate) fn notice(&self) -> Duration {
        self.chosen_notice.unwrap_or_else(|| Duration::from_secs(5).min(self.timeout / 2))
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("./centaur-data") }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8081)),
            advertise: None,
            body_bytes_max: 4 << 20, // what every official client assumes
            tls: Tls::default(),
        }
    }
}

impl Default for Operators {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8082)) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            group: "centaur".into(),
            flush: Flush::default(),
            segment_bytes: 256 << 20,
            retention_age: Duration::from_secs(72 * 3600),
            retention_bytes: None,
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { auto_create: false, default_queues: 8 }
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self { auto_create: true, renewal_max: Duration::from_secs(3 * 3600), young_bytes: 1 << 30 }
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(6),
            check_interval: Duration::from_secs(30),
            checks_max: 15,
            discarded_for: Duration::from_secs(72 * 3600),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        // One client keeps several long polls per queue open on one connection, and hundreds of
        // clients can sit behind one address.
        Self {
            connections: 65_536,
            connections_per_address: 20_000,
            streams_per_connection: 8_192,
            delay_max: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::default() }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), chosen_notice: None }
    }
}

impl Config {
    /// What differs on a developer's machine: loopback only, topics come into being when used, and
    /// it ends at once, for there is nowhere else to go.
    pub(crate) fn dev() -> Self {
        let mut config = Self::default();
        config.proxy.listen.set_ip([127, 0, 0, 1].into());
        config.topics.auto_create = true;
        config.shutdown.chosen_notice = Some(Duration::ZERO);
        config
    }

    /// What single values cannot show: the key to look at, and what is wrong with it.
    pub(crate) fn conflicts(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let tls = &self.proxy.tls;
        match (&tls.cert, &tls.key) {
            (Some(_), None) => found.push(("proxy.tls.cert", "needs proxy.tls.key beside it".to_owned())),
            (None, Some(_)) => found.push(("proxy.tls.key", "needs proxy.tls.cert beside it".to_owned())),
            _ => {}
        }
        if let Some(retention) = self.store.retention_bytes
            && retention < 2 * self.store.segment_bytes
        {
            let least = Format::size(2 * self.store.segment_bytes);
            found.push(("store.retention.size", format!("is less than two segments; give at least {least}")));
        }
        let (client, operator) = (self.proxy.listen, self.operators.listen);
        let shared = client.ip() == operator.ip() || client.ip().is_unspecified() || operator.ip().is_unspecified();
        if client.port() != 0 && client.port() == operator.port() && shared {
            found.push(("operators.listen", format!("has the port of proxy.listen, {}", client.port())));
        }
        let Shutdown { timeout, .. } = self.shutdown;
        if self.shutdown.notice() >= timeout {
            let timeout = Format::duration(timeout);
            found.push(("shutdown.notice", format!("leaves no time within shutdown.timeout, {timeout}; give less")));
        }
        found
    }
}
