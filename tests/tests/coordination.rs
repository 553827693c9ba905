//! Locks, elections, queues, leases and ephemeral keys, by their commands, on real processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use starling_tests::{
    KEYSPACE, Node, Running, command, etcdctl, flock, heard_of, leader, led, run, wait_until,
};

/// Arguments with the keyspace in front.
fn of<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["-k", KEYSPACE], args].concat()
}

/// Waits until a command has written a file, and returns what is in it.
async fn written(path: &Path) -> String {
    wait_until(&format!("{} is written", path.display()), async || {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        text.strip_suffix('\n').map(ToOwned::to_owned).ok_or_else(|| format!("only {text:?}"))
    })
    .await
}

/// The lines of `lock ls`, the holder first.
fn line(node: &Node, lock: &str) -> Vec<Value> {
    let listed = node.run(of(&["--output", "json", "lock", "ls", lock])).ok();
    listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn token(standing: &Value) -> u64 {
    standing["token"].as_u64().expect("a token")
}

/// Waits until so many stand in the line of a lock.
async fn in_line(node: &Node, lock: &str, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} stand in line"), async || {
        let line = line(node, lock);
        if line.len() == count { Ok(line) } else { Err(format!("{line:?}")) }
    })
    .await
}

/// Whether a process runs. One that has ended and that nobody waits for does not.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn lockers_exclude_each_other_and_their_tokens_grow() {
    let nodes = flock().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("log");
    // Whoever finds the directory there is not alone.
    let script = "mkdir \"$1/held\" || exit 99; echo $STARLING_LOCK_TOKEN >>\"$1/log\"; \
                  sleep 0.05; rmdir \"$1/held\"; exit 42";
    let dir_name = dir.path().to_str().expect("text");
    let args = of(&["lock", "job", "--", "sh", "-c", script, "sh", dir_name]);
    let mut lockers: Vec<Running> = (0..12).map(|at| nodes[at % nodes.len()].begin(args.iter())).collect();
    for locker in &mut lockers {
        let ended = locker.ended().await;
        assert_eq!(ended.code, 42, "{ended:?}");
    }
    let log = std::fs::read_to_string(log).expect("written");
    let tokens: Vec<u64> = log.lines().map(|line| line.parse().expect("a number")).collect();
    assert!(tokens.len() == 12 && tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    in_line(&nodes[3], "job", 0).await;
    // Whatever ran, its exit code is told.
    assert_eq!(nodes[0].run(of(&["lock", "job", "--", "true"])).code, 0);
    assert_eq!(nodes[0].run(of(&["lock", "job", "--", "sh", "-c", "kill -9 $$"])).code, 137);
    nodes[0].run(of(&["lock", "job", "--", "/nonexistent/command"])).exits(127);
    nodes[0].run(["lock", "job", "--", "true"]).exits(2).says("strong keyspace");
}

#[tokio::test]
async fn a_write_is_fenced_by_the_lock_that_it_is_made_under() {
    let nodes = flock().await;
    let starling = command().get_program().to_str().expect("text").to_owned();
    let script = "\"$1\" --api \"$2\" put -k \"$STARLING_LOCK_KEYSPACE\" stock 1 \
                  --fence \"$STARLING_LOCK_NAME:$STARLING_LOCK_TOKEN\"; echo $STARLING_LOCK_TOKEN";
    let args = of(&["lock", "a:b", "--", "sh", "-c", script, "sh", &starling, nodes[3].api()]);
    let said = nodes[1].run(args).ok();
    let (_, stale) = said.rsplit_once('\n').expect("a version and a token");
    assert_eq!(nodes[0].run(of(&["get", "stock"])).ok(), "1");
    let fence = format!("a:b:{stale}");
    nodes[0].run(of(&["put", "stock", "2", "--fence", &fence])).exits(4).says("not held");
    nodes[0].run(of(&["del", "stock", "--fence", &fence])).exits(4).says("not held");
    let txn = r#"{"then":[{"op":"put","key":"stock","value":"3"}]}"#;
    nodes[0].run(of(&["txn", txn, "--fence", &fence])).exits(4).says("not held");
    assert_eq!(nodes[0].run(of(&["get", "stock"])).ok(), "1");
    nodes[0].run(["put", "stock", "2", "--fence", &fence]).exits(2);
}

