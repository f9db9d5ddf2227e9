//! Takes connections and never lets one of them harm the others: bounded in number, in time and in
//! what a peer may ask of HTTP/2. What a connection carries is up to whoever listens.

mod accept;
mod activity;
mod client_port;
mod gate;
mod http2;
mod socket;
mod workers;

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    accept::accept,
    client_port::{ClientPort, Encryption},
    gate::Gate,
    workers::Workers,
};

/// How many connections may wait for `accept`.
const BACKLOG: u32 = 1024;

/// A port that is bound but takes no connection yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    // A restart must not wait until the last connections of the one before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The three steps of ending a port: stop taking, ask peers to go, wait for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// No connection is taken any more.
    pub(crate) refuse: CancellationToken,
    /// Open connections finish what they have and take no new call.
    pub(crate) drain: CancellationToken,
    /// One task for each connection.
    pub(crate) connections: TaskTracker,
}
