//! The roles of this process: what a configuration means to each, and what their failures mean to
//! whoever started it.

use std::{io, time::Duration};

use centaur_apis::{names::StoreGroupName, transport::Transport};
use centaur_proxy::Proxy;
use centaur_store::{LogError, OpenError, Store};

use crate::{
    config::{Config, Flush, values},
    data_dir,
    exit::{Exit, Failure},
};

/// What a send request may hold beside one body.
const SEND_EXTRA_BYTES: usize = 1 << 20;

/// Opens and recovers the store. Blocking.
///
/// Errors: exit 75 when another process has the directory, 76 when it is not ours to read, 73, 74.
pub(crate) fn open_store(config: &Config, salvage: bool) -> Result<Store, Failure> {
    let settings = centaur_store::Config {
        data_dir: config.node.data_dir.clone(),
        store_group: config.store.group.clone(),
        flush: match config.store.flush {
            Flush::Sync => centaur_store::Flush::Sync,
            Flush::Async => centaur_store::Flush::Async,
        },
        segment_bytes: config.store.segment_bytes,
        retention_ms: millis(config.store.retention_age),
        retention_bytes: config.store.retention_bytes,
        create_topics: config.topics.auto_create,
        create_groups: config.groups.auto_create,
        session_lease_ms: millis(config.groups.renewal_max),
        young_log_bytes: config.groups.young_bytes,
        default_queues: config.topics.default_queues,
        transaction_timeout_ms: millis(config.transaction.timeout),
        transaction_check_interval_ms: millis(config.transaction.check_interval),
        transaction_checks_max: config.transaction.checks_max,
        transaction_discarded_ms: millis(config.transaction.discarded_for),
        salvage,
        ..centaur_store::Config::default()
    };
    Store::open(settings).map_err(|error| not_opened(config, &error))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn not_opened(config: &Config, error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Log(LogError::Locked { .. }) => Exit::Locked,
        OpenError::Log(LogError::Format { .. }) => Exit::NewerData,
        OpenError::Log(LogError::Foreign { .. }) | OpenError::Name(_) => Exit::Config,
        OpenError::Log(LogError::Full { .. }) => Exit::DataDirectory,
        OpenError::Log(LogError::Io { error, .. }) | OpenError::Io(error) if is_permission(error) => {
            return data_dir::unusable(&config.node.data_dir, error);
        }
        OpenError::Log(_)
        | OpenError::NoSnapshot { .. }
        | OpenError::Record { .. }
        | OpenError::Read(_)
        | OpenError::Run(_)
        | OpenError::Io(_) => Exit::DiskError,
    };
    // Messages of the store end with what to do.
    let message = error.to_string();
    match message.split_once("; ") {
        Some((cause, hint)) => Failure::new(exit, cause).hint(hint),
        None => Failure::new(exit, message),
    }
}

fn is_permission(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What the store found at its start, in words.
pub(crate) async fn summary(store: &Store) -> String {
    let facts = store.facts();
    let found = store.describe().await.ok();
    let is_empty = found.as_ref().is_some_and(|found| found.topics + found.groups == 0 && found.messages == 0);
    let end = match facts.cut {
        Some((_, bytes)) => format!("after a crash, {bytes} torn bytes cut"),
        None if facts.was_clean && is_empty => "nothing in it yet".to_owned(),
        None if facts.was_clean => "clean stop".to_owned(),
        None => "after a crash".to_owned(),
    };
    let recovered = format!("{end}, ready in {} ms", facts.recovered_ms);
    match found {
        Some(found) => {
            format!("{} topics, {} groups, {} messages; {recovered}", found.topics, found.groups, found.messages)
        }
        None => recovered,
    }
}

/// Opens the proxy in front of the store of this process.
pub(crate) fn open_proxy(config: &Config, store: &Store) -> Result<Proxy, Failure> {
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
    settings.delay_max_ms = millis(config.limits.delay_max);
    settings.body_bytes_max = usize::try_from(config.proxy.body_bytes_max).unwrap_or(usize::MAX);
    settings.send_bytes_max = settings.send_bytes_max.max(settings.body_bytes_max.saturating_add(SEND_EXTRA_BYTES));
    Ok(Proxy::open(settings, Transport::Local(store.routes())))
}
