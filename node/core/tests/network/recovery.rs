//! Unsafe recovery of a strong keyspace by one of its members.

use starling_core::Input;
use starling_core::strong::{AsideConfig, ManageError, StrongInput, Surveyed};
use starling_proto::Role;
use starling_strong::group::ChangeError;
use starling_strong::registry;

use crate::strong::{answer, create, get, leader, put, strong_rows, value, voters};
use crate::world::{World, current, settled};

fn recover(world: &mut World, node: usize) -> Result<(), ManageError> {
    recover_with_loss(world, node, 0)
}

fn recover_with_loss(world: &mut World, node: usize, accept_loss: u64) -> Result<(), ManageError> {
    let token = world.token();
    manage(world, node, token, StrongInput::Recover { token, keyspace: "orders".into(), accept_loss })
}

fn discard(world: &mut World, node: usize) -> Result<(), ManageError> {
    let token = world.token();
    manage(world, node, token, StrongInput::Discard { token, keyspace: "orders".into() })
}

fn set_voters(world: &mut World, node: usize, voters: &[usize]) -> Result<(), ManageError> {
    let token = world.token();
    let nodes = voters.iter().map(|voter| world.nodes[*voter].record.id).collect();
    manage(world, node, token, StrongInput::SetVoters { token, keyspace: "orders".into(), nodes })
}

fn manage(world: &mut World, node: usize, token: u64, input: StrongInput) -> Result<(), ManageError> {
    world.input(node, Input::Strong(input));
    world.run_until(60_000, "an outcome", |w| w.nodes[node].managed.contains_key(&token));
    world.nodes[node].managed[&token].clone()
}

fn survey(world: &mut World, node: usize) -> Surveyed {
    let token = world.token();
    world.input(node, Input::Strong(StrongInput::Survey { token, keyspace: "orders".into() }));
    world.run_until(5_000, "a survey", |w| w.nodes[node].surveys.contains_key(&token));
    world.nodes[node].surveys[&token].clone().expect("the keyspace is known")
}

/// The replicas that a node keeps aside: their keyspaces, and whether they may have more than their group.
pub fn asides(world: &World, node: usize) -> Vec<(String, bool)> {
    let strong = world.nodes[node].core.strong().expect("a replica of the network");
    strong.asides().map(|(aside, may_have_more)| (aside.keyspace.clone(), may_have_more)).collect()
}

/// Five voters without a quorum, two of which are up: one that has the last ten writes, and one that lacks them.
fn without_quorum(seed: u64) -> (World, Vec<usize>, usize, usize) {
    let mut world = current(seed, 7);
    let members = create(&mut world, "orders", 5, &[]);
    let leads = leader(&mut world, "orders", &members);
    let behind = *members.iter().find(|node| **node != leads).expect("five members");
    answer(&mut world, leads, "orders", put("k", "early")).0.expect("written");
    world.run(1_000);
    world.kill(behind);
    world.run(2_000);
    for n in 0..10 {
        answer(&mut world, leads, "orders", put("k", &n.to_string())).0.expect("four are left");
    }
    for node in members.iter().filter(|node| **node != leads && **node != behind) {
        world.kill(*node);
    }
    // The leader gives up first, and sends nothing any more.
    world.run(5_000);
    world.restart(behind);
    world.run(15_000);
    (world, members, leads, behind)
}

