//! One connection of the client port from its first byte to its end: what it speaks, that it speaks
//! it in time, and when it has been open or silent for long enough.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{debug, warn};

use crate::{
    listener::{
        activity::{Activity, Calls},
        http2::{self, PREFACE},
        socket::{Carrier, Socket},
    },
    metrics,
};

const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// A refused peer gets this long to read why.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a refused peer that are read for it to do so.
const FAREWELL_BYTES_MAX: u64 = 64 << 10;
/// Between two lines about refusals of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How often a connection looks at itself.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Looks in a row without a call after which a connection is asked to go: 120 s.
const QUIET_CHECKS_MAX: u32 = 4;
/// After this a connection is asked to go, so that clients spread over servers again.
const AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Looks after which a connection that was asked to go is cut: at least 60 s.
const LEAVING_CHECKS_MAX: u32 = 3;
/// The same for a connection that drains: longer than a peer needs to see that it should go.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// First byte of every TLS record that opens a connection; RFC 8446, 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// Which connections are taken, and how TLS is done.
#[derive(Clone)]
pub(crate) enum Encryption {
    Off,
    Permissive(TlsAcceptor),
    Required(TlsAcceptor),
}

/// Everything the connections of the client port share.
pub(crate) struct ClientPort {
    routes: Routes,
    encryption: Encryption,
    http2: Builder<TokioExecutor>,
    drain: CancellationToken,
    /// When a refusal was last logged, by reason.
    logged: Mutex<HashMap<&'static str, Instant>>,
}

/// Why a connection was closed before its first call.
#[derive(Debug, Error)]
enum Refused {
    #[error("nothing came within {}s", FIRST_BYTE_TIMEOUT.as_secs())]
    Silent,
    #[error("a TLS hello came, but proxy.tls.mode is off: turn TLS off in the client or on in the server")]
    TlsOff,
    #[error("plaintext HTTP/2 came, but proxy.tls.mode is required: turn TLS on in the client")]
    TlsRequired,
    #[error("an HTTP/1 request came; this port speaks gRPC over HTTP/2")]
    Http1,
    #[error("neither TLS nor HTTP/2 came")]
    Garbage,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("the TLS handshake was not over within {}s", HANDSHAKE_TIMEOUT.as_secs())]
    SlowHandshake,
    #[error("the HTTP/2 preface was not over within {}s", PREFACE_TIMEOUT.as_secs())]
    SlowPreface,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

impl Refused {
    /// The reason as a label.
    fn reason(&self) -> &'static str {
        match self {
            Self::Silent | Self::SlowHandshake | Self::SlowPreface => "timeout",
            Self::TlsOff => "tls_off",
            Self::TlsRequired => "tls_required",
            Self::Http1 => "http1",
            Self::Garbage => "garbage",
            Self::Handshake(_) => "tls_handshake",
            Self::Broken(_) => "broken",
        }
    }
}

impl ClientPort {
    pub(crate) fn new(
        routes: Routes,
        encryption: Encryption,
        streams_per_connection: u32,
        drain: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            routes,
            encryption,
            http2: http2::builder(streams_per_connection),
            drain,
            logged: Mutex::default(),
        })
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.greet(stream).await {
            Ok(socket) => {
                debug!(target: "client", %peer, "connected");
                self.drive(socket, peer).await;
                debug!(target: "client", %peer, "disconnected");
            }
            // A probe that connects and goes is not worth a line.
            Err(Refused::Broken(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(refused) => {
                metrics::connection_refused("clients", refused.reason());
                if self.is_news(refused.reason()) {
                    warn!(target: "client", %peer, reason = %refused, "connection closed; the next like it go unlogged");
                } else {
                    debug!(target: "client", %peer, reason = %refused, "connection closed");
                }
            }
        }
    }

    /// Finds out what the peer speaks and brings it to where HTTP/2 frames begin.
    async fn greet(&self, stream: TcpStream) -> Result<Socket, Refused> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        let peeked = timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await.map_err(|_| Refused::Silent)??;
        if peeked == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut carrier = match (&self.encryption, first[0]) {
            (Encryption::Off, TLS_HANDSHAKE) => return Err(Refused::TlsOff),
            (Encryption::Permissive(tls) | Encryption::Required(tls), TLS_HANDSHAKE) => {
                let stream =
                    timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await.map_err(|_| Refused::SlowHandshake)?;
                Carrier::Tls(Box::new(stream.map_err(Refused::Handshake)?))
            }
            _ => Carrier::Plain(stream),
        };
        match self.begin(&mut carrier).await {
            Ok(()) => Ok(Socket::new(carrier, PREFACE)),
            Err(refused) => {
                say_why(Socket::new(carrier, &[]), &refused).await;
                Err(refused)
            }
        }
    }

    /// Reads how the peer begins; only then it is known in which words to refuse it.
    async fn begin(&self, carrier: &mut Carrier) -> Result<(), Refused> {
        timeout(PREFACE_TIMEOUT, preface(carrier)).await.map_err(|_| Refused::SlowPreface)??;
        match (&self.encryption, carrier) {
            (Encryption::Required(_), Carrier::Plain(_)) => Err(Refused::TlsRequired),
            _ => Ok(()),
        }
    }

    /// Whether a refusal of this kind was not logged lately; peers can make any number of them.
    fn is_news(&self, reason: &'static str) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = logged.get(reason).is_none_or(|last| now.duration_since(*last) >= LOG_INTERVAL);
        if is_news {
            logged.insert(reason, now);
        }
        is_news
    }

    async fn drive(&self, socket: Socket, peer: SocketAddr) {
        let age_max = AGE_MAX.mul_f64(age_factor(peer));
        let activity = Arc::new(Activity::default());
        let drain = self.drain.clone();
        let calls = Calls { routes: self.routes.clone(), peer, activity: activity.clone(), drain };
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(socket), calls));
        let opened = Instant::now();
        let mut checks = interval_at(opened + CHECK_INTERVAL, CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::new();
        loop {
            tokio::select! {
                biased;
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        debug!(target: "client", %error, "connection ended");
                    }
                    return;
                }
                () = self.drain.cancelled() => return finish(connection, &activity).await,
                _ = checks.tick() => match watch.check(activity.rest(), opened.elapsed() >= age_max) {
                    Verdict::Stay => {}
                    Verdict::Leave => connection.as_mut().graceful_shutdown(),
                    Verdict::Cut => return,
                },
            }
        }
    }
}

