//! Which messages a consumer wants. Narrowed by the hash in the index, decided by the text itself.

use centaur_apis::{
    fields::{self, system},
    hash64,
    store::{self, Error, Reason, filter::Kind},
};

/// Most tags one expression may name.
const TAGS_MAX: usize = 256;

/// A consumer's choice of messages of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    All,
    /// One of these tags, with their hashes.
    Tags(Vec<(u64, String)>),
}

impl Filter {
    /// Reads what the proxy sent. Errors: `InvalidFilter`.
    pub fn parse(filter: Option<&store::Filter>) -> Result<Self, Error> {
        let Some(filter) = filter else { return Ok(Self::All) };
        match filter.kind() {
            Kind::All => Ok(Self::All),
            Kind::Tags if filter.tags.is_empty() => Ok(Self::All),
            Kind::Tags if filter.tags.len() > TAGS_MAX => {
                let sentence = format!("filter names {} tags; at most {TAGS_MAX} are allowed", filter.tags.len());
                Err(Error::new(Reason::InvalidFilter, sentence))
            }
            Kind::Tags => Ok(Self::Tags(filter.tags.iter().map(|tag| (hash64(tag.as_bytes()), tag.clone())).collect())),
            Kind::Sql => Err(Error::new(Reason::InvalidFilter, "filter type SQL is not supported; filter by tag")),
        }
    }

    /// Whether a message with this tag hash can match; `false` is certain.
    pub fn may_match(&self, tag_hash: u64) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => tags.iter().any(|(hash, _)| *hash == tag_hash),
        }
    }

    /// Whether the message itself has to be looked at.
    pub fn needs_text(&self) -> bool {
        !matches!(self, Self::All)
    }

    /// Whether a message with these encoded system properties matches.
    pub fn matches(&self, properties: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => {
                let tag = fields::text(properties, system::TAG);
                tag.is_some_and(|tag| tags.iter().any(|(_, wanted)| wanted == tag))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::SystemProperties;
    use prost::Message as _;

    use super::*;

    fn tagged(tag: Option<&str>) -> Vec<u8> {
        SystemProperties { tag: tag.map(Into::into), message_id: "m".into(), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn tags_are_compared_by_text() {
        let wanted =
            store::Filter { kind: Kind::Tags.into(), tags: vec!["red".into(), "blue".into()], ..Default::default() };
        let filter = Filter::parse(Some(&wanted)).expect("valid");
        assert!(filter.may_match(hash64(b"red")) && !filter.may_match(hash64(b"green")) && !filter.may_match(0));
        assert!(filter.matches(&tagged(Some("blue"))));
        assert!(!filter.matches(&tagged(Some("blue "))));
        assert!(!filter.matches(&tagged(None)));
    }

    #[test]
    fn no_filter_matches_all() {
        assert_eq!(Filter::parse(None), Ok(Filter::All));
        assert!(Filter::All.matches(&tagged(None)));
    }
}
