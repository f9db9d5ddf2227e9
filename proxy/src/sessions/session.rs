//! One client: when it was heard from, what it said of itself, and how it can be told something.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use centaur_apis::{
    admin,
    v2::{ClientType, Settings, TelemetryCommand, settings::PubSub},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Commands, Sign, Unheard};
use crate::caller::Caller;

/// Topics of half messages remembered of one client, beside those its settings name.
const HALF_TOPICS_MAX: usize = 256;
/// Receives of one client under way at once.
pub(crate) const RECEIVES_MAX: u32 = 4_096;
/// Bytes kept of a client's language and version, each.
const TOLD_BYTES_MAX: usize = 64;

/// One client. Touching it costs a few loads and stores.
#[derive(Debug)]
pub(crate) struct Session {
    seen_ms: AtomicU64,
    /// Last heartbeat or receive; 0: none yet.
    active_ms: AtomicU64,
    /// It may hold leases, so the stores want to hear about it.
    receives: AtomicBool,
    /// Bits of its roles, of no account without an open stream.
    roles: AtomicU8,
    /// Receives under way.
    waiting: AtomicU32,
    about: Mutex<About>,
    /// Has a permit for each byte of settings that may be kept of all clients.
    settings_room: Arc<Semaphore>,
    /// The client said that it goes.
    left: CancellationToken,
}

#[derive(Debug, Default)]
struct About {
    kind: ClientType,
    group: String,
    settings: Option<Said>,
    language: String,
    version: String,
    address: String,
    /// Where it sent half messages.
    half_topics: BTreeSet<String>,
    /// The newest stream and its number.
    stream: Option<(u64, Commands)>,
}

/// What of a client's settings is of use later.
#[derive(Debug)]
struct Said {
    publishes: bool,
    /// Those it publishes or consumes: each once, in order, apart by line breaks, which no name has.
    topics: Box<str>,
    request_timeout: Option<Duration>,
    _room: OwnedSemaphorePermit,
}

/// What all clients said of themselves is too much to keep this too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// A receive under way, for as long as it is.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Session);

/// What a client with an open stream may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Transactions: it produces.
    Producer = 1,
    /// Lite topics: it said that it is of a lite kind. Others must not hear of them: some crash.
    Lite = 2,
}

impl Session {
    pub(super) fn new(caller: &Caller<'_>, now_ms: u64, settings_room: Arc<Semaphore>) -> Self {
        // Headers are ASCII.
        let told = |text: &str| text[..text.len().min(TOLD_BYTES_MAX)].to_owned();
        let about = About {
            language: told(caller.language),
            version: told(caller.version),
            address: caller.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            ..About::default()
        };
        Self {
            seen_ms: AtomicU64::new(now_ms),
            active_ms: AtomicU64::new(0),
            receives: AtomicBool::new(false),
            roles: AtomicU8::new(0),
            waiting: AtomicU32::new(0),
            about: Mutex::new(about),
            settings_room,
            left: CancellationToken::new(),
        }
    }

    /// Resolves when the client has said that it goes: what it still waits for is of no use to it.
    pub(crate) async fn left(&self) {
        self.left.cancelled().await;
    }

    pub(super) fn leave(&self) {
        self.left.cancel();
    }

