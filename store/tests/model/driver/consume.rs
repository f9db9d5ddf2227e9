//! Polls, and what becomes of the messages they got.

use centaur_apis::{
    receipt_handle::ReceiptHandle,
    store::{
        AckEntry, AckRequest, ChangeVisibilityRequest, DeadLetterRequest, Delivery, DescribeGroupRequest,
        EndSessionRequest, Filter, PopRequest, PopResponse, Reason, filter::Kind,
    },
};

use super::{ATTEMPTS_DEFAULT, Driver, PATIENCE, POLLED_MAX};
use crate::{
    command::Issued,
    harness::{self, message_id, reason},
    reference::{Ask, Cause, Group, Worth},
};

/// A poll under way.
pub(super) type Poll = tokio::task::JoinHandle<Result<tonic::Response<PopResponse>, tonic::Status>>;

impl Driver {
    pub(super) async fn pop(&mut self, mut ask: Ask) {
        if self.model.topics.contains_key(&ask.reader.1) && !self.model.foresees(&ask) {
            ask.messages = POLLED_MAX;
            if !self.model.foresees(&ask) {
                return;
            }
        }
        let outcome = self.client.pop(pop_request(&ask, 0)).await.map(|answer| answer.into_inner().deliveries);
        match outcome {
            Ok(deliveries) => self.take_over(&ask, deliveries).await,
            Err(status) => {
                assert_eq!(reason(&status), Reason::TopicNotFound, "{status}");
                assert!(!self.model.topics.contains_key(&ask.reader.1));
            }
        }
    }

    pub(super) async fn park(&mut self, ask: Ask, queue: u32) {
        let ask = Ask { tags: None, attempt: String::new(), ..ask };
        let Some(queues) = self.model.topics.get(&ask.reader.1).map(|topic| topic.queues.len()) else { return };
        if self.model.available(&ask) > 0 || !self.model.foresees(&ask) {
            return;
        }
        let poll = self.parked(&ask).await;
        let topic = ask.reader.1.clone();
        // Nothing of another message group is in its way.
        let alone = format!("alone-{}", self.sent);
        let message = self.message(&topic, 10, &alone);
        let queue = queue % queues as u32;
        let offset = harness::send(&mut self.client, &topic, queue, message.to_send()).await;
        assert_eq!(offset, Ok(self.model.append(&topic, queue, vec![message])));
        let deliveries = woken(poll).await;
        self.take_over(&ask, deliveries).await;
    }

    /// A poll that has begun to wait.
    pub(super) async fn parked(&mut self, ask: &Ask) -> Poll {
        let mut client = self.client.clone();
        let request = pop_request(ask, 3_600_000);
        let poll = tokio::spawn(async move { client.pop(request).await });
        let (group, topic) = &ask.reader;
        loop {
            let described = self.client.describe_group(DescribeGroupRequest { name: group.clone() }).await;
            let topics = described.map(|answer| answer.into_inner().topics).unwrap_or_default();
            if topics.iter().any(|progress| progress.topic == *topic && progress.polls == 1) {
                return poll;
            }
            assert!(!poll.is_finished(), "there was nothing for it");
            tokio::task::yield_now().await;
        }
    }

    /// Gives an answer to the model, with how far the group is after it.
    pub(super) async fn take_over(&mut self, ask: &Ask, deliveries: Vec<Delivery>) {
        let described = self.describe_group(&ask.reader.0).await.expect("the group exists by now");
        let group = described.group.expect("settings");
        let group = Group::from(&group);
        let (id, max_attempts) = (group.id, ATTEMPTS_DEFAULT);
        let new = Group { id, max_attempts, fifo: false, blocks: false, shared_percent: 0, lite: None };
        assert_eq!(group, *self.model.groups.entry(ask.reader.0.clone()).or_insert(new));
        let topic = described.topics.iter().find(|topic| topic.topic == ask.reader.1).expect("it reads the topic");
        let mut fetches: Vec<u64> = topic.queues.iter().map(|queue| queue.fetch).collect();
        let is_exact = self.see_what_went(&ask.reader, &deliveries, &mut fetches).await;
        self.model.deliver(ask, &deliveries, &fetches, is_exact);
        self.note_issued(ask, deliveries);
    }

    pub(super) fn note_issued(&mut self, ask: &Ask, deliveries: Vec<Delivery>) {
        self.issued.extend(deliveries.into_iter().map(|delivery| Issued {
            reader: ask.reader.clone(),
            client: ask.client.clone(),
            id: message_id(&delivery.properties),
            text: delivery.handle,
        }));
    }

