//! A disk that fails on demand.
