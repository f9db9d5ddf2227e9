//! Telemetry: one open stream per client. Its settings come in and go back merged; commands go
//! out. Nobody waits for a client that does not read: what does not fit is dropped. Who reads nothing
//! for long, or goes on asking without reading, loses the stream.

use std::{pin::pin, sync::Arc, time::Duration};

use centaur_apis::{
    log::Group,
    v2::{self, ClientType, Language, Settings, TelemetryCommand, settings::PubSub, telemetry_command::Command},
};
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tonic::{Status, Streaming};

use super::{lite, receive::too_many_clients, settings};
use crate::{
    Inner,
    caller::Caller,
    metrics::Rpc,
    refusal::{self, Refusal},
    sessions::{self, Answer, Commands, Frames, Session, Sign, Unheard},
    validate,
};

/// Largest settings of a client, in bytes: a part of them is kept as long as it lives.
const SETTINGS_BYTES_MAX: usize = 64 << 10;
/// Some clients miss the first answer to their settings while they start; they get it again when
/// they show no sign of work for this long.
const SILENCE: Duration = Duration::from_secs(2);
/// A client that has something to read and reads nothing for one to two of these loses its stream.
const STUCK: Duration = Duration::from_secs(30);

/// Who opened a stream, for as long as it is open.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    client: String,
    language: String,
    version: String,
    peer: Option<std::net::SocketAddr>,
}

impl Opener {
    pub(crate) fn new(caller: &Caller<'_>) -> Self {
        Self {
            client: caller.client.to_owned(),
            language: caller.language.to_owned(),
            version: caller.version.to_owned(),
            peer: caller.peer,
        }
    }

    fn caller(&self) -> Caller<'_> {
        let (client, language, version) = (&self.client, &self.language, &self.version);
        Caller { client, language, version, remaining: None, peer: self.peer }
    }
}

/// Opens a stream; it lives until either side ends it.
pub(crate) fn open(proxy: Arc<Inner>, opener: Opener, inbound: Streaming<TelemetryCommand>) -> Frames {
    let (number, commands, frames) = proxy.sessions.open_stream();
    tokio::spawn(Stream { number, proxy, opener, commands, session: None }.serve(inbound));
    frames
}

/// A stream that says one thing and ends.
pub(crate) fn refuse(proxy: &Inner, refusal: Refusal) -> Frames {
    let (_, commands, frames) = proxy.sessions.open_stream();
    // Of a new stream only the room of all may be taken; then it ends without a word.
    let _ = commands.send(TelemetryCommand { status: Some(refusal.into()), command: None });
    frames
}

struct Stream {
    number: u64,
    proxy: Arc<Inner>,
    opener: Opener,
    commands: Commands,
    session: Option<Arc<Session>>,
}

/// Why a stream ends before its client ends it.
enum Ending {
    /// The client's settings are not acceptable; it is told by a stream error.
    Refused(Refusal),
    /// The client or the connection went away.
    Gone,
    /// The client does not read its answers.
    Unread,
}

impl Stream {
    async fn serve(mut self, mut inbound: Streaming<TelemetryCommand>) {
        let mut silence = pin!(sleep(SILENCE));
        let mut again: Option<TelemetryCommand> = None;
        let mut stuck = pin!(sleep(STUCK));
        let mut stuck_at = None;
        loop {
            let heard = tokio::select! {
                heard = inbound.message() => heard,
                () = self.commands.closed() => break,
                () = silence.as_mut(), if again.is_some() => {
                    self.say_again(again.take());
                    continue;
                }
                () = stuck.as_mut() => {
                    let at = self.commands.stuck_at();
                    if at.is_some() && at == stuck_at {
                        self.give_up();
                        break;
                    }
                    stuck_at = at;
                    stuck.as_mut().reset(Instant::now() + STUCK);
                    continue;
                }
            };
            let command = match heard {
                Ok(Some(command)) => command,
                Ok(None) => break,
                // A frame that cannot be read, or a connection that is gone and does not hear this.
                Err(status) => {
                    self.commands.end(unreadable(status));
                    break;
                }
            };
            let sent = match command.command {
                Some(Command::Settings(sent)) => sent,
                Some(other) => {
                    self.answered(other, command.status);
                    continue;
                }
                None => continue,
            };
            let is_first = self.session.is_none();
            let is_hasty = sent.user_agent.as_ref().is_some_and(|agent| agent.language() == Language::NodeJs);
            match self.settle(sent).await {
                Ok(answer) if is_first && is_hasty => {
                    again = Some(answer);
                    silence.as_mut().reset(Instant::now() + SILENCE);
                }
                Ok(_) => {}
                Err(Ending::Gone) => break,
                Err(Ending::Unread) => {
                    self.give_up();
                    break;
                }
                Err(Ending::Refused(refusal)) => {
                    self.proxy.metrics.answered(Rpc::Telemetry, refusal.code);
                    let text = format!("process client telemetryCommand failed. {}", refusal.message);
                    self.commands.end(Status::invalid_argument(text));
                    break;
                }
            }
        }
        if let Some(session) = &self.session {
            session.unbind(self.number);
        }
    }

