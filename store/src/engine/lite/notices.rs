//! What clients have to be told, until every proxy had time to ask for it.

use std::collections::VecDeque;

use centaur_apis::{
    hash64,
    store::{ListNoticesRequest, ListNoticesResponse, Notice},
};

use super::super::Machine;

/// How long a notice is kept; proxies ask every second.
const KEPT_MS: u64 = 60_000;
/// Notices kept; the oldest go first.
const NOTICES_MAX: usize = 100_000;
/// Notices of one answer.
const LISTED_MAX: usize = 10_000;
/// Numbers between two milliseconds of a start, so that none is given again by the next one.
const NUMBERS_PER_MS: u64 = 1024;

/// Notices of the last minute.
pub struct Notices {
    /// With their numbers and the store time they came at, oldest first.
    recent: VecDeque<(u64, u64, Notice)>,
    last: u64,
}

impl Notices {
    pub fn new(now_ms: u64) -> Self {
        Self { recent: VecDeque::new(), last: now_ms * NUMBERS_PER_MS }
    }

    pub fn add(&mut self, now_ms: u64, notice: Notice) {
        self.last += 1;
        self.recent.push_back((self.last, now_ms, notice));
        if self.recent.len() > NOTICES_MAX {
            self.recent.pop_front();
        }
    }

    pub fn forget_old(&mut self, now_ms: u64) {
        while self.recent.front().is_some_and(|(_, at_ms, _)| at_ms + KEPT_MS < now_ms) {
            self.recent.pop_front();
        }
    }

    fn after(&self, number: u64) -> ListNoticesResponse {
        // A number beyond the last one was given by a store that was started with a later clock.
        let number = if number > self.last { 0 } else { number };
        let first = self.recent.partition_point(|(known, _, _)| *known <= number);
        let new = self.recent.range(first..).take(LISTED_MAX);
        let last =
            if self.recent.len() - first > LISTED_MAX { self.recent[first + LISTED_MAX - 1].0 } else { self.last };
        ListNoticesResponse { notices: new.map(|(_, _, notice)| notice.clone()).collect(), last }
    }
}

impl Machine {
    /// Notices after a number; none older than about a minute, and none that is not true any more:
    /// who has the lite topic again would give it up.
    pub fn list_notices(&self, request: &ListNoticesRequest) -> ListNoticesResponse {
        let mut listed = self.lite.notices.after(request.after);
        listed.notices.retain(|notice| !self.has_again(notice));
        listed
    }

    /// Whether a client consumes what it is told to have lost.
    fn has_again(&self, notice: &Notice) -> bool {
        let group = self.state.groups.named(&notice.group).map(|group| group.id);
        let Some(reader) = group.and_then(|group| self.state.lite_reader(group)) else { return false };
        let queue = self.state.lite.names(reader.topic).and_then(|names| names.queue(&notice.lite_topic));
        let clients = self.state.lite.clients(reader.group);
        let client = hash64(notice.client.as_bytes());
        queue.zip(clients).is_some_and(|(queue, clients)| clients.is_subscribed(client, queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(lite_topic: &str) -> Notice {
        Notice { lite_topic: lite_topic.to_owned(), ..Default::default() }
    }

    #[test]
    fn each_notice_is_listed_once_for_a_minute() {
        let mut notices = Notices::new(1000);
        assert_eq!(notices.after(0), ListNoticesResponse { notices: vec![], last: 1_024_000 });
        notices.add(1000, notice("a"));
        notices.add(2000, notice("b"));
        let all = notices.after(0);
        assert_eq!(all.notices, [notice("a"), notice("b")]);
        assert_eq!(notices.after(all.last).notices, []);
        assert_eq!(notices.after(all.last - 1).notices, [notice("b")]);
        assert_eq!(notices.after(all.last + 1).notices.len(), 2, "the number is of another life of the store");
        notices.forget_old(61_001);
        assert_eq!(notices.after(0).notices, [notice("b")]);
    }
}