    pub(super) fn touch(&self, now_ms: u64, sign: Sign) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
        if sign != Sign::Seen {
            self.active_ms.store(now_ms, Ordering::Relaxed);
        }
        // Read before writing: the line stays shared between cores once it is set.
        if sign == Sign::Receives && !self.receives() {
            self.receives.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn receives(&self) -> bool {
        self.receives.load(Ordering::Relaxed)
    }

    /// When it was last heard from, ms since the start.
    pub(super) fn seen_ms(&self) -> u64 {
        self.seen_ms.load(Ordering::Relaxed)
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

    /// Keeps of the client's settings what is of use and makes `commands` its stream, unless a newer
    /// one is open.
    pub(crate) fn settle(&self, settings: &Settings, stream: u64, commands: &Commands) -> Result<(), NoRoom> {
        let said = Said::new(settings, &self.settings_room).ok_or(NoRoom)?;
        let mut about = self.about();
        about.kind = kind_of(settings);
        about.group = match &settings.pub_sub {
            Some(PubSub::Subscription(s)) => s.group.as_ref().map(|g| g.name.clone()).unwrap_or_default(),
            _ => String::new(),
        };
        about.settings = Some(said);
        if about.stream.as_ref().is_none_or(|(bound, _)| *bound <= stream) {
            about.stream = Some((stream, commands.clone()));
        }
        self.roles.store(about.roles(), Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of a stream that ended.
    pub(crate) fn unbind(&self, stream: u64) {
        let mut about = self.about();
        about.stream.take_if(|(bound, _)| *bound == stream);
        self.roles.store(about.roles(), Ordering::Relaxed);
    }

    /// Notes that the client sent a half message to a topic.
    pub(crate) fn produces(&self, topic: &str) {
        let mut about = self.about();
        if !about.half_topics.contains(topic) && about.half_topics.len() < HALF_TOPICS_MAX {
            about.half_topics.insert(topic.to_owned());
        }
        self.roles.store(about.roles(), Ordering::Relaxed);
    }

    /// Whether the client can be told something and has this role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.load(Ordering::Relaxed) & role as u8 != 0
    }

    /// Whether its settings name the topic, or it sent half messages to it.
    pub(super) fn publishes(&self, topic: &str) -> bool {
        let about = self.about();
        let names_it = about.settings.as_ref().is_some_and(|said| said.publishes && said.topics().any(|t| t == topic));
        names_it || about.half_topics.contains(topic)
    }

    /// Whether it consumes, and for this group.
    pub(super) fn consumes_for(&self, group: &str) -> bool {
        let about = self.about();
        about.kind != ClientType::Producer && about.group == group
    }

    /// Counts a receive of the client as under way; `None` when it has too many.
    pub(crate) fn wait(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(self);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < RECEIVES_MAX).then_some(waiting)
    }

    /// Whether there is a way to tell it something.
    pub(crate) fn has_stream(&self) -> bool {
        self.about().stream.is_some()
    }

    /// Sends a command on the newest stream; waits for nobody.
    pub(crate) fn command(&self, command: TelemetryCommand) -> Result<(), Unheard> {
        match &self.about().stream {
            Some((_, commands)) => commands.send(command),
            None => Err(Unheard::NoStream),
        }
    }

    /// How long the client waits for an answer beyond its polling time, if it said so.
    pub(crate) fn request_timeout(&self) -> Option<Duration> {
        self.about().settings.as_ref()?.request_timeout
    }

    pub(super) fn describe(&self, id: &str, now_ms: u64) -> admin::Client {
        let about = self.about();
        let topics = about.settings.iter().flat_map(Said::topics).map(str::to_owned).collect();
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

impl About {
    fn roles(&self) -> u8 {
        let publishes = self.settings.as_ref().is_some_and(|said| said.publishes);
        let mut roles = 0;
        if self.stream.is_some() && (publishes || !self.half_topics.is_empty()) {
            roles |= Role::Producer as u8;
        }
        if self.stream.is_some() && is_lite(self.kind) {
            roles |= Role::Lite as u8;
        }
        roles
    }
}

impl Said {
    fn new(settings: &Settings, room: &Arc<Semaphore>) -> Option<Self> {
        let mut topics: Vec<&str> = match &settings.pub_sub {
            Some(PubSub::Publishing(p)) => p.topics.iter().map(|topic| topic.name.as_str()).collect(),
            Some(PubSub::Subscription(s)) => {
                s.subscriptions.iter().filter_map(|s| s.topic.as_ref()).map(|topic| topic.name.as_str()).collect()
            }
            None => Vec::new(),
        };
        topics.sort_unstable();
        topics.dedup();
        let topics = topics.join("\n").into_boxed_str();
        Some(Self {
            publishes: matches!(settings.pub_sub, Some(PubSub::Publishing(_))),
            _room: room.clone().try_acquire_many_owned(u32::try_from(topics.len()).ok()?).ok()?,
            topics,
            request_timeout: settings.request_timeout.and_then(|timeout| timeout.try_into().ok()),
        })
    }

    fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.split('\n').filter(|topic| !topic.is_empty())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether clients of this kind consume lite topics.
pub(crate) fn is_lite(kind: ClientType) -> bool {
    matches!(kind, ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer)
}

/// What kind of client these settings are of; told by their content when they do not say.
pub(crate) fn kind_of(settings: &Settings) -> ClientType {
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
