//! The bounds of the public contract, checked without touching anything but the request.

mod message;
mod receive;

use centaur_apis::{
    names::{GroupName, TopicName},
    v2::{Code, Endpoints, MessageQueue, Resource},
};
use prost_types::Duration;

use crate::refusal::Refusal;

pub(crate) use message::{
    LITE_TOPIC_BYTES_MAX, Limits, due_ms, effective_type, first_check_ms, lite_topic_name, message, ttl_ms, wall_ms,
};
pub(crate) use receive::{attempt, batch_size, filter, lease, polling};

/// Longest namespace of a topic or group, in bytes. It means nothing here, but is given back.
const NAMESPACE_BYTES_MAX: usize = 255;
/// Longest name of a host, in bytes; source: DNS.
const HOST_BYTES_MAX: usize = 255;
/// Longest invisible duration, in ms.
pub(crate) const INVISIBLE_MS_MAX: i64 = 12 * 60 * 60 * 1000;

/// The name of a topic that clients may use.
pub(crate) fn topic(resource: Option<&Resource>) -> Result<&str, Refusal> {
    let (namespace, name) = resource.map_or(("", ""), |r| (&r.resource_namespace, &r.name));
    topic_name(namespace, name)?;
    Ok(name)
}

/// A name that clients may use for a topic, and the namespace they put before it.
pub(crate) fn topic_name(namespace: &str, name: &str) -> Result<(), Refusal> {
    TopicName::check(name).map_err(|invalid| Refusal::new(Code::IllegalTopic, invalid.to_string()))?;
    check_namespace(namespace, Code::IllegalTopic)
}

/// The name of a consumer group that clients may use.
pub(crate) fn group(resource: Option<&Resource>) -> Result<&str, Refusal> {
    let (namespace, name) = resource.map_or(("", ""), |r| (&r.resource_namespace, &r.name));
    GroupName::check(name).map_err(|invalid| Refusal::new(Code::IllegalConsumerGroup, invalid.to_string()))?;
    check_namespace(namespace, Code::IllegalConsumerGroup)?;
    Ok(name)
}

fn check_namespace(namespace: &str, illegal: Code) -> Result<(), Refusal> {
    let bytes = namespace.len();
    if bytes > NAMESPACE_BYTES_MAX {
        let text = format!("resource_namespace has {bytes} bytes; at most {NAMESPACE_BYTES_MAX} are allowed");
        return Err(Refusal::new(illegal, text));
    }
    Ok(())
}

/// The addresses under which a client says it reaches this server.
pub(crate) fn endpoints(endpoints: Option<&Endpoints>) -> Result<(), Refusal> {
    let hosts = endpoints.into_iter().flat_map(|endpoints| &endpoints.addresses).map(|address| address.host.len());
    match hosts.max() {
        Some(bytes) if bytes > HOST_BYTES_MAX => {
            let text = format!("endpoints have a host of {bytes} bytes; at most {HOST_BYTES_MAX} are allowed");
            Err(Refusal::new(Code::IllegalAccessPoint, text))
        }
        _ => Ok(()),
    }
}

/// The queue and the topic that a request names.
pub(crate) fn queue(queue: Option<&MessageQueue>) -> Result<(&str, u32), Refusal> {
    let topic = topic(queue.and_then(|queue| queue.topic.as_ref()))?;
    let id = queue.map_or(0, |queue| queue.id);
    let at = u32::try_from(id).map_err(|_| {
        Refusal::new(Code::BadRequest, format!("message_queue has the id {id}; name one queue, from 0 on"))
    })?;
    Ok((topic, at))
}

/// A place in a queue.
pub(crate) fn offset(offset: i64) -> Result<u64, Refusal> {
    u64::try_from(offset)
        .map_err(|_| Refusal::new(Code::IllegalOffset, format!("offset is {offset}; at least 0 is needed")))
}

/// The new invisible duration of one message, in ms; 0 makes it visible at once.
pub(crate) fn changed_invisible(duration: Option<&Duration>) -> Result<u64, Refusal> {
    let ms = duration.map_or(0, millis);
    in_bounds(ms, 0)
}

