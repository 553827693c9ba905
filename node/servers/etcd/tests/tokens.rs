//! Tokens in etcd's client: the token is the password of its name, and grants what its maker chose. The requests are those with
//! which etcd's own checks were circumvented: nested transactions, values of before, leases, ranges and watches without an end.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp,
    WatchOptions,
};
use starling_api::strong::CreateKeyspace;
use starling_api::token::NewToken;
use starling_etcd::Admission;
use starling_listener::{Reach, Refusals, Socket, Stop};
use starling_service::{Access, Config, Node, StrongKeyspace, TOKEN_WATCHES_MAX};
use tempfile::TempDir;

const KEYSPACE: &str = "jobs";
/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that serves a strong keyspace to etcd clients with a token.
struct Guarded {
    node: Node,
    address: SocketAddr,
    refusals: Arc<Refusals>,
    _dir: TempDir,
}

impl Guarded {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::new(dir.path().join("node"));
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        let node = Node::start(config).expect("starts");
        let admin = node.handle().admin();
        let create = CreateKeyspace { name: KEYSPACE.into(), voters: 1, on: Vec::new(), manual: false };
        admin.create_keyspace(create).await.expect("is created");
        let (bound, address) = mpsc::channel();
        let refusals = Arc::default();
        let access = Access::new(node.handle(), None, false);
        let admission = Admission { access, refusals: Arc::clone(&refusals) };
        let keyspace = node.handle().strong(KEYSPACE).expect("a replica");
        std::thread::spawn(move || serve(keyspace, admission, &bound));
        Self { node, address: address.recv().expect("it listens"), refusals, _dir: dir }
    }

    async fn token(&self, name: &str, grant: &str) -> String {
        let new = NewToken {
            name: name.into(),
            grants: vec![grant.into()],
            expires_ms: 3_600_000,
            requests_s: 0,
            bytes_s: 0,
        };
        self.node.handle().admin().add_token(new).await.expect("the node is an issuer").token
    }

    async fn log_in(&self, name: &str, token: &str) -> Result<Client, Error> {
        let options = ConnectOptions::new().with_user(name, token);
        Client::connect([self.address.to_string()], Some(options)).await
    }

    async fn client(&self, name: &str, grant: &str) -> Client {
        self.log_in(name, &self.token(name, grant).await).await.expect("the token counts")
    }
}

fn serve(keyspace: StrongKeyspace, admission: Admission, bound: &mpsc::Sender<SocketAddr>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = Socket::bind("127.0.0.1:0", Reach::Loopback).expect("a port");
        bound.send(socket.address()).expect("the test waits");
        let (_stop, stop) = Stop::channel();
        starling_etcd::serve(socket, keyspace, Some(admission), stop).await.expect("serves");
    });
}

/// The message of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer.expect_err("it is refused") {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => panic!("{other}"),
    }
}

const DENIED: &str = "etcdserver: permission denied";

