//! A scenario for every seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_proto::view::ACTIVE_RANGE;

use crate::scenario::{
    Action, Away, Burst, Churn, ChurnModel, Clog, Keys, Latency, Links, Mix, NodeSettings, Repeat, Return,
    Scenario, Selection, Step, StrongLoad, UNSYNCED_S, Workload,
};

/// Tells this generator apart from the one that the world draws from the same seed.
const STREAM: u64 = 0x5741_524D;
/// And this one, so that the rest of a seed's scenario is the same with a strong keyspace and without.
const STRONG_STREAM: u64 = 0x5354_524F;
/// And this one, likewise for narrow links.
const NARROW_STREAM: u64 = 0x4E41_5252;
/// And this one, likewise for older copies of disks.
const COPY_STREAM: u64 = 0x434F_5059;
/// And this one, likewise for used-up file descriptors.
const EXHAUST_STREAM: u64 = 0x4445_5343;
/// And this one, likewise for second processes of identities.
const DOUBLE_STREAM: u64 = 0x5457_494E;
/// How many scenarios have them.
const DOUBLE_SHARE: f64 = 0.3;
/// And this one, likewise for keyspaces of one name.
const RIVAL_STREAM: u64 = 0x5249_5641;
/// How many scenarios with a strong keyspace have them.
const RIVAL_SHARE: f64 = 0.35;
/// And this one, likewise for forged messages.
const FORGE_STREAM: u64 = 0x464F_5247;
/// How many scenarios with a strong keyspace have them.
const FORGE_SHARE: f64 = 0.35;
/// And this one, likewise for revoked nodes.
const REVOKE_STREAM: u64 = 0x5245_564F;
/// How many scenarios have them, if they can.
const REVOKE_SHARE: f64 = 0.25;
/// How many scenarios have used-up file descriptors.
const EXHAUST_SHARE: f64 = 0.15;
/// How many power failures become the return of an older copy.
const COPY_SHARE: f64 = 0.4;
/// How many scenarios have narrow links with large values.
const NARROW_SHARE: f64 = 0.2;
/// Time for a few such values, seconds.
const NARROW_MEASURE_S: f64 = 120.0;
/// How many scenarios have one, if they can.
const STRONG_SHARE: f64 = 0.4;
/// Time after the end of the faults within which all live replicas have to be equal and whole, seconds.
/// Nearly always it takes less than a minute. The bound is what two components need that have forgotten
/// each other's neighbours, with every seed gone: a peer counts as silent after an hour, and one remembered
/// peer is asked after every five minutes ([`starling_proto::healing::HealingConfig`]).
const SETTLE_S: f64 = 9_000.0;
/// Clocks that are wrong by a little are wrong by this, milliseconds: less than what stops expiry.
const SKEW_MS: f64 = 4_000.0;
/// Clocks that are wrong by much, milliseconds: four hours. One node at a time has one, so that a node's
/// neighbours are right in their majority.
const SKEW_MS_MAX: f64 = 4.0 * 3_600_000.0;

/// Values of this size and above are large.
const LARGE_BYTES: usize = 8_000;

struct Draw {
    rng: ChaCha8Rng,
    measure_s: f64,
}

/// The scenario of a seed.
pub fn draw(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    // As often few nodes as many.
    let nodes = 3.0 * 20.0f64.powf(rng.random::<f64>());
    let is_long = rng.random_bool(0.1);
    let measure_s = if is_long { 150.0 } else { rng.random_range(15..=45).into() };
    let mut draw = Draw { rng, measure_s };
    let scenario = Scenario {
        name: "swarm".into(),
        about: "Drawn from a seed.".into(),
        nodes: nodes as usize,
        seeds: draw.rng.random_range(0..=2),
        seed,
        warmup_s: draw.rng.random_range(5..=15).into(),
        measure_s,
        settle_s: SETTLE_S,
        node: draw.node(),
        links: draw.links(),
        workload: draw.workload(if is_long { 0.3 } else { 1.0 }),
        churn: draw.churn(),
        step: draw.steps(),
        ..Scenario::default()
    };
    let scenario = with_old_copies(with_strong(with_contacts(with_newcomers(scenario))));
    with_revoked(with_strangers(with_rivals(with_doubles(with_narrow(with_exhausted(scenario))))))
}

