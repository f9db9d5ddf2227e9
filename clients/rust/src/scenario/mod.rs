//! What the program can be asked to do: one file per scenario.

pub mod basic;
pub mod hold;
pub mod retry;
pub mod survive;
pub mod transaction;
pub mod transfer;
pub mod unknown;
