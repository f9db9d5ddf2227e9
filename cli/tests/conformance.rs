//! The promises of the public contract, each held against the real binary by a plain generated
//! client. The number beside a test is that of the statement in the contract's checklist.
//!
//! Not here: what needs message-group locks, delays, transactions, lite topics or SQL; and
//! promises about hours, whose mechanism is tested in the store: the end of a renewed lease after
//! three hours (75), silence of two minutes before a killed client's messages are given on (74).

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
