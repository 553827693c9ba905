//! One virtual node: its core, its disk, its clock.

use std::collections::VecDeque;
use std::sync::Arc;

use starling_core::{Core, CoreConfig, Input, Now};
use starling_kv::engine::{Cost, Pending};
use starling_kv::{Batch, MemoryEngine, Options, Store};
use starling_proto::detector::DetectorConfig;
use starling_proto::rumor::RumorConfig;
use starling_proto::trust::Trust;
use starling_proto::view::ViewConfig;
use starling_proto::{Message, Millis, NodeId, NodeRecord, Role};

use crate::scenario::{NodeSettings, Release};

/// Wall clock at the beginning of the world: 2026-01-01.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

/// A node, up or down. Its index in the world is its identity: who comes back without a disk is another.
pub struct Node {
    /// The running process; `None` while it is down.
    pub core: Option<Box<Core<MemoryEngine>>>,
    /// Its own record.
    pub record: NodeRecord,
    /// What its process runs, or will run when it is started again.
    pub release: Release,
    /// Index of its region.
    pub region: Option<usize>,
    /// Its disk.
    pub(super) engine: MemoryEngine,
    /// The part of it that strong keyspaces are on, which knows what was synced.
    pub(super) strong: MemoryEngine,
    /// An older copy of that part, to be put back at the next start.
    pub(super) old_strong: Option<MemoryEngine>,
    /// Whether that part may have lacked at the last start what the node had acknowledged: an older copy was put back, or
    /// another process with its identity had it.
    pub(super) may_lack_promises: bool,
    /// Its process has ended for good: another one with its identity goes on, or it was revoked.
    pub(super) is_retired: bool,

    /// The latest start of a process with its identity that is on its disk.
    pub(super) last_start: u64,
    /// The sync under way: its number, and the writes that it covers.
    pub(super) syncing: Option<(u64, Pending)>,
    /// Which run of the process it is.
    pub(super) life: u32,
    /// Peers on its disk.
    pub(super) remembered: Vec<NodeRecord>,
    /// The authority's statements on its disk.
    pub(super) trust: Arc<Trust>,
    /// The machine is off, not only the process.
    pub(super) is_off: bool,
    /// It handles nothing before this time, microseconds.
    pub(super) stalled_until_us: u64,
    /// It has no file descriptor left until then.
    pub(super) exhausted_until_us: u64,
    /// What came meanwhile.
    pub(super) backlog: VecDeque<Waiting>,
    /// Error of its wall clock, milliseconds, and parts per million.
    pub(super) skew_ms: i64,
    pub(super) drift_ppm: f64,
    /// The clock that counts the time that passes gains so many millionths, since it showed the second of
    /// these at the first, microseconds.
    gain_ppm: i64,
    since_us: (u64, u64),
    /// The earliest timer event in the queue.
    pub(super) scheduled_us: Option<u64>,
    /// Its connections: other end, slot.
    pub(super) connections: Vec<(u32, u32)>,
}

/// What waits for a stalled node.
pub(super) enum Waiting {
    /// An input.
    Input(Box<Input>),
    /// A message, with the node that sent it.
    Message(usize, Box<Message>),
    /// Clients' batches, by the numbers that the clients gave them.
    Writes(Vec<(u32, Batch)>),
}

impl Node {
    pub(super) fn new(
        index: usize,
        id: [u8; 32],
        role: Role,
        region: Option<usize>,
        release: Release,
    ) -> Self {
        let record = NodeRecord {
            name: format!("{}{index}", if role == Role::Seed { "s" } else { "n" }),
            addresses: vec![address(index)],
            signature: vec![0; 64],
            ..NodeRecord::new(identity(index, id), 0, role)
        };
        Self {
            release,
            core: None,
            record,
            region,
            engine: MemoryEngine::new(),
            strong: MemoryEngine::with_disk(),
            old_strong: None,
            may_lack_promises: false,
            is_retired: false,
            last_start: 0,
            syncing: None,
            life: 0,
            remembered: Vec::new(),
            trust: Arc::default(),
            is_off: false,
            stalled_until_us: 0,
            exhausted_until_us: 0,
            backlog: VecDeque::new(),
            skew_ms: 0,
            drift_ppm: 0.0,
            gain_ppm: 0,
            since_us: (0, 0),
            scheduled_us: None,
            connections: Vec::new(),
        }
    }

    /// Whether its process runs, stalled or not.
    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Whether it keeps a store.
    pub fn is_replica(&self) -> bool {
        self.record.role == Role::Replica
    }

    /// Its store, if it is a replica that is up.
    pub fn store(&self) -> Option<&Store<MemoryEngine>> {
        self.core.as_ref()?.store()
    }

    /// What it has read and written since this was asked last.
    pub(super) fn take_cost(&self) -> Cost {
        self.engine.meter().take().plus(self.strong.meter().take())
    }

    /// Its clocks.
    pub(super) fn now(&self, now_us: u64) -> Now {
        let ms = now_us / 1000;
        let drift_ms = (ms as f64 * self.drift_ppm / 1e6) as i64;
        let wall_ms = (EPOCH_MS + ms).saturating_add_signed(self.skew_ms + drift_ms);
        Now { mono: Millis(self.passed_us(now_us) / 1000), wall_ms }
    }

