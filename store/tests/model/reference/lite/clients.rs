//! What clients of lite groups say they consume, and what they are told.

use std::collections::BTreeSet;

use centaur_apis::store::{Notice, Reason, lite_offset::At, sync_lite_request::Action};

use super::{LITE, Listed, Rules, Who};
use crate::reference::{Group, Queue, Reader, Reference, Target};

/// A client that has not said what it consumes for longer consumes nothing.
const SILENT_MS: u64 = 180_000;
/// How long notices are kept.
const NOTICE_MS: u64 = 60_000;
/// A list may be longer than the quota by this much.
const QUOTA_SLACK: usize = 300;

#[derive(Debug, Default)]
pub(super) struct Client {
    pub names: BTreeSet<String>,
    /// Taken by another client: only asking by name brings them back.
    barred: BTreeSet<String>,
}

/// What a client said last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    at_ms: u64,
    version: u64,
    /// Lite topics that went: no complete list brings them back.
    gone: BTreeSet<String>,
}

/// What a client says it consumes.
#[derive(Clone, Debug)]
pub struct Statement {
    pub group: String,
    pub client: String,
    pub said: Said,
    pub names: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub enum Said {
    Add(Option<At>),
    Remove,
    /// This is all, with its version; 0: none.
    All(u64),
    Nothing,
}

/// What is to change for a client.
#[derive(Default)]
struct Change {
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    unbarred: BTreeSet<String>,
}

impl Said {
    pub fn action(self) -> Action {
        match self {
            Self::Add(_) => Action::PartialAdd,
            Self::Remove => Action::PartialRemove,
            Self::All(_) => Action::CompleteAdd,
            Self::Nothing => Action::CompleteRemove,
        }
    }
}

impl Statement {
    fn who(&self) -> Who {
        (self.group.clone(), self.client.clone())
    }

    fn reader(&self) -> Reader {
        (self.group.clone(), LITE.to_owned())
    }
}

impl Reference {
    /// Why what a client says is refused, its group being there.
    pub fn refuses(&self, statement: &Statement) -> Option<Reason> {
        let Some(rules) = self.groups[&statement.group].lite else { return Some(Reason::IllegalGroup) };
        let names: BTreeSet<&String> = statement.names.iter().collect();
        let adds = matches!(statement.said, Said::Add(_) | Said::All(_));
        if adds && names.iter().any(|name| !is_legal(name)) {
            return Some(Reason::IllegalLiteTopic);
        }
        let quota = rules.client_quota as usize;
        let known = self.names_of(&statement.who());
        let added = names.iter().filter(|name| !known.contains(**name)).count();
        let is_exact = matches!(statement.said, Said::Add(_)) && !rules.wildcard && added > 0;
        let is_too_many = names.len() > quota + QUOTA_SLACK || (is_exact && known.len() + added > quota);
        is_too_many.then_some(Reason::LiteSubscriptionQuota)
    }

    /// A client says what it consumes, and it is not refused.
    pub fn sync(&mut self, statement: &Statement, listed: &Listed) {
        let Some(rules) = self.groups[&statement.group].lite else { panic!("a lite group") };
        if matches!(statement.said, Said::Nothing) {
            self.drop_client(&statement.who());
            self.bury_due();
            return;
        }
        let now_ms = self.now_ms;
        let heard = self.lite.heard.entry(statement.who()).or_default();
        heard.at_ms = now_ms;
        if rules.wildcard {
            return; // everything is its own
        }
        let Some(change) = self.change_of(statement) else { return };
        if let Said::Add(Some(at)) = statement.said {
            let again: Vec<&String> = statement.names.iter().filter(|name| !change.added.contains(*name)).collect();
            let again: BTreeSet<u32> = again.into_iter().map(|name| self.lite_queue(name, listed)).collect();
            again.into_iter().for_each(|queue| self.go_to(&statement.reader(), queue, at));
        }
        for name in &change.added {
            self.begin_with(statement, rules, name, listed);
        }
        for name in change.removed.iter().filter(|_| rules.reset_when_left && matches!(statement.said, Said::Remove)) {
            if self.others(statement, name).is_empty() {
                let queue = self.lite_queue(name, listed);
                self.put_at(&statement.reader(), queue, self.topics[LITE].queues[queue as usize].start);
            }
        }
        let client = self.lite.clients.entry(statement.who()).or_default();
        client.names.retain(|name| !change.removed.contains(name));
        client.names.extend(change.added);
        client.barred.retain(|name| !change.unbarred.contains(name));
        self.lite.clients.retain(|_, client| !client.names.is_empty() || !client.barred.is_empty());
    }

