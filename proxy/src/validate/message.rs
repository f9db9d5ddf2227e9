//! What one published message may hold, in the order of the public contract.

use centaur_apis::{
    log::TopicType,
    v2::{Code, MessageType},
};
use prost_types::Timestamp;

use super::millis;
use crate::{
    published::{Published, System},
    refusal::Refusal,
};

/// Most user properties of one message.
const PROPERTIES_MAX: usize = 128;
/// User properties, tag and keys together, in bytes.
const PROPERTIES_BYTES_MAX: usize = 16 << 10;
/// Everything the client says about a message besides its body, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 64 << 10;
/// A message group is shorter than this, in bytes.
const MESSAGE_GROUP_BYTES_END: usize = 64;
/// Longest message id, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 1024;
/// Longest lite topic name, in bytes.
pub(crate) const LITE_TOPIC_BYTES_MAX: usize = 64;
/// User property that says how long a message is worth delivering, in ms.
const TTL_KEY: &str = "ttl-ms";
/// Longest wait before the outcome of a transaction is asked for, in ms.
const RECOVERY_MS_MAX: i64 = 3_600_000;

/// Keys of properties that belong to the system, sorted; source: public contract, MessageConst.
const RESERVED_KEYS: [&str; 53] = [
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_QUEUE_OFFSET",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "_SYS_MSG_PRIORITY_",
    "__BORNHOST",
    "__CRC32#",
    "__LITE_TOPIC",
];

/// The bounds that a proxy's configuration sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) body_bytes_max: usize,
    pub(crate) delay_max_ms: u64,
}

/// Checks one message on its own; `now_ms` is the wall clock.
pub(crate) fn message(message: &Published<'_>, limits: Limits, now_ms: u64) -> Result<(), Refusal> {
    body(message, limits.body_bytes_max)?;
    user_properties(message)?;
    let Some(system) = &message.system else {
        return Err(Refusal::new(Code::IllegalMessageId, "system_properties are missing; give a message_id"));
    };
    tag_and_keys(system)?;
    size(message, system)?;
    id(system)?;
    recovery(system)?;
    delivery(system, limits.delay_max_ms, now_ms)?;
    message_group(system)?;
    lite_topic(system)?;
    priority(system)
}

/// What a message is, told by what it holds; transactions alone are told by their type.
pub(crate) fn effective_type(system: &System<'_>, topic: TopicType) -> MessageType {
    // Some clients send a priority of 0 with what they call a normal message, wherever it goes.
    let is_empty_priority =
        system.priority == Some(0) && system.message_type() == MessageType::Normal && topic != TopicType::Priority;
    if system.message_type() == MessageType::Transaction {
        MessageType::Transaction
    } else if system.delivery.is_some() {
        MessageType::Delay
    } else if !system.message_group.is_empty() {
        MessageType::Fifo
    } else if system.priority.is_some() && !is_empty_priority {
        MessageType::Priority
    } else if system.lite_topic.is_some() {
        MessageType::Lite
    } else {
        MessageType::Normal
    }
}

fn body(message: &Published<'_>, bytes_max: usize) -> Result<(), Refusal> {
    let bytes = message.body.len();
    if bytes == 0 {
        return Err(Refusal::new(Code::MessageBodyEmpty, "body is empty; give at least 1 byte"));
    }
    if bytes > bytes_max {
        let text = format!("body has {bytes} bytes; at most {bytes_max} are allowed");
        return Err(Refusal::new(Code::MessageBodyTooLarge, text));
    }
    Ok(())
}

fn user_properties(message: &Published<'_>) -> Result<(), Refusal> {
    let count = message.user_properties.len();
    if count > PROPERTIES_MAX {
        let text = format!("user_properties has {count} entries; at most {PROPERTIES_MAX} are allowed");
        return Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
    }
    for (key, value) in &message.user_properties {
        let illegal = |text| Err(Refusal::new(Code::IllegalMessagePropertyKey, text));
        if RESERVED_KEYS.binary_search(key).is_ok() {
            return illegal(format!("user_properties key {key:?} belongs to the system; choose another"));
        }
        if has_control_character(key) {
            return illegal(format!("user_properties key {key:?} has a control character; none is allowed"));
        }
        if has_control_character(value) {
            return illegal(format!("user_properties value of {key:?} has a control character; none is allowed"));
        }
        if *key == TTL_KEY && ttl(value).is_none() {
            return illegal(format!("user property {TTL_KEY:?} is {value:?}; give a number of ms, at least 1"));
        }
    }
    Ok(())
}

