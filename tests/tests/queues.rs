//! Work queues, by their commands and over HTTP, on real processes.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};
use starling_tests::{KEYSPACE, Node, Running, flock, http_client, led, wait_until};

/// Arguments with the keyspace and the queue in front.
fn queue<'a>(command: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["-k", KEYSPACE, "--output", "json", "queue", command, "jobs"], args].concat()
}

async fn single() -> Node {
    let node = Node::up("node").started().await;
    node.run(["keyspace", "create", KEYSPACE, "--strong", "--voters", "1"]).ok();
    node
}

fn push(node: &Node, item: &str) {
    node.run(queue("push", &[item])).ok();
}

fn stats(node: &Node) -> Value {
    node.run(queue("stats", &[])).json()
}

/// Reserves an item for at least this time. Returns its receipt, its value and how often it was reserved.
fn reserve(node: &Node, time: &str) -> (String, String, u64) {
    let item: Value = node.run(queue("reserve", &["--for", time, "--wait", "30s"])).json();
    let text = |field: &str| item[field].as_str().expect("text").to_owned();
    (text("receipt"), text("value"), item["attempts"].as_u64().expect("a number"))
}

#[tokio::test]
async fn an_item_comes_back_unless_it_is_acknowledged_and_is_dead_in_the_end() {
    let node = single().await;
    node.run(queue("rules", &["--attempts", "2"])).ok();
    push(&node, "letter");
    let (first, value, _) = reserve(&node, "5s");
    assert_eq!(value, "letter");
    node.run(queue("reserve", &[])).exits(3).says("no item that can be taken");
    let (second, _, attempts) = reserve(&node, "60s");
    assert_eq!(attempts, 2, "the first reservation has ended");
    node.run(queue("ack", &[&first])).exits(4).says("has ended");
    node.run(queue("touch", &[&second])).ok();
    let returned: Value = node.run(queue("nack", &[&second, "--delay", "1s"])).json();
    assert_eq!(returned["standing"], "dead");
    node.run(queue("nack", &[&second])).exits(4);
    assert_eq!(node.run(queue("retry", &[])).json::<Value>()["revived"], 1);
    let (third, ..) = reserve(&node, "60s");
    let effect = r#"[{"op":"put","key":"sent","value":"letter"}]"#;
    node.run(queue("ack", &[&third, "--then", effect])).ok();
    node.run(queue("ack", &[&third, "--then", effect])).exits(4);
    let sent: Value = node.run(["-k", KEYSPACE, "get", "sent", "--output", "json"]).json();
    assert_eq!(sent["version"], 1, "the effect is applied once");
    assert_eq!(stats(&node)["ready"], 0);
}

#[tokio::test]
async fn an_empty_queue_is_asked_without_an_entry_in_the_log() {
    let node = single().await;
    let entries = async || led(&node).await.log_index;
    let before = entries().await;
    for _ in 0..5 {
        node.run(queue("reserve", &[])).exits(3);
        node.run(queue("pop", &[])).exits(3);
    }
    // A new leader writes one of its own.
    let after = entries().await;
    assert!(after - before <= 1, "{before} entries before ten requests, {after} after them");
}

#[tokio::test]
async fn delayed_and_repeated_items_and_batches_are_pushed_as_asked() {
    let node = single().await;
    let once = || node.run(queue("push", &["mail 7", "--unique", "7"])).json::<Value>();
    let (first, second) = (once(), once());
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["key"], second["key"]);
    node.run(queue("push", &["later", "--delay", "5s", "--priority", "1"])).ok();
    assert_eq!((stats(&node)["ready"].clone(), stats(&node)["delayed"].clone()), (json!(1), json!(1)));
    wait_until("the delay is over", async || match stats(&node)["ready"].as_u64() {
        Some(2) => Ok(()),
        ready => Err(format!("{ready:?} are ready")),
    })
    .await;
    let next: Value = node.run(queue("peek", &[])).json();
    assert_eq!((&next["value"], &next["priority"]), (&json!("later"), &json!(1)));
    let lines = (0..70).map(|at| format!("line {at:02}")).collect::<Vec<_>>().join("\n");
    let pushed: Value =
        node.run_with(queue("push", &["--lines", "--priority", "0"]), lines.as_bytes()).json();
    assert_eq!(pushed["pushed"], 70);
    let batch = node.run(queue("reserve", &["--max", "32"])).ok();
    let values =
        batch.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["value"].clone());
    let expected = (0..32).map(|at| json!(format!("line {at:02}")));
    assert!(values.eq(expected), "{batch}");
}

