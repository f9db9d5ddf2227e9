//! How long a consumer leaves a message that it failed to handle: the policy of its group, told in
//! the terms that its client understands. Source: how the official clients read it.

use std::cmp::Ordering;

use centaur_apis::{
    log::{self, group::Backoff},
    v2::{CustomizedBackoff, ExponentialBackoff, Language, RetryPolicy, Ua, retry_policy::Strategy},
};
use prost_types::Duration;

/// Deliveries of one message to a group that nobody configured.
const DELIVERY_ATTEMPTS: u32 = 17;
/// Pauses before each further delivery, in ms.
const PAUSES_MS: [u64; 18] = [
    1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000,
    600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
];
/// The same for clients that are told no list.
const GROWING: log::ExponentialBackoff =
    log::ExponentialBackoff { initial_ms: 5_000, max_ms: 7_200_000, multiplier: 2.0 };
/// Pauses of a list made from a growing policy; the last one is kept.
const LISTED_MAX: u32 = 128;
/// The last version of the Node.js client that reads seconds as milliseconds.
const NODE_JS_MISREADS: [u64; 3] = [1, 0, 8];
/// Its longest timer, in ms; a longer one ends at once.
const NODE_JS_TIMER_MS: u64 = 2_147_483_647;

/// What a client makes of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// A list and a growing policy, as they are meant.
    Full,
    /// The same; the default it has always been told is the growing one.
    Growing,
    /// A list of whole seconds; without one every pause is 1 s, and attempts do not count.
    WholeSeconds,
    /// A list only, of which it passes over the first pause, and behind which it puts the list again
    /// each time that it is told; without one every pause is 1 s.
    FromSecond,
    /// A growing policy only, and its seconds as milliseconds; without one there are no pauses, and
    /// what is consumed in order is dead after one failure.
    SecondsAsMillis,
}

impl Reading {
    fn of(agent: Option<&Ua>) -> Self {
        let version = agent.map_or("", |agent| agent.version.as_str());
        match agent.map_or(Language::Unspecified, |agent| agent.language()) {
            Language::Python => Self::WholeSeconds,
            Language::Cpp => Self::FromSecond,
            Language::NodeJs if is_newer(version, NODE_JS_MISREADS) => Self::Growing,
            Language::NodeJs => Self::SecondsAsMillis,
            _ => Self::Full,
        }
    }
}

/// What a consumer of a group is told; `None`: of one that nobody configured.
pub(super) fn policy(group: Option<&log::Group>, agent: Option<&Ua>) -> RetryPolicy {
    let attempts = group.map(|group| group.max_attempts).filter(|attempts| *attempts > 0);
    let attempts = attempts.unwrap_or(DELIVERY_ATTEMPTS);
    let chosen = group.filter(|group| !group.backoff_is_default).and_then(|group| group.backoff.as_ref());
    let strategy = match (Reading::of(agent), chosen) {
        (Reading::Full | Reading::Growing, Some(Backoff::Exponential(growing))) => exponential(growing),
        (Reading::Full | Reading::Growing, Some(Backoff::Customized(list))) => customized(&list.next_ms),
        (Reading::Full, None) => customized(&PAUSES_MS),
        (Reading::Growing, None) => exponential(&GROWING),
        (Reading::WholeSeconds, Some(Backoff::Exponential(growing))) => whole_seconds(&listed(growing, attempts)),
        (Reading::WholeSeconds, Some(Backoff::Customized(list))) => whole_seconds(&list.next_ms),
        (Reading::WholeSeconds, None) => whole_seconds(&PAUSES_MS),
        (Reading::FromSecond, Some(Backoff::Exponential(growing))) => from_second(&listed(growing, attempts), attempts),
        (Reading::FromSecond, Some(Backoff::Customized(list))) => from_second(&list.next_ms, attempts),
        (Reading::FromSecond, None) => from_second(&PAUSES_MS, attempts),
        (Reading::SecondsAsMillis, Some(Backoff::Exponential(growing))) => millis_as_seconds(growing),
        (Reading::SecondsAsMillis, Some(Backoff::Customized(list))) => millis_as_seconds(&fitted(&list.next_ms)),
        (Reading::SecondsAsMillis, None) => millis_as_seconds(&GROWING),
    };
    RetryPolicy { max_attempts: i32::try_from(attempts).unwrap_or(i32::MAX), strategy: Some(strategy) }
}

