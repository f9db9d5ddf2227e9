//! The store's RPCs: decode, submit, await, encode. No decisions.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use centaur_apis::{
    fields::{self, system},
    receipt_handle::ReceiptHandle,
    store::{
        AckRequest, AckResponse, AckResult, AppendRequest, AppendResponse, ChangeVisibilityRequest,
        ChangeVisibilityResponse, Check, DeadLetterRequest, DeadLetterResponse, DeleteGroupRequest,
        DeleteGroupResponse, DeleteTopicRequest, DeleteTopicResponse, Delivery, DescribeGroupRequest,
        DescribeGroupResponse, DescribeRequest, DescribeResponse, DescribeTopicRequest, DescribeTopicResponse,
        EndSessionRequest, EndSessionResponse, EndTransactionRequest, EndTransactionResponse, EndTransactionResult,
        EndTransactionsRequest, EndTransactionsResponse, Error, GetGroupRequest, GetGroupResponse, GetOffsetRequest,
        GetOffsetResponse, ListGroupsRequest, ListGroupsResponse, ListLiteTopicsRequest, ListLiteTopicsResponse,
        ListNoticesRequest, ListNoticesResponse, ListScheduledRequest, ListScheduledResponse, ListTopicsRequest,
        ListTopicsResponse, ListTransactionsRequest, ListTransactionsResponse, PopRequest, PopResponse,
        PutGroupRequest, PutGroupResponse, PutTopicRequest, PutTopicResponse, QueryMessagesRequest,
        QueryMessagesResponse, QueryOffsetRequest, QueryOffsetResponse, ReadRequest, ReadResponse, Reason,
        RecallRequest, RecallResponse, RedriveRequest, RedriveResponse, ResetGroupRequest, ResetGroupResponse,
        Scheduled, SyncLiteRequest, SyncLiteResponse, TakeChecksRequest, TakeChecksResponse, TouchRequest,
        TouchResponse, Transaction, store_server,
    },
    units::Lsn,
};
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, timeout_at},
};
use tonic::{Request, Response, Status};

use crate::{
    engine::{self, CHECKS_MAX, Chosen, Found, Grant, Handle, Hits, Letter, Listed, Machine, batch_bytes},
    filter::{Filter, Text},
    log::{
        Reader,
        record::{self, Message, Record},
    },
    wait::WaiterId,
};

type Answer<T> = Result<Response<T>, Status>;

/// Bytes of the messages of one query.
const QUERY_BYTES_MAX: u64 = 8 << 20;
/// Longest wait of one read, ms.
const READ_WAIT_MS_MAX: u64 = 60_000;
/// Ends of transactions in one request.
const ENDS_MAX: usize = 1024;
/// Bytes an ack or a lease of one message may add to the log.
const EVENT_BYTES: usize = 256;

/// Answers the internal store contract.
#[derive(Clone)]
pub struct Service {
    handle: Handle,
    reader: Reader,
    polls: Arc<AtomicU64>,
}

impl Service {
    pub fn new(handle: Handle, reader: Reader) -> Self {
        Self { handle, reader, polls: Arc::default() }
    }

    async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce(&mut Machine) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        Ok(Response::new(self.handle.run(bytes, job).await?))
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        Ok(Response::new(self.handle.ask(question).await?))
    }

    /// Reads messages; those the memory does not have are read where waiting for the disk is allowed.
    async fn read(&self, places: Vec<Place>) -> Result<Vec<(Place, Message)>, Error> {
        let hot = places.iter().all(|place| self.reader.is_hot(place.lsn));
        if hot {
            return Ok(read_all(&self.reader, places));
        }
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || {
            places.iter().for_each(|place| reader.warm(place.lsn));
            read_all(&reader, places)
        });
        read.await.map_err(|_| Error::new(Reason::Failed, "messages could not be read"))
    }
}

