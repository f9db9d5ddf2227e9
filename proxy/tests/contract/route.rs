use centaur_apis::{
    log::{Group, Permission as StoredPermission, TopicType},
    v2::*,
};

use crate::harness::*;

fn endpoints() -> Endpoints {
    let addresses = vec![Address { host: "10.1.2.3".into(), port: 18081 }];
    Endpoints { scheme: AddressScheme::IPv4.into(), addresses }
}

async fn route(h: &mut Harness, topic: &str, endpoints: Option<Endpoints>) -> QueryRouteResponse {
    let request = QueryRouteRequest { topic: named(topic), endpoints };
    h.client.query_route(ours(request)).await.expect("a status").into_inner()
}

#[tokio::test]
async fn a_route_is_usable_by_every_client() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Mixed, 3);
        let answer = route(&mut h, "orders", Some(endpoints())).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        let ids: Vec<i32> = answer.message_queues.iter().map(|queue| queue.id).collect();
        assert_eq!(ids, [0, 1, 2]);
        for queue in &answer.message_queues {
            assert_eq!(queue.topic, named("orders"), "echoed with its namespace");
            assert_eq!(queue.permission(), Permission::ReadWrite);
            assert_eq!(queue.accept_message_types.len(), 4);
            let broker = queue.broker.as_ref().expect("set");
            assert_eq!((broker.name.as_str(), broker.id), ("broker-a", 0));
            assert_eq!(broker.endpoints, Some(endpoints()));
        }
        let again = route(&mut h, "orders", Some(endpoints())).await;
        assert_eq!(again, answer, "the order of queues is stable");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_names_no_endpoints_gets_those_it_dialled() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let answer = route(&mut h, "orders", None).await;
        let broker = answer.message_queues[0].broker.as_ref().expect("set");
        let endpoints = broker.endpoints.as_ref().expect("set");
        assert_ne!(endpoints.scheme(), AddressScheme::Unspecified);
        assert_eq!(endpoints.addresses.len(), 1);
        if matches!(h.transport, centaur_apis::transport::Transport::Remote(_)) {
            assert_eq!(endpoints.addresses[0].host, "127.0.0.1");
        }
        assert_eq!(answer.message_queues[0].accept_message_types, [MessageType::Normal as i32]);
    })
    .await;
}

#[tokio::test]
async fn unknown_and_illegal_topics_have_no_route() {
    both(async |mut h: Harness| {
        let answer = route(&mut h, "nowhere", None).await;
        assert_eq!(code(answer.status.as_ref()), Code::TopicNotFound);
        assert!(answer.status.is_some_and(|status| status.message.starts_with("CODE: 17")));
        let too_long = "t".repeat(128);
        for illegal in ["", "a b", "TBW102", "rmq_sys_x", &too_long] {
            assert_eq!(code(route(&mut h, illegal, None).await.status.as_ref()), Code::IllegalTopic, "{illegal:?}");
        }
        assert_eq!(code(route(&mut h, &"t".repeat(127), None).await.status.as_ref()), Code::TopicNotFound);
    })
    .await;
}

#[tokio::test]
async fn topics_come_into_being_on_demand_but_not_those_of_the_system() {
    both_with(
        |config| config.create_topics_on_demand = true,
        async |mut h: Harness| {
            let answer = route(&mut h, "fresh", None).await;
            assert_eq!((code(answer.status.as_ref()), answer.message_queues.len()), (Code::Ok, 8));
            assert_eq!(code(route(&mut h, "%DLQ%workers", None).await.status.as_ref()), Code::TopicNotFound);
        },
    )
    .await;
}

async fn assignment(h: &mut Harness, group: &str) -> QueryAssignmentResponse {
    let request = QueryAssignmentRequest { topic: named("orders"), group: named(group), endpoints: Some(endpoints()) };
    h.client.query_assignment(ours(request)).await.expect("a status").into_inner()
}

#[tokio::test]
async fn ordered_groups_get_queues_and_others_the_broker() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Fifo, 3);
        let ordered = Group { name: "ordered".into(), fifo: true, ..Default::default() };
        h.store.world().groups.insert("ordered".into(), ordered);
        for (group, expected) in [("ordered", vec![0, 1, 2]), ("unheard-of", vec![-1])] {
            let answer = assignment(&mut h, group).await;
            assert_eq!(code(answer.status.as_ref()), Code::Ok);
            let queues = answer.assignments.iter().filter_map(|assignment| assignment.message_queue.as_ref());
            let ids: Vec<i32> = queues.clone().map(|queue| queue.id).collect();
            assert_eq!(ids, expected, "{group}");
            assert!(queues.clone().all(|queue| queue.accept_message_types.is_empty()));
            assert_eq!(assignment(&mut h, group).await, answer);
        }
        assert_eq!(code(assignment(&mut h, "a b").await.status.as_ref()), Code::IllegalConsumerGroup);
    })
    .await;
}

#[tokio::test]
async fn nothing_readable_is_forbidden() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 3);
        if let Some(topic) = h.store.world().topics.get_mut("orders") {
            topic.permission = StoredPermission::Write.into();
        }
        assert_eq!(code(assignment(&mut h, "workers").await.status.as_ref()), Code::Forbidden);
    })
    .await;
}
