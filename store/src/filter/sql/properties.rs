//! The properties that an expression names, and their values in one message: found in a single
//! pass over the encoded fields.

use std::borrow::Cow;

use centaur_apis::fields::{self, Fields, Value, message, system};

use super::Text;

/// Properties with the names of the tag and the keys.
const TAGS: &str = "TAGS";
const KEYS: &str = "KEYS";
/// Fields of an entry of an encoded map.
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
/// Properties whose values are found without memory of their own.
const FEW: usize = 16;

/// The properties of an expression; each has a slot for its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// User properties, sorted.
    user: Vec<Name>,
    tags: Option<usize>,
    keys: Option<usize>,
}

/// A user property. Sorts by its first bytes as a number: most names differ there, and numbers are
/// compared in no time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    head: u64,
    text: Box<str>,
    slot: usize,
}

impl Names {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.user.len() + usize::from(self.tags.is_some()) + usize::from(self.keys.is_some())
    }

    /// The slot of a property; a new one for a new name.
    pub fn slot(&mut self, name: &str) -> usize {
        let next = self.count();
        match name {
            TAGS => *self.tags.get_or_insert(next),
            KEYS => *self.keys.get_or_insert(next),
            _ => match self.find(name.as_bytes()) {
                Ok(slot) => slot,
                Err(at) => {
                    self.user.insert(at, Name { head: head_of(name.as_bytes()), text: name.into(), slot: next });
                    next
                }
            },
        }
    }

    /// Calls `use_values` with the values of a message, by slot.
    pub fn with_values<R>(&self, text: Text<'_>, use_values: impl FnOnce(&[Option<&str>]) -> R) -> R {
        let keys = self.keys.and_then(|_| joined_keys(text.properties));
        let mut few = [None; FEW];
        let mut many = Vec::new();
        let values = match few.get_mut(..self.count()) {
            Some(few) => few,
            None => {
                many.resize(self.count(), None);
                &mut many[..]
            }
        };
        if !self.user.is_empty() {
            self.find_user_values(text.head, values);
        }
        if let Some(slot) = self.tags {
            values[slot] = fields::text(text.properties, system::TAG).filter(|tag| !tag.is_empty());
        }
        if let Some(slot) = self.keys {
            values[slot] = keys.as_deref();
        }
        use_values(values)
    }

    fn find_user_values<'a>(&self, head: &'a [u8], values: &mut [Option<&'a str>]) {
        for (number, field) in Fields::new(head) {
            if let Value::Bytes(entry) = field
                && number == message::USER_PROPERTIES
                && let (key, value) = key_and_value(entry)
                && let Ok(slot) = self.find(key)
            {
                values[slot] = std::str::from_utf8(value).ok();
            }
        }
    }

    /// The slot of a user property, or where its name would stand.
    fn find(&self, name: &[u8]) -> Result<usize, usize> {
        let head = head_of(name);
        let place = |known: &Name| known.head.cmp(&head).then_with(|| known.text.as_bytes().cmp(name));
        self.user.binary_search_by(place).map(|at| self.user[at].slot)
    }
}

/// The first bytes of a name in the order of the alphabet, filled up with zeros.
fn head_of(name: &[u8]) -> u64 {
    match name.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => name.iter().fold(0, |head, byte| head << 8 | u64::from(*byte)) << (8 * (8 - name.len())).min(63),
    }
}

/// Both are empty when they are left out, as protobuf has it.
fn key_and_value(entry: &[u8]) -> (&[u8], &[u8]) {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for (number, field) in Fields::new(entry) {
        match (number, field) {
            (ENTRY_KEY, Value::Bytes(bytes)) => key = bytes,
            (ENTRY_VALUE, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    (key, value)
}

/// The keys of a message with blanks between them. One key, the usual case, is not copied.
fn joined_keys(properties: &[u8]) -> Option<Cow<'_, str>> {
    let mut keys = fields::texts(properties, system::KEYS);
    let mut joined = Cow::Borrowed(keys.next()?);
    for key in keys {
        let joined = joined.to_mut();
        joined.push(' ');
        joined.push_str(key);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::{Message, SystemProperties};
    use prost::Message as _;

    use super::*;

    /// An encoded head and encoded system properties.
    fn encode(user: &[(&str, &str)], tag: Option<&str>, keys: &[&str]) -> [Vec<u8>; 2] {
        let user_properties = user.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let head = Message { user_properties, ..Default::default() };
        let keys = keys.iter().map(|key| (*key).into()).collect();
        let system = SystemProperties { tag: tag.map(Into::into), keys, ..Default::default() };
        [head.encode_to_vec(), system.encode_to_vec()]
    }

    fn check(names: &[&str], [head, properties]: &[Vec<u8>; 2], expected: &[Option<&str>]) {
        let mut known = Names::default();
        let slots: Vec<usize> = names.iter().map(|name| known.slot(name)).collect();
        known.with_values(Text { head, properties }, |values| {
            assert_eq!(slots.iter().map(|slot| values[*slot]).collect::<Vec<_>>(), expected);
        });
    }

    #[test]
    fn each_name_gets_its_value() {
        let message = encode(&[("b", "2"), ("a", "1"), ("", "x"), ("e", "")], Some("red"), &["k1", "k2"]);
        let expected = [Some("1"), Some("2"), Some("red"), Some(""), None, Some("k1 k2"), Some("1"), None];
        check(&["a", "b", "TAGS", "e", "c", "KEYS", "a", "A"], &message, &expected);
    }

    #[test]
    fn a_message_without_tag_and_keys_lacks_these_properties() {
        check(&["TAGS", "KEYS"], &encode(&[], None, &[]), &[None, None]);
        check(&["TAGS", "KEYS"], &encode(&[], Some(""), &["k"]), &[None, Some("k")]);
        check(&["TAGS"], &encode(&[("TAGS", "mine")], Some("red"), &[]), &[Some("red")]);
    }

    #[test]
    fn many_names_are_found_as_well() {
        let user: Vec<(String, String)> = (0..100).map(|i| (format!("p{i}"), i.to_string())).collect();
        let user: Vec<(&str, &str)> = user.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let names: Vec<&str> = user.iter().map(|(key, _)| *key).chain(["q"]).collect();
        let expected: Vec<Option<&str>> = user.iter().map(|(_, value)| Some(*value)).chain([None]).collect();
        check(&names, &encode(&user, None, &[]), &expected);
    }

    #[test]
    fn the_last_of_two_values_counts() {
        let first = encode(&[("a", "1")], None, &[]);
        let [head, _] = encode(&[("a", "2")], None, &[]);
        check(&["a"], &[[&first[0][..], &head].concat(), Vec::new()], &[Some("2")]);
    }
}
