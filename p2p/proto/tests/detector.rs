//! Two nodes that watch each other over a link in virtual time, both of whose timers are late.
#![allow(missing_docs, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_proto::detector::{Detector, DetectorConfig, DetectorInput, DetectorOutput};
use starling_proto::message::Heartbeat;
use starling_proto::{Millis, NodeId};

const LOW: NodeId = NodeId([1; 32]);
const HIGH: NodeId = NodeId([2; 32]);
/// How far the wall clock of the node with the higher id is ahead, milliseconds.
const AHEAD_MS: i64 = 7_000;

enum Event {
    Timer(usize),
    /// To this node; a heartbeat, or any other frame.
    Frame(usize, Option<Heartbeat>),
    /// To this node; bytes of a large frame.
    Bytes(usize),
    /// This node sends something of its own.
    Traffic(usize),
}

struct Link {
    now: Millis,
    nodes: [Detector; 2],
    events: BTreeMap<(Millis, u64), Event>,
    serial: u64,
    rng: ChaCha8Rng,
    detect_ms: u64,
    /// Most that a timer, and the handling of a frame, comes late, milliseconds.
    late_ms: u64,
    /// Most that a frame takes, milliseconds.
    latency_ms: u64,
    /// Mean time between a node's own frames; 0: none.
    traffic_ms: u64,
    /// Neither reads nor writes before this time.
    stopped_until: [Millis; 2],
    arrived: [Millis; 2],
    suspected: Vec<(usize, Millis, u64)>,
    frames: u64,
}

impl Link {
    fn new(detect_ms: u64, seed: u64, late_ms: u64, latency_ms: u64, traffic_ms: u64) -> Self {
        let config = DetectorConfig::detecting_in(detect_ms);
        let mut link = Self {
            now: Millis(0),
            nodes: [LOW, HIGH].map(|me| Detector::new(config.clone(), me)),
            events: BTreeMap::new(),
            serial: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            detect_ms,
            late_ms,
            latency_ms,
            traffic_ms,
            stopped_until: [Millis(0); 2],
            arrived: [Millis(0); 2],
            suspected: vec![],
            frames: 0,
        };
        for node in 0..2 {
            link.input(node, DetectorInput::Up(peer_of(node)));
            link.plan_traffic(node);
        }
        link
    }

    fn wall_ms(&self, node: usize) -> u64 {
        let ahead_ms = if node == 1 { AHEAD_MS } else { 0 };
        (1_700_000_000_000 + self.now.0).saturating_add_signed(ahead_ms)
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            let event = entry.remove();
            let (Event::Timer(node) | Event::Frame(node, _) | Event::Bytes(node) | Event::Traffic(node)) =
                event;
            if self.stopped_until[node] > self.now {
                let late = if matches!(event, Event::Timer(_)) { Millis(0) } else { self.arrived[node] };
                self.push(self.stopped_until[node].max(late), event);
                continue;
            }
            match event {
                Event::Timer(_) => self.input(node, DetectorInput::Timeout),
                Event::Frame(_, None) => self.input(node, DetectorInput::Heard(peer_of(node))),
                Event::Frame(_, Some(h)) => self.input(node, DetectorInput::Heartbeat(peer_of(node), h)),
                Event::Bytes(_) => self.input(node, DetectorInput::Progress(peer_of(node))),
                Event::Traffic(_) => {
                    self.input(node, DetectorInput::Sent(peer_of(node)));
                    self.transmit(node, None);
                    self.plan_traffic(node);
                }
            }
        }
        self.now = end;
    }

    fn input(&mut self, node: usize, input: DetectorInput) {
        let wall_ms = self.wall_ms(node);
        let before = self.nodes[node].poll_timeout();
        self.nodes[node].handle(self.now, wall_ms, input);
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                DetectorOutput::Send { heartbeat, .. } => self.transmit(node, Some(heartbeat)),
                DetectorOutput::Suspect { silent_ms, .. } => self.suspected.push((node, self.now, silent_ms)),
            }
        }
        let after = self.nodes[node].poll_timeout();
        if let Some(at) = after
            && (after != before || matches!(input, DetectorInput::Timeout))
        {
            let at = at.max(self.now) + self.rng.random_range(0..=self.late_ms);
            self.push(at, Event::Timer(node));
        }
    }

    fn transmit(&mut self, from: usize, heartbeat: Option<Heartbeat>) {
        self.frames += 1;
        let to = 1 - from;
        let at = self.now + self.rng.random_range(0..=self.latency_ms + self.late_ms);
        let at = at.max(self.arrived[to]);
        self.arrived[to] = at;
        self.push(at, Event::Frame(to, heartbeat));
    }

    fn plan_traffic(&mut self, node: usize) {
        if self.traffic_ms > 0 {
            // In bursts: now and then nothing for a while.
            let pause_ms = if self.rng.random_ratio(1, 30) { 3 * self.detect_ms } else { 0 };
            let at = self.now + self.rng.random_range(1..=2 * self.traffic_ms) + pause_ms;
            self.push(at, Event::Traffic(node));
        }
    }

    fn push(&mut self, at: Millis, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    /// A large frame begins to arrive at this node: its bytes every so often, and what is sent to it meanwhile after it.
    fn large_frame(&mut self, to: usize, ms: u64, every_ms: u64) {
        for at in (self.now.0..self.now.0 + ms).step_by(every_ms as usize) {
            self.push(Millis(at), Event::Bytes(to));
        }
        self.arrived[to] = self.now + ms;
    }

    /// Stops a node. What is sent to it meanwhile is read after its timers have fired, and slowly: it
    /// takes as long as the stop at most, since no more has piled up.
    fn stop(&mut self, node: usize, ms: u64) {
        self.stopped_until[node] = self.now + ms;
        self.arrived[node] = self.stopped_until[node] + ms.min(self.detect_ms / 3);
    }
}

