//! The promises of the public contract, each held against the real binary by a plain generated
//! client. The number beside a test is that of the statement in the contract's checklist.
//!
//! Not here: what needs message-group locks, delays, transactions, lite topics or SQL; and the end
//! of a renewed lease after three hours (75), which the store is tested for with a clock of its own.

mod harness;

mod conformance {
    mod broker;
    mod client;

    mod bad_input;
    mod long_times;
    mod receive;
    mod route;
    mod send;
    mod settle;
    mod telemetry;
    mod transport;
}
