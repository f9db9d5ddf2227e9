//! The way to one open telemetry stream. What waits for its reader is bounded, in frames and in
//! bytes, of one stream and of all together: nobody waits for a reader, and a reader that takes
//! nothing loses its stream.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use centaur_apis::v2::{Resource, SubscriptionEntry, TelemetryCommand, settings::PubSub, telemetry_command::Command};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tonic::Status;

/// Frames that may wait in one stream.
const FRAMES_MAX: usize = 16;
/// Bytes that may wait in one stream; what is larger waits alone.
const BYTES_MAX: usize = 1 << 20;

/// Why a client was not told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// No stream of it is open.
    NoStream,
    /// It does not read what it was told before.
    Full,
    /// All clients together do not read what they were told.
    AllFull,
}

/// The server's end of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    frames: mpsc::Sender<Waiting>,
    shared: Arc<Shared>,
}

/// What the server says on a stream, as the client reads it.
pub(crate) struct Frames(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<mpsc::Receiver<Waiting>>,
    /// Frames read so far.
    read: AtomicU64,
    room: Arc<Semaphore>,
    room_of_all: Arc<Semaphore>,
}

/// One frame and the room it takes until it is read or dropped.
#[derive(Debug)]
struct Waiting {
    frame: Result<TelemetryCommand, Status>,
    _room: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// Opens a stream; `room_of_all` has a permit for each byte that may wait in all of them.
pub(super) fn open(room_of_all: Arc<Semaphore>) -> (Commands, Frames) {
    let (frames, waiting) = mpsc::channel(FRAMES_MAX);
    let room = Arc::new(Semaphore::new(BYTES_MAX));
    let shared = Arc::new(Shared { waiting: Mutex::new(waiting), read: AtomicU64::new(0), room, room_of_all });
    (Commands { frames, shared: shared.clone() }, Frames(shared))
}

impl Commands {
    /// Says something; what does not fit is dropped.
    pub(crate) fn send(&self, command: TelemetryCommand) -> Result<(), Unheard> {
        let bytes = weight(&command);
        let room = take(&self.shared.room, bytes.min(BYTES_MAX)).ok_or(Unheard::Full)?;
        let room_of_all = take(&self.shared.room_of_all, bytes).ok_or(Unheard::AllFull)?;
        self.put(Waiting { frame: Ok(command), _room: Some((room, room_of_all)) })
    }

    /// Says why the stream ends.
    pub(crate) fn end(&self, why: Status) {
        // Who does not read, or is gone, does not hear it.
        let _ = self.put(Waiting { frame: Err(why), _room: None });
    }

    /// Resolves when nobody is there to read any more.
    pub(crate) async fn closed(&self) {
        self.frames.closed().await;
    }

    /// How many frames were read so far; `None` when none waits.
    pub(crate) fn stuck_at(&self) -> Option<u64> {
        let is_empty = self.frames.capacity() == self.frames.max_capacity();
        (!is_empty).then(|| self.shared.read.load(Ordering::Relaxed))
    }

    /// Drops what waits, and whatever is said from now on.
    pub(crate) fn give_up(&self) {
        self.shared.close();
    }

    fn put(&self, waiting: Waiting) -> Result<(), Unheard> {
        self.frames.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unheard::Full,
            mpsc::error::TrySendError::Closed(_) => Unheard::NoStream,
        })
    }
}

impl Shared {
    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.close();
        while waiting.try_recv().is_ok() {}
    }

    fn waiting(&self) -> MutexGuard<'_, mpsc::Receiver<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Frames {
    type Item = Result<TelemetryCommand, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.waiting().poll_recv(cx);
        next.map(|waiting| {
            self.0.read.fetch_add(1, Ordering::Relaxed);
            Some(waiting?.frame)
        })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    room.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}

/// About how many bytes of memory a frame takes. Of settings that name many topics that is far more
/// than they have encoded.
fn weight(command: &TelemetryCommand) -> usize {
    let entries = match &command.command {
        Some(Command::Settings(settings)) => match &settings.pub_sub {
            Some(PubSub::Publishing(publishing)) => publishing.topics.len() * size_of::<Resource>(),
            Some(PubSub::Subscription(subscription)) => {
                subscription.subscriptions.len() * size_of::<SubscriptionEntry>()
            }
            None => 0,
        },
        _ => 0,
    };
    size_of::<Waiting>() + command.encoded_len() + entries
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{Message, VerifyMessageCommand};
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn carrying(bytes: usize) -> TelemetryCommand {
        let message = Message { body: vec![0; bytes].into(), ..Default::default() };
        let command = VerifyMessageCommand { message: Some(message), ..Default::default() };
        TelemetryCommand { status: None, command: Some(Command::VerifyMessageCommand(command)) }
    }

    fn plenty() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1 << 30))
    }

    #[test]
    fn frames_and_bytes_that_wait_have_bounds() {
        let room_of_all = plenty();
        let (commands, mut frames) = open(room_of_all.clone());
        let taken = (0..).take_while(|_| commands.send(TelemetryCommand::default()).is_ok()).count();
        assert_eq!(taken, FRAMES_MAX);
        assert!(frames.next().now_or_never().is_some());
        assert_eq!(commands.send(TelemetryCommand::default()), Ok(()), "there is room again");
        drop(frames);
        assert_eq!(room_of_all.available_permits(), 1 << 30, "what nobody reads takes no room");
        assert_eq!(commands.send(TelemetryCommand::default()), Err(Unheard::NoStream));

        let (commands, mut frames) = open(room_of_all);
        let half = || carrying(BYTES_MAX / 2);
        assert_eq!((commands.send(half()), commands.send(half())), (Ok(()), Err(Unheard::Full)));
        assert!(frames.next().now_or_never().is_some());
        assert_eq!(commands.send(carrying(2 * BYTES_MAX)), Ok(()), "a large one waits alone");
        assert_eq!(commands.send(TelemetryCommand::default()), Err(Unheard::Full));
    }

    #[test]
    fn all_streams_together_have_a_bound() {
        let room_of_all = Arc::new(Semaphore::new(BYTES_MAX));
        let (commands, frames) = open(room_of_all.clone());
        let (others, _others_frames) = open(room_of_all);
        let most = || carrying(BYTES_MAX / 2);
        assert_eq!((commands.send(most()), others.send(most())), (Ok(()), Err(Unheard::AllFull)));
        drop(frames);
        assert_eq!(others.send(most()), Ok(()));
    }

    #[test]
    fn what_nobody_reads_is_given_up() {
        let room_of_all = plenty();
        let (commands, mut frames) = open(room_of_all.clone());
        assert_eq!(commands.stuck_at(), None);
        commands.send(carrying(100)).expect("room");
        assert_eq!(commands.stuck_at(), Some(0));
        assert!(frames.next().now_or_never().is_some());
        assert_eq!(commands.stuck_at(), None);
        commands.send(carrying(100)).expect("room");
        assert_eq!(commands.stuck_at(), Some(1));
        commands.give_up();
        assert_eq!(room_of_all.available_permits(), 1 << 30);
        assert!(frames.next().now_or_never().expect("at once").is_none(), "the stream ends");
    }
}
