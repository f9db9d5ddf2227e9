//! Random consumers of an ordered group, with restarts and crashes in between, against a list of
//! what order within message groups allows.
//!
//! `CENTAUR_FIFO_RUNS` sets how many sequences are tried, `CENTAUR_FIFO_SEED` with which seed they
//! begin, `CENTAUR_FIFO_STEPS` how long each is. A failure tells the seed.

mod harness;
mod ordered;

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use centaur_apis::{
    log::TopicType,
    store::{Delivery, EndSessionRequest, PopRequest, PutGroupRequest, Reason, TouchRequest},
};
use centaur_store::log::faulty::Random;
use harness::setting;
use ordered::{Fixture, numbers, request};

const QUEUES: u64 = 2;
const MESSAGE_GROUPS: [&str; 4] = ["", "a", "b", "c"];
const CLIENTS: [&str; 3] = ["one", "two", "three"];
const LARGE_BYTES: usize = 30 << 10;

/// One message as the list knows it.
#[derive(Clone, Debug, Default)]
struct Message {
    is_finished: bool,
    deliveries: u32,
    visible_at_ms: u64,
    handle: String,
    client: &'static str,
    session_bound: bool,
}

/// Who asks, and what was answered.
#[derive(Clone, Debug)]
struct Attempt {
    ask: PopRequest,
    client: &'static str,
    handles: BTreeSet<String>,
}

/// A message group of one queue.
type Key = (u64, &'static str);

struct Checker {
    seed: u64,
    random: Random,
    store: Fixture,
    now_ms: u64,
    attempts_max: u32,
    is_patient: bool,
    keys: BTreeMap<Key, Vec<u64>>,
    messages: Vec<Message>,
    dead: BTreeSet<u64>,
    attempts: Vec<Attempt>,
    stale: Vec<Delivery>,
}

impl Drop for Checker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to see it again: CENTAUR_FIFO_SEED={} CENTAUR_FIFO_RUNS=1", self.seed);
        }
    }
}

