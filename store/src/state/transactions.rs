//! Half messages: stored, and not visible before their transaction is committed.

use centaur_apis::{
    log::{TransactionChecked, TransactionEnded},
    units::Lsn,
};

use crate::log::record::Message;

/// Every undecided transaction, and those decided lately.
#[derive(Clone, Debug, Default)]
pub struct Transactions {}

impl Transactions {
    /// A half message was stored.
    pub fn begin(&mut self, _lsn: Lsn, _length: u32, _message: &Message) {}

    pub fn end(&mut self, _event: &TransactionEnded) {}

    pub fn check(&mut self, _event: &TransactionChecked) {}
}
