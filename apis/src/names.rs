//! Names of topics, groups and store groups: checked once, trusted after.

use std::fmt;

use thiserror::Error;

/// Longest topic name, in bytes.
pub const TOPIC_BYTES_MAX: usize = 127;
/// Longest consumer group name, in bytes.
pub const GROUP_BYTES_MAX: usize = 120;
/// What the dead-letter topic of a group is called, before the group's name.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";
/// What the view of a group's redeliveries is called, before the group's name.
pub const RETRY_PREFIX: &str = "%RETRY%";

/// Names that belong to the system; source: public contract, TopicValidator.
const SYSTEM_TOPICS: [&str; 10] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Why a name cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("{what} name is empty; give 1 to {max} letters, digits, '_', '-', '%' or '|'")]
    Empty { what: &'static str, max: usize },
    #[error("{what} name has {bytes} characters; at most {max} are allowed")]
    TooLong { what: &'static str, bytes: usize, max: usize },
    #[error(
        "{what} name {name:?} has the character {character:?}; only letters, digits, '_', '-', '%' and '|' are allowed"
    )]
    Character { what: &'static str, name: String, character: char },
    #[error("{what} name {name:?} belongs to the system; choose another")]
    System { what: &'static str, name: String },
}

/// The name of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(String);

/// The name of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(String);

/// The name of a store group; the public API calls it a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreGroupName(String);

impl TopicName {
    /// Takes a name that clients may use.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        Self::check(name)?;
        Ok(Self(name.to_owned()))
    }

    /// Whether clients may use a name, without keeping it.
    pub fn check(name: &str) -> Result<(), Invalid> {
        check("topic", name, TOPIC_BYTES_MAX)?;
        if SYSTEM_TOPICS.contains(&name) || name.starts_with(SYSTEM_TOPIC_PREFIX) {
            return Err(Invalid::System { what: "topic", name: name.to_owned() });
        }
        Ok(())
    }

    /// The dead-letter topic of a group.
    pub fn dead_letter(group: &GroupName) -> Self {
        Self(format!("{DEAD_LETTER_PREFIX}{group}"))
    }

    /// Whether it is a dead-letter or retry topic: made by the system, readable by users.
    pub fn is_derived(&self) -> bool {
        self.0.starts_with(DEAD_LETTER_PREFIX) || self.0.starts_with(RETRY_PREFIX)
    }
}

impl GroupName {
    /// Takes a name that clients may use.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        Self::check(name)?;
        Ok(Self(name.to_owned()))
    }

    /// Whether clients may use a name, without keeping it.
    pub fn check(name: &str) -> Result<(), Invalid> {
        check("group", name, GROUP_BYTES_MAX)?;
        if name.starts_with(SYSTEM_GROUP_PREFIX) {
            return Err(Invalid::System { what: "group", name: name.to_owned() });
        }
        Ok(())
    }
}

impl StoreGroupName {
    /// Takes a name for a store group.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        check("store group", name, TOPIC_BYTES_MAX)?;
        Ok(Self(name.to_owned()))
    }
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), Invalid> {
    if name.trim().is_empty() {
        return Err(Invalid::Empty { what, max });
    }
    if name.len() > max {
        return Err(Invalid::TooLong { what, bytes: name.len(), max });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '%' | '|');
    match name.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(Invalid::Character { what, name: name.to_owned(), character }),
        None => Ok(()),
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}
text!(TopicName, GroupName, StoreGroupName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_keep_the_public_bounds() {
        let longest = "t".repeat(TOPIC_BYTES_MAX);
        for name in ["orders", "a", "A_b-c%d|e", "%DLQ%workers", longest.as_str()] {
            assert_eq!(TopicName::parse(name).map(String::from), Ok(name.to_owned()));
        }
        let too_long = "t".repeat(TOPIC_BYTES_MAX + 1);
        for name in ["", "  ", "a b", "a.b", "größe", "TBW102", "rmq_sys_x", too_long.as_str()] {
            assert!(TopicName::parse(name).is_err(), "{name:?} passed");
        }
    }

    #[test]
    fn group_names_keep_the_public_bounds() {
        assert!(GroupName::parse(&"g".repeat(GROUP_BYTES_MAX)).is_ok());
        assert!(GroupName::parse(&"g".repeat(GROUP_BYTES_MAX + 1)).is_err());
        assert!(GroupName::parse("CID_RMQ_SYS_x").is_err());
    }
}
