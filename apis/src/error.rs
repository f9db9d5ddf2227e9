//! How a store's refusal travels: as a typed detail of a gRPC status, or inside a batch's result.

use prost::Message as _;
use tonic::{Code, Status};

use crate::{
    store::{Error, Reason},
    v2,
};

impl Error {
    /// A refusal with one sentence on what to change.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), leader: String::new() }
    }

    /// The refusal a status carries, or what a bare transport failure amounts to.
    pub fn from_status(status: &Status) -> Self {
        if let Ok(error) = Self::decode(status.details())
            && error.reason != 0
        {
            return error;
        }
        let reason = match status.code() {
            // The call may have been carried out: only its answer is missing.
            Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Aborted => Reason::UnknownOutcome,
            Code::Unavailable => Reason::NotLeader,
            Code::ResourceExhausted => Reason::Busy,
            Code::InvalidArgument | Code::OutOfRange => Reason::Invalid,
            _ => Reason::Failed,
        };
        Self::new(reason, status.message())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match error.reason() {
            Reason::Unspecified | Reason::Failed => Code::Internal,
            Reason::Invalid
            | Reason::InvalidHandle
            | Reason::InvalidFilter
            | Reason::TypeConflict
            | Reason::IllegalGroup
            | Reason::IllegalTopic
            | Reason::IllegalLiteTopic
            | Reason::IllegalOffset => Code::InvalidArgument,
            Reason::AlreadyExists => Code::AlreadyExists,
            Reason::Precondition | Reason::TooLate => Code::FailedPrecondition,
            Reason::Forbidden => Code::PermissionDenied,
            Reason::TopicNotFound
            | Reason::GroupNotFound
            | Reason::MessageNotFound
            | Reason::OffsetNotFound
            | Reason::TransactionNotFound => Code::NotFound,
            Reason::NotLeader | Reason::Stopping => Code::Unavailable,
            Reason::Busy | Reason::Full | Reason::LiteTopicQuota | Reason::LiteSubscriptionQuota => {
                Code::ResourceExhausted
            }
            Reason::UnknownOutcome => Code::DeadlineExceeded,
            Reason::Damaged => Code::DataLoss,
        };
        let details = error.encode_to_vec().into();
        Status::with_details(code, error.message, details)
    }
}

/// The public code of a refusal; source: public contract, internal error mapping.
pub fn public_code(reason: Reason) -> v2::Code {
    match reason {
        Reason::Unspecified | Reason::Failed | Reason::Damaged => v2::Code::InternalServerError,
        Reason::Invalid | Reason::AlreadyExists => v2::Code::BadRequest,
        Reason::Precondition => v2::Code::PreconditionFailed,
        Reason::InvalidHandle => v2::Code::InvalidReceiptHandle,
        Reason::InvalidFilter => v2::Code::IllegalFilterExpression,
        Reason::Forbidden => v2::Code::Forbidden,
        Reason::TypeConflict => v2::Code::MessagePropertyConflictWithType,
        Reason::TopicNotFound => v2::Code::TopicNotFound,
        Reason::GroupNotFound => v2::Code::ConsumerGroupNotFound,
        Reason::MessageNotFound => v2::Code::MessageNotFound,
        Reason::OffsetNotFound => v2::Code::OffsetNotFound,
        Reason::TransactionNotFound => v2::Code::InvalidTransactionId,
        // Not MESSAGE_NOT_FOUND: some clients take that for success in every answer.
        Reason::TooLate => v2::Code::NotFound,
        Reason::IllegalGroup => v2::Code::IllegalConsumerGroup,
        Reason::IllegalTopic => v2::Code::IllegalTopic,
        Reason::IllegalLiteTopic => v2::Code::IllegalLiteTopic,
        Reason::IllegalOffset => v2::Code::IllegalOffset,
        Reason::LiteTopicQuota => v2::Code::LiteTopicQuotaExceeded,
        Reason::LiteSubscriptionQuota => v2::Code::LiteSubscriptionQuotaExceeded,
        Reason::NotLeader | Reason::Stopping => v2::Code::HaNotAvailable,
        Reason::Busy | Reason::Full => v2::Code::TooManyRequests,
        Reason::UnknownOutcome => v2::Code::ProxyTimeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        for reason in [Reason::Busy, Reason::TopicNotFound, Reason::InvalidHandle, Reason::UnknownOutcome] {
            let error = Error::new(reason, "topic \"a\" does not exist");
            assert_eq!(Error::from_status(&Status::from(error.clone())), error);
        }
    }

    #[test]
    fn a_lost_answer_is_an_unknown_outcome() {
        let error = Error::from_status(&Status::deadline_exceeded("timed out"));
        assert_eq!(error.reason(), Reason::UnknownOutcome);
    }
}