/// Nodes that the authority revokes; not with second processes of identities, which are revoked with the first ones.
fn with_revoked(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(REVOKE_STREAM);
    let has_doubles = scenario.step.iter().any(|step| matches!(step.action, Action::Clone { .. }));
    if !has_doubles && rng.random_bool(REVOKE_SHARE) {
        let mut draw = Draw { rng, measure_s: scenario.measure_s };
        let (at_s, for_s) = (draw.between(0.0, 0.7 * draw.measure_s), draw.between(1.0, 20.0));
        let action = Action::Revoke { nodes: draw.share(0.4), for_s };
        scenario.step.push(Step { at_s, action, repeat: None });
    }
    scenario
}

/// Disks that lose more than what a crash takes: an older copy was restored.
fn with_old_copies(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(COPY_STREAM);
    for step in &mut scenario.step {
        if let Action::PowerOff { loses_s, .. } = &mut step.action
            && rng.random_bool(COPY_SHARE)
        {
            *loses_s = f64::from(rng.random_range(2..=20));
        }
    }
    scenario
}

/// Identities that have two processes for a while.
fn with_doubles(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(DOUBLE_STREAM);
    if !rng.random_bool(DOUBLE_SHARE) {
        return scenario;
    }
    let mut draw = Draw { rng, measure_s: scenario.measure_s };
    for _ in 0..draw.rng.random_range(1..=2) {
        let nodes = match draw.rng.random_range(0..4) {
            0 if scenario.strong.is_some() => Selection::Leader,
            1 | 2 if scenario.strong.is_some() => Selection::Voters(Some(1)),
            _ => Selection::Count(draw.rng.random_range(1..=2)),
        };
        let at_s = draw.between(0.0, 0.7 * draw.measure_s);
        // Most last until everything has healed, when the earlier one has to say that it gave way.
        let (age_s, for_s) = (draw.between(0.0, 3.0), draw.between(1.0, 1.5 * draw.measure_s));
        scenario.step.push(Step { at_s, action: Action::Clone { nodes, age_s, for_s }, repeat: None });
    }
    scenario
}

/// Keyspaces that two sides create under one name.
fn with_rivals(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(RIVAL_STREAM);
    if scenario.strong.is_some() && rng.random_bool(RIVAL_SHARE) {
        let mut draw = Draw { rng, measure_s: scenario.measure_s };
        let (at_s, for_s) = (draw.between(0.0, 0.5 * draw.measure_s), draw.between(5.0, 15.0));
        let action = Action::Rivals { nodes: draw.share(0.7), for_s };
        scenario.step.push(Step { at_s, action, repeat: None });
    }
    scenario
}

/// Nodes that send what only members of the strong keyspace's group may.
fn with_strangers(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(FORGE_STREAM);
    if scenario.strong.is_some() && rng.random_bool(FORGE_SHARE) {
        let mut draw = Draw { rng, measure_s: scenario.measure_s };
        let at_s = draw.between(0.0, 0.5 * draw.measure_s);
        let repeat = Repeat { every_s: draw.between(0.2, 5.0), until_s: draw.measure_s };
        scenario.step.push(Step { at_s, action: Action::Forge, repeat: Some(repeat) });
    }
    scenario
}

/// Nodes that use up their file descriptors.
fn with_exhausted(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(EXHAUST_STREAM);
    if rng.random_bool(EXHAUST_SHARE) {
        let mut draw = Draw { rng, measure_s: scenario.measure_s };
        let (at_s, for_s) =
            (draw.between(0.0, 0.7 * draw.measure_s), draw.between(1.0, 0.5 * draw.measure_s));
        let action = Action::Exhaust { nodes: draw.share(0.7), for_s };
        scenario.step.push(Step { at_s, action, repeat: None });
    }
    scenario
}