pub(super) fn exponential(policy: &log::ExponentialBackoff) -> Strategy {
    growing(millis(policy.initial_ms), millis(policy.max_ms), policy.multiplier)
}

fn customized(pauses_ms: &[u64]) -> Strategy {
    list(pauses_ms.iter().map(|ms| millis(*ms)))
}

/// A list without parts of seconds: none of its pauses is shorter than it was.
fn whole_seconds(pauses_ms: &[u64]) -> Strategy {
    list(pauses_ms.iter().map(|ms| seconds(ms.div_ceil(1_000))))
}

/// A list whose first pause is there twice, and so long that no attempt reaches its end.
fn from_second(pauses_ms: &[u64], attempts: u32) -> Strategy {
    let length = attempts.saturating_add(1).min(LISTED_MAX) as usize;
    let last = pauses_ms.last().map_or_else(Vec::new, |last| vec![*last; length]);
    let pauses = pauses_ms.iter().take(1).chain(pauses_ms).chain(&last).copied();
    customized(&pauses.take(length).collect::<Vec<_>>())
}

fn millis_as_seconds(policy: &log::ExponentialBackoff) -> Strategy {
    let as_seconds = |ms: u64| seconds(ms.min(NODE_JS_TIMER_MS));
    growing(as_seconds(policy.initial_ms), as_seconds(policy.max_ms), policy.multiplier)
}

/// The pauses of a growing policy, until it has grown or the attempts are used up.
fn listed(policy: &log::ExponentialBackoff, attempts: u32) -> Vec<u64> {
    let longest = policy.max_ms as f64;
    let mut pause = policy.initial_ms as f64;
    let mut pauses = Vec::new();
    for _ in 0..attempts.saturating_sub(1).clamp(1, LISTED_MAX) {
        pauses.push(pause.min(longest) as u64);
        if pause >= longest {
            break;
        }
        pause *= f64::from(policy.multiplier);
    }
    // One that grows so slowly that it is cut short ends with its longest pause: the last one is kept.
    if pauses.len() == LISTED_MAX as usize && attempts > LISTED_MAX + 1 {
        pauses.pop();
        pauses.push(policy.max_ms);
    }
    pauses
}

/// The growing policy that begins like a list, and comes to its longest pause at the same attempt.
fn fitted(pauses_ms: &[u64]) -> log::ExponentialBackoff {
    let initial_ms = pauses_ms.first().copied().unwrap_or(GROWING.initial_ms).max(1); // 0 would not grow
    let max_ms = pauses_ms.iter().copied().fold(initial_ms, u64::max);
    let steps = pauses_ms.iter().position(|ms| *ms == max_ms).unwrap_or(0);
    let multiplier = match steps {
        0 => 1.0,
        steps => (max_ms as f64 / initial_ms as f64).powf(1.0 / steps as f64) as f32,
    };
    log::ExponentialBackoff { initial_ms, max_ms, multiplier }
}

fn growing(initial: Duration, max: Duration, multiplier: f32) -> Strategy {
    Strategy::ExponentialBackoff(ExponentialBackoff { initial: Some(initial), max: Some(max), multiplier })
}

fn list(next: impl Iterator<Item = Duration>) -> Strategy {
    Strategy::CustomizedBackoff(CustomizedBackoff { next: next.collect() })
}

pub(super) fn millis(ms: u64) -> Duration {
    // Below 10^9 by construction.
    Duration { nanos: (ms % 1000) as i32 * 1_000_000, ..seconds(ms / 1000) }
}