    /// Takes a client's settings over and answers them.
    async fn settle(&mut self, sent: Settings) -> Result<TelemetryCommand, Ending> {
        let group = check(&sent).map_err(Ending::Refused)?.map(str::to_owned);
        let stored = match &group {
            Some(group) => self.group(group, &sent).await.map_err(Ending::Refused)?,
            None => None,
        };
        let Some(session) = self.proxy.sessions.enter(&self.opener.caller(), Sign::Seen) else {
            return Err(Ending::Refused(too_many_clients(&self.proxy)));
        };
        if session.settle(&sent, self.number, &self.commands).is_err() {
            let text = "the settings of all clients take as much memory as this server gives them; try another";
            return Err(Ending::Refused(Refusal::new(v2::Code::TooManyRequests, text)));
        }
        self.session = Some(session);
        let merged = settings::merged(sent, stored.as_deref(), self.proxy.config.body_bytes_max);
        let answer = TelemetryCommand { status: Some(refusal::ok()), command: Some(Command::Settings(merged)) };
        self.proxy.metrics.answered(Rpc::Telemetry, v2::Code::Ok);
        match self.commands.send(answer.clone()) {
            Ok(()) => Ok(answer),
            Err(Unheard::NoStream) => Err(Ending::Gone),
            Err(Unheard::Full) => Err(Ending::Unread),
            Err(Unheard::AllFull) => {
                let text =
                    "clients do not read what they are told, and this server keeps no more for them; try another";
                Err(Ending::Refused(Refusal::new(v2::Code::TooManyRequests, text)))
            }
        }
    }

    fn give_up(&self) {
        tracing::info!(client = self.opener.client, "client does not read what it is told; its stream ends");
        self.commands.give_up();
    }

    /// The consumer group of a client, if it is for clients of this kind.
    async fn group(&self, name: &str, sent: &Settings) -> Result<Option<Arc<Group>>, Refusal> {
        let kind = sessions::kind_of(sent);
        // A client must not wait for its settings because a store is away: it starts with the
        // defaults and asks again in minutes.
        let Ok(mut group) = self.proxy.routes.group(name).await else { return Ok(None) };
        if let Some(PubSub::Subscription(subscription)) = &sent.pub_sub
            && sessions::is_lite(kind)
        {
            if group.is_none() {
                group = lite::bind(&self.proxy, &self.opener.client, name, subscription).await?;
            }
            lite::same_topic(group.as_deref(), subscription)?;
        }
        lite::fits(kind, group.as_deref())?;
        Ok(group)
    }

    /// Takes a frame that answers a question; others say nothing to a server.
    fn answered(&self, answer: Command, status: Option<v2::Status>) {
        let (nonce, text) = match answer {
            Command::ThreadStackTrace(trace) => (trace.nonce, trace.thread_stack_trace.unwrap_or_default()),
            Command::VerifyMessageResult(result) => (result.nonce, String::new()),
            // Some clients give a question back as its answer.
            Command::VerifyMessageCommand(echo) => (echo.nonce, String::new()),
            Command::Settings(_)
            | Command::RecoverOrphanedTransactionCommand(_)
            | Command::PrintThreadStackTraceCommand(_)
            | Command::ReconnectEndpointsCommand(_)
            | Command::NotifyUnsubscribeLiteCommand(_) => return,
        };
        self.proxy.questions.answered(&self.opener.client, &nonce, Answer { status, text });
    }

