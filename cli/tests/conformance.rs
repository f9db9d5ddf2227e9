//! The promises of the public contract, each held against the real binary by a plain generated
//! client. The number beside a test is that of the statement in the contract's checklist.
//!
//! Not here: authentication (12 to 16, 18), of which there is none yet, and whole clients (92 to 100),
//! which `clients/run.py` runs. The three hours of a renewed lease (75) are 70 s here; the store is
//! tested for all of them with a clock of its own. `CENTAUR_LONG_TIMES=full` holds every other promise
//! about a time in full: see `long_times.rs`.

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