#[tokio::test]
async fn workers_that_are_killed_lose_no_item_and_the_others_say_when_all_is_done() {
    const ITEMS: usize = 40;
    let nodes = flock().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let lines = (0..ITEMS).map(|at| at.to_string()).collect::<Vec<_>>().join("\n");
    nodes[3].run_with(queue("push", &["--lines"]), lines.as_bytes()).ok();
    // The first attempt of some items never ends: its worker has to be killed.
    let script = "read item; echo $item >>\"$1/begun\"; \
                  if [ $STARLING_ITEM_ATTEMPTS = 1 ] && [ $((item % 10)) = 0 ]; then exec sleep 1000; fi; \
                  mkdir \"$1/$item\" || exit 99";
    let dir_name = dir.path().to_str().expect("text");
    let work = queue("work", &[]);
    let (with_queue, _) = work.split_at(work.len() - 1);
    let work = |more: &[&'static str]| -> Vec<String> {
        let command = ["jobs", "--", "sh", "-c", script, "sh", dir_name];
        let args = with_queue.iter().chain(["--for", "5s", "--jobs", "4"].iter()).chain(more).chain(&command);
        args.map(ToString::to_string).collect()
    };
    let mut doomed: Running = nodes[0].begin(work(&[]));
    let begun = || std::fs::read_to_string(dir.path().join("begun")).unwrap_or_default();
    wait_until("the worker has four items that never end", async || {
        let stuck: BTreeSet<String> =
            begun().lines().filter(|item| item.ends_with('0')).map(ToOwned::to_owned).collect();
        if stuck.len() == 4 { Ok(()) } else { Err(format!("{stuck:?}")) }
    })
    .await;
    doomed.signal(Signal::KILL);
    doomed.ended().await;
    let mut workers: Vec<Running> = (1..3).map(|at| nodes[at].begin(work(&["--until-empty"]))).collect();
    let mut done = 0;
    for worker in &mut workers {
        let ended = worker.ended().await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let tally: Value = serde_json::from_str(&worker.next_line()).expect("JSON");
        done += tally["done"].as_u64().expect("a number");
        assert_eq!(tally["lost"], 0, "{tally}");
    }
    assert!(done >= 4, "{done} were left by the worker that was killed");
    let made = (0..ITEMS).filter(|item| dir.path().join(item.to_string()).is_dir()).count();
    assert_eq!(made, ITEMS, "each item is done");
    let left = stats(&nodes[3]);
    assert_eq!(
        [&left["ready"], &left["reserved"], &left["delayed"]],
        [0, 0, 0].map(|none| json!(none)).each_ref()
    );
}

#[tokio::test]
async fn a_worker_returns_what_fails_and_ends_with_the_signal_that_it_gets() {
    let node = single().await;
    node.run(queue("rules", &["--attempts", "2"])).ok();
    push(&node, "bad");
    push(&node, "good");
    let script = "read item; test $item = good";
    let command = ["--until-empty", "--retry-after", "1s", "--", "sh", "-c", script];
    let work: Vec<&str> = ["-k", KEYSPACE, "queue", "work", "jobs"].into_iter().chain(command).collect();
    node.run(work).exits_noted(1).says("1 dead letter");
    push(&node, "long");
    assert_eq!(node.run(queue("work", &["--", "/nonexistent/command"])).code, 127);
    let mut worker = node.begin(queue("work", &["--", "sh", "-c", "echo begun >&2; exec sleep 1000"]));
    wait_until("it has the item", async || match stats(&node)["reserved"].as_u64() {
        Some(1) => Ok(()),
        reserved => Err(format!("{reserved:?}")),
    })
    .await;
    // The command may not have begun yet: then it never does.
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().await.code, 143);
    let left = stats(&node);
    assert_eq!(left["reserved"], 0, "what it had is returned: {left}");
}

