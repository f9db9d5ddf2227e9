//! What can be set of a consumer group, as options of `group create` and `group update`.

use std::time::Duration;

use centaur_apis::{
    log::{CustomizedBackoff, ExponentialBackoff, Lite},
    store::{Mode, PutGroupRequest, put_group_request},
};
use clap::{Args, ValueEnum};

use crate::{admin::times::millis, config::values};

#[derive(Args, Debug)]
pub(super) struct Settings {
    /// Whether messages of one message group are given out one after the other
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Deliveries before a message goes to the dead-letter topic, the first included
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Time between deliveries: exponential:1s..2h*2 or custom:1s,5s,1m
    #[arg(long, value_name = "POLICY", value_parser = backoff)]
    backoff: Option<Backoff>,
    /// Whether messages are given out at all
    #[arg(long, value_enum)]
    consume: Option<Switch>,
    /// With order fifo: what becomes of a message without attempts left
    #[arg(long, value_enum)]
    when_exhausted: Option<Exhausted>,
    /// Answers from priority topics that serve all priorities alike, in percent; 0: highest first
    #[arg(long, value_name = "PERCENT")]
    shared_percent: Option<u32>,
    #[command(flatten)]
    lite: LiteSettings,
}

/// How the group consumes lite topics.
#[derive(Args, Debug)]
struct LiteSettings {
    /// Consume lite topics of this topic, which has type lite; the group keeps it
    #[arg(long, value_name = "TOPIC")]
    lite_topic: Option<String>,
    /// A lite topic has one subscriber at a time
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    lite_exclusive: Option<bool>,
    /// Every client consumes all lite topics
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    lite_wildcard: Option<bool>,
    /// Lite topics of one client
    #[arg(long, value_name = "N")]
    lite_quota: Option<u32>,
    /// Exclusive: the next subscriber begins at the oldest message
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    lite_reset_when_moved: Option<bool>,
    /// Unsubscribing puts the group at the oldest message
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    lite_reset_when_left: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Concurrent,
    Fifo,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Exhausted {
    /// It goes to the dead-letter topic, and its message group goes on
    DeadLetter,
    /// It is delivered until it is consumed, and holds up its message group
    Block,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    Enabled,
    Disabled,
}

#[derive(Clone, Debug, PartialEq)]
enum Backoff {
    Exponential { initial: Duration, max: Duration, multiplier: f32 },
    Custom(Vec<Duration>),
}

impl Settings {
    /// Whether something about lite topics is to be set.
    pub(super) fn is_lite(&self) -> bool {
        let lite = &self.lite;
        let flags = [lite.lite_exclusive, lite.lite_wildcard, lite.lite_reset_when_moved, lite.lite_reset_when_left];
        lite.lite_topic.is_some() || lite.lite_quota.is_some() || flags.iter().any(Option::is_some)
    }

    /// The request that makes or changes a group; `known` is what it does with lite topics so far.
    pub(super) fn request(self, name: String, mode: Mode, known: Option<Lite>) -> PutGroupRequest {
        let lite = self.is_lite().then(|| self.lite.over(known.unwrap_or_default()));
        PutGroupRequest {
            name,
            fifo: self.order.map(|order| matches!(order, Order::Fifo)),
            max_attempts: self.max_attempts,
            backoff: self.backoff.map(put_group_request::Backoff::from),
            consume_disabled: self.consume.map(|consume| matches!(consume, Switch::Disabled)),
            mode: mode.into(),
            blocks_when_exhausted: self.when_exhausted.map(|policy| matches!(policy, Exhausted::Block)),
            shared_percent: self.shared_percent,
            lite,
        }
    }
}

impl LiteSettings {
    /// These settings where they are given, the known ones elsewhere.
    fn over(self, known: Lite) -> Lite {
        Lite {
            topic: self.lite_topic.unwrap_or(known.topic),
            exclusive: self.lite_exclusive.unwrap_or(known.exclusive),
            wildcard: self.lite_wildcard.unwrap_or(known.wildcard),
            client_quota: self.lite_quota.unwrap_or(known.client_quota),
            reset_when_moved: self.lite_reset_when_moved.unwrap_or(known.reset_when_moved),
            reset_when_left: self.lite_reset_when_left.unwrap_or(known.reset_when_left),
        }
    }
}

/// Reads a back-off policy.
fn backoff(text: &str) -> Result<Backoff, String> {
    let wrong = || format!("{text:?} is not a policy; write it like exponential:1s..2h*2 or custom:1s,5s,1m");
    match text.split_once(':').ok_or_else(wrong)? {
        ("exponential", rest) => {
            let (range, multiplier) = rest.split_once('*').unwrap_or((rest, "2"));
            let (initial, max) = range.split_once("..").ok_or_else(wrong)?;
            let multiplier = multiplier.parse().map_err(|_| wrong())?;
            Ok(Backoff::Exponential { initial: values::duration(initial)?, max: values::duration(max)?, multiplier })
        }
        ("custom", rest) => rest.split(',').map(values::duration).collect::<Result<_, _>>().map(Backoff::Custom),
        _ => Err(wrong()),
    }
}

impl From<Backoff> for put_group_request::Backoff {
    fn from(backoff: Backoff) -> Self {
        match backoff {
            Backoff::Exponential { initial, max, multiplier } => {
                Self::Exponential(ExponentialBackoff { initial_ms: millis(initial), max_ms: millis(max), multiplier })
            }
            Backoff::Custom(steps) => {
                Self::Customized(CustomizedBackoff { next_ms: steps.into_iter().map(millis).collect() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let seconds = Duration::from_secs;
        let exponential = Backoff::Exponential { initial: seconds(1), max: seconds(7200), multiplier: 2.0 };
        assert_eq!(backoff("exponential:1s..2h*2"), Ok(exponential.clone()));
        assert_eq!(backoff("exponential:1s..2h"), Ok(exponential));
        assert_eq!(backoff("custom:1s,5s"), Ok(Backoff::Custom(vec![seconds(1), seconds(5)])));
        for text in ["", "custom", "custom:", "custom:1", "exponential:1s", "linear:1s"] {
            assert!(backoff(text).is_err(), "{text:?}");
        }
    }
}