    /// What has to change; none: an older list came late.
    fn change_of(&mut self, statement: &Statement) -> Option<Change> {
        let names: BTreeSet<String> = statement.names.iter().cloned().collect();
        let known = self.names_of(&statement.who());
        let barred = self.lite.clients.get(&statement.who()).map(|client| client.barred.clone()).unwrap_or_default();
        let is_there = |name: &String| self.topics[LITE].lite_topics.contains_key(name);
        let heard = self.lite.heard.get_mut(&statement.who()).expect("it said something");
        match statement.said {
            Said::Add(_) => {
                let added: BTreeSet<String> = names.difference(&known).cloned().collect();
                heard.gone.retain(|name| !added.contains(name));
                Some(Change {
                    added,
                    removed: BTreeSet::new(),
                    unbarred: names.intersection(&barred).cloned().collect(),
                })
            }
            Said::All(version) => {
                if version != 0 && version < heard.version {
                    return None;
                }
                heard.version = heard.version.max(version);
                heard.gone.retain(|name| names.contains(name));
                let removed = known.difference(&names).cloned().collect();
                let comes_back =
                    |name: &String| !barred.contains(name) && (is_there(name) || !heard.gone.contains(name));
                let added = names.difference(&known).filter(|name| comes_back(name)).cloned().collect();
                Some(Change { added, removed, unbarred: BTreeSet::new() })
            }
            Said::Remove | Said::Nothing => Some(Change {
                added: BTreeSet::new(),
                removed: names.intersection(&known).cloned().collect(),
                unbarred: names.intersection(&barred).cloned().collect(),
            }),
        }
    }

    /// A client consumes one more lite topic: alone, if its group is exclusive.
    fn begin_with(&mut self, statement: &Statement, rules: Rules, name: &str, listed: &Listed) {
        let (reader, queue) = (statement.reader(), self.lite_queue(name, listed));
        let others = if rules.exclusive { self.others(statement, name) } else { Vec::new() };
        for other in &others {
            let client = self.lite.clients.get_mut(other).expect("it is subscribed");
            client.names.remove(name);
            client.barred.insert(name.to_owned());
            self.tell(other, name);
        }
        let asked = match statement.said {
            Said::Add(at) => at.filter(|at| !matches!(at, At::Last(_))),
            _ => None,
        };
        let has_place = self.subscriptions.get(&reader).is_some_and(|s| s.cursors.contains_key(&queue));
        match asked {
            Some(at) => self.go_to(&reader, queue, at),
            None if rules.reset_when_moved && !others.is_empty() => {
                self.put_at(&reader, queue, self.topics[LITE].queues[queue as usize].start);
            }
            None if !has_place => self.put_at(&reader, queue, self.first_place(name)),
            None => {}
        }
    }

    /// Puts a group where one of its clients asks for. If it is there already, with nothing in hand,
    /// it stays as it is.
    fn go_to(&mut self, reader: &Reader, queue: u32, at: At) {
        let cursor = self.subscriptions.get(reader).and_then(|subscription| subscription.cursors.get(&queue));
        let there = cursor.filter(|cursor| cursor.rows.is_empty()).map(|cursor| cursor.fetch);
        let place = place_of(&self.topics[LITE].queues[queue as usize], at);
        if let Some(offset) = place.filter(|offset| there != Some(*offset)) {
            self.put_at(reader, queue, offset);
        }
    }

    fn others(&self, statement: &Statement, name: &str) -> Vec<Who> {
        let clients = self
            .lite
            .clients
            .iter()
            .filter(|((group, _), client)| *group == statement.group && client.names.contains(name));
        clients.map(|(who, _)| who.clone()).filter(|(_, client)| *client != statement.client).collect()
    }

