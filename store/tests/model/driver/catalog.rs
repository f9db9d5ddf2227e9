//! Topics and groups.

use centaur_apis::{
    log::TopicType,
    store::{DeleteGroupRequest, DeleteTopicRequest, PutGroupRequest, PutTopicRequest, Reason},
};

use super::Driver;
use crate::{command::PRIORITIES, harness::reason, reference::Group};

impl Driver {
    pub(super) async fn put_topic(&mut self, name: &str, queues: u32, dedupe_ms: Option<u64>, ttl_ms: Option<u64>) {
        let request = PutTopicRequest {
            name: name.to_owned(),
            r#type: if name == PRIORITIES { TopicType::Priority } else { TopicType::Unspecified }.into(),
            queues: Some(queues),
            dedupe_ms,
            ttl_ms,
            ..Default::default()
        };
        let known = self.model.topics.get(name).map(|topic| topic.queues.len());
        let had_ms = self.model.topics.get(name).map_or(0, |topic| topic.ttl_ms);
        let is_fixed = name.starts_with('%');
        match self.client.put_topic(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let settings = answer.topic.expect("settings");
                assert_eq!((answer.created, settings.queues), (known.is_none(), queues));
                assert_eq!(settings.ttl_ms, ttl_ms.unwrap_or(had_ms));
                self.model.put_topic(&settings);
            }
            Err(status) => {
                let known = known.expect("a new topic is created");
                assert_eq!(reason(&status), Reason::Precondition, "{status}");
                assert!(known > queues as usize || (is_fixed && known != queues as usize), "{status}");
            }
        }
    }

    pub(super) async fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicRequest { name: name.to_owned(), dry_run: false };
        let answer = self.client.delete_topic(request).await.map_err(|status| reason(&status));
        // What waits for its time or its transaction is lost like the rest.
        let waiting = self.model.scheduled(Some(name)).len() + self.model.undecided(Some(name), false).len();
        let kept =
            self.model.topics.get(name).map(|t| t.queues.iter().map(|queue| queue.kept().count()).sum::<usize>());
        let lost = kept.map(|kept| (kept + waiting) as u64).ok_or(Reason::TopicNotFound);
        assert_eq!(answer.map(|answer| answer.into_inner().messages), lost);
        self.model.delete_topic(name);
        self.has_deleted = true;
    }

    pub(super) async fn put_group(
        &mut self,
        name: &str,
        max_attempts: u32,
        fifo: Option<bool>,
        blocks: bool,
        shared_percent: u32,
    ) {
        let request = PutGroupRequest {
            name: name.to_owned(),
            fifo,
            max_attempts: Some(max_attempts),
            blocks_when_exhausted: Some(blocks),
            shared_percent: Some(shared_percent),
            ..Default::default()
        };
        let was_fifo = self.model.groups.get(name).is_some_and(|group| group.fifo);
        let may_be_set = fifo.is_none_or(|fifo| fifo == was_fifo) || self.model.may_change_order(name);
        let answer = self.client.put_group(request).await.map_err(|status| reason(&status));
        if !may_be_set {
            return assert_eq!(answer.map(drop), Err(Reason::Precondition));
        }
        let group = Group::from(&answer.expect("set").into_inner().group.expect("a group"));
        let fifo = fifo.unwrap_or(was_fifo);
        assert_eq!(group, Group { id: group.id, max_attempts, fifo, blocks, shared_percent, lite: None });
        self.model.put_group(name, group);
    }

    pub(super) async fn delete_group(&mut self, name: &str) {
        let answer = self.client.delete_group(DeleteGroupRequest { name: name.to_owned() }).await;
        assert_eq!(answer.is_ok(), self.model.groups.contains_key(name));
        self.model.delete_group(name);
    }
}
