//! The JSON of the HTTP API, one line for each kind of request and answer: what clients send today is read, and
//! the node's answers stay as they are. The lines were recorded from the API's own types before the vocabulary
//! took their place.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use starling_types::eventual::{Data, Outcome, Write};
use starling_types::strong::{
    Body, Compare, Delete, Keys, Operand, Put, Range, Read, Relation, Request, RequestId, Txn, TxnOp,
    Write as Strong,
};

/// Reads every line as a `T`, and checks that it is written as it was read.
fn round_trip<T: Serialize + DeserializeOwned>(lines: &str) -> Vec<T> {
    let one = |line: &str| {
        let value: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let recorded: Value = serde_json::from_str(line).expect("the file holds JSON");
        assert_eq!(serde_json::to_value(&value).expect("serializes"), recorded, "{line}");
        value
    };
    lines.lines().map(one).collect()
}

fn read<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[test]
fn requests_of_strong_keyspaces() {
    let requests = round_trip::<Request>(include_str!("golden/requests.ndjson"));
    let reads = requests.iter().filter(|request| matches!(request, Request::Read(_))).count();
    assert_eq!((requests.len(), reads), (17, 6), "a transaction that only reads is a read");
}

#[test]
fn answers_of_strong_keyspaces() {
    assert_eq!(round_trip::<Body>(include_str!("golden/answers.ndjson")).len(), 16);
}

#[test]
fn writes_and_outcomes_of_eventual_keyspaces() {
    assert_eq!(round_trip::<Write>(include_str!("golden/writes.ndjson")).len(), 12);
    assert_eq!(round_trip::<Outcome>(include_str!("golden/outcomes.ndjson")).len(), 8);
    assert_eq!(round_trip::<Data>(include_str!("golden/data.ndjson")).len(), 9);
}

#[test]
fn what_a_request_leaves_out_has_its_default() {
    assert_eq!(read::<Request>(r#"{"op":"get","keys":{"key":"a"}}"#), get("a"));
    let put = r#"{"op":"put","key":"a","value":"v"}"#;
    assert_eq!(read::<TxnOp>(put), TxnOp::Put(Put::new("a", "v")));
    assert!(serde_json::from_str::<TxnOp>(r#"{"op":"put","key":"a"}"#).is_err(), "a put names its value");
    let keeps = read::<TxnOp>(r#"{"op":"put","key":"a","value":null,"lease":null}"#);
    assert!(matches!(keeps, TxnOp::Put(Put { value: None, lease: None, .. })));
    let compare: Compare = read(r#"{"key":"a","version":0}"#);
    let absent = Compare { keys: Keys::One(b"a".to_vec()), is: Relation::Equal, to: Operand::Version(0) };
    assert_eq!(compare, absent);
    assert!(serde_json::from_str::<Txn>(r#"{"and":[]}"#).is_err(), "unknown fields are refused");
    assert_eq!(read::<Request>(r#"{"op":"time_to_live","id":7}"#), Request::TimeToLive { id: 7, keys: true });
    let write: Write = read(r#"{"key":"a","op":"flag","enabled":true}"#);
    assert_eq!((write.keyspace.as_str(), write.ttl_ms, write.check), ("default", None, None));
    assert!(serde_json::from_str::<Write>(r#"{"key":"a","op":"put","value":"v","if_version":"7"}"#).is_err());
}

fn get(key: &str) -> Request {
    Range::of(Keys::One(key.into())).into()
}

/// What the state machine takes and the API's first types could not say.
#[test]
fn requests_say_all_that_the_state_machine_takes() {
    let bounds = r#"{"op":"get","keys":{"key":"a"},"min_mod_revision":2,"max_mod_revision":3,"min_create_revision":4}"#;
    let Request::Read(Read::Range(range)) = read(bounds) else { panic!("a read") };
    assert_eq!((range.min_mod_revision, range.max_mod_revision, range.min_create_revision), (2, 3, 4));
    let nested = r#"{"op":"txn","compare":[{"prefix":"a/","version":0}],
        "then":[{"op":"txn","then":[{"op":"delete","keys":{"key":"b"}}]}]}"#;
    let Request::Write(Strong::Txn(txn)) = read(nested) else { panic!("a write") };
    let absent = Compare { keys: Keys::prefix(b"a/".to_vec()), is: Relation::Equal, to: Operand::Version(0) };
    assert_eq!(txn.compare, [absent]);
    let delete = TxnOp::Delete(Delete { keys: Keys::One(b"b".to_vec()), prev: false });
    assert_eq!(txn.then, [TxnOp::Txn(Txn { then: vec![delete], ..Txn::default() })]);
    assert_eq!(txn.depth(), 2);
}

#[test]
fn the_client_of_a_named_write_is_a_hexadecimal_number() {
    let id = RequestId { client: 0xab, seq: 1, answered_below: 1 };
    assert_eq!(read::<RequestId>(r#"{"client":"00AB","seq":1,"answered_below":1}"#), id);
    assert_eq!(serde_json::to_value(id).expect("serializes")["client"], "ab");
    for wrong in ["", "client-7", &"f".repeat(33)] {
        let json = serde_json::json!({ "client": wrong }).to_string();
        let error = serde_json::from_str::<RequestId>(&json).expect_err("not a number").to_string();
        assert!(error.contains("request_id.client") && error.contains("hexadecimal"), "{error}");
    }
}

#[test]
fn a_prefix_ends_before_the_next_one() {
    let end = |json: &str| match read::<Keys>(json) {
        Keys::Range { to, .. } => to,
        Keys::One(_) => panic!("a range"),
    };
    assert_eq!(end(r#"{"prefix":"a/"}"#), Some(b"a0".to_vec()));
    assert_eq!(end(r#"{"prefix":{"base64":"Yf//"}}"#), Some(b"b".to_vec()));
    assert_eq!(end(r#"{"prefix":{"base64":"/w=="}}"#), None);
    assert_eq!(end(r#"{"prefix":""}"#), None);
}

#[test]
fn a_transaction_within_one_writes_if_the_inner_one_does() {
    let request = |inner: TxnOp| Request::txn(Txn { then: vec![inner], ..Txn::default() });
    let delete = Txn { then: vec![read(r#"{"op":"delete","keys":{"key":"a"}}"#)], ..Txn::default() };
    assert!(matches!(request(TxnOp::Txn(delete)), Request::Write(_)));
    assert!(matches!(request(TxnOp::Txn(Txn::default())), Request::Read(Read::Txn(_))));
}