#[tokio::test]
async fn a_holder_that_is_paused_loses_the_lock_and_its_command_is_killed() {
    let nodes = flock().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    // The command does not end when it is told to, nor does what it has started: only with this test.
    let script = "trap '' TERM; exec 3<&0; cat <&3 & echo \"$! $STARLING_LOCK_TOKEN\" >\"$1/first\"; cat <&3";
    let dir_name = dir.path().to_str().expect("text");
    let args = ["lock", "job", "--ttl", "1s", "--grace", "500ms", "--", "sh", "-c", script, "sh", dir_name];
    let mut paused = nodes[0].begin(of(&args));
    let first = written(&path("first")).await;
    let (child, stale) = first.split_once(' ').expect("two words");
    paused.signal(Signal::STOP);
    let script = "echo $STARLING_LOCK_TOKEN >\"$1/second\"; cat";
    let mut second = nodes[1].begin(of(&["lock", "job", "--", "sh", "-c", script, "sh", dir_name]));
    let fresh = written(&path("second")).await;
    assert!(fresh.parse::<u64>().expect("a number") > stale.parse().expect("a number"));
    assert!(is_alive(child), "the command goes on while nobody can tell it");
    let fenced = |token: &str| nodes[3].run(of(&["put", "k", token, "--fence", &format!("job:{token}")]));
    fenced(stale).exits(4).says("not held");
    fenced(&fresh).ok();
    paused.signal(Signal::CONT);
    paused.ended().await.exits(7).says("lost");
    assert!(!is_alive(child), "it was killed with all its processes");
    assert!(second.runs());
    fenced(&fresh).ok();
}

#[tokio::test]
async fn the_command_dies_with_the_process_that_holds_the_lock() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    // It ends with this test at the latest.
    let script = "echo $$; exec cat";
    let mut holder = node.begin(["-k", "orders", "lock", "job", "--", "sh", "-c", script]);
    let command = holder.next_line();
    assert!(is_alive(&command));
    holder.signal(Signal::KILL);
    wait_until(
        "the command is dead",
        async || if is_alive(&command) { Err(command.clone()) } else { Ok(()) },
    )
    .await;
    for (args, code) in [(&["no-such-command"][..], 127), (&["/"], 126), (&["sh", "-c", "exit 9"], 9)] {
        let answer = node.run(["-k", "orders", "lock", "other", "--"].iter().chain(args));
        assert_eq!(answer.code, code, "{answer:?}");
    }
}

#[tokio::test]
async fn clients_that_wait_for_items_write_nothing_in_vain() {
    const TAKERS: u64 = 30;
    const ITEMS: u64 = 8;
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    let written = async || led(&node).await.log_index;
    let before = written().await;
    let mut takers: Vec<_> =
        (0..TAKERS).map(|_| node.begin(["-k", KEYSPACE, "queue", "pop", "jobs", "--wait", "60s"])).collect();
    for item in 1..=ITEMS {
        node.run(["-k", KEYSPACE, "queue", "push", "jobs", "x"]).ok();
        wait_until("it is popped", async || {
            let running = takers.iter_mut().filter_map(|taker| taker.runs().then_some(())).count() as u64;
            if running == TAKERS - item { Ok(()) } else { Err(format!("{running} wait")) }
        })
        .await;
    }
    // A push and a pop each, and pops of which another one came first while they were under way.
    let entries = written().await - before;
    assert!((2 * ITEMS..ITEMS * TAKERS / 2).contains(&entries), "{entries} entries for {ITEMS} items");
}

#[tokio::test]
async fn a_key_that_no_client_owns_does_not_block_a_lock_for_ever() {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", "orders", "--strong", "--voters", "1"]).ok();
    node.run(["-k", "orders", "put", "job/config", "v"]).ok();
    let answer = node.run(["-k", "orders", "lock", "job", "--", "true"]);
    answer.exits(4).says("job/config");
    // The subcommand is not taken for a name behind an option, and shows what is in the way.
    for args in [&["-k", "orders", "lock", "ls", "job"][..], &["lock", "-k", "orders", "ls", "job"]] {
        let shown = node.run(args).ok();
        assert!(shown.contains("blocked by job/config"), "{shown}");
    }
    assert_eq!(node.run(["lock", "-k", "orders", "--output", "raw", "ls"]).ok(), "", "it took no lock");
    node.run(["-k", "orders", "del", "job/config"]).ok();
    node.run(["-k", "orders", "lock", "job", "--", "true"]).ok();
}

