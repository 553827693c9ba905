//! The public client library `etcd-client`, unmodified, for requests that etcdctl cannot send.

mod common;

use std::fmt::{Debug, Write};

use common::{PATIENCE, hold_against_etcd, scrub, starling};
use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions,
    SortOrder, SortTarget, Txn, TxnOp, WatchFilterType, WatchOptions, WatchStream,
};

/// What was heard, without what differs from cluster to cluster.
#[derive(Default)]
struct Story(String);

impl Story {
    fn tell(&mut self, asked: &str, answer: Result<impl Debug, Error>) {
        let answer = match answer {
            Ok(answer) => format!("{answer:?}"),
            Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(error) => format!("{error:?}"),
        };
        writeln!(self.0, "{asked}\n  {}", scrub(&answer)).expect("writes to memory");
    }

    /// Events one by one: how many come together is the server's affair.
    async fn watch(&mut self, stream: &mut WatchStream, count: usize) {
        let mut left = count;
        while left > 0 {
            let answer = message(stream).await;
            left -= answer.events().len().max(1).min(left);
            let number = answer.watch_id();
            let (created, canceled) = (answer.created(), answer.canceled());
            if answer.events().is_empty() {
                let (compacted, reason) = (answer.compact_revision(), answer.cancel_reason());
                writeln!(
                    self.0,
                    "  watch {number}: created {created}, canceled {canceled}, compacted {compacted}, {reason:?}"
                )
                .expect("writes to memory");
            }
            for event in answer.events() {
                let text = |kv: Option<&etcd_client::KeyValue>| match kv {
                    Some(kv) => scrub(&format!("{kv:?}")),
                    None => "nothing".into(),
                };
                let kind = if event.event_type() == EventType::Put { "put" } else { "delete" };
                let (kv, prev) = (text(event.kv()), text(event.prev_kv()));
                writeln!(self.0, "  watch {number}: {kind} {kv}, before {prev}").expect("writes to memory");
            }
        }
    }
}

async fn message(stream: &mut WatchStream) -> etcd_client::WatchResponse {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    message.expect("a watch says something").expect("it stands").expect("it goes on")
}

/// Runs the same calls against each server, and compares the answers.
fn told(name: &str, story: impl AsyncFn(&mut Client, &mut Story) + Copy) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    hold_against_etcd(name, |server, _| {
        runtime.block_on(async {
            let mut client = Client::connect([&server.endpoint], None).await.expect("connects");
            let mut heard = Story::default();
            let told = tokio::time::timeout(PATIENCE, story(&mut client, &mut heard)).await;
            assert!(told.is_ok(), "the story hangs after {}", heard.0);
            heard.0
        })
    });
}

fn put(key: &str, value: &str) -> TxnOp {
    TxnOp::put(key, value, None)
}

fn get(key: &str) -> TxnOp {
    TxnOp::get(key, None)
}

fn prefix() -> GetOptions {
    GetOptions::new().with_prefix()
}

