//! The truth: one commit log per store group, and everything else computed from it.

pub mod log;
