use centaur_apis::{
    log::TopicType,
    store::{Error, Reason, query_offset_request::At, reset_group_request::To},
    v2::*,
};

use crate::harness::*;

fn queue(topic: &str, id: i32) -> Option<MessageQueue> {
    Some(MessageQueue { topic: named(topic), id, ..Default::default() })
}

#[tokio::test]
async fn a_group_is_put_where_a_client_says() {
    both(async |mut h: Harness| {
        let update = async |h: &mut Harness, id: i32, offset: i64| {
            let request = UpdateOffsetRequest { group: named("workers"), message_queue: queue("orders", id), offset };
            let answer = h.client.update_offset(ours(request)).await.expect("a status").into_inner();
            code(answer.status.as_ref())
        };
        assert_eq!(update(&mut h, 3, 12).await, Code::Ok);
        {
            let world = h.store.world();
            let reset = &world.resets[0];
            assert_eq!((reset.group.as_str(), reset.topic.as_str(), reset.queue), ("workers", "orders", Some(3)));
            assert_eq!(reset.to, Some(To::Offset(12)));
            assert!(reset.strict && reset.create_group && !reset.dry_run);
        }
        assert_eq!(update(&mut h, 3, -1).await, Code::IllegalOffset);
        assert_eq!(update(&mut h, -1, 1).await, Code::BadRequest);
        for (reason, expected) in [
            (Reason::IllegalOffset, Code::IllegalOffset),
            (Reason::GroupNotFound, Code::ConsumerGroupNotFound),
            (Reason::TopicNotFound, Code::TopicNotFound),
        ] {
            h.store.world().error = Some(Error::new(reason, "no"));
            assert_eq!(update(&mut h, 3, 12).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_group_that_is_nowhere_has_no_offset() {
    both(async |mut h: Harness| {
        let get = async |h: &mut Harness| {
            let request = GetOffsetRequest { group: named("workers"), message_queue: queue("orders", 2) };
            let answer = h.client.get_offset(ours(request)).await.expect("a status").into_inner();
            (code(answer.status.as_ref()), answer.offset)
        };
        assert_eq!(get(&mut h).await, (Code::Ok, 5));
        assert_eq!(h.store.world().gets[0].queue, 2);
        for (reason, expected) in [
            (Reason::OffsetNotFound, Code::OffsetNotFound),
            (Reason::GroupNotFound, Code::OffsetNotFound),
            (Reason::TopicNotFound, Code::TopicNotFound),
        ] {
            h.store.world().error = Some(Error::new(reason, "no"));
            assert_eq!(get(&mut h).await.0, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_place_in_a_queue_is_asked_for_in_three_ways() {
    both(async |mut h: Harness| {
        let query = async |h: &mut Harness, policy: i32, timestamp| {
            let message_queue = queue("orders", 1);
            let request = QueryOffsetRequest { message_queue, query_offset_policy: policy, timestamp };
            let answer = h.client.query_offset(ours(request)).await.expect("a status").into_inner();
            (code(answer.status.as_ref()), answer.offset)
        };
        let at = Some(prost_types::Timestamp { seconds: 5, nanos: 0 });
        assert_eq!(query(&mut h, QueryOffsetPolicy::Beginning.into(), None).await, (Code::Ok, 7));
        assert_eq!(query(&mut h, QueryOffsetPolicy::End.into(), None).await, (Code::Ok, 7));
        assert_eq!(query(&mut h, QueryOffsetPolicy::Timestamp.into(), at).await, (Code::Ok, 7));
        assert_eq!(query(&mut h, QueryOffsetPolicy::Timestamp.into(), None).await.0, Code::BadRequest);
        let asked: Vec<_> = h.store.world().offset_queries.iter().map(|query| query.at).collect();
        assert_eq!(asked, [At::Earliest(true), At::Latest(true), At::FromMs(5_000)].map(Some));
        h.store.add_topic("orders", TopicType::Normal, 1);
    })
    .await;
}
