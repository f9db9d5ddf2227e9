//! Topics with priorities: the number of a queue is the priority of its messages.

mod harness;
mod ordered;

use centaur_apis::{log::TopicType, store::PutGroupRequest};
use ordered::{Fixture, numbers};

/// A store with ten messages of each of four priorities; a message's number tells both.
async fn store_with_priorities(shared_percent: u32) -> Fixture {
    let mut store = Fixture::open(TopicType::Priority, 4).await;
    let request = PutGroupRequest { shared_percent: Some(shared_percent), ..Default::default() };
    store.put_group(request).await.expect("made");
    for number in 0..10 {
        for queue in 0..4 {
            store.send(queue, "", u64::from(queue) * 100 + number).await;
        }
    }
    store
}

/// The priorities of the next answers of one message each.
async fn next(store: &mut Fixture, answers: usize) -> Vec<u64> {
    let mut priorities = Vec::new();
    for _ in 0..answers {
        priorities.extend(numbers(&store.pop(1).await).iter().map(|number| number / 100));
    }
    priorities
}

#[tokio::test]
async fn the_highest_priority_comes_first() {
    let mut store = store_with_priorities(0).await;
    assert_eq!(next(&mut store, 12).await, [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2]);
    store.send(3, "", 310).await;
    let some = store.pop(10).await;
    let expected: Vec<u64> = [310].into_iter().chain(202..210).chain([100]).collect();
    assert_eq!(numbers(&some), expected, "an answer goes on with the next lower priority");
}

#[tokio::test]
async fn a_share_of_answers_serves_all_priorities_in_turn() {
    let mut store = store_with_priorities(25).await;
    assert_eq!(next(&mut store, 16).await, [3, 3, 3, 0, 3, 3, 3, 1, 3, 3, 3, 2, 3, 2, 2, 0]);
}

#[tokio::test]
async fn redeliveries_keep_their_share() {
    let mut store = store_with_priorities(0).await;
    let failed = store.pop(5).await;
    for delivery in &failed {
        store.change(&delivery.handle, 0, false).await.expect("held");
    }
    let some = store.pop(10).await;
    assert_eq!(some.iter().filter(|delivery| delivery.attempt == 2).count(), 2);
}
