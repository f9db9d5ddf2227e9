//! What operators ask: forwarded to the store, connected clients aside, which only the proxy knows.

use std::{future::Future, sync::Arc};

use centaur_apis::{
    admin::{
        ListClientsRequest, ListClientsResponse, PrintStackRequest, PrintStackResponse, ReconnectClientsRequest,
        ReconnectClientsResponse, VerifyMessageRequest, VerifyMessageResponse, admin_server::Admin,
    },
    store,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{Inner, clients, stores::Client};

/// The generated trait over one proxy.
pub(crate) struct Operators(Arc<Inner>);

type Answered<T> = Result<Response<T>, Status>;

impl Operators {
    pub(crate) fn new(proxy: Arc<Inner>) -> Self {
        Self(proxy)
    }

    async fn forward<R, F>(&self, call: impl Fn(Client) -> F) -> Answered<R>
    where
        F: Future<Output = Answered<R>>,
    {
        Ok(Response::new(self.0.stores.call(call).await?))
    }
}

// One method: the request goes to the store as it came.
macro_rules! forward {
    ($self:ident, $request:ident, $method:ident) => {{
        let request = $request.into_inner();
        let call = |mut store: Client| {
            let request = request.clone();
            async move { store.$method(request).await }
        };
        $self.forward(call).await
    }};
}

#[tonic::async_trait]
impl Admin for Operators {
    async fn put_topic(&self, request: Request<store::PutTopicRequest>) -> Answered<store::PutTopicResponse> {
        let name = request.get_ref().name.clone();
        let answer = forward!(self, request, put_topic);
        self.0.routes.forget_topic(&name);
        answer
    }

    async fn delete_topic(&self, request: Request<store::DeleteTopicRequest>) -> Answered<store::DeleteTopicResponse> {
        let name = request.get_ref().name.clone();
        let answer = forward!(self, request, delete_topic);
        self.0.routes.forget_topic(&name);
        answer
    }

    async fn list_topics(&self, request: Request<store::ListTopicsRequest>) -> Answered<store::ListTopicsResponse> {
        forward!(self, request, list_topics)
    }

    async fn describe_topic(
        &self,
        request: Request<store::DescribeTopicRequest>,
    ) -> Answered<store::DescribeTopicResponse> {
        forward!(self, request, describe_topic)
    }

    async fn put_group(&self, request: Request<store::PutGroupRequest>) -> Answered<store::PutGroupResponse> {
        let name = request.get_ref().name.clone();
        let answer = forward!(self, request, put_group);
        self.0.routes.forget_group(&name);
        answer
    }

    async fn delete_group(&self, request: Request<store::DeleteGroupRequest>) -> Answered<store::DeleteGroupResponse> {
        let name = request.get_ref().name.clone();
        let answer = forward!(self, request, delete_group);
        self.0.routes.forget_group(&name);
        answer
    }

    async fn list_groups(&self, request: Request<store::ListGroupsRequest>) -> Answered<store::ListGroupsResponse> {
        forward!(self, request, list_groups)
    }

    async fn describe_group(
        &self,
        request: Request<store::DescribeGroupRequest>,
    ) -> Answered<store::DescribeGroupResponse> {
        let name = request.get_ref().name.clone();
        let mut answer = forward!(self, request, describe_group)?;
        answer.get_mut().clients = self.0.sessions.consumers(&name);
        Ok(answer)
    }

    async fn query_messages(
        &self,
        request: Request<store::QueryMessagesRequest>,
    ) -> Answered<store::QueryMessagesResponse> {
        forward!(self, request, query_messages)
    }

    async fn describe(&self, request: Request<store::DescribeRequest>) -> Answered<store::DescribeResponse> {
        forward!(self, request, describe)
    }

    async fn reset_group(&self, request: Request<store::ResetGroupRequest>) -> Answered<store::ResetGroupResponse> {
        forward!(self, request, reset_group)
    }

    async fn redrive(&self, request: Request<store::RedriveRequest>) -> Answered<store::RedriveResponse> {
        forward!(self, request, redrive)
    }

    async fn read(&self, request: Request<store::ReadRequest>) -> Answered<store::ReadResponse> {
        forward!(self, request, read)
    }

    async fn query_offset(&self, request: Request<store::QueryOffsetRequest>) -> Answered<store::QueryOffsetResponse> {
        forward!(self, request, query_offset)
    }

    async fn list_scheduled(
        &self,
        request: Request<store::ListScheduledRequest>,
    ) -> Answered<store::ListScheduledResponse> {
        forward!(self, request, list_scheduled)
    }

    async fn recall(&self, request: Request<store::RecallRequest>) -> Answered<store::RecallResponse> {
        forward!(self, request, recall)
    }

    async fn list_transactions(
        &self,
        request: Request<store::ListTransactionsRequest>,
    ) -> Answered<store::ListTransactionsResponse> {
        forward!(self, request, list_transactions)
    }

    async fn end_transaction(
        &self,
        request: Request<store::EndTransactionRequest>,
    ) -> Answered<store::EndTransactionResponse> {
        forward!(self, request, end_transaction)
    }

    async fn list_lite_topics(
        &self,
        request: Request<store::ListLiteTopicsRequest>,
    ) -> Answered<store::ListLiteTopicsResponse> {
        forward!(self, request, list_lite_topics)
    }

    async fn print_stack(&self, request: Request<PrintStackRequest>) -> Answered<PrintStackResponse> {
        clients::print_stack(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn verify_message(&self, request: Request<VerifyMessageRequest>) -> Answered<VerifyMessageResponse> {
        clients::verify_message(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn reconnect_clients(&self, request: Request<ReconnectClientsRequest>) -> Answered<ReconnectClientsResponse> {
        Ok(Response::new(clients::reconnect(&self.0, request.get_ref())))
    }

    async fn list_clients(&self, _: Request<ListClientsRequest>) -> Answered<ListClientsResponse> {
        let mut clients = self.0.sessions.list(Instant::now());
        clients.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(Response::new(ListClientsResponse { clients }))
    }
}
