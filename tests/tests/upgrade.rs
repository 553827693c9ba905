//! A rolling upgrade on real processes, and the way back: nodes of two releases in one network, whose clients
//! write throughout. The old release is the pinned one, built from its commit, or this one held back to the versions
//! of protocol and data that the release before it has.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use starling_api::strong::CreateKeyspace;
use starling_tests::{Node, Release, equal, joined, run, wait_until};

const KEYSPACE: &str = "orders";
/// Writes of each kind that have to be acknowledged while a node is down, and after it is back.
const PROGRESS: usize = 3;
/// The version of data that has max registers.
const MAX_REGISTERS: u16 = 2;

/// One network at a time: each keeps both cores busy, and so does the compiler before the first.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What clients have written and been told so.
#[derive(Default)]
struct Shared {
    /// Where the nodes that run serve their API.
    apis: Mutex<Vec<String>>,
    eventual: Mutex<BTreeSet<String>>,
    strong: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client of each kind. A write that fails is sent again, to the next node.
struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(nodes: &[Node]) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = Self { shared, threads: Vec::new() };
        clients.meet(nodes);
        for is_strong in [false, true] {
            let shared = clients.shared.clone();
            clients.threads.push(std::thread::spawn(move || write(&shared, is_strong)));
        }
        clients
    }

    /// Turns to the nodes that run now.
    fn meet(&self, nodes: &[Node]) {
        *lock(&self.shared.apis) =
            nodes.iter().filter(|node| node.runs()).map(|node| node.api().to_owned()).collect();
    }

    fn counts(&self) -> [usize; 2] {
        [&self.shared.eventual, &self.shared.strong].map(|written| lock(written).len())
    }

    /// Waits until writes of both kinds were acknowledged that were sent after this moment.
    async fn progress(&self, when: &str) {
        let before = self.counts();
        wait_until(&format!("clients write {when}"), async || {
            let now = self.counts();
            let is_enough = now.iter().zip(before).all(|(now, before)| *now > before + PROGRESS);
            if is_enough { Ok(()) } else { Err(format!("eventual and strong: {before:?}, then {now:?}")) }
        })
        .await;
    }

    /// The keys that were acknowledged, eventual and strong.
    fn stop(self) -> [BTreeSet<String>; 2] {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        [&self.shared.eventual, &self.shared.strong].map(|written| lock(written).clone())
    }
}

fn write(shared: &Shared, is_strong: bool) {
    let mut turn = usize::from(is_strong);
    for number in 0_u64.. {
        let key = format!("k{number}");
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            turn += 1;
            let apis = lock(&shared.apis).clone();
            let mut args = vec!["--api", apis[turn % apis.len()].as_str(), "put", key.as_str(), "written"];
            if is_strong {
                args.extend(["-k", KEYSPACE]);
            }
            if run(args, b"").code == 0 {
                break;
            }
        }
        lock(if is_strong { &shared.strong } else { &shared.eventual }).insert(key);
    }
}

/// Restarts one node after the other in another release, while clients write.
async fn roll(nodes: &mut [Node], release: &Release, clients: &Clients) {
    for at in 0..nodes.len() {
        nodes[at].stop().await;
        clients.meet(nodes);
        clients.progress(&format!("while {} is down", nodes[at].name())).await;
        nodes[at].set_release(release);
        nodes[at].start().await;
        joined(&[&nodes[at]]).await;
        clients.meet(nodes);
        clients.progress(&format!("with {} in the other release", nodes[at].name())).await;
    }
}

