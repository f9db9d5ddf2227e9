//! Crashes of the real binary under load, seen by its clients: no message that was answered with OK
//! is lost, none that was acked comes back, and no attempt is forgotten. And a full disk.
//!
//! `CENTAUR_CRASH_ROUNDS` sets how often the server is killed.

mod harness;

mod crash {
    pub mod client;
    pub mod history;
}

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use centaur_apis::v2::Code;
use crash::{
    client::{Client, TOPIC},
    history::{History, body},
};
use harness::{Options, PATIENCE, Server, refused, text};

const GROUP: &str = "workers";
const PRODUCERS: usize = 4;
const CONSUMERS: usize = 3;
/// Producers wait while more messages than this do.
const BACKLOG_MAX: usize = 2_000;
/// What did not come for so long, three leases, does not come.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What the clients of one test share.
#[derive(Clone)]
struct Load {
    history: Arc<Mutex<History>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().expect("no client has failed"))
    }

    fn runs(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Sends single messages and batches in turn, one after the other.
    async fn produce(self, mut client: Client, name: String) {
        for n in 0.. {
            if !self.runs() {
                return;
            }
            if self.history(|history| history.backlog()) > BACKLOG_MAX {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let ids = (0..1 + n % 3).map(|part| format!("{name}-{n}-{part}"));
            let messages: Vec<(String, Bytes)> = ids.map(|id| (id.clone(), body(&id))).collect();
            self.history(|history| history.sending(&messages));
            match client.send(&messages).await {
                Some(Code::Ok) => self.history(|history| history.stored(&messages)),
                Some(code) => panic!("a send was refused with {code:?}"),
                None => tokio::time::sleep(Duration::from_millis(2)).await, // nobody is there
            }
        }
    }

    /// Receives, and acks all but every seventh first delivery, until told to stop.
    async fn consume(self, mut client: Client, is_done: impl Fn(&Self) -> bool) {
        for n in 0.. {
            if is_done(&self) {
                return;
            }
            let asked = Instant::now();
            let mut received = client.receive(GROUP, 16).await;
            // All of them before the first ack: whatever came, came.
            self.history(|history| received.iter().for_each(|message| history.delivered(message, asked)));
            let mut place = n;
            received.retain(|message| {
                place += 1;
                message.attempt > 1 || place % 7 != 0
            });
            if received.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            self.history(|history| received.iter().for_each(|message| history.acking(&message.id)));
            let outcomes = client.ack(GROUP, &received).await;
            let acked = received.iter().zip(outcomes).filter(|(_, outcome)| *outcome == Some(Code::Ok));
            self.history(|history| acked.for_each(|(message, _)| history.acked(&message.id)));
        }
    }
}

fn rounds() -> u64 {
    env::var("CENTAUR_CRASH_ROUNDS").map_or(5, |text| text.parse().expect("CENTAUR_CRASH_ROUNDS is a number"))
}

/// A moment that nobody chose, up to a second and a half from now.
fn some_time() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
    Duration::from_millis(50 + u64::from(nanos / 1000 % 1450))
}

