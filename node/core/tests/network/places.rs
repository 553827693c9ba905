//! The nodes that vote in a strong keyspace: chosen when it is created, and when one of them leaves.

use starling_core::Input;
use starling_core::strong::{CreateError, ManageError, StrongInput};
use starling_strong::group::ChangeError;

use crate::strong::{answer, create, get, leader, put, value, voters};
use crate::world::{World, current, settled};

/// Asks node 1 for a keyspace on three nodes of its choice, and waits for the outcome.
fn create_anywhere(world: &mut World, on: &[usize]) -> Result<Vec<usize>, CreateError> {
    let token = world.token();
    let on = on.iter().map(|node| world.nodes[*node].record.id).collect();
    let create = StrongInput::Create { token, keyspace: "orders".into(), voters: 3, on, manual: false };
    world.input(1, Input::Strong(create));
    world.run_until(40_000, "an outcome", |w| w.nodes[1].created.contains_key(&token));
    let find = |id| world.nodes.iter().position(|node| node.record.id == id).expect("of this world");
    let location = world.nodes[1].created[&token].clone()?;
    Ok(location.members.iter().map(|record| find(record.id)).collect())
}

fn vacate(world: &mut World, node: usize) -> Result<(), ManageError> {
    let token = world.token();
    world.input(node, Input::Strong(StrongInput::Vacate { token, keyspace: "orders".into() }));
    world.run_until(65_000, "an outcome", |w| w.nodes[node].managed.contains_key(&token));
    world.nodes[node].managed[&token].clone()
}

fn votes(world: &World, node: usize) -> usize {
    world.nodes[node].core.strong().expect("a replica of the network").votes().count()
}

#[test]
fn a_keyspace_is_created_on_nodes_that_are_up() {
    let mut world = settled(41, 7);
    // The oldest ones would be chosen, and nobody has removed them from what node 1 remembers.
    for dead in [2, 3, 4] {
        world.kill(dead);
    }
    world.run(200);
    let began = world.now;
    let members = create_anywhere(&mut world, &[]).expect("four nodes are up");
    assert!(members.iter().all(|node| world.nodes[*node].up), "{members:?}");
    assert!(world.now - began < 2_000, "none of those that have stopped was waited for");
    answer(&mut world, 1, "orders", put("k", "v")).0.expect("written");
}

#[test]
fn a_chosen_node_that_does_not_answer_is_replaced_and_leaves_nothing_behind() {
    let mut world = settled(42, 5);
    // It is suspended: links to it last, and nothing comes back.
    world.groups.insert(2, 9);
    let members = create_anywhere(&mut world, &[]).expect("four nodes are up");
    assert!(members.len() == 3 && !members.contains(&2), "{members:?}");
    answer(&mut world, 1, "orders", put("k", "v")).0.expect("written");
    world.groups.clear();
    world.run(60_000);
    let groups = |node: usize| world.nodes[node].core.strong().map(|strong| strong.groups().count());
    for node in 1..=5 {
        assert_eq!(groups(node), Some(usize::from(members.contains(&node))), "{node}");
    }
    // Two of three may have created it, and be a majority.
    world.groups.extend([(2, 9), (3, 9)]);
    let token = world.token();
    let create = |on, token| {
        let keyspace = "stock".to_owned();
        Input::Strong(StrongInput::Create { token, keyspace, voters: 3, on, manual: false })
    };
    world.input(1, create(Vec::new(), token));
    world.run_until(40_000, "an outcome", |w| w.nodes[1].created.contains_key(&token));
    let refused = &world.nodes[1].created[&token];
    assert!(matches!(refused, Err(CreateError::Refused { .. })), "nodes 4 and 5 are not asked: {refused:?}");
    world.groups.clear();
    world.run(60_000);
    // The nodes that an operator names are not replaced.
    world.groups.insert(2, 9);
    let token = world.token();
    let on = [2, 3, 4].map(|node| world.nodes[node].record.id).to_vec();
    world.input(1, create(on, token));
    world.run_until(40_000, "an outcome", |w| w.nodes[1].created.contains_key(&token));
    let refused = &world.nodes[1].created[&token];
    assert!(matches!(refused, Err(CreateError::Refused { node, .. }) if node == "n2"), "{refused:?}");
}

#[test]
fn a_node_that_leaves_gives_its_vote_to_another_one() {
    let mut world = settled(43, 5);
    let members = create(&mut world, "orders", 3, &[]);
    answer(&mut world, 1, "orders", put("k", "v")).0.expect("written");
    world.run(1_000);
    // First the leader, then one that does not lead.
    for round in 0..2 {
        let now = voters(&mut world, 1, "orders");
        let leads = leader(&mut world, "orders", &now);
        let leaves =
            if round == 0 { leads } else { *now.iter().find(|node| **node != leads).expect("three") };
        assert_eq!(votes(&world, leaves), 1);
        assert_eq!(vacate(&mut world, leaves), Ok(()));
        let after = voters(&mut world, leaves, "orders");
        assert!(after.len() == 3 && !after.contains(&leaves), "{after:?}");
        world.run_until(5_000, "it votes no more", |w| votes(w, leaves) == 0);
        let (read, _) = answer(&mut world, leaves, "orders", get("k"));
        assert_eq!(value(read).as_deref(), Some("v"));
    }
    assert!(members.len() == 3);
}

#[test]
fn a_vote_stays_where_no_other_node_can_take_it() {
    let mut world = settled(44, 3);
    create(&mut world, "orders", 3, &[]);
    assert_eq!(vacate(&mut world, 1), Err(ManageError::NoSpare));
    let token = world.token();
    world.input(1, Input::Strong(StrongInput::Vacate { token, keyspace: "nowhere".into() }));
    world.run(10);
    assert_eq!(world.nodes[1].managed[&token], Err(ManageError::NoReplica("nowhere".into())));
    assert_eq!(voters(&mut world, 1, "orders").len(), 3);
}

#[test]
fn a_transfer_to_a_node_that_has_stopped_fails_and_says_so() {
    let mut world = current(45, 5);
    let members = create(&mut world, "orders", 3, &[]);
    let leads = leader(&mut world, "orders", &members);
    world.run(2_000);
    let dead = *members.iter().find(|node| **node != leads && **node != 1).expect("three members");
    world.kill(dead);
    let (token, to) = (world.token(), world.nodes[dead].record.id);
    world.input(1, Input::Strong(StrongInput::Transfer { token, keyspace: "orders".into(), to }));
    world.run_until(5_000, "an outcome", |w| w.nodes[1].managed.contains_key(&token));
    let refused = Err(ManageError::Refused(ChangeError::NotTransferred));
    assert_eq!(world.nodes[1].managed[&token], refused);
    assert!(world.nodes[leads].core.leads("orders"));
}
