//! Lite topics: which of them a client consumes, and which clients a group is for.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use centaur_apis::{
    log::Group,
    store::{Error, LiteOffset, Reason, SyncLiteRequest, lite_offset::At, sync_lite_request::Action},
    v2::{
        ClientType, Code, LiteSubscriptionAction, OffsetOption, Subscription, SyncLiteSubscriptionRequest,
        SyncLiteSubscriptionResponse,
        offset_option::{OffsetType, Policy},
    },
};
use tokio::time::Instant;

use super::{receive::too_many_clients, settings::lite_quota};
use crate::{
    Inner,
    caller::Caller,
    refusal::{self, Refusal},
    sessions::{Sign, is_lite},
    stores::Client,
    validate,
};

/// Names in one request beyond the quota: the store counts exactly, this only bounds the work.
const NAMES_BEYOND_QUOTA: usize = 300;
/// Requests that add subscriptions in a second, of all clients; source: public contract, SyncLiteSubscription.
const ADDITIONS_PER_SECOND: u32 = 5_000;
const SECOND: Duration = Duration::from_secs(1);

/// Says what a client of a lite group consumes.
pub(crate) async fn sync(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: SyncLiteSubscriptionRequest,
) -> Result<SyncLiteSubscriptionResponse, Refusal> {
    let Some(_) = proxy.sessions.enter(caller, Sign::Receives) else { return Err(too_many_clients(proxy)) };
    let topic = validate::topic(request.topic.as_ref())?.to_owned();
    let group = validate::group(request.group.as_ref())?.to_owned();
    let action = action(request.action)?;
    let stored = proxy.routes.group(&group).await?;
    match &stored {
        Some(stored) => {
            fits(ClientType::LitePushConsumer, Some(stored))?;
            bound_to(stored, &topic)?;
        }
        None if !proxy.config.create_groups_on_demand => return Err(no_group(&group)),
        None => {}
    }
    if matches!(action, Action::PartialAdd | Action::CompleteAdd) {
        request.lite_topic_set.iter().try_for_each(|name| validate::lite_topic_name(name))?;
    }
    let most = NAMES_BEYOND_QUOTA.saturating_add(lite_quota(stored.as_deref()) as usize);
    if request.lite_topic_set.len() > most {
        let text = format!("lite_topic_set has {} names; at most {most} are allowed", request.lite_topic_set.len());
        return Err(Refusal::new(Code::LiteSubscriptionQuotaExceeded, text));
    }
    if action == Action::PartialAdd && !proxy.lite_pace.allows(Instant::now()) {
        let text = format!(
            "{ADDITIONS_PER_SECOND} requests to add subscriptions came within a second; send fewer, with more in each"
        );
        return Err(Refusal::new(Code::TooManyRequests, text));
    }
    let sync = SyncLiteRequest {
        topic,
        group,
        client: caller.client.to_owned(),
        action: action.into(),
        lite_topics: request.lite_topic_set,
        offset: request.offset_option.as_ref().filter(|_| action == Action::PartialAdd).and_then(place),
        version: u64::try_from(request.version.unwrap_or(0)).unwrap_or(0),
        create_group: proxy.config.create_groups_on_demand,
    };
    let is_new = stored.is_none();
    let name = sync.group.clone();
    tell(proxy, sync).await?;
    if is_new {
        proxy.routes.forget_group(&name);
    }
    Ok(SyncLiteSubscriptionResponse { status: Some(refusal::ok()) })
}

