//! Store group → client. The only place that knows where a store is. Concurrent appends share
//! calls, and so do concurrent acks and ends of transactions; every caller gets its own result.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use centaur_apis::{
    store::{
        AckEntry, AckRequest, AckResult, AppendRequest, AppendResponse, Batch, BatchResult, EndTransactionRequest,
        EndTransactionResult, EndTransactionsRequest, Error, NewMessage, PopRequest, PopResponse, ReadRequest,
        ReadResponse, Reason, store_client::StoreClient,
    },
    transport::Transport,
};
use http::uri::PathAndQuery;
use prost::Message as _;
use tokio::{sync::oneshot, time::timeout};
use tonic::{
    Request, Response, Status,
    codec::{BufferSettings, Codec},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Calls of one kind under way at once; what arrives meanwhile shares the next one.
const CALLS_MAX: usize = 32;
/// Payload of one shared call, in bytes; a single larger entry travels alone.
const CALL_BYTES_MAX: usize = 2 << 20;
/// Entries of one shared call: the store carries out all of them in one turn.
const CALL_ENTRIES_MAX: usize = 512;
/// Payload waiting or under way, in bytes; more is refused as `Busy`.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Largest answer of a store, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// What gRPC puts before a message, in bytes.
const FRAME_HEADER_BYTES: usize = 5;
/// Pause before a store that does not lead is asked again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// A generated client over whatever leads to the store.
pub(crate) type Client = StoreClient<Transport>;

/// The stores behind this proxy.
#[derive(Clone)]
pub(crate) struct Stores {
    client: Client,
    patience: Duration,
    appends: Arc<Lane<Transport, Batch, BatchResult>>,
    acks: Arc<Lane<Client, AckEntry, AckResult>>,
    ends: Arc<Lane<Client, EndTransactionRequest, EndTransactionResult>>,
}

impl Stores {
    /// One store group behind `transport`, whose calls may take up to `patience`.
    pub(crate) fn new(transport: Transport, patience: Duration) -> Self {
        let client = StoreClient::new(transport.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        let appends =
            Lane::new(transport, patience, |client, batches| Box::pin(append(client, AppendRequest { batches })));
        let acks = Lane::new(client.clone(), patience, |mut client, entries| {
            Box::pin(async move {
                let answer = client.ack(AckRequest { entries }).await?;
                Ok(answer.into_inner().results)
            })
        });
        let ends = Lane::new(client.clone(), patience, |mut client, ends| {
            Box::pin(async move {
                let answer = client.end_transactions(EndTransactionsRequest { ends }).await?;
                Ok(answer.into_inner().results)
            })
        });
        Self { client, patience, appends: Arc::new(appends), acks: Arc::new(acks), ends: Arc::new(ends) }
    }

    /// Stores a batch, in one call with those of other callers.
    ///
    /// Errors: `Busy` before anything was sent; `UnknownOutcome` when the answer was lost.
    /// Cancel: safe; a batch already handed over may still be stored.
    pub(crate) async fn append(&self, batch: Batch) -> Result<BatchResult, Error> {
        let bytes = batch.messages.iter().map(message_bytes).sum();
        let results = self.appends.submit(vec![batch], bytes).await?;
        results.into_iter().next().ok_or_else(|| Error::new(Reason::UnknownOutcome, "the store gave no result"))
    }

    /// Settles leases, in one call with those of other callers; results as with `append`.
    pub(crate) async fn ack(&self, entries: Vec<AckEntry>) -> Result<Vec<AckResult>, Error> {
        let bytes = entries.iter().map(|e| e.group.len() + e.topic.len() + e.handle.len()).sum();
        self.acks.submit(entries, bytes).await
    }

    /// Decides a transaction, in one call with those of other callers; errors as with `append`.
    pub(crate) async fn end_transaction(&self, end: EndTransactionRequest) -> Result<(), Error> {
        let bytes = end.topic.len() + end.ticket.len() + end.message_id.len();
        let results = self.ends.submit(vec![end], bytes).await?;
        results.into_iter().find_map(|result| result.error).map_or(Ok(()), Err)
    }

    /// Takes messages. Dropping the future tells the store that nobody waits any more.
    pub(crate) async fn pop(&self, request: PopRequest) -> Result<PopResponse, Error> {
        let patience = self.patience + Duration::from_millis(request.wait_ms);
        let mut client = self.client.clone();
        within(patience, client.pop(request)).await
    }

    /// Reads without leases; waits as `pop` does.
    pub(crate) async fn read(&self, request: ReadRequest) -> Result<ReadResponse, Error> {
        let patience = self.patience + Duration::from_millis(request.wait_ms);
        let mut client = self.client.clone();
        within(patience, client.read(request)).await
    }

    /// Makes any other call; asks once more when the store did not lead.
    pub(crate) async fn call<R, F>(&self, make: impl Fn(Client) -> F) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        match within(self.patience, make(self.client.clone())).await {
            Err(error) if error.reason() == Reason::NotLeader => {
                tokio::time::sleep(LEADER_PAUSE).await;
                within(self.patience, make(self.client.clone())).await
            }
            answer => answer,
        }
    }
}

async fn within<R>(patience: Duration, call: impl Future<Output = Result<Response<R>, Status>>) -> Result<R, Error> {
    match timeout(patience, call).await {
        Ok(answer) => answer.map(Response::into_inner).map_err(|status| Error::from_status(&status)),
        Err(_) => Err(late(patience)),
    }
}

fn late(patience: Duration) -> Error {
    let message = format!("the store gave no answer within {} ms; it may have done the work", patience.as_millis());
    Error::new(Reason::UnknownOutcome, message)
}

/// Makes the generated call with a buffer of the right size: one that grows as it is filled would
/// copy every body again, and hand it on in pieces that the other side has to join.
async fn append(transport: Transport, request: AppendRequest) -> Result<Vec<BatchResult>, Status> {
    let mut grpc = tonic::client::Grpc::new(transport);
    grpc.ready().await?;
    let path = PathAndQuery::from_static("/centaur.store.v1.Store/Append");
    let codec = AppendCodec { bytes: request.encoded_len() };
    let answer: Response<AppendResponse> = grpc.unary(Request::new(request), path, codec).await?;
    Ok(answer.into_inner().results)
}

/// The generated codec of an append whose encoded size is known.
struct AppendCodec {
    bytes: usize,
}

impl Codec for AppendCodec {
    type Encode = AppendRequest;
    type Decode = AppendResponse;
    type Encoder = ProstEncoder<AppendRequest>;
    type Decoder = ProstDecoder<AppendResponse>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(self.bytes + FRAME_HEADER_BYTES, usize::MAX))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

fn message_bytes(message: &NewMessage) -> usize {
    message.head.len() + message.properties.len() + message.body.len()
}

type Answer<R> = Pin<Box<dyn Future<Output = Result<Vec<R>, Status>> + Send>>;
type Call<C, E, R> = fn(C, Vec<E>) -> Answer<R>;

/// Entries of many callers on their way into few calls.
///
/// No timer: the first to arrive starts a task that lets everything else that is ready run once,
/// then takes all that is waiting. Under load the calls under way make the batches.
struct Lane<C, E, R> {
    client: C,
    patience: Duration,
    call: Call<C, E, R>,
    state: Mutex<Waiting<E, R>>,
}

struct Waiting<E, R> {
    queue: VecDeque<Waiter<E, R>>,
    /// Waiting and under way.
    held_bytes: usize,
    /// Tasks alive.
    tasks: usize,
    /// One of the tasks is about to take what is waiting.
    gathering: bool,
}

struct Waiter<E, R> {
    entries: Vec<E>,
    bytes: usize,
    reply: oneshot::Sender<Result<Vec<R>, Error>>,
}

impl<C: Clone + Send + Sync + 'static, E: Send + 'static, R: Send + 'static> Lane<C, E, R> {
    fn new(client: C, patience: Duration, call: Call<C, E, R>) -> Self {
        let state = Waiting { queue: VecDeque::new(), held_bytes: 0, tasks: 0, gathering: false };
        Self { client, patience, call, state: Mutex::new(state) }
    }

    async fn submit(self: &Arc<Self>, entries: Vec<E>, bytes: usize) -> Result<Vec<R>, Error> {
        let (reply, answer) = oneshot::channel();
        let starts = self.enqueue(Waiter { entries, bytes, reply })?;
        if starts {
            tokio::spawn(self.clone().work());
        }
        let lost = |_| Err(Error::new(Reason::UnknownOutcome, "the proxy stopped before the store answered"));
        answer.await.unwrap_or_else(lost)
    }

    /// Whether the caller has to start a task.
    fn enqueue(&self, waiter: Waiter<E, R>) -> Result<bool, Error> {
        let mut state = self.lock();
        if state.held_bytes > 0 && state.held_bytes + waiter.bytes > HELD_BYTES_MAX {
            let message = format!("{} bytes wait for the store, {HELD_BYTES_MAX} at most; slow down", state.held_bytes);
            return Err(Error::new(Reason::Busy, message));
        }
        state.held_bytes += waiter.bytes;
        state.queue.push_back(waiter);
        let starts = !state.gathering && state.tasks < CALLS_MAX;
        if starts {
            state.gathering = true;
            state.tasks += 1;
        }
        Ok(starts)
    }

    async fn work(self: Arc<Self>) {
        loop {
            tokio::task::yield_now().await;
            let mut taken = self.take();
            let bytes = taken.iter().map(|w| w.bytes).sum::<usize>();
            // Whoever went away before the call was made is not served.
            taken.retain(|w| !w.reply.is_closed());
            if !taken.is_empty() {
                self.serve(taken).await;
            }
            if !self.goes_on(bytes) {
                return;
            }
        }
    }

    fn take(&self) -> Vec<Waiter<E, R>> {
        let mut state = self.lock();
        state.gathering = false;
        let (mut bytes, mut entries) = (0, 0);
        let mut fits = |waiter: &Waiter<E, R>| {
            bytes += waiter.bytes;
            entries += waiter.entries.len();
            bytes <= CALL_BYTES_MAX && entries <= CALL_ENTRIES_MAX
        };
        let count = state.queue.iter().map_while(|w| fits(w).then_some(())).count().max(1);
        let count = count.min(state.queue.len());
        state.queue.drain(..count).collect()
    }

    async fn serve(&self, mut taken: Vec<Waiter<E, R>>) {
        let counts: Vec<usize> = taken.iter().map(|w| w.entries.len()).collect();
        let entries = taken.iter_mut().flat_map(|w| w.entries.drain(..)).collect();
        let answer = match timeout(self.patience, (self.call)(self.client.clone(), entries)).await {
            Ok(answer) => answer.map_err(|status| Error::from_status(&status)),
            Err(_) => Err(late(self.patience)),
        };
        // A caller that went away meanwhile does not take its result; that is its own affair.
        match answer {
            Ok(results) => {
                let mut results = results.into_iter();
                for (waiter, count) in taken.into_iter().zip(counts) {
                    let own: Vec<R> = results.by_ref().take(count).collect();
                    let _ = waiter.reply.send(complete(own, count));
                }
            }
            Err(error) => {
                for waiter in taken {
                    let _ = waiter.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Whether this task takes another round; it is counted out when not.
    fn goes_on(&self, served_bytes: usize) -> bool {
        let mut state = self.lock();
        state.held_bytes -= served_bytes;
        if state.queue.is_empty() || state.gathering {
            state.tasks -= 1;
            return false;
        }
        state.gathering = true;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<E, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn complete<R>(results: Vec<R>, expected: usize) -> Result<Vec<R>, Error> {
    if results.len() == expected {
        return Ok(results);
    }
    let message = format!("the store gave {} results for {expected} entries", results.len());
    Err(Error::new(Reason::UnknownOutcome, message))
}
