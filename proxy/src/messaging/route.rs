//! QueryRoute and QueryAssignment: where the queues of a topic are, and which of them a consumer
//! reads.

use std::net::IpAddr;

use centaur_apis::{
    log::{Permission as StoredPermission, TopicType},
    names::{DEAD_LETTER_PREFIX, RETRY_PREFIX},
    v2::{
        self, AddressScheme, Assignment, Broker, Code, Endpoints, MessageQueue, MessageType, Permission,
        QueryAssignmentRequest, QueryAssignmentResponse, QueryRouteRequest, QueryRouteResponse, Resource,
    },
};
use http::uri::Authority;

use crate::{
    Inner,
    caller::Caller,
    config::Address,
    refusal::{self, Refusal},
    sessions::Sign,
    topic_routes::Route,
    validate,
};

/// Queue id of an assignment that stands for all queues of a broker.
const ANY_QUEUE: i32 = -1;
/// Addresses of a client's endpoints that are given back to it.
const ADDRESSES_MAX: usize = 16;
/// Port of an address without one.
const DEFAULT_PORT: u16 = 80;

pub(crate) async fn query_route(
    proxy: &Inner,
    caller: &Caller<'_>,
    dialled: Option<&Authority>,
    request: QueryRouteRequest,
) -> Result<QueryRouteResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?;
    validate::endpoints(request.endpoints.as_ref())?;
    let route = match proxy.routes.topic(topic).await {
        Err(refusal) if refusal.code == Code::TopicNotFound && may_create(proxy, topic) => {
            proxy.routes.create_topic(topic).await?
        }
        found => found?,
    };
    let broker = broker(proxy, request.endpoints.as_ref(), dialled);
    let types: Vec<i32> = accepted(route.kind).iter().map(|kind| i32::from(*kind)).collect();
    let queue = |id: u32| MessageQueue {
        topic: request.topic.clone(),
        id: i32::try_from(id).unwrap_or(i32::MAX),
        permission: permission(route.permission).into(),
        broker: Some(broker.clone()),
        accept_message_types: types.clone(),
    };
    let message_queues = (0..route.queues).map(queue).collect();
    Ok(QueryRouteResponse { status: Some(refusal::ok()), message_queues })
}

/// The same for every consumer of a group: balancing happens as messages are handed out.
pub(crate) async fn query_assignment(
    proxy: &Inner,
    caller: &Caller<'_>,
    dialled: Option<&Authority>,
    request: QueryAssignmentRequest,
) -> Result<QueryAssignmentResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?;
    let group = validate::group(request.group.as_ref())?;
    validate::endpoints(request.endpoints.as_ref())?;
    let route = proxy.routes.topic(topic).await?;
    if !route.is_readable() {
        let text =
            format!("topic {topic:?} has no readable queue; its permission is {}", route.permission.as_str_name());
        return Err(Refusal::new(Code::Forbidden, text));
    }
    // Of lite topics a client gets those it subscribed to, whatever the queue.
    let is_ordered = proxy.routes.group(group).await?.is_some_and(|group| group.fifo && group.lite.is_none());
    let broker = broker(proxy, request.endpoints.as_ref(), dialled);
    let assignments = queue_ids(&route, is_ordered)
        .map(|id| assignment(request.topic.as_ref(), id, route.permission, &broker))
        .collect();
    Ok(QueryAssignmentResponse { status: Some(refusal::ok()), assignments })
}

fn queue_ids(route: &Route, is_ordered: bool) -> impl Iterator<Item = i32> {
    let queues = i32::try_from(route.queues).unwrap_or(i32::MAX);
    if is_ordered { 0..queues } else { ANY_QUEUE..ANY_QUEUE + 1 }
}

fn assignment(topic: Option<&Resource>, id: i32, stored: StoredPermission, broker: &Broker) -> Assignment {
    let queue = MessageQueue {
        topic: topic.cloned(),
        id,
        permission: permission(stored).into(),
        broker: Some(broker.clone()),
        accept_message_types: Vec::new(),
    };
    Assignment { message_queue: Some(queue) }
}

fn may_create(proxy: &Inner, topic: &str) -> bool {
    let is_derived = topic.starts_with(DEAD_LETTER_PREFIX) || topic.starts_with(RETRY_PREFIX);
    proxy.config.create_topics_on_demand && !is_derived
}

