//! Members that come back with an older copy of their disk, as restored backups and virtual machines do: without entries
//! that they have acknowledged, and without votes that they have given. One at a time, and the others keep what they have.

use starling_strong::api::{Read, Request, Write};
use starling_strong::group::wire::{Kind, RaftMessage};
use starling_strong::group::{Group, GroupMessage, Input, Notice, Output, Rollback};

use starling_strong::machine::VERSION_NEWEST;

use crate::world::disk::Disk;
use crate::world::{Weather, World, clients, key, request};

/// A group of three that has adopted the newest data version: the leader and the two others.
fn begin(seed: u64) -> (World, usize, usize, usize) {
    let mut world = World::new(seed, 3, 3);
    let leader = world.wait_for_leader();
    world.run_for(2_000);
    (world, leader, (leader + 1) % 3, (leader + 2) % 3)
}

fn group(world: &World, node: usize) -> &Group<Disk> {
    world.nodes[node].group.as_ref().expect("it is up")
}

/// Cuts a member off from the leader only.
fn cut_from_leader(world: &mut World, leader: usize, member: usize) {
    world.blocked = [(leader, member), (member, leader)].into();
}

fn last_index(world: &World, node: usize) -> u64 {
    group(world, node).log_end().index
}

fn write(world: &mut World, node: usize, token: u64) {
    let write = Request::Write(Write::Put(clients::put(1, token)));
    world.feed(node, request(token, write, 10_000));
    world.run_till_by(1, "the write is acknowledged", |world| {
        world.clients.answers.get(&token).is_some_and(Result::is_ok)
    });
}

/// The value that a node reads, once it answers: without a leader it redirects the request.
fn read(world: &mut World, node: usize) -> u64 {
    let mut token = 1_000_000;
    loop {
        token += 1;
        world.feed(node, request(token, Request::Read(Read::Range(clients::get(1))), 500));
        world.run_for(500);
        if let Some(Ok(answer)) = world.clients.answers.get(&token) {
            return clients::found(answer);
        }
        assert!(token < 1_000_060, "no answer");
    }
}

fn rollbacks(world: &World, node: usize) -> usize {
    let is_one = |(of, notice): &&(usize, Notice)| *of == node && matches!(notice, Notice::RolledBack { .. });
    world.notices.iter().filter(is_one).count()
}

/// The leader replies, sends again what the member has lost, and fails: the member has everything to lead itself.
#[test]
fn the_leader_sends_again_what_a_restored_member_has_lost() {
    for seed in 0..10 {
        let (mut world, leader, voter, behind) = begin(seed);
        let copy = world.copy(voter);
        world.cut_off(&[behind]);
        for token in 1..=20 {
            write(&mut world, leader, token);
        }
        let before = last_index(&world, voter);
        cut_from_leader(&mut world, leader, behind);
        world.put_back(voter, &copy);
        world.run_for(300);
        let rollback = group(&world, voter).rollback();
        let Some(Rollback { acknowledged, found, is_behind: false }) = rollback else {
            panic!("{rollback:?}")
        };
        assert!(found < acknowledged && acknowledged == before, "{rollback:?}, of {before}");
        let of_member = |(of, notice): &(usize, Notice)| {
            *of == leader && matches!(notice, Notice::MemberRolledBack { node, .. } if *node == key(voter))
        };
        assert!(rollbacks(&world, voter) == 1 && world.notices.iter().any(of_member), "both report it");
        world.kill(leader, false);
        world.blocked.clear();
        assert_eq!(read(&mut world, voter), 20);
        world.start(leader);
        world.run_for(3_000);
        world.assert_equal();
    }
}

