//! What a peer may ask of HTTP/2, every bound named. Source: hyper and h2 documentation; tonic's own
//! server would lift two of these bounds.

use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// What every HTTP/2 connection begins with; RFC 9113, 3.4.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that we reset because of the peer, before the connection is closed; CVE-2025-8671.
const LOCAL_ERROR_RESETS_MAX: usize = 128;
/// Streams that the peer resets before we looked at them; CVE-2023-44487.
const PENDING_ACCEPT_RESETS_MAX: usize = 20;
/// Size of all header fields of one request, in bytes.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// Bytes in flight on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Larger frames save work on large bodies; small ones are not affected.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Bytes of answers that wait on one stream for a slow reader.
const SEND_BUFFER_BYTES_MAX: usize = 1 << 20;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The HTTP/2 server of one port.
pub(crate) fn builder(streams_per_connection: u32) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_per_connection)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .auto_date_header(false);
    builder
}

/// The frames that send a peer away before its first call: the SETTINGS that have to come first, and
/// a GOAWAY that gives the reason; RFC 9113, 6.5 and 6.8.
pub(crate) fn farewell(reason: &str) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    const INADEQUATE_SECURITY: u32 = 0xc;
    // A last stream and an error code come before the reason, which is one of our own sentences.
    let length = u32::try_from(8 + reason.len()).unwrap_or(8).to_be_bytes();
    let mut frames = SETTINGS.to_vec();
    frames.extend([length[1], length[2], length[3], GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    frames.extend(INADEQUATE_SECURITY.to_be_bytes());
    frames.extend(reason.as_bytes());
    frames
}

/// What a peer that speaks HTTP/1 can show its user.
pub(crate) fn http1_refusal(reason: &str) -> Vec<u8> {
    let length = reason.len() + 1;
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{reason}\n"
    )
    .into_bytes()
}