fn tag_and_keys(system: &System<'_>) -> Result<(), Refusal> {
    let tag = system.tag;
    if !tag.is_empty() && (is_blank(tag) || tag.contains('|') || has_control_character(tag)) {
        let text = format!("tag {tag:?} is blank or has '|' or a control character; give a plain word");
        return Err(Refusal::new(Code::IllegalMessageTag, text));
    }
    let is_illegal = |key: &&&str| !key.is_empty() && (is_blank(key) || has_control_character(key));
    if let Some(key) = system.keys.iter().find(is_illegal) {
        let text = format!("key {key:?} is blank or has a control character; give plain text");
        return Err(Refusal::new(Code::IllegalMessageKey, text));
    }
    Ok(())
}

fn size(message: &Published<'_>, system: &System<'_>) -> Result<(), Refusal> {
    let properties: usize = message.user_properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys: usize = system.keys.iter().map(|key| key.len()).sum();
    let bytes = properties + keys + system.tag.len();
    if bytes > PROPERTIES_BYTES_MAX {
        let text = format!(
            "user_properties, tag and keys have {bytes} bytes together; at most {PROPERTIES_BYTES_MAX} are allowed"
        );
        return Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
    }
    // Every empty key still takes room, as do the fields without a bound of their own.
    let others = system.trace_context.map_or(0, str::len) + system.born_host.len() + 2 * system.keys.len();
    if bytes + others > DESCRIPTION_BYTES_MAX {
        let text = format!(
            "properties, trace_context and born_host have {} bytes together; at most {DESCRIPTION_BYTES_MAX} are allowed",
            bytes + others
        );
        return Err(Refusal::new(Code::MessagePropertiesTooLarge, text));
    }
    Ok(())
}

fn id(system: &System<'_>) -> Result<(), Refusal> {
    let id = system.message_id;
    if is_blank(id) {
        return Err(Refusal::new(Code::IllegalMessageId, "message_id is blank; give one"));
    }
    if id.len() > MESSAGE_ID_BYTES_MAX {
        let text = format!("message_id has {} bytes; at most {MESSAGE_ID_BYTES_MAX} are allowed", id.len());
        return Err(Refusal::new(Code::IllegalMessageId, text));
    }
    Ok(())
}

fn recovery(system: &System<'_>) -> Result<(), Refusal> {
    let is_transaction = system.message_type() == MessageType::Transaction;
    let ms = system.recovery.as_ref().map_or(0, millis);
    if is_transaction && ms > RECOVERY_MS_MAX {
        let text =
            format!("orphaned_transaction_recovery_duration is {ms} ms; at most {RECOVERY_MS_MAX} ms are allowed");
        return Err(Refusal::new(Code::BadRequest, text));
    }
    Ok(())
}

fn delivery(system: &System<'_>, delay_max_ms: u64, now_ms: u64) -> Result<(), Refusal> {
    let Some(at) = &system.delivery else { return Ok(()) };
    let delay_ms = timestamp_ms(at).saturating_sub_unsigned(now_ms);
    if u64::try_from(delay_ms).is_ok_and(|delay| delay > delay_max_ms) {
        let text = format!("delivery_timestamp is {delay_ms} ms ahead; at most {delay_max_ms} ms are allowed");
        return Err(Refusal::new(Code::IllegalDeliveryTime, text));
    }
    Ok(())
}

fn message_group(system: &System<'_>) -> Result<(), Refusal> {
    let group = system.message_group;
    let illegal = |text| Err(Refusal::new(Code::IllegalMessageGroup, text));
    if group.len() >= MESSAGE_GROUP_BYTES_END {
        let max = MESSAGE_GROUP_BYTES_END - 1;
        return illegal(format!("message_group has {} bytes; at most {max} are allowed", group.len()));
    }
    if !group.is_empty() && (is_blank(group) || has_control_character(group)) {
        return illegal(format!("message_group {group:?} is blank or has a control character; give plain text"));
    }
    Ok(())
}

