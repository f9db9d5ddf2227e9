//! The promises of the public contract, each held against the real binary by a plain generated
//! client. The number beside a test is that of the statement in the contract's checklist.
//!
//! Not here: the end of a renewed lease after three hours (75) and that of lite subscriptions after
//! three minutes without a word (89), which the store is tested for with a clock of its own.

mod harness;

mod conformance {
    mod broker;
    mod client;
    mod timely;

    mod bad_input;
    mod commands;
    mod delay;
    mod fifo;
    mod lite;
    mod long_times;
    mod offsets;
    mod priority;
    mod receive;
    mod route;
    mod send;
    mod settle;
    mod telemetry;
    mod transaction;
    mod transport;
}
