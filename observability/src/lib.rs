//! Logs and metrics of a process: one `init`, one guard.
