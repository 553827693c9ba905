//! Keys, values and names in many scripts and both directions, written through each front end and read through all others (the 10-18
//! monkey of the Simian Army, after localization, l10n, and internationalization, i18n).

use starling_api::Precondition;
use starling_client::Keyspace;
use starling_tests::{KEYSPACE, Node, etcdctl, flock, pair};

/// Words of scripts that are written to the right and to the left, without cases, with cases that change the length, joined from
/// several characters, beyond the first plane, with what sets their direction, and of one that has two encodings.
const TEXTS: [&str; 12] = [
    "ключ",
    "κλειδίς",
    "مفتاح 42",
    "מפתח",
    "鍵",
    "열쇠",
    "कुंजी",
    "İıßﬁ",
    "🗝️👩‍👩‍👧",
    "e\u{301} and é",
    "a\u{202e}b\u{2066}c\u{2069}",
    "zero\u{200b}width\u{feff}",
];

fn value_of(text: &str) -> String {
    format!("{text} = {text}")
}

#[tokio::test]
async fn eventual_keys_and_values_of_any_script_are_the_same_through_the_command_line_and_http() {
    let (a, b) = pair().await;
    for (at, text) in TEXTS.into_iter().enumerate() {
        let value = value_of(text);
        if at % 2 == 0 {
            a.run(["put", text, &value]).exits(0);
        } else {
            let put =
                a.client().put("default", text.as_bytes(), value.clone().into(), None, &Precondition::Any);
            put.await.expect("a node");
        }
    }
    starling_tests::equal(&[&a, &b]).await;
    for text in TEXTS {
        assert_eq!(b.run(["get", text]).ok(), value_of(text));
        let found = b.client().get_raw("default", text.as_bytes()).await.expect("a node").expect(text);
        assert_eq!(found.bytes, value_of(text).as_bytes());
    }
    // What looks the same in two encodings is two keys.
    let twins = b.client().get_raw("default", "é and é".as_bytes()).await.expect("a node");
    assert!(twins.is_none(), "nothing is normalized");
}

#[tokio::test]
async fn strong_keys_and_values_of_any_script_are_the_same_through_all_three_front_ends() {
    let nodes = flock().await;
    let (a, outsider) = (&nodes[0], &nodes[3]);
    for (at, text) in TEXTS.into_iter().enumerate() {
        let value = value_of(text);
        match at % 3 {
            0 => drop(a.run(["put", "-k", KEYSPACE, text, &value]).exits(0)),
            1 => {
                let keyspace = Keyspace::new(a.client().clone(), KEYSPACE);
                keyspace.put(text, value.as_str()).await.expect("a majority");
            }
            _ => assert!(etcdctl(a, &["put", text, &value]).output().expect("etcdctl runs").status.success()),
        }
    }
    for text in TEXTS {
        assert_eq!(outsider.run(["get", "-k", KEYSPACE, text]).ok(), value_of(text));
        let keyspace = Keyspace::new(outsider.client().clone(), KEYSPACE);
        let (_, found) = keyspace.get(text.as_bytes()).await.expect("a majority");
        assert_eq!(found.expect(text).value, value_of(text).as_bytes());
        let got = etcdctl(outsider, &["get", "--print-value-only", text]).output().expect("etcdctl runs");
        assert_eq!(String::from_utf8_lossy(&got.stdout).trim_end_matches('\n'), value_of(text));
    }
}

#[tokio::test]
async fn a_node_has_a_name_of_any_script_and_others_show_it() {
    let a = Node::up("узел-أ").started().await;
    let b = Node::up("鍵").join(&a.ticket().await.to_string()).started().await;
    starling_tests::joined(&[&a, &b]).await;
    assert_eq!(a.status().await.name, "узел-أ");
    assert!(b.run(["peers"]).ok().contains("узел-أ") && a.run(["nodes"]).ok().contains("鍵"));
}
