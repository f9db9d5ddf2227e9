//! Bounds of the contract that are held to the letter.

use std::time::Duration;

/// How often something may be too late before it is the server's fault.
const TURNS: u32 = 5;

/// Measures how long something takes, in turns of their own names, until one is within the bound.
///
/// The server needs half of some bounds by itself, and shares few processors with a hundred other
/// tests and their servers: a turn may be late by no fault of its own, and so may the one after it,
/// while the same tests still run. Later turns run when some of these have ended. A server that is late
/// by its own fault is so in every turn; a bound with slack would hide it. What this cannot see is a
/// server that is late only now and then.
pub async fn timely(bound: Duration, turn: impl AsyncFn(u32) -> Duration) {
    let mut late = Vec::new();
    for number in 1..=TURNS {
        let took = turn(number).await;
        if took < bound {
            return;
        }
        late.push(took);
    }
    panic!("{late:?}, where the contract has {bound:?}");
}