/// All lose power, and nobody knows what is committed; the former leader is the last one to start.
#[test]
fn a_restored_member_waits_for_the_others_after_a_power_failure() {
    for seed in 0..20 {
        let (mut world, leader, voter, behind) = begin(seed);
        let copy = world.copy(voter);
        world.cut_off(&[behind]);
        write(&mut world, leader, 1);
        world.run_for(1_000);
        write(&mut world, leader, 2);
        world.run_for(10);
        for node in [leader, voter, behind] {
            world.lose(node, true, true);
            world.put_down(node);
        }
        world.blocked.clear();
        world.start(behind);
        world.put_back(voter, &copy);
        world.run_for(1_000);
        assert!(world.leader().is_none(), "the two elect a leader without what was acknowledged");
        world.start(leader);
        assert_eq!(read(&mut world, behind), 2);
        assert_eq!(rollbacks(&world, voter), 1, "the former leader has kept what it had counted");
        world.run_for(3_000);
        world.assert_equal();
    }
}

/// What a restored member knows to be committed binds it for good: the other one does not become the leader.
#[test]
fn a_restored_member_elects_nobody_who_lacks_what_was_acknowledged() {
    for seed in 0..20 {
        let (mut world, leader, voter, behind) = begin(seed);
        let copy = world.copy(voter);
        world.cut_off(&[behind]);
        write(&mut world, leader, 1);
        cut_from_leader(&mut world, leader, behind);
        world.put_back(voter, &copy);
        let replied = |world: &mut World| rollbacks(world, voter) == 1;
        world.run_till_by(1, "the leader replies", replied);
        // Before it has sent the entries.
        world.put_down(leader);
        assert!(group(&world, voter).rollback().is_some_and(|it| it.is_behind));
        world.blocked.clear();
        for _ in 0..60 {
            world.run_for(1_000);
            assert!(world.leader().is_none(), "the two elect a leader without what was acknowledged");
        }
        world.start(leader);
        assert_eq!(read(&mut world, behind), 1);
        assert!(group(&world, voter).rollback().is_some_and(|it| !it.is_behind));
        world.run_for(3_000);
        world.assert_equal();
    }
}

/// The end of a restored log says nothing about what is committed.
#[test]
fn a_read_does_not_count_the_log_of_a_restored_member() {
    for seed in 0..20 {
        let (mut world, leader, voter, behind) = begin(seed);
        let copy = world.copy(voter);
        world.cut_off(&[behind]);
        write(&mut world, leader, 1);
        world.put_back(voter, &copy);
        world.blocked.clear();
        world.blocked.extend([(leader, behind), (behind, leader), (leader, voter), (voter, leader)]);
        world.feed(behind, request(2, Request::Read(Read::Range(clients::get(1))), 1_500));
        world.run_for(1_600);
        let answer = world.clients.answers.get(&2);
        assert!(!matches!(answer, Some(Ok(_))), "it lacks what was acknowledged: {answer:?}");
        world.blocked.clear();
        assert_eq!(read(&mut world, behind), 1);
    }
}

/// A vote that the copy does not know is not cast twice.
#[test]
fn a_forgotten_vote_is_not_cast_twice() {
    let (mut world, leader, voter, other) = begin(1);
    let copy = world.copy(voter);
    world.kill(leader, false);
    world.run_till_by(1, "another leader", |world| world.leader().is_some());
    if world.leader() == Some(voter) {
        let other = key(other);
        world.feed(voter, Input::Transfer { token: 1, to: other });
        world.run_till_by(1, "the other one leads", |world| world.leader() != Some(voter));
    }
    world.run_for(1_000);
    world.start(leader);
    world.run_for(1_000);
    let term = group(&world, other).term();
    world.put_back(voter, &copy);
    world.run_till_by(1, "it knows the term", |world| group(world, voter).term() >= term);
    world.cut_off(&[voter]);
    world.run_for(20);
    assert_eq!(group(&world, voter).leader(), None, "it knows of no leader");
    let member = |node: usize| world.nodes[node].member.expect("a member");
    let vote = RaftMessage {
        log_term: term,
        index: 1_000_000,
        ..RaftMessage::new(Kind::Vote, member(leader), member(voter), term)
    };
    let now = world.clock(voter);
    let group = world.nodes[voter].group.as_mut().expect("it is up");
    group.handle(now, Input::Message { from: key(leader), message: GroupMessage::Raft(vote) });
    let mut replies = 0;
    while let Some(output) = group.poll_output() {
        match output {
            Output::Sync(number) => group.handle(now, Input::Synced(number)),
            Output::Send { message: GroupMessage::Raft(reply), .. } if reply.kind == Kind::VoteReply => {
                assert!(reply.reject, "it may have voted in term {term}");
                replies += 1;
            }
            _ => {}
        }
    }
    assert_eq!(replies, 1);
}