    pub(super) fn names_of(&self, who: &Who) -> BTreeSet<String> {
        self.lite.clients.get(who).map(|client| client.names.clone()).unwrap_or_default()
    }

    /// Lite groups that a client is one of: it is subscribed to something, or to everything.
    pub(in crate::reference) fn lite_groups_of(&self, client: &str) -> BTreeSet<String> {
        let subscribed = self.lite.clients.keys().filter(|(_, name)| name == client).map(|(group, _)| group);
        let reading_all = self.groups.iter().filter(|(_, group)| group.reads_all()).map(|(name, _)| name);
        subscribed.chain(reading_all).cloned().collect()
    }

    /// A client of a lite group is gone: its subscriptions go, and what it holds is visible again.
    /// Says how much that is.
    pub(in crate::reference) fn drop_client(&mut self, who: &Who) -> u64 {
        self.lite.heard.remove(who);
        self.lite.clients.remove(who);
        let (group, client) = who;
        let now_ms = self.now_ms;
        let subscription = self.subscriptions.get_mut(&(group.clone(), LITE.to_owned()));
        let rows = subscription.into_iter().flat_map(|s| s.cursors.values_mut()).flat_map(|c| c.rows.values_mut());
        let held = rows.filter(|row| row.client == *client && !row.backing_off && row.visible_at_ms > now_ms);
        held.map(|row| row.visible_at_ms = now_ms).count() as u64
    }

    pub(super) fn drop_silent_clients(&mut self) {
        let (now_ms, started_ms) = (self.now_ms, self.lite.started_ms);
        let is_silent = |heard: &Heard| now_ms - heard.at_ms > SILENT_MS;
        let new = || Heard { at_ms: started_ms, ..Heard::default() };
        let known: Vec<Who> = self.lite.clients.keys().cloned().collect();
        for who in known {
            if is_silent(self.lite.heard.entry(who.clone()).or_insert_with(new)) {
                self.drop_client(&who);
            }
        }
        self.lite.heard.retain(|_, heard| !is_silent(heard));
    }

    /// A lite topic is gone: whoever was subscribed to it is told.
    pub(super) fn lose_lite_topic(&mut self, name: &str) {
        let subscribed = self.lite.clients.iter().filter(|(_, client)| client.names.contains(name));
        let told: Vec<Who> = subscribed.map(|(who, _)| who.clone()).collect();
        for who in told {
            self.tell(&who, name);
            self.lite.heard.entry(who).or_default().gone.insert(name.to_owned());
        }
        for client in self.lite.clients.values_mut() {
            client.names.remove(name);
            client.barred.remove(name);
        }
        self.lite.clients.retain(|_, client| !client.names.is_empty() || !client.barred.is_empty());
    }

    fn tell(&mut self, (group, client): &Who, name: &str) {
        let notice = Notice { group: group.clone(), client: client.clone(), lite_topic: name.to_owned() };
        self.lite.notices.push((self.now_ms, notice));
    }

    pub(super) fn forget_old_notices(&mut self) {
        let now_ms = self.now_ms;
        self.lite.notices.retain(|(at_ms, _)| at_ms + NOTICE_MS >= now_ms);
    }

    /// What clients have to be told that was not taken before, in no order; not that they lost what
    /// they have again.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let new: Vec<Notice> = self.lite.notices.drain(..).map(|(_, notice)| notice).collect();
        let has = |notice: &Notice| self.names_of(&(notice.group.clone(), notice.client.clone()));
        new.into_iter().filter(|notice| !has(notice).contains(&notice.lite_topic)).collect()
    }
}

impl Group {
    /// Whether its clients consume every lite topic.
    pub fn reads_all(&self) -> bool {
        self.lite.is_some_and(|rules| rules.wildcard)
    }
}

/// The offset that a client asks for; none: where the group is.
fn place_of(queue: &Queue, at: At) -> Option<u64> {
    let target = match at {
        At::Last(_) => return None,
        At::Earliest(_) => Target::Earliest,
        At::Latest(_) => Target::Latest,
        At::Offset(offset) => Target::Offset(offset),
        At::Tail(messages) => Target::Offset(queue.end().saturating_sub(messages)),
        At::FromMs(ms) => Target::FromMs(ms),
    };
    target.place_in(queue, false)
}

fn is_legal(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