#[test]
fn transactions() {
    told("client-txn.txt", async |client, story| {
        let c = client;
        let mut say = async |asked: &str, txn: Txn| {
            let answer = c.txn(txn).await;
            story.tell(asked, answer);
        };
        say("nothing at all", Txn::new()).await;
        let inner = Txn::new().and_then([put("b", "1"), get("a")]);
        say("nested", Txn::new().and_then([put("a", "1"), TxnOp::txn(inner), get("b")])).await;
        let version = |is, number| Compare::version("a", is, number);
        let both = || [put("hit", "x"), get("a")];
        let miss = || [get("none")];
        let compare = |compare: Compare| Txn::new().when([compare]).and_then(miss()).or_else(both());
        say("more than minus one", compare(version(CompareOp::Greater, -1))).await;
        say("less than minus one", compare(version(CompareOp::Less, -1))).await;
        say("minus one", compare(version(CompareOp::Equal, -1))).await;
        say("not minus one", compare(version(CompareOp::NotEqual, -1))).await;
        say("no lease", compare(Compare::lease("a", CompareOp::Equal, 0))).await;
        say("some lease", compare(Compare::lease("a", CompareOp::Greater, 0))).await;
        say("a value", compare(Compare::value("a", CompareOp::Less, "2"))).await;
        say("no value", compare(Compare::value("none", CompareOp::NotEqual, "2"))).await;
        let all = Compare::version("", CompareOp::Greater, 0).with_range("\0");
        say("without a key", compare(all)).await;
        let all = |is, number| Compare::mod_revision("a", is, number).with_range("c");
        say("a range", compare(all(CompareOp::Less, 3))).await;
        say("another range", compare(all(CompareOp::Less, 2))).await;
        let none = Compare::create_revision("x", CompareOp::Equal, 0).with_range("z");
        say("an empty range", compare(none)).await;
        let none = Compare::value("x", CompareOp::NotEqual, "1").with_range("z");
        say("the values of an empty range", compare(none)).await;
        say("only reads", Txn::new().and_then([get("a"), TxnOp::get("", Some(prefix()))])).await;
        let with_prev = Some(PutOptions::new().with_prev_key());
        let replaced = TxnOp::put("a", "2", with_prev);
        let deleted = TxnOp::delete("b", Some(DeleteOptions::new().with_prev_key()));
        say("what was before", Txn::new().and_then([replaced, deleted])).await;
        let lease = Some(PutOptions::new().with_lease(99));
        let half = [put("half", "1"), TxnOp::put("b", "1", lease)];
        say("half of it fails", Txn::new().and_then(half)).await;
        say("so there is nothing", Txn::new().and_then([get("half")])).await;
        let within = Txn::new().and_then([put("d", "1")]);
        say("doubled within", Txn::new().and_then([put("d", "2"), TxnOp::txn(within)])).await;
        let one = Txn::new().and_then([put("d", "1")]).or_else([put("d", "2")]);
        say("one or the other", Txn::new().and_then([TxnOp::txn(one)])).await;
        say("no key", Txn::new().and_then([put("", "1")])).await;
    });
}

#[test]
fn ranges() {
    told("client-range.txt", async |client, story| {
        for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("a", "4"), ("b", "0")] {
            client.put(key, value, None).await.expect("puts");
        }
        let options = || GetOptions::new().with_all_keys();
        let by = |by, order| options().with_sort(by, order);
        for (asked, options) in [
            ("all", options()),
            ("keys", options().with_keys_only()),
            ("a count", options().with_count_only()),
            ("modified since 4", options().with_min_mod_revision(4)),
            ("modified until 4", options().with_max_mod_revision(4)),
            ("created since 3", options().with_min_create_revision(3)),
            ("created until 2", options().with_max_create_revision(2)),
            ("a limit", options().with_limit(2)),
            ("a limit and a bound", options().with_limit(1).with_min_mod_revision(5)),
            ("a negative limit", options().with_limit(-1)),
            ("a negative revision", options().with_revision(-1)),
            ("a count, long ago", options().with_count_only().with_revision(3)),
            ("by version", by(SortTarget::Version, SortOrder::Ascend)),
            ("by value", by(SortTarget::Value, SortOrder::None)),
            ("by value, first", by(SortTarget::Value, SortOrder::Ascend).with_limit(1)),
            ("by revision, last", by(SortTarget::Mod, SortOrder::Descend).with_limit(1)),
            ("stale", options().with_serializable()),
            ("to nowhere", GetOptions::new().with_range("")),
        ] {
            story.tell(asked, client.get("a", Some(options)).await);
        }
        story.tell("no key", client.get("", None).await);
        story.tell("no key, a range", client.get("", Some(GetOptions::new().with_range("z"))).await);
        story.tell("deleted", client.delete("a", Some(DeleteOptions::new().with_range("c"))).await);
        story.tell("no key deleted", client.delete("", None).await);
    });
}

