//! What makes messages of each kind different from normal ones.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use centaur_apis::{log::TopicType, v2};

use super::Options;
use crate::{
    requests::{self, MEMBER, Run, Template},
    send::Call,
};

/// A filter lets one message of so many through.
const FILTERED: u64 = 100;
/// Passed by the eighth of a hundred members; all of its five terms have to be looked at.
const SQL: &str =
    "region IN ('north', 'south') AND price > 10 AND paid IS NOT NULL AND shop <> 'closed' AND pick = '00000007'";
const PRIORITIES: i32 = 10;

/// One kind of message.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) topic_type: TopicType,
    message_type: v2::MessageType,
    pub(crate) course: Course,
    /// How many different values `mark` cycles through.
    members: u64,
    /// Makes the turn-th of the `turns` templates of this kind out of a normal message.
    mark: fn(&mut v2::Message, i32),
    turns: i32,
}

/// How messages get from the producer to the consumers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Course {
    Straight,
    /// To a group that gets the messages of a message group one after the other.
    Ordered,
    /// All become due at one moment.
    Due,
    /// Half messages first.
    Committed,
    /// Each connection consumes for a group of its own, which sees one message of a hundred.
    Filtered(v2::FilterExpression),
    /// Over very many lite topics, each with one subscriber.
    Lite,
}

/// Normal messages, and then every other kind.
pub(crate) fn all(options: &Options) -> Vec<Kind> {
    use v2::MessageType as Message;
    let normal = Kind {
        name: "normal",
        topic_type: TopicType::Normal,
        message_type: Message::Normal,
        course: Course::Straight,
        members: 1,
        mark: |_, _| {},
        turns: 1,
    };
    let filtered = |r#type: v2::FilterType, expression: String| {
        Course::Filtered(v2::FilterExpression { r#type: r#type.into(), expression })
    };
    vec![
        normal.clone(),
        Kind {
            name: "FIFO",
            topic_type: TopicType::Fifo,
            message_type: Message::Fifo,
            course: Course::Ordered,
            members: u64::from(options.message_groups),
            mark: |message, _| system(message).message_group = Some(format!("group-{MEMBER}")),
            ..normal.clone()
        },
        Kind {
            name: "delay",
            topic_type: TopicType::Delay,
            message_type: Message::Delay,
            course: Course::Due,
            ..normal.clone()
        },
        Kind {
            name: "transaction",
            topic_type: TopicType::Transaction,
            message_type: Message::Transaction,
            course: Course::Committed,
            ..normal.clone()
        },
        Kind {
            name: "tag filter",
            course: filtered(v2::FilterType::Tag, format!("tag-{:08X}", 7)),
            members: FILTERED,
            mark: |message, _| system(message).tag = Some(format!("tag-{MEMBER}")),
            ..normal.clone()
        },
        Kind {
            name: "SQL filter",
            course: filtered(v2::FilterType::Sql, SQL.to_owned()),
            members: FILTERED,
            mark: |message, _| message.user_properties.extend(properties()),
            ..normal.clone()
        },
        Kind {
            name: "priority",
            topic_type: TopicType::Priority,
            message_type: Message::Priority,
            mark: |message, turn| system(message).priority = Some(turn),
            turns: PRIORITIES,
            ..normal.clone()
        },
        Kind {
            name: "lite",
            topic_type: TopicType::Lite,
            message_type: Message::Lite,
            course: Course::Lite,
            members: u64::from(options.lite_topics),
            mark: |message, _| system(message).lite_topic = Some(format!("lite-{MEMBER}")),
            ..normal
        },
    ]
}

impl Kind {
    /// What a producer of this kind does again and again; messages that wait for it are due at `due`.
    pub(crate) fn call(&self, run: &Run, topic: &str, size: usize, due: SystemTime) -> Call {
        let template = |turn| self.template(run.message(topic, size), turn, due);
        match self.course {
            Course::Committed => Call::Commit { half: template(0), topic: topic.to_owned() },
            _ => Call::Send((0..self.turns).map(template).collect::<Arc<[_]>>()),
        }
    }

    fn template(&self, mut message: v2::Message, turn: i32, due: SystemTime) -> Template {
        let is_due_later = self.course == Course::Due;
        let properties = system(&mut message);
        properties.message_type = self.message_type.into();
        properties.delivery_timestamp = is_due_later.then(|| due.into());
        (self.mark)(&mut message, turn);
        Template::new(&message, 1, self.members)
    }

    pub(crate) fn filter(&self) -> v2::FilterExpression {
        match &self.course {
            Course::Filtered(filter) => filter.clone(),
            _ => requests::everything(),
        }
    }

    /// How many messages the server looks at to deliver one; none where there is no filter.
    pub(crate) fn examined_per_delivered(&self) -> Option<u64> {
        matches!(self.course, Course::Filtered(_)).then_some(FILTERED)
    }

    /// Messages that pass the filter of this kind, of the first `sent`.
    pub(crate) fn delivered(&self, sent: u64) -> u64 {
        match self.course {
            // The eighth of every hundred.
            Course::Filtered(_) => (sent + FILTERED - 8) / FILTERED,
            _ => sent,
        }
    }
}

/// The name of one of the lite topics that messages of that kind go to.
pub(crate) fn lite_topic(member: u32) -> String {
    format!("lite-{member:08X}")
}

/// How long before messages become due they have to be scheduled, when sending as many normal ones
/// took `sending`.
pub(crate) fn lead(sending: Duration) -> Duration {
    2 * sending + Duration::from_secs(5)
}

fn system(message: &mut v2::Message) -> &mut v2::SystemProperties {
    message.system_properties.get_or_insert_default()
}

fn properties() -> impl Iterator<Item = (String, String)> {
    let fixed = [("region", "south"), ("price", "17"), ("paid", "yes"), ("shop", "open"), ("pick", MEMBER)];
    fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn one_message_of_a_hundred_passes_a_filter() {
        let kinds = all(&Line::parse_from(["kinds"]).options);
        let count = |name: &str, sent| {
            let kind = kinds.iter().find(|kind| kind.name == name).expect("a kind");
            kind.delivered(sent)
        };
        let passed = [0, 7, 8, 107, 108, 200_000].map(|sent| count("tag filter", sent));
        assert_eq!(passed, [0, 0, 1, 1, 2, 2000]);
        assert_eq!(count("SQL filter", 200_000), 2000);
        assert_eq!(count("FIFO", 200_000), 200_000);
    }

    #[test]
    fn kinds_have_names_of_their_own_and_the_normal_one_is_first() {
        let kinds = all(&Line::parse_from(["kinds"]).options);
        let names: BTreeSet<_> = kinds.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), kinds.len());
        assert_eq!(kinds[0].name, "normal");
    }

    #[test]
    fn priorities_are_sent_in_turns() {
        let kinds = all(&Line::parse_from(["kinds"]).options);
        let calls = kinds.iter().map(|kind| (kind.name, kind.call(&Run::begin(), "orders", 10, SystemTime::now())));
        for (name, call) in calls {
            let templates = match &call {
                Call::Send(templates) => templates.len(),
                Call::Commit { .. } | Call::Echo { .. } => 1,
            };
            assert_eq!(templates, if name == "priority" { 10 } else { 1 }, "{name}");
        }
    }
}