async fn kill_at_random_moments(flush: &str) {
    let options = Options::default().set("store.flush", flush).set("store.segment_size", "1MiB");
    let mut server = options.start();
    server.run(&["topic", "create", TOPIC, "--queues", "4"]);
    let load = Load { history: Arc::default(), stop: Arc::default() };
    let address = server.clients(); // the same after every restart
    let client = |name: &str| Client::new(address, name);
    let mut producers = Vec::new();
    for n in 0..PRODUCERS {
        let name = format!("p{n}");
        producers.push(tokio::spawn(load.clone().produce(client(&name), name)));
    }
    let mut consumers = Vec::new();
    for n in 0..CONSUMERS {
        let load = load.clone();
        consumers.push(tokio::spawn(load.consume(client(&format!("c{n}")), |load| !load.runs())));
    }
    for round in 1..=rounds() {
        tokio::time::sleep(some_time()).await;
        server.kill();
        server.restart();
        let gone = producers.iter().chain(&consumers).any(tokio::task::JoinHandle::is_finished);
        assert!(!gone, "a client found a contradiction before the end of round {round}");
    }
    load.stop.store(true, Ordering::Relaxed);
    for client in producers.into_iter().chain(consumers) {
        client.await.expect("no contradiction");
    }
    let is_done = |load: &Load| load.history(|history| history.open().is_empty() || history.silence() > SILENCE_MAX);
    load.clone().consume(client("last"), is_done).await;
    load.history(|history| {
        let open = history.open();
        assert!(open.is_empty(), "{} messages are lost, such as {:?}", open.len(), &open[..open.len().min(10)]);
        let (stored, acked, again) = history.counts();
        assert!(stored > 100 && acked > 100, "{stored} stored and {acked} acked messages are no load");
        println!("flush {flush}: {stored} stored, {acked} acked, {again} delivered again");
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_its_word_with_flush_sync() {
    kill_at_random_moments("sync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_its_word_with_flush_async() {
    kill_at_random_moments("async").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_changes_nothing() {
    let server = Server::start();
    server.run(&["topic", "create", TOPIC]);
    let mut client = Client::new(server.clients(), "one");
    let message = [("m1".to_owned(), body("m1"))];
    assert_eq!(client.send(&message).await, Some(Code::Ok));
    let log = || {
        fs::read_dir(server.data_dir().join("log")).expect("a log").map(|file| {
            let path = file.expect("a file").path();
            let bytes = fs::read(&path).expect("readable");
            (path, bytes)
        })
    };
    let before: Vec<_> = log().collect();
    let output = refused(&server.data_dir(), &[]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(before == log().collect::<Vec<_>>(), "the log is as it was");
    let received = client.receive(GROUP, 1).await;
    assert_eq!(received.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["m1"]);
}

/// A small file system over a directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one. Errors: why it cannot be had.
    fn mount(dir: PathBuf, mib: u32) -> Result<Self, String> {
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(&dir).output();
        let output = output.map_err(|error| format!("mount: {error}"))?;
        if output.status.success() { Ok(Self(dir)) } else { Err(text(&output.stderr)) }
    }

    fn fill(&self, name: &str, mib: usize) {
        // It may be full before the end; that is the purpose.
        let _ = fs::write(self.0.join(name), vec![1; mib << 20]);
    }

    fn free(&self, name: &str) {
        fs::remove_file(self.0.join(name)).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may still have files open there; they go with it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Receives and acks at least so many messages; says how many.
async fn settle(client: &mut Client, count: usize) -> usize {
    let mut acked = 0;
    while acked < count {
        let received = client.receive(GROUP, 10).await;
        assert!(!received.is_empty(), "{acked} of {count} messages came");
        let outcomes = client.ack(GROUP, &received).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Some(Code::Ok)), "{outcomes:?}");
        acked += received.len();
    }
    acked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_messages_and_settles_what_is_held() {
    let mut server = Options::default().set("store.segment_size", "1MiB").start();
    server.stop();
    let disk = match SmallDisk::mount(server.data_dir(), 64) {
        Ok(disk) => disk,
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root(), "root cannot mount a small file system: {why}");
            eprintln!("NOT RUN: only root can mount a small file system to fill ({})", why.trim());
            return;
        }
    };
    server.restart();
    server.run(&["topic", "create", TOPIC]);
    disk.fill("ballast", 24);
    let mut client = Client::new(server.clients(), "one");
    let large = Bytes::from(vec![7; 200_000]);
    let mut stored = 0;
    let code = loop {
        match client.send(&[(format!("m{stored}"), large.clone())]).await {
            Some(Code::Ok) => stored += 1,
            Some(code) => break code,
            None => panic!("no answer from the {stored}th send"),
        }
        assert!(stored < 1000, "the disk does not get full");
    };
    assert_eq!(code, Code::TooManyRequests, "after {stored} messages");
    assert!(stored > 20, "only {stored} messages");

    disk.fill("rest", 64);
    let mut acked = settle(&mut client, 20).await;
    assert_eq!(server.get("/healthz").0, 200, "the process is alive");
    server.kill();
    server.restart();
    acked += settle(&mut client, 20).await;

    disk.free("rest");
    disk.free("ballast");
    let deadline = Instant::now() + PATIENCE;
    while client.send(&[("after".to_owned(), large.clone())]).await != Some(Code::Ok) {
        assert!(Instant::now() < deadline, "messages are not accepted again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    settle(&mut client, stored + 1 - acked).await;
    assert_eq!(server.stop().code(), Some(0));
}
