//! Links between real drivers over loopback: they come up, carry messages in order, end, and are
//! one link regardless of which side dials.

use crate::support::{Node, QUIC, TCP, config, connected, network, pair, ping, until};
use bytes::Bytes;
use starling_p2p::{Driver, DriverError, Event, Identity, Limits};
use starling_proto::{
    ActorId, Class, Message, NodeId,
    message::{Payload, RumorId, RumorMessage, SyncMessage},
};

fn rumor(n: u64, bytes: usize) -> Message {
    let id = RumorId { actor: ActorId([7; 16]), first: n, last: n };
    Message::Rumor(RumorMessage::Full { id, hops: 0, payload: Payload(Bytes::from(vec![n as u8; bytes])) })
}

fn push(session: u32, bytes: usize) -> Message {
    let delta = Payload(Bytes::from(vec![session as u8; bytes]));
    Message::Sync(SyncMessage::Push { session, delta })
}

fn strong(n: u64) -> Message {
    Message::Strong(Payload(Bytes::from(vec![n as u8; 10_000 * n as usize])))
}

async fn messages_of_every_class_arrive(listen: &[&str]) {
    let mut nodes = pair(listen).await;
    let (a, b) = (nodes[0].id(), nodes[1].id());
    let of_all = |n: u64| [ping(n), rumor(n, 100 * n as usize), push(n as u32, 200_000), strong(n)];
    let sent: Vec<_> = (1..20).flat_map(of_all).collect();
    for message in &sent {
        nodes[0].driver.send(&[b], message);
        nodes[1].driver.send(&[a], message);
    }
    until(&mut nodes, "all messages", |n| n.iter().all(|n| n.messages().count() == sent.len())).await;
    for node in &nodes {
        for class in Class::ALL {
            let of_class: Vec<_> = node.messages().filter(|m| m.class() == class).collect();
            assert_eq!(of_class, sent.iter().filter(|m| m.class() == class).collect::<Vec<_>>());
        }
    }
    let (sent, received) = (
        nodes[0].driver.traffic(b).expect("is connected"),
        nodes[1].driver.traffic(a).expect("is connected"),
    );
    for class in Class::ALL {
        assert_eq!(sent.sent(class).frames.get(), 19);
        assert_eq!(sent.sent(class).bytes.get(), received.received(class).bytes.get());
    }
}

#[tokio::test]
async fn messages_of_every_class_arrive_over_tcp() {
    messages_of_every_class_arrive(&[TCP]).await;
}

#[tokio::test]
async fn messages_of_every_class_arrive_over_quic() {
    messages_of_every_class_arrive(&[QUIC]).await;
}

#[tokio::test]
async fn a_record_with_both_transports_is_dialed_over_tcp_even_if_one_tcp_address_is_dead() {
    let mut nodes =
        vec![Node::start(&[TCP], network(&[1])).await, Node::start(&[QUIC, TCP], network(&[1])).await];
    let mut record = nodes[1].record.clone();
    record.addresses.insert(0, "/ip4/127.0.0.1/tcp/1".into());
    nodes[0].driver.dial(&record);
    connected(&mut nodes).await;
    // What rests on TCP is noticed at once when the peer dies; over QUIC it takes ten seconds.
    let dead = nodes.pop().expect("the second");
    let peer = dead.id();
    drop(dead);
    until(&mut nodes, "death noticed", |n| !n[0].is_connected(peer)).await;
}

#[tokio::test]
async fn three_nodes_see_each_other_and_the_death_of_one() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(&[TCP], network(&[1])).await);
    }
    let records: Vec<_> = nodes.iter().map(|node| node.record.clone()).collect();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        nodes[from].driver.dial(&records[to]);
    }
    until(&mut nodes, "a triangle", |n| {
        (0..3).all(|i| (0..3).all(|j| i == j || n[i].is_connected(n[j].id())))
    })
    .await;
    drop(nodes.pop());
    until(&mut nodes, "death noticed", |n| n.iter().all(|n| !n.is_connected(records[2].id))).await;
    assert!(nodes[0].is_connected(records[1].id), "the others are still linked");
}

