//! Lite topics: the named queues of a LITE topic, and which client consumes which of them.

use centaur_apis::log::{LiteSubscribed, LiteTopicDeleted, LiteTopicSet};

/// Every lite topic and every lite subscription.
#[derive(Clone, Debug, Default)]
pub struct Lite {}

impl Lite {
    pub fn set_topic(&mut self, _event: &LiteTopicSet) {}

    pub fn delete_topic(&mut self, _event: &LiteTopicDeleted) {}

    pub fn subscribe(&mut self, _event: &LiteSubscribed) {}
}
