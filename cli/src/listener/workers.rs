//! One runtime per core, each on a thread of its own. A connection lives on one of them from its
//! first byte to its last, so that its tasks never move and wake each other without a system call:
//! docs/decisions/0004-a-runtime-per-core.md.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Tasks left when the workers end get this long.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The runtimes that serve connections.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    handles: Arc<[Handle]>,
    next: Arc<AtomicUsize>,
    end: CancellationToken,
}

impl Workers {
    /// Starts `count` of them, at least one.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let handles = (0..count.max(1)).map(|n| start_one(n, end.clone())).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { handles: handles.into(), next: Arc::default(), end })
    }

    /// The runtime that called, as the only worker.
    pub(crate) fn here() -> Self {
        Self { handles: [Handle::current()].into(), next: Arc::default(), end: CancellationToken::new() }
    }

    /// The worker whose turn it is.
    pub(crate) fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[turn % self.handles.len()]
    }

    /// Ends them; what still runs on them is dropped.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }
}

fn start_one(number: usize, end: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || {
        runtime.block_on(end.cancelled());
        runtime.shutdown_timeout(END_TIMEOUT);
    };
    thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
    Ok(handle)
}
