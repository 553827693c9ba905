//! Putting records into a network, and reading them back.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use rand::RngExt;
use starling_api::{Batch, Data, Op, PAGE_KEYS_MAX, Range, Write};

use crate::data::Records;
use crate::error::Result;
use crate::network::{Network, Node, generator};

/// Records per batch, as `starling import` sends them.
const BATCH_RECORDS: usize = 500;
/// Bytes of a made-up key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a made-up value.
pub const VALUE_BYTES: usize = 100;
/// Batches on their way at once.
const BATCHES_IN_FLIGHT: usize = 4;

/// Writes records in batches through the given nodes in turn; says how long until the last was
/// acknowledged. `written` is told of each batch's size.
pub async fn write_all(
    network: &Network,
    through: &[usize],
    keyspace: &str,
    records: impl Iterator<Item = (String, Vec<u8>)>,
    written: impl Fn(u64),
) -> Result<Duration> {
    let began = Instant::now();
    let mut records = records.peekable();
    let batches = std::iter::from_fn(|| {
        records.peek()?;
        Some(records.by_ref().take(BATCH_RECORDS).collect::<Vec<_>>())
    });
    stream::iter(batches.zip(through.iter().cycle()))
        .map(|(batch, index)| {
            let node = network.node(*index);
            let written = &written;
            async move {
                let size = batch.len() as u64;
                node.client()?.batch(&request(keyspace, batch)).await.map_err(node.failed())?;
                written(size);
                Ok(())
            }
        })
        .buffer_unordered(BATCHES_IN_FLIGHT)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(began.elapsed())
}

fn request(keyspace: &str, records: Vec<(String, Vec<u8>)>) -> Batch {
    let put = |(key, value): (String, Vec<u8>)| Write::new(keyspace, key, Op::Put { value: value.into() });
    Batch { writes: records.into_iter().map(put).collect() }
}

/// Bytes of the keys and values of so many made-up records.
pub fn made_up_bytes(count: u64) -> u64 {
    count * (KEY_BYTES + VALUE_BYTES) as u64
}

/// Reads every register of a keyspace at one node.
pub async fn read_all(node: &Node, keyspace: &str) -> Result<Records> {
    let mut records = Records::new();
    let mut range = Range { limit: Some(PAGE_KEYS_MAX), values: true, ..Range::default() };
    loop {
        let page = node.client()?.list(keyspace, &range).await.map_err(node.failed())?;
        for info in page.keys {
            if let Some(Data::Register(register)) = info.data.into_iter().next() {
                records.insert(String::from_utf8_lossy(&info.key.0).into_owned(), register.value.0);
            }
        }
        range.after = page.next;
        if range.after.is_none() {
            return Ok(records);
        }
    }
}

/// Records made up for a measurement: distinct keys of [`KEY_BYTES`] that begin with `prefix`,
/// values of [`VALUE_BYTES`] random letters and digits.
pub fn made_up(seed: u64, prefix: &str, count: u64) -> impl Iterator<Item = (String, Vec<u8>)> + use<'_> {
    let mut random = generator(seed, 1);
    let digits = KEY_BYTES.saturating_sub(prefix.len());
    (0..count).map(move |n| {
        let value = (0..VALUE_BYTES).map(|_| random.sample(rand::distr::Alphanumeric)).collect();
        (format!("{prefix}{n:0digits$}"), value)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn made_up_records_are_distinct_and_the_same_for_a_seed() {
        let records: Vec<_> = made_up(7, "k", 100).collect();
        assert_eq!(records, made_up(7, "k", 100).collect::<Vec<_>>());
        assert_ne!(records, made_up(8, "k", 100).collect::<Vec<_>>());
        assert_eq!(records.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len(), 100);
        assert!(records.iter().all(|(key, value)| key.len() == KEY_BYTES && value.len() == VALUE_BYTES));
    }
}
