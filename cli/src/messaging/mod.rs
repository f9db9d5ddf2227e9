//! `centaur produce` and `centaur consume`: ordinary clients of the public API, for trying things
//! out and for measuring from outside.

pub(crate) mod consume;
pub(crate) mod produce;
mod progress;

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use centaur_apis::v2::{
    Address, AddressScheme, Code, Endpoints, Language, Resource, Settings, Status, TelemetryCommand, Ua,
    messaging_service_client::MessagingServiceClient, telemetry_command::Command,
};
use clap::Args;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

use crate::{
    admin,
    config::values,
    exit::{Exit, Failure},
    output::Output,
};

/// Longest a unary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing on the connection may take longer; long polls have their own, shorter bound.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Seconds since 1970 at which message ids begin to count: 2021-01-01.
const ID_EPOCH_SECONDS: u64 = 1_609_459_200;

/// Which client port is used, and how results are printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Client port of any server
    #[arg(short, long, value_name = "HOST:PORT", env = "CENTAUR_ENDPOINT", default_value = "127.0.0.1:8081")]
    endpoint: String,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// A client of the public API.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) service: MessagingServiceClient<Channel>,
    id: MetadataValue<tonic::metadata::Ascii>,
    endpoints: Endpoints,
}

/// Keeps the server's idea of this client alive.
pub(crate) struct Session {
    _commands: mpsc::Sender<TelemetryCommand>,
}

impl Remote {
    /// Connects to the client port.
    ///
    /// Errors: exit 6 when nobody answers.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let hint =
            "is the server running? start one with: centaur serve --dev; or name its client port with -e HOST:PORT";
        let channel = admin::dial(&self.endpoint, CONNECTION_TIMEOUT).await.map_err(|failure| failure.hint(hint))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = format!("centaur-cli@{}@0@{:x}", process::id(), now.as_nanos());
        let id = id.parse().map_err(|_| Failure::new(Exit::Failed, "the client id is not ASCII"))?;
        let service = MessagingServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Client { service, id, endpoints: self.endpoints() })
    }

    fn endpoints(&self) -> Endpoints {
        let (host, port) = values::host_and_port(&self.endpoint).unwrap_or((&self.endpoint, 0));
        let scheme = match host.parse() {
            Ok(std::net::IpAddr::V4(_)) => AddressScheme::IPv4,
            Ok(std::net::IpAddr::V6(_)) => AddressScheme::IPv6,
            Err(_) => AddressScheme::DomainName,
        };
        let address = Address { host: host.to_owned(), port: port.into() };
        Endpoints { scheme: scheme.into(), addresses: vec![address] }
    }
}

impl Client {
    /// A request with the headers every call needs, and a deadline.
    pub(crate) fn request<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        let headers = request.metadata_mut();
        headers.insert("x-mq-client-id", self.id.clone());
        headers.insert("x-mq-language", MetadataValue::from_static("RUST"));
        headers.insert("x-mq-client-version", MetadataValue::from_static(env!("CARGO_PKG_VERSION")));
        headers.insert("x-mq-protocol", MetadataValue::from_static("v2"));
        request
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        self.endpoints.clone()
    }

    /// Tells the server who this is, and waits until it has answered.
    pub(crate) async fn introduce(&mut self, settings: Settings) -> Result<Session, Failure> {
        let (commands, to_server) = mpsc::channel(4);
        let hello = TelemetryCommand { status: None, command: Some(Command::Settings(self.with_identity(settings))) };
        let closed = |_| Failure::new(Exit::Unreachable, "the telemetry stream was closed at once");
        commands.send(hello).await.map_err(closed)?;
        let request = self.request(ReceiverStream::new(to_server), CONNECTION_TIMEOUT);
        let mut request = request;
        request.metadata_mut().remove("grpc-timeout"); // the stream lives as long as the command
        let mut answers = self.service.telemetry(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        match tokio::time::timeout(CALL_TIMEOUT, answers.message()).await {
            Ok(Ok(Some(answer))) => check(answer.status.as_ref())?,
            Ok(Ok(None)) => return Err(Failure::new(Exit::Unreachable, "the telemetry stream ended at once")),
            Ok(Err(status)) => return Err(admin::failure(&status)),
            Err(_) => return Err(Failure::new(Exit::TimedOut, "the server does not answer the client's settings")),
        }
        // Commands of the server are not for us; the stream is read so that it cannot fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
        Ok(Session { _commands: commands })
    }

    fn with_identity(&self, settings: Settings) -> Settings {
        let agent = Ua {
            language: Language::Rust.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: std::env::consts::OS.to_owned(),
            hostname: String::new(),
        };
        Settings { user_agent: Some(agent), access_point: Some(self.endpoints()), ..settings }
    }
}

/// A topic or group by its name.
pub(crate) fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// What a status of the public API means for the command.
///
/// Errors: everything but OK.
pub(crate) fn check(status: Option<&Status>) -> Result<(), Failure> {
    let code = status.map_or(Code::Unspecified, Status::code);
    if code == Code::Ok {
        return Ok(());
    }
    let exit = match code as i32 {
        40400..40500 => Exit::NotFound,
        40100..40400 => Exit::Forbidden,
        42800..42900 => Exit::Precondition,
        42900..43000 => Exit::Overloaded,
        40000..50000 => Exit::Invalid,
        50100 | 50500..50600 => Exit::Unsupported,
        50400..50500 => Exit::TimedOut,
        50002 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let message = status.map(|status| status.message.as_str()).filter(|message| !message.is_empty());
    let failure = Failure::new(exit, message.unwrap_or("the server gave no reason")).code(code.as_str_name());
    Err(match code {
        Code::TopicNotFound => failure.hint("make it with: centaur topic create NAME; or start the server with --dev"),
        Code::ConsumerGroupNotFound => failure.hint("make it with: centaur group create NAME"),
        _ => failure,
    })
}

/// A new message id in the usual form: version, host, process, seconds, sequence, in upper-case hex.
pub(crate) fn message_id() -> String {
    static SEQUENCE: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs().saturating_sub(ID_EPOCH_SECONDS) & 0xffff_ffff;
    // In place of a hardware address: two processes on one host still differ by their pid.
    let host = centaur_apis::hash64(rustix::system::uname().nodename().to_bytes()) & 0xffff_ffff_ffff;
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    format!("01{host:012X}{:04X}{seconds:08X}{sequence:08X}", process::id() & 0xffff)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn message_ids_differ_and_have_the_usual_form() {
        let ids: HashSet<_> = (0..1000).map(|_| message_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter().all(|id| id.len() == 34 && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
        );
    }

    #[test]
    fn refusals_become_exit_codes() {
        let exit = |code: Code| check(Some(&Status { code: code.into(), message: "why".into() })).err().map(|f| f.exit);
        assert_eq!(exit(Code::Ok), None);
        assert_eq!(exit(Code::TopicNotFound), Some(Exit::NotFound));
        assert_eq!(exit(Code::MessageBodyTooLarge), Some(Exit::Invalid));
        assert_eq!(exit(Code::TooManyRequests), Some(Exit::Overloaded));
        assert_eq!(exit(Code::NotImplemented), Some(Exit::Unsupported));
        assert_eq!(exit(Code::InternalServerError), Some(Exit::Failed));
        assert_eq!(check(None).err().map(|f| f.exit), Some(Exit::Failed));
    }
}