fn in_bounds(ms: i64, min: i64) -> Result<u64, Refusal> {
    if !(min..=INVISIBLE_MS_MAX).contains(&ms) {
        let message = format!("invisible_duration is {ms} ms; {min} to {INVISIBLE_MS_MAX} ms are allowed");
        return Err(Refusal::new(Code::IllegalInvisibleTime, message));
    }
    Ok(ms.unsigned_abs())
}

/// A duration in ms, cut to what fits; clients send whatever they like.
pub(crate) fn millis(duration: &Duration) -> i64 {
    duration.seconds.saturating_mul(1000).saturating_add(i64::from(duration.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::Address;

    use super::*;

    fn named(name: &str) -> Resource {
        Resource { resource_namespace: String::new(), name: name.to_owned() }
    }

    #[test]
    fn names_are_refused_with_their_own_codes() {
        let code = |name: &str| topic(Some(&named(name))).map(str::len).map_err(|r| r.code);
        assert_eq!(code(&"t".repeat(127)), Ok(127));
        assert_eq!(code("%DLQ%workers"), Ok(12));
        for illegal in ["", " ", "a b", "TBW102", "rmq_sys_x", &"t".repeat(128)] {
            assert_eq!(code(illegal), Err(Code::IllegalTopic), "{illegal:?}");
        }
        assert_eq!(topic(None).map_err(|r| r.code), Err(Code::IllegalTopic));

        let code = |name: &str| group(Some(&named(name))).map(str::len).map_err(|r| r.code);
        assert_eq!(code(&"g".repeat(120)), Ok(120));
        for illegal in ["", "a.b", "CID_RMQ_SYS_x", &"g".repeat(121)] {
            assert_eq!(code(illegal), Err(Code::IllegalConsumerGroup), "{illegal:?}");
        }
    }

    #[test]
    fn what_is_given_back_has_bounds() {
        let in_namespace = |bytes| Resource { resource_namespace: "n".repeat(bytes), name: "orders".to_owned() };
        assert!(topic(Some(&in_namespace(255))).is_ok() && group(Some(&in_namespace(255))).is_ok());
        assert_eq!(topic(Some(&in_namespace(256))).map_err(|r| r.code), Err(Code::IllegalTopic));
        assert_eq!(group(Some(&in_namespace(256))).map_err(|r| r.code), Err(Code::IllegalConsumerGroup));
        let at = |bytes| Endpoints {
            addresses: vec![Address::default(), Address { host: "h".repeat(bytes), port: 8081 }],
            ..Default::default()
        };
        assert!(endpoints(None).is_ok() && endpoints(Some(&at(255))).is_ok());
        assert_eq!(endpoints(Some(&at(256))).map_err(|r| r.code), Err(Code::IllegalAccessPoint));
    }

    #[test]
    fn one_queue_is_named() {
        let check = |topic, id| {
            let named = MessageQueue { topic: Some(named(topic)), id, ..Default::default() };
            queue(Some(&named)).map(|(topic, id)| (topic.len(), id)).map_err(|r| r.code)
        };
        assert_eq!(check("orders", 7), Ok((6, 7)));
        assert_eq!(check("orders", -1), Err(Code::BadRequest));
        assert_eq!(check("a b", 0), Err(Code::IllegalTopic));
        assert_eq!(queue(None).map_err(|r| r.code), Err(Code::IllegalTopic));
        assert_eq!(offset(5), Ok(5));
        assert_eq!(offset(-5).map_err(|r| r.code), Err(Code::IllegalOffset));
    }

    #[test]
    fn a_changed_invisible_duration_has_bounds() {
        let code = |seconds, nanos| changed_invisible(Some(&Duration { seconds, nanos })).map_err(|r| r.code);
        assert_eq!(changed_invisible(None).map_err(|r| r.code), Ok(0));
        assert_eq!(code(0, 0), Ok(0));
        assert_eq!(code(1, 500_000_000), Ok(1500));
        assert_eq!(code(43_200, 0), Ok(43_200_000));
        assert_eq!(code(43_200, 1_000_000), Err(Code::IllegalInvisibleTime));
        assert_eq!(code(-1, 0), Err(Code::IllegalInvisibleTime));
        assert_eq!(code(i64::MAX, i32::MAX), Err(Code::IllegalInvisibleTime));
        assert_eq!(code(i64::MIN, i32::MIN), Err(Code::IllegalInvisibleTime));
    }
}
