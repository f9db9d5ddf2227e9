//! The choice of what is asked next.

use centaur_apis::{
    log::Resolution,
    store::{Place, query_messages_request::By},
    v2,
};
use centaur_store::log::faulty::Random;
use prost::Message as _;

use super::{Command, Draft, GROUPS, Issued, Parcel, TOPICS, Ticketed, Wait, pick};
use crate::{
    driver::Driver,
    harness::{self, UNLIMITED},
    reference::{Ask, Message, Reader, Reset, Target},
};

pub(super) const CLIENTS: [&str; 3] = ["alpha", "beta", "gamma"];
const TAGS: [&str; 3] = ["red", "green", "blue"];
const KEYS: [&str; 4] = ["k1", "k2", "k3", "k4"];
const ATTEMPTS: [&str; 4] = ["", "", "first", "second"];
/// Times that messages are of use for.
const TTLS_MS: [u64; 5] = [1_000, 10_000, 50_000, 3_600_000, u64::MAX];
const MESSAGE_GROUPS: [&str; 6] = ["", "", "", "north", "south", "west"];
/// Messages that may be sent once more.
const SENT_LATELY: usize = 12;

impl Driver {
    /// The next command.
    pub fn choose(&mut self) -> Command {
        if self.random.below(100) < self.lite_percent {
            return self.choose_lite();
        }
        let topic = self.one_of(&TOPICS);
        let group = self.one_of(&GROUPS);
        let client = self.one_of(&CLIENTS);
        match self.random.below(1000) {
            0..280 => Command::Send((0..=self.random.below(2)).map(|_| self.choose_parcel()).collect()),
            280..480 => Command::Pop(self.choose_ask()),
            480..500 => Command::Park { ask: self.choose_ask(), queue: self.random.below(3) as u32 },
            500..600 => Command::Ack((0..=self.random.below(12)).map(|_| self.choose_issued()).collect()),
            600..650 => Command::Change {
                issued: self.choose_issued(),
                invisible_ms: [0, 1, 5_000, 600_000, self.longest_lease_ms()][pick(&mut self.random, 5)],
                uncounted: self.random.below(3) == 0,
            },
            650..665 => Command::Bury(self.choose_issued()),
            665..675 => {
                let issued = self.choose_issued();
                let client = if self.random.below(3) == 0 { client.to_owned() } else { issued.client.clone() };
                Command::BuryById { issued, client }
            }
            675..685 => Command::EndSession { client, group: (self.random.below(2) == 0).then_some(group) },
            685..695 => Command::Touch(client),
            695..730 => self.choose_for_ticket(),
            730..745 => {
                let topics = (0..=self.random.below(2)).map(|_| self.one_of(&TOPICS)).collect();
                Command::TakeChecks { topics, checks_max: [1, 2, 100][pick(&mut self.random, 3)] }
            }
            745..760 => self.choose_list(topic),
            760..775 => self.choose_redrive(group),
            775..815 => self.choose_place(topic, group),
            815..900 => Command::Pass { ms: [10, 999, 9_000, 31_000, 70_000, 4_000_000][pick(&mut self.random, 6)] },
            900..908 => Command::Jump { ms: [-3_600_000, -100, 100, 3_600_000][pick(&mut self.random, 4)] },
            908..938 => self.choose_query(topic),
            938..950 => Command::PutTopic {
                name: topic,
                queues: 1 + self.random.below(5) as u32,
                dedupe_ms: (self.random.below(2) == 0).then(|| [0, 20_000, 600_000][pick(&mut self.random, 3)]),
                ttl_ms: (self.random.below(2) == 0).then(|| [0, 0, 10_000, 80_000][pick(&mut self.random, 4)]),
            },
            950..970 => Command::PutGroup {
                name: group,
                max_attempts: 1 + self.random.below(5) as u32,
                fifo: (self.random.below(3) > 0).then(|| self.random.below(3) > 0),
                blocks: self.random.below(4) == 0,
                shared_percent: [0, 0, 30][pick(&mut self.random, 3)],
            },
            970..973 => Command::DeleteTopic { name: topic },
            973..976 => Command::DeleteGroup { name: group },
            976..988 => Command::Close,
            _ => Command::Crash,
        }
    }

    fn choose_parcel(&mut self) -> Parcel {
        let topic = self.one_of(&TOPICS);
        let count = 1 + self.random.below(6);
        Parcel { topic, drafts: (0..count).map(|_| self.choose_draft(topic)).collect() }
    }

    fn choose_draft(&mut self, topic: &'static str) -> Draft {
        let bytes = match self.random.below(8) {
            0 => self.random.below(30_000),
            _ => self.random.below(300),
        };
        let group = self.one_of(&MESSAGE_GROUPS);
        let again = self.lately.iter().filter(|(sent_to, _)| *sent_to == topic).map(|(_, message)| message);
        let again = again.last().filter(|_| self.random.below(12) == 0).cloned();
        let message = again.unwrap_or_else(|| self.message(topic, bytes as usize, group));
        if self.lately.len() == SENT_LATELY {
            self.lately.remove(0);
        }
        self.lately.push((topic, message.clone()));
        let wait = match self.random.below(12) {
            // What comes into a dead-letter topic by itself has to be a dead letter.
            _ if topic.starts_with('%') => Wait::Nothing,
            0 => Wait::Until(self.model.now_ms.saturating_sub(self.random.below(2))),
            1 | 2 => Wait::Until(self.model.now_ms + [1, 5_000, 5_000, 60_000, 3_600_000][pick(&mut self.random, 5)]),
            3 => Wait::Outcome([0, 1, 60_000][pick(&mut self.random, 3)]),
            _ => Wait::Nothing,
        };
        let queues = 2 + self.random.below(3);
        Draft { queue: self.random.below(queues) as u32, wait, message }
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
    pub(super) fn choose_issued(&mut self) -> Issued {
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
            2 => forge(&mut issued.text),
            _ => {}
        }
        issued
    }