#[tokio::test]
async fn a_lock_outlives_the_death_of_the_leader() {
    let mut nodes = flock().await;
    let mut holder = nodes[3].begin(of(&["--output", "raw", "lock", "job", "--ttl", "5s"]));
    let held = holder.next_line();
    let (key, held) = held.split_once('\t').expect("a key and a token");
    assert!(key.starts_with("job/"));
    let was = leader(&nodes, &led(&nodes[3]).await);
    nodes[was].kill();
    wait_until("writes go on", async || match nodes[3].run(of(&["put", "k", "v"])) {
        answer if answer.code == 0 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    nodes[3].run(of(&["lock", "job", "--timeout", "1s", "--", "true"])).exits(4).says("in time");
    let standing = in_line(&nodes[3], "job", 1).await;
    assert_eq!(token(&standing[0]).to_string(), held);
    assert!(holder.runs());
    holder.signal(Signal::INT);
    assert_eq!(holder.ended().await.code, 0);
    in_line(&nodes[3], "job", 0).await;
}

#[tokio::test]
async fn signals_reach_the_command_and_the_lock_is_given_back() {
    let nodes = flock().await;
    let script = "trap 'exit 33' USR1; echo ready; while kill -0 $PPID; do sleep 0.02; done";
    let mut holder = nodes[0].begin(of(&["lock", "job", "--", "sh", "-c", script]));
    assert_eq!(holder.next_line(), "ready");
    let mut waiter = nodes[1].begin(of(&["lock", "job", "--", "true"]));
    let standing = in_line(&nodes[3], "job", 2).await;
    assert_eq!(standing[1]["place"], 1);
    waiter.signal(Signal::INT);
    assert_eq!(waiter.ended().await.code, 130);
    in_line(&nodes[3], "job", 1).await;
    holder.signal(Signal::USR1);
    assert_eq!(holder.ended().await.code, 33);
    in_line(&nodes[3], "job", 0).await;
}

#[tokio::test]
async fn etcdctl_and_starling_stand_in_one_line() {
    let nodes = flock().await;
    let mut first = Running::start(etcdctl(&nodes[0], &["lock", "job"]));
    assert!(first.next_line().starts_with("job/"));
    let standing = in_line(&nodes[3], "job", 1).await;
    nodes[1].run(of(&["lock", "job", "--timeout", "500ms", "--", "true"])).exits(4);
    let mut second = nodes[1].begin(of(&["--output", "raw", "lock", "job"]));
    in_line(&nodes[3], "job", 2).await;
    let mut third = Running::start(etcdctl(&nodes[2], &["lock", "job"]));
    let all = in_line(&nodes[3], "job", 3).await;
    assert_eq!(all[0]["token"], standing[0]["token"]);
    first.signal(Signal::INT);
    let held = second.next_line();
    assert!(held.ends_with(&format!("\t{}", all[1]["token"])), "{held}");
    let standing = in_line(&nodes[3], "job", 2).await;
    assert_eq!(standing[0]["token"], all[1]["token"]);
    second.signal(Signal::INT);
    assert_eq!(second.ended().await.code, 0);
    assert_eq!(third.next_line(), all[2]["key"]);
}

#[tokio::test]
async fn observers_see_who_leads_and_a_leader_can_be_made_to_resign() {
    let nodes = flock().await;
    nodes[3].run(of(&["elect", "leader", "boss"])).exits(3).says("no leader");
    let mut observer = nodes[3].begin(of(&["--output", "json", "elect", "observe", "boss"]));
    let mut seen = || -> Value { serde_json::from_str(&observer.next_line()).expect("JSON") };
    assert!(seen()["leader"].is_null());
    let mut anna = nodes[0].begin(of(&["--output", "json", "elect", "campaign", "boss", "anna"]));
    let won: Value = serde_json::from_str(&anna.next_line()).expect("JSON");
    assert_eq!(seen()["leader"]["value"], "anna");
    let mut bert = nodes[1].begin(of(&["elect", "campaign", "boss", "bert", "--", "cat"]));
    wait_until("bert stands", async || {
        let listed = nodes[3].run(of(&["--output", "raw", "ls", "boss/"])).ok();
        if listed.lines().count() == 2 { Ok(()) } else { Err(listed) }
    })
    .await;
    assert_eq!(nodes[3].run(of(&["elect", "leader", "boss"])).ok(), "anna");
    anna.signal(Signal::TERM);
    assert_eq!(anna.ended().await.code, 0);
    let leads = seen();
    assert_eq!(leads["leader"]["value"], "bert");
    let key = leads["leader"]["key"].as_str().expect("a key");
    let gone = won["key"].as_str().expect("a key");
    nodes[2].run(of(&["elect", "resign", "boss", "--key", gone])).exits(3);
    nodes[2].run(of(&["elect", "resign", "boss", "--key", "other/1"])).exits(2);
    nodes[2].run(of(&["elect", "resign", "boss", "--key", key])).ok();
    bert.ended().await.exits(7).says("deleted");
    assert!(seen()["leader"].is_null());
    // etcdctl's candidates stand in the same election.
    let mut etcd = Running::start(etcdctl(&nodes[0], &["elect", "boss", "carl"]));
    assert!(etcd.next_line().starts_with("boss/"));
    assert_eq!(seen()["leader"]["value"], "carl");
    nodes[1].run(of(&["elect", "campaign", "boss", "dora", "--timeout", "300ms"])).exits(4).says("in time");
}

/// Takes items until there are none; each with a request id, asked for again while its outcome is unknown.
fn take_all(node: &Node) -> Vec<String> {
    let mut items = Vec::new();
    loop {
        let id = run(["request-id"], b"").ok();
        let pop = || node.run(of(&["queue", "pop", "jobs", "--request-id", &id]));
        let mut answer = pop();
        for _ in 0..50 {
            if [0, 3].contains(&answer.code) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            answer = pop();
        }
        if answer.code == 3 {
            break;
        }
        items.push(answer.ok());
    }
    items
}

#[tokio::test]
async fn takers_of_a_queue_lose_and_double_nothing() {
    let mut nodes = flock().await;
    let items: Vec<String> = (0..60).map(|at| format!("item {at}")).collect();
    for (at, item) in items.iter().enumerate() {
        let priority = (at % 3).to_string();
        nodes[at % 4].run(of(&["queue", "push", "jobs", item, "--priority", &priority])).ok();
    }
    assert_eq!(nodes[3].run(of(&["queue", "len", "jobs"])).ok(), "60");
    let listed = nodes[3].run(of(&["--output", "raw", "queue", "ls", "jobs"])).ok();
    let by_priority = (0..3).flat_map(|priority| items.iter().skip(priority).step_by(3));
    assert_eq!(listed.lines().collect::<Vec<_>>(), by_priority.collect::<Vec<_>>());
    // The leader dies while they take: what became of their pops at that moment, they find out.
    let was = leader(&nodes, &led(&nodes[3]).await);
    let dying = nodes.remove(was);
    let taken: Vec<Vec<String>> = std::thread::scope(|scope| {
        let takers: Vec<_> = nodes.iter().map(|node| scope.spawn(move || take_all(node))).collect();
        scope.spawn(move || {
            let mut dying = dying;
            let half_way = || -> bool {
                let left = dying.run(of(&["queue", "len", "jobs"]));
                left.code == 0 && left.ok().parse::<u32>().is_ok_and(|left| left < 40)
            };
            while !half_way() {}
            dying.kill();
        });
        takers.into_iter().map(|taker| taker.join().expect("it ends")).collect()
    });
    let all: Vec<&String> = taken.iter().flatten().collect();
    let distinct: BTreeSet<&String> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (60, 60), "{taken:?}");
}

#[tokio::test]
async fn a_taker_waits_for_an_item_and_no_longer_than_it_says() {
    let nodes = flock().await;
    nodes[0].run(of(&["queue", "pop", "jobs"])).exits(3).says("no item that can be taken");
    nodes[0].run(of(&["queue", "pop", "jobs", "--wait", "300ms"])).exits(3);
    let mut takers: Vec<Running> = (0..3)
        .map(|at| nodes[at].begin(of(&["--output", "json", "queue", "pop", "jobs", "--wait"])))
        .collect();
    for item in ["a", "b", "c"] {
        nodes[3].run(of(&["queue", "push", "jobs", item])).ok();
    }
    let mut taken = BTreeSet::new();
    for taker in &mut takers {
        let item: Value = serde_json::from_str(&taker.next_line()).expect("JSON");
        taken.insert(item["value"].as_str().expect("text").to_owned());
        assert_eq!(taker.ended().await.code, 0);
    }
    assert_eq!(taken, ["a", "b", "c"].map(String::from).into());
    let mut waits = nodes[0].begin(of(&["queue", "pop", "jobs", "--wait"]));
    waits.signal(Signal::TERM);
    assert!([143, -1].contains(&waits.ended().await.code), "before it listens, a signal ends it at once");
}

#[tokio::test]
async fn an_ephemeral_key_goes_with_its_session() {
    let nodes = flock().await;
    let gone = async |key: &str| {
        wait_until(&format!("{key} is gone"), async || match nodes[3].run(of(&["get", key])) {
            answer if answer.code == 3 => Ok(()),
            answer => Err(format!("{answer:?}")),
        })
        .await;
    };
    let mut session = nodes[0].begin(of(&["put", "here", "anna", "--ephemeral", "--ttl", "1s"]));
    session.next_line();
    assert_eq!(nodes[3].run(of(&["get", "here"])).ok(), "anna");
    session.signal(Signal::KILL);
    gone("here").await;
    // It outlives its ttl while the session lives.
    let script = "echo $STARLING_KEY; read line";
    let args =
        ["put", "--sequential", "here/", "bert", "--ephemeral", "--ttl", "1s", "--", "sh", "-c", script];
    let key = nodes[1].run_with(of(&args), b"go\n").ok();
    assert!(key.starts_with("here/0000"), "{key}");
    gone(&key).await;
    let mut session = nodes[1].begin(of(&["put", "here", "carl", "--ephemeral"]));
    session.next_line();
    session.signal(Signal::INT);
    assert_eq!(session.ended().await.code, 0);
    gone("here").await;
    let made: Vec<String> =
        (0..4).map(|at| nodes[at].run(of(&["put", "seq/", "v", "--sequential"])).ok()).collect();
    assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
}

#[tokio::test]
async fn leases_are_etcds_and_are_named_in_hexadecimal() {
    let nodes = flock().await;
    let lease = nodes[0].run(of(&["lease", "grant", "15s"])).ok();
    nodes[1].run(of(&["put", "k", "v", "--lease", &lease])).ok();
    let listed = etcdctl(&nodes[2], &["lease", "list"]).output().expect("etcdctl is installed");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&lease), "{listed} has no {lease}");
    assert_eq!(nodes[3].run(of(&["lease", "ls"])).ok(), lease);
    let info: Value = nodes[3].run(of(&["--output", "json", "lease", "info", &lease])).json();
    assert_eq!((&info["lease"], &info["granted_ms"]), (&Value::from(lease.as_str()), &Value::from(15_000)));
    assert_eq!(info["keys"], Value::from(vec!["k"]));
    assert!(nodes[0].run(of(&["lease", "keep-alive", &lease, "--once"])).ok().contains("15.0s"));
    let mut kept = nodes[0].begin(of(&["lease", "keep-alive", &lease]));
    kept.next_line();
    nodes[1].run(of(&["lease", "revoke", &lease])).ok();
    nodes[1].run(of(&["get", "k"])).exits(3);
    kept.ended().await.exits(7).says("ended");
    nodes[1].run(of(&["lease", "info", &lease])).exits(3).says(&lease);
    nodes[1].run(of(&["lease", "grant", "10ms"])).exits(1).says("1 s");
    assert_eq!(nodes[1].run(of(&["put", "k", "v", "--lease", "tomorrow"])).code, 2);
}