/// Longer than what the keyspace answers at once.
#[test]
fn a_long_range_is_whole() {
    told("client-long.txt", async |client, story| {
        for number in 0..100 {
            client.put(format!("k{number:03}"), vec![b'v'; 100_000], None).await.expect("puts");
        }
        let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
        for (asked, options) in [
            ("all", GetOptions::new().with_prefix()),
            ("most", GetOptions::new().with_prefix().with_limit(90)),
            ("the last", GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend)),
        ] {
            let found = kv.get("k", Some(options)).await.expect("gets");
            let keys: Vec<_> = found.kvs().iter().map(|kv| kv.key_str().unwrap_or_default()).collect();
            let whole = found.kvs().iter().all(|kv| kv.value().len() == 100_000);
            let (more, count) = (found.more(), found.count());
            story.tell(asked, Ok((keys, whole, more, count)));
        }
    });
}

#[test]
fn watches_on_one_stream() {
    told("client-watch.txt", async |client, story| {
        let options = WatchOptions::new;
        client.put("a", "1", None).await.expect("puts");
        client.put("b", "1", None).await.expect("puts");
        let mut stream = client.watch("a", Some(options())).await.expect("watches");
        story.watch(&mut stream, 1).await;
        let ask = [
            ("b", options().with_watch_id(7).with_prev_key()),
            ("b", options().with_watch_id(7)),
            ("c", options().with_range("b")),
            ("a", options().with_range("c").with_filters([WatchFilterType::NoPut])),
            ("a", options().with_start_revision(2).with_filters([WatchFilterType::NoDelete])),
        ];
        for (key, options) in ask {
            stream.watch(key, Some(options)).await.expect("asks");
            story.watch(&mut stream, 1).await;
        }
        story.tell("what was there", Ok(()));
        story.watch(&mut stream, 1).await;
        // Those that began with the present tell each change; one watch after the other, because two
        // are told in any order.
        story.tell("a put", client.put("b", "2", None).await.map(drop));
        story.watch(&mut stream, 1).await;
        stream.cancel(7).await.expect("asks");
        story.watch(&mut stream, 1).await;
        stream.cancel(7).await.expect("asks");
        story.tell("a deletion", client.delete("b", None).await.map(drop));
        story.watch(&mut stream, 1).await;
        stream.cancel(0).await.expect("asks");
        story.watch(&mut stream, 1).await;
        stream.watch("a", Some(options().with_start_revision(100))).await.expect("asks");
        story.watch(&mut stream, 1).await;
        story.tell("compacted", client.compact(4, None).await.map(drop));
        stream.watch("b", Some(options().with_start_revision(2).with_watch_id(50))).await.expect("asks");
        story.watch(&mut stream, 2).await;
        stream.watch("x", Some(options().with_all_keys().with_start_revision(6))).await.expect("asks");
        story.watch(&mut stream, 1).await;
        let txn = Txn::new().and_then([put("x1", "1"), put("x2", "1"), TxnOp::delete("x1", None)]);
        story.tell("not both", client.txn(txn).await.map(drop));
        let txn = Txn::new().and_then([put("x1", "1"), put("x2", "1")]);
        story.tell("two at once", client.txn(txn).await.map(drop));
        story.watch(&mut stream, 2).await;
    });
}

/// Recorded from no etcd: 3.4 answers at once, and 3.5.8 and later as Starling does.
#[test]
fn progress_is_told_after_all_changes() {
    let server = starling();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = Client::connect([&server.endpoint], None).await.expect("connects");
        let mut stream = client.watch("a", None).await.expect("watches");
        assert!(message(&mut stream).await.created());
        stream.watch("b", None).await.expect("asks");
        assert!(message(&mut stream).await.created());
        for _ in 0..5 {
            client.put("b", "1", None).await.expect("puts");
        }
        stream.request_progress().await.expect("asks");
        let mut events = 0;
        loop {
            let answer = message(&mut stream).await;
            events += answer.events().len();
            if answer.watch_id() == -1 {
                assert_eq!(answer.header().map(etcd_client::ResponseHeader::revision), Some(6));
                break;
            }
        }
        assert_eq!(events, 5);
        for watch in [0, 1] {
            stream.cancel(watch).await.expect("asks");
            assert!(message(&mut stream).await.canceled());
        }
        stream.request_progress().await.expect("asks");
        let answer = message(&mut stream).await;
        assert_eq!(answer.header().map(etcd_client::ResponseHeader::revision), Some(6));
    });
}

