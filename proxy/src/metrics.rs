//! What the proxy counts.

use std::array;

use centaur_apis::v2::Code;
use metrics::{Counter, counter};

/// The procedures of the public service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    QueryRoute,
    Heartbeat,
    SendMessage,
    QueryAssignment,
    ReceiveMessage,
    AckMessage,
    ForwardMessageToDeadLetterQueue,
    PullMessage,
    UpdateOffset,
    GetOffset,
    QueryOffset,
    EndTransaction,
    Telemetry,
    NotifyClientTermination,
    ChangeInvisibleDuration,
    RecallMessage,
    SyncLiteSubscription,
}

const RPCS: [(Rpc, &str); 17] = [
    (Rpc::QueryRoute, "QueryRoute"),
    (Rpc::Heartbeat, "Heartbeat"),
    (Rpc::SendMessage, "SendMessage"),
    (Rpc::QueryAssignment, "QueryAssignment"),
    (Rpc::ReceiveMessage, "ReceiveMessage"),
    (Rpc::AckMessage, "AckMessage"),
    (Rpc::ForwardMessageToDeadLetterQueue, "ForwardMessageToDeadLetterQueue"),
    (Rpc::PullMessage, "PullMessage"),
    (Rpc::UpdateOffset, "UpdateOffset"),
    (Rpc::GetOffset, "GetOffset"),
    (Rpc::QueryOffset, "QueryOffset"),
    (Rpc::EndTransaction, "EndTransaction"),
    (Rpc::Telemetry, "Telemetry"),
    (Rpc::NotifyClientTermination, "NotifyClientTermination"),
    (Rpc::ChangeInvisibleDuration, "ChangeInvisibleDuration"),
    (Rpc::RecallMessage, "RecallMessage"),
    (Rpc::SyncLiteSubscription, "SyncLiteSubscription"),
];

/// Series that are registered once, so that counting an answer is one addition.
pub(crate) struct Metrics {
    ok: [Counter; RPCS.len()],
}

impl Metrics {
    /// Registers with the recorder installed at this time.
    pub(crate) fn new() -> Self {
        Self { ok: array::from_fn(|i| answers(RPCS[i].1, Code::Ok)) }
    }

    pub(crate) fn answered(&self, rpc: Rpc, code: Code) {
        let at = rpc as usize;
        match code {
            Code::Ok => self.ok[at].increment(1),
            refused => answers(RPCS[at].1, refused).increment(1),
        }
    }
}

fn answers(rpc: &'static str, code: Code) -> Counter {
    counter!("centaur_proxy_answers_total", "rpc" => rpc, "code" => code.as_str_name())
}

/// Clients heard from lately.
pub(crate) fn clients(count: usize) {
    metrics::gauge!("centaur_proxy_clients").set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_procedure_has_its_own_name() {
        for (at, (rpc, name)) in RPCS.iter().enumerate() {
            assert_eq!(*rpc as usize, at, "{name}");
            assert_eq!(format!("{rpc:?}"), *name);
        }
    }
}
