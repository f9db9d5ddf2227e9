use centaur_apis::{
    admin::{ListClientsRequest, admin_client::AdminClient},
    log::TopicType,
    store::{DescribeTopicRequest, Error, ListTopicsRequest, PutTopicRequest, Reason},
    transport::Transport,
    v2::{ClientType, HeartbeatRequest},
};

use crate::harness::*;

#[tokio::test]
async fn operators_reach_the_store_and_see_clients() {
    both(async |mut h: Harness| {
        let mut admin = AdminClient::new(Transport::Local(h.proxy.admin_routes()));
        let missing = admin.describe_topic(DescribeTopicRequest { name: "orders".into() }).await.expect_err("none");
        assert_eq!(Error::from_status(&missing).reason(), Reason::TopicNotFound);
        admin.put_topic(PutTopicRequest { name: "orders".into(), ..Default::default() }).await.expect("made");
        h.store.add_topic("invoices", TopicType::Normal, 1);
        let listed = admin.list_topics(ListTopicsRequest::default()).await.expect("listed").into_inner();
        assert_eq!(listed.total, 2);

        let request = HeartbeatRequest { group: named("workers"), client_type: ClientType::PushConsumer.into() };
        h.client.heartbeat(ours(request)).await.expect("a status");
        let clients = admin.list_clients(ListClientsRequest {}).await.expect("listed").into_inner().clients;
        assert_eq!(clients.len(), 1);
        let client = &clients[0];
        assert_eq!((client.id.as_str(), client.kind.as_str()), (CLIENT, "push consumer"));
        assert_eq!((client.group.as_str(), client.language.as_str()), ("workers", "HTTP"));
        assert_eq!(client.version, "5.0.4");
        let is_remote = matches!(h.transport, Transport::Remote(_));
        assert_eq!(client.address.starts_with("127.0.0.1:"), is_remote);
    })
    .await;
}
