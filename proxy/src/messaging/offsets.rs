//! UpdateOffset, GetOffset and QueryOffset: places in one queue, for consumers that keep their own.

use centaur_apis::{
    store::{self, Reason, query_offset_request::At, reset_group_request::To},
    v2::{
        Code, GetOffsetRequest, GetOffsetResponse, QueryOffsetPolicy, QueryOffsetRequest, QueryOffsetResponse,
        UpdateOffsetRequest, UpdateOffsetResponse,
    },
};

use crate::{
    Inner,
    caller::Caller,
    refusal::{self, Refusal},
    sessions::Sign,
    stores::Client,
    validate,
};

/// Puts a group at a place in one queue; what it has in hand there is void.
pub(crate) async fn update(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: UpdateOffsetRequest,
) -> Result<UpdateOffsetResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Active);
    let group = validate::group(request.group.as_ref())?.to_owned();
    let (topic, queue) = validate::queue(request.message_queue.as_ref())?;
    let reset = store::ResetGroupRequest {
        group,
        topic: topic.to_owned(),
        queue: Some(queue),
        to: Some(To::Offset(validate::offset(request.offset)?)),
        dry_run: false,
        strict: true,
        create_group: proxy.config.create_groups_on_demand,
    };
    let call = |mut client: Client| {
        let reset = reset.clone();
        async move { client.reset_group(reset).await }
    };
    proxy.stores.call(call).await?;
    Ok(UpdateOffsetResponse { status: Some(refusal::ok()) })
}

/// Where a group is in one queue; a group nobody knows is nowhere.
pub(crate) async fn get(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: GetOffsetRequest,
) -> Result<GetOffsetResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Active);
    let group = validate::group(request.group.as_ref())?.to_owned();
    let (topic, queue) = validate::queue(request.message_queue.as_ref())?;
    let get = store::GetOffsetRequest { group, topic: topic.to_owned(), queue };
    let call = |mut client: Client| {
        let get = get.clone();
        async move { client.get_offset(get).await }
    };
    match proxy.stores.call(call).await {
        Ok(got) => Ok(GetOffsetResponse { status: Some(refusal::ok()), offset: signed(got.offset) }),
        Err(error) if error.reason() == Reason::GroupNotFound => Err(Refusal::new(Code::OffsetNotFound, error.message)),
        Err(error) => Err(error.into()),
    }
}

/// Where a queue begins or ends, or what was stored at a time.
pub(crate) async fn query(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: QueryOffsetRequest,
) -> Result<QueryOffsetResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Active);
    let (topic, queue) = validate::queue(request.message_queue.as_ref())?;
    let query = store::QueryOffsetRequest { topic: topic.to_owned(), queue, at: Some(place(&request)?) };
    let call = |mut client: Client| {
        let query = query.clone();
        async move { client.query_offset(query).await }
    };
    let found = proxy.stores.call(call).await?;
    Ok(QueryOffsetResponse { status: Some(refusal::ok()), offset: signed(found.offset) })
}

fn place(request: &QueryOffsetRequest) -> Result<At, Refusal> {
    let bad = |text: String| Err(Refusal::new(Code::BadRequest, text));
    match (QueryOffsetPolicy::try_from(request.query_offset_policy), &request.timestamp) {
        (Ok(QueryOffsetPolicy::Beginning), _) => Ok(At::Earliest(true)),
        (Ok(QueryOffsetPolicy::End), _) => Ok(At::Latest(true)),
        (Ok(QueryOffsetPolicy::Timestamp), Some(at)) => Ok(At::FromMs(validate::wall_ms(at))),
        (Ok(QueryOffsetPolicy::Timestamp), None) => bad("timestamp is missing; the policy TIMESTAMP needs it".into()),
        (Err(_), _) => bad(format!("query_offset_policy is {}; there are 0 to 2", request.query_offset_policy)),
    }
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_place_is_an_end_or_a_time() {
        let check = |query_offset_policy, timestamp| {
            place(&QueryOffsetRequest { query_offset_policy, timestamp, ..Default::default() }).map_err(|r| r.code)
        };
        let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
        assert_eq!(check(0, None), Ok(At::Earliest(true)));
        assert_eq!(check(1, at(5, 0)), Ok(At::Latest(true)));
        assert_eq!(check(2, at(5, 7_000_001)), Ok(At::FromMs(5_007)));
        assert_eq!(check(2, at(-5, 0)), Ok(At::FromMs(0)));
        assert_eq!(check(2, None), Err(Code::BadRequest));
        assert_eq!(check(9, None), Err(Code::BadRequest));
    }
}
