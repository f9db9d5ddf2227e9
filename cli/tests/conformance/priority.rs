//! Topics with priorities.

use centaur_apis::{log::TopicType, store::PutGroupRequest, v2::*};

use super::{
    broker::{Broker, group},
    client::*,
};

// 85
#[tokio::test(flavor = "multi_thread")]
async fn of_a_backlog_the_highest_priority_comes_first() {
    let broker = Broker::shared().await;
    let name = "priorities";
    broker.typed_topic(name, TopicType::Priority).await;
    broker.put_group(PutGroupRequest { shared_percent: Some(0), ..group(name) }).await;
    let client = broker.client(name).await;
    for round in 0..5 {
        for priority in 0..4 {
            let of = |system: &mut SystemProperties| system.priority = Some(priority);
            client.store(vec![message_with(name, &format!("{priority}/{round}"), of)]).await;
        }
    }
    let five = ReceiveMessageRequest { batch_size: 5, ..receive(name, name) };
    for expected in (0..4).rev() {
        let received = client.receive(five.clone()).await;
        let priorities: Vec<_> = received.messages.iter().map(|message| system(message).priority).collect();
        assert_eq!(priorities, [Some(expected); 5]);
    }
}

// 49, of the contract's section 13.3: some clients send a priority of 0 with every message.
#[tokio::test(flavor = "multi_thread")]
async fn a_priority_of_nothing_is_one_only_where_there_are_some() {
    let broker = Broker::shared().await;
    broker.typed_topic("nothing-priority", TopicType::Priority).await;
    broker.topic("nothing-normal").await;
    let client = broker.client("nothing").await;
    for (topic, expected) in [("nothing-priority", MessageType::Priority), ("nothing-normal", MessageType::Normal)] {
        let sent = message_with(topic, "1", |system| {
            system.message_type = MessageType::Normal.into();
            system.priority = Some(0);
        });
        client.store(vec![sent]).await;
        assert_eq!(system(&client.take_one(topic, "nothing").await).message_type(), expected);
    }
}
