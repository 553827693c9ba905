//! What is left when a replica is lost for good in the middle of a session.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use starling_proto::ActorId;
use starling_proto::sync::Replica;

use crate::model::Model;
use crate::network::Network;

const PLACES: u32 = 60;

/// A write at one replica, whose rumor reaches the others by chance.
fn write(network: &mut Network, rng: &mut ChaCha8Rng, time: u32, writer: usize, reached: f64) {
    // Actors are compared in the order of their ids.
    let actor = ActorId([rng.random_range(0..2) * 8 + writer as u8; 16]);
    // Later writes have larger contents.
    let mut content = time.to_be_bytes().to_vec();
    content.resize(rng.random_range(8..2000), 0);
    let (_, rumor) =
        network.peers[writer].replica.write_and_tell(actor, rng.random_range(0..PLACES), content);
    for peer in &mut network.peers {
        if rng.random_bool(reached) {
            peer.replica.join(&rumor).expect("a delta");
        }
    }
}

fn places(network: &Network, at: usize) -> BTreeSet<u32> {
    let held = network.peers[at].replica.places.iter().filter(|(_, dots)| !dots.is_empty());
    held.map(|(place, _)| *place).collect()
}

/// Nobody deletes anything, so a place that held a value at a survivor holds one for ever. The replica with the lower
/// number drives a session.
fn lose(seed: u64, messages: u32, is_writing: bool, lost: usize) -> Result<(), String> {
    let survivors = [1, 2 - lost];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut network = Network::new(seed, vec![Model::default(); 3]);
    (0..150).for_each(|time| write(&mut network, &mut rng, time, time as usize % 3, 0.7));
    (150..250).for_each(|time| write(&mut network, &mut rng, time, lost, 0.05));
    let before = survivors.map(|at| places(&network, at));
    network.link(lost, 1);
    for message in 0..messages {
        network.step();
        if is_writing {
            let writer = [lost, 1][rng.random_range(0..2)];
            write(&mut network, &mut rng, 250 + message, writer, 0.02);
        }
    }
    network.unlink(lost, 1);
    network.link(1, 2 - lost);
    network.run_until(3_600_000, "equal survivors", |network| {
        network.peers[1].replica.states == network.peers[2 - lost].replica.states
    });
    for (at, before) in survivors.into_iter().zip(before) {
        if let Some(place) = before.difference(&places(&network, at)).next() {
            return Err(format!("place {place} is empty at replica {at}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_value_is_not_lost_with_the_replica_that_replaced_it(
        seed in any::<u64>(),
        messages in 0..60_u32,
        is_writing in any::<bool>(),
        lost in prop_oneof![Just(0_usize), Just(2)],
    ) {
        prop_assert_eq!(lose(seed, messages, is_writing, lost), Ok(()));
    }
}

#[cfg(planted)]
#[test]
fn bugs_planted_in_sessions_are_caught() {
    let seeds: Vec<u64> = (1..200).collect();
    let notice = |seed: u64| lose(seed, (seed % 60) as u32, seed % 2 == 0, 2).err();
    let missed = starling_planted::missed(&starling_planted::Bug::SESSIONS, &seeds, 3, notice);
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