fn lite_topic(system: &System<'_>) -> Result<(), Refusal> {
    system.lite_topic.map_or(Ok(()), lite_topic_name)
}

fn priority(system: &System<'_>) -> Result<(), Refusal> {
    match system.priority {
        Some(priority) if priority < 0 => {
            let text = format!("priority is {priority}; at least 0 is needed");
            Err(Refusal::new(Code::IllegalMessagePropertyKey, text))
        }
        _ => Ok(()),
    }
}

/// How long a message is worth delivering once it is in its queue, in ms; 0: as its topic says.
pub(crate) fn ttl_ms(message: &Published<'_>) -> u64 {
    let said = message.user_properties.iter().find(|(key, _)| *key == TTL_KEY);
    said.and_then(|(_, value)| ttl(value)).unwrap_or(0)
}

fn ttl(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|ms| is_plain && *ms > 0)
}

/// When a message is due, in ms since 1970: not before the time it names. 0: at once.
pub(crate) fn due_ms(system: &System<'_>, now_ms: u64) -> u64 {
    let Some(at) = &system.delivery else { return 0 };
    let is_beyond = at.nanos % 1_000_000 > 0;
    let due_ms = timestamp_ms(at).saturating_add(i64::from(is_beyond));
    u64::try_from(due_ms).ok().filter(|due_ms| *due_ms > now_ms).unwrap_or(0)
}

/// How long a half message's producer may take before it is asked, in ms; 0: as the store says.
pub(crate) fn first_check_ms(system: &System<'_>) -> u64 {
    system.recovery.as_ref().map_or(0, |recovery| u64::try_from(millis(recovery)).unwrap_or(0))
}

/// Whether a lite topic may have this name.
pub(crate) fn lite_topic_name(name: &str) -> Result<(), Refusal> {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if name.is_empty() || name.len() > LITE_TOPIC_BYTES_MAX || !is_plain {
        let text =
            format!("lite_topic {name:?} is not made of 1 to {LITE_TOPIC_BYTES_MAX} letters, digits, '_' and '-'");
        return Err(Refusal::new(Code::IllegalLiteTopic, text));
    }
    Ok(())
}

/// A time in ms since 1970; of an earlier one 0.
pub(crate) fn wall_ms(at: &Timestamp) -> u64 {
    u64::try_from(timestamp_ms(at)).unwrap_or(0)
}

