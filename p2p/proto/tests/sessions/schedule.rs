//! The schedule of sessions: when, and with which peer.

use bytes::Bytes;
use starling_proto::message::{Payload, SyncMessage};
use starling_proto::sync::{Ending, SESSIONS_MAX, SyncConfig, SyncInput};
use starling_proto::{ActorId, DotRanges};

use crate::model::Model;
use crate::network::{Network, Peer, node_id};

fn written(writes: u32) -> Model {
    let mut model = Model::default();
    for place in 0..writes {
        model.write(ActorId([1; 16]), place, b"value".to_vec());
    }
    model
}

/// A ring that has come to rest, every node with the same data.
fn ring(size: usize) -> Network {
    let mut network = Network::new(3, vec![written(100); size]);
    (0..size).for_each(|i| network.link(i, (i + 1) % size));
    network.run_for(5000);
    network
}

#[test]
fn news_from_a_healed_partition_spread_by_themselves() {
    let mut network = Network::new(2, [vec![written(100); 8], vec![Model::default(); 8]].concat());
    for half in [0, 8] {
        (0..8).for_each(|i| network.link(half + i, half + (i + 1) % 8));
    }
    network.run_for(5000);
    assert!(!network.all_equal());
    network.link(0, 8);
    network.run_until(5000, "both halves equal", Network::all_equal);
}

#[test]
fn a_network_at_rest_has_a_session_per_node_and_interval() {
    let mut network = ring(8);
    let (messages, reports) =
        (network.messages, network.peers.iter().map(|p| p.reports.len()).sum::<usize>());
    network.run_for(10 * SyncConfig::default().interval_ms);
    let sessions = network.peers.iter().map(|p| p.reports.len()).sum::<usize>() - reports;
    assert!((60..=100).contains(&sessions), "{sessions} sessions of 8 nodes in 10 intervals");
    assert_eq!(network.messages - messages, 2 * sessions as u64);
}

#[test]
fn a_loss_is_repaired_soon_and_a_stream_of_losses_by_few_sessions() {
    let mut network = ring(4);
    let before = network.peers[0].reports.len();
    for i in 0..20 {
        network.peers[0].replica.write(ActorId([9; 16]), 500 + i, b"lost".to_vec());
        network.handle(0, SyncInput::Want { peer: node_id(1) });
        network.run_for(50);
    }
    network.run_until(3000, "all equal", Network::all_equal);
    let sessions = network.peers[0].reports.len() - before;
    assert!(sessions <= 20, "{sessions} sessions");
}

/// News that arrive by rumor and session at once must not keep every link in session for ever.
#[test]
fn sessions_do_not_echo_under_a_stream_of_writes() {
    let mut network = ring(8);
    let before: usize = network.peers.iter().map(|peer| peer.reports.len()).sum();
    for i in 0..600 {
        // Every write is a rumor that the others get a little later.
        network.peers[0].replica.write(ActorId([9; 16]), i, b"value".to_vec());
        network.run_for(100);
        for peer in 1..8 {
            let peer = &mut network.peers[peer];
            peer.replica.write(ActorId([9; 16]), i, b"value".to_vec());
        }
        if i == 0 {
            network.handle(0, SyncInput::Want { peer: node_id(1) });
        }
    }
    let sessions = network.peers.iter().map(|peer| peer.reports.len()).sum::<usize>() - before;
    assert!(sessions < 200, "{sessions} sessions of 8 nodes in a minute");
}

#[test]
fn seats_are_bounded_and_everybody_gets_one() {
    let mut replicas = vec![Model::default(); 20];
    replicas.push(written(20_000));
    let mut network = Network::new(5, replicas);
    (0..20).for_each(|i| network.link(i, 20));
    network.run_until(60_000, "20 newcomers equal to one full node", Network::all_equal);
    let stats = network.peers[20].sessions.stats();
    assert!(stats.refused > 0 && stats.answered > 0, "{stats:?}");
    let busy = network.peers[..20].iter().flat_map(|p| &p.reports).filter(|r| r.1.ending == Ending::Busy);
    assert_eq!(busy.count() as u64, stats.refused);
}

