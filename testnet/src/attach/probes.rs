//! This program's own writes, in a keyspace of its own, which expire whatever happens to this program.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_api::Error as ApiError;
use starling_api::Precondition;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::fleet::Fleet;
use crate::history::{Operation, Outcome, Replica, WriteId};
use crate::written::{key_name, list, value, values};

/// The name of probes among the operations whose availability is reported.
const PUT: &str = "put";
/// A probe that is not answered within this time has failed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Probes live for so much longer than they are measured: nodes forget them, should this program not delete them.
const MARGIN: Duration = Duration::from_secs(300);
/// Probes awaiting their answers at once; further ones are left out.
const IN_FLIGHT_MAX: usize = 200;
/// How often nodes are asked whether they hold every probe.
const POLL: Duration = Duration::from_millis(200);
/// The prefix of all keys of probes.
const PREFIX: &[u8] = b"k";

/// Probes of one run.
#[derive(Clone, Debug)]
pub struct Probes {
    /// A keyspace that nothing else uses.
    pub keyspace: String,
    /// Probes a second, through every node in turn.
    pub writes_s: f64,
    /// Bytes of a value, at least as many as its number has.
    pub value_bytes: usize,
    /// For how long they are written.
    pub seconds: Duration,
}

impl Probes {
    /// A keyspace name that no other one has: this program draws it.
    pub fn keyspace() -> String {
        format!("testnet-attach-{:016x}", rand::random::<u64>())
    }

    /// Writes until it is dropped.
    pub async fn write(&self, fleet: &Fleet) {
        let padding = "x".repeat(self.value_bytes);
        let mut ticks = interval(Duration::from_secs_f64(1.0 / self.writes_s));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_flight = JoinSet::new();
        for number in 0.. {
            ticks.tick().await;
            while in_flight.try_join_next().is_some() {}
            if in_flight.len() < IN_FLIGHT_MAX {
                let (probes, fleet, padding) = (self.clone(), fleet.clone(), padding.clone());
                let node = number % fleet.nodes.len();
                in_flight.spawn(async move { probes.put(&fleet, node, &padding).await });
            }
        }
    }

    /// One probe through one node. Its times are those at the node: half of a round trip after it was sent, and before the
    /// answer came.
    async fn put(&self, fleet: &Fleet, node: usize, padding: &str) {
        let client = &fleet.nodes[node].client;
        let id = {
            let mut learned = fleet.learned();
            let key = learned.history.writes.len() as u64;
            learned.history.send(Operation::Put, key, node)
        };
        let ttl_ms = (self.seconds + MARGIN).as_millis() as u64;
        let (key, text) = (key_name(id as u64).into_bytes(), value(id, padding).into_bytes());
        let put = client.put(&self.keyspace, &key, text, Some(ttl_ms), &Precondition::Any);
        let answer = timeout(ANSWER_DEADLINE, put).await;
        let one_way = fleet.one_way(node);
        let mut learned = fleet.learned();
        let now = learned.history.now();
        let write = &mut learned.history.writes[id];
        let (start, succeeded) = (write.sent, matches!(answer, Ok(Ok(_))));
        let took = now.saturating_sub(start).saturating_sub(2 * one_way);
        write.sent = start + one_way;
        write.outcome = match answer {
            Ok(Ok(_)) => Outcome::Acknowledged { at: write.sent + took, removed: 0 },
            Ok(Err(error)) if error.is_answer() => Outcome::Refused,
            Ok(Err(_)) | Err(_) => Outcome::Unanswered,
        };
        learned.availabilities.note(node, PUT, [start.as_micros() as u64, now.as_micros() as u64], succeeded);
    }

    /// Reads the probes at every node that answers, again until all hold the same or the time is over.
    pub async fn read(&self, fleet: &Fleet, limit: Duration) -> BTreeMap<usize, Replica> {
        let began = tokio::time::Instant::now();
        loop {
            let read = fleet.nodes.iter().enumerate().map(async |(node, it)| {
                let found = list(&it.client, &self.keyspace).await.ok()?;
                Some((node, Replica { registers: registers(found), ..Replica::default() }))
            });
            let replicas: BTreeMap<usize, Replica> =
                futures::future::join_all(read).await.into_iter().flatten().collect();
            let mut all = replicas.values();
            let is_equal = all.next().is_none_or(|first| all.all(|other| other == first));
            if is_equal || began.elapsed() > limit {
                return replicas;
            }
            sleep(POLL).await;
        }
    }

    /// Deletes all probes, through the first node that does it.
    pub async fn clean_up(&self, fleet: &Fleet) -> Result<u64, ApiError> {
        let mut result = Ok(0);
        for node in fleet.nodes.iter() {
            result = node.client.delete_prefix(&self.keyspace, PREFIX).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

fn registers(found: Vec<(u64, starling_api::Data)>) -> BTreeMap<u64, Vec<WriteId>> {
    found.into_iter().map(|(key, data)| (key, values(&data))).collect()
}