/// A time in ms since 1970, cut to what fits.
fn timestamp_ms(at: &Timestamp) -> i64 {
    at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000)
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn has_control_character(text: &str) -> bool {
    // Nearly all text is ASCII, and bytes are looked through many at a time.
    if text.is_ascii() { text.bytes().any(|b| b < 0x20 || b == 0x7f) } else { text.chars().any(char::is_control) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use centaur_apis::v2::{Message, SendMessageRequest, SystemProperties};
    use prost::Message as _;

    use super::*;
    use crate::published::read;

    const LIMITS: Limits = Limits { body_bytes_max: 4 << 20, delay_max_ms: 86_400_000 };
    const NOW_MS: u64 = 1_700_000_000_000;

    fn plain() -> Message {
        let system = SystemProperties { message_id: "01AB".into(), ..Default::default() };
        Message { system_properties: Some(system), body: Bytes::from_static(b"x"), ..Default::default() }
    }

    fn check(change: impl FnOnce(&mut Message), expected: Result<(), Code>) {
        let mut changed = plain();
        change(&mut changed);
        let encoded = SendMessageRequest { messages: vec![changed.clone()] }.encode_to_vec();
        let result = message(&read(&encoded).expect("plain")[0], LIMITS, NOW_MS);
        assert_eq!(result.clone().map_err(|r| r.code), expected, "{result:?} for {changed:?}");
    }

    fn check_system(change: impl FnOnce(&mut SystemProperties), expected: Result<(), Code>) {
        check(|m| change(m.system_properties.as_mut().expect("set")), expected);
    }

    fn check_property(key: &str, value: &str, expected: Result<(), Code>) {
        check(|m| drop(m.user_properties.insert(key.into(), value.into())), expected);
    }

    #[test]
    fn bodies_have_bounds() {
        check(|_| (), Ok(()));
        check(|m| m.body = Bytes::new(), Err(Code::MessageBodyEmpty));
        check(|m| m.body = Bytes::from(vec![0; 4 << 20]), Ok(()));
        check(|m| m.body = Bytes::from(vec![0; (4 << 20) + 1]), Err(Code::MessageBodyTooLarge));
    }

    #[test]
    fn user_properties_have_bounds() {
        let numbered = |count: usize| {
            move |m: &mut Message| {
                m.user_properties = (0..count).map(|i| (format!("k{i}"), "v".to_owned())).collect();
            }
        };
        check(numbered(128), Ok(()));
        check(numbered(129), Err(Code::MessagePropertiesTooLarge));
        check_property("k", &"v".repeat((16 << 10) - 1), Ok(()));
        check_property("k", &"v".repeat(16 << 10), Err(Code::MessagePropertiesTooLarge));
        check_property("", "", Ok(()));
        check_property("__SHARDINGKEY", "x", Ok(()));
        for key in ["KEYS", "TAGS", "__LITE_TOPIC", "1ST_POP_TIME", "WAIT", "a\u{0}", "a\u{9f}"] {
            check_property(key, "x", Err(Code::IllegalMessagePropertyKey));
        }
        check_property("keys", "größe", Ok(()));
        check_property("k", "a\nb", Err(Code::IllegalMessagePropertyKey));
        check_property("k", "\u{7f}", Err(Code::IllegalMessagePropertyKey));
    }

    #[test]
    fn a_time_to_live_is_a_number_of_ms() {
        let read = |value: &str| {
            let message = Published { user_properties: vec![("color", "red"), (TTL_KEY, value)], ..Default::default() };
            ttl_ms(&message)
        };
        for (value, expected) in [("1", 1), ("0060000", 60_000), ("18446744073709551615", u64::MAX)] {
            check_property(TTL_KEY, value, Ok(()));
            assert_eq!(read(value), expected);
        }
        for value in ["", "0", "-1", "+1", "1s", " 1", "1.5", "18446744073709551616", "\u{661}"] {
            check_property(TTL_KEY, value, Err(Code::IllegalMessagePropertyKey));
            assert_eq!(read(value), 0);
        }
        assert_eq!(ttl_ms(&Published::default()), 0);
    }

    #[test]
    fn a_message_is_due_at_its_time_and_not_before() {
        let due = |seconds, nanos| {
            due_ms(&System { delivery: Some(Timestamp { seconds, nanos }), ..Default::default() }, NOW_MS)
        };
        let now = NOW_MS.cast_signed() / 1000;
        assert_eq!(due_ms(&System::default(), NOW_MS), 0);
        assert_eq!(due(now, 0), 0);
        assert_eq!(due(now, 1), NOW_MS + 1);
        assert_eq!(due(now, 250_000_000), NOW_MS + 250);
        assert_eq!(due(now, 250_000_001), NOW_MS + 251);
        for (seconds, nanos) in [(0, 0), (-1, 0), (i64::MIN, i32::MIN)] {
            assert_eq!(due(seconds, nanos), 0);
        }
    }

    #[test]
    fn a_half_message_says_when_to_ask() {
        let wait = |recovery| first_check_ms(&System { recovery, ..Default::default() });
        let of = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        assert_eq!([wait(None), wait(of(-5, 0)), wait(of(10, 500_000_000))], [0, 0, 10_500]);
    }

    #[test]
    fn reserved_keys_can_be_searched() {
        assert!(RESERVED_KEYS.is_sorted());
    }

    #[test]
    fn tags_and_keys_are_plain() {
        for (tag, expected) in [("", Ok(())), ("red", Ok(())), ("a b", Ok(()))] {
            check_system(|s| s.tag = Some(tag.into()), expected);
        }
        for tag in [" ", "a|b", "a\tb"] {
            check_system(|s| s.tag = Some(tag.into()), Err(Code::IllegalMessageTag));
        }
        check_system(|s| s.keys = vec!["".into(), "order 1".into()], Ok(()));
        for key in ["  ", "a\rb"] {
            check_system(|s| s.keys = vec!["fine".into(), key.into()], Err(Code::IllegalMessageKey));
        }
        check_system(|s| s.keys = vec!["k".repeat(16 << 10), "k".into()], Err(Code::MessagePropertiesTooLarge));
        check_system(|s| s.keys = vec![String::new(); 40_000], Err(Code::MessagePropertiesTooLarge));
        check_system(|s| s.trace_context = Some("t".repeat(65 << 10)), Err(Code::MessagePropertiesTooLarge));
    }

    #[test]
    fn ids_are_not_blank() {
        check(|m| m.system_properties = None, Err(Code::IllegalMessageId));
        check_system(|s| s.message_id = " ".into(), Err(Code::IllegalMessageId));
        check_system(|s| s.message_id = "abcde".into(), Ok(()));
        check_system(|s| s.message_id = "i".repeat(1024), Ok(()));
        check_system(|s| s.message_id = "i".repeat(1025), Err(Code::IllegalMessageId));
    }

    #[test]
    fn times_have_bounds() {
        let at = |ms: i64| Some(Timestamp { seconds: ms / 1000, nanos: (ms % 1000) as i32 * 1_000_000 });
        let limit = NOW_MS as i64 + 86_400_000;
        check_system(|s| s.delivery_timestamp = at(limit), Ok(()));
        check_system(|s| s.delivery_timestamp = at(limit + 1), Err(Code::IllegalDeliveryTime));
        check_system(|s| s.delivery_timestamp = at(0), Ok(()));
        let extreme = |seconds| Some(Timestamp { seconds, nanos: i32::MIN });
        check_system(|s| s.delivery_timestamp = extreme(i64::MIN), Ok(()));
        check_system(|s| s.delivery_timestamp = extreme(i64::MAX), Err(Code::IllegalDeliveryTime));
        let recovery = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let half = |seconds| {
            move |s: &mut SystemProperties| {
                s.message_type = MessageType::Transaction.into();
                s.orphaned_transaction_recovery_duration = recovery(seconds);
            }
        };
        check_system(half(3600), Ok(()));
        check_system(half(3601), Err(Code::BadRequest));
        check_system(|s| s.orphaned_transaction_recovery_duration = recovery(9999), Ok(()));
    }

    #[test]
    fn message_groups_are_short_and_plain() {
        for (group, expected) in [("", Ok(())), ("order-1", Ok(())), (&"g".repeat(63), Ok(()))] {
            check_system(|s| s.message_group = Some(group.into()), expected);
        }
        for group in [&"g".repeat(64), " ", "a\nb"] {
            check_system(|s| s.message_group = Some(group.into()), Err(Code::IllegalMessageGroup));
        }
    }

    #[test]
    fn lite_topics_and_priorities_are_checked() {
        check_system(|s| s.lite_topic = Some("l".repeat(64)), Ok(()));
        for name in ["", "a b", "a%", &"l".repeat(65)] {
            check_system(|s| s.lite_topic = Some(name.into()), Err(Code::IllegalLiteTopic));
        }
        check_system(|s| s.priority = Some(0), Ok(()));
        check_system(|s| s.priority = Some(-1), Err(Code::IllegalMessagePropertyKey));
    }

    #[test]
    fn the_first_fault_in_order_is_told() {
        check(
            |m| {
                m.user_properties.insert("KEYS".into(), "x".into());
                m.system_properties = None;
            },
            Err(Code::IllegalMessagePropertyKey),
        );
        check_system(
            |s| {
                s.message_id = String::new();
                s.tag = Some("a|b".into());
            },
            Err(Code::IllegalMessageTag),
        );
    }

    #[test]
    fn the_type_follows_from_the_content() {
        let kind = |system: &System<'_>| effective_type(system, TopicType::Mixed);
        let mut system = System::default();
        assert_eq!(kind(&system), MessageType::Normal);
        system.lite_topic = Some("l");
        assert_eq!(kind(&system), MessageType::Lite);
        system.priority = Some(0);
        assert_eq!(kind(&system), MessageType::Priority);
        system.message_type = MessageType::Normal.into();
        assert_eq!(kind(&system), MessageType::Lite, "a priority of 0 on a normal message is none");
        assert_eq!(effective_type(&system, TopicType::Priority), MessageType::Priority, "but where it is one");
        system.message_group = "g";
        assert_eq!(kind(&system), MessageType::Fifo);
        system.delivery = Some(Timestamp::default());
        assert_eq!(kind(&system), MessageType::Delay);
        system.message_type = MessageType::Transaction.into();
        assert_eq!(kind(&system), MessageType::Transaction);
    }
}
