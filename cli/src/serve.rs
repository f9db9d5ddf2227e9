//! `centaur serve`: opens, links, listens, waits, drains. The only file that knows which roles share
//! a process.

use std::{
    env, io,
    io::IsTerminal as _,
    net::SocketAddr,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use centaur_observability::{Format, Guard};
use centaur_proxy::Proxy;
use centaur_store::Store;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    banner::Banner,
    config::{
        self, Config, LogFormat, TlsMode,
        load::{self, Loaded},
        values,
    },
    data_dir,
    exit::{Exit, Failure},
    listener::{self, ClientPort, Encryption, Ending, Gate, Workers},
    operators::{OperatorsPort, Readiness},
    ports::PortsFile,
    roles,
    signals::Signals,
    tls,
};

/// Connections of operators at a time.
const OPERATOR_CONNECTIONS_MAX: u32 = 256;
/// How often histograms are folded.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// What is left of the runtime after everything was closed gets this long.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(500);
/// Closing the log goes on past the deadline for this long: it is what must not be cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Run the broker
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: load::Flags,
    /// What this process does; only all of it in one process for now
    #[arg(long, value_name = "LIST", default_value = "store,proxy", env = "CENTAUR_ROLES")]
    roles: String,
    /// Cut the log where synced data is damaged instead of refusing to start; loses messages
    #[arg(long)]
    salvage: bool,
}

/// Runs the server until it is told to stop.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    check_roles(&arguments.roles)?;
    let loaded = config::command::from_process(&arguments.config)?;
    let metrics = observe(&loaded.config)?;
    raise_descriptor_limit();
    // Connections have runtimes of their own, and the store has threads; this one is for the rest.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, format!("threads cannot be started: {error}")))?;
    let start = Start { loaded, is_dev: arguments.config.dev, salvage: arguments.salvage, metrics, started };
    let outcome = runtime.block_on(serve(start));
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    outcome
}

struct Start {
    loaded: Loaded,
    is_dev: bool,
    salvage: bool,
    metrics: Guard,
    started: Instant,
}

/// Everything that runs, and what it takes to end it in order.
struct Running {
    store: Store,
    proxy: Proxy,
    background: CancellationToken,
    health: HealthReporter,
    readiness: Readiness,
    clients: Ending,
    operators: Ending,
    workers: Workers,
    _ports: Option<PortsFile>,
}

async fn serve(start: Start) -> Result<(), Failure> {
    let config = start.loaded.config.clone();
    let signals = Signals::listen();
    let mut signals =
        signals.map_err(|error| Failure::new(Exit::Failed, format!("no signals can be received: {error}")))?;
    let bound = Bound::open(&config)?; // before any data is touched
    let (clients, operators) = (bound.clients.1, bound.operators.1);
    let running = open(&start, bound).await?;
    tokio::spawn(upkeep(start.metrics.clone()));
    let data = roles::summary(&running.store).await;
    set_health(&running.health, ServingStatus::Serving).await;
    running.readiness.set(true);
    let elapsed = start.started.elapsed();
    Banner { config: &config, is_dev: start.is_dev, clients, operators, data, elapsed }.show();
    tokio::select! {
        signal = signals.next() => {
            info!(signal, "draining");
            running.stop(&config, &mut signals).await
        }
        reason = running.store.failed() => Err(running.give_up(&reason).await),
    }
}