/// Makes the group of a lite client that nobody made, bound to the topic it subscribes to. `None`
/// when the store is away: the client starts with the defaults.
pub(crate) async fn bind(
    proxy: &Inner,
    client: &str,
    group: &str,
    subscription: &Subscription,
) -> Result<Option<Arc<Group>>, Refusal> {
    if !proxy.config.create_groups_on_demand {
        return Err(no_group(group));
    }
    let Some(entry) = subscription.subscriptions.first() else { return Ok(None) };
    let sync = SyncLiteRequest {
        topic: validate::topic(entry.topic.as_ref())?.to_owned(),
        group: group.to_owned(),
        client: client.to_owned(),
        action: Action::CompleteAdd.into(),
        create_group: true,
        ..Default::default()
    };
    match tell(proxy, sync).await {
        Ok(()) => {
            proxy.routes.forget_group(group);
            Ok(proxy.routes.group(group).await.unwrap_or_default())
        }
        Err(error) if is_the_clients_fault(error.reason()) => Err(error.into()),
        Err(error) => {
            tracing::debug!(client, group, error = error.message, "lite group not made yet");
            Ok(None)
        }
    }
}

fn is_the_clients_fault(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Invalid
            | Reason::IllegalGroup
            | Reason::IllegalTopic
            | Reason::TopicNotFound
            | Reason::GroupNotFound
            | Reason::TypeConflict
            | Reason::Forbidden
    )
}

async fn tell(proxy: &Inner, sync: SyncLiteRequest) -> Result<(), Error> {
    let call = |mut client: Client| {
        let sync = sync.clone();
        async move { client.sync_lite(sync).await }
    };
    proxy.stores.call(call).await.map(drop)
}

/// Whether a group is for clients of this kind. A group that is not known, or a client that did
/// not say what it is, is no reason to refuse.
pub(crate) fn fits(kind: ClientType, group: Option<&Group>) -> Result<(), Refusal> {
    let Some(group) = group.filter(|_| kind != ClientType::Unspecified) else { return Ok(()) };
    let illegal = |text: String| Err(Refusal::new(Code::IllegalConsumerGroup, text));
    match (is_lite(kind), group.lite.is_some()) {
        (true, false) => illegal(format!("group {:?} does not consume lite topics; use another", group.name)),
        (false, true) => {
            illegal(format!("group {:?} consumes lite topics only; use a lite consumer or another group", group.name))
        }
        _ => Ok(()),
    }
}

/// Whether a client subscribes to nothing but the topic its lite group is bound to.
pub(crate) fn same_topic(group: Option<&Group>, subscription: &Subscription) -> Result<(), Refusal> {
    let Some(group) = group.filter(|group| group.lite.is_some()) else { return Ok(()) };
    let topics = subscription.subscriptions.iter().filter_map(|entry| entry.topic.as_ref());
    topics.map(|topic| topic.name.as_str()).try_for_each(|topic| bound_to(group, topic))
}

fn bound_to(group: &Group, topic: &str) -> Result<(), Refusal> {
    match &group.lite {
        Some(lite) if lite.topic != topic => {
            let text = format!("group {:?} is bound to topic {:?}, not to {topic:?}", group.name, lite.topic);
            Err(Refusal::new(Code::IllegalTopic, text))
        }
        _ => Ok(()),
    }
}

fn no_group(group: &str) -> Refusal {
    Refusal::new(Code::IllegalConsumerGroup, format!("group {group:?} does not exist; create it first"))
}

fn action(said: i32) -> Result<Action, Refusal> {
    match LiteSubscriptionAction::try_from(said) {
        Ok(LiteSubscriptionAction::PartialAdd) => Ok(Action::PartialAdd),
        Ok(LiteSubscriptionAction::PartialRemove) => Ok(Action::PartialRemove),
        Ok(LiteSubscriptionAction::CompleteAdd) => Ok(Action::CompleteAdd),
        Ok(LiteSubscriptionAction::CompleteRemove) => Ok(Action::CompleteRemove),
        Err(_) => Err(Refusal::new(Code::BadRequest, format!("action is {said}; there are 0 to 3"))),
    }
}

/// Where the group begins in what is added; what lies outside is cut to the edge by the store.
fn place(option: &OffsetOption) -> Option<LiteOffset> {
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    let at = match option.offset_type? {
        OffsetType::Policy(policy) => match Policy::try_from(policy) {
            Ok(Policy::Min) => At::Earliest(true),
            Ok(Policy::Max) => At::Latest(true),
            Ok(Policy::Last) | Err(_) => At::Last(true),
        },
        OffsetType::Offset(offset) => At::Offset(whole(offset)),
        OffsetType::TailN(messages) => At::Tail(whole(messages)),
        OffsetType::Timestamp(ms) => At::FromMs(whole(ms)),
    };
    Some(LiteOffset { at: Some(at) })
}