/// Links of 64 to 512 kbit/s, on which one value takes longer than a neighbour may be silent. Not with a strong keyspace,
/// whose clients alone would need more than that.
fn with_narrow(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(NARROW_STREAM);
    if !rng.random_bool(NARROW_SHARE) || scenario.strong.is_some() {
        return scenario;
    }
    let mut draw = Draw { rng, measure_s: scenario.measure_s };
    let (rate, value_s) = (draw.between(8e3, 64e3).round(), draw.between(6.0, 24.0));
    scenario.links = Links {
        bandwidth_bytes_s: rate,
        loss: scenario.links.loss.min(0.05),
        drop: 0.0,
        clog: None,
        ..scenario.links
    };
    scenario.measure_s = scenario.measure_s.max(NARROW_MEASURE_S);
    scenario.workload = Workload {
        writes_s: draw.between(0.2, 0.6) / value_s,
        mix: Mix { put: 10.0, ..scenario.workload.mix },
        value_bytes: ((rate * value_s) as usize).min(1 << 20),
        burst: None,
        ..scenario.workload
    };
    scenario
}

/// A strong keyspace with its clients, and what is done to it, in some of the scenarios.
fn with_strong(mut scenario: Scenario) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    rng.set_stream(STRONG_STREAM);
    let voters = [1, 3, 3, 3, 5, 5, 7][rng.random_range(0..7)];
    if usize::from(voters) > scenario.nodes || !rng.random_bool(STRONG_SHARE) {
        return scenario;
    }
    let mut draw = Draw { rng, measure_s: scenario.measure_s };
    scenario.strong = Some(StrongLoad {
        voters,
        clients: draw.rng.random_range(4..=12),
        keys: draw.rng.random_range(1..=6),
        lockers: draw.rng.random_range(0..=4),
        queuers: draw.rng.random_range(0..=3),
        watchers: 4,
        pause_ms: draw.between(20.0, 400.0),
        sync_ms: [0.5, draw.between(0.5, 40.0)],
        replace_s: draw.between(5.0, 30.0),
        workers: draw.rng.random_range(0..=4),
    });
    for _ in 0..draw.rng.random_range(0..=6) {
        let step = draw.strong_step();
        scenario.step.push(step);
    }
    scenario.step.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    scenario
}

/// A state that does not fit one delta is of interest when somebody needs it as a whole.
fn with_newcomers(mut scenario: Scenario) -> Scenario {
    if scenario.workload.value_bytes >= LARGE_BYTES {
        let at_s = 0.9 * scenario.measure_s;
        scenario.step.push(Step { at_s, action: Action::Join { count: 2 }, repeat: None });
    }
    scenario
}

/// A newcomer knows nobody but the seeds, and where messages are lost it may stay one for long. Where any
/// come, there are seeds, and they come back; elsewhere nodes find each other again without them.
fn with_contacts(mut scenario: Scenario) -> Scenario {
    let is_newcomer = |step: &Step| matches!(step.action, Action::Join { .. } | Action::Wipe { .. });
    let is_late = scenario.seeds > 0 && scenario.links.drop > 0.0;
    if is_late || scenario.churn.back.wipe > 0.0 || scenario.step.iter().any(is_newcomer) {
        scenario.seeds = scenario.seeds.max(1);
        for step in &mut scenario.step {
            if let Action::Kill { nodes: Selection::Seeds, for_s } = &mut step.action {
                for_s.get_or_insert(scenario.measure_s);
            }
        }
    }
    scenario
}

impl Draw {
    fn happens(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// A number between two, rounded so that a scenario can be read.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        let number = self.rng.random_range(low..=high);
        (number * 1000.0).round() / 1000.0
    }

    fn node(&mut self) -> NodeSettings {
        let node = NodeSettings::default();
        let active =
            if self.happens(0.5) { node.active } else { self.rng.random_range(*ACTIVE_RANGE.start()..=8) };
        let cache_bytes =
            if self.happens(0.5) { node.cache_bytes } else { 8 << self.rng.random_range(8..14) };
        NodeSettings { active, cache_bytes, ..node }
    }

