//! Series of the listeners: one function each.

use metrics::{Gauge, counter, gauge};

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts a connection that is served.
pub(crate) fn connection_opened(port: &'static str) -> OpenConnection {
    counter!("centaur_connections_total", "port" => port).increment(1);
    let open = gauge!("centaur_connections", "port" => port);
    open.increment(1.0);
    OpenConnection(open)
}

/// Counts a connection that was closed before its first call.
pub(crate) fn connection_refused(port: &'static str, reason: &'static str) {
    counter!("centaur_connections_refused_total", "port" => port, "reason" => reason).increment(1);
}

/// Counts a failure of the operating system to give a connection.
pub(crate) fn accept_failed(port: &'static str) {
    counter!("centaur_accept_failures_total", "port" => port).increment(1);
}
