//! A store whose clock and disk the test holds in its hands, and the words to talk to it.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::{
    env, fs, io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use centaur_apis::{
    log::TopicType,
    store::{
        AckEntry, AckRequest, AppendRequest, Batch, Delivery, Error, NewMessage, PopRequest, PutTopicRequest, Reason,
        store_client::StoreClient,
    },
    transport::Transport,
    v2,
};
use centaur_store::{
    Clock, Config, OpenError, Store,
    log::{Disk, Io, faulty::FaultyDisk},
};
use prost::Message as _;

/// A client of a store in this process.
pub type Client = StoreClient<Transport>;

/// When the tests' clocks start, ms since 1970.
pub const START_MS: u64 = 1_700_000_000_000;
/// No limit on the bytes of an answer.
pub const UNLIMITED: u64 = u64::MAX;

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone)]
pub struct Hands(Arc<Mutex<(u64, Duration)>>);

impl Default for Hands {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((START_MS, Duration::ZERO))))
    }
}

impl Hands {
    /// Lets time go by.
    pub fn pass(&self, ms: u64) {
        let mut hands = self.0.lock().expect("not poisoned");
        hands.0 += ms;
        hands.1 += Duration::from_millis(ms);
    }

    /// Sets the wall clock forward or back; no time goes by.
    pub fn jump(&self, ms: i64) {
        let mut hands = self.0.lock().expect("not poisoned");
        hands.0 = hands.0.saturating_add_signed(ms);
    }
}

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        self.0.lock().expect("not poisoned").0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().expect("not poisoned").1
    }
}

/// Where a store's log is kept.
#[derive(Clone)]
pub enum Medium {
    Real,
    Faulty(FaultyDisk),
}

impl Medium {
    fn io(&self) -> Arc<dyn Io> {
        match self {
            Self::Real => Arc::new(Disk),
            Self::Faulty(disk) => Arc::new(disk.clone()),
        }
    }
}

/// Opens a store.
pub fn open(config: &Config, hands: &Hands, medium: &Medium) -> Result<(Store, Client), OpenError> {
    // Index runs and snapshots are real files also beside a log that is not.
    fs::create_dir_all(config.data_dir.join("log")).expect("a directory");
    let store = Store::open_with(config.clone(), Box::new(hands.clone()), medium.io())?;
    let client = StoreClient::new(Transport::Local(store.routes())).max_decoding_message_size(64 << 20);
    Ok((store, client))
}

/// A message as a proxy hands it over.
pub fn message(topic: &str, id: &str, tag: Option<&str>, keys: &[&str], body: Vec<u8>) -> NewMessage {
    let head = v2::Message {
        topic: Some(v2::Resource { name: topic.to_owned(), ..Default::default() }),
        user_properties: [("color".to_owned(), id.to_owned())].into(),
        ..Default::default()
    };
    let properties = v2::SystemProperties {
        tag: tag.map(str::to_owned),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        message_id: id.to_owned(),
        ..Default::default()
    };
    NewMessage {
        head: head.encode_to_vec().into(),
        properties: properties.encode_to_vec().into(),
        body: body.into(),
        ..Default::default()
    }
}

/// Creates a topic of that many queues.
pub async fn create_topic(client: &mut Client, name: &str, queues: u32) -> Result<(), Reason> {
    let request = PutTopicRequest {
        name: name.to_owned(),
        r#type: TopicType::Normal.into(),
        queues: Some(queues),
        ..Default::default()
    };
    client.put_topic(request).await.map(drop).map_err(|status| reason(&status))
}

/// Sends one message to one queue; gives its offset.
pub async fn send(client: &mut Client, topic: &str, queue: u32, message: NewMessage) -> Result<u64, Reason> {
    let batch = Batch { topic: topic.to_owned(), messages: vec![NewMessage { queue, ..message }] };
    let answer = client.append(AppendRequest { batches: vec![batch] }).await.map_err(|status| reason(&status))?;
    let result = answer.into_inner().results.remove(0);
    result.error.map_or_else(|| Ok(result.offsets[0]), |error| Err(error.reason()))
}

/// Takes up to `messages` for a minute, without waiting for any.
pub async fn pop(client: &mut Client, group: &str, topic: &str, messages: u32) -> Result<Vec<Delivery>, Reason> {
    let request = PopRequest {
        group: group.to_owned(),
        topic: topic.to_owned(),
        client: "consumer".to_owned(),
        messages_max: messages,
        bytes_max: UNLIMITED,
        invisible_ms: 60_000,
        create_group: true,
        ..Default::default()
    };
    client.pop(request).await.map(|answer| answer.into_inner().deliveries).map_err(|status| reason(&status))
}

/// Settles one lease.
pub async fn ack(client: &mut Client, group: &str, topic: &str, handle: &str) -> Result<(), Reason> {
    let entry = AckEntry { group: group.to_owned(), topic: topic.to_owned(), handle: handle.to_owned() };
    let answer = client.ack(AckRequest { entries: vec![entry] }).await.map_err(|status| reason(&status))?;
    let result = answer.into_inner().results.remove(0);
    result.error.map_or(Ok(()), |error| Err(error.reason()))
}

/// Why a call was refused.
pub fn reason(status: &tonic::Status) -> Reason {
    Error::from_status(status).reason()
}

/// The id of a message in its encoded system properties.
pub fn message_id(properties: &Bytes) -> String {
    v2::SystemProperties::decode(properties.as_ref()).expect("system properties").message_id
}

/// Copies a directory while others change it, as a killed process would leave it.
pub fn copy_dir(from: &Path, to: &Path) {
    while let Err(error) = try_copy_dir(from, to) {
        // A file went away in between: what was copied so far is of no one moment.
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        fs::remove_dir_all(to).expect("the copy is ours");
    }
}

fn try_copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to);
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}