    /// What the clock shows that counts the time that passes, microseconds.
    fn passed_us(&self, now_us: u64) -> u64 {
        let (then_us, shown_us) = self.since_us;
        shown_us + scaled(now_us - then_us, 1_000_000 + self.gain_ppm, 1_000_000)
    }

    /// When it shows this, microseconds.
    pub(super) fn when_us(&self, shown: Millis) -> u64 {
        let (then_us, shown_us) = self.since_us;
        let left_us = shown.0.saturating_mul(1000).saturating_sub(shown_us);
        then_us.saturating_add(scaled(left_us, 1_000_000, 1_000_000 + self.gain_ppm))
    }

    /// It gains so many millionths from now on.
    pub(super) fn gain(&mut self, now_us: u64, gain_ppm: i64) {
        self.since_us = (now_us, self.passed_us(now_us));
        self.gain_ppm = gain_ppm;
    }

    /// Starts the process on what is on the disk.
    pub(super) fn start(&mut self, config: &CoreConfig, now_us: u64, seeds: [[u8; 32]; 2]) {
        let now = self.now(now_us);
        // A restart within the same millisecond is still another run.
        self.record.incarnation = now.wall_ms.max(self.last_start + 1);
        self.last_start = self.record.incarnation;
        let open =
            || Store::open(self.engine.clone(), Options::default(), seeds[0]).expect("a memory engine opens");
        let store = self.is_replica().then(open);
        let known = self.remembered.clone();
        let config = CoreConfig { software: self.release.software(), ..config.clone() };
        let mut core = Core::new(config, self.record.clone(), store, known, seeds[1], now);
        core.restore_credentials(now, self.trust.clone(), None);
        self.core = Some(Box::new(core));
        self.is_off = false;
        (self.stalled_until_us, self.exhausted_until_us) = (0, 0);
        self.scheduled_us = None;
        self.syncing = None;
        self.life += 1;
    }
}

/// `value * of / by`, rounded up; a clock gains less than the whole.
fn scaled(value: u64, of: i64, by: i64) -> u64 {
    let (of, by) = (i128::from(of).unsigned_abs(), i128::from(by).unsigned_abs());
    u64::try_from((u128::from(value) * of).div_ceil(by)).unwrap_or(u64::MAX)
}

/// The settings that a scenario's nodes run with.
pub(super) fn config(settings: NodeSettings) -> CoreConfig {
    CoreConfig {
        views: ViewConfig::with_active(settings.active),
        detector: DetectorConfig::detecting_in(settings.detect_ms),
        rumors: RumorConfig { cache_bytes_max: settings.cache_bytes, ..RumorConfig::default() },
        ..CoreConfig::default()
    }
}

/// An identity that says whose it is, at its end: its order among others is random.
fn identity(index: usize, mut random: [u8; 32]) -> NodeId {
    random[28..].copy_from_slice(&(index as u32).to_be_bytes());
    NodeId(random)
}

/// Whose identity it is.
pub fn index_of(id: &NodeId) -> usize {
    u32::from_be_bytes([id.0[28], id.0[29], id.0[30], id.0[31]]) as usize
}

/// Each node has an address block (/24) of its own.
pub(super) fn address(index: usize) -> String {
    format!("/ip4/{}.{}.{}.1/tcp/7400", 10 + (index >> 16), (index >> 8) & 255, index & 255)
}

/// Who listens there.
pub(super) fn index_at(address: &str) -> Option<usize> {
    let mut parts = address.strip_prefix("/ip4/")?.split(['.', '/']).map(str::parse::<usize>);
    let mut next = || parts.next()?.ok();
    Some((next()?.checked_sub(10)? << 16) + (next()? << 8) + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_gains_shows_what_it_wakes_for() {
        let mut node = Node::new(0, [0; 32], Role::Replica, None, Release::Current);
        for (now_us, gain_ppm) in [(0, 0), (1_234_567, 150_000), (9_000_001, -150_000), (20_000_000, 0)] {
            node.gain(now_us, gain_ppm);
            for ahead_ms in [0, 1, 7, 500, 60_000] {
                let shown = Millis(node.now(now_us).mono.0 + ahead_ms);
                let at_us = node.when_us(shown).max(now_us);
                assert!(node.now(at_us).mono >= shown, "{gain_ppm} {ahead_ms}");
                let early_us = at_us.saturating_sub(2_000).max(now_us);
                assert!(ahead_ms < 7 || node.now(early_us).mono < shown, "{gain_ppm} {ahead_ms}");
            }
        }
    }

    #[test]
    fn identities_and_addresses_say_whose_they_are() {
        for index in [0, 1, 255, 256, 65_535, 65_536, 70_000] {
            assert_eq!(index_of(&identity(index, [0xee; 32])), index);
            assert_eq!(index_at(&address(index)), Some(index));
        }
        assert_eq!(index_at("/dns/example/tcp/1"), None);
    }
}
