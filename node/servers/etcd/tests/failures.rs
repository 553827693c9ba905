//! The answers to clients when the keyspace cannot answer, with a scripted node.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, GetOptions, WatchStream};
use starling_etcd::DETAIL;
use starling_listener::{Reach, Socket, Stop};
use starling_service::{Call, StrongKeyspace, WatchUpdates};
use starling_strong::api::{
    Answer, Body, Event, EventKind, Failure, Found, KeyValue, Options, Refusal, Request, Status, Watch,
    WatchUpdate,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(60);

/// The node's side of the etcd server, and a client of it.
struct Stage {
    calls: mpsc::Receiver<Call>,
    address: String,
    client: Client,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn stage() -> Stage {
    stage_with_room(1).await
}

/// A stage whose node has room for some calls.
async fn stage_with_room(calls: usize) -> Stage {
    let socket = Socket::bind("127.0.0.1:0", Reach::Loopback).expect("a port");
    let address = socket.address().to_string();
    let (sender, calls) = mpsc::channel(calls);
    let (stop, stopped) = Stop::channel();
    let keyspace = StrongKeyspace::new("orders", [1; 32], sender);
    let server = tokio::spawn(starling_etcd::serve(socket, keyspace, None, stopped));
    let client = Client::connect([address.clone()], None).await.expect("connects");
    let mut stage = Stage { calls, address, client, stop, server };
    // The server sends one call unprompted.
    stage.status(1, 1).await;
    stage
}

impl Stage {
    async fn call(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv()).await.expect("the server sends a call").expect("it is there")
    }

    async fn status(&mut self, revision: u64, term: u64) {
        let Call::Status { reply, keyspace, .. } = self.call().await else { panic!("another call") };
        assert_eq!(&*keyspace, "orders");
        let status = Status {
            group: [1; 16],
            member: 1,
            leader: None,
            term,
            members: Vec::new(),
            revision,
            log_index: 1,
            applied_index: 1,
            commit_index: 1,
            log_entries: 1,
            log_bytes: 0,
            bytes: 0,
            heard_ms: None,
            manual: false,
        };
        reply.send(Ok(status)).expect("the server waits");
    }

    /// Answers a request, and returns it. The server's own calls for the status of the group are answered meanwhile.
    async fn answer(&mut self, answer: Result<Answer, Failure>) -> (Request, Options) {
        loop {
            match self.call().await {
                Call::Request { request, options, reply, .. } => {
                    reply.send(answer);
                    return (request, options);
                }
                Call::Status { reply, .. } => drop(reply),
                other => panic!("another call: {other:?}"),
            }
        }
    }

    async fn progress(&mut self) -> starling_service::WatchId {
        let progress = async {
            loop {
                match self.call().await {
                    Call::Progress { id } => return id,
                    Call::Status { reply, .. } => drop(reply),
                    Call::More { .. } => {}
                    other => panic!("another call: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, progress).await.expect("the progress of a watch is requested")
    }

    async fn watch(&mut self) -> (starling_service::WatchId, Watch, WatchUpdates) {
        loop {
            match self.call().await {
                Call::Watch { id, watch, updates, .. } => return (id, watch, updates),
                Call::Status { reply, .. } => drop(reply),
                other => panic!("another call: {other:?}"),
            }
        }
    }
}

fn refused<T>(answer: Result<T, Error>) -> tonic::Status {
    match answer {
        Err(Error::GRpcStatus(status)) => status,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("it was answered"),
    }
}

fn empty() -> Answer {
    Answer { revision: 9, body: Body::Range(Found::default()) }
}

#[tokio::test]
async fn failures_have_etcds_codes_and_words() {
    let mut stage = stage().await;
    let keyspace = || "orders".to_owned();
    let cases = [
        (
            Failure::NoMajority { keyspace: keyspace(), missing: vec!["n2".into(), "n3".into()] },
            (Code::Unavailable, "etcdserver: no leader"),
        ),
        (Failure::Timeout(keyspace()), (Code::Unavailable, "etcdserver: request timed out")),
        (Failure::OutcomeUnknown(keyspace()), (Code::Unavailable, "etcdserver: request timed out")),
        (Failure::Overloaded, (Code::ResourceExhausted, "etcdserver: too many requests")),
        (Failure::Diverged("n1".into()), (Code::DataLoss, "etcdserver: corrupt cluster")),
        (Failure::Storage("a disk".into()), (Code::Internal, "storage failed: a disk")),
    ];
    for (failure, (code, message)) in cases {
        let mut client = stage.client.clone();
        let words = failure.to_string();
        let (answer, _) = tokio::join!(client.put("a", "1", None), stage.answer(Err(failure)));
        let status = refused(answer);
        assert_eq!((status.code(), status.message()), (code, message));
        let detail = status.metadata().get(DETAIL).map(|detail| detail.to_str().expect("a text").to_owned());
        assert!(message == words || detail == Some(words), "{status:?}");
    }
}

#[tokio::test]
async fn a_full_queue_sheds_and_a_closed_one_says_so() {
    let stage = stage().await;
    // The queue holds one call, which may be one of the server's own.
    let mut puts = JoinSet::new();
    for value in ["1", "2", "3"] {
        let mut client = stage.client.clone();
        puts.spawn(async move { refused(client.put("a", value, None).await) });
    }
    for _ in 0..2 {
        let status = puts.join_next().await.expect("one of three").expect("ends");
        let shed = (Code::ResourceExhausted, "etcdserver: too many requests");
        assert_eq!((status.code(), status.message()), shed);
    }
    let Stage { calls, mut client, .. } = stage;
    drop(calls);
    let waited = puts.join_next().await.expect("the third one").expect("ends");
    assert!([Code::ResourceExhausted, Code::Unavailable].contains(&waited.code()), "{waited:?}");
    let status = refused(client.put("a", "4", None).await);
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: request timed out"));
}

#[tokio::test]
async fn a_message_that_is_too_large_has_the_code_of_etcds_library() {
    let mut stage = stage().await;
    let status = refused(stage.client.put("a", vec![0; 3 << 20], None).await);
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn a_request_has_the_time_that_etcd_gives_it() {
    let mut stage = stage().await;
    let mut client = stage.client.clone();
    let (_, (_, options)) = tokio::join!(client.get("a", None), stage.answer(Ok(empty())));
    assert_eq!((options.timeout_ms, options.stale), (7000, false));
}

/// A member answers a write when the leader has applied it, and may be behind itself.
#[tokio::test]
async fn a_stale_read_shows_what_was_acknowledged_through_the_same_server() {
    let mut stage = stage().await;
    let mut client = stage.client.clone();
    let at = |revision| Answer { revision, body: Body::Range(Found::default()) };
    let written = Answer { revision: 10, body: Body::Put { prev: None } };
    let (put, _) = tokio::join!(client.put("a", "1", None), stage.answer(Ok(written)));
    put.expect("is written");
    let future = Failure::Refused(Refusal::FutureRevision { asked: 10, now: 9 });
    for (revision, behind) in [(0, Ok(at(9))), (10, Err(future))] {
        let options = GetOptions::new().with_serializable().with_revision(revision);
        let node = async {
            let (_, first) = stage.answer(behind).await;
            let (_, second) = stage.answer(Ok(at(10))).await;
            (first.stale, second.stale)
        };
        let (get, may_be_stale) = tokio::join!(client.get("a", Some(options)), node);
        assert_eq!(get.expect("is read").header().map(etcd_client::ResponseHeader::revision), Some(10));
        assert_eq!(may_be_stale, (true, false));
    }
    // What this member has, it shows itself.
    let options = || Some(GetOptions::new().with_serializable());
    let (get, (_, only)) = tokio::join!(client.get("a", options()), stage.answer(Ok(at(10))));
    assert!(get.is_ok() && only.stale);
    let compacted = Answer { revision: 10, body: Body::Compacted };
    let (compact, _) = tokio::join!(client.compact(8, None), stage.answer(Ok(compacted)));
    compact.expect("is compacted");
    let options = GetOptions::new().with_serializable().with_revision(7);
    let refusal = Failure::Refused(Refusal::Compacted { asked: 7, oldest: 8 });
    let node = async {
        stage.answer(Ok(at(10))).await;
        stage.answer(Err(refusal)).await
    };
    let (get, (_, second)) = tokio::join!(client.get("a", Some(options)), node);
    assert_eq!((refused(get).code(), second.stale), (Code::OutOfRange, false));
}

/// Patroni demotes the primary of a server whose term is lower than one it has received before.
#[tokio::test]
async fn the_term_in_headers_never_decreases() {
    let mut stage = stage().await;
    // The server asks for the status now and then, without a request.
    stage.status(1, 7).await;
    stage.status(1, 6).await;
    let mut client = stage.client.clone();
    let (get, _) = tokio::join!(client.get("a", None), stage.answer(Ok(empty())));
    assert_eq!(get.expect("is read").header().map(etcd_client::ResponseHeader::raft_term), Some(7));
}

/// `WithRequireLeader` of etcd's Go client: whoever watches a part of the network without a leader learns of it.
#[tokio::test]
async fn a_watch_that_needs_a_leader_ends_without_one() {
    let mut stage = stage().await;
    let address = stage.address.clone();
    let options = ConnectOptions::new().with_require_leader(true);
    let client = Client::connect([address], Some(options)).await.expect("connects");
    let (mut needs, mut patient) = (client.watch_client(), stage.client.watch_client());
    let (opened, _) = tokio::join!(needs.watch("a", None), stage.watch());
    let mut stream = opened.expect("opens");
    let (opened, _) = tokio::join!(patient.watch("a", None), stage.watch());
    let mut other = opened.expect("opens");
    let node = async {
        loop {
            drop(stage.call().await);
        }
    };
    let error = tokio::select! {
        () = node => unreachable!("it has no end"),
        message = timeout(PATIENCE, stream.message()) => refused(message.expect("it ends")),
    };
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert!(timeout(Duration::from_millis(50), other.message()).await.is_err(), "the other one waits");
}

#[tokio::test]
async fn a_stale_read_without_a_replica_is_a_fresh_one() {
    let mut stage = stage().await;
    let mut client = stage.client.clone();
    let options = Some(GetOptions::new().with_serializable());
    let node = async {
        let (_, first) = stage.answer(Err(Failure::NoReplica("orders".into()))).await;
        let (_, second) = stage.answer(Ok(empty())).await;
        (first.stale, second.stale)
    };
    let (answer, asked) = tokio::join!(client.get("a", options), node);
    assert_eq!(asked, (true, false));
    assert_eq!(answer.expect("gets").header().map(etcd_client::ResponseHeader::revision), Some(9));
}

async fn next(stream: &mut WatchStream) -> etcd_client::WatchResponse {
    timeout(PATIENCE, stream.message()).await.expect("says").expect("stands").expect("goes on")
}

fn event(revision: u64) -> WatchUpdate {
    let kv = KeyValue { key: b"a".to_vec(), mod_revision: revision, ..KeyValue::default() };
    WatchUpdate::Events { revision, events: vec![Event { kv, kind: EventKind::Put, prev: None }] }
}

#[tokio::test]
async fn a_watch_that_is_lost_goes_on_where_it_was() {
    let mut stage = stage().await;
    let mut client = stage.client.clone();
    let (stream, (id, asked, updates)) = tokio::join!(client.watch("a", None), stage.watch());
    let mut stream = stream.expect("watches");
    assert_eq!(asked.from_revision, 0);
    for update in [WatchUpdate::Created { revision: 4 }, event(6)] {
        updates.send((id, update)).await.expect("listens");
    }
    assert!(next(&mut stream).await.created());
    assert_eq!(next(&mut stream).await.events().len(), 1);
    updates.send((id, WatchUpdate::Lost { reason: "a test".into() })).await.expect("listens");
    let (again, asked, updates) = stage.watch().await;
    assert_ne!(again, id);
    assert_eq!(asked.from_revision, 7);
    // Late updates of the old watch are dropped.
    updates.send((id, event(6))).await.expect("listens");
    updates.send((again, WatchUpdate::Created { revision: 8 })).await.expect("listens");
    updates.send((again, event(7))).await.expect("listens");
    let told = next(&mut stream).await;
    assert!(!told.created());
    assert_eq!(told.events()[0].kv().map(etcd_client::KeyValue::mod_revision), Some(7));
}

/// One client who does not read holds up its own watch, and at a bounded number of updates.
#[tokio::test]
async fn a_watch_is_asked_for_more_only_as_its_client_reads() {
    let mut stage = stage().await;
    let mut client = stage.client.clone();
    let call = async {
        loop {
            match stage.call().await {
                Call::Watch { id, credit, updates, .. } => return (id, credit, updates),
                Call::Status { reply, .. } => drop(reply),
                other => panic!("another call: {other:?}"),
            }
        }
    };
    let (stream, (id, mut credit, updates)) = tokio::join!(client.watch("a", None), call);
    let mut stream = stream.expect("watches");
    updates.try_send((id, WatchUpdate::Created { revision: 1 })).expect("room");
    assert!(next(&mut stream).await.created());
    for revision in 2..100 {
        while credit == 0 {
            match stage.call().await {
                Call::More { id: more, credit: again } if more == id => credit += again,
                Call::Status { reply, .. } => drop(reply),
                other => panic!("another call: {other:?}"),
            }
        }
        credit -= 1;
        updates.try_send((id, event(revision))).expect("room");
        assert_eq!(next(&mut stream).await.events().len(), 1);
    }
}

/// A client that takes the revision of a progress for that of its cache must never go back.
#[tokio::test]
async fn requested_progress_is_never_below_events_that_were_sent() {
    let mut stage = stage_with_room(16).await;
    let mut client = stage.client.clone();
    let (stream, (first, _, updates)) = tokio::join!(client.watch("a", None), stage.watch());
    let mut stream = stream.expect("watches");
    updates.try_send((first, WatchUpdate::Created { revision: 9 })).expect("room");
    assert!(next(&mut stream).await.created());
    stream.watch("b", None).await.expect("asks");
    let (second, _, updates) = stage.watch().await;
    updates.try_send((second, WatchUpdate::Created { revision: 9 })).expect("room");
    assert!(next(&mut stream).await.created());

    stream.request_progress().await.expect("asks");
    assert_eq!([stage.progress().await, stage.progress().await], [first, second]);
    updates.try_send((first, WatchUpdate::Progress { revision: 9 })).expect("room");
    updates.try_send((second, event(10))).expect("room");
    updates.try_send((second, WatchUpdate::Progress { revision: 10 })).expect("room");
    assert_eq!(next(&mut stream).await.events().len(), 1);
    // The first watch has reached 9 only: both are asked again.
    assert_eq!([stage.progress().await, stage.progress().await], [first, second]);
    updates.try_send((first, WatchUpdate::Progress { revision: 11 })).expect("room");
    updates.try_send((second, WatchUpdate::Progress { revision: 10 })).expect("room");
    let answer = next(&mut stream).await;
    let revision = answer.header().map(etcd_client::ResponseHeader::revision);
    assert_eq!((answer.watch_id(), revision), (-1, Some(10)));
}

#[tokio::test]
async fn a_watch_ends_with_its_stream() {
    let mut stage = stage().await;
    let mut client = stage.client.clone();
    let (stream, (id, _, updates)) = tokio::join!(client.watch("a", None), stage.watch());
    updates.send((id, WatchUpdate::Created { revision: 4 })).await.expect("listens");
    drop(stream);
    loop {
        match stage.call().await {
            Call::Unwatch { ids } => break assert_eq!(ids, [id]),
            Call::Status { reply, .. } => drop(reply),
            other => panic!("another call: {other:?}"),
        }
    }
    timeout(PATIENCE, updates.closed()).await.expect("the stream ends");
}

#[tokio::test]
async fn the_door_closes_when_it_is_told_to() {
    let stage = stage().await;
    stage.stop.send(true).expect("the server runs");
    let closed = timeout(PATIENCE, stage.server).await.expect("it closes").expect("it does not panic");
    closed.expect("without an error");
}

#[tokio::test]
async fn keep_alives_of_one_stream_do_not_wait_for_each_other() {
    const COUNT: usize = 8;
    let mut stage = stage_with_room(COUNT + 1).await;
    let kept = || Ok(Answer { revision: 9, body: Body::KeptAlive { id: 7, ttl_ms: 60_000 } });
    let mut client = stage.client.clone();
    let opening = tokio::spawn(async move { client.lease_keep_alive(7).await });
    stage.answer(kept()).await;
    let (mut keeper, mut answers) = opening.await.expect("no panic").expect("keeps");
    for _ in 0..COUNT {
        keeper.keep_alive().await.expect("asks");
    }
    let mut waiting = Vec::new();
    while waiting.len() < COUNT {
        match stage.call().await {
            Call::Request { request: Request::KeepAlive { .. }, reply, .. } => waiting.push(reply),
            Call::Status { reply, .. } => drop(reply),
            other => panic!("another call: {other:?}"),
        }
    }
    for reply in waiting.into_iter().rev() {
        reply.send(kept());
    }
    for _ in 0..COUNT {
        timeout(PATIENCE, answers.message()).await.expect("an answer").expect("it is one").expect("one more");
    }
}
