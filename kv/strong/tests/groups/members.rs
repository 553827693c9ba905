//! Changes of a group's members while it works.

use crate::world::{World, clients, key, request};
use starling_strong::api::{Request, Write};
use starling_strong::group::{ChangeError, Group, Input};

/// Makes these nodes the voters, and asks the current leader until it is done; panics if it is not done in time.
fn set_voters(world: &mut World, nodes: &[usize]) {
    let deadline = world.now_ms + 60_000;
    loop {
        let leader = world.wait_for_leader();
        let token = world.now_ms;
        let nodes = nodes.iter().map(|node| key(*node)).collect();
        world.feed(leader, Input::SetVoters { token, nodes });
        while !world.clients.changed.iter().any(|(of, _)| *of == token) {
            world.run_for(10);
            assert!(world.now_ms < deadline, "the voters were not changed within a minute");
            if !world.is_up(leader) {
                break;
            }
        }
        match world.clients.changed.iter().find(|(of, _)| *of == token) {
            Some((_, Ok(()))) => return,
            Some((_, Err(ChangeError::NotLeader | ChangeError::Busy))) | None => world.run_for(200),
            Some((_, Err(error))) => panic!("{error}"),
        }
    }
}

/// The nodes of the voters, as the leader sees them.
fn voters(world: &mut World) -> Vec<usize> {
    let leader = world.wait_for_leader();
    let group = world.nodes[leader].group.as_ref().expect("it leads");
    let voters = group.status(0).members.into_iter().filter(|member| member.is_voter);
    voters.map(|member| usize::from(member.node[0]) - 1).collect()
}

/// The number of members, learners included, as this node sees them.
fn members(world: &World, node: usize) -> usize {
    world.nodes[node].group.as_ref().expect("up").members().nodes.len()
}

#[test]
fn a_group_grows_shrinks_and_moves_away_while_it_works() {
    let mut world = World::new(1, 6, 3);
    clients::begin(&mut world, 4, 2);
    world.run_for(3_000);
    let (first, alone) = ([0, 1, 2, 3, 4], [&[5][..], &[0]]);
    for nodes in [&first[..], &[2, 3, 4], &[3, 4, 5], alone[0], alone[1], &[0, 1, 5], &[2, 3, 4]] {
        set_voters(&mut world, nodes);
        world.run_for(3_000);
        let mut now = voters(&mut world);
        now.sort_unstable();
        assert_eq!(now, nodes, "the voters");
    }
    let up = (0..6).filter(|node| world.is_up(*node)).count();
    assert_eq!(up, 3, "who was removed has forgotten the group");
    world.clients.stop = true;
    world.run_for(5_000);
    assert!(world.clients.acknowledged > 300, "{}", world.clients.acknowledged);
    world.assert_linearizable();
    world.assert_equal();
}

#[test]
fn a_voter_lost_for_good_is_replaced() {
    let mut world = World::new(2, 4, 3);
    clients::begin(&mut world, 4, 2);
    world.run_for(2_000);
    let leader = world.wait_for_leader();
    world.kill(leader, true);
    let left: Vec<usize> = (0..4).filter(|node| *node != leader).collect();
    set_voters(&mut world, &left);
    world.run_for(2_000);
    let before = world.clients.acknowledged;
    // Now another one may go.
    let leader = world.wait_for_leader();
    world.kill(leader, true);
    world.run_till("writes with two of three", |world| world.clients.acknowledged > before + 20);
    world.assert_linearizable();
}

#[test]
fn a_change_that_would_leave_no_majority_is_refused_after_a_while() {
    let mut world = World::new(3, 5, 5);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    let others: Vec<usize> = (0..5).filter(|node| *node != leader).collect();
    for dead in &others[..2] {
        world.kill(*dead, false);
        world.break_links(*dead);
    }
    let nodes = [leader, others[0], others[1]].map(key).to_vec();
    world.feed(leader, Input::SetVoters { token: 1, nodes });
    world.run_for(2_000);
    assert_eq!(world.clients.changed, [], "they may come back");
    world.run_for(2_000);
    assert_eq!(world.clients.changed, [(1, Err(ChangeError::NoMajority))]);
    assert_eq!(voters(&mut world).len(), 5);
}

