//! What may be asked of a store, and the choice of what is asked next.

mod choice;
mod lite;

use std::fmt;

use centaur_apis::{
    log::Resolution,
    receipt_handle::ReceiptHandle,
    store::{Place, query_messages_request::By},
};
use centaur_store::log::faulty::Random;

use crate::reference::{Ask, Message, Reader, Reset, Statement, Target};

pub use lite::LiteGroup;

pub const TOPICS: [&str; 4] = ["orders", "payments", "alerts", "%DLQ%workers"];
/// Its queues are priorities.
pub const PRIORITIES: &str = "alerts";
pub const GROUPS: [&str; 3] = ["workers", "auditors", "mailers"];
/// They consume lite topics: the second one exclusively, the last one all of them.
pub const LITE_GROUPS: [&str; 3] = ["bots", "guards", "sweepers"];
/// A handle that was given out, and to whom.
#[derive(Clone)]
pub struct Issued {
    pub reader: Reader,
    pub client: String,
    pub id: String,
    pub text: String,
}

/// A ticket that was given out for a message, and by which incarnation of its topic.
#[derive(Clone, Debug)]
pub struct Ticketed {
    pub topic: String,
    pub topic_id: u32,
    pub id: String,
    pub text: String,
    pub is_half: bool,
}

/// Messages to send together.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub topic: &'static str,
    pub drafts: Vec<Draft>,
}

/// A message to send.
#[derive(Clone)]
pub struct Draft {
    pub queue: u32,
    pub wait: Wait,
    pub message: Message,
}

/// What a message waits for before it is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Nothing,
    /// Its time, ms of the store's clock.
    Until(u64),
    /// Its transaction, and when its producer is asked: 0 for the default.
    Outcome(u64),
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

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, wait, message } = self;
        write!(f, "{message:?} to {queue}")?;
        if *wait == Wait::Nothing { Ok(()) } else { write!(f, " {wait:?}") }
    }
}

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    PutTopic {
        name: &'static str,
        queues: u32,
        dedupe_ms: Option<u64>,
        ttl_ms: Option<u64>,
    },
    DeleteTopic {
        name: &'static str,
    },
    PutGroup {
        name: &'static str,
        max_attempts: u32,
        fifo: Option<bool>,
        blocks: bool,
        shared_percent: u32,
    },
    DeleteGroup {
        name: &'static str,
    },
    Send(Vec<Parcel>),
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
    Recall {
        topic: String,
        ticket: Ticketed,
    },
    ListScheduled {
        topic: Option<&'static str>,
        limit: u32,
    },
    /// By its ticket, or by the id of its message.
    EndTransaction {
        topic: String,
        ticket: Ticketed,
        by_id: bool,
        resolution: Resolution,
    },
    TakeChecks {
        topics: Vec<&'static str>,
        checks_max: u32,
    },
    ListTransactions {
        topic: Option<&'static str>,
        discarded_only: bool,
        limit: u32,
    },
    Redrive {
        group: &'static str,
        places: Vec<Place>,
        dry_run: bool,
    },
    Reset {
        reset: Reset,
        dry_run: bool,
        create_group: bool,
    },
    Read {
        ask: Ask,
        queue: u32,
        offset: u64,
    },
    QueryOffset {
        topic: &'static str,
        queue: u32,
        target: Target,
    },
    GetOffset {
        reader: Reader,
        queue: u32,
    },
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
    PutLiteTopic {
        expiry_ms: u64,
        ttl_ms: u64,
    },
    PutLiteGroup(LiteGroup),
    SendLite(Vec<Message>),
    SyncLite(Statement),
    PopLite(Ask),
    /// A poll that waits for a message, which is sent then to a lite topic of its client.
    ParkLite(Ask),
    ListNotices,
    Close,
    Crash,
}

/// One of so many.
pub fn pick(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(count as u64)).expect("small")
}
