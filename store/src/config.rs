//! Settings of the store role.

use std::path::PathBuf;

/// When a producer is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// When the disk has the message: nothing is lost with the power.
    #[default]
    Sync,
    /// When the page cache has it: nothing is lost with the process. Synced twice a second.
    Async,
}

/// Settings of the store role.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything durable lives below it.
    pub data_dir: PathBuf,
    /// Name of the store group; clients see it as the broker's name.
    pub store_group: String,
    pub flush: Flush,
    /// Bytes of one log segment, 1 MiB to 1 GiB: unit of retention and of the scan after a crash.
    pub segment_bytes: u64,
    /// Bytes of recent blocks kept in memory for consumers at the end of their queues.
    pub tail_bytes: usize,
    /// Messages are kept for so long, unless their topic says otherwise, ms; then they go with their
    /// segment, which is sealed after a quarter of the shortest such time.
    pub retention_ms: u64,
    /// The oldest segments are retired when the log is larger; none: as large as the disk.
    pub retention_bytes: Option<u64>,
    /// Clients may create topics by using them.
    pub create_topics: bool,
    /// Clients may create consumer groups by using them.
    pub create_groups: bool,
    /// A lease that lives as long as its client ends after this in any case, ms; source: public
    /// contract, auto-renew.
    pub session_lease_ms: u64,
    /// A new group reads a queue from its beginning while that lies within the newest bytes of the
    /// log; later, from the last message there is.
    pub young_log_bytes: u64,
    /// Queues of a topic created without saying how many.
    pub default_queues: u32,
    /// How long a producer may take to end a transaction before it is asked, ms; messages may say
    /// otherwise.
    pub transaction_timeout_ms: u64,
    /// Time between two questions about one transaction, ms.
    pub transaction_check_interval_ms: u64,
    /// Questions about one transaction before it is discarded.
    pub transaction_checks_max: u32,
    /// How long a discarded transaction is kept for an operator to decide, ms; then it is rolled back.
    pub transaction_discarded_ms: u64,
    /// Undecided transactions; more half messages are refused.
    pub transactions_max: usize,
    /// A lite topic stays for so long after its last message at least, whatever its LITE topic says, ms.
    pub lite_expiry_min_ms: u64,
    /// Cut the log where synced data is damaged, instead of refusing to start. Loses messages.
    pub salvage: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("centaur-data"),
            store_group: "centaur".to_owned(),
            flush: Flush::default(),
            segment_bytes: 256 << 20,
            tail_bytes: 32 << 20,
            retention_ms: 72 * 3_600_000,
            retention_bytes: None,
            create_topics: false,
            create_groups: true,
            session_lease_ms: 3 * 3_600_000,
            young_log_bytes: 1 << 30,
            default_queues: 8,
            transaction_timeout_ms: 6_000,
            transaction_check_interval_ms: 30_000,
            transaction_checks_max: 15,
            transaction_discarded_ms: 72 * 3_600_000,
            transactions_max: 1_000_000,
            lite_expiry_min_ms: 15 * 60_000,
            salvage: false,
        }
    }
}
