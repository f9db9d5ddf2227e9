//! Lite groups: bound to one LITE topic for good.

use centaur_apis::{
    log::{self, control::Event},
    names::GroupName,
    store::{Error, Reason},
};

use super::super::{Machine, catalog, produce::topic_not_found};
use crate::{
    state::{State, pop::Reader, topics::Topic},
    wait::Line,
};

/// Lite topics of one client, unless its group says otherwise; source: public contract.
const CLIENT_QUOTA_DEFAULT: u32 = 2000;
/// A group may not allow more.
const CLIENT_QUOTA_MAX: u32 = 100_000;

impl State {
    /// A lite group in the topic that it is bound to; none for other groups.
    pub fn lite_reader(&self, group: u32) -> Option<Reader> {
        let lite = self.groups.get(group)?.lite.as_ref()?;
        Some(Reader { group, topic: self.topics.named(&lite.topic)?.settings.id })
    }

    /// Lite groups whose clients consume every lite topic.
    pub fn groups_reading_all(&self) -> impl Iterator<Item = u32> {
        let all = self.groups.after("").filter(|group| group.lite.as_ref().is_some_and(|lite| lite.wildcard));
        all.map(|group| group.id)
    }
}

impl Machine {
    /// How a group is going to consume lite topics.
    ///
    /// Errors: its topic is not there or not a LITE one; the group is bound to another one, or
    /// consumes an ordinary topic; numbers out of bounds.
    pub(in super::super) fn checked_binding(&self, group: &log::Group, asked: &log::Lite) -> Result<log::Lite, Error> {
        let precondition = |sentence: String| Err(Error::new(Reason::Precondition, sentence));
        let name = &group.name;
        match &group.lite {
            Some(known) if known.topic != asked.topic => {
                return precondition(format!(
                    "group {name:?} is bound to topic {:?} and stays so; make another group for topic {:?}",
                    known.topic, asked.topic
                ));
            }
            Some(known) if known.wildcard != asked.wildcard => {
                return precondition(format!("group {name:?} keeps its wildcard setting, {}", known.wildcard));
            }
            None if self.state.pop.of_group(group.id).next().is_some() => {
                return precondition(format!("group {name:?} consumes ordinary topics and cannot become a lite group"));
            }
            _ => {}
        }
        let topic = self.state.topics.named(&asked.topic).ok_or_else(|| topic_not_found(&asked.topic))?;
        if !topic.is_lite() {
            return Err(not_a_lite_topic(topic));
        }
        if asked.exclusive && asked.wildcard {
            return Err(Error::new(Reason::Invalid, "a lite group is exclusive or wildcard, not both"));
        }
        let client_quota = if asked.client_quota == 0 { CLIENT_QUOTA_DEFAULT } else { asked.client_quota };
        if client_quota > CLIENT_QUOTA_MAX {
            let sentence = format!("client_quota is {client_quota}; it must be 1 to {CLIENT_QUOTA_MAX}");
            return Err(Error::new(Reason::Invalid, sentence));
        }
        Ok(log::Lite { client_quota, ..asked.clone() })
    }

    /// The line that polls of a client stand in; none when the group is an ordinary one.
    ///
    /// Errors: a lite group on a topic it is not bound to, an ordinary one on a LITE topic.
    pub(in super::super) fn lite_line(&self, reader: Reader, client: u64) -> Result<Option<Line>, Error> {
        let Some((group, topic)) = self.state.groups.get(reader.group).zip(self.state.topics.get(reader.topic)) else {
            return Ok(None);
        };
        match &group.lite {
            Some(lite) if lite.topic != topic.settings.name => Err(bound_elsewhere(group, lite, &topic.settings.name)),
            Some(_) if !topic.is_lite() => Err(not_a_lite_topic(topic)),
            Some(lite) => Ok(Some(Line { reader, client: if lite.wildcard { 0 } else { client } })),
            None if topic.is_lite() => Err(not_a_lite_group(&group.name)),
            None => Ok(None),
        }
    }

    /// Finds the group that consumes a topic; one that comes into being by being used on a LITE
    /// topic is bound to it.
    pub(in super::super) fn find_or_create_reader(
        &mut self,
        name: &str,
        topic: u32,
        create: bool,
    ) -> Result<u32, Error> {
        let lite = self.state.topics.get(topic).filter(|topic| topic.is_lite());
        let is_new = self.state.groups.named(name).is_none() && create && self.config.create_groups;
        let Some(lite) = lite.filter(|_| is_new) else { return self.find_or_create_group(name, create) };
        let binding =
            log::Lite { topic: lite.settings.name.clone(), client_quota: CLIENT_QUOTA_DEFAULT, ..log::Lite::default() };
        let parsed = GroupName::parse(name).map_err(|invalid| Error::new(Reason::Invalid, invalid.to_string()))?;
        let group = catalog::new_group(self.state.groups.next_id(), parsed.as_str(), self.now_ms);
        let id = group.id;
        self.commit(Event::GroupSet(log::Group { lite: Some(binding), ..group }));
        Ok(id)
    }
}

pub(super) fn not_a_lite_topic(topic: &Topic) -> Error {
    let (name, r#type) = (&topic.settings.name, topic.settings.r#type().as_str_name());
    Error::new(Reason::IllegalTopic, format!("topic {name:?} has type {type}; lite topics are of a topic of type LITE"))
}

pub(super) fn not_a_lite_group(group: &str) -> Error {
    Error::new(Reason::IllegalGroup, format!("group {group:?} is not a lite group, so it has no lite topics"))
}

pub(super) fn bound_elsewhere(group: &log::Group, lite: &log::Lite, asked: &str) -> Error {
    let sentence = format!("group {:?} is bound to topic {:?}, not to {asked:?}", group.name, lite.topic);
    Error::new(Reason::IllegalTopic, sentence)
}
