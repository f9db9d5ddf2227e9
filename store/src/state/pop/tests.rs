//! Rows of ordered and concurrent groups, event by event.

use centaur_apis::{
    log::{self, Acked, CursorsSet, Leased, Position, SessionEnded, VisibilityChanged, control::Event},
    units::Lsn,
};

use super::{Due, Hold, Reader, Subscription};
use crate::state::{State, offsets};

const READER: Reader = Reader { group: 1, topic: 1 };
/// Hashes of two message groups.
const A: u64 = 10;
const B: u64 = 20;

/// A group at the beginning of a topic of one queue.
fn state(group: log::Group) -> State {
    let mut state = State::default();
    let topic = log::Topic { id: READER.topic, name: "orders".into(), queues: 1, ..Default::default() };
    let group = log::Group { id: READER.group, name: "workers".into(), ..group };
    let positions = vec![Position { queue: 0, offset: 0 }];
    state.apply_event(Lsn(0), &Event::TopicSet(topic), false);
    state.apply_event(Lsn(0), &Event::GroupSet(group), false);
    state.apply_event(
        Lsn(0),
        &Event::CursorsSet(CursorsSet { group: READER.group, topic: READER.topic, positions }),
        false,
    );
    state
}

fn ordered() -> log::Group {
    log::Group { fifo: true, max_attempts: 2, ..Default::default() }
}

/// Leases messages at a time for 100 ms; each message is an offset and its message group.
fn lease(state: &mut State, at_ms: u64, leased: &[(u64, u64)], passed: &[(u64, u64)]) {
    let offsets_of = |messages: &[(u64, u64)]| offsets::pack(messages.iter().map(|(offset, _)| *offset));
    let event = Leased {
        group: READER.group,
        topic: READER.topic,
        fetch_end: leased.iter().chain(passed).map(|(offset, _)| offset + 1).max().unwrap_or_default(),
        offsets: offsets_of(leased),
        passed: offsets_of(passed),
        keys: leased.iter().chain(passed).map(|(_, hash)| *hash).collect(),
        visible_at_ms: at_ms + 100,
        leased_at_ms: at_ms,
        attempt: 7,
        ..Default::default()
    };
    state.apply_event(Lsn(0), &Event::Leased(event), false);
}

fn ack(state: &mut State, offset: u64) {
    let (group, topic) = (READER.group, READER.topic);
    state.apply_event(Lsn(0), &Event::Acked(Acked { group, topic, queue: 0, offsets: vec![offset] }), false);
}

fn give_back(state: &mut State, offset: u64, visible_at_ms: u64) {
    let event = VisibilityChanged {
        group: READER.group,
        topic: READER.topic,
        offset,
        visible_at_ms,
        uncounted: true,
        ..Default::default()
    };
    state.apply_event(Lsn(0), &Event::VisibilityChanged(event), false);
}

fn subscription(state: &State) -> &Subscription {
    state.pop.get(READER).expect("it reads")
}

/// Offsets to deliver at a time, place by place.
fn due(state: &State, now_ms: u64) -> Vec<Vec<u64>> {
    let subscription = subscription(state);
    let offsets = |place: Due| subscription.at(place).map(|(_, offset, _)| offset).collect();
    subscription.due(now_ms).map(offsets).collect()
}

fn dead(state: &State, now_ms: u64) -> Vec<u64> {
    subscription(state).dead(now_ms).map(|(_, offset)| offset).collect()
}

#[test]
fn a_message_group_is_due_when_all_of_it_is_visible() {
    let mut state = state(ordered());
    lease(&mut state, 0, &[(0, A), (2, A)], &[]);
    lease(&mut state, 50, &[(1, B)], &[(3, A), (4, B)]);
    assert_eq!(due(&state, 99), Vec::<Vec<u64>>::new());
    assert_eq!(subscription(&state).fifo().map(|fifo| fifo.passed(0)), Some(2));
    give_back(&mut state, 0, 120);
    assert_eq!(due(&state, 119), Vec::<Vec<u64>>::new());
    assert_eq!(due(&state, 120), [[0, 2, 3]]);
    assert_eq!(due(&state, 150), [vec![0, 2, 3], vec![1, 4]]);
    assert!(subscription(&state).is_held_up(0, 3, 119) && !subscription(&state).is_held_up(0, 3, 120));
}

#[test]
fn settled_messages_free_the_rest_and_the_one_served_longest_ago_is_first() {
    let mut state = state(ordered());
    lease(&mut state, 10, &[(0, B)], &[(1, B)]);
    lease(&mut state, 20, &[(2, A)], &[(3, A)]);
    ack(&mut state, 2);
    ack(&mut state, 0);
    assert_eq!(due(&state, 20), [[1], [3]]);
    assert_eq!(subscription(&state).earliest(), Some(10));
    ack(&mut state, 1);
    ack(&mut state, 3);
    assert_eq!((subscription(&state).rows(), subscription(&state).earliest()), (0, None));
}

#[test]
fn only_the_first_of_a_message_group_is_dead() {
    let mut state = state(ordered());
    lease(&mut state, 0, &[(0, A), (1, A)], &[]);
    lease(&mut state, 100, &[(0, A), (1, A)], &[(2, A)]);
    assert_eq!((dead(&state, 199), dead(&state, 200)), (vec![], vec![0, 1]));
    assert_eq!(due(&state, 200), Vec::<Vec<u64>>::new());
    give_back(&mut state, 0, 200);
    assert_eq!(dead(&state, 200), Vec::<u64>::new());
    assert_eq!(due(&state, 200), [[0]], "the next one is dead when its turn comes");
    ack(&mut state, 0);
    assert_eq!(dead(&state, 200), [1]);
    ack(&mut state, 1);
    assert_eq!(due(&state, 200), [[2]]);
}

