//! Who is calling and how much time is left: what the headers of a request say.

use std::{net::SocketAddr, time::Duration};

use centaur_apis::v2::Code;
use http::Extensions;
use tonic::{metadata::MetadataMap, transport::server::TcpConnectInfo};

use crate::refusal::Refusal;

/// Longest client id, in bytes.
const CLIENT_ID_BYTES_MAX: usize = 1024;

/// What is known about the sender of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) client: &'a str,
    pub(crate) language: &'a str,
    pub(crate) version: &'a str,
    /// None: the caller waits as long as it takes.
    pub(crate) remaining: Option<Duration>,
    pub(crate) peer: Option<SocketAddr>,
}

impl<'a> Caller<'a> {
    /// Reads the headers. A listener of our own leaves the peer as a `SocketAddr` in the
    /// request's extensions; tonic's leaves a `TcpConnectInfo`.
    pub(crate) fn of(headers: &'a MetadataMap, extensions: &Extensions) -> Result<Self, Refusal> {
        let text = |key| headers.get(key).and_then(|v| v.to_str().ok()).unwrap_or("");
        let client = text("x-mq-client-id");
        if client.trim().is_empty() {
            return Err(Refusal::new(Code::ClientIdRequired, "header x-mq-client-id is missing or blank; give one"));
        }
        if client.len() > CLIENT_ID_BYTES_MAX {
            let message =
                format!("header x-mq-client-id has {} bytes; at most {CLIENT_ID_BYTES_MAX} are allowed", client.len());
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let peer = extensions.get::<SocketAddr>().copied();
        let accepted = || extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Ok(Self {
            client,
            language: text("x-mq-language"),
            version: text("x-mq-client-version"),
            remaining: timeout(text("grpc-timeout")),
            peer: peer.or_else(accepted),
        })
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit. Anything else is no timeout.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_every_unit_are_read() {
        let cases = [
            ("3S", Some(3_000)),
            ("99999999m", Some(99_999_999)),
            ("2M", Some(120_000)),
            ("31536000S", Some(31_536_000_000)),
            ("1H", Some(3_600_000)),
            ("5000000u", Some(5_000)),
            ("999999999S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("5", None),
            ("5ß", None),
        ];
        for (text, expected) in cases {
            assert_eq!(timeout(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_client_says_who_it_is() {
        let code = |id: Option<&str>| {
            let mut headers = MetadataMap::new();
            if let Some(id) = id {
                headers.insert("x-mq-client-id", id.parse().expect("ascii"));
            }
            Caller::of(&headers, &Extensions::new()).map(|c| c.client.len()).map_err(|r| r.code)
        };
        assert_eq!(code(None), Err(Code::ClientIdRequired));
        assert_eq!(code(Some("  ")), Err(Code::ClientIdRequired));
        assert_eq!(code(Some("host@1#2")), Ok(8));
        assert_eq!(code(Some(&"c".repeat(CLIENT_ID_BYTES_MAX))), Ok(CLIENT_ID_BYTES_MAX));
        assert_eq!(code(Some(&"c".repeat(CLIENT_ID_BYTES_MAX + 1))), Err(Code::BadRequest));
    }
}
