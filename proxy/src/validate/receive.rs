//! What a receive may ask for: polling time, lease and filter.

use std::time::Duration;

use centaur_apis::{
    store::{Filter, filter::Kind},
    v2::{Code, FilterExpression, FilterType, ReceiveMessageRequest},
};

use super::{in_bounds, millis};
use crate::refusal::Refusal;

/// Shortest and longest time a receive waits.
const POLLING_MIN: Duration = Duration::from_secs(5);
const POLLING_MAX: Duration = Duration::from_secs(20);
/// An answer is given this long before the caller stops waiting.
const POLLING_RESERVE: Duration = Duration::from_millis(200);
/// What a client waits for an answer when it did not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Clients before this version do not know `ILLEGAL_POLLING_TIME`; versions compare as text.
const POLLING_CODE_SINCE: &str = "5.0.3";

/// Shortest lease of a client that renews for itself, in ms.
const INVISIBLE_MS_MIN: i64 = 10_000;
/// Lease shown for a client whose leases live as long as it does, in ms.
const SESSION_INVISIBLE_MS: u64 = 60_000;
/// Longest filter expression and attempt id, in bytes: a parked receive keeps both.
const FILTER_BYTES_MAX: usize = 16 << 10;
const ATTEMPT_BYTES_MAX: usize = 1024;
/// Most messages in one answer.
const BATCH_MAX: u32 = 32;

/// How long a request waits for a message; source: public contract, ReceiveMessage.
pub(crate) fn polling(
    wanted: Option<&prost_types::Duration>,
    remaining: Option<Duration>,
    request_timeout: Option<Duration>,
    version: &str,
) -> Result<Duration, Refusal> {
    let request_timeout = request_timeout.unwrap_or(REQUEST_TIMEOUT);
    let wanted = match (wanted, remaining) {
        (Some(wanted), _) => Duration::from_millis(u64::try_from(millis(wanted)).unwrap_or(0)),
        (None, Some(remaining)) => remaining.saturating_sub(request_timeout / 2),
        (None, None) => POLLING_MAX,
    };
    let polling = wanted.clamp(POLLING_MIN, POLLING_MAX);
    let Some(remaining) = remaining else { return Ok(polling) };
    if remaining < POLLING_MIN {
        let code = if version < POLLING_CODE_SINCE { Code::BadRequest } else { Code::IllegalPollingTime };
        let message = format!(
            "the deadline leaves {} ms for long polling; at least {} ms are needed",
            remaining.as_millis(),
            POLLING_MIN.as_millis()
        );
        return Err(Refusal::new(code, message));
    }
    Ok(polling.min(remaining - POLLING_RESERVE))
}

/// The lease a receive asks for: its length in ms, and whether it lives as long as the client.
pub(crate) fn lease(request: &ReceiveMessageRequest) -> Result<(u64, bool), Refusal> {
    if request.auto_renew {
        return Ok((SESSION_INVISIBLE_MS, true));
    }
    let ms = request.invisible_duration.as_ref().map_or(0, millis);
    Ok((in_bounds(ms, INVISIBLE_MS_MIN)?, false))
}

/// How many messages an answer may have.
pub(crate) fn batch_size(asked: i32) -> u32 {
    u32::try_from(asked).unwrap_or(0).clamp(1, BATCH_MAX)
}

/// Which messages are wanted. An absent expression means all of them.
pub(crate) fn filter(expression: Option<&FilterExpression>) -> Result<Filter, Refusal> {
    let all = Filter { kind: Kind::All.into(), ..Default::default() };
    let Some(filter) = expression else { return Ok(all) };
    let text = filter.expression.trim();
    let bytes = filter.expression.len();
    if bytes > FILTER_BYTES_MAX {
        let message = format!("filter_expression has {bytes} bytes; at most {FILTER_BYTES_MAX} are allowed");
        return Err(Refusal::new(Code::IllegalFilterExpression, message));
    }
    match filter.r#type() {
        FilterType::Sql if text.is_empty() => {
            let message = "filter_expression of type SQL is empty; give a condition";
            Err(Refusal::new(Code::IllegalFilterExpression, message))
        }
        // With its blanks: what is wrong with it is told by its place.
        FilterType::Sql => Ok(Filter { kind: Kind::Sql.into(), sql: filter.expression.clone(), ..Default::default() }),
        FilterType::Tag | FilterType::Unspecified if text.is_empty() || text == "*" => Ok(all),
        FilterType::Tag | FilterType::Unspecified => {
            let tags: Vec<String> =
                text.split("||").map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
            if tags.is_empty() {
                let message = format!("filter_expression {text:?} names no tag; give tags separated by '||', or '*'");
                return Err(Refusal::new(Code::IllegalFilterExpression, message));
            }
            Ok(Filter { kind: Kind::Tags.into(), tags, ..Default::default() })
        }
    }
}