#[tokio::test]
async fn the_leader_tells_who_is_behind_and_a_stale_read_how_old_it_is() {
    let nodes = flock().await;
    nodes[0].run(of(&["put", "k", "v"])).ok();
    let info: Value = nodes[3].run(["--output", "json", "keyspace", "info", KEYSPACE]).json();
    assert_eq!(info["answered_by"], info["leader"]);
    assert!(info["commit_index"].as_u64() >= Some(1) && info["log_entries"].as_u64() >= Some(1), "{info}");
    let members = info["members"].as_array().expect("members");
    assert!(members.iter().all(|member| member["behind"].is_u64()), "{info}");
    assert_eq!(info["manual"], false);
    let shown = nodes[3].run(["keyspace", "info", KEYSPACE]).ok();
    assert!(shown.contains("committed") && shown.contains("BEHIND"), "{shown}");
    let replica = wait_until("a replica has it", async || {
        let answer = nodes[0].run(of(&["--output", "json", "get", "k", "--stale"]));
        if answer.code == 0 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let read: Value = replica.json();
    assert_eq!(read["value"], "v");
    assert!(read["stale"]["heard_ms"].is_u64() && read["stale"]["revision"].is_u64(), "{read}");
    assert!(read["stale"]["applied_index"].as_u64() <= read["stale"]["commit_index"].as_u64(), "{read}");
    let table = nodes[0].run(of(&["--output", "table", "get", "k", "--stale"]));
    table.says("ms ago");
    assert_eq!(table.ok(), "v");
    let made = nodes[0].run(["keyspace", "create", "kept", "--strong", "--manual", "--on", "a,b,c"]).ok();
    assert!(made.contains("replaced by hand"), "{made}");
    heard_of(&nodes[3], "kept").await;
    let info: Value = nodes[3].run(["--output", "json", "keyspace", "info", "kept"]).json();
    assert_eq!(info["manual"], true);
}
