//! Watchers through any node: they lose their watch with its node, or leave it, and go on elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use starling_api::strong::{KeyValue, StrongEvent};
use starling_client::Watch;
use starling_history::{Change, Told};
use tokio::sync::watch::Receiver;
use tokio::time::{sleep, timeout};

use super::KEYSPACE;
use super::members::Members;
use super::tally::Tally;

/// A watch is left for another one after so long, at most.
const STAY_MS: u64 = 8_000;
/// Pause before the next watch where one could not be had.
const PAUSE: Duration = Duration::from_millis(100);
/// A node has to begin a watch within this time.
const BEGIN_DEADLINE: Duration = Duration::from_secs(3);

/// What watchers are told last: by what they watch, its revision. `None` until it is known.
pub type Ends = Option<Arc<BTreeMap<&'static [u8], u64>>>;

/// One watcher.
pub struct Watcher {
    /// For people.
    pub name: String,
    /// It watches keys that begin with this.
    pub prefix: &'static [u8],
    /// What it was told.
    pub told: Told,
    members: Members,
    tally: Tally,
    random: ChaCha8Rng,
}

/// What came of one event.
enum Heard {
    GoesOn,
    Ended,
}

impl Watcher {
    /// Watches everything under `prefix`, from the beginning of the keyspace on.
    pub fn new(
        number: usize,
        prefix: &'static [u8],
        members: Members,
        tally: Tally,
        random: ChaCha8Rng,
    ) -> Self {
        let mut told = Told::default();
        told.ready(1);
        let name = format!("watcher {number} of {:?}", String::from_utf8_lossy(prefix));
        Self { name, prefix, told, members, tally, random }
    }

    /// Goes on until it has been told its end, once that is known.
    pub async fn run(mut self, mut end: Receiver<Ends>) -> Self {
        while !self.is_done(&end) {
            let node = self.random.random_range(0..self.members.count());
            let Some(client) = self.members.client(node) else {
                sleep(PAUSE).await;
                continue;
            };
            let from = self.told.resumes_from();
            match timeout(BEGIN_DEADLINE, client.watch_strong(KEYSPACE, self.prefix, from)).await {
                Ok(Ok(watch)) => self.follow(watch, &mut end).await,
                Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
            }
        }
        self
    }

    fn is_done(&self, end: &Receiver<Ends>) -> bool {
        let end = end.borrow();
        let end = end.as_ref().and_then(|ends| ends.get(self.prefix));
        end.is_some_and(|end| self.told.resumes_from() > *end)
    }

    /// Takes in what one watch tells.
    async fn follow(&mut self, mut watch: Watch<StrongEvent>, end: &mut Receiver<Ends>) {
        let stay = sleep(Duration::from_millis(self.random.random_range(0..STAY_MS)));
        tokio::pin!(stay);
        while !self.is_done(end) {
            let event = tokio::select! {
                event = watch.next_event() => event,
                () = &mut stay => break,
                _ = end.changed() => continue,
            };
            let is_over = match event {
                Some(Ok(event)) => matches!(self.hear(event), Heard::Ended).then_some(true),
                // Its node is gone, perhaps in the middle of a revision.
                Some(Err(_)) | None => Some(false),
            };
            if let Some(is_whole) = is_over {
                self.tally.count(|counts| counts.watches_lost += 1);
                if is_whole {
                    return;
                }
                break;
            }
        }
        // It may have been told only a part of its last revision.
        if !self.is_done(end) {
            self.told.broken();
        }
    }

    fn hear(&mut self, event: StrongEvent) -> Heard {
        let told = match event {
            StrongEvent::Ready { .. } => Ok(()),
            StrongEvent::Put { kv } => self.told.change(put(kv)),
            StrongEvent::Delete { key, revision } => self.told.change(Change {
                key: key.0,
                value: None,
                revision,
                create_revision: 0,
                version: 0,
                lease: 0,
            }),
            StrongEvent::Compacted { oldest } => {
                self.tally
                    .note(format!("{}: nobody compacts, and {oldest} is the oldest revision", self.name));
                return Heard::Ended;
            }
            StrongEvent::Lost { .. } => return Heard::Ended,
        };
        if let Err(violation) = told {
            self.tally.note(format!("{}: {violation}", self.name));
        }
        Heard::GoesOn
    }
}

/// A key as it is, as a change of a history.
pub fn put(kv: KeyValue) -> Change {
    Change {
        key: kv.key,
        value: Some(kv.value),
        revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    }
}
