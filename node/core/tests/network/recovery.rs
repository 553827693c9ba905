//! Unsafe recovery of a strong keyspace by one of its members.

use starling_core::Input;
use starling_core::strong::{ManageError, StrongInput};

use crate::strong::{answer, create, get, put, value, voters};
use crate::world::{World, settled};

fn recover(world: &mut World, node: usize) -> Result<(), ManageError> {
    let token = world.token();
    world.input(node, Input::Strong(StrongInput::Recover { token, keyspace: "orders".into() }));
    world.nodes[node].managed[&token].clone()
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
                assert_eq!(recover(&mut world, *node), Err(ManageError::HasQuorum), "after {wait_ms} ms");
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
