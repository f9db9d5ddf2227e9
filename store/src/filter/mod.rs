//! Which messages a consumer wants. Tags are narrowed by the hash in the index and decided by the
//! text itself; SQL is decided by the properties. Neither looks at a body.

mod cache;
mod sql;

use std::sync::Arc;

use centaur_apis::{
    fields::{self, system},
    hash64,
    store::{self, Error, Reason, filter::Kind},
};

pub use cache::Cache;

/// Most tags one expression may name.
const TAGS_MAX: usize = 256;

/// A consumer's choice of messages of a topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    All,
    /// One of these tags, with their hashes.
    Tags(Vec<(u64, String)>),
    /// What this condition is true of.
    Sql(Arc<sql::Expression>),
}

/// What a filter looks at: a message's encoded user properties, among its head, and its encoded
/// system properties.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text<'a> {
    pub head: &'a [u8],
    pub properties: &'a [u8],
}

impl Filter {
    /// Reads what the proxy sent. Errors: `InvalidFilter`.
    fn parse(filter: Option<&store::Filter>) -> Result<Self, Error> {
        let Some(filter) = filter else { return Ok(Self::All) };
        match filter.kind() {
            Kind::All => Ok(Self::All),
            Kind::Tags if filter.tags.is_empty() => Ok(Self::All),
            Kind::Tags if filter.tags.len() > TAGS_MAX => {
                let sentence = format!("filter names {} tags; at most {TAGS_MAX} are allowed", filter.tags.len());
                Err(Error::new(Reason::InvalidFilter, sentence))
            }
            Kind::Tags => Ok(Self::Tags(filter.tags.iter().map(|tag| (hash64(tag.as_bytes()), tag.clone())).collect())),
            Kind::Sql => Ok(Self::Sql(Arc::new(sql::Expression::parse(&filter.sql)?))),
        }
    }

    /// Whether a message with this tag hash can match; `false` is certain.
    pub fn may_match(&self, tag_hash: u64) -> bool {
        match self {
            Self::All | Self::Sql(_) => true,
            Self::Tags(tags) => tags.iter().any(|(hash, _)| *hash == tag_hash),
        }
    }

    /// Whether the message itself has to be looked at.
    pub fn needs_text(&self) -> bool {
        !matches!(self, Self::All)
    }

    /// What looking at one message costs, at least 1: about the work of reading so many of them.
    pub fn cost(&self) -> usize {
        match self {
            Self::All | Self::Tags(_) => 1,
            Self::Sql(expression) => expression.cost(),
        }
    }

    /// Whether a message with these properties matches.
    pub fn matches(&self, text: Text<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => {
                let tag = fields::text(text.properties, system::TAG);
                tag.is_some_and(|tag| tags.iter().any(|(_, wanted)| wanted == tag))
            }
            Self::Sql(expression) => expression.matches(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::SystemProperties;
    use prost::Message as _;

    use super::*;

    fn matches(filter: &Filter, tag: Option<&str>) -> bool {
        let system = SystemProperties { tag: tag.map(Into::into), message_id: "m".into(), ..Default::default() };
        filter.matches(Text { head: &[], properties: &system.encode_to_vec() })
    }

    #[test]
    fn tags_are_compared_by_text() {
        let wanted =
            store::Filter { kind: Kind::Tags.into(), tags: vec!["red".into(), "blue".into()], ..Default::default() };
        let filter = Filter::parse(Some(&wanted)).expect("valid");
        assert!(filter.may_match(hash64(b"red")) && !filter.may_match(hash64(b"green")) && !filter.may_match(0));
        assert!(matches(&filter, Some("blue")));
        assert!(!matches(&filter, Some("blue ")));
        assert!(!matches(&filter, None));
    }

    #[test]
    fn no_filter_matches_all() {
        assert_eq!(Filter::parse(None), Ok(Filter::All));
        assert!(matches(&Filter::All, None));
    }

    #[test]
    fn conditions_look_at_the_message() {
        let wanted = store::Filter { kind: Kind::Sql.into(), sql: "TAGS = 'red'".into(), ..Default::default() };
        let filter = Filter::parse(Some(&wanted)).expect("valid");
        assert!(filter.needs_text() && filter.may_match(0));
        assert!(matches(&filter, Some("red")) && !matches(&filter, None));
    }
}