type Connection = hyper::server::conn::http2::Connection<TokioIo<Socket>, Calls, TokioExecutor>;

/// Lets open calls finish and takes no new ones. A peer that has none left and still does not go
/// would only keep the server from ending.
async fn finish(mut connection: Pin<&mut Connection>, activity: &Activity) {
    connection.as_mut().graceful_shutdown();
    let mut looks = interval_at(Instant::now() + DRAIN_CHECK_INTERVAL, DRAIN_CHECK_INTERVAL);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = looks.tick() => if activity.rest().is_some() {
                return;
            },
        }
    }
}

/// Tells a peer that speaks HTTP why it is refused, in a form its own messages show.
async fn say_why(mut socket: Socket, refused: &Refused) {
    let words = match refused {
        Refused::Http1 => http2::http1_refusal(&refused.to_string()),
        Refused::TlsRequired => http2::farewell(&refused.to_string()),
        _ => return,
    };
    let say = async {
        socket.write_all(&words).await?;
        socket.shutdown().await?;
        // Closing with bytes unread would take the words back.
        tokio::io::copy(&mut socket.take(FAREWELL_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(FAREWELL_TIMEOUT, say).await {
        debug!(target: "client", %error, "the peer did not wait to hear why");
    }
}

/// Reads the HTTP/2 preface; stops at the first byte that is none of it.
async fn preface(carrier: &mut (impl AsyncRead + Unpin)) -> Result<(), Refused> {
    let mut bytes = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = carrier.read(&mut bytes[filled..]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        filled += read;
        if bytes[..filled] != PREFACE[..filled] {
            return Err(if looks_like_http1(&bytes[..filled]) { Refused::Http1 } else { Refused::Garbage });
        }
    }
    Ok(())
}

fn looks_like_http1(bytes: &[u8]) -> bool {
    let methods: [&[u8]; 6] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"CONNECT "];
    methods.iter().any(|method| bytes.starts_with(method))
}

/// Spreads ages by a tenth around the bound, so that connections opened together part one by one.
fn age_factor(peer: SocketAddr) -> f64 {
    0.9 + 0.2 * f64::from(peer.port().wrapping_mul(40_503)) / f64::from(u16::MAX)
}

/// Decides at each look whether a connection stays.
#[derive(Debug)]
struct Watch {
    /// Calls that were over at the last look, if none was open.
    rested_at: Option<u64>,
    quiet: u32,
    /// Looks since it was asked to go.
    leaving: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// Ask the peer to go once its calls are over.
    Leave,
    /// It was asked long ago.
    Cut,
}

impl Watch {
    fn new() -> Self {
        Self { rested_at: Some(0), quiet: 0, leaving: None }
    }

    fn check(&mut self, rest: Option<u64>, is_old: bool) -> Verdict {
        if let Some(looks) = &mut self.leaving {
            *looks += 1;
            return if *looks >= LEAVING_CHECKS_MAX { Verdict::Cut } else { Verdict::Stay };
        }
        let is_quiet = rest.is_some() && rest == self.rested_at;
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        self.rested_at = rest;
        if self.quiet < QUIET_CHECKS_MAX && !is_old {
            return Verdict::Stay;
        }
        self.leaving = Some(0);
        Verdict::Leave
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_connection_goes_after_120_seconds() {
        let mut watch = Watch::new();
        for _ in 1..QUIET_CHECKS_MAX {
            assert_eq!(watch.check(Some(0), false), Verdict::Stay);
        }
        assert_eq!(watch.check(Some(0), false), Verdict::Leave);
        assert_eq!(watch.check(Some(0), false), Verdict::Stay);
        assert_eq!(watch.check(Some(0), false), Verdict::Stay);
        assert_eq!(watch.check(Some(0), false), Verdict::Cut);
    }

    #[test]
    fn an_open_call_or_a_new_one_keeps_it() {
        let mut watch = Watch::new();
        for _ in 0..100 {
            assert_eq!(watch.check(None, false), Verdict::Stay, "a call is open");
        }
        for calls in 0..100 {
            assert_eq!(watch.check(Some(calls), false), Verdict::Stay, "calls came in between");
        }
    }

    #[test]
    fn an_old_connection_goes_whatever_it_does() {
        assert_eq!(Watch::new().check(None, true), Verdict::Leave);
    }

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        for port in [0, 1, 2, 40_000, u16::MAX] {
            let factor = age_factor(([127, 0, 0, 1], port).into());
            assert!((0.9..=1.1).contains(&factor), "{port}");
        }
    }

    #[tokio::test]
    async fn the_preface_is_checked_byte_by_byte() {
        let read = async |mut bytes: &[u8]| preface(&mut bytes).await.err().map(|refused| refused.reason());
        assert_eq!(read(PREFACE).await, None);
        assert_eq!(read(b"PRI * HTTP/2.1\r\n").await, Some("garbage"));
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n").await, Some("http1"));
        assert_eq!(read(b"PRI * HT").await, Some("broken"));
        assert_eq!(read(&[0x80, 0, 0, 1]).await, Some("garbage"));
    }
}