#[test]
fn a_group_with_a_quorum_is_not_recovered_by_one_of_its_members() {
    let mut world = settled(11, 5);
    let members = create(&mut world, "orders", 3, &[]);
    for round in 0..3 {
        // One member misses writes; it is asked as soon as it is back.
        let behind = members[round];
        world.kill(behind);
        world.run(3_000);
        let outside = (1..=5).find(|node| !members.contains(node)).expect("there are more nodes");
        let key = format!("k{round}");
        answer(&mut world, outside, "orders", put(&key, "v")).0.expect("written");
        world.restart(behind);
        for wait_ms in [0, 1, 100, 1_000, 9_000, 60_000] {
            world.run(wait_ms);
            for node in &members {
                let refused = recover(&mut world, *node);
                // One that has just started may have heard nobody yet, and says that.
                let is_unsure = *node == behind && matches!(refused, Err(ManageError::JustOpened { .. }));
                assert!(
                    is_unsure || refused == Err(ManageError::HasQuorum),
                    "after {wait_ms} ms: {refused:?}"
                );
            }
        }
        let (read, _) = answer(&mut world, outside, "orders", get(&key));
        assert_eq!(value(read).as_deref(), Some("v"));
    }
}

#[test]
fn the_last_replica_goes_on_alone_when_told() {
    let mut world = settled(11, 5);
    let members = create(&mut world, "orders", 3, &[]);
    answer(&mut world, 1, "orders", put("k", "v")).0.expect("written");
    world.run(1_000);
    let (left, gone) = (members[0], &members[1..]);
    for node in gone {
        world.kill(*node);
    }
    world.run(2_000);
    assert_eq!(recover(&mut world, left), Err(ManageError::HasQuorum), "they may come back in a moment");
    world.run(10_000);
    assert_eq!(recover(&mut world, left), Ok(()));
    world.run(3_000);
    let outside = (1..=5).find(|node| !members.contains(node)).expect("there are more nodes");
    let (read, _) = answer(&mut world, outside, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("v"));
    assert_eq!(voters(&mut world, outside, "orders"), [left]);
}

#[test]
fn a_replica_that_has_just_opened_says_so_and_not_that_it_has_heard_a_majority() {
    let mut world = settled(12, 5);
    let members = create(&mut world, "orders", 3, &[]);
    for node in &members {
        world.kill(*node);
    }
    world.run(20_000);
    world.restart(members[0]);
    world.run(1_000);
    assert_eq!(recover(&mut world, members[0]), Err(ManageError::JustOpened { left_s: 9 }));
    world.run(9_500);
    assert_eq!(recover(&mut world, members[0]), Ok(()));
}

#[test]
fn a_survey_names_all_replicas_and_the_longest_log() {
    let (mut world, members, ahead, behind) = without_quorum(31);
    let outside = (1..=7).find(|node| !members.contains(node)).expect("there are more nodes");
    for asked in [ahead, behind, outside] {
        let Surveyed { replicas, silent } = survey(&mut world, asked);
        let ends: Vec<_> = [ahead, behind]
            .iter()
            .map(|node| {
                let name = &world.nodes[*node].record.name;
                let replica = replicas.iter().find(|it| it.name == *name).expect("it is up");
                assert!(replica.state.closed.is_none() && !replica.state.may_have_quorum, "{replica:?}");
                replica.state.end.expect("its log can be read")
            })
            .collect();
        assert_eq!((replicas.len(), silent.len()), (2, 3), "{silent:?}");
        assert!(ends[1].missing_of(&ends[0]) >= 10 && ends[0].missing_of(&ends[1]) == 0, "{ends:?}");
        assert!(ends[0].applied + 1 >= ends[0].index, "{ends:?}");
    }
}

#[test]
fn the_shorter_of_two_replicas_goes_on_only_if_the_loss_is_accepted() {
    let (mut world, _, ahead, behind) = without_quorum(32);
    let refused = recover(&mut world, behind);
    let Err(ManageError::Shorter { node, entries }) = refused else { panic!("{refused:?}") };
    assert_eq!(node, world.nodes[ahead].record.name);
    assert!((10..=20).contains(&entries), "{entries}");
    assert!(matches!(recover_with_loss(&mut world, behind, entries - 1), Err(ManageError::Shorter { .. })));
    assert_eq!(recover(&mut world, ahead), Ok(()), "it lacks nothing");
    world.run(3_000);
    let (read, _) = answer(&mut world, behind, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("9"));
}

