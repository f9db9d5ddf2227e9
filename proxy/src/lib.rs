//! The stateless front: checks what clients ask, finds the store that holds the answer, and writes
//! it the way the public contract wants. It holds only what dies with a connection or can be read
//! again: kill any proxy at any time, and its clients go on through another.

mod admin;
mod cache;
mod caller;
mod clients;
mod config;
mod convert;
mod digest;
mod errands;
mod messaging;
mod metrics;
mod published;
mod refusal;
mod sessions;
mod shards;
mod stores;
mod topic_routes;
mod validate;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use centaur_apis::{admin::admin_server::AdminServer, store::TouchRequest, transport::Transport};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::{Address, Config};

use crate::{
    errands::Errands,
    messaging::{Front, Pace},
    metrics::Metrics,
    sessions::{Questions, Sessions},
    stores::{Client, Stores},
    topic_routes::TopicRoutes,
    validate::Limits,
};

/// How often the stores hear which clients are alive, and silent ones are let go.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Clients in one report.
const REPORT_CLIENTS_MAX: usize = 1_000;
/// Sessions ended at once.
const ENDINGS_MAX: usize = 16;

/// One proxy. Clones are the same proxy.
#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: Config,
    stores: Stores,
    routes: TopicRoutes,
    sessions: Sessions,
    questions: Questions,
    lite_pace: Pace,
    metrics: Metrics,
    draining: CancellationToken,
}

impl Proxy {
    /// Makes a proxy in front of the store that `transport` leads to. Calls nobody yet.
    pub fn open(config: Config, transport: Transport) -> Self {
        let stores = Stores::new(transport, Duration::from_millis(config.store_timeout_ms));
        let routes = TopicRoutes::new(stores.clone());
        let inner = Inner {
            config,
            stores,
            routes,
            sessions: Sessions::new(),
            questions: Questions::new(wall_ms()),
            lite_pace: Pace::new(),
            metrics: Metrics::new(),
            draining: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The public service. The listener leaves the peer's `SocketAddr` in each request's extensions.
    pub fn routes(&self) -> Routes {
        Routes::new(Front::new(self.inner.clone())).prepare()
    }

    /// The operators' service.
    pub fn admin_routes(&self) -> Routes {
        Routes::new(AdminServer::new(admin::Operators::new(self.inner.clone()))).prepare()
    }

    /// Reports living clients to the stores, lets silent ones go and tells clients what the stores
    /// want them told, until `shutdown`.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let errands = Errands::new(&self.inner);
        tokio::select! {
            () = shutdown => {}
            ((), ()) = async { tokio::join!(self.inner.look_after_clients(), errands.run()) } => {}
        }
    }

    /// Tells connected clients to connect elsewhere, spread over a time: what a server says that
    /// is about to go. Without time, nobody is told: their connections end right away.
    pub fn send_clients_away(&self, over: Duration) {
        if !over.is_zero() {
            clients::send_away(&self.inner, self.inner.sessions.reachable(&[]), over);
        }
    }

    /// Ends parked receives early and lets no new one wait; everything else goes on.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }
}

impl Inner {
    fn limits(&self) -> Limits {
        Limits { body_bytes_max: self.config.body_bytes_max, delay_max_ms: self.config.delay_max_ms }
    }

    /// Goes on until it is dropped.
    async fn look_after_clients(&self) {
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reported = Instant::now();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.look_around(reported, now).await;
            reported = now;
        }
    }

    /// One round of what nobody asks for: who is alive since `since`, who is gone, what is old.
    async fn look_around(&self, since: Instant, now: Instant) {
        let alive = self.sessions.alive(since);
        for clients in alive.chunks(REPORT_CLIENTS_MAX) {
            let call = |mut store: Client| async move { store.touch(TouchRequest { clients: clients.to_vec() }).await };
            if let Err(error) = self.stores.call(call).await {
                tracing::warn!(clients = clients.len(), error = error.message, "could not report living clients");
            }
        }
        let gone = self.sessions.expire(now, Duration::from_millis(self.config.client_expiry_ms));
        for clients in gone.chunks(ENDINGS_MAX) {
            let endings = clients.iter().map(|client| messaging::session::end(&self.stores, client));
            futures_util::future::join_all(endings).await;
        }
        self.routes.sweep(now);
        metrics::clients(self.sessions.count());
    }
}

/// The wall clock, in ms since 1970.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