    pub(super) async fn ack(&mut self, issued: Vec<Issued>) {
        let entry =
            |i: &Issued| AckEntry { group: i.reader.0.clone(), topic: i.reader.1.clone(), handle: i.text.clone() };
        let entries: Vec<_> = issued.iter().map(entry).collect();
        let worths: Vec<_> = issued.iter().map(|i| self.worth(i)).collect();
        let results = self.client.ack(AckRequest { entries }).await.expect("answered").into_inner().results;
        let results: Vec<_> = results.into_iter().map(|result| result.error.map(|error| error.reason())).collect();
        let refusal = |worth: &Worth| (*worth == Worth::Invalid).then_some(Reason::InvalidHandle);
        assert_eq!(results, worths.iter().map(refusal).collect::<Vec<_>>(), "{worths:?}");
        for (issued, worth) in issued.iter().zip(worths) {
            if worth == Worth::Held {
                self.model.settle(&issued.reader, &issued.text);
            }
        }
    }

    pub(super) async fn change(&mut self, issued: Issued, invisible_ms: u64, uncounted: bool) {
        let request = ChangeVisibilityRequest {
            group: issued.reader.0.clone(),
            topic: issued.reader.1.clone(),
            handle: issued.text.clone(),
            invisible_ms,
            uncounted,
        };
        let worth = self.worth(&issued);
        match self.client.change_visibility(request).await {
            Ok(answer) => {
                assert_eq!(worth, Worth::Held);
                let text = answer.into_inner().handle;
                let expected = self.model.change(&issued.reader, &issued.text, invisible_ms, uncounted);
                assert_eq!(ReceiptHandle::peek(&text), Some(expected));
                self.issued.push(Issued { text, ..issued });
            }
            Err(status) => assert!(worth != Worth::Held && reason(&status) == Reason::InvalidHandle, "{status}"),
        }
    }

    pub(super) async fn bury(&mut self, issued: Issued) {
        let request = DeadLetterRequest {
            group: issued.reader.0.clone(),
            topic: issued.reader.1.clone(),
            handle: issued.text.clone(),
            ..Default::default()
        };
        let worth = self.worth(&issued);
        match self.client.dead_letter(request).await {
            Ok(_) if worth == Worth::Held => {
                let handle = ReceiptHandle::peek(&issued.text).expect("held");
                self.model.bury(&issued.reader, handle.queue, handle.offset, Cause::Forwarded);
            }
            Ok(_) => assert_eq!(worth, Worth::Finished),
            Err(status) => assert!(worth == Worth::Invalid && reason(&status) == Reason::InvalidHandle, "{status}"),
        }
    }

    pub(super) async fn bury_by_id(&mut self, issued: Issued, client: &str) {
        let (group, topic) = issued.reader.clone();
        let request = DeadLetterRequest {
            group: group.clone(),
            topic: topic.clone(),
            client: client.to_owned(),
            message_id: issued.id.clone(),
            ..Default::default()
        };
        match self.client.dead_letter(request).await {
            Ok(_) => {
                if let Some((queue, offset)) = self.model.held_by(&issued.reader, client, &issued.id) {
                    self.model.bury(&issued.reader, queue, offset, Cause::Forwarded);
                }
            }
            Err(status) => {
                let is_known = self.model.topics.contains_key(&topic) && self.model.groups.contains_key(&group);
                assert!(!is_known, "{status}");
            }
        }
    }

    pub(super) async fn end_session(&mut self, client: &str, group: Option<&str>) {
        let of_group = group.unwrap_or_default().to_owned();
        let request = EndSessionRequest { client: client.to_owned(), group: of_group, linger_ms: 0 };
        let released = self.client.end_session(request).await.expect("ended").into_inner().released;
        assert_eq!(released, self.model.end_session(client, group));
    }

    /// What the model says of a handle; a forged one is worth nothing.
    fn worth(&self, issued: &Issued) -> Worth {
        if issued.text.ends_with('!') {
            Worth::Invalid
        } else {
            self.model.worth(&issued.reader.0, &issued.reader.1, &issued.text)
        }
    }
}

/// What a waiting poll got: the one message that was sent.
pub(super) async fn woken(poll: Poll) -> Vec<Delivery> {
    let answer = tokio::time::timeout(PATIENCE, poll).await.expect("a waiting poll is answered").expect("no panic");
    let deliveries = answer.expect("answered").into_inner().deliveries;
    assert_eq!(deliveries.len(), 1, "the message that was waited for");
    deliveries
}

pub(super) fn pop_request(ask: &Ask, wait_ms: u64) -> PopRequest {
    PopRequest {
        group: ask.reader.0.clone(),
        topic: ask.reader.1.clone(),
        client: ask.client.clone(),
        filter: filter_of(ask),
        messages_max: u32::try_from(ask.messages).expect("few"),
        bytes_max: ask.bytes,
        invisible_ms: ask.invisible_ms,
        session_bound: ask.session_bound,
        attempt: ask.attempt.clone(),
        wait_ms,
        create_group: true,
    }
}

pub(super) fn filter_of(ask: &Ask) -> Option<Filter> {
    let tags = ask.tags.as_ref()?;
    Some(Filter { kind: Kind::Tags.into(), tags: tags.clone(), ..Default::default() })
}