/// Opens the roles, links them, and starts to take connections.
async fn open(start: &Start, bound: Bound) -> Result<Running, Failure> {
    let config = &start.loaded.config;
    data_dir::prepare(&config.node.data_dir)?;
    let (for_store, salvage) = (config.clone(), start.salvage);
    let store = tokio::task::spawn_blocking(move || roles::open_store(&for_store, salvage)).await;
    let store =
        store.map_err(|error| Failure::new(Exit::Failed, format!("opening the store ended early: {error}")))??;
    let proxy = roles::open_proxy(config, &store)?;
    let encryption = encryption(config)?;
    let (health, client_routes) = client_routes(proxy.routes());
    let (clients, operators, readiness) = (Ending::default(), Ending::default(), Readiness::default());
    let ports = PortsFile::write(&config.node.data_dir, bound.clients.1, bound.operators.1);
    let ports = match ports {
        // Consumers can still settle what they have; this file is a convenience.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            warn!(%error, "no room for run/ports.json");
            None
        }
        ports => Some(ports.map_err(|error| data_dir::unusable(&config.node.data_dir, &error))?),
    };

    let port = ClientPort::new(client_routes, encryption, config.limits.streams_per_connection, clients.drain.clone());
    let gate = Gate::new(config.limits.connections, config.limits.connections_per_address);
    let serve = move |stream, peer| port.clone().serve(stream, peer);
    let workers = Workers::start(thread::available_parallelism().map_or(1, NonZero::get));
    let workers = workers.map_err(|error| Failure::new(Exit::Failed, format!("threads cannot be started: {error}")))?;
    tokio::spawn(listener::accept("clients", bound.clients.0, gate, clients.clone(), workers.clone(), serve));
    info!(port = "clients", address = %bound.clients.1, "listening");

    let admin = operator_routes(proxy.admin_routes());
    let port = OperatorsPort::new(admin, start.metrics.clone(), readiness.clone(), operators.drain.clone());
    let gate = Gate::new(OPERATOR_CONNECTIONS_MAX, OPERATOR_CONNECTIONS_MAX);
    let serve = move |stream, peer| port.clone().serve(stream, peer);
    tokio::spawn(listener::accept("operators", bound.operators.0, gate, operators.clone(), Workers::here(), serve));
    info!(port = "operators", address = %bound.operators.1, "listening");
    if !bound.operators.1.ip().is_loopback() {
        warn!(address = %bound.operators.1, "the operators' port has no access control and is open to others");
    }
    let background = CancellationToken::new();
    let (working, shutdown) = (proxy.clone(), background.clone().cancelled_owned());
    tokio::spawn(async move { working.run(shutdown).await });
    Ok(Running { store, proxy, background, health, readiness, clients, operators, workers, _ports: ports })
}

impl Running {
    /// Ends everything in order, within the deadline; a second signal cuts the waiting short.
    async fn stop(self, config: &Config, signals: &mut Signals) -> Result<(), Failure> {
        let began = Instant::now();
        let deadline = began + config.shutdown.timeout;
        self.turn_unready().await;
        let drained = tokio::select! {
            drained = self.drain(config.shutdown.notice(), deadline) => drained,
            signal = signals.next() => {
                warn!(signal, "second signal: connections are cut");
                false
            }
        };
        let open = self.clients.connections.len();
        let closed = self.close().await;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(clean = drained && closed.is_ok(), connections_cut = open, elapsed_ms, "stopped");
        closed?;
        if drained {
            return Ok(());
        }
        Err(Failure::new(Exit::Failed, format!("stopped with {open} connections cut")).hint("raise shutdown.timeout"))
    }

    async fn turn_unready(&self) {
        self.readiness.set(false);
        set_health(&self.health, ServingStatus::NotServing).await;
    }

    /// Lets peers notice, finish and go; false when some were still there at the deadline.
    async fn drain(&self, notice: Duration, deadline: Instant) -> bool {
        self.proxy.send_clients_away(notice);
        tokio::time::sleep(notice).await;
        self.clients.refuse.cancel();
        self.proxy.drain();
        self.clients.drain.cancel();
        self.clients.connections.close();
        timeout_at(deadline.into(), self.clients.connections.wait()).await.is_ok()
    }

    /// Closes the store, then the operators' port.
    async fn close(self) -> Result<(), Failure> {
        self.background.cancel();
        self.workers.end();
        let store = self.store;
        let closing = tokio::task::spawn_blocking(move || store.close());
        let closed = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        self.operators.refuse.cancel();
        self.operators.drain.cancel();
        match closed {
            Ok(Ok(closed)) => closed.map_err(|error| Failure::new(Exit::DiskError, error.to_string())),
            Ok(Err(error)) => Err(Failure::new(Exit::Failed, format!("closing the store ended early: {error}"))),
            Err(_) => {
                Err(Failure::new(Exit::DiskError, "the log could not be closed in time; the next start recovers it"))
            }
        }
    }

    /// The log is poisoned: nothing more can be acknowledged, so nothing is gained by waiting.
    async fn give_up(&self, reason: &str) -> Failure {
        self.turn_unready().await;
        self.clients.refuse.cancel();
        Failure::new(Exit::StorageFailed, format!("the log cannot be written any more: {reason}"))
            .hint("look at the disk and the kernel's log; the next start recovers everything that was acknowledged")
    }
}

