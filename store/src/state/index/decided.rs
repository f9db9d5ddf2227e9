//! Where transactions were decided: a look-up hash of the half message leads to the record that
//! decided it. It is kept among the keys, as long as the part of the index is.

use centaur_apis::{hash64, units::Lsn};

use super::{Index, RunError};

/// Records under one hash that are looked at; two are an accident of the hash.
const PLACES_MAX: usize = 8;

/// The look-up hash of the decision about the half message at a place. No text that users give has
/// this beginning: it is not UTF-8.
pub(super) fn decision_key(half: Lsn) -> u64 {
    let mut text = *b"\xffdecided........";
    text[8..].copy_from_slice(&half.0.to_le_bytes());
    hash64(&text)
}

impl Index {
    /// Notes in the open segment that the transaction of a half message was decided by the record at
    /// `lsn`.
    pub fn push_decided(&mut self, half: Lsn, lsn: Lsn) {
        self.open_mut().push_decided(half, lsn);
    }

    /// Places of records that may have decided the transaction of a half message, the newest first.
    pub fn decisions(&self, half: Lsn) -> Result<Vec<Lsn>, RunError> {
        let (hash, mut out) = (decision_key(half), Vec::new());
        for open in self.in_memory().rev() {
            open.keys(hash, Lsn(u64::MAX), PLACES_MAX - out.len(), &mut out);
        }
        // A decision is recorded once, behind the message: older parts are not looked at for another.
        for run in self.runs().rev().take_while(|run| run.end() > half) {
            if !out.is_empty() {
                break;
            }
            run.keys(hash, Lsn(u64::MAX), PLACES_MAX, &mut out)?;
        }
        Ok(out)
    }
}