#[test]
fn a_replica_that_recovery_removed_is_kept_until_an_operator_deletes_it() {
    let (mut world, members, ahead, behind) = without_quorum(33);
    assert_eq!(recover_with_loss(&mut world, behind, 100), Ok(()));
    world.run_until(30_000, "the longer one is kept", |w| asides(w, ahead) == [("orders".into(), true)]);
    let again = recover_with_loss(&mut world, behind, 100);
    assert_eq!(again, Err(ManageError::IsAlone("orders".into())), "nothing is left to recover");
    for node in members.iter().filter(|node| ![ahead, behind].contains(node)) {
        world.restart(*node);
    }
    world.run_until(60_000, "all others are", |w| {
        members.iter().all(|node| *node == behind || asides(w, *node) == [("orders".into(), true)])
    });
    world.kill(ahead);
    world.restart(ahead);
    assert_eq!(asides(&world, ahead), [("orders".into(), true)], "after a restart, too");
    world.run(15_000);
    // It is seen, is longer than the other one until that has entries of a later term, and may not go on beside it.
    let replicas = survey(&mut world, behind).replicas;
    assert_eq!(replicas.len(), 5, "{replicas:?}");
    assert_eq!(replicas.iter().filter(|it| it.state.closed.is_some() && it.may_have_more).count(), 4);
    let quorum_at = ManageError::QuorumAt { node: world.nodes[behind].record.name.clone() };
    assert_eq!(recover_with_loss(&mut world, ahead, 1_000), Err(quorum_at));
    // It is not overwritten when its node is to be a voter again.
    let asked = world.now;
    let refused = set_voters(&mut world, behind, &[behind, ahead]);
    let Err(ManageError::Refused(ChangeError::Declined(reason))) = &refused else { panic!("{refused:?}") };
    assert!(reason.contains(&world.nodes[ahead].record.name), "{reason}");
    assert!(reason.contains("`starling keyspace discard orders`"), "{reason}");
    assert!(world.now - asked < 3_000, "it is said at once");
    assert_eq!(members_on(&world, behind), 1, "a refused change leaves no learner");
    assert_eq!(asides(&world, ahead), [("orders".into(), true)]);
    assert_eq!(discard(&mut world, ahead), Ok(()));
    assert_eq!(discard(&mut world, ahead), Ok(()), "once more");
    assert_eq!(set_voters(&mut world, behind, &[behind, ahead]), Ok(()));
    assert!(asides(&world, ahead).is_empty());
    let (read, _) = answer(&mut world, ahead, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("early"));
}

/// The members of the keyspace, learners included, as a node with a replica of it sees them.
fn members_on(world: &World, node: usize) -> usize {
    let strong = world.nodes[node].core.strong().expect("a replica of the network");
    strong.member_of("orders").expect("a replica").members().nodes.len()
}

#[test]
fn a_node_that_leaves_asks_the_next_one_where_one_declines() {
    let (mut world, members, ahead, behind) = without_quorum(46);
    assert_eq!(recover_with_loss(&mut world, behind, 100), Ok(()));
    world.run_until(30_000, "the longer one is kept", |w| asides(w, ahead) == [("orders".into(), true)]);
    let others: Vec<usize> = (1..=7).filter(|node| !members.contains(node)).collect();
    for node in &others {
        world.kill(*node);
    }
    world.run(20_000);
    let vacate = |world: &mut World| {
        let token = world.token();
        manage(world, behind, token, StrongInput::Vacate { token, keyspace: "orders".into() })
    };
    let refused = vacate(&mut world);
    let Err(ManageError::AllDecline { reasons }) = &refused else { panic!("{refused:?}") };
    let name = &world.nodes[ahead].record.name;
    assert!(reasons.len() == 1 && reasons[0].starts_with(&format!("{name} declines: ")), "{reasons:?}");
    assert_eq!(members_on(&world, behind), 1, "the one that declines is no learner");
    // Nodes that have started later are asked later.
    for node in &others {
        world.restart(*node);
    }
    world.run(20_000);
    assert_eq!(vacate(&mut world), Ok(()));
    let now = voters(&mut world, behind, "orders");
    assert!(now.len() == 1 && others.contains(&now[0]), "{now:?}");
    assert_eq!(members_on(&world, now[0]), 1);
    assert_eq!(asides(&world, ahead), [("orders".into(), true)]);
}

