//! The commit log: bytes of records and blocks, segments, the door to the disk, recovery.

pub mod record;