#[tokio::test]
async fn a_token_grants_its_keys_and_no_way_around_leads_to_others() {
    let server = Guarded::new().await;
    let mut root = server.client("root", "data,admin:*").await;
    root.put("other/secret", "s", None).await.expect("may");
    let mut worker = server.client("worker", "data:jobs:tasks/").await;
    worker.put("tasks/a", "1", None).await.expect("may");
    assert_eq!(worker.get("tasks/", Some(GetOptions::new().with_prefix())).await.expect("may").count(), 1);

    assert_eq!(refused(worker.get("other/secret", None).await), DENIED);
    assert_eq!(refused(worker.put("other/secret", "x", None).await), DENIED);
    for range in [
        GetOptions::new().with_all_keys(),
        GetOptions::new().with_from_key(),
        GetOptions::new().with_range("tasks0x"),
    ] {
        assert_eq!(refused(worker.get("tasks/", Some(range)).await), DENIED);
    }
    let nested = |op: TxnOp| Txn::new().and_then([TxnOp::txn(Txn::new().or_else([op]))]);
    assert_eq!(refused(worker.txn(nested(TxnOp::get("other/secret", None))).await), DENIED);
    assert_eq!(refused(worker.txn(nested(TxnOp::put("other/secret", "x", None))).await), DENIED);
    let guess = Txn::new().when([Compare::value("other/secret", CompareOp::Equal, "s")]);
    assert_eq!(refused(worker.txn(guess).await), DENIED);
    assert_eq!(refused(worker.compact(2, None).await), DENIED);

    // Who may write only learns nothing of what is there.
    let mut writer = server.client("writer", "write:jobs:tasks/").await;
    writer.put("tasks/a", "2", None).await.expect("may");
    let with_previous = || Some(PutOptions::new().with_prev_key());
    assert_eq!(refused(writer.put("tasks/a", "3", with_previous()).await), DENIED);
    let inside = nested(TxnOp::put("tasks/a", "3", with_previous()));
    assert_eq!(refused(writer.txn(inside).await), DENIED);
    assert_eq!(refused(writer.lease_grant(60, None).await), DENIED);

    // Leases of another name.
    let lease = worker.lease_grant(60, None).await.expect("may").id();
    worker.put("tasks/b", "1", Some(PutOptions::new().with_lease(lease))).await.expect("may");
    let mut rival = server.client("rival", "data:jobs:rival/").await;
    assert_eq!(refused(rival.lease_revoke(lease).await), DENIED);
    assert_eq!(refused(rival.put("rival/a", "1", Some(PutOptions::new().with_lease(lease))).await), DENIED);
    assert_eq!(refused(rival.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await), DENIED);
    assert_eq!(refused(rival.leases().await), DENIED);
    // A lock is keys under its name, behind a lease of its own.
    worker.lock("tasks/lock", None).await.expect("may");
    assert_eq!(refused(worker.lock("other", None).await), DENIED);

    // Watches, one of them without an end.
    let mut stream = worker.watch("tasks/", Some(WatchOptions::new().with_prefix())).await.expect("may");
    assert!(stream.message().await.expect("stands").expect("goes on").created());
    stream.watch("tasks/", Some(WatchOptions::new().with_from_key())).await.expect("is sent");
    let answer = stream.message().await.expect("stands").expect("goes on");
    assert!(answer.canceled(), "{answer:?}");
    assert_eq!(answer.cancel_reason(), DENIED);
    assert_eq!(root.get("other/secret", None).await.expect("may").kvs()[0].value(), b"s");
    assert_eq!(root.get("tasks/b", None).await.expect("may").count(), 1);
}

#[tokio::test]
async fn the_bearers_of_a_token_have_a_bounded_number_of_watches() {
    let server = Guarded::new().await;
    let token = server.token("worker", "data:jobs").await;
    let mut first = server.log_in("worker", &token).await.expect("the token counts");
    let mut stream = first.watch("k", None).await.expect("may");
    let begun = stream.message().await.expect("stands").expect("goes on").watch_id();
    for _ in 1..TOKEN_WATCHES_MAX {
        stream.watch("k", None).await.expect("is sent");
        assert!(!stream.message().await.expect("stands").expect("goes on").canceled());
    }
    let mut second = server.log_in("worker", &token).await.expect("the token counts");
    let mut other = second.watch("k", None).await.expect("is sent");
    let answer = other.message().await.expect("stands").expect("goes on");
    assert!(answer.canceled() && answer.cancel_reason().contains("has 1024 watches"), "{answer:?}");
    stream.cancel(begun).await.expect("is sent");
    assert!(stream.message().await.expect("stands").expect("goes on").canceled());
    other.watch("k", None).await.expect("is sent");
    assert!(!other.message().await.expect("stands").expect("goes on").canceled());
    server.client("another", "data:jobs").await.watch("k", None).await.expect("has places of its own");
}

#[tokio::test]
async fn a_token_is_the_password_of_its_name_until_it_is_revoked() {
    let server = Guarded::new().await;
    let token = server.token("worker", "data:jobs").await;
    for (name, password) in
        [("other", &token[..]), ("worker", "guess"), ("worker", &token[..token.len() - 2])]
    {
        let failed = refused(server.log_in(name, password).await.map(drop));
        assert_eq!(failed, "etcdserver: authentication failed, invalid user ID or password");
    }
    let mut nobody = Client::connect([server.address.to_string()], None).await.expect("connects");
    assert_eq!(refused(nobody.get("k", None).await), "etcdserver: user name is empty");
    assert_eq!(server.refusals.count(), 3, "guesses are counted");

    let mut worker = server.log_in("worker", &token).await.expect("the token counts");
    worker.put("k", "v", None).await.expect("may");
    refused(worker.auth_disable().await);
    let mut stream = worker.watch("k", None).await.expect("may");
    assert!(stream.message().await.expect("stands").expect("goes on").created());
    let admin = server.node.handle().admin();
    let listed = admin.tokens().await.expect("the node's program may").tokens;
    let id = &listed.iter().find(|it| it.name == "worker").expect("is recorded").id;
    admin.revoke_token(id).await.expect("is revoked");
    assert_eq!(refused(worker.get("k", None).await), "etcdserver: invalid auth token");
    let ended = tokio::time::timeout(PATIENCE, stream.message()).await.expect("the watch ends");
    assert_eq!(refused(ended), "etcdserver: invalid auth token");
}
