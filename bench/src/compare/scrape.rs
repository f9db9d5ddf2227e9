//! What a server says about itself on its operators' port: the few counters a comparison needs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

const MESSAGES: &str = "centaur_store_messages_in_total";
const BLOCKS: &str = "centaur_store_log_blocks_total";
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a store has written so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stored {
    messages: f64,
    blocks: f64,
}

impl Stored {
    /// How many messages shared a block since `earlier`; none when no block was written.
    pub(crate) fn messages_per_block(self, earlier: Self) -> Option<f64> {
        let blocks = self.blocks - earlier.blocks;
        (blocks > 0.0).then(|| (self.messages - earlier.messages) / blocks)
    }

    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            // A counter appears when it counts for the first time.
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        Self { messages: value(MESSAGES), blocks: value(BLOCKS) }
    }
}

/// Asks the operators' port at `address`, as host:port.
///
/// Errors: it cannot be reached, or does not answer with metrics in time.
pub(crate) async fn stored(address: &str) -> Result<Stored> {
    let answer = time::timeout(TIMEOUT, get_metrics(address)).await.context("no answer in time").flatten();
    let answer = answer.with_context(|| format!("the metrics of {address} cannot be read"))?;
    Ok(Stored::parse(&answer))
}

async fn get_metrics(address: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    connection.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        bail!("the answer is {status:?}");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE centaur_store_messages_in_total counter\n\
                    centaur_store_messages_in_total 640\ncentaur_store_log_blocks_total_more 7\n\
                    centaur_store_log_blocks_total 20\n";
        let stored = Stored::parse(text);
        assert_eq!(stored, Stored { messages: 640.0, blocks: 20.0 });
        assert_eq!(stored.messages_per_block(Stored::parse("")), Some(32.0));
        assert_eq!(stored.messages_per_block(stored), None);
    }
}
