//! A store in memory: as simple as the contract allows, and easy to look into.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use centaur_apis::{
    log::{Group, Lite, Permission, Topic, TopicType},
    receipt_handle::ReceiptHandle,
    store::{store_server::Store, *},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};
use tonic::{Request, Response, Status};

const KEY: [u8; 32] = [9; 32];
const STORED_MS: u64 = 1_700_000_000_000;

/// Clones share one world.
#[derive(Clone)]
pub struct FakeStore {
    world: Arc<Mutex<World>>,
    arrived: Arc<Notify>,
    /// Appends and ends of transactions need a permit; take them away to hold them back.
    pub gate: Arc<Semaphore>,
}

/// Of no transaction.
pub const UNKNOWN_TICKET: &str = "unknown";

#[derive(Default)]
pub struct World {
    /// It says nothing when it is asked for groups.
    pub is_slow: bool,
    pub topics: BTreeMap<String, Topic>,
    pub groups: BTreeMap<String, Group>,
    pub queues: HashMap<(String, u32), Vec<NewMessage>>,
    pub leases: HashMap<(String, String, u32, u64), Lease>,
    pub pops: Vec<PopRequest>,
    pub appends: Vec<AppendRequest>,
    pub changes: Vec<ChangeVisibilityRequest>,
    pub letters: Vec<DeadLetterRequest>,
    pub touched: Vec<String>,
    pub ended: Vec<String>,
    /// Pops that wait now.
    pub parked: usize,
    /// What every append is answered with.
    pub append_error: Option<Error>,
    /// Messages stored that are not in a queue yet; the ticket of each ends with its place here.
    pub waiting: Vec<NewMessage>,
    pub recalls: Vec<RecallRequest>,
    pub ends: Vec<EndTransactionRequest>,
    pub end_calls: usize,
    /// Given out once, to who asks for their topics.
    pub checks: Vec<Check>,
    pub syncs: Vec<SyncLiteRequest>,
    pub notices: Vec<Notice>,
    pub reads: Vec<ReadRequest>,
    pub offset_queries: Vec<QueryOffsetRequest>,
    pub gets: Vec<GetOffsetRequest>,
    pub resets: Vec<ResetGroupRequest>,
    /// What most other calls are answered with.
    pub error: Option<Error>,
}

impl World {
    fn check(&self) -> Result<(), Error> {
        self.error.clone().map_or(Ok(()), Err)
    }
}

#[derive(Clone, Default)]
pub struct Lease {
    pub attempt: u32,
    pub generation: u32,
    pub visible_at: Option<Instant>,
    pub done: bool,
}