/// The copy has entries that were never committed, and that were replaced since.
#[test]
fn a_restored_log_with_other_entries_is_replaced() {
    for seed in 0..10 {
        let (mut world, leader, voter, other) = begin(seed);
        world.cut_off(&[leader]);
        for token in 1..=50 {
            world.feed(leader, request(token, Request::Write(Write::Put(clients::put(1, token))), 500));
            world.run_for(4);
        }
        let copy = world.copy(leader);
        world.run_till_by(1, "another leader", |world| {
            [voter, other].into_iter().any(|node| group(world, node).is_leader())
        });
        let next = if group(&world, voter).is_leader() { voter } else { other };
        for token in 101..=110 {
            write(&mut world, next, token);
        }
        world.blocked.clear();
        world.run_for(2_000);
        let committed = last_index(&world, next);
        assert_eq!(last_index(&world, leader), committed);
        world.put_back(leader, &copy);
        assert!(last_index(&world, leader) > committed, "the copy is longer than what is committed");
        world.run_for(2_000);
        assert_eq!(rollbacks(&world, leader), 1);
        assert_eq!(read(&mut world, leader), 110);
        world.assert_equal();
    }
}

/// A member that does not know when it starts that it may ask learns from the leader's heartbeats that it has lost entries.
#[test]
fn a_member_that_did_not_ask_notices_what_the_leader_counts_on() {
    for seed in [0, 4, 8] {
        // The copy is from before the group has adopted the version in which members ask.
        let mut world = World::new(seed, 3, 3);
        world.run_for(100);
        let copy = world.copy(2);
        let leader = world.wait_for_leader();
        if leader == 2 {
            world.feed(leader, Input::Transfer { token: 1, to: key(0) });
            world.run_till("another leader", |world| world.leader() != Some(2));
        }
        world.run_for(2_000);
        let leader = world.wait_for_leader();
        write(&mut world, leader, 1);
        world.version = 0;
        world.put_back(2, &copy);
        world.run_for(200);
        let group = world.nodes[2].group.as_mut().expect("it is up");
        group.set_version(VERSION_NEWEST);
        world.run_for(2_000);
        assert_eq!(rollbacks(&world, 2), 1);
        world.assert_equal();
    }
}

/// A member that another process acts for takes part in nothing, and stays readable as it is.
#[test]
fn a_member_that_gives_way_takes_part_in_nothing() {
    let (mut world, leader, voter, other) = begin(1);
    write(&mut world, leader, 1);
    world.run_for(100);
    world.nodes[leader].group.as_mut().expect("it is up").withdraw();
    world.feed(leader, Input::Timeout);
    world.run_till("another leader", |world| {
        [voter, other].into_iter().any(|node| group(world, node).is_leader())
    });
    let (next, third) = if group(&world, voter).is_leader() { (voter, other) } else { (other, voter) };
    write(&mut world, next, 2);
    let before = last_index(&world, leader);
    world.kill(third, false);
    world.feed(next, request(3, Request::Write(Write::Put(clients::put(1, 3))), 5_000));
    world.run_for(6_000);
    assert!(!matches!(world.clients.answers.get(&3), Some(Ok(_))), "two of three do not take part");
    assert_eq!(last_index(&world, leader), before);
    let range = Read::Range(clients::get(1));
    let found = world.nodes[leader].group.as_mut().map(|group| group.machine().read(&range));
    let answer = found.expect("it is up").expect("it reads").expect("it is allowed");
    assert_eq!(clients::found(&answer), 1, "it reads what it has");
    // With the next start it takes part again.
    world.kill(leader, false);
    world.start(leader);
    world.run_till("a leader", |world| world.leader().is_some());
    world.start(third);
    world.run_for(3_000);
    assert!(read(&mut world, leader) >= 2);
    world.assert_equal();
}

