//! The accept loop: takes connections while there is room, and slows down instead of spinning when
//! the operating system has none to give.

use std::{fs::File, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    listener::{Ending, Gate, Workers},
    metrics,
};

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Waiting connections that are turned away at once when descriptors run out.
const SHED_MAX: usize = 256;

/// Takes connections until `ending.refuse`, each served by its own task on one of the workers.
///
/// `port` names the listener in logs and metrics.
pub(crate) async fn accept<F, Fut>(
    port: &'static str,
    listener: TcpListener,
    gate: Arc<Gate>,
    ending: Ending,
    workers: Workers,
    serve: F,
) where
    F: Fn(TcpStream, SocketAddr) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut spare = Spare::open();
    let mut pause = PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            () = ending.refuse.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE_MIN;
                match gate.admit(peer.ip()) {
                    Ok(permit) => {
                        let serve = serve.clone();
                        let open = metrics::connection_opened(port);
                        let connection = async move {
                            match moved(stream) {
                                Ok(stream) => serve(stream, peer).await,
                                Err(error) => debug!(port, %peer, %error, "connection lost before it began"),
                            }
                            drop((permit, open));
                        };
                        ending.connections.spawn_on(connection, workers.next());
                    }
                    Err(refusal) => {
                        metrics::connection_refused(port, "limit");
                        debug!(port, %peer, ?refusal, "connection refused: too many");
                    }
                }
            }
            // The peer gave up while it waited; that says nothing about the next one.
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                metrics::accept_failed(port);
                let shed = spare.shed(&listener);
                warn!(port, %error, shed, pause_ms = pause.as_millis(), "cannot take connections");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// The connection on the runtime that this is called on.
fn moved(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// A descriptor kept for bad times: given up, it lets waiting peers be turned away instead of
/// hanging until they time out.
struct Spare(Option<File>);

impl Spare {
    fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Turns waiting connections away; says how many.
    fn shed(&mut self, listener: &TcpListener) -> usize {
        if self.0.take().is_none() {
            *self = Self::open();
            return 0;
        }
        let waiting = || matches!(listener.accept().now_or_never(), Some(Ok(_)));
        let shed = (0..SHED_MAX).take_while(|_| waiting()).count();
        *self = Self::open();
        shed
    }
}