/// Where a message is, and what goes with it into the answer.
#[derive(Clone, Debug)]
struct Place {
    lsn: Lsn,
    length: u32,
    /// Queue, offset and store time; without, those of the record itself.
    queued: Option<(u32, u64, u64)>,
    handle: Option<ReceiptHandle>,
    attempt: u32,
    visible_at_ms: u64,
}

impl Place {
    /// Without a lease, and without a place in a queue.
    fn bare(lsn: Lsn, length: u32) -> Self {
        Self { lsn, length, queued: None, handle: None, attempt: 0, visible_at_ms: 0 }
    }
}

impl From<&Found> for Place {
    fn from(found: &Found) -> Self {
        Self { queued: Some((found.queue, found.offset, found.stored_ms)), ..Self::bare(found.lsn, found.length) }
    }
}

impl From<&Grant> for Place {
    fn from(grant: &Grant) -> Self {
        Self {
            lsn: grant.lsn,
            length: grant.length,
            queued: Some((grant.handle.queue, grant.handle.offset, grant.stored_ms)),
            handle: Some(grant.handle),
            attempt: grant.attempt,
            visible_at_ms: grant.visible_at_ms,
        }
    }
}

fn read_all(reader: &Reader, places: Vec<Place>) -> Vec<(Place, Message)> {
    let mut messages = Vec::with_capacity(places.len());
    for place in places {
        match reader.read(place.lsn, place.length).map(|bytes| record::decode_verified(&bytes)) {
            Ok(Ok(Record::Message(message))) => messages.push((place, message)),
            Ok(outcome) => {
                crate::metrics::damaged();
                tracing::error!(lsn = place.lsn.0, ?outcome, "no message where one should be; it is left out");
            }
            Err(error) => {
                crate::metrics::damaged();
                tracing::error!(lsn = place.lsn.0, %error, "message cannot be read; it is left out");
            }
        }
    }
    messages
}

fn delivery(place: &Place, message: Message, key: Option<&[u8; 32]>) -> Delivery {
    let recorded = || (message.queue, message.offset().unwrap_or_default(), message.stored_ms);
    let unplaced = place.queued.is_none() && message.offset().is_none();
    let (queue, offset, stored_ms) = place.queued.unwrap_or_else(recorded);
    Delivery {
        head: message.head,
        properties: message.properties,
        body: message.body,
        handle: place.handle.zip(key).map(|(handle, key)| handle.seal(key)).unwrap_or_default(),
        queue,
        offset,
        attempt: place.attempt,
        stored_ms,
        visible_at_ms: place.visible_at_ms,
        unplaced,
    }
}

/// Messages at known places, as many as an answer may hold.
fn read_places(reader: &Reader, found: &[Found], complete: bool) -> QueryMessagesResponse {
    let mut bytes = 0;
    let fits = |found: &&Found| {
        let is_first = bytes == 0;
        bytes += u64::from(found.length);
        is_first || bytes <= QUERY_BYTES_MAX
    };
    let places: Vec<Place> = found.iter().take_while(fits).map(Place::from).collect();
    let complete = complete && places.len() == found.len();
    let messages = read_all(reader, places);
    let messages = messages.into_iter().map(|(place, message)| delivery(&place, message, None)).collect();
    QueryMessagesResponse { messages, complete }
}

/// Those of the messages that are wanted, as many as the answer may hold; reading goes on behind them.
fn readable(messages: Vec<(Place, Message)>, filter: &Filter, request: &ReadRequest, next_offset: u64) -> ReadResponse {
    let (mut wanted, mut bytes) = (Vec::new(), 0);
    let is_wanted = |message: &Message| filter.matches(Text { head: &message.head, properties: &message.properties });
    for (place, message) in messages.into_iter().filter(|(_, message)| is_wanted(message)) {
        bytes += u64::from(place.length);
        let is_full = wanted.len() >= request.messages_max.max(1) as usize || bytes > request.bytes_max;
        if is_full && !wanted.is_empty() {
            let next_offset = place.queued.map_or(next_offset, |(_, offset, _)| offset);
            return ReadResponse { messages: wanted, next_offset };
        }
        wanted.push(delivery(&place, message, None));
    }
    ReadResponse { messages: wanted, next_offset }
}

