//! The choice of what is asked of lite topics.

use centaur_apis::{log, store::lite_offset::At, v2};
use prost::Message as _;

use super::{Command, GROUPS, LITE_GROUPS, TOPICS, choice::CLIENTS, pick};
use crate::{
    driver::Driver,
    harness::UNLIMITED,
    reference::{Ask, LITE, Message, Said, Statement},
};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Not the name of a lite topic.
const ILLEGAL: &str = "a.b";

/// A lite group as it is to be.
#[derive(Clone, Debug)]
pub struct LiteGroup {
    pub name: &'static str,
    pub max_attempts: u32,
    pub blocks: bool,
    pub lite: log::Lite,
}

impl Driver {
    /// The next command that has to do with lite topics.
    pub fn choose_lite(&mut self) -> Command {
        let group = self.one_of(&LITE_GROUPS);
        match self.random.below(2) {
            0 if !self.model.topics.contains_key(LITE) => return self.choose_lite_topic(),
            0 if !self.model.groups.contains_key(group) => return Command::PutLiteGroup(self.choose_lite_group(group)),
            _ => {}
        }
        match self.random.below(100) {
            0..25 => {
                let count = 1 + self.random.below(5);
                Command::SendLite((0..count).map(|_| self.lite_message()).collect())
            }
            25..47 => Command::PopLite(self.choose_lite_ask(group)),
            47..50 => Command::ParkLite(self.ask_for(&(group.to_owned(), LITE.to_owned()))),
            50..70 => Command::SyncLite(self.choose_sync(group)),
            70..80 => Command::Ack((0..=self.random.below(8)).map(|_| self.choose_issued()).collect()),
            80..83 => Command::ListNotices,
            83..86 => Command::PutLiteGroup(self.choose_lite_group(group)),
            86..89 => self.choose_lite_topic(),
            89..92 => Command::EndSession { client: self.one_of(&CLIENTS), group: Some(group) },
            92..94 => Command::Pass { ms: [30_000, 100_000][pick(&mut self.random, 2)] },
            94..97 if self.model.groups.contains_key(group) => self.choose_place(LITE, group),
            97 => Command::DeleteGroup { name: group },
            98 if self.random.below(2) == 0 => Command::DeleteTopic { name: LITE },
            _ => self.choose_redrive(group),
        }
    }

    fn choose_lite_topic(&mut self) -> Command {
        let expiry_ms = [0, 60_000, 60_000, 600_000][pick(&mut self.random, 4)];
        Command::PutLiteTopic { expiry_ms, ttl_ms: [0, 0, 20_000][pick(&mut self.random, 3)] }
    }

    /// A message to some lite topic.
    fn lite_message(&mut self) -> Message {
        let name = if self.random.below(50) == 0 { ILLEGAL } else { self.one_of(&NAMES) };
        self.message_to(name.to_owned())
    }

    /// A message to this lite topic.
    pub fn message_to(&mut self, lite_topic: String) -> Message {
        let bytes = if self.random.below(8) == 0 { self.random.below(30_000) } else { self.random.below(300) };
        let message = self.message(LITE, bytes as usize, "");
        let mut properties = v2::SystemProperties::decode(message.properties.as_ref()).expect("properties");
        properties.lite_topic = Some(lite_topic.clone());
        Message { lite_topic, properties: properties.encode_to_vec().into(), ..message }
    }

    /// A poll, now and then of a group or a topic that lite topics have nothing to do with.
    fn choose_lite_ask(&mut self, group: &str) -> Ask {
        let mut reader = (group.to_owned(), LITE.to_owned());
        match self.random.below(40) {
            0 if self.model.groups.contains_key(group) => reader.1 = self.one_of(&TOPICS).to_owned(),
            1 if self.model.groups.contains_key(GROUPS[0]) => reader.0 = GROUPS[0].to_owned(),
            _ => {}
        }
        let bytes = if self.random.below(6) == 0 { self.random.below(40_000) } else { UNLIMITED };
        Ask { bytes, ..self.ask_for(&reader) }
    }

    fn choose_sync(&mut self, group: &str) -> Statement {
        let names = NAMES.into_iter().filter(|_| self.random.below(3) == 0).map(str::to_owned);
        let mut names: Vec<String> = names.collect();
        if self.random.below(50) == 0 {
            names.push(ILLEGAL.to_owned());
        }
        let said = match self.random.below(20) {
            0..8 => Said::Add(self.choose_lite_offset()),
            8..11 => Said::Remove,
            11..15 => Said::All(0),
            15..19 => Said::All(self.random.below(4)),
            _ => Said::Nothing,
        };
        Statement { group: group.to_owned(), client: self.one_of(&CLIENTS).to_owned(), said, names }
    }

    fn choose_lite_offset(&mut self) -> Option<At> {
        match self.random.below(14) {
            0 => Some(At::Last(true)),
            1 => Some(At::Earliest(true)),
            2 => Some(At::Latest(true)),
            3 => Some(At::Offset(self.random.below(20))),
            4 => Some(At::Tail(self.random.below(5))),
            5 => Some(At::FromMs(self.model.now_ms.saturating_sub(self.random.below(100_000)))),
            _ => None,
        }
    }

    fn choose_lite_group(&mut self, name: &'static str) -> LiteGroup {
        let wildcard = (name == LITE_GROUPS[2]) != (self.random.below(20) == 0);
        let lite = log::Lite {
            topic: LITE.to_owned(),
            exclusive: if wildcard { self.random.below(20) == 0 } else { name == LITE_GROUPS[1] },
            wildcard,
            client_quota: [0, 3][pick(&mut self.random, 2)],
            reset_when_moved: self.random.below(3) == 0,
            reset_when_left: self.random.below(3) == 0,
        };
        let max_attempts = 1 + self.random.below(5) as u32;
        LiteGroup { name, max_attempts, blocks: self.random.below(4) == 0, lite }
    }
}
