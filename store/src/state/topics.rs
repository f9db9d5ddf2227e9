//! Topics and consumer groups of this store group, and where each queue begins and ends. Applied
//! from the log; knows no files and no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use centaur_apis::log::{self, Permission, TopicType};

/// Where one queue begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// First offset kept.
    pub start: u64,
    /// Offset the next message gets; never goes back while the topic lives.
    pub end: u64,
    /// Store time of the newest message, ms; 0 before the first.
    pub last_stored_ms: u64,
}

/// A topic with its queues.
#[derive(Clone, Debug)]
pub struct Topic {
    pub settings: log::Topic,
    pub queues: Vec<Queue>,
    /// Groups that read it.
    pub readers: BTreeSet<u32>,
    /// Which queues got messages lately. Scheduling of the leader, not derived state.
    pub arrivals: Arrivals,
}

/// The queues of the latest messages, so that a reader need not look at every queue.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    latest: VecDeque<u32>,
    count: u64,
}

/// Arrivals remembered; a reader further behind looks at every queue once.
const ARRIVALS_MAX: usize = 256;

impl Arrivals {
    pub fn add(&mut self, queue: u32) {
        self.count += 1;
        self.latest.push_back(queue);
        if self.latest.len() > ARRIVALS_MAX {
            self.latest.pop_front();
        }
    }

    /// Messages that ever arrived, as far as this process knows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Queues of the messages after the first `seen`; `None` when not all of them are remembered.
    pub fn since(&self, seen: Option<u64>) -> Option<impl Iterator<Item = u32>> {
        let behind = usize::try_from(self.count - seen?.min(self.count)).ok()?;
        let skip = self.latest.len().checked_sub(behind)?;
        Some(self.latest.iter().skip(skip).copied())
    }
}

/// Every topic, by id and by name.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    by_id: HashMap<u32, Topic>,
    ids: BTreeMap<String, u32>,
    last_id: u32,
}

/// Every consumer group, by id and by name.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    by_id: HashMap<u32, log::Group>,
    ids: BTreeMap<String, u32>,
    last_id: u32,
}

impl Topic {
    /// Whether consumers may take messages.
    pub fn is_readable(&self) -> bool {
        matches!(self.settings.permission(), Permission::Read | Permission::ReadWrite)
    }

    /// Whether producers may add messages.
    pub fn is_writable(&self) -> bool {
        matches!(self.settings.permission(), Permission::Write | Permission::ReadWrite)
    }

    /// Whether its queues are lite topics, which come and go one by one.
    pub fn is_lite(&self) -> bool {
        self.settings.r#type() == TopicType::Lite
    }

    /// Messages kept, over all queues.
    pub fn messages(&self) -> u64 {
        self.queues.iter().map(|queue| queue.end - queue.start).sum()
    }

    /// Store time of the newest message, ms; 0 before the first.
    pub fn last_stored_ms(&self) -> u64 {
        self.queues.iter().map(|queue| queue.last_stored_ms).max().unwrap_or_default()
    }
}

impl Topics {
    pub fn get(&self, id: u32) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_id.values_mut()
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut Topic> {
        self.by_id.get_mut(&id)
    }

    pub fn named(&self, name: &str) -> Option<&Topic> {
        self.by_id.get(self.ids.get(name)?)
    }

    /// Topics in order of their names, those after `after`.
    pub fn after<'a>(&'a self, after: &str) -> impl Iterator<Item = &'a Topic> {
        let range = (std::ops::Bound::Excluded(after.to_owned()), std::ops::Bound::Unbounded);
        self.ids.range::<String, _>(range).filter_map(|(_, id)| self.by_id.get(id))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How long topics with a time of their own keep their messages, ms; in no order, and not each
    /// once.
    pub fn retentions(&self) -> impl Iterator<Item = u64> {
        self.by_id.values().map(|topic| topic.settings.retention_ms).filter(|ms| *ms > 0)
    }

    pub fn messages(&self) -> u64 {
        self.by_id.values().map(Topic::messages).sum()
    }

    /// The id the next new topic gets; ids are never given twice.
    pub fn next_id(&self) -> u32 {
        self.last_id + 1
    }

    /// Creates or changes a topic; queues are only ever added. A LITE topic gets them with its lite
    /// topics.
    pub fn set(&mut self, settings: &log::Topic) {
        self.last_id = self.last_id.max(settings.id);
        self.ids.insert(settings.name.clone(), settings.id);
        let topic = self.by_id.entry(settings.id).or_insert_with(|| Topic {
            settings: settings.clone(),
            queues: Vec::new(),
            readers: BTreeSet::new(),
            arrivals: Arrivals::default(),
        });
        topic.settings = settings.clone();
        if !topic.is_lite() {
            let count = topic.queues.len().max(settings.queues as usize);
            topic.queues.resize(count, Queue::default());
        }
    }

    /// Forgets a topic; its id is not used again.
    pub fn delete(&mut self, id: u32) -> Option<Topic> {
        let topic = self.by_id.remove(&id)?;
        if self.ids.get(&topic.settings.name) == Some(&id) {
            self.ids.remove(&topic.settings.name);
        }
        Some(topic)
    }

    /// Keeps ids of deleted topics from being used again, after a snapshot was read.
    pub fn reserve_ids(&mut self, last_id: u32) {
        self.last_id = self.last_id.max(last_id);
    }

    pub fn last_id(&self) -> u32 {
        self.last_id
    }
}

impl Groups {
    pub fn get(&self, id: u32) -> Option<&log::Group> {
        self.by_id.get(&id)
    }

    pub fn named(&self, name: &str) -> Option<&log::Group> {
        self.by_id.get(self.ids.get(name)?)
    }

    /// Groups in order of their names, those after `after`.
    pub fn after<'a>(&'a self, after: &str) -> impl Iterator<Item = &'a log::Group> {
        let range = (std::ops::Bound::Excluded(after.to_owned()), std::ops::Bound::Unbounded);
        self.ids.range::<String, _>(range).filter_map(|(_, id)| self.by_id.get(id))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn next_id(&self) -> u32 {
        self.last_id + 1
    }

    pub fn set(&mut self, group: &log::Group) {
        self.last_id = self.last_id.max(group.id);
        self.ids.insert(group.name.clone(), group.id);
        self.by_id.insert(group.id, group.clone());
    }

    pub fn delete(&mut self, id: u32) -> Option<log::Group> {
        let group = self.by_id.remove(&id)?;
        if self.ids.get(&group.name) == Some(&id) {
            self.ids.remove(&group.name);
        }
        Some(group)
    }

    pub fn reserve_ids(&mut self, last_id: u32) {
        self.last_id = self.last_id.max(last_id);
    }

    pub fn last_id(&self) -> u32 {
        self.last_id
    }
}