#[tokio::test]
async fn an_address_is_dialed_with_and_without_a_name_and_says_which() {
    for with_name in [false, true] {
        let mut nodes =
            vec![Node::start(&[TCP], network(&[1])).await, Node::start(&[TCP], network(&[1])).await];
        let mut address = nodes[1].record.addresses[0].clone();
        if with_name {
            address = format!("{address}/p2p/{}", starling_p2p::peer_id(&nodes[1].id()));
        }
        nodes[0].driver.dial_address(&address);
        connected(&mut nodes).await;
        let dialed = nodes[0].seen.iter().find_map(|event| match event {
            Event::Connected { dialed, record, .. } => Some((dialed.clone(), record.clone())),
            _ => None,
        });
        assert_eq!(dialed, Some((Some(address.clone()), nodes[1].record.clone())));

        nodes[0].driver.dial_address(&address);
        until(&mut nodes, "an answer", |n| n[0].unreachable().is_some()).await;
        assert!(nodes[0].unreachable().expect("an answer").contains("connected already"));
    }
}

#[tokio::test]
async fn dials_that_lead_nowhere_are_answered() {
    let mut nodes = vec![Node::start(&[TCP], network(&[1])).await, Node::start(&[TCP], network(&[1])).await];
    let mut record = nodes[1].record.clone();
    let mine = nodes[0].record.addresses[0].clone();
    let cases = ["not an address", "/ip4/127.0.0.1/tcp/1", mine.as_str()];
    for address in cases {
        nodes[0].driver.dial_address(address);
    }
    record.addresses = vec!["/ip4/127.0.0.1/tcp/1".into()];
    nodes[0].driver.dial(&record);
    record.id = NodeId([0xee; 32]);
    nodes[0].driver.dial(&record);
    until(&mut nodes, "five answers", |n| {
        n[0].seen.iter().filter(|event| matches!(event, Event::Unreachable { .. })).count() == 5
    })
    .await;
    for address in cases {
        let answered =
            |event: &Event| matches!(event, Event::Unreachable { address: Some(a), .. } if a == address);
        assert!(nodes[0].seen.iter().any(answered), "{address}");
    }
    assert_eq!(nodes[0].driver.metrics().unreachable.get(), 5);
}

#[tokio::test]
async fn simultaneous_dials_become_one_link_and_lose_nothing() {
    for round in 0..8 {
        let mut nodes =
            vec![Node::start(&[TCP], network(&[1])).await, Node::start(&[TCP], network(&[1])).await];
        let records: Vec<_> = nodes.iter().map(|node| node.record.clone()).collect();
        nodes[0].driver.dial(&records[1]);
        nodes[1].driver.dial(&records[0]);
        connected(&mut nodes).await;
        // Messages flow while the second connection comes up and one of the two is closed.
        for n in 1..=50 {
            nodes[0].driver.send(&[records[1].id], &ping(n));
            nodes[1].driver.send(&[records[0].id], &rumor(n, 1000));
            until(&mut nodes, "one more message each", |nodes| {
                nodes.iter().all(|node| node.messages().count() as u64 >= n)
            })
            .await;
        }
        for node in &nodes {
            assert_eq!(node.ups_and_downs(), (1, 0), "round {round}");
        }
    }
}

#[tokio::test]
async fn closing_flushes_and_tells_both_sides() {
    let mut nodes = pair(&[TCP]).await;
    let (a, b) = (nodes[0].id(), nodes[1].id());
    for n in 1..=20 {
        nodes[0].driver.send(&[b], &push(n, 200_000));
    }
    nodes[0].driver.close(b, "enough");
    nodes[0].driver.send(&[b], &ping(1));
    until(&mut nodes, "both told", |n| !n[0].is_connected(b) && !n[1].is_connected(a)).await;
    assert_eq!(nodes[1].messages().count(), 20, "what was queued before closing arrives, and nothing else");
    let reason = Event::Disconnected { peer: b, reason: "enough".into() };
    assert!(nodes[0].seen.contains(&reason));
    // And a new link may follow.
    let record = nodes[0].record.clone();
    nodes[1].driver.dial(&record);
    connected(&mut nodes).await;
}

