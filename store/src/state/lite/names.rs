//! The lite topics of one LITE topic: names and the queues that have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

/// A named queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteTopic {
    pub name: Arc<str>,
    /// Store time, ms.
    pub created_ms: u64,
    /// Offset of the first message it could have: what its queue held before was another's.
    pub base: u64,
}

/// The lite topics of one LITE topic.
#[derive(Clone, Debug, Default)]
pub struct Names {
    queues: BTreeMap<Arc<str>, u32>,
    /// By queue; none: its lite topic was deleted.
    slots: Vec<Option<LiteTopic>>,
    free: BTreeSet<u32>,
}

impl Names {
    pub fn queue(&self, name: &str) -> Option<u32> {
        self.queues.get(name).copied()
    }

    pub fn get(&self, queue: u32) -> Option<&LiteTopic> {
        self.slots.get(queue as usize)?.as_ref()
    }

    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// Queues that ever had a name.
    pub fn queues(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Lite topics in order of their queues.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &LiteTopic)> {
        self.iter_from(0)
    }

    /// Those of queues from `first` on.
    pub fn iter_from(&self, first: u32) -> impl Iterator<Item = (u32, &LiteTopic)> {
        let slots = self.slots.get(first as usize..).unwrap_or_default();
        (first..).zip(slots).filter_map(|(queue, slot)| slot.as_ref().map(|lite| (queue, lite)))
    }

    /// Names with their queues in order, those after `after`.
    pub fn after(&self, after: &str) -> impl Iterator<Item = (&str, u32)> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.queues.range::<str, _>(range).map(|(name, queue)| (name.as_ref(), *queue))
    }

    /// The queue of the next new lite topic: the first that lost its name, else one more.
    pub fn next_queue(&self) -> u32 {
        self.free.first().copied().unwrap_or_else(|| self.queues())
    }

    pub fn set(&mut self, queue: u32, name: &str, created_ms: u64, base: u64) {
        self.delete(queue);
        let name: Arc<str> = name.into();
        let index = queue as usize;
        // A snapshot leaves out the queues without a name.
        for missing in self.queues()..=queue {
            self.slots.push(None);
            self.free.insert(missing);
        }
        self.free.remove(&queue);
        self.queues.insert(Arc::clone(&name), queue);
        self.slots[index] = Some(LiteTopic { name, created_ms, base });
    }

    pub fn delete(&mut self, queue: u32) {
        if let Some(lite) = self.slots.get_mut(queue as usize).and_then(Option::take) {
            self.queues.remove(&lite.name);
            self.free.insert(queue);
        }
    }
}