    /// A recall or the end of a transaction, mostly with a ticket of the right kind.
    fn choose_for_ticket(&mut self) -> Command {
        let is_half = self.random.below(3) > 0;
        let fits = |ticket: &&Ticketed| ticket.is_half == is_half;
        let lately: Vec<Ticketed> = self.tickets.iter().rev().filter(fits).take(8).cloned().collect();
        if lately.is_empty() {
            return self.choose_list(TOPICS[0]);
        }
        let mut ticket = lately[pick(&mut self.random, lately.len())].clone();
        let mut topic = ticket.topic.clone();
        match self.random.below(25) {
            0 => topic = self.one_of(&TOPICS).to_owned(),
            1 => forge(&mut ticket.text),
            _ => {}
        }
        let ends = if self.random.below(20) == 0 { !is_half } else { is_half };
        if !ends {
            return Command::Recall { topic, ticket };
        }
        let resolutions = [Resolution::Committed, Resolution::Committed, Resolution::RolledBack, Resolution::Undecided];
        let resolution = resolutions[pick(&mut self.random, 4)];
        Command::EndTransaction { topic, ticket, by_id: self.random.below(4) == 0, resolution }
    }

    fn choose_list(&mut self, topic: &'static str) -> Command {
        let topic = (self.random.below(2) == 0).then_some(topic);
        let limit = [0, 1, 3][pick(&mut self.random, 3)];
        match self.random.below(2) {
            0 => Command::ListScheduled { topic, limit },
            _ => Command::ListTransactions { topic, discarded_only: self.random.below(3) == 0, limit },
        }
    }

    pub(super) fn choose_redrive(&mut self, group: &'static str) -> Command {
        let end = self.model.topics.get(&format!("%DLQ%{group}")).map_or(0, |topic| topic.queues[0].end());
        let place = |random: &mut Random| Place {
            queue: u32::from(random.below(20) == 0),
            offset: random.below(end + 1).max(random.below(end + 1)),
        };
        let places = (0..=self.random.below(3)).map(|_| place(&mut self.random)).collect();
        Command::Redrive { group, places, dry_run: self.random.below(4) == 0 }
    }

    /// A question about places in queues, or a change of one.
    pub(super) fn choose_place(&mut self, topic: &'static str, group: &'static str) -> Command {
        let queue = self.random.below(4) as u32;
        let end = self.model.topics.get(topic).and_then(|t| t.queues.get(queue as usize)).map_or(0, |q| q.end());
        let offset = self.random.below(end + 3);
        let target = match self.random.below(4) {
            0 => Target::Earliest,
            1 => Target::Latest,
            2 => Target::FromMs(self.model.now_ms.saturating_sub(self.random.below(100_000))),
            _ => Target::Offset(offset),
        };
        match self.random.below(10) {
            0..3 => Command::Read {
                ask: Ask { reader: (String::new(), topic.to_owned()), ..self.choose_ask() },
                queue,
                offset,
            },
            3..5 if !matches!(target, Target::Offset(_)) => Command::QueryOffset { topic, queue, target },
            3..6 => Command::GetOffset { reader: (group.to_owned(), topic.to_owned()), queue },
            _ => {
                let reset = Reset {
                    group: group.to_owned(),
                    topic: (self.random.below(4) > 0).then(|| topic.to_owned()),
                    queue: (self.random.below(2) == 0).then_some(queue),
                    target,
                    strict: self.random.below(3) == 0,
                };
                let dry_run = self.random.below(4) == 0;
                Command::Reset { reset, dry_run, create_group: self.random.below(2) == 0 }
            }
        }
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
    pub fn message(&mut self, topic: &str, bytes: usize, group: &str) -> Message {
        self.sent += 1;
        let id = format!("m{}", self.sent);
        let tag = (self.random.below(4) != 0).then(|| self.one_of(&TAGS));
        let keys: Vec<&str> = KEYS.into_iter().filter(|_| self.random.below(4) == 0).collect();
        let body: Vec<u8> = (0..bytes).map(|_| self.random.next() as u8).collect();
        let new = harness::message(topic, &id, tag, &keys, body);
        let mut properties = v2::SystemProperties::decode(new.properties.as_ref()).expect("properties");
        properties.message_group = (!group.is_empty()).then(|| group.to_owned());
        Message {
            id,
            tag: tag.map(str::to_owned),
            keys: keys.into_iter().map(str::to_owned).collect(),
            group: group.to_owned(),
            lite_topic: String::new(),
            ttl_ms: if self.random.below(4) == 0 { TTLS_MS[pick(&mut self.random, 5)] } else { 0 },
            head: new.head,
            properties: properties.encode_to_vec().into(),
            body: new.body,
            stored_ms: 0,
            recorded_ms: 0,
            order: 0,
            is_direct: false,
            origin: None,
        }
    }

    pub(super) fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        names[pick(&mut self.random, names.len())]
    }
}

/// Makes a text that nobody gave out.
fn forge(text: &mut String) {
    text.pop();
    text.push('!');
}
