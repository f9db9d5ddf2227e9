//! What the server says once it is ready: a card on a terminal, one structured line elsewhere.

use std::{io::IsTerminal as _, net::SocketAddr, time::Duration};

use crate::config::{Config, TlsMode};

/// The facts of a start.
pub(crate) struct Banner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) is_dev: bool,
    pub(crate) clients: SocketAddr,
    pub(crate) operators: SocketAddr,
    /// What the store found, in words.
    pub(crate) data: String,
    pub(crate) elapsed: Duration,
}

impl Banner<'_> {
    /// Prints the card to standard error, or logs the line.
    pub(crate) fn show(&self) {
        if std::io::stderr().is_terminal() {
            eprintln!("{}", self.card());
        } else {
            let elapsed_ms = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
            let (clients, operators, data) = (self.clients, self.operators, &self.data);
            tracing::info!(%clients, %operators, data, elapsed_ms, dev = self.is_dev, "ready: boot success");
        }
    }

    fn card(&self) -> String {
        let dev = if self.is_dev { "   DEV MODE: loopback only, topics come into being" } else { "" };
        let tls = match self.config.proxy.tls.mode {
            TlsMode::Permissive => "plain and TLS on one port",
            TlsMode::Required => "TLS only",
            TlsMode::Off => "plain only",
        };
        let version = env!("CARGO_PKG_VERSION");
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let data_dir = self.config.node.data_dir.display();
        let (clients, operators) = (dialable(self.clients), dialable(self.operators));
        let flag = |name, at: SocketAddr, usual| if at == usual { String::new() } else { format!(" {name} {at}") };
        let to_operators = flag("-a", operators, ([127, 0, 0, 1], 8082).into());
        let to_clients = flag("-e", clients, ([127, 0, 0, 1], 8081).into());
        [
            format!("centaur {version} ({os}/{arch})  merged: store proxy{dev}"),
            format!("data      {data_dir}  {}", self.data),
            format!("clients   {clients}  endpoint for RocketMQ 5 SDKs ({tls})"),
            format!("operators http://{operators}  admin gRPC, /metrics, /healthz, /readyz"),
            format!("try       centaur topic create hello{to_operators}"),
            format!("          centaur produce hello --body hi{to_clients}"),
            format!("          centaur consume hello --group demo{to_clients}"),
            format!("ready in {:.3} s", self.elapsed.as_secs_f64()),
        ]
        .join("\n")
    }
}

/// An address that can be dialled from this machine.
fn dialable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([0, 0, 0, 0, 0, 0, 0, 1], v6.port()).into(),
        bound => bound,
    }
}
