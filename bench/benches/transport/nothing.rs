//! A store that does nothing, so that only the way to it is measured.

use centaur_apis::store::{
    AckRequest, AckResponse, AppendRequest, AppendResponse, BatchResult, ChangeVisibilityRequest,
    ChangeVisibilityResponse, DeadLetterRequest, DeadLetterResponse, DeleteGroupRequest, DeleteGroupResponse,
    DeleteTopicRequest, DeleteTopicResponse, DescribeGroupRequest, DescribeGroupResponse, DescribeRequest,
    DescribeResponse, DescribeTopicRequest, DescribeTopicResponse, EndSessionRequest, EndSessionResponse,
    EndTransactionRequest, EndTransactionResponse, EndTransactionsRequest, EndTransactionsResponse, GetGroupRequest,
    GetGroupResponse, GetOffsetRequest, GetOffsetResponse, ListGroupsRequest, ListGroupsResponse,
    ListLiteTopicsRequest, ListLiteTopicsResponse, ListNoticesRequest, ListNoticesResponse, ListScheduledRequest,
    ListScheduledResponse, ListTopicsRequest, ListTopicsResponse, ListTransactionsRequest, ListTransactionsResponse,
    PopRequest, PopResponse, PutGroupRequest, PutGroupResponse, PutTopicRequest, PutTopicResponse,
    QueryMessagesRequest, QueryMessagesResponse, QueryOffsetRequest, QueryOffsetResponse, ReadRequest, ReadResponse,
    RecallRequest, RecallResponse, RedriveRequest, RedriveResponse, ResetGroupRequest, ResetGroupResponse,
    SyncLiteRequest, SyncLiteResponse, TakeChecksRequest, TakeChecksResponse, TouchRequest, TouchResponse,
    store_server::Store,
};
use tonic::{Request, Response, Status, async_trait};

type Answer<T> = Result<Response<T>, Status>;

/// Answers an append with one result for each batch, and any other call with nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

fn empty<T: Default>() -> Answer<T> {
    Ok(Response::new(T::default()))
}

#[async_trait]
impl Store for Nothing {
    async fn append(&self, request: Request<AppendRequest>) -> Answer<AppendResponse> {
        let batches = request.into_inner().batches;
        let results =
            (0..batches.len() as u64).map(|offset| BatchResult { offsets: vec![offset], ..Default::default() });
        Ok(Response::new(AppendResponse { results: results.collect() }))
    }

    async fn pop(&self, _: Request<PopRequest>) -> Answer<PopResponse> {
        empty()
    }

    async fn ack(&self, _: Request<AckRequest>) -> Answer<AckResponse> {
        empty()
    }

    async fn change_visibility(&self, _: Request<ChangeVisibilityRequest>) -> Answer<ChangeVisibilityResponse> {
        empty()
    }

    async fn dead_letter(&self, _: Request<DeadLetterRequest>) -> Answer<DeadLetterResponse> {
        empty()
    }

    async fn touch(&self, _: Request<TouchRequest>) -> Answer<TouchResponse> {
        empty()
    }

    async fn end_session(&self, _: Request<EndSessionRequest>) -> Answer<EndSessionResponse> {
        empty()
    }

    async fn put_topic(&self, _: Request<PutTopicRequest>) -> Answer<PutTopicResponse> {
        empty()
    }

    async fn delete_topic(&self, _: Request<DeleteTopicRequest>) -> Answer<DeleteTopicResponse> {
        empty()
    }

    async fn list_topics(&self, _: Request<ListTopicsRequest>) -> Answer<ListTopicsResponse> {
        empty()
    }

    async fn describe_topic(&self, _: Request<DescribeTopicRequest>) -> Answer<DescribeTopicResponse> {
        empty()
    }

    async fn put_group(&self, _: Request<PutGroupRequest>) -> Answer<PutGroupResponse> {
        empty()
    }

    async fn delete_group(&self, _: Request<DeleteGroupRequest>) -> Answer<DeleteGroupResponse> {
        empty()
    }

    async fn list_groups(&self, _: Request<ListGroupsRequest>) -> Answer<ListGroupsResponse> {
        empty()
    }

    async fn describe_group(&self, _: Request<DescribeGroupRequest>) -> Answer<DescribeGroupResponse> {
        empty()
    }

    async fn get_group(&self, _: Request<GetGroupRequest>) -> Answer<GetGroupResponse> {
        empty()
    }

    async fn query_messages(&self, _: Request<QueryMessagesRequest>) -> Answer<QueryMessagesResponse> {
        empty()
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Answer<DescribeResponse> {
        empty()
    }

    async fn recall(&self, _: Request<RecallRequest>) -> Answer<RecallResponse> {
        empty()
    }

    async fn end_transaction(&self, _: Request<EndTransactionRequest>) -> Answer<EndTransactionResponse> {
        empty()
    }

    async fn end_transactions(&self, _: Request<EndTransactionsRequest>) -> Answer<EndTransactionsResponse> {
        empty()
    }

    async fn take_checks(&self, _: Request<TakeChecksRequest>) -> Answer<TakeChecksResponse> {
        empty()
    }

    async fn sync_lite(&self, _: Request<SyncLiteRequest>) -> Answer<SyncLiteResponse> {
        empty()
    }

    async fn list_notices(&self, _: Request<ListNoticesRequest>) -> Answer<ListNoticesResponse> {
        empty()
    }

    async fn read(&self, _: Request<ReadRequest>) -> Answer<ReadResponse> {
        empty()
    }

    async fn query_offset(&self, _: Request<QueryOffsetRequest>) -> Answer<QueryOffsetResponse> {
        empty()
    }

    async fn get_offset(&self, _: Request<GetOffsetRequest>) -> Answer<GetOffsetResponse> {
        empty()
    }

    async fn reset_group(&self, _: Request<ResetGroupRequest>) -> Answer<ResetGroupResponse> {
        empty()
    }

    async fn redrive(&self, _: Request<RedriveRequest>) -> Answer<RedriveResponse> {
        empty()
    }

    async fn list_scheduled(&self, _: Request<ListScheduledRequest>) -> Answer<ListScheduledResponse> {
        empty()
    }

    async fn list_transactions(&self, _: Request<ListTransactionsRequest>) -> Answer<ListTransactionsResponse> {
        empty()
    }

    async fn list_lite_topics(&self, _: Request<ListLiteTopicsRequest>) -> Answer<ListLiteTopicsResponse> {
        empty()
    }
}