#[test]
fn leases() {
    told("client-lease.txt", async |client, story| {
        let named = |id| Some(LeaseGrantOptions::new().with_id(id));
        story.tell("granted", client.lease_grant(600, named(77)).await);
        story.tell("again", client.lease_grant(600, named(77)).await);
        story.tell("for ever", client.lease_grant(10_000_000_000, named(78)).await);
        let leased = Some(PutOptions::new().with_lease(77));
        story.tell("a put", client.put("a", "1", leased).await);
        let missing = Some(PutOptions::new().with_lease(78));
        story.tell("a put without its lease", client.put("a", "1", missing).await);
        let keys = Some(LeaseTimeToLiveOptions::new().with_keys());
        let left = client.lease_time_to_live(77, keys).await;
        story.tell("left", left.map(|left| (left.id(), left.granted_ttl(), left.keys().to_vec())));
        story.tell("nothing left", client.lease_time_to_live(78, None).await);
        story.tell("all", client.leases().await);
        let (mut keeper, mut kept) = client.lease_keep_alive(77).await.expect("keeps");
        keeper.keep_alive().await.expect("asks");
        story.tell("kept", kept.message().await);
        story.tell("revoked", client.lease_revoke(77).await);
        story.tell("revoked again", client.lease_revoke(77).await);
        keeper.keep_alive().await.expect("asks");
        story.tell("kept no more", kept.message().await);
        story.tell("gone", client.get("a", None).await);
    });
}

/// A lease without renewals expires, and its keys are deleted.
#[test]
fn a_lease_expires() {
    told("client-expiry.txt", async |client, story| {
        client.lease_grant(2, Some(LeaseGrantOptions::new().with_id(5))).await.expect("grants");
        let mut stream = client.watch("a", None).await.expect("watches");
        story.watch(&mut stream, 1).await;
        client.put("a", "1", Some(PutOptions::new().with_lease(5))).await.expect("puts");
        client.put("ab", "1", Some(PutOptions::new().with_lease(5))).await.expect("puts");
        story.watch(&mut stream, 2).await;
        story.tell("gone", client.get("a", Some(prefix())).await);
        story.tell("its lease too", client.leases().await);
    });
}

#[test]
fn the_lock_service() {
    told("client-lock.txt", async |client, story| {
        for id in [5, 6] {
            client.lease_grant(600, Some(LeaseGrantOptions::new().with_id(id))).await.expect("grants");
        }
        let with = |lease| Some(LockOptions::new().with_lease(lease));
        story.tell("locked", client.lock("name", with(5)).await.map(|locked| locked.key().to_vec()));
        story.tell("locked again", client.lock("name", with(5)).await.map(|locked| locked.key().to_vec()));
        let mut other = client.clone();
        let second = tokio::spawn(async move { other.lock("name", with(6)).await });
        wait_for(client, "name/", 2).await;
        story.tell("in line", client.get("name/", Some(prefix())).await);
        story.tell("unlocked", client.unlock("name/5").await);
        let second = second.await.expect("ends");
        story.tell("the second", second.map(|locked| locked.key().to_vec()));
        // A client that stops waiting leaves the queue.
        let mut other = client.clone();
        let third = tokio::spawn(async move { other.lock("name", with(5)).await });
        wait_for(client, "name/", 2).await;
        third.abort();
        wait_for(client, "name/", 1).await;
        // etcd's own lock service says neither with a code.
        let refused = client.lock("name", with(99)).await.expect_err("a lock without its lease");
        assert!(refused.to_string().contains("etcdserver: requested lease not found"), "{refused}");
        client.lease_revoke(6).await.expect("revokes");
        story.tell("nobody", client.get("name/", Some(prefix())).await);
    });
}

