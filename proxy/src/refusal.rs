//! Why a request was refused: a code of the public contract and one sentence.

use std::fmt;

use centaur_apis::{
    error::public_code,
    store::{Error, Reason},
    v2::{Code, Status},
};

/// Clients' own tests look for this at the start of the text about an unknown topic.
const TOPIC_NOT_FOUND_MARK: &str = "CODE: 17";

/// A refusal on its way into the status of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// One sentence that names the field, the limit and the value given.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn topic_not_found(topic: &str) -> Self {
        Error::new(Reason::TopicNotFound, format!("topic {topic:?} does not exist; create it first")).into()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = public_code(error.reason());
        if code == Code::TopicNotFound && !error.message.starts_with(TOPIC_NOT_FOUND_MARK) {
            return Self::new(code, format!("{TOPIC_NOT_FOUND_MARK}, {}", error.message));
        }
        Self::new(code, error.message)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code.into(), message: refusal.message }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str_name(), self.message)
    }
}

/// The status of a request that was carried out.
pub(crate) fn ok() -> Status {
    Status { code: Code::Ok.into(), message: "OK".into() }
}

/// The status of a whole answer: what its entries agree on, or that they differ.
pub(crate) fn common<'a>(mut entries: impl Iterator<Item = Option<&'a Status>>) -> Status {
    let Some(first) = entries.next().flatten() else {
        return Refusal::new(Code::InternalServerError, "the answer has no entries").into();
    };
    let agrees = |status: Option<&Status>| status.is_some_and(|s| s.code == first.code);
    if entries.all(agrees) {
        return first.clone();
    }
    Refusal::new(Code::MultipleResults, "the entries have different results; look at the status of each").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_topic_is_marked_once() {
        let refusal = Refusal::topic_not_found("orders");
        assert_eq!(refusal.code, Code::TopicNotFound);
        assert_eq!(refusal.message, "CODE: 17, topic \"orders\" does not exist; create it first");
        let again = Refusal::from(Error::new(Reason::TopicNotFound, refusal.message.clone()));
        assert_eq!(again, refusal);
    }

    #[test]
    fn a_whole_answer_has_the_code_its_entries_share() {
        let refused = Status { code: Code::InvalidReceiptHandle.into(), message: String::new() };
        let ok = ok();
        let code = |entries: &[&Status]| common(entries.iter().map(|s| Some(*s))).code();
        assert_eq!(code(&[&ok]), Code::Ok);
        assert_eq!(code(&[&ok, &ok]), Code::Ok);
        assert_eq!(code(&[&refused]), Code::InvalidReceiptHandle);
        assert_eq!(code(&[&ok, &refused]), Code::MultipleResults);
        assert_eq!(code(&[]), Code::InternalServerError);
    }
}
