//! What may be asked of a store, and the choice of what is asked next.

use std::fmt;

use centaur_apis::{
    receipt_handle::ReceiptHandle,
    store::{Place, query_messages_request::By},
};
use centaur_store::log::faulty::Random;

use crate::{
    driver::Driver,
    harness::{self, UNLIMITED},
    reference::{Ask, Message, Reader},
};

pub const TOPICS: [&str; 3] = ["orders", "payments", "%DLQ%workers"];
pub const GROUPS: [&str; 3] = ["workers", "auditors", "mailers"];
const CLIENTS: [&str; 3] = ["alpha", "beta", "gamma"];
const TAGS: [&str; 3] = ["red", "green", "blue"];
const KEYS: [&str; 4] = ["k1", "k2", "k3", "k4"];
const ATTEMPTS: [&str; 4] = ["", "", "first", "second"];

/// A handle that was given out, and to whom.
#[derive(Clone)]
pub struct Issued {
    pub reader: Reader,
    pub client: String,
    pub id: String,
    pub text: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reader: (group, topic), client, id, text } = self;
        write!(f, "{id} of {group} in {topic} for {client}")?;
        match ReceiptHandle::peek(text) {
            Some(handle) => write!(f, " at {}/{} generation {}", handle.queue, handle.offset, handle.generation),
            None => write!(f, " with a forged handle"),
        }
    }
}

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    PutTopic {
        name: &'static str,
        queues: u32,
    },
    DeleteTopic {
        name: &'static str,
    },
    PutGroup {
        name: &'static str,
        max_attempts: u32,
    },
    DeleteGroup {
        name: &'static str,
    },
    /// Batches of messages: topic, queue, sizes of the bodies.
    Send(Vec<(&'static str, u32, Vec<usize>)>),
    Pop(Ask),
    /// A poll that waits for a message, which is sent then.
    Park {
        ask: Ask,
        queue: u32,
    },
    Ack(Vec<Issued>),
    Change {
        issued: Issued,
        invisible_ms: u64,
        uncounted: bool,
    },
    Bury(Issued),
    /// By the id of its message, as the client it was given to or as another.
    BuryById {
        issued: Issued,
        client: String,
    },
    EndSession {
        client: &'static str,
        group: Option<&'static str>,
    },
    Touch(&'static str),
    Pass {
        ms: u64,
    },
    Jump {
        ms: i64,
    },
    Query {
        topic: &'static str,
        by: By,
        limit: u32,
    },
    Close,
    Crash,
}

impl Driver {
    /// The next command.
    pub fn choose(&mut self) -> Command {
        let topic = self.one_of(&TOPICS);
        let group = self.one_of(&GROUPS);
        let client = self.one_of(&CLIENTS);
        match self.random.below(100) {
            0..30 => Command::Send((0..=self.random.below(2)).map(|_| self.choose_batch()).collect()),
            30..53 => Command::Pop(self.choose_ask()),
            53..55 => Command::Park { ask: self.choose_ask(), queue: self.random.below(3) as u32 },
            55..68 => Command::Ack((0..=self.random.below(12)).map(|_| self.choose_issued()).collect()),
            68..74 => Command::Change {
                issued: self.choose_issued(),
                invisible_ms: [0, 1, 5_000, 600_000, u64::MAX][pick(&mut self.random, 5)],
                uncounted: self.random.below(3) == 0,
            },
            74..76 => Command::Bury(self.choose_issued()),
            76 => {
                let issued = self.choose_issued();
                let client = if self.random.below(3) == 0 { client.to_owned() } else { issued.client.clone() };
                Command::BuryById { issued, client }
            }
            77 => Command::EndSession { client, group: (self.random.below(2) == 0).then_some(group) },
            78 => Command::Touch(client),
            79..90 => Command::Pass { ms: [10, 999, 9_000, 31_000, 70_000, 4_000_000][pick(&mut self.random, 6)] },
            90 => Command::Jump { ms: [-3_600_000, -100, 100, 3_600_000][pick(&mut self.random, 4)] },
            91..95 => self.choose_query(topic),
            95 => Command::PutTopic { name: topic, queues: 1 + self.random.below(5) as u32 },
            96 => Command::PutGroup { name: group, max_attempts: 1 + self.random.below(5) as u32 },
            97 if self.random.below(3) == 0 => Command::DeleteTopic { name: topic },
            97 if self.random.below(3) == 0 => Command::DeleteGroup { name: group },
            97 | 98 => Command::Close,
            _ => Command::Crash,
        }
    }

    fn choose_batch(&mut self) -> (&'static str, u32, Vec<usize>) {
        let count = 1 + self.random.below(6);
        let sizes = (0..count).map(|_| match self.random.below(8) {
            0 => self.random.below(30_000) as usize,
            _ => self.random.below(300) as usize,
        });
        let sizes = sizes.collect();
        (self.one_of(&TOPICS), self.random.below(4) as u32, sizes)
    }

    fn choose_ask(&mut self) -> Ask {
        let reader = (self.one_of(&GROUPS).to_owned(), self.one_of(&TOPICS).to_owned());
        let mut ask = self.ask_for(&reader);
        if self.random.below(4) == 0 {
            ask.tags = Some(TAGS[..=pick(&mut self.random, 2)].iter().map(|tag| (*tag).to_owned()).collect());
        }
        if self.random.below(6) == 0 {
            ask.bytes = self.random.below(40_000);
        }
        ask
    }

    /// A poll of one subscription without a filter.
    pub fn ask_for(&mut self, reader: &Reader) -> Ask {
        Ask {
            reader: reader.clone(),
            client: self.one_of(&CLIENTS).to_owned(),
            tags: None,
            messages: [1, 2, 5, 32][pick(&mut self.random, 4)],
            bytes: UNLIMITED,
            invisible_ms: [1, 1_000, 10_000, 60_000, 43_200_000][pick(&mut self.random, 5)],
            session_bound: self.random.below(4) == 0,
            attempt: self.one_of(&ATTEMPTS).to_owned(),
        }
    }

    /// A handle from long ago or lately, sometimes changed or used where it does not belong.
    fn choose_issued(&mut self) -> Issued {
        let nothing = Issued {
            reader: (GROUPS[0].to_owned(), TOPICS[0].to_owned()),
            client: CLIENTS[0].to_owned(),
            id: "none".to_owned(),
            text: "no handle!".to_owned(),
        };
        let lately = self.issued.len().saturating_sub(20);
        let from = if self.random.below(4) == 0 { 0 } else { lately };
        let count = self.issued.len() - from;
        if count == 0 {
            return nothing;
        }
        let mut issued = self.issued[from + pick(&mut self.random, count)].clone();
        match self.random.below(25) {
            0 => issued.reader.0 = self.one_of(&GROUPS).to_owned(),
            1 => issued.reader.1 = self.one_of(&TOPICS).to_owned(),
            2 => {
                issued.text.pop();
                issued.text.push('!');
            }
            _ => {}
        }
        issued
    }

    fn choose_query(&mut self, topic: &'static str) -> Command {
        let by = match self.random.below(4) {
            0 => By::MessageId(format!("m{}", self.random.below(self.sent + 1))),
            1 => By::Key(self.one_of(&KEYS).to_owned()),
            2 => By::FromMs(self.model.now_ms.saturating_sub(self.random.below(100_000))),
            _ => By::Place(Place { queue: self.random.below(4) as u32, offset: self.random.below(50) }),
        };
        Command::Query { topic, by, limit: [1, 3, 1000][pick(&mut self.random, 3)] }
    }

    /// A message that there was not before.
    pub fn message(&mut self, topic: &str, bytes: usize) -> Message {
        self.sent += 1;
        let id = format!("m{}", self.sent);
        let tag = (self.random.below(4) != 0).then(|| self.one_of(&TAGS));
        let keys: Vec<&str> = KEYS.into_iter().filter(|_| self.random.below(4) == 0).collect();
        let body: Vec<u8> = (0..bytes).map(|_| self.random.next() as u8).collect();
        let new = harness::message(topic, &id, tag, &keys, body);
        Message {
            id,
            tag: tag.map(str::to_owned),
            keys: keys.into_iter().map(str::to_owned).collect(),
            head: new.head,
            properties: new.properties,
            body: new.body,
            stored_ms: 0,
            order: 0,
        }
    }

    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        names[pick(&mut self.random, names.len())]
    }
}

/// One of so many.
pub fn pick(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(count as u64)).expect("small")
}