    fn links(&mut self) -> Links {
        let latency = match self.rng.random_range(0..4) {
            0 => Latency::ConstantMs(self.between(0.1, 40.0)),
            1 => Latency::Lognormal { median_ms: self.between(5.0, 60.0), sigma: self.between(0.1, 1.0) },
            _ => Latency::UniformMs([self.between(0.5, 10.0), self.between(10.0, 120.0)]),
        };
        let mut share =
            |chance: f64, max: f64| if self.happens(chance) { self.between(0.0, max) } else { 0.0 };
        let loss = share(0.4, 0.3);
        // Streams keep their order and lose nothing; what comes through a shedding queue may.
        let (drop, duplicate, reorder) = (share(0.2, 0.1), share(0.1, 0.1), share(0.1, 0.1));
        Links {
            latency,
            jitter_ms: self.between(0.0, 20.0),
            loss,
            drop,
            duplicate,
            reorder,
            bandwidth_bytes_s: if self.happens(0.2) { self.between(2e4, 1e6).round() } else { 0.0 },
            clog: self.happens(0.2).then(|| Clog { every_s: self.between(2.0, 30.0), ms: [50.0, 3_000.0] }),
        }
    }

    fn workload(&mut self, share: f64) -> Workload {
        let mut weight = || if self.happens(0.6) { f64::from(self.rng.random_range(1..=5)) } else { 0.0 };
        let mix = Mix {
            put: weight() + 1.0,
            delete: weight(),
            put_ttl: weight(),
            incr: weight(),
            set_add: weight(),
            set_remove: weight(),
            varied: weight(),
        };
        let pick = match self.rng.random_range(0..3) {
            0 => Keys::Zipf(1.0),
            1 => Keys::Hot(0.5),
            _ => Keys::Uniform,
        };
        let is_large = self.happens(0.15);
        // Enough for states that do not fit one delta.
        let bytes = if is_large {
            self.rng.random_range(LARGE_BYTES..3 * LARGE_BYTES)
        } else {
            self.rng.random_range(1..200)
        };
        Workload {
            writes_s: (share * self.between(1.0, if is_large { 15.0 } else { 40.0 })).round().max(1.0),
            writers: if self.happens(0.5) { 0 } else { self.rng.random_range(1..=10) },
            keys: if is_large { self.rng.random_range(20..=60) } else { self.rng.random_range(1..=25) },
            pick,
            value_bytes: bytes,
            mix,
            ttl_s: self.between(0.5, 20.0),
            burst: self
                .happens(0.2)
                .then(|| Burst { every_s: self.between(2.0, 10.0), writes: self.rng.random_range(2..100) }),
        }
    }

    fn churn(&mut self) -> Churn {
        let model = match self.rng.random_range(0..6) {
            0 => ChurnModel::Poisson { per_s: self.between(0.05, 1.0), away_s: self.between(0.5, 10.0) },
            1 => ChurnModel::Weibull {
                shape: 0.5,
                scale_s: self.between(20.0, 200.0),
                away_shape: 0.6,
                away_scale_s: self.between(1.0, 20.0),
            },
            _ => return Churn::default(),
        };
        let mut weight = || f64::from(self.rng.random_range(0..3));
        Churn {
            model,
            stable: 0.2,
            away: Away { kill: weight() + 0.1, stop: weight(), leave: weight() },
            back: Return { restart: weight() + 0.1, wipe: weight(), never: 0.0 },
        }
    }

