//! What the public contract promises, asked of a proxy over a store in memory: once with both in
//! this process, once over loopback connections.

mod admin;
mod commands;
mod delay;
mod fake_store;
mod harness;
mod lite;
mod offsets;
mod pull;
mod receive;
mod route;
mod send;
mod session;
mod settle;
mod telemetry;
mod transaction;