#[test]
fn own_sessions_are_bounded() {
    let mut replicas = vec![written(5000)];
    replicas.resize(10, Model::default());
    let mut network = Network::new(5, replicas);
    (1..10).for_each(|i| network.link(0, i));
    while !network.all_equal() {
        network.step();
        assert!(network.peers[0].sessions.active() <= SESSIONS_MAX);
    }
}

#[test]
fn a_silent_peer_is_given_up_and_tried_again() {
    let mut network = Network::new(6, vec![written(10), Model::default()]);
    network.loss = 1000;
    network.link(0, 1);
    network.run_until(20_000, "a session given up", |n| !n.peers[0].reports.is_empty());
    assert_eq!(network.peers[0].reports[0].1.ending, Ending::TimedOut);
    network.loss = 0;
    network.run_until(20_000, "equal after all", Network::all_equal);
}

/// One value of 1 MiB at one end of a link of 512 kbit/s, over which it takes 16 s. The node that lacks it is the one
/// that opens the sessions, or the other one.
fn narrow(lacks: usize) -> Network {
    let mut replicas = vec![Model::default(), Model::default()];
    replicas[1 - lacks].write(ActorId([1; 16]), 1, vec![7; 1 << 20]);
    let mut network = Network::new(10, replicas);
    network.rate = Some(64);
    network
}

#[test]
fn a_session_lasts_while_a_delta_arrives() {
    for lacks in 0..2 {
        let mut network = narrow(lacks);
        network.link(0, 1);
        network.run_until(18_000, "the value", Network::all_equal);
        network.run_for(30_000);
        assert!(network.bytes < (1 << 20) + 2_000, "{} bytes", network.bytes);
        let failed = |peer: &Peer| peer.reports.iter().any(|(_, report)| report.ending == Ending::TimedOut);
        assert!(!network.peers.iter().any(failed));
    }
}

/// Where nothing reports the bytes of incomplete frames.
#[test]
fn the_late_delta_of_a_dropped_session_is_joined() {
    let mut network = narrow(0);
    network.reports_progress = false;
    network.link(0, 1);
    network.run_until(18_000, "the value", Network::all_equal);
    assert_eq!(network.peers[0].reports[0].1.ending, Ending::TimedOut);
    network.run_for(30_000);
    assert!(network.bytes < (1 << 20) + 2_000, "{} bytes", network.bytes);
}

#[test]
fn sessions_wait_for_fingerprints() {
    let mut network = Network::new(7, vec![written(10), Model::default()]);
    network.peers.iter_mut().for_each(|peer| peer.replica.rootless = true);
    network.link(0, 1);
    network.run_for(5000);
    assert_eq!(network.messages, 0);
    network.peers[0].replica.rootless = false;
    network
        .run_until(5000, "a busy answer", |n| n.peers[0].reports.iter().any(|r| r.1.ending == Ending::Busy));
    network.peers[1].replica.rootless = false;
    network.run_until(15_000, "equal replicas", Network::all_equal);
}

#[test]
fn a_delta_that_is_none_is_reported_and_joins_nothing() {
    let mut network = Network::new(8, vec![written(10), written(10)]);
    network.link(0, 1);
    network.run_for(2000);
    let before = network.peers[1].replica.states.clone();
    let delta = Payload(Bytes::from_static(&[0xff; 20]));
    let message = SyncMessage::Push { session: 1, delta };
    network.handle(1, SyncInput::Message { from: node_id(0), message });
    assert_eq!((&network.peers[1].misbehaved, &network.peers[1].replica.states), (&vec![0], &before));
}

/// Unrequested answers change nothing, for any session.
#[test]
fn unasked_answers_are_ignored() {
    let mut network = Network::new(9, vec![written(10), written(20)]);
    let delta = Payload(Bytes::from_static(&[0xff; 20]));
    for session in 0..10 {
        let message = SyncMessage::Delta {
            session,
            delta: delta.clone(),
            rest: DotRanges::default(),
            want: DotRanges::default(),
        };
        network.handle(0, SyncInput::Message { from: node_id(1), message });
    }
    assert_eq!((network.messages, network.peers[0].misbehaved.len()), (0, 0));
}
