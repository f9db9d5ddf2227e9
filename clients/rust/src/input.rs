//! What the runner says to a program while it runs.

use tokio::io::{AsyncBufReadExt, BufReader};

/// Waits until standard input says `stop` or ends.
pub async fn stopped() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "stop" {
            break;
        }
    }
}
