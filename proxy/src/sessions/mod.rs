//! Clients heard from lately: what they said about themselves and the stream that commands go
//! out on. A session outlives its stream; it ends by silence or by the client's word.

mod questions;
mod session;
mod stream;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use centaur_apis::admin;
use tokio::{sync::Semaphore, time::Instant};

use crate::{caller::Caller, shards::Shards};

pub(crate) use questions::{Answer, Questions, Unanswered};
pub(crate) use session::{RECEIVES_MAX, Role, Session, is_lite, kind_of};
pub(crate) use stream::{Commands, Frames, Unheard};

/// Clients known at once.
const SESSIONS_MAX: usize = 100_000;
/// Bytes of what all clients say of themselves that are kept.
const SETTINGS_BYTES_MAX: usize = 256 << 20;
/// Bytes that may wait for all clients to read them on their streams.
const UNREAD_BYTES_MAX: usize = 256 << 20;

/// A session and whose it is.
type Named = (Box<str>, Arc<Session>);

/// Every client heard from lately.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_client: Shards<Arc<Session>>,
    started: Instant,
    streams: AtomicU64,
    count: AtomicUsize,
    settings_room: Arc<Semaphore>,
    unread_room: Arc<Semaphore>,
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
            settings_room: Arc::new(Semaphore::new(SETTINGS_BYTES_MAX)),
            unread_room: Arc::new(Semaphore::new(UNREAD_BYTES_MAX)),
        }
    }

    /// Notes a sign of life of a client, if it has a session.
    pub(crate) fn touch(&self, client: &str, sign: Sign) -> bool {
        let now_ms = self.ms(Instant::now());
        self.by_client.read(client, |session| session.touch(now_ms, sign)).is_some()
    }

    /// The session of a client, made if need be; `None` when there are too many.
    pub(crate) fn enter(&self, caller: &Caller<'_>, sign: Sign) -> Option<Arc<Session>> {
        let now_ms = self.ms(Instant::now());
        let make = || {
            self.count.fetch_add(1, Ordering::Relaxed);
            Arc::new(Session::new(caller, now_ms, self.settings_room.clone()))
        };
        let session = self.by_client.get_or_insert(caller.client, make)?;
        session.touch(now_ms, sign);
        Some(session)
    }

    pub(crate) fn find(&self, client: &str) -> Option<Arc<Session>> {
        self.by_client.read(client, Arc::clone)
    }

    /// Forgets a client that says that it goes, and ends what it waits for; whether it was known.
    pub(crate) fn leave(&self, client: &str) -> bool {
        let session = self.by_client.remove(client);
        if let Some(session) = &session {
            session.leave();
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        session.is_some()
    }

    /// Forgets the clients that were silent for `expiry` and names those that may hold leases.
    pub(crate) fn expire(&self, now: Instant, expiry: Duration) -> Vec<Box<str>> {
        let oldest_ms = self.ms(now).saturating_sub(millis(expiry));
        let gone = self.by_client.extract(|session| session.seen_ms() >= oldest_ms);
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
        let held = |(client, session): (Box<str>, Arc<Session>)| session.receives().then_some(client);
        gone.into_iter().filter_map(held).collect()
    }

    /// Clients that may hold leases and were heard from since `since`.
    pub(crate) fn alive(&self, since: Instant) -> Vec<String> {
        let since_ms = self.ms(since);
        let mut alive = Vec::new();
        self.by_client.for_each(|client, session| {
            if session.receives() && session.seen_ms() >= since_ms {
                alive.push(client.to_owned());
            }
        });
        alive
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a client that can be told something has this role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.by_client.any(|session| session.has(role))
    }

    /// The clients that can be told something and produce to these topics, by topic; in the order
    /// of their ids.
    pub(crate) fn producers(&self, topics: &[String]) -> HashMap<String, Vec<Arc<Session>>> {
        let mut found: HashMap<&String, Vec<Named>> = HashMap::new();
        self.by_client.for_each(|client, session| {
            if !session.has(Role::Producer) {
                return;
            }
            for topic in topics.iter().filter(|topic| session.publishes(topic)) {
                found.entry(topic).or_default().push((client.into(), session.clone()));
            }
        });
        let in_order = |(topic, mut sessions): (&String, Vec<Named>)| {
            sessions.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            (topic.clone(), sessions.into_iter().map(|(_, session)| session).collect())
        };
        found.into_iter().map(in_order).collect()
    }

    /// Those of these clients that can be told something; of all when none is named.
    pub(crate) fn reachable(&self, clients: &[String]) -> Vec<Arc<Session>> {
        let mut found = Vec::new();
        if clients.is_empty() {
            self.by_client.for_each(|_, session| found.push(session.clone()));
        } else {
            found.extend(clients.iter().filter_map(|client| self.find(client)));
        }
        found.retain(|session| session.has_stream());
        found
    }

    /// Opens a stream; its number is higher than those of the streams before.
    pub(crate) fn open_stream(&self) -> (u64, Commands, Frames) {
        let (commands, frames) = stream::open(self.unread_room.clone());
        (self.streams.fetch_add(1, Ordering::Relaxed), commands, frames)
    }

    /// The clients that said they consume for a group, in order.
    pub(crate) fn consumers(&self, group: &str) -> Vec<String> {
        let mut consumers = Vec::new();
        self.by_client.for_each(|client, session| {
            if session.consumes_for(group) {
                consumers.push(client.to_owned());
            }
        });
        consumers.sort_unstable();
        consumers
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

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{
        ClientType, Publishing, Resource, Settings, Subscription, TelemetryCommand, settings::PubSub,
    };
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::{session::NoRoom, *};

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
        let (first, old, mut old_end) = sessions.open_stream();
        let (second, new, mut new_end) = sessions.open_stream();
        let tell = || session.command(TelemetryCommand::default());
        assert_eq!(tell(), Err(Unheard::NoStream), "no stream yet");
        for (number, stream) in [(first, &old), (second, &new), (first, &old)] {
            session.settle(&Settings::default(), number, stream).expect("room");
        }
        assert_eq!(tell(), Ok(()));
        assert!(new_end.next().now_or_never().is_some() && old_end.next().now_or_never().is_none());
        session.unbind(first);
        assert_eq!(tell(), Ok(()), "closing the older changes nothing");
        let full = (0..100).find_map(|_| tell().err());
        assert_eq!(full, Some(Unheard::Full), "a full stream is not waited for");
        session.unbind(second);
        assert_eq!(tell(), Err(Unheard::NoStream));
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
        session.settle(&settings, 0, &sessions.open_stream().1).expect("room");
        session.introduce(ClientType::PushConsumer, "workers");
        let listed = sessions.list(Instant::now()).remove(0);
        assert_eq!((listed.kind.as_str(), listed.group.as_str()), ("producer", ""));
        assert_eq!(listed.topics, ["orders"]);
    }

    fn producer(topic: &str) -> Settings {
        let topic = Resource { name: topic.into(), ..Default::default() };
        let publishing = Publishing { topics: vec![topic], ..Default::default() };
        Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Default::default() }
    }

    #[test]
    fn producers_are_found_by_what_they_named_and_what_they_sent() {
        let sessions = Sessions::new();
        let (_, stream, _end) = sessions.open_stream();
        let enter = |client| sessions.enter(&caller(client), Sign::Seen).expect("room");
        enter("b").settle(&producer("orders"), 0, &stream).expect("room");
        enter("a").settle(&producer("orders"), 1, &stream).expect("room");
        enter("silent").produces("orders");
        assert!(sessions.has(Role::Producer) && !sessions.has(Role::Lite));
        let c = enter("c");
        c.settle(&producer("invoices"), 2, &stream).expect("room");
        c.produces("orders");
        let topics = ["orders", "invoices", "unknown"].map(str::to_owned);
        let found = sessions.producers(&topics);
        let count = |topic: &str| found.get(topic).map_or(0, Vec::len);
        assert_eq!(topics.each_ref().map(|topic| count(topic)), [3, 1, 0], "one has no stream");
        assert!(Arc::ptr_eq(&found["orders"][1], &enter("b")), "in order");
        c.unbind(2);
        assert!(!sessions.producers(&topics).contains_key("invoices"), "its stream ended");
        assert_eq!(sessions.reachable(&[]).len(), 2);
        assert_eq!(sessions.reachable(&["a".into(), "c".into(), "nobody".into()]).len(), 1);
    }

    #[test]
    fn what_clients_say_of_themselves_has_a_bound() {
        let sessions = Sessions { settings_room: Arc::new(Semaphore::new(13)), ..Sessions::new() };
        let (_, stream, _end) = sessions.open_stream();
        let enter = |client| sessions.enter(&caller(client), Sign::Seen).expect("room");
        let (a, b) = (enter("a"), enter("b"));
        assert_eq!(a.settle(&producer("orders"), 0, &stream), Ok(()));
        assert_eq!(b.settle(&producer("invoices"), 1, &stream), Err(NoRoom));
        assert!(!b.has_stream() && !b.has(Role::Producer), "nothing of it is kept");
        assert_eq!(a.settle(&producer("billing"), 0, &stream), Ok(()), "in place of what it said before");
        assert_eq!(a.settle(&producer("customers-abroad"), 0, &stream), Err(NoRoom));
        assert!(a.publishes("billing"), "what it said before stays");
        assert!(sessions.leave("a"));
        drop(a);
        assert_eq!(b.settle(&producer("invoices"), 1, &stream), Ok(()));
    }

    #[test]
    fn a_client_waits_for_so_many_answers_at_once() {
        let sessions = Sessions::new();
        let session = sessions.enter(&caller("c"), Sign::Receives).expect("room");
        let mut waiting: Vec<_> = std::iter::from_fn(|| session.wait()).take(10_000).collect();
        assert_eq!(waiting.len(), RECEIVES_MAX as usize);
        waiting.pop();
        assert!(session.wait().is_some());
    }

    #[test]
    fn consumers_of_a_group_are_found() {
        let sessions = Sessions::new();
        let enter = |client| sessions.enter(&caller(client), Sign::Seen).expect("room");
        enter("b").introduce(ClientType::PushConsumer, "workers");
        enter("a").introduce(ClientType::SimpleConsumer, "workers");
        enter("c").introduce(ClientType::SimpleConsumer, "others");
        enter("d").introduce(ClientType::Producer, "");
        assert_eq!(sessions.consumers("workers"), ["a", "b"]);
    }

    #[test]
    fn only_who_says_so_is_told_of_lite_topics() {
        let sessions = Sessions::new();
        let session = sessions.enter(&caller("c"), Sign::Seen).expect("room");
        let (_, stream, _end) = sessions.open_stream();
        let settings = |kind: ClientType| Settings {
            client_type: Some(kind.into()),
            pub_sub: Some(PubSub::Subscription(Subscription::default())),
            ..Default::default()
        };
        session.settle(&settings(ClientType::PushConsumer), 0, &stream).expect("room");
        assert!(!session.has(Role::Lite));
        for kind in [ClientType::LitePushConsumer, ClientType::LiteSimpleConsumer] {
            session.settle(&settings(kind), 0, &stream).expect("room");
            assert!(session.has(Role::Lite));
        }
        session.unbind(0);
        assert!(!session.has(Role::Lite));
    }
}
