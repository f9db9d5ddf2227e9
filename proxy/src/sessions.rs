//! Clients heard from lately: what they said about themselves and the stream that commands go
//! out on. A session outlives its stream; it ends by silence or by the client's word.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use centaur_apis::{
    admin,
    v2::{ClientType, Settings, TelemetryCommand, settings::PubSub},
};
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;

use crate::{caller::Caller, shards::Shards};

/// Clients known at once.
const SESSIONS_MAX: usize = 100_000;

/// The way to one open telemetry stream. Bounded; nobody waits for its reader.
pub(crate) type Commands = mpsc::Sender<Result<TelemetryCommand, Status>>;

/// Every client heard from lately.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_client: Shards<Arc<Session>>,
    started: Instant,
    streams: AtomicU64,
    count: AtomicUsize,
}

/// One client. Touching it costs a few loads and stores.
#[derive(Debug)]
pub(crate) struct Session {
    seen_ms: AtomicU64,
    /// Last heartbeat or receive; 0: none yet.
    active_ms: AtomicU64,
    /// It may hold leases, so the stores want to hear about it.
    receives: AtomicBool,
    about: Mutex<About>,
}

#[derive(Debug, Default)]
struct About {
    kind: ClientType,
    group: String,
    settings: Option<Settings>,
    language: String,
    version: String,
    address: String,
    /// The newest stream and its number.
    stream: Option<(u64, Commands)>,
}