#[test]
fn a_change_waits_for_voters_that_come_back() {
    let mut world = World::new(4, 5, 5);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    let others: Vec<usize> = (0..5).filter(|node| *node != leader).collect();
    for away in &others[..2] {
        world.kill(*away, false);
        world.break_links(*away);
    }
    let nodes = [leader, others[0], others[1]].map(key).to_vec();
    world.feed(leader, Input::SetVoters { token: 1, nodes });
    world.run_for(1_000);
    world.start(others[0]);
    world.run_till("the change ends", |world| !world.clients.changed.is_empty());
    assert_eq!(world.clients.changed, [(1, Ok(()))]);
    assert_eq!(voters(&mut world).len(), 3);
}

/// A chosen voter that dies before it has the state does not block later changes.
#[test]
fn a_new_voter_that_dies_is_given_up_and_another_one_takes_its_place() {
    let mut world = World::new(6, 5, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    let lost = (leader + 1) % 3;
    world.kill(lost, true);
    world.cut_off(&[3]);
    let kept: Vec<usize> = (0..3).filter(|node| *node != lost).collect();
    let with = |new: usize| kept.iter().copied().chain([new]).map(key).collect::<Vec<_>>();
    let result = |world: &World, of| world.clients.changed.iter().find(|(it, _)| *it == of).cloned();
    world.feed(leader, Input::SetVoters { token: 1, nodes: with(3) });
    world.run_till("the change is given up", |world| result(world, 1).is_some());
    assert_eq!(result(&world, 1), Some((1, Err(ChangeError::SilentVoter))));
    assert_eq!(members(&world, leader), 3, "the dead learner is no member");
    world.feed(leader, Input::SetVoters { token: 2, nodes: with(4) });
    world.run_till("the other one is a voter", |world| result(world, 2).is_some());
    assert_eq!(result(&world, 2), Some((2, Ok(()))));
    assert!(voters(&mut world).contains(&4));
}

/// An operator who changes their mind does not wait for a change that hangs.
#[test]
fn a_later_change_replaces_the_one_under_way() {
    let mut world = World::new(7, 4, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    world.cut_off(&[3]);
    world.feed(leader, Input::SetVoters { token: 1, nodes: (0..4).map(key).collect() });
    world.run_for(1_000);
    assert_eq!(world.clients.changed, []);
    world.feed(leader, Input::SetVoters { token: 2, nodes: (0..3).map(key).collect() });
    world.run_for(1_000);
    assert_eq!(world.clients.changed, [(1, Err(ChangeError::Busy)), (2, Ok(()))]);
    assert_eq!(members(&world, leader), 3, "the learner that was added is gone again");
}

/// A node that keeps an older replica of the group, for example, declines to be a member: the change ends as soon as what it
/// has added is removed again.
#[test]
fn a_change_is_undone_when_the_node_of_a_new_voter_declines() {
    let mut world = World::new(9, 5, 3);
    let leader = world.wait_for_leader();
    world.run_for(1_000);
    world.cut_off(&[3]);
    let declined = |node: usize| Input::Declined { node: key(node), reason: "no room".into() };
    world.feed(leader, Input::SetVoters { token: 1, nodes: [0, 1, 2, 3, 4].map(key).to_vec() });
    world.run_for(500);
    for voter in [0, 1, 2] {
        world.feed(leader, declined(voter));
    }
    assert_eq!(world.clients.changed, [], "a voter cannot decline");
    world.feed(leader, declined(3));
    world.feed(leader, declined(3));
    world.run_till("the change ends", |world| !world.clients.changed.is_empty());
    assert_eq!(world.clients.changed, [(1, Err(ChangeError::Declined("no room".into())))]);
    assert_eq!(members(&world, leader), 3, "neither new node has stayed a learner");
    world.feed(leader, declined(3));
    assert_eq!(voters(&mut world).len(), 3);
}

/// The only voter of a group leads until all new voters have what it has: one of them that declines changes nothing.
#[test]
fn the_only_voter_stays_when_one_of_several_new_ones_declines() {
    let mut world = World::new(11, 4, 1);
    let leader = world.wait_for_leader();
    world.cut_off(&[3]);
    world.feed(leader, Input::SetVoters { token: 1, nodes: [1, 2, 3].map(key).to_vec() });
    world.run_for(5_000);
    assert_eq!(voters(&mut world), [leader], "node 3 has nothing yet");
    world.feed(leader, Input::Declined { node: key(3), reason: "no room".into() });
    world.run_till("the change ends", |world| !world.clients.changed.is_empty());
    assert_eq!(world.clients.changed, [(1, Err(ChangeError::Declined("no room".into())))]);
    assert_eq!((world.leader(), members(&world, leader)), (Some(leader), 1));
}

/// A transfer of leadership is done when the other member leads, and has failed when it does not in time.
#[test]
fn a_transfer_ends_with_its_outcome() {
    let mut world = World::new(10, 3, 3);
    let was = world.wait_for_leader();
    let (next, dead) = ((was + 1) % 3, (was + 2) % 3);
    world.run_for(1_000);
    world.kill(dead, false);
    world.feed(was, Input::Transfer { token: 1, to: key(dead) });
    world.run_for(100);
    assert_eq!(world.clients.changed, [], "it may still take over");
    world.run_for(3_000);
    assert_eq!(world.clients.changed, [(1, Err(ChangeError::NotTransferred))]);
    assert_eq!(world.leader(), Some(was));
    world.feed(was, Input::Transfer { token: 2, to: key(next) });
    world.run_till("the transfer ends", |world| world.clients.changed.len() == 2);
    assert_eq!(world.clients.changed[1], (2, Ok(())));
    assert_eq!(world.leader(), Some(next));
    world.feed(next, Input::Transfer { token: 3, to: key(next) });
    assert_eq!(world.clients.changed[2], (3, Ok(())), "it leads already");
}

/// Followers send each other hardly any messages: a new leader must not take that for silence.
#[test]
fn a_new_leader_counts_the_silence_of_voters_from_its_election_on() {
    let mut world = World::new(8, 3, 3);
    let was = world.wait_for_leader();
    let (leader, down) = ((was + 1) % 3, (was + 2) % 3);
    world.run_for(60_000);
    world.kill(down, false);
    world.run_for(1_000);
    world.feed(was, Input::Transfer { token: 1, to: key(leader) });
    world.run_till_by(1, "the other one leads", |world| world.leader() == Some(leader));
    let lost = |world: &World| {
        let now = world.clock(leader);
        world.nodes[leader].group.as_ref().expect("it leads").lost(now, 10_000)
    };
    assert!(lost(&world).is_empty());
    world.run_for(9_000);
    assert!(lost(&world).is_empty());
    world.run_for(3_000);
    assert_eq!(lost(&world), [key(down)]);
    // The status says the same, and goes on counting.
    let silent_ms = |world: &World, seen_by: usize, node: usize| {
        let group = world.nodes[seen_by].group.as_ref().expect("up");
        let status = group.status(world.clock(seen_by));
        let member = status.members.into_iter().find(|it| it.node == key(node)).expect("a member");
        member.silent_ms
    };
    assert!(silent_ms(&world, leader, down).is_some_and(|ms| (11_500..12_500).contains(&ms)));
    world.run_for(60_000);
    assert!(silent_ms(&world, leader, down).is_some_and(|ms| (71_500..72_500).contains(&ms)));
    assert!(silent_ms(&world, was, leader).is_some_and(|ms| ms < 1_000), "heartbeats");
    assert_eq!(silent_ms(&world, was, down), None, "two followers send each other nothing");
    // A leader that was restarted has heard nothing of it at all.
    world.kill(leader, false);
    world.kill(was, false);
    world.start(leader);
    world.start(was);
    let leads = world.wait_for_leader();
    world.run_for(20_000);
    assert!(silent_ms(&world, leads, down).is_some_and(|ms| (19_000..22_000).contains(&ms)));
}

/// A leader that is to leave adds the new voters and hands leadership over. Its client repeats the change to the
/// new leader, which has messages from hardly any member yet.
#[test]
fn a_new_leader_finishes_the_change_that_made_it_lead() {
    let mut world = World::new(5, 4, 3);
    let was = world.wait_for_leader();
    let stay: Vec<usize> = (0..3).filter(|node| *node != was).collect();
    world.blocked.extend([(stay[0], stay[1]), (stay[1], stay[0])]);
    world.run_for(2_000);
    let nodes = [stay[0], stay[1], 3].map(key).to_vec();
    world.feed(was, Input::SetVoters { token: 1, nodes: nodes.clone() });
    world.run_till_by(1, "another one leads", |world| world.leader().is_some_and(|leader| leader != was));
    let leader = world.leader().expect("it leads");
    world.feed(leader, Input::SetVoters { token: 2, nodes });
    world.blocked.clear();
    let of_second = |world: &World| world.clients.changed.iter().find(|(of, _)| *of == 2).cloned();
    world.run_till("the change ends", |world| of_second(world).is_some());
    assert_eq!(of_second(&world), Some((2, Ok(()))));
}

#[test]
fn a_follower_that_missed_too_much_gets_the_state_itself() {
    let mut world = World::new(4, 3, 3);
    let leader = world.wait_for_leader();
    let behind = (leader + 1) % 3;
    world.cut_off(&[behind]);
    for n in 0..25_000 {
        let write = Request::Write(Write::Put(clients::put((n % 200) as u8, n)));
        world.feed(leader, request(n, write, 10_000));
        if n % 100 == 0 {
            world.run_for(20);
        }
    }
    world.run_for(2_000);
    let base = world.nodes[leader].group.as_ref().expect("up").status(0).base_index;
    assert!(base > 5_000, "the log was cut at {base}");
    world.blocked.clear();
    world.run_till("the replicas are equal", |world| {
        let applied =
            |node: usize| world.nodes[node].group.as_ref().map(|group| group.status(0).applied_index);
        applied(behind) == applied(leader)
    });
    world.run_for(1_000);
    world.assert_equal();
    // What it got is on its disk.
    world.kill(behind, true);
    world.start(behind);
    world.run_for(2_000);
    world.assert_equal();
}

/// A voter that was cut off gets a change of voters and its end in one message, acknowledges both, and loses power
/// before it has synced the members that the change makes. It comes back with the removed voter, which has not
/// received the end of the change: by the voters from before the change, these two are a majority.
pub fn lose_power_between_changes(seed: u64) {
    let mut world = World::new(seed, 4, 3);
    let leader = world.wait_for_leader();
    world.run_for(500);
    let (late, removed) = ((leader + 1) % 3, (leader + 2) % 3);
    world.cut_off(&[late]);
    let nodes = [leader, late, 3].map(key).to_vec();
    world.feed(leader, Input::SetVoters { token: 1, nodes });
    let is_joint = |world: &World, node: usize| {
        world.nodes[node].group.as_ref().is_some_and(|group| group.members().is_joint())
    };
    world.run_till_by(1, "the change has begun", |world| is_joint(world, leader));
    world.blocked.clear();
    world.cut_off(&[removed]);
    world.run_till_by(1, "the late voter applies the change", |world| is_joint(world, late));
    world.lose(late, true, true);
    world.put_down(late);
    world.run_till_by(1, "the change ends", |world| !is_joint(world, leader));
    world.blocked.clear();
    world.cut_off(&[late, removed]);
    world.start(late);
    for _ in 0..100 {
        world.run_for(100);
        for node in [late, removed] {
            let leads = world.nodes[node].group.as_ref().is_some_and(Group::is_leader);
            assert!(!leads, "former voters elect a leader beside the new ones");
        }
    }
    let write = |n| Request::Write(Write::Put(clients::put(1, n)));
    world.feed(leader, request(7, write(1), 5_000));
    world.run_till("the new voters answer", |world| world.clients.answers.contains_key(&7));
    world.blocked.clear();
    world.run_till("the removed voter leaves", |world| {
        world.gossip();
        !world.is_up(removed)
    });
    world.run_for(3_000);
    world.assert_equal();
}

#[test]
fn a_change_of_voters_makes_no_second_quorum() {
    (0..20).for_each(lose_power_between_changes);
}

/// Changes of members while machines and the network fail.
#[test]
fn changes_under_faults_are_linearizable() {
    for seed in 0..15 {
        println!("seed {seed}");
        let mut world = World::new(seed, 5, 3);
        world.weather = crate::world::Weather::FOUL;
        clients::begin(&mut world, 5, 3);
        for round in 0..25 {
            let some = world.below(5) as usize;
            let nodes = [some, (some + 1) % 5, (some + 2) % 5].map(key).to_vec();
            if let Some(leader) = world.leader() {
                world.feed(leader, Input::SetVoters { token: 1_000_000 + round, nodes });
            }
            world.run_for(500);
            let node = world.below(5) as usize;
            if world.is_up(node) {
                world.kill(node, true);
                let pause = world.below(2_000);
                world.run_for(pause);
                world.start(node);
            }
            world.run_for(1_000);
        }
        world.weather = crate::world::Weather::FINE;
        let before = world.clients.acknowledged;
        world.run_till("writes after everything healed", |world| world.clients.acknowledged > before + 20);
        world.clients.stop = true;
        world.run_for(10_000);
        world.assert_linearizable();
    }
}