#[test]
fn a_group_of_one_that_gives_way_acknowledges_nothing() {
    let mut world = World::new(2, 1, 1);
    world.wait_for_leader();
    write(&mut world, 0, 1);
    world.nodes[0].group.as_mut().expect("it is up").withdraw();
    world.feed(0, request(2, Request::Write(Write::Put(clients::put(1, 2))), 5_000));
    world.feed(0, request(3, Request::Read(Read::Range(clients::get(1))), 5_000));
    world.run_for(6_000);
    let answered = |token| matches!(world.clients.answers.get(&token), Some(Ok(_)));
    assert!(!answered(2) && !answered(3), "{:?}", world.clients.answers);
}

/// A voter that is gone for good holds up the start of the others for a bounded time.
#[test]
fn a_silent_voter_holds_up_the_others_for_a_bounded_time() {
    for seed in 0..10 {
        let (mut world, leader, voter, other) = begin(seed);
        for node in [leader, voter, other] {
            world.kill(node, true);
        }
        world.start(leader);
        world.start(voter);
        let began = world.now_ms;
        world.run_till_by(10, "a leader of the two", |world| world.leader().is_some());
        assert!(world.now_ms - began <= 4_000, "{} ms", world.now_ms - began);
    }
}

/// Random faults, and now and then a member that comes back with a copy of its disk of some time ago, while all others
/// are up or are starting.
pub fn restore_copies(seed: u64, machines: usize) -> World {
    let mut world = World::new(seed, machines, machines);
    clients::begin(&mut world, 5, 3);
    world.run_for(3_000);
    for _ in 0..12 {
        let node = world.below(machines as u64) as usize;
        let copy = world.copy(node);
        for _ in 0..world.below(4) {
            disturb(&mut world);
        }
        world.blocked.clear();
        world.weather = Weather::FINE;
        for down in 0..machines {
            if world.nodes[down].is_down {
                world.start(down);
            }
        }
        // Those that were down ask as well, and nobody else is rolled back until they know.
        world.run_till("a leader", |world| world.leader().is_some());
        if world.below(2) == 0 {
            let late = world.below(machines as u64) as usize;
            world.cut_off(&[late]);
            let pause = world.below(1_000);
            world.run_for(pause);
        }
        let is_power_cut = world.below(2) == 0;
        for other in 0..machines {
            if other != node && is_power_cut {
                world.kill(other, true);
            }
        }
        world.put_down(node);
        world.blocked.clear();
        let pause = 50 + world.below(200);
        world.run_for(pause);
        world.put_back(node, &copy);
        let mut others: Vec<usize> = (0..machines).filter(|other| world.nodes[*other].is_down).collect();
        while !others.is_empty() {
            let pause = world.below(300);
            world.run_for(pause);
            let next = world.below(others.len() as u64) as usize;
            world.start(others.swap_remove(next));
        }
        let pause = 200 + world.below(1_500);
        world.run_for(pause);
    }
    world.assert_recovered();
    world
}

/// A crash, a power failure, a partition or a slow network for a while.
fn disturb(world: &mut World) {
    let machines = world.nodes.len() as u64;
    let node = world.below(machines) as usize;
    match world.below(5) {
        0 | 1 if world.is_up(node) => {
            let power_cut = world.below(2) == 0;
            world.kill(node, power_cut);
        }
        2 => world.cut_off(&[node]),
        3 => world.weather = Weather::FOUL,
        _ if world.nodes[node].is_down => world.start(node),
        _ => {}
    }
    let pause = world.below(2_500);
    world.run_for(pause);
}

#[test]
fn acknowledged_writes_survive_restored_copies() {
    let mut count = 0;
    for seed in 0..24 {
        println!("seed {seed}");
        let machines = if seed % 3 == 0 { 5 } else { 3 };
        let world = restore_copies(seed, machines);
        count += (0..machines).map(|node| rollbacks(&world, node)).sum::<usize>();
    }
    println!("{count} members came back with less than they had acknowledged");
    assert!(count > 50, "only {count}");
}