/// What a request says about its client's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It is there.
    Seen,
    /// It is at work: a heartbeat.
    Active,
    /// It is at work and takes messages.
    Receives,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            by_client: Shards::new(SESSIONS_MAX),
            started: Instant::now(),
            streams: AtomicU64::new(0),
            count: AtomicUsize::new(0),
        }
    }

    /// Notes a sign of life of a client, if it has a session.
    pub(crate) fn touch(&self, client: &str, sign: Sign) -> bool {
        let now_ms = self.ms(Instant::now());
        self.by_client.read(client, |session| session.touch(now_ms, sign)).is_some()
    }

    /// The session of a client, made if need be; `None` when there are too many.
    pub(crate) fn enter(&self, caller: &Caller<'_>, sign: Sign) -> Option<Arc<Session>> {
        let make = || {
            self.count.fetch_add(1, Ordering::Relaxed);
            Arc::new(Session::new(caller))
        };
        let session = self.by_client.get_or_insert(caller.client, make)?;
        session.touch(self.ms(Instant::now()), sign);
        Some(session)
    }

    pub(crate) fn find(&self, client: &str) -> Option<Arc<Session>> {
        self.by_client.read(client, Arc::clone)
    }

    /// Forgets a client; whether it was known.
    pub(crate) fn leave(&self, client: &str) -> bool {
        let known = self.by_client.remove(client).is_some();
        if known {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        known
    }

    /// Forgets the clients that were silent for `expiry` and names those that may hold leases.
    pub(crate) fn expire(&self, now: Instant, expiry: Duration) -> Vec<Box<str>> {
        let oldest_ms = self.ms(now).saturating_sub(millis(expiry));
        let gone = self.by_client.extract(|session| session.seen_ms.load(Ordering::Relaxed) >= oldest_ms);
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
        let held = |(client, session): (Box<str>, Arc<Session>)| session.receives().then_some(client);
        gone.into_iter().filter_map(held).collect()
    }

    /// Clients that may hold leases and were heard from since `since`.
    pub(crate) fn alive(&self, since: Instant) -> Vec<String> {
        let since_ms = self.ms(since);
        let mut alive = Vec::new();
        self.by_client.for_each(|client, session| {
            if session.receives() && session.seen_ms.load(Ordering::Relaxed) >= since_ms {
                alive.push(client.to_owned());
            }
        });
        alive
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A number for a stream just opened; later ones are higher.
    pub(crate) fn number_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Everyone, as operators see it.
    pub(crate) fn list(&self, now: Instant) -> Vec<admin::Client> {
        let now_ms = self.ms(now);
        let mut clients = Vec::with_capacity(self.count());
        self.by_client.for_each(|id, session| clients.push(session.describe(id, now_ms)));
        clients
    }

    fn ms(&self, at: Instant) -> u64 {
        // From 1, as 0 stands for never.
        1 + millis(at.saturating_duration_since(self.started))
    }
}

impl Session {
    fn new(caller: &Caller<'_>) -> Self {
        let about = About {
            language: caller.language.to_owned(),
            version: caller.version.to_owned(),
            address: caller.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            ..About::default()
        };
        Self {
            seen_ms: AtomicU64::new(0),
            active_ms: AtomicU64::new(0),
            receives: AtomicBool::new(false),
            about: Mutex::new(about),
        }
    }

    fn touch(&self, now_ms: u64, sign: Sign) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
        if sign != Sign::Seen {
            self.active_ms.store(now_ms, Ordering::Relaxed);
        }
        // Read before writing: the line stays shared between cores once it is set.
        if sign == Sign::Receives && !self.receives() {
            self.receives.store(true, Ordering::Relaxed);
        }
    }

    fn receives(&self) -> bool {
        self.receives.load(Ordering::Relaxed)
    }

    /// Whether a heartbeat or a receive was seen.
    pub(crate) fn was_active(&self) -> bool {
        self.active_ms.load(Ordering::Relaxed) > 0
    }

    /// What kind of client it is; unspecified as long as it did not say.
    pub(crate) fn kind(&self) -> ClientType {
        self.about().kind
    }

    /// Takes what a heartbeat says of a client that sent no settings.
    pub(crate) fn introduce(&self, kind: ClientType, group: &str) {
        let mut about = self.about();
        if about.settings.is_none() {
            about.kind = kind;
            group.clone_into(&mut about.group);
        }
    }

    /// Keeps the client's settings and makes `commands` its stream, unless a newer one is open.
    pub(crate) fn settle(&self, settings: Settings, stream: u64, commands: &Commands) {
        let mut about = self.about();
        about.kind = kind_of(&settings);
        about.group = match &settings.pub_sub {
            Some(PubSub::Subscription(s)) => s.group.as_ref().map(|g| g.name.clone()).unwrap_or_default(),
            _ => String::new(),
        };
        about.settings = Some(settings);
        if about.stream.as_ref().is_none_or(|(bound, _)| *bound <= stream) {
            about.stream = Some((stream, commands.clone()));
        }
    }

    /// Lets go of a stream that ended.
    pub(crate) fn unbind(&self, stream: u64) {
        let mut about = self.about();
        about.stream.take_if(|(bound, _)| *bound == stream);
    }

    /// Sends a command on the newest stream; false when there is none or its reader is too slow.
    pub(crate) fn command(&self, command: TelemetryCommand) -> bool {
        match &self.about().stream {
            Some((_, commands)) => commands.try_send(Ok(command)).is_ok(),
            None => false,
        }
    }

    /// How long the client waits for an answer beyond its polling time, if it said so.
    pub(crate) fn request_timeout(&self) -> Option<Duration> {
        let about = self.about();
        let timeout = about.settings.as_ref()?.request_timeout.as_ref()?;
        Duration::try_from(*timeout).ok()
    }

    fn describe(&self, id: &str, now_ms: u64) -> admin::Client {
        let about = self.about();
        let topics = match about.settings.as_ref().and_then(|s| s.pub_sub.as_ref()) {
            Some(PubSub::Publishing(p)) => p.topics.iter().map(|t| t.name.clone()).collect(),
            Some(PubSub::Subscription(s)) => {
                s.subscriptions.iter().filter_map(|s| s.topic.as_ref()).map(|t| t.name.clone()).collect()
            }
            None => Vec::new(),
        };
        admin::Client {
            id: id.to_owned(),
            kind: kind_name(about.kind).to_owned(),
            group: about.group.clone(),
            topics,
            language: about.language.clone(),
            version: about.version.clone(),
            address: about.address.clone(),
            last_seen_ms_ago: now_ms.saturating_sub(self.seen_ms.load(Ordering::Relaxed)),
        }
    }

    fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What kind of client these settings are of; told by their content when they do not say.
fn kind_of(settings: &Settings) -> ClientType {
    match (settings.client_type(), &settings.pub_sub) {
        (ClientType::Unspecified, Some(PubSub::Publishing(_))) => ClientType::Producer,
        (ClientType::Unspecified, Some(PubSub::Subscription(_))) => ClientType::SimpleConsumer,
        (said, _) => said,
    }
}

fn kind_name(kind: ClientType) -> &'static str {
    match kind {
        ClientType::Unspecified => "unknown",
        ClientType::Producer => "producer",
        ClientType::PushConsumer => "push consumer",
        ClientType::SimpleConsumer => "simple consumer",
        ClientType::PullConsumer => "pull consumer",
        ClientType::LitePushConsumer => "lite push consumer",
        ClientType::LiteSimpleConsumer => "lite simple consumer",
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{Publishing, Resource};

    use super::*;

    const EXPIRY: Duration = Duration::from_secs(120);

    fn caller(client: &str) -> Caller<'_> {
        Caller { client, language: "JAVA", version: "5.0.4", remaining: None, peer: None }
    }

    #[test]
    fn silence_ends_a_session_and_signs_of_life_keep_it() {
        let sessions = Sessions::new();
        sessions.enter(&caller("consumer"), Sign::Receives).expect("room");
        sessions.enter(&caller("producer"), Sign::Active).expect("room");
        let now = Instant::now();
        assert!(sessions.expire(now + Duration::from_secs(119), EXPIRY).is_empty());
        assert_eq!(sessions.count(), 2);
        assert_eq!(sessions.alive(sessions.started), ["consumer"]);
        assert!(sessions.alive(now + Duration::from_secs(1)).is_empty());
        let gone = sessions.expire(now + Duration::from_secs(122), EXPIRY);
        assert_eq!(gone, ["consumer".into()], "only who may hold leases concerns the stores");
        assert_eq!(sessions.count(), 0);
        assert!(!sessions.touch("consumer", Sign::Seen));
    }

    #[tokio::test]
    async fn commands_go_to_the_newest_stream() {
        let sessions = Sessions::new();
        let session = sessions.enter(&caller("c"), Sign::Seen).expect("room");
        let (old, mut old_end) = mpsc::channel(4);
        let (new, mut new_end) = mpsc::channel(1);
        assert!(!session.command(TelemetryCommand::default()), "no stream yet");
        session.settle(Settings::default(), 1, &old);
        session.settle(Settings::default(), 2, &new);
        session.settle(Settings::default(), 1, &old);
        assert!(session.command(TelemetryCommand::default()));
        assert!(new_end.try_recv().is_ok() && old_end.try_recv().is_err());
        session.unbind(1);
        assert!(session.command(TelemetryCommand::default()), "closing the older changes nothing");
        assert!(!session.command(TelemetryCommand::default()), "a full stream is not waited for");
        session.unbind(2);
        assert!(!session.command(TelemetryCommand::default()));
    }

    #[test]
    fn settings_say_more_than_heartbeats() {
        let sessions = Sessions::new();
        let session = sessions.enter(&caller("c"), Sign::Seen).expect("room");
        assert!(!session.was_active());
        session.introduce(ClientType::PushConsumer, "workers");
        assert_eq!(session.kind(), ClientType::PushConsumer);
        let topic = Resource { name: "orders".into(), ..Default::default() };
        let publishing = Publishing { topics: vec![topic], ..Default::default() };
        let settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Default::default() };
        session.settle(settings, 0, &mpsc::channel(1).0);
        session.introduce(ClientType::PushConsumer, "workers");
        let listed = sessions.list(Instant::now()).remove(0);
        assert_eq!((listed.kind.as_str(), listed.group.as_str()), ("producer", ""));
        assert_eq!(listed.topics, ["orders"]);
    }
}
