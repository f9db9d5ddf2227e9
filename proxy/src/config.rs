//! What a proxy can be told. Every field has a default that suits one node on its own.

use centaur_apis::names::StoreGroupName;

/// How a proxy behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the store group behind this proxy; routes show it as the broker's name.
    pub store_group: StoreGroupName,
    /// Address that routes show. None: the address each client dialled is given back to it, which
    /// survives port mapping and load balancers.
    pub advertised: Option<Address>,
    /// An unknown topic comes into being when a client asks for its route. Default: false.
    pub create_topics_on_demand: bool,
    /// An unknown consumer group comes into being with its first receive. Default: true.
    pub create_groups_on_demand: bool,
    /// Largest message body, in bytes as sent. Default: 4 MiB.
    pub body_bytes_max: usize,
    /// Largest send request, in bytes. Default: 16 MiB; at least a body and 128 KiB.
    pub send_bytes_max: usize,
    /// Bodies in one receive answer, in bytes; one message is always given. Default: 4 MiB.
    pub receive_bytes_max: u64,
    /// Furthest delivery time from now, in ms. Default: one day.
    pub delay_max_ms: u64,
    /// Silence after which a client counts as gone, in ms. Default: 120,000.
    pub client_expiry_ms: u64,
    /// Longest a store may take to answer, long polls aside, in ms. Default: 5,000.
    pub store_timeout_ms: u64,
}

/// Where clients reach this proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// An IP address or a domain name.
    pub host: String,
    /// The public port, not necessarily the one listened on.
    pub port: u16,
}

impl Config {
    /// The defaults, in front of the store group of this name.
    pub fn new(store_group: StoreGroupName) -> Self {
        Self {
            store_group,
            advertised: None,
            create_topics_on_demand: false,
            create_groups_on_demand: true,
            body_bytes_max: 4 << 20,
            send_bytes_max: 16 << 20,
            receive_bytes_max: 4 << 20,
            delay_max_ms: 24 * 60 * 60 * 1000,
            client_expiry_ms: 120_000,
            store_timeout_ms: 5_000,
        }
    }
}
