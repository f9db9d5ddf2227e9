use centaur_apis::{
    log::{CursorsSet, Group, GroupDeleted, Leased, Topic, TopicDeleted, TopicType, control::Event},
    units::Lsn,
};
use prost::Message as _;

use super::*;
use crate::log::record::{Message, Place};

const TOPIC: u32 = 1;
const GROUP: u32 = 7;
const READER: Reader = Reader { group: GROUP, topic: TOPIC };

fn state(wildcard: bool) -> State {
    let mut state = State::default();
    let topic =
        Topic { id: TOPIC, name: "chats".to_owned(), queues: 4, r#type: TopicType::Lite.into(), ..Default::default() };
    apply(&mut state, &Event::TopicSet(topic));
    let lite = centaur_apis::log::Lite { topic: "chats".to_owned(), wildcard, ..Default::default() };
    apply(
        &mut state,
        &Event::GroupSet(Group { id: GROUP, name: "bots".to_owned(), lite: Some(lite), ..Default::default() }),
    );
    state
}

fn apply(state: &mut State, event: &Event) {
    state.apply_event(Lsn(0), event, false);
}

fn name_queue(state: &mut State, queue: u32, name: &str) {
    apply(state, &Event::LiteTopicSet(LiteTopicSet { topic: TOPIC, queue, name: name.to_owned(), at_ms: 5 }));
}

fn unname(state: &mut State, queue: u32) {
    apply(state, &Event::LiteTopicDeleted(LiteTopicDeleted { topic: TOPIC, queue }));
}

fn subscribe(state: &mut State, client: &str, added: &[u32], barred: &[u32]) {
    apply(
        state,
        &Event::LiteSubscribed(LiteSubscribed {
            group: GROUP,
            client: client.to_owned(),
            added: added.to_vec(),
            barred: barred.to_vec(),
            ..Default::default()
        }),
    );
}

fn put(state: &mut State, queue: u32, offset: u64) {
    let positions = vec![Position { queue, offset }];
    apply(state, &Event::CursorsSet(CursorsSet { group: GROUP, topic: TOPIC, positions }));
}

fn store(state: &mut State, queue: u32, lsn: u64) {
    let offset = state.topics.get(TOPIC).expect("there").queues[queue as usize].end;
    let message = Message::new(
        TOPIC,
        queue,
        Place::Queued(offset),
        9,
        Default::default(),
        Default::default(),
        Default::default(),
    );
    state.apply_message(Lsn(lsn), 64, &message, false);
}

fn again(state: &State) -> State {
    let bytes = state.to_snapshot(Lsn(1)).encode_to_vec();
    State::from_snapshot(centaur_apis::log::Snapshot::decode(bytes.as_slice()).expect("a snapshot"))
}

fn check_same(state: &State) {
    let at = Lsn(1);
    assert_eq!(again(state).to_snapshot(at), state.to_snapshot(at));
}

#[test]
fn a_lite_topic_begins_with_no_queue_and_gets_one_for_each_name() {
    let mut state = state(false);
    assert_eq!(state.topics.get(TOPIC).expect("there").queues.len(), 0);
    name_queue(&mut state, 0, "a");
    name_queue(&mut state, 1, "b");
    name_queue(&mut state, 9, "far");
    assert_eq!(state.topics.get(TOPIC).expect("there").queues.len(), 2);
    let names = state.lite.names(TOPIC).expect("there");
    assert_eq!(names.after("").collect::<Vec<_>>(), [("a", 0), ("b", 1)]);
    assert_eq!((names.queue("b"), names.queue("far"), names.next_queue()), (Some(1), None, 2));
    check_same(&state);
}

#[test]
fn a_queue_used_again_goes_on_where_it_was_and_every_group_has_to_begin_anew() {
    let mut state = state(false);
    name_queue(&mut state, 0, "a");
    name_queue(&mut state, 1, "b");
    store(&mut state, 0, 100);
    store(&mut state, 0, 200);
    put(&mut state, 0, 0);
    put(&mut state, 1, 0);
    subscribe(&mut state, "one", &[0, 1], &[]);
    subscribe(&mut state, "two", &[], &[0]);
    let leased = Leased { group: GROUP, topic: TOPIC, queue: 0, fetch_end: 1, offsets: vec![0], ..Default::default() };
    apply(&mut state, &Event::Leased(leased));
    unname(&mut state, 0);
    check_same(&state);
    let subscription = state.pop.get(READER).expect("there");
    assert_eq!((subscription.cursors.len(), subscription.rows()), (1, 0));
    let clients = state.lite.clients(GROUP).expect("there");
    let known: Vec<_> = clients.iter().map(|(_, client)| (client.name.as_ref(), client.queues.len())).collect();
    assert_eq!((known, state.lite.subscriptions()), (vec![("one", 1)], 1));
    assert_eq!(state.lite.names(TOPIC).expect("there").next_queue(), 0);
    name_queue(&mut state, 0, "c");
    let queue = state.topics.get(TOPIC).expect("there").queues[0];
    assert_eq!((queue.start, queue.end), (2, 2));
    assert_eq!(state.lite.names(TOPIC).and_then(|names| names.get(0)).map(|lite| lite.base), Some(2));
    assert!(state.pop.get(READER).is_some_and(|subscription| subscription.cursors.get(0).is_none()));
    check_same(&state);
}

#[test]
fn a_group_that_reads_all_begins_with_the_first_message_of_a_new_lite_topic() {
    let mut state = state(true);
    name_queue(&mut state, 0, "a");
    put(&mut state, 0, 0);
    store(&mut state, 0, 100);
    unname(&mut state, 0);
    name_queue(&mut state, 0, "b");
    name_queue(&mut state, 1, "c");
    let cursors = &state.pop.get(READER).expect("there").cursors;
    assert_eq!(cursors.iter().map(|(queue, cursor)| (queue, cursor.fetch)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    check_same(&state);
}

#[test]
fn lite_topics_and_clients_go_with_their_topic_and_group() {
    let mut state = state(false);
    name_queue(&mut state, 0, "a");
    subscribe(&mut state, "one", &[0], &[]);
    apply(&mut state, &Event::GroupDeleted(GroupDeleted { id: GROUP }));
    assert_eq!((state.lite.len(), state.lite.subscriptions()), (1, 0));
    let mut state = self::state(false);
    name_queue(&mut state, 0, "a");
    subscribe(&mut state, "one", &[0], &[]);
    apply(&mut state, &Event::TopicDeleted(TopicDeleted { id: TOPIC }));
    assert_eq!((state.lite.len(), state.lite.subscriptions(), state.lite.all_clients().count()), (0, 0, 0));
}

#[test]
fn subscribers_take_turns_at_being_first() {
    let mut state = state(false);
    name_queue(&mut state, 0, "a");
    for client in ["one", "two", "three"] {
        subscribe(&mut state, client, &[0], &[]);
    }
    let clients = state.lite.clients(GROUP).expect("there");
    let all: Vec<u64> = clients.subscribers(0, 0).collect();
    assert_eq!(all.len(), 3);
    assert_eq!(clients.subscribers(0, all[1]).collect::<Vec<_>>(), [all[1], all[2], all[0]]);
}