fn peer_of(node: usize) -> NodeId {
    [HIGH, LOW][node]
}

fn detections() -> impl Strategy<Value = u64> {
    prop_oneof![Just(3_000u64), Just(10_000), 1_000..20_000u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Both sides late by up to a seventh of the limit (430 ms of 3 s) at everything, whatever the traffic.
    #[test]
    fn nobody_is_suspected_for_being_late(seed: u64, detect_ms in detections(), traffic_ms in 0..5_000u64) {
        let late_ms = detect_ms / 7;
        let mut link = Link::new(detect_ms, seed, late_ms, detect_ms / 60, traffic_ms);
        link.run(200 * detect_ms);
        prop_assert_eq!(&link.suspected, &vec![]);
    }

    /// However regular or irregular the link was before, as long as the survivor did not stall itself.
    #[test]
    fn a_silent_peer_is_given_up_in_time(
        seed: u64, detect_ms in detections(), late in 0..80u64, traffic_ms in 0..5_000u64, before in 0..100u64,
        dead in 0..2usize,
    ) {
        let mut link = Link::new(detect_ms, seed, late * detect_ms / 1_000, detect_ms / 60, traffic_ms);
        link.run(before * detect_ms / 3);
        // From here on the survivor's timers are as punctual as those of a healthy process.
        link.late_ms = detect_ms / 100;
        link.stop(dead, u64::MAX / 2);
        let died = link.now;
        link.run(3 * detect_ms);
        let verdicts: Vec<_> = link.suspected.iter().filter(|(node, ..)| *node != dead).collect();
        prop_assert_eq!(verdicts.len(), 1);
        let (_, at, silent_ms) = *verdicts[0];
        prop_assert!(silent_ms <= detect_ms, "silent for {} of {} ms", silent_ms, detect_ms);
        // What was on its way when it died arrives first, and the timer that was set by then fires late.
        prop_assert!(at - died <= detect_ms + detect_ms / 60 + 2 * (late * detect_ms / 1_000));
    }

    /// Neither end of a link is suspected while a frame of any size arrives over it, in one direction or in both, and
    /// whatever else waits behind the frame.
    #[test]
    fn a_link_with_a_frame_under_way_is_kept(
        seed: u64, detect_ms in detections(), late in 0..80u64, share in 10..333u64, times in 1..50u64, to in 0..3usize,
    ) {
        let mut link = Link::new(detect_ms, seed, late * detect_ms / 1_000, detect_ms / 60, 0);
        link.run(10 * detect_ms);
        for to in (0..2).filter(|node| to == 2 || to == *node) {
            link.large_frame(to, times * detect_ms, share * detect_ms / 1_000);
        }
        link.run((times + 10) * detect_ms);
        prop_assert_eq!(&link.suspected, &vec![]);
    }

    /// Stopped for any time, at any time: what the peers sent meanwhile is read after the timer fires.
    #[test]
    fn a_node_that_was_stopped_suspects_nobody(
        seed: u64, detect_ms in detections(), before in 0..20_000u64, stopped in 1..120_000u64, node in 0..2usize,
    ) {
        let mut link = Link::new(detect_ms, seed, detect_ms / 20, detect_ms / 60, 0);
        link.run(before);
        // The other one is patient here, or it would rightly give the stopped one up.
        let other = Detector::new(DetectorConfig::detecting_in(1_000_000), peer_of(node));
        link.nodes[1 - node] = other;
        link.input(1 - node, DetectorInput::Up(peer_of(1 - node)));
        link.traffic_ms = detect_ms / 4;
        link.plan_traffic(1 - node);
        link.run(detect_ms);
        link.stop(node, stopped);
        link.run(stopped + 20 * detect_ms);
        prop_assert_eq!(&link.suspected, &vec![]);
    }

    /// The stretch after a stall ends, and while it lasts a dead peer is found all the same.
    #[test]
    fn who_died_while_we_were_stopped_is_found(seed: u64, stopped in 1..60_000u64, node in 0..2usize) {
        let mut link = Link::new(3_000, seed, 0, 50, 0);
        link.run(10_000);
        link.stop(1 - node, u64::MAX / 2);
        link.stop(node, stopped);
        link.run(stopped + 9_000);
        prop_assert_eq!(link.suspected.iter().filter(|(who, ..)| *who == node).count(), 1);
    }
}

#[test]
fn an_idle_link_carries_one_ping_and_one_pong_per_interval() {
    let mut link = Link::new(3_000, 1, 0, 20, 0);
    link.run(1_250_000);
    assert!((1_960..=2_010).contains(&link.frames), "{} frames in 1000 intervals", link.frames);
    assert_eq!(link.nodes[1].counters().pings, 0);
    assert_eq!(link.nodes[0].counters().withdrawn, 0);
}

#[test]
fn a_busy_link_carries_heartbeats_only_to_compare_clocks() {
    let mut detector = Detector::new(DetectorConfig::detecting_in(3_000), LOW);
    detector.handle(Millis(0), 0, DetectorInput::Up(HIGH));
    for now in (0..600_000).step_by(100).map(Millis) {
        for input in [DetectorInput::Heard(HIGH), DetectorInput::Sent(HIGH), DetectorInput::Timeout] {
            detector.handle(now, now.0, input);
        }
    }
    let pings = std::iter::from_fn(|| detector.poll_output()).count();
    assert!((70..=75).contains(&pings), "{pings} pings in 600 s, one every 8 s");
}

#[test]
fn clocks_and_round_trips_are_measured() {
    let mut link = Link::new(3_000, 1, 0, 20, 0);
    link.run(60_000);
    assert_eq!(link.nodes[0].clock_offset_ms(), Some(0), "of two that differ, the earlier one is right");
    let offset = link.nodes[1].clock_offset_ms().expect("measured");
    assert!(offset.abs_diff(-AHEAD_MS) <= 20, "{offset}");
    assert!(link.nodes[0].rtt_ms(&HIGH).expect("measured") <= 40);
}

#[test]
fn phi_rises_with_silence() {
    let mut link = Link::new(3_000, 1, 0, 20, 0);
    link.run(60_200);
    link.stop(1, u64::MAX / 2);
    let phi = |link: &Link| link.nodes[0].phi(&HIGH, link.now);
    link.run(1_000);
    assert!(phi(&link).expect("watched") < 0.1);
    link.run(1_500);
    assert!(phi(&link).expect("watched") > 1.0);
    link.run(1_500);
    assert_eq!(phi(&link), None);
    assert_eq!(link.nodes[0].counters().suspicions, 1);
}

/// The verdict is due, but this node did not run when it was: it asks again and waits for the answer.
#[test]
fn a_verdict_after_a_stall_waits_for_another_question() {
    let mut detector = Detector::new(DetectorConfig::detecting_in(3_000), HIGH);
    let mut outputs = |now, input| {
        detector.handle(Millis(now), now, input);
        let mut outputs = vec![];
        while let Some(output) = detector.poll_output() {
            outputs.push(output);
        }
        (outputs, detector.poll_timeout().map(|at| at.0))
    };
    let ping = |wall_ms| DetectorOutput::Send { peer: LOW, heartbeat: Heartbeat::Ping { wall_ms } };
    assert_eq!(outputs(0, DetectorInput::Up(LOW)), (vec![], Some(1_600)));
    assert_eq!(outputs(1_600, DetectorInput::Timeout), (vec![ping(1_600)], Some(1_600 + 700 / 4)));
    let resumed = 4_000;
    let (asked, Some(mut wake)) = outputs(resumed, DetectorInput::Timeout) else { panic!("no deadline") };
    assert_eq!(asked, [ping(resumed)]);
    // Twice the time to answer, because this node does not trust itself for now.
    while wake < resumed + 2 * 700 {
        let (nothing, Some(next)) = outputs(wake, DetectorInput::Timeout) else { panic!("no deadline") };
        assert_eq!(nothing, []);
        wake = next;
    }
    assert_eq!(outputs(wake - 1, DetectorInput::Heartbeat(LOW, Heartbeat::Pong { wall_ms: 0 })).0, []);
    assert_eq!(detector.counters().suspicions, 0);
}

#[test]
fn a_burst_does_not_make_the_pause_after_it_suspicious() {
    let mut detector = Detector::new(DetectorConfig::detecting_in(3_000), LOW);
    detector.handle(Millis(0), 0, DetectorInput::Up(HIGH));
    for now in (0..1_000).step_by(10) {
        detector.handle(Millis(now), now, DetectorInput::Heard(HIGH));
    }
    assert!(detector.phi(&HIGH, Millis(990 + 1_700)).expect("watched") < 0.5);
}
