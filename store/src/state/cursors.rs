//! The cursors of one subscription, by queue. A group reads every queue of an ordinary topic; of a
//! LITE topic, which may have a million, only those that it was put into.

use std::{
    collections::{BTreeMap, btree_map},
    iter, slice,
};

use super::pop::Cursor;

/// A group's cursors in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursors {
    /// One for each queue.
    All(Vec<Cursor>),
    /// Of a LITE topic: one for each lite topic that the group has a place in.
    Some(BTreeMap<u32, Cursor>),
}

/// Cursors with their queues, in order.
pub enum Iter<'a> {
    All(iter::Zip<std::ops::RangeFrom<u32>, slice::Iter<'a, Cursor>>),
    Some(btree_map::Iter<'a, u32, Cursor>),
}

impl Default for Cursors {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Cursors {
    pub fn get(&self, queue: u32) -> Option<&Cursor> {
        match self {
            Self::All(cursors) => cursors.get(queue as usize),
            Self::Some(cursors) => cursors.get(&queue),
        }
    }

    pub fn get_mut(&mut self, queue: u32) -> Option<&mut Cursor> {
        match self {
            Self::All(cursors) => cursors.get_mut(queue as usize),
            Self::Some(cursors) => cursors.get_mut(&queue),
        }
    }

    /// Adds what is missing of a cursor for each of so many queues. One that has cursors for some
    /// queues only stays as it is.
    pub fn grow(&mut self, queues: usize) {
        if let Self::All(cursors) = self {
            let count = cursors.len().max(queues);
            cursors.resize(count, Cursor::default());
        }
    }

    /// Makes sure that a queue of a LITE topic has a cursor.
    pub fn add(&mut self, queue: u32) {
        if let Self::Some(cursors) = self {
            cursors.entry(queue).or_default();
        }
    }

    /// Forgets the cursor of one queue of a LITE topic.
    pub fn remove(&mut self, queue: u32) {
        if let Self::Some(cursors) = self {
            cursors.remove(&queue);
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::All(cursors) => cursors.len(),
            Self::Some(cursors) => cursors.len(),
        }
    }

    pub fn iter(&self) -> Iter<'_> {
        match self {
            Self::All(cursors) => Iter::All((0..).zip(cursors)),
            Self::Some(cursors) => Iter::Some(cursors.iter()),
        }
    }
}

impl<'a> IntoIterator for &'a Cursors {
    type Item = (u32, &'a Cursor);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (u32, &'a Cursor);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::All(cursors) => cursors.next(),
            Self::Some(cursors) => cursors.next().map(|(queue, cursor)| (*queue, cursor)),
        }
    }
}
