//! What a client is told to do: its own settings with the server's decisions written over them.

use centaur_apis::{
    log,
    v2::{Metric, Publishing, RetryPolicy, Settings, Subscription, settings::PubSub},
};

use super::redelivery::{self, exponential, millis};
use crate::{sessions::is_lite, validate::LITE_TOPIC_BYTES_MAX};

/// Attempts of a producer to send one message.
const SEND_ATTEMPTS: i32 = 3;
/// Pauses between them.
const SEND_PAUSES: log::ExponentialBackoff = log::ExponentialBackoff { initial_ms: 10, max_ms: 1_000, multiplier: 2.0 };
/// Messages of one receive.
const RECEIVE_BATCH: i32 = 32;
/// Longest wait of one receive, in ms.
const LONG_POLLING_MS: u64 = 20_000;
/// Lite topics one client may subscribe to when its group does not say.
const LITE_SUBSCRIPTIONS_MAX: u32 = 2_000;

/// The answer to a client's settings; `group` is its consumer group as the store has it.
pub(crate) fn merged(mut settings: Settings, group: Option<&log::Group>, body_bytes_max: usize) -> Settings {
    let is_lite = is_lite(settings.client_type());
    settings.backoff_policy = match &mut settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            publish(publishing, body_bytes_max);
            Some(sending())
        }
        Some(PubSub::Subscription(subscription)) => {
            subscribe(subscription, group, is_lite);
            Some(redelivery::policy(group, settings.user_agent.as_ref()))
        }
        None => None,
    };
    settings.metric = Some(Metric { on: false, endpoints: None });
    settings
}

fn publish(publishing: &mut Publishing, body_bytes_max: usize) {
    publishing.validate_message_type = true;
    publishing.max_body_size = i32::try_from(body_bytes_max).unwrap_or(i32::MAX);
}

fn subscribe(subscription: &mut Subscription, group: Option<&log::Group>, is_lite: bool) {
    // A lite topic is given out in order; who consumed a batch of it at once would lose that.
    subscription.fifo = Some(is_lite || group.is_some_and(|group| group.fifo || group.lite.is_some()));
    subscription.receive_batch_size = Some(RECEIVE_BATCH);
    subscription.long_polling_timeout = Some(millis(LONG_POLLING_MS));
    if is_lite {
        subscription.lite_subscription_quota = i32::try_from(lite_quota(group)).ok();
        subscription.max_lite_topic_size = i32::try_from(LITE_TOPIC_BYTES_MAX).ok();
    }
}

/// Lite topics that one client of a group may subscribe to; never 0, which clients cannot start with.
pub(crate) fn lite_quota(group: Option<&log::Group>) -> u32 {
    let chosen = group.and_then(|group| group.lite.as_ref()).map_or(0, |lite| lite.client_quota);
    if chosen == 0 { LITE_SUBSCRIPTIONS_MAX } else { chosen.min(i32::MAX.unsigned_abs()) }
}

fn sending() -> RetryPolicy {
    RetryPolicy { max_attempts: SEND_ATTEMPTS, strategy: Some(exponential(&SEND_PAUSES)) }
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{ClientType, Endpoints, Language, Resource, Ua, retry_policy::Strategy};

    use super::*;

    fn consumer(kind: ClientType, language: Language) -> Settings {
        Settings {
            client_type: Some(kind.into()),
            user_agent: Some(Ua { language: language.into(), ..Default::default() }),
            pub_sub: Some(PubSub::Subscription(Subscription::default())),
            ..Default::default()
        }
    }

    fn subscription(settings: &Settings) -> &Subscription {
        match &settings.pub_sub {
            Some(PubSub::Subscription(subscription)) => subscription,
            other => panic!("{other:?} is not a subscription"),
        }
    }

    #[test]
    fn producers_are_told_how_to_retry_and_what_to_send() {
        let topic = Resource { resource_namespace: "ns".into(), name: "orders".into() };
        let publishing =
            Publishing { topics: vec![topic.clone()], max_body_size: 1 << 27, validate_message_type: false };
        let sent = Settings {
            client_type: Some(ClientType::Producer.into()),
            access_point: Some(Endpoints::default()),
            request_timeout: Some(millis(3_000)),
            pub_sub: Some(PubSub::Publishing(publishing)),
            ..Default::default()
        };
        let told = merged(sent.clone(), None, 4 << 20);
        let policy = told.backoff_policy.as_ref().expect("a policy");
        assert_eq!((policy.max_attempts, policy.strategy.clone()), (3, Some(exponential(&SEND_PAUSES))));
        let publishing = Publishing { topics: vec![topic], max_body_size: 4_194_304, validate_message_type: true };
        assert_eq!(told.pub_sub, Some(PubSub::Publishing(publishing)));
        assert_eq!(told.metric, Some(Metric { on: false, endpoints: None }));
        assert_eq!((told.access_point, told.request_timeout), (sent.access_point, sent.request_timeout));
    }

    #[test]
    fn consumers_of_an_unknown_group_get_the_defaults() {
        let told = merged(consumer(ClientType::PushConsumer, Language::Java), None, 1);
        let policy = told.backoff_policy.as_ref().expect("a policy");
        assert_eq!(policy.max_attempts, 17);
        let Some(Strategy::CustomizedBackoff(pauses)) = &policy.strategy else { panic!("{policy:?}") };
        assert_eq!(pauses.next.len(), 18);
        assert_eq!((pauses.next[0].seconds, pauses.next[17].seconds), (1, 7_200));
        let subscription = subscription(&told);
        assert_eq!((subscription.fifo, subscription.receive_batch_size), (Some(false), Some(32)));
        assert_eq!(subscription.long_polling_timeout, Some(millis(20_000)));
        assert_eq!(subscription.lite_subscription_quota, None);
    }

    #[test]
    fn a_group_says_how_it_is_consumed() {
        let group = log::Group { fifo: true, max_attempts: 3, backoff_is_default: true, ..Default::default() };
        let told = merged(consumer(ClientType::PushConsumer, Language::Java), Some(&group), 1);
        assert_eq!(subscription(&told).fifo, Some(true));
        assert_eq!(told.backoff_policy.map(|policy| policy.max_attempts), Some(3));
    }

    #[test]
    fn lite_consumers_get_their_quota() {
        for kind in [ClientType::LitePushConsumer, ClientType::LiteSimpleConsumer] {
            let told = merged(consumer(kind, Language::Python), None, 1);
            let subscription = subscription(&told);
            assert_eq!(
                (subscription.lite_subscription_quota, subscription.max_lite_topic_size),
                (Some(2_000), Some(64))
            );
        }
    }

    #[test]
    fn a_lite_quota_is_the_groups_and_never_nothing() {
        let group = |client_quota| log::Group {
            lite: Some(log::Lite { client_quota, ..Default::default() }),
            ..Default::default()
        };
        let quota = |group: &log::Group| {
            let told = merged(consumer(ClientType::LitePushConsumer, Language::Java), Some(group), 1);
            subscription(&told).lite_subscription_quota
        };
        assert_eq!(quota(&group(5)), Some(5));
        assert_eq!(quota(&group(0)), Some(2_000));
        assert_eq!(quota(&group(u32::MAX)), Some(i32::MAX));
    }
}
