//! Bounds of the contract that are held to the letter.

use std::time::Duration;

/// Measures how long something takes, in a turn of its own name; fails when it takes too long twice.
///
/// Beside a hundred other tests and their servers one turn may be late by no fault of the server. A
/// server that is late by its own fault is so in the second turn, too; a bound with slack would hide
/// it.
pub async fn timely(bound: Duration, turn: impl AsyncFn(u32) -> Duration) {
    let first = turn(1).await;
    if first < bound {
        return;
    }
    let second = turn(2).await;
    assert!(second < bound, "{first:?}, then {second:?}, where the contract has {bound:?}");
}
