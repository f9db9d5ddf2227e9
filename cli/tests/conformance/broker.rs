//! The server that the tests share, seen by its operator: topics, groups, progress.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use centaur_apis::{
    admin::{ListClientsRequest, admin_client::AdminClient},
    log::TopicType,
    store::{Backlog, DescribeGroupRequest, DescribeGroupResponse, PutGroupRequest, PutTopicRequest, TopicProgress},
};
use tonic::{Code, transport::Channel};

use super::client::Client;
use crate::harness::{PATIENCE, Server};

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// One running server and the way to operate it. Names of topics, groups and clients are each
/// test's own, so that tests do not meet.
pub struct Broker {
    pub server: Arc<Server>,
    admin: AdminClient<Channel>,
}

impl Broker {
    /// The server of all tests that run now; it ends with the last of them.
    pub async fn shared() -> Self {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let server = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            let running = shared.upgrade().unwrap_or_else(|| Arc::new(Server::start()));
            *shared = Arc::downgrade(&running);
            running
        };
        Self::of(server).await
    }

    /// A server of the test's own.
    pub async fn of(server: Arc<Server>) -> Self {
        let admin = AdminClient::new(server.admin_channel().await);
        Self { server, admin }
    }

    /// The server of the test's own, to be stopped or killed.
    pub fn into_server(self) -> Server {
        let server = self.server.clone();
        drop(self);
        Arc::into_inner(server).expect("nobody shares it")
    }

    /// A client with a connection of its own.
    pub async fn client(&self, id: &str) -> Client {
        Client::new(self.server.channel().await, id)
    }

    /// The operators' service.
    pub fn admin(&self) -> AdminClient<Channel> {
        self.admin.clone()
    }

    /// Makes a topic for normal messages with four queues.
    pub async fn topic(&self, name: &str) {
        self.typed_topic(name, TopicType::Normal).await;
    }

    pub async fn typed_topic(&self, name: &str, kind: TopicType) {
        self.put_topic(PutTopicRequest { r#type: kind.into(), ..topic(name, 4) }).await;
    }

    pub async fn put_topic(&self, request: PutTopicRequest) {
        self.admin.clone().put_topic(request).await.expect("the topic is made");
    }

    pub async fn put_group(&self, request: PutGroupRequest) {
        self.admin.clone().put_group(request).await.expect("the group is made");
    }

    /// What a group has before it in a topic; nothing while the group is unknown.
    pub async fn progress(&self, group: &str, topic: &str) -> TopicProgress {
        let described = self.describe_group(group).await;
        described.topics.into_iter().find(|progress| progress.topic == topic).unwrap_or_default()
    }

    /// Counts of messages not finished by a group.
    pub async fn backlog(&self, group: &str, topic: &str) -> Backlog {
        let progress = self.progress(group, topic).await;
        progress.backlog.map(|backlog| Backlog { oldest_ms: 0, ..backlog }).unwrap_or_default()
    }

    /// Waits until so many receives of a group are parked at a topic.
    pub async fn until_parked(&self, group: &str, topic: &str, polls: u32) {
        let begun = tokio::time::Instant::now();
        loop {
            let parked = self.progress(group, topic).await.polls;
            if parked == polls {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{parked} receives are parked instead of {polls}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The ids of all clients the server knows.
    pub async fn clients(&self) -> Vec<String> {
        let answer = self.admin.clone().list_clients(ListClientsRequest {}).await.expect("listed");
        answer.into_inner().clients.into_iter().map(|client| client.id).collect()
    }

    async fn describe_group(&self, group: &str) -> DescribeGroupResponse {
        match self.admin.clone().describe_group(DescribeGroupRequest { name: group.into() }).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => DescribeGroupResponse::default(),
            Err(status) => panic!("{group}: {status}"),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The server itself tells its log only when the last test has failed.
        if thread::panicking() && Arc::strong_count(&self.server) > 1 {
            eprintln!("log of the server:\n{}", self.server.log());
        }
    }
}

/// A request for a topic.
pub fn topic(name: &str, queues: u32) -> PutTopicRequest {
    PutTopicRequest { name: name.into(), queues: Some(queues), ..Default::default() }
}

/// A request for a group.
pub fn group(name: &str) -> PutGroupRequest {
    PutGroupRequest { name: name.into(), ..Default::default() }
}