/// How many requests add subscriptions in a second.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<(Instant, u32)>);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }

    /// Counts one more, if it is not one too many.
    fn allows(&self, now: Instant) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(counted.0) >= SECOND {
            *counted = (now, 0);
        }
        counted.1 = counted.1.saturating_add(1);
        counted.1 <= ADDITIONS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use centaur_apis::{
        log::Lite,
        v2::{Resource, SubscriptionEntry},
    };

    use super::*;

    fn lite_group() -> Group {
        let lite = Lite { topic: "rooms".into(), ..Default::default() };
        Group { name: "workers".into(), lite: Some(lite), ..Default::default() }
    }

    #[test]
    fn a_group_is_for_one_kind_of_clients() {
        let regular = Group::default();
        let check = |kind, group: &Group| fits(kind, Some(group)).map_err(|r| r.code);
        for kind in [ClientType::LitePushConsumer, ClientType::LiteSimpleConsumer] {
            assert_eq!(check(kind, &lite_group()), Ok(()));
            assert_eq!(check(kind, &regular), Err(Code::IllegalConsumerGroup));
        }
        for kind in [ClientType::PushConsumer, ClientType::SimpleConsumer, ClientType::PullConsumer] {
            assert_eq!(check(kind, &regular), Ok(()));
            assert_eq!(check(kind, &lite_group()), Err(Code::IllegalConsumerGroup));
        }
        assert_eq!(check(ClientType::Unspecified, &lite_group()), Ok(()));
        assert_eq!(fits(ClientType::LitePushConsumer, None), Ok(()));
    }

    #[test]
    fn a_lite_group_is_bound_to_its_topic() {
        let check = |group: &Group, topics: &[&str]| {
            let topic = |name: &&str| Some(Resource { name: (*name).to_owned(), ..Default::default() });
            let entry = |name| SubscriptionEntry { topic: topic(name), ..Default::default() };
            let subscription = Subscription { subscriptions: topics.iter().map(entry).collect(), ..Default::default() };
            same_topic(Some(group), &subscription).map_err(|r| r.code)
        };
        assert_eq!(check(&lite_group(), &[]), Ok(()));
        assert_eq!(check(&lite_group(), &["rooms"]), Ok(()));
        assert_eq!(check(&lite_group(), &["rooms", "halls"]), Err(Code::IllegalTopic));
        assert_eq!(check(&Group::default(), &["halls"]), Ok(()));
    }

    #[test]
    fn places_are_cut_to_what_there_can_be() {
        let at = |offset_type| place(&OffsetOption { offset_type }).and_then(|offset| offset.at);
        assert_eq!(at(None), None);
        assert_eq!(at(Some(OffsetType::Policy(0))), Some(At::Last(true)));
        assert_eq!(at(Some(OffsetType::Policy(1))), Some(At::Earliest(true)));
        assert_eq!(at(Some(OffsetType::Policy(2))), Some(At::Latest(true)));
        assert_eq!(at(Some(OffsetType::Policy(9))), Some(At::Last(true)));
        assert_eq!(at(Some(OffsetType::Offset(-7))), Some(At::Offset(0)));
        assert_eq!(at(Some(OffsetType::TailN(7))), Some(At::Tail(7)));
        assert_eq!(at(Some(OffsetType::Timestamp(7))), Some(At::FromMs(7)));
    }

    #[test]
    fn requests_to_add_subscriptions_have_a_pace() {
        let (pace, now) = (Pace::new(), Instant::now());
        let allowed = |now| (0..6_000).filter(|_| pace.allows(now)).count();
        assert_eq!(allowed(now), 5_000);
        assert_eq!(allowed(now + SECOND / 2), 0);
        assert_eq!(allowed(now + 2 * SECOND), 5_000);
    }
}