impl FakeStore {
    pub fn new() -> Self {
        Self { world: Arc::default(), arrived: Arc::default(), gate: Arc::new(Semaphore::new(1_000)) }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add_topic(&self, name: &str, kind: TopicType, queues: u32) {
        let permission = Permission::ReadWrite.into();
        let topic = Topic { name: name.into(), r#type: kind.into(), queues, permission, ..Default::default() };
        self.world().topics.insert(name.into(), topic);
    }

    /// Waits until the world is as a test wants it.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut(&World) -> bool) {
        let looking = async {
            while !is_so(&self.world()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), looking).await.unwrap_or_else(|_| panic!("never came true: {what}"));
    }

    fn take(&self, request: &PopRequest) -> Result<Vec<Delivery>, Status> {
        let mut world = self.world();
        let Some(topic) = world.topics.get(&request.topic).cloned() else { return Err(no_topic(&request.topic)) };
        if !world.groups.contains_key(&request.group) {
            if !request.create_group {
                return Err(Error::new(Reason::GroupNotFound, "no such group").into());
            }
            world.groups.insert(request.group.clone(), Group { name: request.group.clone(), ..Default::default() });
        }
        let mut deliveries = Vec::new();
        for queue in 0..topic.queues {
            let messages = world.queues.get(&(request.topic.clone(), queue)).cloned().unwrap_or_default();
            for (offset, message) in messages.into_iter().enumerate() {
                let key = (request.group.clone(), request.topic.clone(), queue, offset as u64);
                let lease = world.leases.entry(key).or_default();
                let is_leased = lease.visible_at.is_some_and(|at| at > Instant::now());
                if lease.done || is_leased || deliveries.len() as u32 >= request.messages_max {
                    continue;
                }
                lease.attempt += 1;
                lease.generation += 1;
                lease.visible_at = Some(Instant::now() + Duration::from_millis(request.invisible_ms));
                deliveries.push(Delivery {
                    head: message.head,
                    properties: message.properties,
                    body: message.body,
                    handle: seal(queue, offset as u64, lease.generation),
                    queue,
                    offset: offset as u64,
                    attempt: lease.attempt,
                    stored_ms: STORED_MS,
                    visible_at_ms: 0,
                    unplaced: false,
                });
            }
        }
        Ok(deliveries)
    }

    fn page(&self, request: &ReadRequest) -> Result<ReadResponse, Status> {
        let world = self.world();
        world.check()?;
        if !world.topics.contains_key(&request.topic) {
            return Err(no_topic(&request.topic));
        }
        let queue = world.queues.get(&(request.topic.clone(), request.queue)).map_or(&[][..], Vec::as_slice);
        let places = (0u64..).zip(queue).filter(|(at, _)| *at >= request.offset);
        let messages: Vec<Delivery> = places
            .take(request.messages_max as usize)
            .map(|(at, message)| delivery(message, request.queue, at))
            .collect();
        let next_offset = request.offset + messages.len() as u64;
        Ok(ReadResponse { messages, next_offset })
    }

    /// Runs `change` on the lease a handle stands for.
    fn with_lease<R>(
        &self,
        group: &str,
        topic: &str,
        handle: &str,
        change: impl FnOnce(&mut Lease, ReceiptHandle) -> R,
    ) -> Result<R, Error> {
        let invalid = || Error::new(Reason::InvalidHandle, "receipt_handle is not valid any more");
        let handle = ReceiptHandle::open(handle, |_| Some(&KEY)).ok_or_else(invalid)?;
        let key = (group.to_owned(), topic.to_owned(), handle.queue, handle.offset);
        let mut world = self.world();
        let lease = world.leases.get_mut(&key).ok_or_else(invalid)?;
        let is_current = lease.generation == handle.generation;
        let is_running = lease.done || lease.visible_at.is_some_and(|at| at > Instant::now());
        if is_current && is_running { Ok(change(lease, handle)) } else { Err(invalid()) }
    }
}

/// A message as the store gives it without a lease.
pub fn delivery(message: &NewMessage, queue: u32, offset: u64) -> Delivery {
    Delivery {
        head: message.head.clone(),
        properties: message.properties.clone(),
        body: message.body.clone(),
        queue,
        offset,
        stored_ms: STORED_MS,
        ..Default::default()
    }
}

fn seal(queue: u32, offset: u64, generation: u32) -> String {
    let handle = ReceiptHandle { key_id: 1, store_group: 1, group: 1, topic: 1, queue, epoch: 1, offset, generation };
    handle.seal(&KEY)
}

fn no_topic(name: &str) -> Status {
    Error::new(Reason::TopicNotFound, format!("topic {name:?} does not exist")).into()
}

/// Counts a pop as parked for as long as it lives.
struct Parked<'a>(&'a FakeStore);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.world().parked -= 1;
    }
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Store for FakeStore {
    async fn append(&self, request: Request<AppendRequest>) -> Answered<AppendResponse> {
        let request = request.into_inner();
        self.world().appends.push(request.clone());
        let _permit = self.gate.acquire().await.expect("never closed");
        let mut world = self.world();
        if let Some(error) = &world.append_error {
            let failed = BatchResult { error: Some(error.clone()), ..Default::default() };
            return Ok(Response::new(AppendResponse { results: vec![failed; request.batches.len()] }));
        }
        let mut results = Vec::new();
        for batch in request.batches {
            if !world.topics.contains_key(&batch.topic) {
                let error = Error::from_status(&no_topic(&batch.topic));
                results.push(BatchResult { error: Some(error), ..Default::default() });
                continue;
            }
            let mut result = BatchResult::default();
            for message in batch.messages {
                if message.due_ms > 0 || message.half.is_some() {
                    result.tickets.resize(result.offsets.len(), String::new());
                    result.tickets.push(format!("ticket-{}", world.waiting.len()));
                    result.offsets.push(0);
                    world.waiting.push(message);
                    continue;
                }
                let queue = world.queues.entry((batch.topic.clone(), message.queue)).or_default();
                result.offsets.push(queue.len() as u64);
                queue.push(message);
            }
            if !result.tickets.is_empty() {
                result.tickets.resize(result.offsets.len(), String::new());
            }
            results.push(result);
        }
        drop(world);
        self.arrived.notify_waiters();
        Ok(Response::new(AppendResponse { results }))
    }

    async fn pop(&self, request: Request<PopRequest>) -> Answered<PopResponse> {
        let request = request.into_inner();
        self.world().pops.push(request.clone());
        let until = Instant::now() + Duration::from_millis(request.wait_ms);
        loop {
            let arrived = self.arrived.notified();
            let deliveries = self.take(&request)?;
            if !deliveries.is_empty() || Instant::now() >= until {
                return Ok(Response::new(PopResponse { deliveries }));
            }
            self.world().parked += 1;
            let _parked = Parked(self);
            let _ = tokio::time::timeout_at(until, arrived).await;
        }
    }

    async fn ack(&self, request: Request<AckRequest>) -> Answered<AckResponse> {
        let settle = |e: AckEntry| AckResult {
            error: self.with_lease(&e.group, &e.topic, &e.handle, |lease, _| lease.done = true).err(),
        };
        let results = request.into_inner().entries.into_iter().map(settle).collect();
        Ok(Response::new(AckResponse { results }))
    }

    async fn change_visibility(&self, request: Request<ChangeVisibilityRequest>) -> Answered<ChangeVisibilityResponse> {
        let request = request.into_inner();
        self.world().changes.push(request.clone());
        let handle = self.with_lease(&request.group, &request.topic, &request.handle, |lease, handle| {
            lease.generation += 1;
            lease.attempt -= u32::from(request.uncounted);
            lease.visible_at = Some(Instant::now() + Duration::from_millis(request.invisible_ms));
            seal(handle.queue, handle.offset, lease.generation)
        })?;
        self.arrived.notify_waiters();
        Ok(Response::new(ChangeVisibilityResponse { handle }))
    }

    async fn dead_letter(&self, request: Request<DeadLetterRequest>) -> Answered<DeadLetterResponse> {
        let request = request.into_inner();
        self.world().letters.push(request.clone());
        if request.handle.is_empty() && request.message_id == "gone" {
            return Err(Error::new(Reason::MessageNotFound, "no such message is in flight").into());
        }
        if !request.handle.is_empty() {
            self.with_lease(&request.group, &request.topic, &request.handle, |lease, _| lease.done = true)?;
        }
        Ok(Response::new(DeadLetterResponse {}))
    }

    async fn touch(&self, request: Request<TouchRequest>) -> Answered<TouchResponse> {
        self.world().touched.extend(request.into_inner().clients);
        Ok(Response::new(TouchResponse {}))
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Answered<EndSessionResponse> {
        self.world().ended.push(request.into_inner().client);
        Ok(Response::new(EndSessionResponse { released: 0 }))
    }

    async fn put_topic(&self, request: Request<PutTopicRequest>) -> Answered<PutTopicResponse> {
        let name = request.into_inner().name;
        self.add_topic(&name, TopicType::Normal, 8);
        let topic = self.world().topics.get(&name).cloned();
        Ok(Response::new(PutTopicResponse { topic, created: true }))
    }

    async fn describe_topic(&self, request: Request<DescribeTopicRequest>) -> Answered<DescribeTopicResponse> {
        let name = request.into_inner().name;
        let topic = self.world().topics.get(&name).cloned().ok_or_else(|| no_topic(&name))?;
        Ok(Response::new(DescribeTopicResponse { topic: Some(topic), ..Default::default() }))
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Answered<GetGroupResponse> {
        if self.world().is_slow {
            std::future::pending::<()>().await;
        }
        let group = self.world().groups.get(&request.into_inner().name).cloned();
        let group = group.ok_or_else(|| Error::new(Reason::GroupNotFound, "no such group"))?;
        Ok(Response::new(GetGroupResponse { group: Some(group) }))
    }

    /// Looks at all that a group has: what operators ask for, and no client may cause.
    async fn describe_group(&self, _: Request<DescribeGroupRequest>) -> Answered<DescribeGroupResponse> {
        panic!("only the settings are wanted")
    }

    async fn list_topics(&self, _: Request<ListTopicsRequest>) -> Answered<ListTopicsResponse> {
        let total = self.world().topics.len() as u64;
        Ok(Response::new(ListTopicsResponse { topics: Vec::new(), total }))
    }

    async fn put_group(&self, _: Request<PutGroupRequest>) -> Answered<PutGroupResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn delete_topic(&self, _: Request<DeleteTopicRequest>) -> Answered<DeleteTopicResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn delete_group(&self, _: Request<DeleteGroupRequest>) -> Answered<DeleteGroupResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn list_groups(&self, _: Request<ListGroupsRequest>) -> Answered<ListGroupsResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn query_messages(&self, request: Request<QueryMessagesRequest>) -> Answered<QueryMessagesResponse> {
        let request = request.into_inner();
        let world = self.world();
        world.check()?;
        let Some(query_messages_request::By::Place(place)) = request.by else {
            return Ok(Response::new(QueryMessagesResponse::default()));
        };
        let at = usize::try_from(place.offset).unwrap_or(usize::MAX);
        let queue = world.queues.get(&(request.topic, place.queue)).map_or(&[][..], Vec::as_slice);
        let messages = queue.get(at).map(|message| delivery(message, place.queue, place.offset)).into_iter().collect();
        Ok(Response::new(QueryMessagesResponse { messages, complete: true }))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Answered<DescribeResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn recall(&self, request: Request<RecallRequest>) -> Answered<RecallResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        world.recalls.push(request);
        world.check()?;
        Ok(Response::new(RecallResponse { message_id: "recalled".into() }))
    }

    async fn end_transaction(&self, request: Request<EndTransactionRequest>) -> Answered<EndTransactionResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        let resolution = request.resolution;
        world.ends.push(request);
        world.check()?;
        Ok(Response::new(EndTransactionResponse { resolution }))
    }

    async fn end_transactions(&self, request: Request<EndTransactionsRequest>) -> Answered<EndTransactionsResponse> {
        self.world().end_calls += 1;
        let _permit = self.gate.acquire().await.expect("never closed");
        let mut world = self.world();
        let mut end = |request: EndTransactionRequest| {
            let resolution = request.resolution;
            let is_known = request.ticket != UNKNOWN_TICKET;
            world.ends.push(request);
            let unknown = (!is_known).then(|| Error::new(Reason::TransactionNotFound, "there is no such transaction"));
            EndTransactionResult { error: world.check().err().or(unknown), resolution }
        };
        let results = request.into_inner().ends.into_iter().map(&mut end).collect();
        Ok(Response::new(EndTransactionsResponse { results }))
    }

    async fn take_checks(&self, request: Request<TakeChecksRequest>) -> Answered<TakeChecksResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        let (checks, others): (Vec<_>, Vec<_>) =
            world.checks.drain(..).partition(|check| request.topics.contains(&check.topic));
        let due_topics = others.iter().map(|check| check.topic.clone()).collect();
        world.checks = others;
        Ok(Response::new(TakeChecksResponse { checks, due_topics }))
    }

    async fn sync_lite(&self, request: Request<SyncLiteRequest>) -> Answered<SyncLiteResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        world.check()?;
        if request.create_group && !world.groups.contains_key(&request.group) {
            let lite = Lite { topic: request.topic.clone(), client_quota: 7, ..Default::default() };
            let group = Group { name: request.group.clone(), lite: Some(lite), ..Default::default() };
            world.groups.insert(request.group.clone(), group);
        }
        world.syncs.push(request);
        Ok(Response::new(SyncLiteResponse {}))
    }

    async fn list_notices(&self, request: Request<ListNoticesRequest>) -> Answered<ListNoticesResponse> {
        let request = request.into_inner();
        let world = self.world();
        let after = usize::try_from(request.after).unwrap_or(usize::MAX);
        let notices = world.notices.iter().skip(after).cloned().collect();
        Ok(Response::new(ListNoticesResponse { notices, last: world.notices.len() as u64 }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Answered<ReadResponse> {
        let request = request.into_inner();
        self.world().reads.push(request.clone());
        let until = Instant::now() + Duration::from_millis(request.wait_ms);
        loop {
            let arrived = self.arrived.notified();
            let page = self.page(&request)?;
            if !page.messages.is_empty() || Instant::now() >= until {
                return Ok(Response::new(page));
            }
            self.world().parked += 1;
            let _parked = Parked(self);
            let _ = tokio::time::timeout_at(until, arrived).await;
        }
    }

    async fn query_offset(&self, request: Request<QueryOffsetRequest>) -> Answered<QueryOffsetResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        world.offset_queries.push(request);
        world.check()?;
        Ok(Response::new(QueryOffsetResponse { offset: 7 }))
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Answered<GetOffsetResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        world.gets.push(request);
        world.check()?;
        Ok(Response::new(GetOffsetResponse { offset: 5 }))
    }

    async fn reset_group(&self, request: Request<ResetGroupRequest>) -> Answered<ResetGroupResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        world.resets.push(request);
        world.check()?;
        Ok(Response::new(ResetGroupResponse::default()))
    }

    async fn redrive(&self, _: Request<RedriveRequest>) -> Answered<RedriveResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn list_scheduled(&self, _: Request<ListScheduledRequest>) -> Answered<ListScheduledResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn list_transactions(&self, _: Request<ListTransactionsRequest>) -> Answered<ListTransactionsResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn list_lite_topics(&self, _: Request<ListLiteTopicsRequest>) -> Answered<ListLiteTopicsResponse> {
        Ok(Response::new(Default::default()))
    }
}