impl Checker {
    async fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut store = Fixture::open(TopicType::Fifo, 2).await;
        let attempts_max = 1 + u32::try_from(random.below(4)).expect("small");
        let is_patient = random.below(3) == 0;
        let group = PutGroupRequest {
            fifo: Some(true),
            max_attempts: Some(attempts_max),
            blocks_when_exhausted: Some(is_patient),
            ..Default::default()
        };
        store.put_group(group).await.expect("made");
        let now_ms = store.look_up().await;
        let mut checker = Self {
            seed,
            random,
            store,
            now_ms,
            attempts_max,
            is_patient,
            keys: BTreeMap::new(),
            messages: Vec::new(),
            dead: BTreeSet::new(),
            attempts: Vec::new(),
            stale: Vec::new(),
        };
        // The group's place is the beginning, whatever comes before its next poll.
        assert!(checker.store.pop(1).await.is_empty());
        checker
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..25 => self.send().await,
            25..50 => self.pop().await,
            50..54 => self.pop_again().await,
            54..58 => self.pop_and_leave().await,
            58..76 => self.settle().await,
            76..86 => self.change().await,
            86..89 => self.settle_stale().await,
            89..91 => self.end_session().await,
            91..98 => {
                let ms = [1, 1_000, 10_000, 40_000][self.below(4)];
                self.pass(ms).await;
            }
            _ => {
                let crash = self.random.below(2) == 0;
                self.store.reopen(crash);
                self.pass(0).await;
            }
        }
        self.bury();
        let backlog = self.store.backlog().await;
        let unfinished = self.messages.iter().filter(|message| !message.is_finished).count() as u64;
        assert_eq!(backlog.ready + backlog.in_flight + backlog.waiting, unfinished, "{backlog:?}");
        assert!(backlog.blocked <= backlog.ready);
    }

    async fn send(&mut self) {
        for _ in 0..=self.random.below(4) {
            let key = (self.random.below(QUEUES), MESSAGE_GROUPS[self.below(4)]);
            let bytes = if self.random.below(4) == 0 { LARGE_BYTES } else { 10 };
            let number = self.messages.len() as u64;
            self.store.send_bytes(u32::try_from(key.0).expect("small"), key.1, number, bytes).await;
            self.messages.push(Message::default());
            self.keys.entry(key).or_default().push(number);
        }
    }

    fn ask(&mut self) -> (PopRequest, &'static str) {
        let client = CLIENTS[self.below(3)];
        let ask = PopRequest {
            client: client.to_owned(),
            messages_max: 1 + u32::try_from(self.random.below(12)).expect("small"),
            invisible_ms: [10_000, 30_000, 60_000][self.below(3)],
            session_bound: self.random.below(4) == 0,
            attempt: format!("{}", self.random.next()),
            ..request()
        };
        (ask, client)
    }

    async fn pop(&mut self) {
        let (ask, client) = self.ask();
        let answer = self.store.pop_as(ask.clone()).await;
        self.take_over(ask, client, answer);
    }

    /// Judges an answer and takes it over.
    fn take_over(&mut self, ask: PopRequest, client: &'static str, answer: Vec<Delivery>) {
        self.bury();
        let available: usize = self.keys.keys().map(|key| self.available(key).len()).sum();
        let given = numbers(&answer);
        assert_eq!(given.len(), available.min(ask.messages_max as usize), "all that is free is given: {given:?}");
        for key in self.keys.keys() {
            let of_key: Vec<u64> = given.iter().copied().filter(|number| self.keys[key].contains(number)).collect();
            let expected = self.available(key);
            assert!(expected.starts_with(&of_key), "{key:?} has {expected:?} free, and gave {of_key:?}");
        }
        for (delivery, number) in answer.iter().zip(given) {
            let message = self.message(number);
            message.deliveries += 1;
            message.visible_at_ms = delivery.visible_at_ms;
            message.handle.clone_from(&delivery.handle);
            message.client = client;
            message.session_bound = ask.session_bound;
            assert_eq!(delivery.attempt, message.deliveries, "attempts of {number}");
            assert!(self.is_patient || delivery.attempt <= self.attempts_max);
        }
        let handles: Vec<String> = answer.iter().map(|delivery| delivery.handle.clone()).collect();
        match self.attempts.iter_mut().find(|attempt| attempt.ask.attempt == ask.attempt) {
            Some(attempt) => attempt.handles.extend(handles),
            None => self.attempts.push(Attempt { ask, client, handles: handles.into_iter().collect() }),
        }
        self.stale.extend(answer);
    }

    /// What of a message group may be given now, in order.
    fn available(&self, key: &Key) -> Vec<u64> {
        let unfinished = self.keys[key].iter().copied().filter(|number| !self.known(*number).is_finished);
        let unfinished: Vec<u64> = unfinished.collect();
        if unfinished.iter().any(|number| self.known(*number).visible_at_ms > self.now_ms) {
            return Vec::new();
        }
        let may_go = |number: &u64| self.is_patient || self.known(*number).deliveries < self.attempts_max;
        unfinished.into_iter().take_while(may_go).collect()
    }

    /// The first messages of message groups that are free, and had all their deliveries, are dead.
    fn bury(&mut self) {
        if self.is_patient {
            return;
        }
        for numbers in self.keys.values() {
            let is_held = |number: &u64| {
                let message = &self.messages[place(*number)];
                !message.is_finished && message.visible_at_ms > self.now_ms
            };
            if numbers.iter().any(is_held) {
                continue;
            }
            for &number in numbers {
                let message = &mut self.messages[place(number)];
                if message.is_finished {
                    continue;
                }
                if message.deliveries < self.attempts_max {
                    break;
                }
                message.is_finished = true;
                self.dead.insert(number);
            }
        }
    }

    /// A poll is asked again, as if its answer was lost.
    async fn pop_again(&mut self) {
        if self.attempts.is_empty() {
            return;
        }
        let at = self.below(self.attempts.len());
        let attempt = self.attempts[at].clone();
        let runs = |message: &&Message| {
            !message.is_finished && message.visible_at_ms > self.now_ms && attempt.handles.contains(&message.handle)
        };
        let running: BTreeSet<String> = self.messages.iter().filter(runs).map(|m| m.handle.clone()).collect();
        let answer = self.store.pop_as(attempt.ask.clone()).await;
        if running.is_empty() {
            self.take_over(attempt.ask, attempt.client, answer);
        } else {
            let again: BTreeSet<String> = answer.iter().map(|delivery| delivery.handle.clone()).collect();
            assert_eq!(again, running, "the same attempt gets the same messages");
            let order = numbers(&answer);
            let in_order = |numbers: &Vec<u64>| order.iter().filter(|n| numbers.contains(n)).is_sorted();
            assert!(self.keys.values().all(in_order), "{order:?}");
        }
    }

    /// A client goes away before its poll is answered.
    async fn pop_and_leave(&mut self) {
        let (ask, client) = self.ask();
        let mut caller = self.store.client.clone();
        if let Ok(answer) = tokio::time::timeout(Duration::ZERO, caller.pop(ask.clone())).await {
            self.take_over(ask, client, answer.expect("answered").into_inner().deliveries);
        }
        self.store.look_up().await;
    }

    /// Somebody finishes some of what it holds, in any order.
    async fn settle(&mut self) {
        for _ in 0..=self.random.below(8) {
            let Some(number) = self.held() else { return };
            let handle = self.known(number).handle.clone();
            harness::ack(&mut self.store.client, ordered::GROUP, ordered::TOPIC, &handle).await.expect("held");
            self.message(number).is_finished = true;
        }
    }

    async fn change(&mut self) {
        let Some(number) = self.held() else { return };
        let handle = self.known(number).handle.clone();
        let (ms, uncounted) = ([0, 0, 5_000, 50_000][self.below(4)], self.random.below(3) == 0);
        let handle = self.store.change(&handle, ms, uncounted).await.expect("held");
        let visible_at_ms = self.now_ms + ms;
        let message = self.message(number);
        message.visible_at_ms = visible_at_ms;
        message.handle = handle;
        message.session_bound = false;
        message.deliveries = message.deliveries.saturating_sub(u32::from(uncounted));
        self.store.look_up().await;
    }

    /// A handle of long ago settles nothing that others have.
    async fn settle_stale(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let at = self.below(self.stale.len());
        let delivery = self.stale.swap_remove(at);
        let number = numbers(std::slice::from_ref(&delivery))[0];
        let (now_ms, outcome) = (self.now_ms, self.store.ack(&delivery).await);
        let message = self.message(number);
        if message.is_finished {
            assert_eq!(outcome, Ok(()));
        } else if message.handle == delivery.handle && message.visible_at_ms > now_ms {
            assert_eq!(outcome, Ok(()));
            message.is_finished = true;
        } else {
            assert_eq!(outcome, Err(Reason::InvalidHandle));
        }
    }

    async fn end_session(&mut self) {
        let client = CLIENTS[self.below(3)];
        let request = EndSessionRequest { client: client.to_owned(), ..Default::default() };
        self.store.client.end_session(request).await.expect("ended");
        let now_ms = self.now_ms;
        let its_own =
            |message: &&mut Message| !message.is_finished && message.session_bound && message.client == client;
        for message in self.messages.iter_mut().filter(its_own) {
            message.visible_at_ms = now_ms;
            message.session_bound = false;
        }
        self.store.look_up().await;
    }

    async fn pass(&mut self, ms: u64) {
        let clients = CLIENTS.map(str::to_owned).to_vec();
        self.store.client.touch(TouchRequest { clients }).await.expect("touched");
        self.now_ms = self.store.pass(ms).await;
    }

    /// A message that somebody holds.
    fn held(&mut self) -> Option<u64> {
        let is_held = |message: &Message| !message.is_finished && message.visible_at_ms > self.now_ms;
        let held: Vec<u64> = (0..).zip(&self.messages).filter(|(_, m)| is_held(m)).map(|(number, _)| number).collect();
        (!held.is_empty()).then(|| held[self.below(held.len())])
    }

    /// Finishes everything: all was delivered or is dead, once.
    async fn drain(&mut self) {
        while self.messages.iter().any(|message| !message.is_finished) {
            self.pass(61_000).await;
            for client in CLIENTS {
                let request = EndSessionRequest { client: client.to_owned(), ..Default::default() };
                self.store.client.end_session(request).await.expect("ended");
            }
            self.store.look_up().await;
            for message in &mut self.messages {
                message.visible_at_ms = 0;
            }
            self.pop().await;
            while self.held().is_some() {
                self.settle().await;
            }
        }
        self.bury();
        let dead: Vec<u64> = self.store.dead().await;
        assert_eq!(dead.len(), self.dead.len(), "dead messages are there once");
        assert_eq!(dead.into_iter().collect::<BTreeSet<_>>(), self.dead);
        assert_eq!(self.store.backlog().await, Default::default());
    }

    fn message(&mut self, number: u64) -> &mut Message {
        &mut self.messages[place(number)]
    }

    fn known(&self, number: u64) -> &Message {
        &self.messages[place(number)]
    }

    fn below(&mut self, bound: usize) -> usize {
        place(self.random.below(bound as u64))
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("tests are small")
}

#[test]
fn message_groups_stay_in_order_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = setting("CENTAUR_FIFO_SEED", 1);
    let steps = setting("CENTAUR_FIFO_STEPS", 300);
    for seed in first..first + setting("CENTAUR_FIFO_RUNS", 40) {
        runtime.block_on(async {
            let mut checker = Checker::new(seed).await;
            for _ in 0..steps {
                checker.step().await;
            }
            checker.drain().await;
        });
    }
}