fn accepted(kind: TopicType) -> &'static [MessageType] {
    match kind {
        TopicType::Unspecified | TopicType::Normal => &[MessageType::Normal],
        TopicType::Fifo => &[MessageType::Fifo],
        TopicType::Delay => &[MessageType::Delay],
        TopicType::Transaction => &[MessageType::Transaction],
        TopicType::Lite => &[MessageType::Lite],
        TopicType::Priority => &[MessageType::Priority],
        TopicType::Mixed => &[MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction],
    }
}

fn permission(stored: StoredPermission) -> Permission {
    match stored {
        StoredPermission::None => Permission::None,
        StoredPermission::Read => Permission::Read,
        StoredPermission::Write => Permission::Write,
        StoredPermission::ReadWrite => Permission::ReadWrite,
    }
}

fn broker(proxy: &Inner, asked: Option<&Endpoints>, dialled: Option<&Authority>) -> Broker {
    let endpoints = endpoints(proxy.config.advertised.as_ref(), asked, dialled);
    Broker { name: proxy.config.store_group.as_str().to_owned(), id: 0, endpoints: Some(endpoints) }
}

/// Where a client reaches this server: as configured, else as it says it did, else as the
/// connection says it did. Always with a scheme and an address, of domain names exactly one.
fn endpoints(advertised: Option<&Address>, asked: Option<&Endpoints>, dialled: Option<&Authority>) -> Endpoints {
    if let Some(Address { host, port }) = advertised {
        return one(host, *port);
    }
    match asked {
        Some(asked) if !asked.addresses.is_empty() => {
            let scheme = match asked.scheme() {
                AddressScheme::Unspecified => scheme_of(&asked.addresses[0].host),
                said => said,
            };
            let most = if scheme == AddressScheme::DomainName { 1 } else { ADDRESSES_MAX };
            Endpoints { scheme: scheme.into(), addresses: asked.addresses.iter().take(most).cloned().collect() }
        }
        _ => match dialled {
            Some(dialled) => one(dialled.host(), dialled.port_u16().unwrap_or(DEFAULT_PORT)),
            None => one("localhost", DEFAULT_PORT),
        },
    }
}

fn one(host: &str, port: u16) -> Endpoints {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let scheme = scheme_of(&host);
    Endpoints { scheme: scheme.into(), addresses: vec![v2::Address { host, port: port.into() }] }
}

fn scheme_of(host: &str) -> AddressScheme {
    match host.parse() {
        Ok(IpAddr::V4(_)) => AddressScheme::IPv4,
        Ok(IpAddr::V6(_)) => AddressScheme::IPv6,
        Err(_) => AddressScheme::DomainName,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(scheme: AddressScheme, hosts: &[&str]) -> Endpoints {
        let addresses = hosts.iter().map(|host| v2::Address { host: (*host).to_owned(), port: 8081 }).collect();
        Endpoints { scheme: scheme.into(), addresses }
    }

    #[test]
    fn clients_get_back_what_they_dialled() {
        let two = asked(AddressScheme::IPv4, &["10.0.0.1", "10.0.0.2"]);
        assert_eq!(endpoints(None, Some(&two), None), two);
        let names = asked(AddressScheme::DomainName, &["mq.example", "mq2.example"]);
        assert_eq!(endpoints(None, Some(&names), None), asked(AddressScheme::DomainName, &["mq.example"]));
        let bare = asked(AddressScheme::Unspecified, &["::1"]);
        assert_eq!(endpoints(None, Some(&bare), None), asked(AddressScheme::IPv6, &["::1"]));
    }

    #[test]
    fn clients_that_say_nothing_get_a_usable_address() {
        let empty = Endpoints::default();
        let authority: Authority = "[::1]:8081".parse().expect("an authority");
        assert_eq!(endpoints(None, Some(&empty), Some(&authority)), asked(AddressScheme::IPv6, &["::1"]));
        let nothing = endpoints(None, None, None);
        assert_eq!((nothing.scheme(), nothing.addresses.len()), (AddressScheme::DomainName, 1));
        let advertised = Address { host: "mq.example".into(), port: 8081 };
        let other = asked(AddressScheme::IPv4, &["10.0.0.1"]);
        let given = endpoints(Some(&advertised), Some(&other), Some(&authority));
        assert_eq!(given, asked(AddressScheme::DomainName, &["mq.example"]));
    }

    #[test]
    fn a_mixed_topic_takes_four_types() {
        assert_eq!(accepted(TopicType::Mixed).len(), 4);
        for kind in [TopicType::Normal, TopicType::Fifo, TopicType::Delay, TopicType::Lite, TopicType::Unspecified] {
            assert_eq!(accepted(kind).len(), 1, "{kind:?}");
        }
    }
}