    fn say_again(&self, answer: Option<TelemetryCommand>) {
        if let (Some(session), Some(answer)) = (&self.session, answer)
            && !session.was_active()
        {
            // What does not fit is dropped, as everything said on a stream.
            let _ = session.command(answer);
        }
    }
}

/// Why a frame cannot be read; one that is too large in the contract's words.
fn unreadable(status: Status) -> Status {
    match status.code() {
        tonic::Code::OutOfRange => Status::resource_exhausted(status.message()),
        _ => status,
    }
}

/// Checks what a client says of itself; gives its consumer group.
fn check(settings: &Settings) -> Result<Option<&str>, Refusal> {
    let bytes = settings.encoded_len();
    if bytes > SETTINGS_BYTES_MAX {
        return Err(unfit(&format!("they have {bytes} bytes; at most {SETTINGS_BYTES_MAX} are allowed")));
    }
    let is_producer = settings.client_type() == ClientType::Producer;
    let is_unknown = settings.client_type() == ClientType::Unspecified;
    match &settings.pub_sub {
        Some(PubSub::Publishing(publishing)) if is_producer || is_unknown => {
            publishing.topics.iter().try_for_each(|topic| validate::topic(Some(topic)).map(drop))?;
            Ok(None)
        }
        Some(PubSub::Subscription(subscription)) if !is_producer => {
            let group = validate::group(subscription.group.as_ref())?;
            subscription.subscriptions.iter().try_for_each(|of| validate::topic(of.topic.as_ref()).map(drop))?;
            Ok(Some(group))
        }
        Some(_) => Err(unfit(&format!("client_type {} does not fit them", settings.client_type().as_str_name()))),
        None => Err(unfit("they have neither publishing nor subscription")),
    }
}

fn unfit(why: &str) -> Refusal {
    Refusal::new(v2::Code::BadRequest, format!("settings are not usable: {why}"))
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{Code, Publishing, Resource, Subscription, SubscriptionEntry};

    use super::*;

    fn named(name: &str) -> Resource {
        Resource { name: name.to_owned(), ..Default::default() }
    }

    fn publishing(topics: &[&str]) -> Option<PubSub> {
        let topics = topics.iter().map(|name| named(name)).collect();
        Some(PubSub::Publishing(Publishing { topics, ..Default::default() }))
    }

    fn subscribing(group: &str, topics: &[&str]) -> Option<PubSub> {
        let entry = |topic: &&str| SubscriptionEntry { topic: Some(named(topic)), expression: None };
        let subscriptions = topics.iter().map(entry).collect();
        Some(PubSub::Subscription(Subscription { group: Some(named(group)), subscriptions, ..Default::default() }))
    }

    #[test]
    fn settings_name_legal_topics_and_a_legal_group() {
        let code = |kind: Option<ClientType>, pub_sub| {
            let settings = Settings { client_type: kind.map(Into::into), pub_sub, ..Default::default() };
            check(&settings).map(|group| group.map(str::to_owned)).map_err(|r| r.code)
        };
        assert_eq!(code(Some(ClientType::Producer), publishing(&[])), Ok(None));
        assert_eq!(code(None, publishing(&["orders"])), Ok(None));
        assert_eq!(code(Some(ClientType::Producer), publishing(&["orders", "a b"])), Err(Code::IllegalTopic));
        let push = Some(ClientType::PushConsumer);
        for topics in [&[][..], &["orders"], &["orders", "%DLQ%workers"]] {
            assert_eq!(code(push, subscribing("workers", topics)), Ok(Some("workers".to_owned())), "{topics:?}");
        }
        assert_eq!(code(push, subscribing("", &["orders"])), Err(Code::IllegalConsumerGroup));
        assert_eq!(code(push, subscribing("workers", &["orders", "a b"])), Err(Code::IllegalTopic));
        assert_eq!(code(Some(ClientType::Producer), subscribing("workers", &[])), Err(Code::BadRequest));
        assert_eq!(code(push, publishing(&[])), Err(Code::BadRequest));
        assert_eq!(code(Some(ClientType::Producer), None), Err(Code::BadRequest));
        let topics = vec!["orders"; SETTINGS_BYTES_MAX / 8];
        assert_eq!(code(Some(ClientType::Producer), publishing(&topics)), Err(Code::BadRequest), "too large");
    }
}