#[tokio::test]
async fn a_restarted_peer_is_told_as_a_new_link() {
    let identity = Identity::generate();
    let mut nodes = vec![
        Node::start(&[TCP], network(&[1])).await,
        Node::start_with(config(identity.clone(), &[TCP], network(&[1]))).await,
    ];
    let record = nodes[0].record.clone();
    nodes[1].driver.dial(&record);
    connected(&mut nodes).await;
    let mut again = config(identity, &[TCP], network(&[1]));
    again.record.incarnation = 2;
    // The old process still holds its connection, as one that hangs would.
    let mut restarted = Node::start_with(again).await;
    restarted.driver.dial(&record);
    nodes.push(restarted);
    until(&mut nodes, "the new run", |n| n[0].ups_and_downs() == (2, 1)).await;
    let last = nodes[0].seen.iter().rev().find_map(|event| match event {
        Event::Connected { record, .. } => Some(record.incarnation),
        _ => None,
    });
    assert_eq!(last, Some(2));
}

#[tokio::test]
async fn a_full_queue_sheds_is_told_once_and_the_link_goes_on() {
    let mut slow = config(Identity::generate(), &[TCP], network(&[1]));
    slow.limits = Limits { sync_queue_bytes_max: 1 << 20, ..Limits::default() };
    let mut nodes = vec![Node::start_with(slow).await, Node::start(&[TCP], network(&[1])).await];
    let record = nodes[1].record.clone();
    nodes[0].driver.dial(&record);
    connected(&mut nodes).await;
    for n in 1..=40 {
        nodes[0].driver.send(&[record.id], &push(n, 100_000));
    }
    nodes[0].driver.send(&[record.id], &ping(1));
    let shed = nodes[0].driver.metrics().shed(Class::Sync).get();
    assert_eq!(shed, 30, "ten deltas of 100 kB fit 1 MiB");
    until(&mut nodes, "what was not shed", |n| n[1].messages().count() == 11).await;
    until(&mut nodes, "told", |n| n[0].seen.iter().any(|e| matches!(e, Event::Shed { .. }))).await;
    let told: Vec<_> = nodes[0].seen.iter().filter(|e| matches!(e, Event::Shed { .. })).collect();
    assert_eq!(told, [&Event::Shed { peer: record.id, class: Class::Sync }]);
    nodes[0].driver.send(&[record.id], &push(41, 100_000));
    until(&mut nodes, "one more", |n| n[1].messages().count() == 12).await;
}

/// The receiver reads nothing for a while, as over a narrow link; then it has a part of the large frame at a time.
#[tokio::test]
async fn a_large_frame_reports_progress_and_small_ones_overtake_it() {
    for transport in [TCP, QUIC] {
        let mut nodes = pair(&[transport]).await;
        let [sender, receiver] = [nodes[0].id(), nodes[1].id()];
        nodes[0].driver.send(&[receiver], &push(1, 4_000_000));
        nodes[0].driver.send(&[receiver], &ping(1));
        until(&mut nodes, "both messages", |n| n[1].messages().count() == 2).await;
        let is_progress = |event: &Event| *event == Event::Progress { peer: sender };
        let first = nodes[1].seen.iter().position(is_progress).expect("progress");
        let whole = nodes[1].seen.iter().rposition(|event| matches!(event, Event::Message { .. }));
        assert!(Some(first) < whole, "progress comes before the whole frame, over {transport}");
        assert_eq!(nodes[1].messages().next(), Some(&ping(1)), "over {transport}");
    }
}

#[tokio::test]
async fn listening_on_every_interface_gives_concrete_addresses() {
    let node = Node::start(&["/ip4/0.0.0.0/tcp/0"], network(&[1])).await;
    let addresses = node.driver.listen_addresses();
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(|a| !a.contains("0.0.0.0") && !a.ends_with("/tcp/0")), "{addresses:?}");
}

#[tokio::test]
async fn start_errors_name_the_address_and_what_to_do() {
    for transport in [TCP, QUIC] {
        let node = Node::start(&[transport], network(&[1])).await;
        let taken = node.driver.listen_addresses().remove(0);
        let started = Driver::start(config(Identity::generate(), &[&taken], network(&[1]))).await;
        let Err(error @ DriverError::Taken { .. }) = started else { panic!("{taken} was not taken") };
        assert!(error.to_string().contains(&taken));
    }
    for wrong in ["localhost:7400", "/ip4/127.0.0.1/sctp/7400"] {
        let started = Driver::start(config(Identity::generate(), &[wrong], network(&[1]))).await;
        assert!(matches!(started, Err(DriverError::Address { .. })), "{wrong}");
    }
}