async fn network(release: &Release) -> Vec<Node> {
    let up = |name: &str| {
        let mut node = Node::up(name);
        node.set_release(release);
        node
    };
    let mut nodes = vec![up("a").started().await];
    let ticket = nodes[0].ticket().await.to_string();
    for name in ["b", "c", "d", "e"] {
        nodes.push(up(name).join(&ticket).started().await);
    }
    joined(&nodes.iter().collect::<Vec<_>>()).await;
    // All of them are restarted within seconds: peers that moved each time could not be found again.
    nodes.iter_mut().for_each(Node::keep_address);
    let on = ["a", "b", "c"].map(str::to_owned).to_vec();
    let create = CreateKeyspace { name: KEYSPACE.into(), voters: 3, on, manual: false };
    wait_until("the keyspace is made", async || {
        nodes[0].client().create_keyspace(&create).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    nodes
}

/// Checks what an operator gets from an upgraded node while three of five run the old release. Where that one cannot
/// read the newest version of data, nothing can be switched on yet.
async fn halfway(nodes: &[Node], old: &Release) {
    let found = wait_until("a crawl finds all nodes", async || {
        let found = nodes[0].client().upgrade().await.map_err(|error| error.to_string())?;
        if found.nodes.len() == nodes.len() { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await;
    // A node that speaks protocol version 2 does not report what it reads: all but the newest version.
    let of_old = found.nodes.iter().find(|it| it.name == "c").and_then(|it| it.abilities);
    assert_eq!(found.in_force, of_old.map_or(found.newest - 1, |it| it.data_newest), "{found:?}");
    assert!(*old != Release::HeldBack || found.in_force < found.newest, "{found:?}");
    let finalized = nodes[0].run(["upgrade", "finalize"]);
    let status = nodes[0].run(["upgrade", "status"]).ok();
    assert!(status.contains(&format!("data version {} is in force", found.in_force)), "{status}");
    if found.in_force == found.newest {
        finalized.ok();
    } else {
        finalized.exits(4);
        for name in ["c", "d", "e"] {
            finalized.says(&format!("{name} ("));
        }
        assert!(status.contains("not yet: c ("), "{status}");
    }
    // What the version in force does not have is refused, and the answer says how to switch it on.
    let max = nodes[0].run(["max", "high", "6"]);
    if found.in_force < MAX_REGISTERS {
        max.exits(4).says("upgrade finalize");
    } else {
        max.ok();
    }
}

/// Upgrades a network of this release, rolls it back, and upgrades it again.
async fn upgrade_roll_back_and_upgrade(old: Release) {
    let mut nodes = network(&old).await;
    let clients = Clients::start(&nodes);
    clients.progress("before the upgrade").await;
    roll(&mut nodes[..2], &Release::Current, &clients).await;
    halfway(&nodes, &old).await;
    roll(&mut nodes[2..], &Release::Current, &clients).await;
    roll(&mut nodes, &old, &clients).await;
    roll(&mut nodes, &Release::Current, &clients).await;

    nodes[4].run(["upgrade", "finalize"]).ok();
    for node in &nodes {
        wait_until(&format!("{} has heard of it", node.name()), async || {
            let found = node.client().upgrade().await.map_err(|error| error.to_string())?;
            let heard = found
                .nodes
                .iter()
                .filter(|it| it.abilities.is_some_and(|it| it.data_in_force == found.newest));
            if heard.count() == nodes.len() { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
    nodes[1].run(["max", "high", "7"]).ok();
    nothing_is_lost(&nodes, &clients.stop()).await;
}

/// Every node has what clients wrote, and none has sent another one what it could not read.
async fn nothing_is_lost(nodes: &[Node], written: &[BTreeSet<String>; 2]) {
    equal(&nodes.iter().collect::<Vec<_>>()).await;
    for node in nodes {
        for (keyspace, keys) in ["default", KEYSPACE].iter().zip(written) {
            let listed = node.run(["--output", "raw", "ls", "-k", keyspace]).ok();
            let listed: BTreeSet<&str> = listed.lines().collect();
            let missing: Vec<&String> = keys.iter().filter(|key| !listed.contains(key.as_str())).collect();
            assert!(missing.is_empty(), "{} lacks {missing:?} in {keyspace}", node.name());
        }
        assert_eq!(node.counter("malformed_frames").await, 0, "{}", node.name());
        assert_eq!(node.counter("banned_peers").await, 0, "{}", node.name());
    }
}

/// Whatever this release changed: the binaries are two.
#[tokio::test]
async fn a_network_of_the_pinned_release_is_upgraded_and_rolled_back_while_clients_write() {
    let _alone = ALONE.lock().await;
    if let Some(pinned) = Release::pinned() {
        upgrade_roll_back_and_upgrade(pinned).await;
    }
}

/// Versions of protocol and data that differ, also where the pinned release has the same ones as this one.
#[tokio::test]
async fn a_network_of_the_previous_versions_is_upgraded_and_rolled_back_while_clients_write() {
    let _alone = ALONE.lock().await;
    upgrade_roll_back_and_upgrade(Release::HeldBack).await;
}