#[tokio::test]
async fn the_order_of_a_queue_is_that_of_its_rules() {
    let node = single().await;
    for (item, cost, tenant) in [("a", "9s", "ann"), ("b", "1s", "ann"), ("c", "5s", "bob")] {
        node.run(queue("push", &[item, "--cost", cost, "--tenant", tenant])).ok();
    }
    let order = |name: &str| {
        node.run(queue("rules", &["--order", name, "--ageing", "0"])).ok();
        let items = node.run(queue("peek", &["--max", "3"])).ok();
        let value = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["value"].clone();
        items.lines().map(|line| value(line).as_str().expect("text").to_owned()).collect::<String>()
    };
    assert_eq!(["arrival", "shortest", "longest"].map(order), ["abc", "bca", "acb"]);
    // In turn: after an item of ann's it is bob's turn.
    node.run(queue("rules", &["--order", "tenants"])).ok();
    let items: Vec<String> = (0..3).map(|_| reserve(&node, "60s").1).collect();
    assert_eq!(items, ["a", "c", "b"]);
}

#[tokio::test]
async fn queues_are_used_over_http_with_the_same_items() {
    let node = single().await;
    let (client, url) = (http_client(), format!("http://{}/v1/strong/{KEYSPACE}/queue", node.api()));
    let call = async |mut body: Value| -> (u16, Value) {
        body["queue"] = json!("jobs");
        let answer = client.post(&url).json(&body).send().await.expect("is answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    };
    let (status, pushed) =
        call(json!({"op": "push", "items": [{"value": "a"}, {"value": "b", "priority": 1}]})).await;
    assert_eq!((status, pushed["items"].as_array().map(Vec::len)), (200, Some(2)), "{pushed}");
    push(&node, "c");
    let (_, reserved) = call(json!({"op": "reserve", "max": 2, "visible_ms": 60_000})).await;
    let items = reserved["items"].as_array().expect("a list");
    assert_eq!([&items[0]["value"], &items[1]["value"]], ["b", "a"].map(|value| json!(value)).each_ref());
    let (status, touched) = call(json!({"op": "touch", "receipt": items[0]["receipt"]})).await;
    assert_eq!((status, &touched["ms"]), (200, &json!(60_000)));
    let then = json!([{"op": "put", "key": "done/b", "value": "1"}]);
    let (status, acked) = call(json!({"op": "ack", "receipts": [items[0]["receipt"]], "then": then})).await;
    assert_eq!((status, &acked["result"]), (200, &json!("acknowledged")), "{acked}");
    let (status, error) = call(json!({"op": "ack", "receipts": [items[0]["receipt"]]})).await;
    assert_eq!((status, &error["error"]), (409, &json!("conflict")));
    let (_, returned) = call(json!({"op": "nack", "receipts": [items[1]["receipt"]]})).await;
    assert_eq!(returned["items"], json!(["ready"]));
    let (_, counted) = call(json!({"op": "stats"})).await;
    assert_eq!((&counted["ready"], &counted["reserved"]), (&json!(2), &json!(0)));
    for wrong in [
        json!({"op": "reserve", "max": 33}),
        json!({"op": "push", "items": []}),
        json!({"op": "push", "items": [{"value": "a", "tenant": "a/b"}]}),
        json!({"op": "ack", "receipts": [{"key": "elsewhere", "token": 1, "lease": 1}]}),
    ] {
        let (status, error) = call(wrong.clone()).await;
        assert_eq!((status, &error["error"]), (400, &json!("invalid")), "{wrong}");
    }
    // A client waits for an item that is pushed meanwhile.
    let waits = call(json!({"op": "reserve", "max": 32, "wait_ms": 0}));
    assert_eq!(waits.await.1["items"].as_array().map(Vec::len), Some(2));
    let push_soon = async {
        wait_until("nothing is free", async || {
            if stats(&node)["ready"] == 0 { Ok(()) } else { Err(stats(&node).to_string()) }
        })
        .await;
        push(&node, "d");
    };
    let waiting = call(json!({"op": "reserve", "wait_ms": 30_000}));
    let ((status, waited), ()) = tokio::join!(waiting, push_soon);
    assert_eq!((status, &waited["items"][0]["value"]), (200, &json!("d")));
}
