//! The names operators use: one row per key, with how its text is read and written.

use std::{path::PathBuf, time::Duration};

use centaur_apis::names::StoreGroupName;

use crate::config::{
    Config, Flush, LogFormat, TlsMode,
    values::{self, Format},
};

/// One key of the configuration.
pub(crate) struct Key {
    /// Dotted path, as in the file.
    pub(crate) path: &'static str,
    /// What it means, in one line.
    pub(crate) help: &'static str,
    /// Reads the value into the configuration, or says what is accepted.
    pub(crate) set: fn(&mut Config, &str) -> Result<(), String>,
    /// Writes the value so that `set` reads the same.
    pub(crate) get: fn(&Config) -> String,
}

const TLS_MODES: [(&str, TlsMode); 3] =
    [("permissive", TlsMode::Permissive), ("required", TlsMode::Required), ("off", TlsMode::Off)];
const FLUSHES: [(&str, Flush); 2] = [("sync", Flush::Sync), ("async", Flush::Async)];
const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const BODY_BYTES_MIN: u64 = 1 << 10;
const BODY_BYTES_MAX: u64 = 32 << 20;
const YEARS_100: Duration = Duration::from_secs(876_000 * 3600);
/// What clients are told of a renewed lease is a minute.
const RENEWAL_MIN: Duration = Duration::from_secs(60);
const RENEWAL_MAX: Duration = Duration::from_secs(24 * 3600);
const TRANSACTION_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
const DELAY_MAX: Duration = Duration::from_secs(40 * 24 * 3600);
const SHUTDOWN_MAX: Duration = Duration::from_secs(3600);

