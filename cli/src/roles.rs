//! The roles of this process, opened and linked: what a configuration becomes before anyone listens.

use std::io;

use centaur_apis::{names::StoreGroupName, transport::Transport};
use centaur_store::{LogError, OpenError};
use tonic::service::Routes;

use crate::{
    config::{Config, Flush, values},
    data_dir,
    exit::{Exit, Failure},
};

/// The store of this process.
pub(crate) struct Store(centaur_store::Store);

impl Store {
    /// Opens and recovers the data directory. Blocking.
    pub(crate) fn open(config: &Config, salvage: bool) -> Result<Self, Failure> {
        let settings = centaur_store::Config {
            data_dir: config.node.data_dir.clone(),
            store_group: config.store.group.clone(),
            flush: match config.store.flush {
                Flush::Sync => centaur_store::Flush::Sync,
                Flush::Async => centaur_store::Flush::Async,
            },
            segment_bytes: config.store.segment_bytes,
            retention_ms: u64::try_from(config.store.retention_age.as_millis()).unwrap_or(u64::MAX),
            retention_bytes: config.store.retention_bytes,
            create_topics: config.topics.auto_create,
            create_groups: config.groups.auto_create,
            default_queues: config.topics.default_queues,
            salvage,
            ..centaur_store::Config::default()
        };
        centaur_store::Store::open(settings).map(Self).map_err(|error| not_opened(&error))
    }

    pub(crate) fn routes(&self) -> Routes {
        self.0.routes()
    }

    /// What was found in the data directory, for people.
    pub(crate) async fn summary(&self) -> String {
        let Ok(found) = self.0.describe().await else { return "unknown".to_owned() };
        let stop = if found.was_clean { "clean stop" } else { "recovered after an unclean stop" };
        format!(
            "{} topics, {} groups, {} messages, {stop}, opened in {} ms",
            found.topics, found.groups, found.messages, found.recovered_ms
        )
    }

    /// Resolves when the log has failed and the process has to end.
    pub(crate) async fn failed(&self) -> String {
        self.0.failed().await
    }

    /// Ends the store in order. Blocking.
    pub(crate) fn close(self) -> Result<(), Failure> {
        self.0.close().map_err(|error| Failure::new(Exit::DiskError, error.to_string()))
    }
}

/// Which exit code a store that does not open ends with.
fn not_opened(error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Log(LogError::Locked { .. }) => Exit::Locked,
        OpenError::Log(LogError::Format { .. }) => Exit::NewerData,
        OpenError::Log(LogError::Io { path, error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
            return data_dir::unusable(path, error);
        }
        OpenError::Name(_) => Exit::Config,
        OpenError::Log(LogError::Full { .. }) => Exit::DataDirectory,
        OpenError::Log(_)
        | OpenError::NoSnapshot { .. }
        | OpenError::Record { .. }
        | OpenError::Read(_)
        | OpenError::Run(_)
        | OpenError::Io(_) => Exit::DiskError,
    };
    Failure::new(exit, error.to_string())
}

/// Opens the proxy in front of the store of this process.
pub(crate) fn open_proxy(config: &Config, store: &Store) -> Result<centaur_proxy::Proxy, Failure> {
    let group =
        StoreGroupName::parse(&config.store.group).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let mut settings = centaur_proxy::Config::new(group);
    settings.advertised = config
        .proxy
        .advertise
        .as_deref()
        .and_then(values::host_and_port)
        .map(|(host, port)| centaur_proxy::Address { host: host.to_owned(), port });
    settings.create_topics_on_demand = config.topics.auto_create;
    settings.create_groups_on_demand = config.groups.auto_create;
    settings.body_bytes_max = usize::try_from(config.proxy.body_bytes_max).unwrap_or(usize::MAX);
    settings.send_bytes_max = settings.send_bytes_max.max(settings.body_bytes_max.saturating_add(SEND_EXTRA_BYTES));
    Ok(centaur_proxy::Proxy::open(settings, Transport::Local(store.routes())))
}

/// What a send request may hold beside one body.
const SEND_EXTRA_BYTES: usize = 1 << 20;