#[test]
fn other_settings_make_others_dead() {
    let mut state = state(log::Group { max_attempts: 5, ..Default::default() });
    lease(&mut state, 0, &[(0, A), (1, B)], &[]);
    assert_eq!((due(&state, 100), dead(&state, 100)), (vec![vec![0], vec![1]], vec![]));
    let group = log::Group { id: READER.group, name: "workers".into(), max_attempts: 1, ..Default::default() };
    state.apply_event(Lsn(0), &Event::GroupSet(group), false);
    assert_eq!((due(&state, 100), dead(&state, 100)), (vec![], vec![0, 1]));
    assert_eq!(state.pop.next_wake(), Some((100, READER)));
}

#[test]
fn a_snapshot_holds_what_order_needs() {
    let mut state = state(ordered());
    lease(&mut state, 0, &[(0, A), (2, B)], &[(3, A)]);
    lease(&mut state, 5, &[(4, 0)], &[(5, B), (6, 0)]);
    give_back(&mut state, 2, 50);
    let snapshot = state.to_snapshot(Lsn(0));
    let mut restored = State::from_snapshot(snapshot.clone());
    assert_eq!(restored.to_snapshot(Lsn(0)), snapshot);
    assert_eq!(subscription(&restored).row(0, 6).map(|row| row.hold), Some(Hold::Passed));
    for state in [&mut state, &mut restored] {
        ack(state, 0);
        lease(state, 60, &[(2, B), (3, A)], &[]);
    }
    assert_eq!(restored.to_snapshot(Lsn(0)), state.to_snapshot(Lsn(0)));
    assert_eq!((due(&restored, 160), due(&state, 160)), (vec![vec![4, 6], vec![3], vec![2, 5]], due(&restored, 160)));
}

fn taken_by(state: &mut State, client: u64, offsets: &[u64]) {
    let event = Leased {
        group: READER.group,
        topic: READER.topic,
        fetch_end: offsets.iter().map(|offset| offset + 1).max().unwrap_or_default(),
        offsets: offsets::pack(offsets.iter().copied()),
        visible_at_ms: 1_000,
        session: client,
        client,
        attempt: client,
        ..Default::default()
    };
    state.apply_event(Lsn(0), &Event::Leased(event), false);
}

#[test]
fn a_client_that_ends_lets_go_of_what_it_has_and_of_nothing_else() {
    let mut state = state(log::Group { max_attempts: 9, ..Default::default() });
    taken_by(&mut state, 1, &[0, 2]);
    taken_by(&mut state, 2, &[1, 3]);
    ack(&mut state, 2);
    let restored = State::from_snapshot(state.to_snapshot(Lsn(0)));
    for mut state in [state, restored] {
        assert_eq!((state.pop.rows_held(1), state.pop.rows_held(2)), (1, 2));
        for group in [READER.group + 1, 0] {
            state.apply_event(
                Lsn(0),
                &Event::SessionEnded(SessionEnded { session: 1, visible_at_ms: 5, group }),
                false,
            );
            assert_eq!(state.pop.rows_held(1), u64::from(group != 0));
        }
        assert_eq!((due(&state, 5), state.pop.rows_held(2)), (vec![vec![0]], 2));
        state.pop.delete(READER);
        assert_eq!(state.pop.sessions().count(), 0);
    }
}

#[test]
fn an_answer_is_forgotten_when_nothing_of_it_stands() {
    let mut state = state(log::Group { max_attempts: 9, ..Default::default() });
    taken_by(&mut state, 1, &[0, 1]);
    taken_by(&mut state, 2, &[2]);
    taken_by(&mut state, 3, &[3]);
    ack(&mut state, 0);
    give_back(&mut state, 2, 50);
    assert_eq!(subscription(&state).attempts().map(|(attempt, _)| attempt).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(subscription(&state).repeat(1, 0).map(|granted| granted.len()), Some(1));
    ack(&mut state, 1);
    let positions = vec![Position { queue: 0, offset: 0 }];
    let reset = CursorsSet { group: READER.group, topic: READER.topic, positions };
    state.apply_event(Lsn(0), &Event::CursorsSet(reset), false);
    taken_by(&mut state, 4, &[3]);
    assert_eq!(subscription(&state).repeat(3, 0), None, "another lease has the same generation");
    assert_eq!(state.to_snapshot(Lsn(0)).subscriptions[0].attempts.len(), 1);
}

#[test]
fn a_snapshot_with_answers_of_which_nothing_stands_is_read_without_them() {
    let mut state = state(log::Group { max_attempts: 9, ..Default::default() });
    taken_by(&mut state, 1, &[0, 1]);
    let mut snapshot = state.to_snapshot(Lsn(0));
    let known = snapshot.subscriptions[0].attempts[0].clone();
    let stale = log::AttemptState { attempt: 9, generations: vec![7, 7], ..known };
    snapshot.subscriptions[0].attempts.insert(0, stale);
    assert_eq!(State::from_snapshot(snapshot).to_snapshot(Lsn(0)), state.to_snapshot(Lsn(0)));
}