/// Every key, grouped as in the file.
pub(crate) const KEYS: &[Key] = &[
    Key {
        path: "node.data_dir",
        help: "directory of everything durable",
        set: |config, text| non_empty(text).map(|text| config.node.data_dir = PathBuf::from(text)),
        get: |config| config.node.data_dir.display().to_string(),
    },
    Key {
        path: "proxy.listen",
        help: "address of the client port",
        set: |config, text| values::listen(text).map(|value| config.proxy.listen = value),
        get: |config| config.proxy.listen.to_string(),
    },
    Key {
        path: "proxy.advertise",
        help: "host:port that clients are told; empty: the one they dialled",
        set: |config, text| optional(text, values::dial).map(|value| config.proxy.advertise = value),
        get: |config| config.proxy.advertise.clone().unwrap_or_default(),
    },
    Key {
        path: "proxy.max_body_size",
        help: "largest body of one message",
        set: |config, text| {
            values::size_within(text, BODY_BYTES_MIN, BODY_BYTES_MAX).map(|value| config.proxy.body_bytes_max = value)
        },
        get: |config| Format::size(config.proxy.body_bytes_max),
    },
    Key {
        path: "proxy.tls.mode",
        help: "permissive (TLS and plaintext on one port), required or off",
        set: |config, text| values::word(text, &TLS_MODES).map(|value| config.proxy.tls.mode = value),
        get: |config| Format::word(&config.proxy.tls.mode, &TLS_MODES),
    },
    Key {
        path: "proxy.tls.cert",
        help: "PEM file of the certificate chain; empty: self-signed",
        set: |config, text| optional(text, path).map(|value| config.proxy.tls.cert = value),
        get: |config| show_path(config.proxy.tls.cert.as_ref()),
    },
    Key {
        path: "proxy.tls.key",
        help: "PEM file of the private key; empty: self-signed",
        set: |config, text| optional(text, path).map(|value| config.proxy.tls.key = value),
        get: |config| show_path(config.proxy.tls.key.as_ref()),
    },
    Key {
        path: "operators.listen",
        help: "address of the operators' port: admin, /metrics, /healthz, /readyz",
        set: |config, text| values::listen(text).map(|value| config.operators.listen = value),
        get: |config| config.operators.listen.to_string(),
    },
    Key {
        path: "store.group",
        help: "name of the store group; cannot change once the data directory exists",
        set: |config, text| {
            let name = StoreGroupName::parse(text).map_err(|error| error.to_string())?;
            config.store.group = name.into();
            Ok(())
        },
        get: |config| config.store.group.clone(),
    },
    Key {
        path: "store.flush",
        help: "sync (stored means on the device) or async (on its way to it)",
        set: |config, text| values::word(text, &FLUSHES).map(|value| config.store.flush = value),
        get: |config| Format::word(&config.store.flush, &FLUSHES),
    },
    Key {
        path: "store.segment_size",
        help: "size of one file of the commit log",
        set: |config, text| {
            values::size_within(text, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
                .map(|value| config.store.segment_bytes = value)
        },
        get: |config| Format::size(config.store.segment_bytes),
    },
    Key {
        path: "store.retention.age",
        help: "messages older than this may be dropped",
        set: |config, text| {
            let value = values::duration_within(text, Duration::from_secs(1), YEARS_100)?;
            config.store.retention_age = value;
            Ok(())
        },
        get: |config| Format::duration(config.store.retention_age),
    },
    Key {
        path: "store.retention.size",
        help: "the oldest messages may be dropped beyond this; empty: no bound",
        set: |config, text| optional(text, values::size).map(|value| config.store.retention_bytes = value),
        get: |config| config.store.retention_bytes.map(Format::size).unwrap_or_default(),
    },
    Key {
        path: "topics.auto_create",
        help: "a topic comes into being when a client first asks for it",
        set: |config, text| values::boolean(text).map(|value| config.topics.auto_create = value),
        get: |config| config.topics.auto_create.to_string(),
    },
    Key {
        path: "topics.default_queues",
        help: "queues of a topic made without a number",
        set: |config, text| values::number_within(text, 1, 1024).map(|value| config.topics.default_queues = value),
        get: |config| config.topics.default_queues.to_string(),
    },
    Key {
        path: "groups.auto_create",
        help: "a consumer group comes into being when a client first uses it",
        set: |config, text| values::boolean(text).map(|value| config.groups.auto_create = value),
        get: |config| config.groups.auto_create.to_string(),
    },
    Key {
        path: "groups.renewal_max",
        help: "how long a client may hold one message by renewing it; then it is delivered again",
        set: |config, text| {
            let value = values::duration_within(text, RENEWAL_MIN, RENEWAL_MAX)?;
            config.groups.renewal_max = value;
            Ok(())
        },
        get: |config| Format::duration(config.groups.renewal_max),
    },
    Key {
        path: "groups.young_size",
        help: "a new group reads all of a queue that begins within this much of the newest log, else its last message",
        set: |config, text| values::size(text).map(|value| config.groups.young_bytes = value),
        get: |config| Format::size(config.groups.young_bytes),
    },
    Key {
        path: "transaction.timeout",
        help: "how long a producer may take before it is asked; its messages may say otherwise",
        set: |config, text| {
            let value = values::duration_within(text, Duration::from_secs(1), TRANSACTION_WAIT_MAX)?;
            config.transaction.timeout = value;
            Ok(())
        },
        get: |config| Format::duration(config.transaction.timeout),
    },
    Key {
        path: "transaction.check_interval",
        help: "time between two questions about one transaction",
        set: |config, text| {
            let value = values::duration_within(text, Duration::from_secs(1), TRANSACTION_WAIT_MAX)?;
            config.transaction.check_interval = value;
            Ok(())
        },
        get: |config| Format::duration(config.transaction.check_interval),
    },
    Key {
        path: "transaction.checks_max",
        help: "questions about one transaction before it is set aside for an operator",
        set: |config, text| values::number_within(text, 1, 1000).map(|value| config.transaction.checks_max = value),
        get: |config| config.transaction.checks_max.to_string(),
    },
    Key {
        path: "transaction.discarded_for",
        help: "how long a transaction that was set aside waits for an operator; then it is rolled back",
        set: |config, text| {
            let value = values::duration_within(text, Duration::from_secs(1), YEARS_100)?;
            config.transaction.discarded_for = value;
            Ok(())
        },
        get: |config| Format::duration(config.transaction.discarded_for),
    },
    Key {
        path: "limits.connections",
        help: "client connections at a time",
        set: |config, text| values::number_within(text, 1, 1 << 20).map(|value| config.limits.connections = value),
        get: |config| config.limits.connections.to_string(),
    },
    Key {
        path: "limits.connections_per_address",
        help: "client connections at a time from one address",
        set: |config, text| {
            values::number_within(text, 1, 1 << 20).map(|value| config.limits.connections_per_address = value)
        },
        get: |config| config.limits.connections_per_address.to_string(),
    },
    Key {
        path: "limits.streams_per_connection",
        help: "open calls on one connection, waiting receives included",
        set: |config, text| {
            values::number_within(text, 16, 1 << 20).map(|value| config.limits.streams_per_connection = value)
        },
        get: |config| config.limits.streams_per_connection.to_string(),
    },
    Key {
        path: "limits.delay_max",
        help: "how far ahead the time of a delayed message may be; 40d at most",
        set: |config, text| {
            values::duration_within(text, Duration::from_secs(1), DELAY_MAX)
                .map(|value| config.limits.delay_max = value)
        },
        get: |config| Format::duration(config.limits.delay_max),
    },
    Key {
        path: "log.level",
        help: "default level, then part=level, such as info,store=debug",
        set: |config, text| {
            centaur_observability::check_level(text).map_err(|error| error.to_string())?;
            config.log.level = text.to_owned();
            Ok(())
        },
        get: |config| config.log.level.clone(),
    },
    Key {
        path: "log.format",
        help: "text, json or auto (text on a terminal)",
        set: |config, text| values::word(text, &LOG_FORMATS).map(|value| config.log.format = value),
        get: |config| Format::word(&config.log.format, &LOG_FORMATS),
    },
    Key {
        path: "shutdown.timeout",
        help: "time from the signal to the end, at most",
        set: |config, text| {
            let value = values::duration_within(text, Duration::from_secs(1), SHUTDOWN_MAX)?;
            config.shutdown.timeout = value;
            Ok(())
        },
        get: |config| Format::duration(config.shutdown.timeout),
    },
    Key {
        path: "shutdown.notice",
        help: "how long connections are still taken after turning unready, and clients told to connect elsewhere",
        set: |config, text| {
            let value = values::duration_within(text, Duration::ZERO, SHUTDOWN_MAX)?;
            config.shutdown.chosen_notice = Some(value);
            Ok(())
        },
        get: |config| Format::duration(config.shutdown.notice()),
    },
];

/// The key of that path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys exist below that path.
pub(crate) fn is_table(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The environment variable of a key.
pub(crate) fn variable(path: &str) -> String {
    format!("CENTAUR_{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// The key an unknown one was most likely meant to be.
pub(crate) fn nearest(path: &str) -> &'static str {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |known: &str| {
        // A key taken for a table, then the right name in a wrong table, then a misspelling.
        let kind = match path.strip_prefix(known) {
            Some(rest) if rest.starts_with('.') => 0,
            _ if last(known) == last(path) => 1,
            _ => 2,
        };
        (kind, edits(known, path))
    };
    KEYS.iter().map(|key| key.path).min_by_key(|known| distance(known)).unwrap_or_default()
}

/// Insertions, deletions and replacements between two texts.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn non_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
}

fn optional<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.trim().is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn show_path(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_writes_it_reads() {
        let defaults = Config::default();
        let mut copy = Config::dev();
        for key in KEYS {
            (key.set)(&mut copy, &(key.get)(&defaults)).unwrap_or_else(|error| panic!("{}: {error}", key.path));
        }
        assert_eq!(copy.shutdown.chosen_notice.take(), Some(defaults.shutdown.notice()), "it is chosen now");
        assert_eq!(copy, defaults);
        assert!(defaults.conflicts().is_empty());
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        for (wrong, right) in [
            ("store.flsh", "store.flush"),
            ("store.flush.mode", "store.flush"),
            ("storage.segment_size", "store.segment_size"),
            ("proxy.lsiten", "proxy.listen"),
            ("log.levle", "log.level"),
        ] {
            assert_eq!(nearest(wrong), right, "{wrong}");
        }
    }
}