/// Messages among the hits that have the text, as many as are wanted and an answer may hold.
fn read_hits(reader: &Reader, hits: &Hits) -> QueryMessagesResponse {
    let mut messages = Vec::new();
    let (mut bytes, mut complete) = (0, !hits.is_cut);
    for &lsn in &hits.lsns {
        let Ok(length) = reader.record_length(lsn) else { continue };
        let Some((place, message)) = read_all(reader, vec![Place::bare(lsn, length)]).pop() else { continue };
        if !hits.matches(&message) {
            continue;
        }
        bytes += u64::from(length);
        if messages.len() == hits.limit || (bytes > QUERY_BYTES_MAX && !messages.is_empty()) {
            complete = false;
            break;
        }
        messages.push(delivery(&place, message, None));
    }
    QueryMessagesResponse { messages, complete }
}

/// How many of the first places take no more than that many bytes; at least one.
fn first_bytes(chosen: &[Chosen], bytes_max: u64) -> usize {
    let mut bytes = 0;
    let fits = |chosen: &&Chosen| {
        bytes += chosen.found.map_or(0, |found| u64::from(found.length));
        bytes <= bytes_max
    };
    chosen.iter().take_while(fits).count().max(1)
}

/// Reads dead letters; each keeps its place, whether it can be read or not.
fn read_letters(reader: &Reader, chosen: &[Chosen]) -> Vec<Letter> {
    let read = |found: Found| Some(read_all(reader, vec![Place::from(&found)]).pop()?.1);
    chosen.iter().map(|Chosen { place, found }| Letter { place: *place, message: found.and_then(read) }).collect()
}

/// Adds what only the messages say to a list of transactions; one at a time, for their bodies may
/// be large.
fn complete(reader: &Reader, listed: engine::Undecided) -> ListTransactionsResponse {
    let complete = |(lsn, length, mut transaction): (Lsn, u32, Transaction)| {
        if let Some((_, message)) = read_all(reader, vec![Place::bare(lsn, length)]).pop() {
            transaction.message_id = message_id(&message);
            transaction.body_bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
        }
        transaction
    };
    let transactions = listed.transactions.into_iter().map(complete).collect();
    ListTransactionsResponse { transactions, total: listed.total, next: listed.next }
}

/// One line of a list of scheduled messages; none when its message cannot be read.
fn scheduled(reader: &Reader, listed: Listed) -> Option<Scheduled> {
    let (_, message) = read_all(reader, vec![Place::bare(listed.lsn, listed.length)]).pop()?;
    Some(Scheduled {
        topic: listed.topic,
        message_id: message_id(&message),
        due_ms: listed.due_ms,
        stored_ms: message.stored_ms,
        body_bytes: u32::try_from(message.body.len()).unwrap_or(u32::MAX),
        ticket: listed.ticket,
    })
}

fn message_id(message: &Message) -> String {
    fields::text(&message.properties, system::MESSAGE_ID).unwrap_or_default().to_owned()
}

/// Takes a parked poll back when its caller goes away.
struct CancelOnDrop<'a> {
    handle: &'a Handle,
    id: WaiterId,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            let id = self.id;
            // Too busy: the poll is found closed when it is served, or at its deadline.
            let _ = self.handle.send(0, move |machine| machine.cancel(id));
        }
    }
}

#[tonic::async_trait]
impl store_server::Store for Service {
    async fn append(&self, request: Request<AppendRequest>) -> Answer<AppendResponse> {
        let batches = request.into_inner().batches;
        let bytes = batches.iter().map(batch_bytes).sum();
        self.run(bytes, |machine| Ok(AppendResponse { results: machine.append_batches(batches) })).await
    }