/// What tells one try of a receive from another; empty when the client does not say.
pub(crate) fn attempt(request: &ReceiveMessageRequest) -> Result<&str, Refusal> {
    let id = request.attempt_id.as_deref().unwrap_or("");
    if id.len() > ATTEMPT_BYTES_MAX {
        let message = format!("attempt_id has {} bytes; at most {ATTEMPT_BYTES_MAX} are allowed", id.len());
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn polling_stays_within_bounds_and_the_deadline() {
        let check = |wanted: Option<i64>, remaining: Option<u64>, version: &str| {
            polling(wanted.map(seconds).as_ref(), remaining.map(Duration::from_millis), None, version)
                .map(|d| d.as_millis())
                .map_err(|r| r.code)
        };
        assert_eq!(check(Some(1), None, "5.0.4"), Ok(5_000), "raised");
        assert_eq!(check(Some(60), None, "5.0.4"), Ok(20_000), "lowered");
        assert_eq!(check(Some(-3), None, "5.0.4"), Ok(5_000));
        assert_eq!(check(None, None, ""), Ok(20_000));
        assert_eq!(check(None, Some(11_500), ""), Ok(10_000), "half the request timeout is kept");
        assert_eq!(check(Some(20), Some(23_000), "5.0.4"), Ok(20_000));
        assert_eq!(check(Some(40), Some(40_000), "5.0.0"), Ok(20_000));
        assert_eq!(check(Some(20), Some(10_000), "5.0.4"), Ok(9_800), "before the deadline");
        assert_eq!(check(Some(5), Some(5_000), "5.0.4"), Ok(4_800));
        assert_eq!(check(Some(5), Some(4_999), "5.0.3"), Err(Code::IllegalPollingTime));
        assert_eq!(check(Some(5), Some(4_999), "5.0.2"), Err(Code::BadRequest));
        assert_eq!(check(None, Some(0), ""), Err(Code::BadRequest));
    }

    #[test]
    fn a_lease_is_bounded_unless_renewed() {
        let check = |invisible: Option<i64>, auto_renew: bool| {
            let invisible_duration = invisible.map(seconds);
            lease(&ReceiveMessageRequest { invisible_duration, auto_renew, ..Default::default() }).map_err(|r| r.code)
        };
        assert_eq!(check(Some(10), false), Ok((10_000, false)));
        assert_eq!(check(Some(43_200), false), Ok((43_200_000, false)));
        for outside in [None, Some(9), Some(-10), Some(43_201), Some(i64::MAX)] {
            assert_eq!(check(outside, false), Err(Code::IllegalInvisibleTime), "{outside:?}");
        }
        assert_eq!(check(None, true), Ok((60_000, true)));
        assert_eq!(check(Some(1), true), Ok((60_000, true)));
    }

    #[test]
    fn batches_are_cut_to_size() {
        for (asked, given) in [(0, 1), (-5, 1), (1, 1), (32, 32), (33, 32), (100, 32)] {
            assert_eq!(batch_size(asked), given);
        }
    }

    #[test]
    fn filters_are_read() {
        let check = |kind: FilterType, expression: &str| {
            let expression = FilterExpression { r#type: kind.into(), expression: expression.to_owned() };
            filter(Some(&expression)).map(|f| (f.kind(), f.tags, f.sql)).map_err(|r| r.code)
        };
        let all = || Ok((Kind::All, vec![], String::new()));
        assert_eq!(filter(None).map(|f| f.kind()).map_err(|r| r.code), Ok(Kind::All));
        assert_eq!(check(FilterType::Tag, ""), all());
        assert_eq!(check(FilterType::Tag, " * "), all());
        assert_eq!(check(FilterType::Unspecified, "*"), all());
        let tags = vec!["red".to_owned(), "green".to_owned()];
        assert_eq!(check(FilterType::Tag, "red || green||"), Ok((Kind::Tags, tags, String::new())));
        assert_eq!(check(FilterType::Tag, " || "), Err(Code::IllegalFilterExpression));
        assert_eq!(check(FilterType::Sql, "a > 1"), Ok((Kind::Sql, vec![], "a > 1".to_owned())));
        assert_eq!(check(FilterType::Sql, "\n a"), Ok((Kind::Sql, vec![], "\n a".to_owned())));
        assert_eq!(check(FilterType::Sql, " "), Err(Code::IllegalFilterExpression));
        let long = "a||".repeat(FILTER_BYTES_MAX / 3 + 1);
        assert_eq!(check(FilterType::Tag, &long), Err(Code::IllegalFilterExpression));
    }

    #[test]
    fn attempt_ids_are_short() {
        let check = |id: Option<String>| {
            let request = ReceiveMessageRequest { attempt_id: id, ..Default::default() };
            attempt(&request).map(str::len).map_err(|r| r.code)
        };
        assert_eq!(check(None), Ok(0));
        assert_eq!(check(Some("a".repeat(ATTEMPT_BYTES_MAX))), Ok(ATTEMPT_BYTES_MAX));
        assert_eq!(check(Some("a".repeat(ATTEMPT_BYTES_MAX + 1))), Err(Code::BadRequest));
    }
}