fn seconds(seconds: u64) -> Duration {
    Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

/// Whether a version such as `1.0.9` comes after another; one that cannot be read does not.
fn is_newer(version: &str, than: [u64; 3]) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u64>().ok());
    let numbers = [(); 3].map(|()| parts.next().flatten().unwrap_or(0));
    numbers.cmp(&than) == Ordering::Greater
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(language: Language, version: &str) -> Ua {
        Ua { language: language.into(), version: version.to_owned(), ..Default::default() }
    }

    /// Pauses before each further delivery as a client of this kind makes them of what it is told, ms.
    fn understood(group: &log::Group, agent: &Ua, deliveries: u32) -> Vec<u64> {
        let policy = policy(Some(group), Some(agent));
        assert_eq!(policy.max_attempts, i32::try_from(group.max_attempts).expect("few"));
        let unit = |time: &Option<Duration>| {
            let time = time.expect("a time");
            let ms = if Reading::of(Some(agent)) == Reading::SecondsAsMillis { 1 } else { 1_000 };
            time.seconds as f64 * f64::from(ms) + f64::from(time.nanos) / 1e6
        };
        let pause = |attempt: u32| match (policy.strategy.as_ref().expect("one"), agent.language()) {
            (Strategy::CustomizedBackoff(list), Language::Cpp) => {
                let told_twice = list.next.repeat(2);
                let next =
                    if attempt as usize + 1 < told_twice.len() { attempt as usize } else { told_twice.len() - 1 };
                told_twice[next].seconds as f64 * 1e3 + f64::from(told_twice[next].nanos / 1_000_000)
            }
            (Strategy::CustomizedBackoff(list), language) => {
                assert!(Reading::of(Some(agent)) != Reading::SecondsAsMillis, "it would be passed over");
                let next = list.next[(attempt as usize).min(list.next.len()) - 1];
                let part = if language == Language::Python { 0 } else { next.nanos / 1_000_000 };
                next.seconds as f64 * 1e3 + f64::from(part)
            }
            (Strategy::ExponentialBackoff(growing), language) => {
                assert!(![Language::Python, Language::Cpp].contains(&language), "it would be passed over");
                let grown = unit(&growing.initial) * f64::from(growing.multiplier).powi(attempt as i32 - 1);
                grown.min(unit(&growing.max))
            }
        };
        (1..deliveries).map(|attempt| pause(attempt).round() as u64).collect()
    }

    fn group(backoff: Backoff) -> log::Group {
        log::Group { max_attempts: 6, backoff: Some(backoff), ..Default::default() }
    }

    fn clients() -> [Ua; 6] {
        [
            agent(Language::Cpp, "5.0.0"),
            agent(Language::Java, "5.0.7"),
            agent(Language::Golang, "5.1.2"),
            agent(Language::Python, "5.1.2"),
            agent(Language::NodeJs, "1.0.8"),
            agent(Language::NodeJs, "1.0.9"),
        ]
    }

    #[test]
    fn a_growing_policy_means_the_same_to_every_client() {
        let growing = log::ExponentialBackoff { initial_ms: 2_000, max_ms: 20_000, multiplier: 2.0 };
        let group = group(Backoff::Exponential(growing));
        for agent in clients() {
            assert_eq!(understood(&group, &agent, 7), [2_000, 4_000, 8_000, 16_000, 20_000, 20_000], "{agent:?}");
        }
    }

    #[test]
    fn a_list_means_the_same_to_clients_that_take_lists() {
        let group = group(Backoff::Customized(log::CustomizedBackoff { next_ms: vec![1_000, 1_000, 9_000] }));
        for agent in clients() {
            // It grows to the longest pause at the same delivery, with others on the way.
            let second = if agent.version == "1.0.8" { 3_000 } else { 1_000 };
            assert_eq!(understood(&group, &agent, 5), [1_000, second, 9_000, 9_000], "{agent:?}");
        }
    }

    #[test]
    fn no_pause_becomes_shorter_for_a_client_that_reads_whole_seconds() {
        let python = agent(Language::Python, "5.1.2");
        let listed = group(Backoff::Customized(log::CustomizedBackoff { next_ms: vec![0, 200, 1_500, 2_000] }));
        assert_eq!(understood(&listed, &python, 5), [0, 1_000, 2_000, 2_000]);
        let growing = log::ExponentialBackoff { initial_ms: 100, max_ms: 10_000, multiplier: 10.0 };
        assert_eq!(understood(&group(Backoff::Exponential(growing)), &python, 5), [1_000, 1_000, 10_000, 10_000]);
    }

    #[test]
    fn lists_that_do_not_grow_become_policies_that_do_not() {
        let fitted = |next_ms: &[u64]| {
            let log::ExponentialBackoff { initial_ms, max_ms, multiplier } = fitted(next_ms);
            (initial_ms, max_ms, multiplier)
        };
        assert_eq!(fitted(&[7_000]), (7_000, 7_000, 1.0));
        assert_eq!(fitted(&[9_000, 1_000]), (9_000, 9_000, 1.0));
        assert_eq!(fitted(&[0, 5_000]), (1, 5_000, 5_000.0));
        assert_eq!(fitted(&[]), (5_000, 5_000, 1.0));
    }

    #[test]
    fn a_list_from_a_growing_policy_has_an_end() {
        let flat = log::ExponentialBackoff { initial_ms: 1_000, max_ms: 60_000, multiplier: 1.0 };
        assert_eq!(listed(&flat, 4), [1_000; 3]);
        assert_eq!(listed(&flat, u32::MAX).len(), LISTED_MAX as usize);
        assert_eq!(listed(&flat, u32::MAX).last(), Some(&60_000));
        assert_eq!(listed(&flat, 1), [1_000]);
    }

    #[test]
    fn a_list_for_cpp_is_bounded_and_may_be_empty() {
        let told = |pauses_ms: &[u64], attempts| match from_second(pauses_ms, attempts) {
            Strategy::CustomizedBackoff(list) => list.next.iter().map(|pause| pause.seconds).collect::<Vec<_>>(),
            Strategy::ExponentialBackoff(_) => panic!("a list"),
        };
        assert_eq!(told(&[1_000, 7_000], 4), [1, 1, 7, 7, 7]);
        assert_eq!(told(&[1_000, 7_000, 9_000], 1), [1, 1]);
        assert_eq!(told(&[3_000], u32::MAX), [3; LISTED_MAX as usize]);
        assert_eq!(told(&[], 4), [0; 0]);
    }

    #[test]
    fn a_timer_of_node_js_does_not_overflow() {
        let long = log::ExponentialBackoff { initial_ms: 1, max_ms: u64::MAX, multiplier: 2.0 };
        let Strategy::ExponentialBackoff(told) = millis_as_seconds(&long) else { panic!("a growing policy") };
        assert_eq!(told.max.map(|max| max.seconds), Some(0x7fff_ffff));
    }

    #[test]
    fn a_group_that_nobody_configured_has_the_default_of_its_client() {
        let unset = log::Group { max_attempts: 6, backoff_is_default: true, ..Default::default() };
        for agent in clients() {
            let first = if agent.language() == Language::NodeJs { [5_000, 10_000] } else { [1_000, 5_000] };
            assert_eq!(understood(&unset, &agent, 3), first, "{agent:?}");
            assert_eq!(policy(None, Some(&agent)).max_attempts, 17);
        }
        assert_eq!(policy(None, None).strategy, Some(customized(&PAUSES_MS)));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, newer) in [
            ("1.0.8", false),
            ("1.0.10", true),
            ("1.1", true),
            ("2.0.0-beta", true),
            ("1.0.9-rc1", true),
            ("", false),
            ("next", false),
        ] {
            assert_eq!(is_newer(version, NODE_JS_MISREADS), newer, "{version}");
        }
    }
}