#[test]
fn a_removed_replica_that_the_recovered_one_lacks_nothing_of_is_in_nobodys_way() {
    let (mut world, members, ahead, behind) = without_quorum(38);
    assert_eq!(recover(&mut world, ahead), Ok(()));
    world.run_until(30_000, "the shorter one is kept", |w| asides(w, behind) == [("orders".into(), false)]);
    answer(&mut world, ahead, "orders", put("k", "later")).0.expect("the one voter is up");
    assert!(survey(&mut world, ahead).replicas.iter().all(|it| !it.may_have_more));
    assert_eq!(set_voters(&mut world, ahead, &[ahead, behind]), Ok(()), "nothing has to be discarded");
    assert!(asides(&world, behind).is_empty());
    // The other ones come back while the node that was recovered is gone and another one leads.
    let outside: Vec<usize> = (1..=7).filter(|node| !members.contains(node)).collect();
    let voters = [behind, outside[0], outside[1]];
    assert_eq!(set_voters(&mut world, behind, &voters), Ok(()));
    world.kill(ahead);
    for node in members.iter().filter(|node| ![ahead, behind].contains(node)) {
        world.restart(*node);
        world.run_until(60_000, "it is kept", |w| asides(w, *node) == [("orders".into(), false)]);
        assert!(survey(&mut world, outside[0]).replicas.iter().all(|it| !it.may_have_more));
    }
    let (read, _) = answer(&mut world, outside[1], "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("later"));
}

#[test]
fn what_a_recovery_lost_is_known_when_another_member_leads() {
    let (mut world, members, ahead, behind) = without_quorum(39);
    assert_eq!(recover_with_loss(&mut world, behind, 100), Ok(()));
    world.run_until(30_000, "the longer one is kept", |w| !asides(w, ahead).is_empty());
    let outside: Vec<usize> = (1..=7).filter(|node| !members.contains(node)).collect();
    assert_eq!(set_voters(&mut world, behind, &outside), Ok(()), "none of the old ones stays");
    world.kill(behind);
    world.kill(ahead);
    world.restart(ahead);
    world.run(30_000);
    assert_eq!(asides(&world, ahead), [("orders".into(), true)]);
    let more = survey(&mut world, outside[0]).replicas;
    let more: Vec<_> = more.iter().filter(|it| it.may_have_more).map(|it| it.name.clone()).collect();
    assert_eq!(more, [world.nodes[ahead].record.name.clone()]);
}

#[test]
fn a_lost_voter_is_replaced_by_a_node_that_does_not_decline() {
    let (mut world, members, ahead, behind) = without_quorum(37);
    assert_eq!(recover_with_loss(&mut world, behind, 100), Ok(()));
    world.run_until(30_000, "the longer one is kept", |w| !asides(w, ahead).is_empty());
    let outside: Vec<usize> = (1..=7).filter(|node| !members.contains(node)).collect();
    assert_eq!(set_voters(&mut world, behind, &[behind, outside[0], outside[1]]), Ok(()));
    // It would be chosen before a younger one, but keeps what the group lacks.
    assert!(outside.iter().all(|node| ahead < *node));
    let fresh = world.start(Role::Replica, &[0]);
    world.run(5_000);
    world.kill(outside[0]);
    world.run(100_000);
    let mut now = voters(&mut world, behind, "orders");
    now.sort_unstable();
    let mut expected = [behind, outside[1], fresh];
    expected.sort_unstable();
    assert_eq!(now, expected);
    assert_eq!(asides(&world, ahead), [("orders".into(), true)]);
}

#[test]
fn a_kept_replica_goes_on_once_the_one_that_was_recovered_is_lost() {
    let (mut world, _, ahead, behind) = without_quorum(34);
    assert_eq!(recover_with_loss(&mut world, behind, 100), Ok(()));
    world.run_until(30_000, "the longer one is kept", |w| !asides(w, ahead).is_empty());
    world.kill(behind);
    world.run(5_000);
    assert_eq!(recover(&mut world, ahead), Ok(()));
    assert!(asides(&world, ahead).is_empty());
    world.run(5_000);
    let (read, _) = answer(&mut world, ahead, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("9"), "the writes that the other one lacked");
    world.restart(behind);
    world.run_until(60_000, "the other one gives way", |w| !asides(w, behind).is_empty());
    let (read, _) = answer(&mut world, behind, "orders", get("k"));
    assert_eq!(value(read).as_deref(), Some("9"));
}

#[test]
fn a_voter_that_was_replaced_is_kept_for_a_while_and_may_come_back_before() {
    let mut world = current(35, 5);
    world.aside = AsideConfig { keep_ms: 120_000, ..AsideConfig::default() };
    for node in 1..=5 {
        world.kill(node);
        world.restart(node);
    }
    world.run(10_000);
    let members = create(&mut world, "orders", 3, &[]);
    answer(&mut world, 1, "orders", put("k", "v")).0.expect("written");
    let others: Vec<usize> = (1..=5).filter(|node| !members.contains(node)).collect();
    let (gone, kept) = (members[2], [members[0], members[1]]);
    assert_eq!(set_voters(&mut world, 1, &[kept[0], kept[1], others[0]]), Ok(()));
    world.run_until(10_000, "it is kept", |w| asides(w, gone) == [("orders".into(), false)]);
    assert_eq!(set_voters(&mut world, 1, &[kept[0], kept[1], gone]), Ok(()), "nothing is lost with it");
    world.run_until(30_000, "the other one is kept", |w| asides(w, others[0]) == [("orders".into(), false)]);
    assert!(asides(&world, gone).is_empty());
    world.run(100_000);
    assert_eq!(asides(&world, others[0]).len(), 1);
    world.run(30_000);
    assert!(asides(&world, others[0]).is_empty(), "its time is over");
    let strong = world.nodes[others[0]].core.strong().expect("a replica of the network");
    assert_eq!(strong.groups().count(), 0);
    assert_eq!(strong_rows(&world, others[0]), 0);
}

#[test]
fn a_full_disk_removes_the_oldest_kept_replica() {
    let mut world = current(36, 5);
    let kept = create(&mut world, "orders", 3, &[1, 2, 3]);
    assert_eq!(set_voters(&mut world, 1, &[2, 3, 4]), Ok(()));
    assert!(kept.contains(&1));
    world.run_until(10_000, "it is kept", |w| !asides(w, 1).is_empty());
    create(&mut world, "stock", 3, &[1, 2, 3]);
    world.nodes[1].engine.set_full(true);
    answer(&mut world, 2, "stock", put("k", "v")).0.expect("two members are left");
    let closed = |w: &World| w.nodes[1].core.strong().is_some_and(|strong| strong.closed().next().is_some());
    world.run_until(5_000, "the replica stops", closed);
    assert!(discard(&mut world, 1).is_err(), "nothing can be written");
    assert_eq!(asides(&world, 1).len(), 1, "it is kept until it can be deleted");
    // There is space for a deletion, and not yet for the replica that has stopped.
    world.nodes[1].engine.set_full(false);
    world.run_until(5_000, "the kept one is removed", |w| asides(w, 1).is_empty());
    world.run_until(10_000, "the replica is open again", |w| !closed(w));
    world.run(3_000);
    let registered = registry::registered(&world.nodes[1].engine).expect("memory");
    assert_eq!(registered.iter().map(|it| &*it.keyspace).collect::<Vec<_>>(), ["stock"]);
}