/// Reads until there is this number of keys.
async fn wait_for(client: &mut Client, prefix: &str, count: i64) {
    let options = || Some(GetOptions::new().with_prefix().with_count_only());
    let all = async { while client.get(prefix, options()).await.expect("gets").count() != count {} };
    tokio::time::timeout(PATIENCE, all).await.expect("there are so many keys");
}

#[test]
fn the_election_service() {
    told("client-election.txt", async |client, story| {
        for id in [5, 6] {
            client.lease_grant(600, Some(LeaseGrantOptions::new().with_id(id))).await.expect("grants");
        }
        story.tell("nobody", client.leader("post").await);
        let first = client.campaign("post", "one", 5).await;
        let leader = first.as_ref().ok().and_then(|first| first.leader().cloned()).expect("a leader");
        story.tell("elected", first);
        let mut observed = client.observe("post").await.expect("observes");
        story.tell("observed", observed.message().await);
        let mut other = client.clone();
        let second = tokio::spawn(async move { other.campaign("post", "two", 6).await });
        wait_for(client, "post/", 2).await;
        let says = Some(ProclaimOptions::new().with_leader(leader.clone()));
        story.tell("proclaimed", client.proclaim("more", says.clone()).await);
        story.tell("observed", observed.message().await);
        story.tell("leader", client.leader("post").await);
        story.tell("again", client.campaign("post", "once more", 5).await);
        story.tell("observed", observed.message().await);
        let goes = Some(ResignOptions::new().with_leader(leader));
        story.tell("resigned", client.resign(goes.clone()).await);
        story.tell("the second", second.await.expect("ends"));
        story.tell("observed", observed.message().await);
        story.tell("resigned again", client.resign(goes).await);
        story.tell("proclaimed by no leader", client.proclaim("more", says).await);
        let refused = client.campaign("post", "three", 99).await.expect_err("a candidate without its lease");
        assert!(refused.to_string().contains("etcdserver: requested lease not found"), "{refused}");
    });
}

#[test]
fn refusals() {
    told("client-refused.txt", async |client, story| {
        let keep_value = || Some(PutOptions::new().with_ignore_value());
        let keep_lease = Some(PutOptions::new().with_ignore_lease().with_lease(1));
        story.tell("a value too much", client.put("a", "1", keep_value()).await);
        story.tell("a lease too much", client.put("a", "1", keep_lease).await);
        story.tell("no value", client.put("a", "", keep_value()).await);
        story.tell("too large", client.put("a", vec![0; 1_600_000], None).await);
        story.tell("compacted too far", client.compact(7, None).await);
        story.tell("no user", client.user_get("nobody").await);
        story.tell("no role", client.role_get("none").await);
        story.tell("no users", client.user_list().await);
        story.tell("no roles", client.role_list().await);
        story.tell("no root", client.auth_enable().await);
        story.tell("no auth", client.auth_disable().await);
        let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await;
        story.tell("no alarms", alarms.map(|alarms| alarms.alarms().len()));
    });
}

/// What etcd answers otherwise, because it is another cluster.
#[test]
fn what_starling_says_of_itself() {
    let server = starling();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = Client::connect([&server.endpoint], None).await.expect("connects");
        let status = client.status().await.expect("says");
        assert_eq!(
            (status.version(), status.leader(), status.raft_term()),
            (starling_etcd::API_VERSION, 7, 3)
        );
        let header = status.header().expect("a header");
        assert_eq!((header.cluster_id(), header.member_id()), (0x0505_0505_0505_0505, 7));
        let empty = client.hash().await.expect("says").hash();
        assert_ne!(empty, 0, "an empty keyspace has a hash, too");
        client.put("a", "1", None).await.expect("puts");
        let hash = client.hash_kv(0).await.expect("says");
        assert_ne!(hash.hash(), empty);
        assert_eq!(client.hash().await.expect("says").hash(), hash.hash());
        let refused = client.hash_kv(1).await.expect_err("an old revision");
        assert!(format!("{refused:?}").contains("Unimplemented"), "{refused:?}");
    });
}
