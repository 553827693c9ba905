//! One direction of one connection.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::shape::{Conditions, Path};
use super::{Member, Table};

/// Most bytes read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks under way in one direction of one connection, at most: 4 MiB, which lets 40 MB/s through
/// 100 ms. Then the sender is made to wait, as by a full window of TCP.
const CHUNKS_MAX: usize = 256;

/// One direction between two members, as the relay's table has it at any moment.
#[derive(Debug)]
pub struct Direction {
    /// The relay's.
    pub table: watch::Receiver<Table>,
    /// Who sends.
    pub from: Member,
    /// Who receives.
    pub to: Member,
}

/// What arrives at the far end, and when.
enum Item {
    Bytes(Instant, Vec<u8>),
    End(Instant),
}

impl Direction {
    fn conditions(&self) -> Conditions {
        self.table.borrow().conditions[self.from][self.to]
    }

    /// Draws how long a packet takes.
    pub fn delay(&self, random: &mut ChaCha8Rng) -> Duration {
        self.conditions().delay(random)
    }

    /// Waits until the direction is not cut.
    pub async fn open(&self) {
        let mut table = self.table.clone();
        let (from, to) = (self.from, self.to);
        if table.wait_for(|table| !table.conditions[from][to].cut).await.is_err() {
            // The relay is gone, and this task with it in a moment.
            std::future::pending::<()>().await;
        }
    }
}

/// Moves bytes from `input` to `output` until one of them ends.
pub async fn run(
    direction: Direction,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    random: ChaCha8Rng,
) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::join!(take(&direction, input, random, sender), give(&direction, output, receiver));
}

/// Notes when each chunk is due as it comes in.
async fn take(
    direction: &Direction,
    mut input: impl AsyncRead + Unpin,
    mut random: ChaCha8Rng,
    sender: mpsc::Sender<Item>,
) {
    let mut path = Path::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = tokio::select! {
            read = input.read(&mut buffer) => read.unwrap_or(0),
            () = sender.closed() => return,
        };
        let due = path.pass(Instant::now(), read, &direction.conditions(), &mut random);
        let item = if read == 0 { Item::End(due) } else { Item::Bytes(due, buffer[..read].to_vec()) };
        if sender.send(item).await.is_err() || read == 0 {
            return;
        }
    }
}

/// Hands each chunk over when it is due and nothing is cut.
async fn give(
    direction: &Direction,
    mut output: impl AsyncWrite + Unpin,
    mut receiver: mpsc::Receiver<Item>,
) {
    while let Some(item) = receiver.recv().await {
        let (Item::Bytes(due, _) | Item::End(due)) = &item;
        sleep_until(*due).await;
        direction.open().await;
        let written = match item {
            Item::Bytes(_, bytes) => output.write_all(&bytes).await,
            Item::End(_) => output.shutdown().await,
        };
        if written.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tokio::io::DuplexStream;
    use tokio::time::timeout;

    use super::*;

    /// Two members, one connection of the first to the second, and its two ends.
    fn connected(how: Conditions) -> (watch::Sender<Table>, DuplexStream, DuplexStream) {
        let table = watch::Sender::new(Table::default());
        table.send_modify(|table| {
            table.add();
            table.add();
            table.conditions[0][1] = how;
        });
        let (near, input) = tokio::io::duplex(1 << 16);
        let (output, far) = tokio::io::duplex(1 << 16);
        let direction = Direction { table: table.subscribe(), from: 0, to: 1 };
        tokio::spawn(run(direction, input, output, ChaCha8Rng::seed_from_u64(1)));
        (table, near, far)
    }

    fn slow(ms: u64) -> Conditions {
        Conditions { latency: Duration::from_millis(ms), ..Conditions::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_the_end_come_late_in_order_and_complete() {
        let how = Conditions { jitter: Duration::from_millis(80), ..slow(0) };
        let (_table, mut near, mut far) = connected(how);
        let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let (write, mut read) = (sent.clone(), Vec::new());
        let writer = async move { near.write_all(&write).await };
        let (written, all) = tokio::join!(writer, far.read_to_end(&mut read));
        written.expect("the relay reads");
        all.expect("the relay ends the connection");
        assert!(read == sent, "{} of {} bytes, or others", read.len(), sent.len());
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_added_and_can_change_under_way() {
        let (table, mut near, mut far) = connected(slow(40));
        for ms in [40, 5, 300] {
            table.send_modify(|table| table.conditions[0][1] = slow(ms));
            let began = Instant::now();
            near.write_all(b"x").await.expect("open");
            far.read_u8().await.expect("it comes");
            let took = began.elapsed();
            // Timers of tokio have a resolution of one millisecond.
            assert!(took.as_millis().abs_diff(u128::from(ms)) <= 1, "{took:?} over a path of {ms} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_silent_until_it_heals() {
        let (table, mut near, mut far) = connected(slow(10));
        near.write_all(b"before").await.expect("open");
        table.send_modify(|table| table.conditions[0][1].cut = true);
        drop(near);
        let mut read = Vec::new();
        let silence = timeout(Duration::from_secs(3600), far.read_to_end(&mut read)).await;
        assert!(silence.is_err() && read.is_empty(), "something passed a cut path");
        table.send_modify(|table| table.conditions[0][1].cut = false);
        far.read_to_end(&mut read).await.expect("healed");
        assert_eq!(read, b"before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_path_passes_its_rate_and_holds_a_bounded_backlog() {
        let how = Conditions { bytes_per_s: Some(100_000.0), ..slow(0) };
        let (_table, mut near, mut far) = connected(how);
        let began = Instant::now();
        let writer = tokio::spawn(async move { near.write_all(&vec![0; 1_000_000]).await });
        let mut buffer = vec![0; 1_000_000];
        far.read_exact(&mut buffer).await.expect("it comes");
        let seconds = began.elapsed().as_secs_f64();
        assert!((9.99..10.1).contains(&seconds), "a megabyte took {seconds} s at 100 kB/s");
        writer.await.expect("not cancelled").expect("open");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_waits_while_nobody_reads() {
        let (_table, mut near, far) = connected(slow(0));
        let most = CHUNK_BYTES * CHUNKS_MAX + (4 << 16);
        let written = timeout(Duration::from_secs(60), near.write_all(&vec![0; 2 * most])).await;
        assert!(written.is_err(), "more than {most} bytes are buffered");
        drop(far);
    }
}
