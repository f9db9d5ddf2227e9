//! Centaur, a message broker.
fn main() {}