/// Both ports, bound.
struct Bound {
    clients: (TcpListener, SocketAddr),
    operators: (TcpListener, SocketAddr),
}

impl Bound {
    /// Binds both ports, or says everything that is in the way.
    fn open(config: &Config) -> Result<Self, Failure> {
        let bind = |address: SocketAddr| {
            let listener = listener::bind(address)?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>((listener, address))
        };
        let wanted = [("proxy.listen", config.proxy.listen), ("operators.listen", config.operators.listen)];
        match (bind(wanted[0].1), bind(wanted[1].1)) {
            (Ok(clients), Ok(operators)) => Ok(Self { clients, operators }),
            (clients, operators) => {
                let failed = [clients.err(), operators.err()];
                let failed = wanted.iter().zip(&failed).filter_map(|(wanted, error)| Some((wanted, error.as_ref()?)));
                let failed: Vec<_> = failed.collect();
                let in_use = failed.iter().any(|(_, error)| error.kind() == io::ErrorKind::AddrInUse);
                let lines: Vec<_> = failed.iter().map(|((key, at), error)| format!("{key} {at}: {error}")).collect();
                let exit = if in_use { Exit::PortInUse } else { Exit::Config };
                Err(Failure::new(exit, format!("cannot listen: {}", lines.join("; ")))
                    .hint("stop the other process, or choose other ports with --listen and --operators-listen"))
            }
        }
    }
}

fn check_roles(roles: &str) -> Result<(), Failure> {
    let mut wanted: Vec<_> = roles.split(',').map(str::trim).filter(|role| !role.is_empty()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted == ["proxy", "store"] {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, format!("roles {roles:?} cannot run alone yet; only store,proxy in one process"))
        .hint("leave --roles out"))
}

fn observe(config: &Config) -> Result<Guard, Failure> {
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
        LogFormat::Auto if io::stderr().is_terminal() => Format::Text,
        LogFormat::Auto => Format::Json,
    };
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("target", format!("{}/{}", env::consts::OS, env::consts::ARCH)),
    ];
    let observed =
        centaur_observability::init(&centaur_observability::Config { level: config.log.level.clone(), format, build });
    observed.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Every connection is a descriptor; the soft limit is often 1,024.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        warn!(%error, current = limit.current, "the limit of open files stays low");
    }
}

fn encryption(config: &Config) -> Result<Encryption, Failure> {
    let host = config.proxy.advertise.as_deref().and_then(values::host_and_port).map(|(host, _)| host);
    let acceptor = || {
        tls::acceptor(&config.proxy.tls, &config.node.data_dir, host).map_err(|error| {
            Failure::new(Exit::Config, format!("TLS cannot be offered: {error}"))
                .hint("set proxy.tls.mode=off, or give proxy.tls.cert and proxy.tls.key")
        })
    };
    Ok(match config.proxy.tls.mode {
        TlsMode::Off => Encryption::Off,
        TlsMode::Permissive => Encryption::Permissive(acceptor()?),
        TlsMode::Required => Encryption::Required(acceptor()?),
    })
}

const MESSAGING: &str = "apache.rocketmq.v2.MessagingService";

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", MESSAGING] {
        health.set_service_status(service, status).await;
    }
}

/// The public service with health and reflection beside it.
fn client_routes(routes: Routes) -> (HealthReporter, Routes) {
    let (health, health_service) = tonic_health::server::health_reporter();
    let names = [MESSAGING, "grpc.health.v1.Health"];
    (health, with_reflection(routes.add_service(health_service), &names).prepare())
}

fn operator_routes(routes: Routes) -> Routes {
    with_reflection(routes, &["centaur.admin.v1.Admin"]).prepare()
}

fn with_reflection(routes: Routes, services: &[&str]) -> Routes {
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(centaur_apis::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let v1 = builder().build_v1().expect("our own descriptors are whole");
    let v1alpha = builder().build_v1alpha().expect("our own descriptors are whole");
    routes.add_service(v1).add_service(v1alpha)
}

async fn upkeep(metrics: Guard) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.upkeep();
    }
}