    /// A fault that is aimed at the strong keyspace.
    fn strong_step(&mut self) -> Step {
        let at_s = self.between(0.0, 0.9 * self.measure_s);
        let for_s = self.between(0.2, 8.0);
        let followers = Selection::Followers(self.rng.random_range(1..=3));
        let some = match self.rng.random_range(0..4) {
            0..2 => Selection::Leader,
            2 => Selection::Voters(self.happens(0.7).then(|| self.rng.random_range(1..=3))),
            _ => followers.clone(),
        };
        let action = match self.rng.random_range(0..10) {
            0 => Action::Kill { nodes: some, for_s: Some(for_s) },
            1 => Action::PowerOff { nodes: some, for_s: Some(for_s), loses_s: UNSYNCED_S },
            2 => Action::Stall { nodes: some, for_s: [0.1, for_s] },
            3..5 => Action::Partition {
                nodes: some,
                // The rest is a bridge.
                to: self.happens(0.6).then_some(followers),
                one_way: self.happens(0.4),
                for_s: Some(for_s),
            },
            5 => Action::Drift { nodes: Selection::All, permille: 100.0 },
            6 => Action::Links { loss: None, drop: Some(0.02), duplicate: Some(0.05) },
            7 => Action::TransferLeader,
            _ => Action::ReplaceVoter,
        };
        let repeat =
            self.happens(0.6).then(|| Repeat { every_s: self.between(1.0, 10.0), until_s: self.measure_s });
        Step { at_s, action, repeat }
    }

    fn steps(&mut self) -> Vec<Step> {
        let count = self.rng.random_range(0..=7);
        let mut steps: Vec<Step> = (0..count).map(|_| self.step()).collect();
        if self.happens(0.25) {
            let node = Selection::Node(self.rng.random_range(0..3));
            let action = Action::Skew { nodes: node, skew_ms: SKEW_MS_MAX, drift_ppm: 0.0 };
            let at_s = self.between(0.0, 0.3 * self.measure_s);
            steps.push(Step { at_s, action, repeat: None });
        }
        steps.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        steps
    }

    fn share(&mut self, max: f64) -> Selection {
        Selection::Share((self.rng.random_range(0.05..=max) * 100.0).round() / 100.0)
    }

    /// Some nodes, or (seldom) all of them: they come back.
    fn some(&mut self) -> Selection {
        if self.happens(0.1) { Selection::All } else { self.share(0.6) }
    }

    fn step(&mut self) -> Step {
        let at_s = self.between(0.0, 0.9 * self.measure_s);
        let for_s = self.between(0.2, 0.5 * self.measure_s);
        let action = match self.rng.random_range(0..14) {
            0..3 => Action::Partition {
                nodes: self.share(0.7),
                // Those of neither side are a bridge.
                to: self.happens(0.4).then(|| self.share(0.7)),
                one_way: self.happens(0.3),
                for_s: Some(for_s),
            },
            3 => Action::Kill { nodes: self.some(), for_s: Some(for_s) },
            4 => Action::Kill { nodes: self.share(0.5), for_s: None },
            5 => Action::PowerOff { nodes: self.some(), for_s: Some(for_s), loses_s: UNSYNCED_S },
            6 => Action::Wipe { nodes: self.share(0.4), for_s },
            7 => Action::Leave { nodes: self.some(), for_s: Some(for_s) },
            8 => Action::Stall { nodes: self.some(), for_s: [0.1, self.between(0.2, 15.0)] },
            9 => Action::Join { count: self.rng.random_range(1..=15) },
            10 => Action::Skew { nodes: self.share(1.0), skew_ms: SKEW_MS, drift_ppm: 200.0 },
            11 => Action::Links { loss: Some(self.between(0.0, 0.4)), drop: None, duplicate: None },
            12 => Action::Kill { nodes: Selection::Seeds, for_s: self.happens(0.5).then_some(for_s) },
            _ => Action::RollingRestart {
                nodes: self.share(0.8),
                gap_s: self.between(0.2, 2.0),
                for_s: self.between(0.2, 3.0),
                release: None,
            },
        };
        let repeat =
            self.happens(0.2).then(|| Repeat { every_s: self.between(1.0, 10.0), until_s: self.measure_s });
        // A permanent loss happens once.
        let lasts = matches!(action, Action::Kill { for_s: None, .. } | Action::Join { .. });
        Step { at_s, action, repeat: repeat.filter(|_| !lasts) }
    }
}
