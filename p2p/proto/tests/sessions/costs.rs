//! The costs of sessions, in bytes of whole frames.

use starling_proto::ActorId;
use starling_proto::sync::{DELTA_BYTES_MAX, Ending};
use starling_proto::wire::Protocol;

use crate::model::{Entry, Model, States};
use crate::network::{one_session, one_session_in};

fn actor(n: usize) -> ActorId {
    // Spread over the groups as random ids are.
    ActorId(((n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes())
}

/// `dots` dots of each of `actors` actors, one place each.
fn filled(actors: usize, dots: u64, value: &[u8]) -> States {
    let entry = |n: usize, seq: u64| Entry { place: (n as u64 * dots + seq) as u32, content: value.to_vec() };
    (0..actors).flat_map(|n| (1..=dots).map(move |seq| ((actor(n), seq), Some(entry(n, seq))))).collect()
}

#[test]
fn equal_replicas_take_one_round_trip_and_under_300_bytes() {
    let states = filled(100, 100, b"value");
    let network = one_session(Model::new(states.clone()), Model::new(states));
    assert_eq!((network.messages, network.peers[0].reports[0].1.ending), (2, Ending::Equal));
    assert!(network.bytes < 300, "{} bytes", network.bytes);
}

#[test]
fn ten_overwritten_keys_of_a_million_cost_under_16_kb() {
    for actors in [1, 16] {
        let base = Model::new(filled(actors, 1_000_000 / actors as u64, b"0123456789"));
        for writer_drives in [false, true] {
            let mut ahead = base.clone();
            for i in 0..10_u32 {
                ahead.write(actor(999), i * 99_991 + 17, vec![b'x'; 100]);
            }
            let expected = ahead.states.clone();
            let (a, b) = if writer_drives { (ahead, base.clone()) } else { (base.clone(), ahead) };
            let network = one_session(a, b);
            assert!(network.peers.iter().all(|peer| peer.replica.states == expected));
            assert!(network.bytes < 16_000, "{} bytes with {actors} actors", network.bytes);
        }
    }
}

#[test]
fn dots_that_differ_in_the_middle_cost_a_descent_each() {
    let base = filled(16, 62_500, b"0123456789");
    let mut holes = base.clone();
    for i in 0..10 {
        assert!(holes.remove(&(actor(i), 1000 + 5000 * i as u64)).is_some());
    }
    for (a, b) in [(&base, &holes), (&holes, &base)] {
        let network = one_session(Model::new(a.clone()), Model::new(b.clone()));
        assert!(network.peers.iter().all(|peer| peer.replica.states == base));
        assert!(network.bytes < 16_000, "{} bytes", network.bytes);
    }
}

#[test]
fn a_missed_tail_costs_little_beside_itself() {
    let full = filled(16, 6250, &[b'v'; 100]);
    let behind: States = full.iter().filter(|(dot, _)| dot.1 <= 5625).map(|(d, e)| (*d, e.clone())).collect();
    for (a, b) in [(&full, &behind), (&behind, &full)] {
        let network = one_session(Model::new(a.clone()), Model::new(b.clone()));
        assert!(network.peers.iter().all(|peer| peer.replica.states == full));
        let report = network.peers[0].reports[0].1;
        let delta_bytes = report.delta_bytes_in + report.delta_bytes_out;
        assert!(network.bytes < delta_bytes + 8000, "{} bytes for {delta_bytes}", network.bytes);
        assert!(network.largest < 2 * DELTA_BYTES_MAX);
    }
}

#[test]
fn overwrites_while_away_are_settled_by_suspicion_and_not_by_descent() {
    let away = Model::new(filled(4, 25_000, &[b'v'; 100]));
    let mut ahead = away.clone();
    for i in 0..10_000_u32 {
        ahead.write(actor(999), i * 10, vec![b'x'; 100]);
    }
    let expected = ahead.states.clone();
    for (a, b) in [(&away, &ahead), (&ahead, &away)] {
        let network = one_session(a.clone(), b.clone());
        assert!(network.peers.iter().all(|peer| peer.replica.states == expected));
        let report = network.peers[0].reports[0].1;
        let delta_bytes = report.delta_bytes_in + report.delta_bytes_out;
        assert!(network.bytes < delta_bytes + 60_000, "{} bytes for {delta_bytes}", network.bytes);
    }
}

/// The versions of the protocol that compare groups of actors in different ways.
const VERSIONS: [u8; 2] = [3, Protocol::CURRENT.max];

#[test]
fn one_actor_of_2000_is_found_by_groups() {
    let base = Model::new(filled(2000, 5, b"value"));
    let mut ahead = base.clone();
    ahead.write(actor(1234), 3, b"new".to_vec());
    let expected = ahead.states.clone();
    for version in VERSIONS {
        for (a, b) in [(&base, &ahead), (&ahead, &base)] {
            let network = one_session_in(version, a.clone(), b.clone());
            assert!(network.peers.iter().all(|peer| peer.replica.states == expected));
            assert!(network.bytes < 6000, "{} bytes in version {version}", network.bytes);
        }
    }
}

#[test]
fn one_actor_of_100_000_costs_no_list_of_a_large_group() {
    let base = Model::new(filled(100_000, 1, b"value"));
    let mut ahead = base.clone();
    ahead.write(actor(77_777), 3, b"new".to_vec());
    let expected = ahead.states.clone();
    for (a, b) in [(&base, &ahead), (&ahead, &base)] {
        let network = one_session(a.clone(), b.clone());
        assert!(network.peers.iter().all(|peer| peer.replica.states == expected));
        assert!(network.bytes < 10_000, "{} bytes", network.bytes);
    }
}

#[test]
fn an_empty_replica_gets_2000_actors_from_either_side() {
    let full = filled(2000, 5, b"value");
    for version in VERSIONS {
        for (a, b) in [(full.clone(), States::new()), (States::new(), full.clone())] {
            let network = one_session_in(version, Model::new(a), Model::new(b));
            assert!(network.peers.iter().all(|peer| peer.replica.states == full));
        }
    }
}

/// More actors than one step compares, on one side or on both.
#[test]
fn replicas_with_different_thousands_of_actors_become_equal() {
    let full = filled(12_000, 1, b"value");
    let without = |n: usize| -> States {
        full.iter().enumerate().filter(|(i, _)| i % n > 0).map(|(_, (dot, e))| (*dot, e.clone())).collect()
    };
    for version in VERSIONS {
        for (a, b) in [(without(2), without(3)), (filled(3, 1, b"value"), full.clone())] {
            let all: States = a.iter().chain(&b).map(|(dot, entry)| (*dot, entry.clone())).collect();
            for (a, b) in [(&a, &b), (&b, &a)] {
                let network = one_session_in(version, Model::new(a.clone()), Model::new(b.clone()));
                assert!(network.peers.iter().all(|peer| peer.replica.states == all), "in version {version}");
            }
        }
    }
}

#[test]
fn large_values_travel_one_by_one() {
    let full = filled(1, 40, &vec![b'v'; 200 << 10]);
    for (a, b) in [(full.clone(), States::new()), (States::new(), full.clone())] {
        let network = one_session(Model::new(a), Model::new(b));
        assert!(network.peers.iter().all(|peer| peer.replica.states == full));
        assert!(network.largest <= DELTA_BYTES_MAX + (201 << 10), "a frame of {} bytes", network.largest);
    }
}
