//! Healing: the remembered peers, the probes, and the handling of their answers.
#![allow(missing_docs, reason = "tests")]

use starling_proto::healing::{Healing, HealingConfig, HealingInput, HealingOutput};
use starling_proto::message::ViewMessage;
use starling_proto::{Millis, NodeId, NodeRecord, Role};

const ME: NodeId = NodeId([255; 32]);
const HOUR_MS: u64 = 3_600_000;

fn record(index: u8, role: Role, address: &str) -> NodeRecord {
    let (id, name) = (NodeId([index; 32]), format!("n{index}"));
    let addresses = vec![address.to_owned()];
    NodeRecord { name, addresses, ..NodeRecord::new(id, 1, role) }
}

fn peer(index: u8) -> NodeRecord {
    record(index, Role::Replica, "/ip4/127.0.0.1/tcp/7400")
}

struct Driven {
    healing: Healing,
    now: Millis,
    probed: Vec<(u64, NodeId)>,
    merged: Vec<NodeId>,
    remembered: Vec<(u64, Vec<NodeRecord>)>,
}

impl Driven {
    fn new(remembered: Vec<NodeRecord>) -> Self {
        let healing = Healing::new(HealingConfig::default(), ME, remembered, [1; 32], Millis(0));
        Self { healing, now: Millis(0), probed: vec![], merged: vec![], remembered: vec![] }
    }

    fn input(&mut self, input: HealingInput<'_>) {
        self.healing.handle(self.now, input);
        while let Some(output) = self.healing.poll_output() {
            match output {
                HealingOutput::Send { to, .. } => self.probed.push((self.now.0, to.id)),
                HealingOutput::Merge(record) => self.merged.push(record.id),
                HealingOutput::Remember(records) => self.remembered.push((self.now.0, records)),
                HealingOutput::NeedContacts => {}
            }
        }
    }

    fn message(&mut self, from: &NodeRecord, message: &ViewMessage) {
        self.input(HealingInput::Message { from, message });
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.healing.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.input(HealingInput::Timeout);
        }
        self.now = end;
    }
}

#[test]
fn a_lost_neighbour_is_asked_with_growing_pauses_and_merged_when_it_answers() {
    let mut driven = Driven::new(vec![]);
    driven.input(HealingInput::Up(&peer(1)));
    driven.input(HealingInput::Down { peer: &peer(1).id, failed: true });
    while driven.probed.len() < 8 {
        driven.run(1_000);
        driven.input(HealingInput::Unreachable(&peer(1).id));
        assert!(driven.now.0 < HOUR_MS, "{:?}", driven.probed);
    }
    let pauses: Vec<u64> = driven.probed.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!((3_750..=6_250).contains(&driven.probed[0].0), "{:?}", driven.probed);
    assert!(pauses.iter().all(|pause| *pause <= 375_000), "{pauses:?}");
    assert!(pauses[4] > 4 * pauses[0], "{pauses:?}");
    driven.run(400_000);
    // The dial succeeds before the answer comes.
    driven.input(HealingInput::Connected(&peer(1)));
    driven.message(&peer(1), &ViewMessage::ProbeReply { sample: vec![] });
    assert_eq!(driven.merged, [peer(1).id]);
    let probes = driven.probed.len();
    driven.run(HealingConfig::default().quiet_ms - 1);
    assert_eq!(driven.probed.len(), probes, "asked although it had just answered");
}

#[test]
fn a_neighbour_that_left_politely_is_not_looked_for() {
    let mut driven = Driven::new(vec![]);
    driven.input(HealingInput::Up(&peer(1)));
    driven.input(HealingInput::Down { peer: &peer(1).id, failed: false });
    driven.run(HealingConfig::default().quiet_ms - 1);
    assert_eq!(driven.probed, []);
}

#[test]
fn a_lost_neighbour_that_restarted_elsewhere_in_the_overlay_is_not_merged() {
    let mut driven = Driven::new(vec![]);
    driven.input(HealingInput::Up(&peer(1)));
    driven.input(HealingInput::Down { peer: &peer(1).id, failed: true });
    let restarted = NodeRecord { incarnation: 2, ..peer(1) };
    driven.message(&peer(2), &ViewMessage::ForwardJoin { joiner: restarted, ttl: 3 });
    driven.run(200_000);
    assert_eq!(driven.probed, []);
}

