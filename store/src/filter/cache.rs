//! Keeps parsed conditions by their text: every poll of a consumer brings the same one.

use std::{collections::HashMap, sync::Arc};

use centaur_apis::store::{self, Error, filter::Kind};

use super::{Filter, sql::Expression};

/// Conditions kept, and bytes of their texts. A parsed one takes about ten times its text.
const KEPT_MAX: usize = 1024;
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Reads filters; the least recently used conditions make room for new ones.
#[derive(Debug, Default)]
pub struct Cache {
    kept: HashMap<Box<str>, Kept>,
    /// Of the texts.
    bytes: usize,
    /// Counts uses.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    expression: Arc<Expression>,
    last_use: u64,
}

impl Cache {
    /// Reads what the proxy sent. Errors: `InvalidFilter`.
    pub fn parse(&mut self, filter: Option<&store::Filter>) -> Result<Filter, Error> {
        let Some(filter) = filter.filter(|filter| filter.kind() == Kind::Sql) else { return Filter::parse(filter) };
        self.uses += 1;
        if let Some(kept) = self.kept.get_mut(filter.sql.as_str()) {
            kept.last_use = self.uses;
            return Ok(Filter::Sql(Arc::clone(&kept.expression)));
        }
        let expression = Arc::new(Expression::parse(&filter.sql)?);
        self.keep(&filter.sql, Arc::clone(&expression));
        Ok(Filter::Sql(expression))
    }

    fn keep(&mut self, text: &str, expression: Arc<Expression>) {
        while self.kept.len() >= KEPT_MAX || (self.bytes + text.len() > KEPT_BYTES_MAX && !self.kept.is_empty()) {
            self.forget_one();
        }
        self.bytes += text.len();
        self.kept.insert(text.into(), Kept { expression, last_use: self.uses });
    }

    fn forget_one(&mut self) {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.last_use).map(|(text, _)| text.clone());
        if let Some(text) = oldest {
            self.kept.remove(&text);
            self.bytes -= text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: impl Into<String>) -> store::Filter {
        store::Filter { kind: Kind::Sql.into(), sql: text.into(), ..Default::default() }
    }

    fn parse(cache: &mut Cache, text: impl Into<String>) -> Arc<Expression> {
        match cache.parse(Some(&sql(text))) {
            Ok(Filter::Sql(expression)) => expression,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_text_is_parsed_once() {
        let mut cache = Cache::default();
        let first = parse(&mut cache, "a = 1");
        assert!(Arc::ptr_eq(&first, &parse(&mut cache, "a = 1")));
        assert!(!Arc::ptr_eq(&first, &parse(&mut cache, "a = 2")));
    }

    #[test]
    fn what_was_not_used_for_longest_is_forgotten_first() {
        let mut cache = Cache::default();
        let used = parse(&mut cache, "used = 1");
        let unused = parse(&mut cache, "unused = 1");
        for i in 0..KEPT_MAX - 1 {
            parse(&mut cache, format!("a = {i}"));
            assert!(Arc::ptr_eq(&used, &parse(&mut cache, "used = 1")));
        }
        assert_eq!(cache.kept.len(), KEPT_MAX);
        assert!(!Arc::ptr_eq(&unused, &parse(&mut cache, "unused = 1")));
    }

    #[test]
    fn long_texts_make_room_for_each_other() {
        let mut cache = Cache::default();
        for i in 0..100 {
            parse(&mut cache, format!("a = '{i}{}'", "x".repeat(30_000)));
        }
        assert!(cache.bytes <= KEPT_BYTES_MAX && cache.kept.len() > 30);
        assert_eq!(cache.bytes, cache.kept.keys().map(|text| text.len()).sum::<usize>());
    }

    #[test]
    fn what_is_not_valid_is_not_kept() {
        let mut cache = Cache::default();
        assert!(cache.parse(Some(&sql("a ="))).is_err());
        assert_eq!(cache.parse(None), Ok(Filter::All));
        assert!(cache.kept.is_empty() && cache.bytes == 0);
    }
}
