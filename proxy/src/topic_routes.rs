//! Which topics and consumer groups there are and how they are set: read from the store, renewed
//! by age and when an answer shows that what is known is old.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use centaur_apis::{
    hash64,
    log::{Group, Permission, Topic, TopicType},
    store::{DescribeTopicRequest, Error, GetGroupRequest, PutTopicRequest, Reason},
};
use tokio::time::Instant;

use crate::{
    cache::{Cache, Found},
    refusal::Refusal,
    stores::{Client, Stores},
};

/// One topic as a proxy sees it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) kind: TopicType,
    pub(crate) permission: Permission,
    /// At least 1.
    pub(crate) queues: u32,
    /// Where the next message without a group goes; outlives renewals.
    turn: Arc<AtomicU32>,
}

impl Route {
    fn new(topic: &Topic, turn: Arc<AtomicU32>) -> Self {
        let kind = match topic.r#type() {
            TopicType::Unspecified => TopicType::Normal,
            declared => declared,
        };
        Self { kind, permission: topic.permission(), queues: topic.queues.max(1), turn }
    }

    pub(crate) fn is_writable(&self) -> bool {
        matches!(self.permission, Permission::Write | Permission::ReadWrite)
    }

    pub(crate) fn is_readable(&self) -> bool {
        matches!(self.permission, Permission::Read | Permission::ReadWrite)
    }

    /// The queue of every message of this group, as long as the number of queues stays.
    pub(crate) fn queue_of_group(&self, message_group: &str) -> u32 {
        let at = hash64(message_group.as_bytes()) % u64::from(self.queues);
        u32::try_from(at).unwrap_or(0)
    }

    /// The queue of messages of this priority: the highest ones share the last queue.
    pub(crate) fn queue_of_priority(&self, priority: i32) -> u32 {
        u32::try_from(priority).unwrap_or(0).min(self.queues - 1)
    }

    /// The queue whose turn it is.
    pub(crate) fn next_queue(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.queues
    }
}

/// What is known about topics and groups.
#[derive(Clone)]
pub(crate) struct TopicRoutes {
    stores: Stores,
    topics: Arc<Cache<Arc<Route>>>,
    groups: Arc<Cache<Arc<Group>>>,
}

impl TopicRoutes {
    pub(crate) fn new(stores: Stores) -> Self {
        Self { stores, topics: Arc::new(Cache::new()), groups: Arc::new(Cache::new()) }
    }

    /// The topic of this name; `TOPIC_NOT_FOUND` when there is none.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<Route>, Refusal> {
        match self.topics.look(name, Instant::now()) {
            Found::Fresh(Some(route)) => Ok(route),
            Found::Fresh(None) => Err(Refusal::topic_not_found(name)),
            Found::Stale(route) => {
                let (routes, name) = (self.clone(), name.to_owned());
                tokio::spawn(async move { routes.renew_topic(&name).await.is_ok() });
                Ok(route)
            }
            Found::Unknown => self.renew_topic(name).await,
        }
    }

    /// The topic of this name as the store has it now.
    pub(crate) async fn renew_topic(&self, name: &str) -> Result<Arc<Route>, Refusal> {
        let request = DescribeTopicRequest { name: name.to_owned() };
        let call = |mut client: Client| {
            let request = request.clone();
            async move { client.describe_topic(request).await }
        };
        match self.stores.call(call).await {
            Ok(answer) => self.learn_topic(name, answer.topic),
            Err(error) => Err(self.missed_topic(name, error)),
        }
    }

    /// Makes a topic that a client asked for.
    pub(crate) async fn create_topic(&self, name: &str) -> Result<Arc<Route>, Refusal> {
        let request = PutTopicRequest { name: name.to_owned(), implicit: true, ..Default::default() };
        let call = |mut client: Client| {
            let request = request.clone();
            async move { client.put_topic(request).await }
        };
        match self.stores.call(call).await {
            Ok(answer) => self.learn_topic(name, answer.topic),
            Err(error) => Err(self.missed_topic(name, error)),
        }
    }

    /// The consumer group of this name; `None` when there is none.
    pub(crate) async fn group(&self, name: &str) -> Result<Option<Arc<Group>>, Refusal> {
        match self.groups.look(name, Instant::now()) {
            Found::Fresh(group) => Ok(group),
            Found::Stale(group) => {
                let (routes, name) = (self.clone(), name.to_owned());
                tokio::spawn(async move { routes.renew_group(&name).await.is_ok() });
                Ok(Some(group))
            }
            Found::Unknown => self.renew_group(name).await,
        }
    }

    /// The consumer group of this name as it was last seen here, if it was seen lately; asks nobody.
    pub(crate) fn known_group(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.last(name)
    }

    pub(crate) fn forget_topic(&self, name: &str) {
        self.topics.forget(name);
    }

    pub(crate) fn forget_group(&self, name: &str) {
        self.groups.forget(name);
    }

    /// Drops what nobody asks for.
    pub(crate) fn sweep(&self, now: Instant) {
        self.topics.sweep(now);
        self.groups.sweep(now);
    }

    async fn renew_group(&self, name: &str) -> Result<Option<Arc<Group>>, Refusal> {
        let request = GetGroupRequest { name: name.to_owned() };
        let call = |mut client: Client| {
            let request = request.clone();
            async move { client.get_group(request).await }
        };
        let group = match self.stores.call(call).await {
            Ok(answer) => answer.group.map(Arc::new),
            Err(error) if error.reason() == Reason::GroupNotFound => None,
            Err(error) => return Err(error.into()),
        };
        self.groups.put(name, group.clone(), Instant::now());
        Ok(group)
    }

    fn learn_topic(&self, name: &str, topic: Option<Topic>) -> Result<Arc<Route>, Refusal> {
        let Some(topic) = topic else {
            let message = format!("the store said nothing about topic {name:?}");
            return Err(Error::new(Reason::Failed, message).into());
        };
        let turn = self.topics.last(name).map(|old| old.turn.clone()).unwrap_or_default();
        let route = Arc::new(Route::new(&topic, turn));
        self.topics.put(name, Some(route.clone()), Instant::now());
        Ok(route)
    }

    fn missed_topic(&self, name: &str, error: Error) -> Refusal {
        if error.reason() != Reason::TopicNotFound {
            return error.into();
        }
        self.topics.put(name, None, Instant::now());
        Refusal::topic_not_found(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(queues: u32) -> Route {
        let topic = Topic { queues, permission: Permission::ReadWrite.into(), ..Default::default() };
        Route::new(&topic, Arc::default())
    }

    #[test]
    fn messages_without_a_group_take_turns() {
        let route = route(3);
        let queues: Vec<u32> = (0..7).map(|_| route.next_queue()).collect();
        assert_eq!(queues, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_message_group_keeps_its_queue() {
        let (one, other) = (route(8), route(8));
        for i in 0..100 {
            let group = format!("order-{i}");
            assert_eq!(one.queue_of_group(&group), other.queue_of_group(&group));
            assert!(one.queue_of_group(&group) < 8);
        }
    }

    #[test]
    fn a_priority_has_its_queue() {
        let queues = [-1, 0, 1, 2, 3, i32::MAX].map(|priority| route(3).queue_of_priority(priority));
        assert_eq!(queues, [0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn an_untyped_topic_without_queues_is_usable() {
        let route = route(0);
        assert_eq!((route.kind, route.queues), (TopicType::Normal, 1));
        assert!(route.is_readable() && route.is_writable());
    }
}