/// Remembered from an earlier run, and never named in this one: it may well be elsewhere.
#[test]
fn a_stranger_that_answers_is_merged_and_an_acquaintance_is_not() {
    let mut driven = Driven::new(vec![peer(1)]);
    driven.input(HealingInput::Up(&peer(9)));
    driven.run(HOUR_MS);
    assert!(driven.probed.iter().any(|(_, id)| *id == peer(1).id), "{:?}", driven.probed);
    driven.message(&peer(1), &ViewMessage::ProbeReply { sample: vec![peer(2)] });
    assert_eq!(driven.merged, [peer(1).id]);
    driven.message(&peer(9), &ViewMessage::ShuffleReply { sample: vec![peer(2)] });
    while !driven.probed.iter().any(|(_, id)| *id == peer(2).id) {
        driven.run(60_000);
        driven.message(&peer(9), &ViewMessage::ShuffleReply { sample: vec![peer(2)] });
        assert!(driven.now.0 < 10 * HOUR_MS, "{:?}", driven.probed);
    }
    driven.message(&peer(2), &ViewMessage::ProbeReply { sample: vec![] });
    assert_eq!(driven.merged, [peer(1).id]);
}

#[test]
fn an_answer_nobody_asked_for_merges_nothing() {
    let mut driven = Driven::new(vec![peer(1)]);
    driven.message(&peer(1), &ViewMessage::ProbeReply { sample: vec![] });
    assert_eq!(driven.merged, []);
}

#[test]
fn a_seed_leads_to_strangers() {
    let seed = record(200, Role::Seed, "/ip4/127.0.0.1/tcp/1");
    let mut driven = Driven::new(vec![]);
    driven.input(HealingInput::Up(&peer(9)));
    driven.input(HealingInput::Contact(&seed));
    driven.message(&seed, &ViewMessage::ProbeReply { sample: vec![peer(9), peer(3)] });
    assert_eq!(driven.probed, [(0, seed.id), (0, peer(3).id)]);
    driven.message(&peer(3), &ViewMessage::ProbeReply { sample: vec![] });
    assert_eq!(driven.merged, [peer(3).id]);
}

#[test]
fn memory_is_bounded_and_keeps_neighbours_and_other_blocks() {
    let mut driven = Driven::new(vec![]);
    driven.input(HealingInput::Up(&peer(0)));
    let elsewhere = record(1, Role::Replica, "/ip4/192.0.2.1/tcp/1");
    driven.message(&peer(0), &ViewMessage::ShuffleReply { sample: vec![elsewhere.clone()] });
    let crowd = (2..1_000u32).map(|index| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&index.to_be_bytes());
        NodeRecord { id: NodeId(id), ..record(2, Role::Replica, "/ip4/198.51.100.7/tcp/1") }
    });
    driven.message(&peer(0), &ViewMessage::ShuffleReply { sample: crowd.collect() });
    let remembered = driven.healing.remembered();
    assert_eq!(remembered.len(), HealingConfig::default().remembered_max);
    assert_eq!(remembered[0].id, peer(0).id);
    assert!(remembered.iter().any(|record| record.id == elsewhere.id));
}

#[test]
fn what_is_remembered_is_handed_out_soon_and_then_seldom() {
    let mut driven = Driven::new(vec![]);
    for index in 0..200 {
        driven.message(&peer(1), &ViewMessage::ShuffleReply { sample: vec![peer(index)] });
        driven.run(1_000);
    }
    driven.run(60_000);
    let times: Vec<u64> = driven.remembered.iter().map(|(at, _)| *at).collect();
    assert!(times[0] <= 1_000, "{times:?}");
    let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(pauses.enumerate().all(|(i, pause)| pause >= (1_000 << i).min(30_000)), "{times:?}");
    assert!(times[3] <= 10_000, "who comes back after ten seconds knows whom it met: {times:?}");
    assert_eq!(driven.remembered.last().map(|(_, records)| records.len()), Some(200));
    let handed_out = times.len();
    driven.run(HOUR_MS);
    assert_eq!(driven.remembered.len(), handed_out, "handed out although nothing changed");
}