    async fn pop(&self, request: Request<PopRequest>) -> Answer<PopResponse> {
        let request = request.into_inner();
        let (reply, answer) = oneshot::channel();
        let id = WaiterId(self.polls.fetch_add(1, Ordering::Relaxed));
        let mut cancel = CancelOnDrop { handle: &self.handle, id, armed: true };
        self.handle.send(0, move |machine| machine.pop(id, &request, reply))?;
        let answer = answer.await;
        cancel.armed = false;
        let granted = answer.map_err(|_| Error::new(Reason::Stopping, "store is stopping; try again"))??;
        if granted.grants.is_empty() {
            return Ok(Response::new(PopResponse::default()));
        }
        // Dropped before they are kept, the leases are given back.
        let messages = self.read(granted.grants.iter().map(Place::from).collect()).await?;
        let key = granted.key();
        let deliveries = messages.into_iter().map(|(place, message)| delivery(&place, message, key.as_ref())).collect();
        granted.keep();
        Ok(Response::new(PopResponse { deliveries }))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Answer<AckResponse> {
        let entries = request.into_inner().entries;
        let bytes = entries.len() * EVENT_BYTES;
        let job = move |machine: &mut Machine| {
            let results = machine.ack(&entries).into_iter().map(|error| AckResult { error }).collect();
            Ok(AckResponse { results })
        };
        self.run(bytes, job).await
    }

    async fn change_visibility(&self, request: Request<ChangeVisibilityRequest>) -> Answer<ChangeVisibilityResponse> {
        let request = request.into_inner();
        let job = move |machine: &mut Machine| {
            let handle = machine.change_visibility(&request)?;
            Ok(ChangeVisibilityResponse { handle: machine.seal(&handle) })
        };
        self.run(EVENT_BYTES, job).await
    }

    async fn dead_letter(&self, request: Request<DeadLetterRequest>) -> Answer<DeadLetterResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.dead_letter(&request).map(|()| DeadLetterResponse {})).await
    }

    async fn touch(&self, request: Request<TouchRequest>) -> Answer<TouchResponse> {
        let clients = request.into_inner().clients;
        let job = move |machine: &mut Machine| {
            machine.touch(&clients);
            Ok(TouchResponse {})
        };
        self.run(0, job).await
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Answer<EndSessionResponse> {
        let request = request.into_inner();
        let job = move |machine: &mut Machine| Ok(EndSessionResponse { released: machine.end_session(&request) });
        self.run(EVENT_BYTES, job).await
    }

    async fn recall(&self, request: Request<RecallRequest>) -> Answer<RecallResponse> {
        let request = request.into_inner();
        let (lsn, length) = self.handle.run(EVENT_BYTES, move |machine| machine.recall(&request)).await?;
        // It is recalled, whatever becomes of its id.
        let messages = self.read(vec![Place::bare(lsn, length)]).await?;
        let message_id = messages.first().map(|(_, message)| message_id(message)).unwrap_or_default();
        Ok(Response::new(RecallResponse { message_id }))
    }

    async fn end_transaction(&self, request: Request<EndTransactionRequest>) -> Answer<EndTransactionResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.end_transaction(&request)).await
    }

    async fn end_transactions(&self, request: Request<EndTransactionsRequest>) -> Answer<EndTransactionsResponse> {
        let ends = request.into_inner().ends;
        if ends.len() > ENDS_MAX {
            let sentence = format!("request has {} ends of transactions; at most {ENDS_MAX} are allowed", ends.len());
            return Err(Error::new(Reason::Invalid, sentence).into());
        }
        let bytes = ends.len() * EVENT_BYTES;
        let job = move |machine: &mut Machine| {
            let end = |request: &EndTransactionRequest| match machine.end_transaction(request) {
                Ok(answer) => EndTransactionResult { error: None, resolution: answer.resolution },
                Err(error) => EndTransactionResult { error: Some(error), ..Default::default() },
            };
            Ok(EndTransactionsResponse { results: ends.iter().map(end).collect() })
        };
        self.run(bytes, job).await
    }

    async fn take_checks(&self, request: Request<TakeChecksRequest>) -> Answer<TakeChecksResponse> {
        let request = request.into_inner();
        let bytes = request.checks_max.clamp(1, CHECKS_MAX) as usize * EVENT_BYTES;
        let taken = self.handle.run(bytes, move |machine| Ok(machine.take_checks(&request))).await?;
        let places = taken.questions.iter().map(|question| Place::bare(question.lsn, question.length)).collect();
        let mut questions = taken.questions.into_iter();
        // In the same order; one that cannot be read is left out.
        let check = |(place, message): (Place, Message)| {
            let question = questions.find(|question| question.lsn == place.lsn)?;
            let message = Some(delivery(&place, message, None));
            Some(Check { topic: question.topic, ticket: question.ticket, message })
        };
        let checks = self.read(places).await?.into_iter().filter_map(check).collect();
        Ok(Response::new(TakeChecksResponse { checks, due_topics: taken.due_topics }))
    }

    async fn sync_lite(&self, request: Request<SyncLiteRequest>) -> Answer<SyncLiteResponse> {
        let request = request.into_inner();
        let bytes = EVENT_BYTES * (1 + request.lite_topics.len());
        self.run(bytes, move |machine| machine.sync_lite(&request).map(|()| SyncLiteResponse {})).await
    }

    async fn list_notices(&self, request: Request<ListNoticesRequest>) -> Answer<ListNoticesResponse> {
        let request = request.into_inner();
        self.ask(move |machine| Ok(machine.list_notices(&request))).await
    }

    async fn read(&self, request: Request<ReadRequest>) -> Answer<ReadResponse> {
        let mut request = request.into_inner();
        let until = Instant::now() + Duration::from_millis(request.wait_ms.min(READ_WAIT_MS_MAX));
        loop {
            let ask = request.clone();
            let page = self.handle.ask(move |machine| machine.read_queue(&ask)).await?;
            let engine::Page { found, next_offset, more, filter, mut arrivals } = page;
            let messages = self.read(found.iter().map(Place::from).collect()).await?;
            let response = readable(messages, &filter, &request, next_offset);
            if !response.messages.is_empty() {
                return Ok(Response::new(response));
            }
            request.offset = response.next_offset;
            // None are left, or none of those looked at was wanted. When nothing can come any more
            // because the topic is gone, looking again says so.
            let goes_on = more || timeout_at(until, arrivals.changed()).await.is_ok();
            if !goes_on || Instant::now() >= until {
                return Ok(Response::new(response));
            }
        }
    }

    async fn query_offset(&self, request: Request<QueryOffsetRequest>) -> Answer<QueryOffsetResponse> {
        let request = request.into_inner();
        self.ask(move |machine| machine.query_offset(&request)).await
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Answer<GetOffsetResponse> {
        let request = request.into_inner();
        self.ask(move |machine| machine.get_offset(&request)).await
    }

    async fn reset_group(&self, request: Request<ResetGroupRequest>) -> Answer<ResetGroupResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.reset_group(&request)).await
    }

    async fn redrive(&self, request: Request<RedriveRequest>) -> Answer<RedriveResponse> {
        let request = request.into_inner();
        let (group, dry_run) = (request.group.clone(), request.dry_run);
        let mut chosen = self.handle.ask(move |machine| machine.find_letters(&request)).await?;
        let mut results = Vec::with_capacity(chosen.len());
        while !chosen.is_empty() {
            let rest = chosen.split_off(first_bytes(&chosen, QUERY_BYTES_MAX));
            let reader = self.reader.clone();
            let read = tokio::task::spawn_blocking(move || read_letters(&reader, &chosen));
            let letters = read.await.map_err(|_| Error::new(Reason::Failed, "messages could not be read"))?;
            let bytes = letters.iter().filter_map(|letter| letter.message.as_ref()).map(Message::encoded_len).sum();
            let group = group.clone();
            let job = move |machine: &mut Machine| machine.redrive(&group, letters, dry_run);
            results.extend(self.handle.run(bytes, job).await?);
            chosen = rest;
        }
        Ok(Response::new(RedriveResponse { results }))
    }

    async fn list_scheduled(&self, request: Request<ListScheduledRequest>) -> Answer<ListScheduledResponse> {
        let request = request.into_inner();
        let mut listing = self.handle.ask(move |machine| machine.start_listing(&request)).await?;
        while !listing.is_complete {
            listing = self.handle.ask(move |machine| machine.list_more(listing)).await?;
        }
        let (reader, total, next) = (self.reader.clone(), listing.total, listing.next);
        let read = tokio::task::spawn_blocking(move || {
            listing.found.into_iter().filter_map(|listed| scheduled(&reader, listed)).collect()
        });
        let messages = read.await.map_err(|_| Error::new(Reason::Failed, "messages could not be read"))?;
        Ok(Response::new(ListScheduledResponse { messages, total, next }))
    }

    async fn list_transactions(&self, request: Request<ListTransactionsRequest>) -> Answer<ListTransactionsResponse> {
        let request = request.into_inner();
        let listed = self.handle.ask(move |machine| machine.list_transactions(&request)).await?;
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || complete(&reader, listed));
        let response = read.await.map_err(|_| Error::new(Reason::Failed, "messages could not be read"))?;
        Ok(Response::new(response))
    }

    async fn list_lite_topics(&self, request: Request<ListLiteTopicsRequest>) -> Answer<ListLiteTopicsResponse> {
        let request = request.into_inner();
        self.ask(move |machine| machine.list_lite_topics(&request)).await
    }

    async fn put_topic(&self, request: Request<PutTopicRequest>) -> Answer<PutTopicResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.put_topic(&request)).await
    }

    async fn delete_topic(&self, request: Request<DeleteTopicRequest>) -> Answer<DeleteTopicResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.delete_topic(&request)).await
    }

    async fn list_topics(&self, request: Request<ListTopicsRequest>) -> Answer<ListTopicsResponse> {
        let request = request.into_inner();
        self.ask(move |machine| Ok(machine.list_topics(&request))).await
    }

    async fn describe_topic(&self, request: Request<DescribeTopicRequest>) -> Answer<DescribeTopicResponse> {
        let request = request.into_inner();
        self.ask(move |machine| machine.describe_topic(&request)).await
    }

    async fn put_group(&self, request: Request<PutGroupRequest>) -> Answer<PutGroupResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.put_group(&request)).await
    }

    async fn delete_group(&self, request: Request<DeleteGroupRequest>) -> Answer<DeleteGroupResponse> {
        let request = request.into_inner();
        self.run(EVENT_BYTES, move |machine| machine.delete_group(&request)).await
    }

    async fn list_groups(&self, request: Request<ListGroupsRequest>) -> Answer<ListGroupsResponse> {
        let request = request.into_inner();
        self.ask(move |machine| Ok(machine.list_groups(&request))).await
    }

    async fn describe_group(&self, request: Request<DescribeGroupRequest>) -> Answer<DescribeGroupResponse> {
        let request = request.into_inner();
        self.ask(move |machine| machine.describe_group(&request)).await
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Answer<GetGroupResponse> {
        let request = request.into_inner();
        self.ask(move |machine| machine.get_group(&request)).await
    }

    async fn query_messages(&self, request: Request<QueryMessagesRequest>) -> Answer<QueryMessagesResponse> {
        let request = request.into_inner();
        let answer = self.handle.ask(move |machine| machine.query(&request)).await?;
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || match answer {
            engine::Answer::Places { found, complete } => read_places(&reader, &found, complete),
            engine::Answer::Hits(hits) => read_hits(&reader, &hits),
        });
        let response = read.await.map_err(|_| Error::new(Reason::Failed, "messages could not be read"))?;
        Ok(Response::new(response))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Answer<DescribeResponse> {
        self.ask(|machine| Ok(machine.describe())).await
    }
}
