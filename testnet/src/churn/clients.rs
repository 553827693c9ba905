//! Clients: they write through whatever nodes run, at the scenario's rate, and note every answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use rand::RngExt;
use rand::distr::weighted::WeightedIndex;
use rand::prelude::Distribution;
use rand_chacha::ChaCha8Rng;
use starling_api::{Data, Error as ApiError, Members, Precondition};
use starling_client::Client;
use starling_sim::churn::exponential;
use starling_sim::scenario::{Keys, Workload};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::fleet::{BOOTSTRAP, Fleet, State};
use crate::error::{Error, Result};
use crate::history::{Operation, Outcome, Replica, WriteId};
use crate::network::generator;
use crate::relay::Member;
use crate::written::{key_name, list, member_name, number, value, values};

/// Keyspaces of the data types, and of values with a time to live.
pub const REGISTERS: &str = "registers";
const EXPIRING: &str = "expiring";
const COUNTERS: &str = "counters";
const SETS: &str = "sets";
/// A write without an answer is given up after this time: its node is dead, or stands still.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Writes on their way at once; further ones wait. Far above what any node's own limits let through.
const IN_FLIGHT_MAX: usize = 2000;
/// Keys that a Zipf distribution is drawn over at most; the tail beyond them weighs next to nothing.
const ZIPF_KEYS_MAX: u64 = 1 << 20;
/// Replicas read at once at the end.
const READS_AT_ONCE: usize = 8;

/// Draws what is written where.
struct Clients {
    workload: Workload,
    operations: WeightedIndex<f64>,
    zipf: Option<WeightedIndex<f64>>,
    random: ChaCha8Rng,
    /// Acknowledged puts and set members that nothing has been done to: what can be removed.
    puts: Vec<(WriteId, u64)>,
    members: Vec<(WriteId, u64)>,
}

/// What one write is.
#[derive(Clone, Debug)]
struct Order {
    operation: Operation,
    key: u64,
    client: Client,
}

/// A write that is over, and whether it was acknowledged.
type Done = (WriteId, Operation, u64, bool);

/// Writes until it is dropped.
pub async fn write(fleet: &Fleet, workload: &Workload, seed: u64) -> Result<()> {
    let mut clients = Clients::new(workload, seed)?;
    let mut in_flight: JoinSet<Done> = JoinSet::new();
    let began = Instant::now();
    let never = began + Duration::from_secs(u32::MAX.into());
    let pause = |random: &mut ChaCha8Rng| Duration::from_secs_f64(exponential(random) / workload.writes_s);
    let mut next = if workload.writes_s > 0.0 { began } else { never };
    let mut burst = workload.burst.map_or(never, |burst| began + Duration::from_secs_f64(burst.every_s));
    loop {
        while let Some(done) = in_flight.try_join_next() {
            clients.note(&done);
        }
        if in_flight.len() >= IN_FLIGHT_MAX
            && let Some(done) = in_flight.join_next().await
        {
            clients.note(&done);
        }
        sleep_until(next.min(burst)).await;
        let mut writes = 1;
        if let Some(every) = workload.burst.filter(|_| burst <= next) {
            burst += Duration::from_secs_f64(every.every_s);
            writes = every.writes;
        } else {
            next += pause(&mut clients.random);
        }
        if let Some((node, client)) = clients.node(fleet) {
            (0..writes).for_each(|_| clients.launch(fleet, node, &client, &mut in_flight));
        }
    }
}

impl Clients {
    fn new(workload: &Workload, seed: u64) -> Result<Self> {
        let refused = |e| Error::Unsupported(format!("the scenario's workload: {e}"));
        let zipf = match workload.pick {
            Keys::Zipf(exponent) => {
                let weights = (1..=workload.keys.min(ZIPF_KEYS_MAX)).map(|i| (i as f64).powf(-exponent));
                Some(WeightedIndex::new(weights).map_err(refused)?)
            }
            Keys::Uniform | Keys::Hot(_) => None,
        };
        Ok(Self {
            operations: WeightedIndex::new(workload.mix.weights()).map_err(refused)?,
            zipf,
            workload: workload.clone(),
            random: generator(seed, 6),
            puts: Vec::new(),
            members: Vec::new(),
        })
    }

    /// A node that takes writes, as far as is known; a stopped one is a node as any other for a client.
    fn node(&mut self, fleet: &Fleet) -> Option<(Member, Client)> {
        let seats = fleet.seats();
        let writers = if self.workload.writers == 0 { seats.len() } else { self.workload.writers + 1 };
        let takes = |state| matches!(state, State::Up | State::Stopped);
        let seats = seats.into_iter().enumerate().take(writers).skip(BOOTSTRAP + 1);
        let mut open: Vec<_> = seats.filter(|(_, seat)| takes(seat.state)).collect();
        let (member, seat) = take_any(&mut open, &mut self.random)?;
        Some((member, seat.client?))
    }

    fn launch(&mut self, fleet: &Fleet, node: Member, client: &Client, in_flight: &mut JoinSet<Done>) {
        let (operation, key) = self.draw();
        let value_bytes = self.workload.value_bytes;
        let padding: String =
            (0..value_bytes).map(|_| char::from(self.random.sample(rand::distr::Alphanumeric))).collect();
        let ttl = Duration::from_secs_f64(self.workload.ttl_s);
        let ttl_ms = (operation == Operation::PutExpiring).then_some(ttl.as_millis() as u64);
        let order = Order { operation, key, client: client.clone() };
        let fleet = fleet.clone();
        in_flight.spawn(async move {
            let id = fleet.history().send(operation, key, node);
            let value = value(id, &padding);
            let answer = tokio::time::timeout(ANSWER_DEADLINE, order.send(id, value, ttl_ms)).await;
            let mut history = fleet.history();
            let at = history.now();
            let outcome = match answer {
                Ok(Ok(removed)) => Outcome::Acknowledged { at, removed },
                Ok(Err(error)) if error.is_answer() => Outcome::Refused,
                Ok(Err(_)) | Err(_) => Outcome::Unanswered,
            };
            history.writes[id].outcome = outcome;
            (id, operation, key, matches!(outcome, Outcome::Acknowledged { .. }))
        });
    }

    /// Remembers what can be removed later.
    fn note(&mut self, done: &Result<Done, JoinError>) {
        match done {
            Ok((id, Operation::Put, key, true)) => self.puts.push((*id, *key)),
            Ok((id, Operation::SetAdd, key, true)) => self.members.push((*id, *key)),
            _ => {}
        }
    }

    /// What the next write does, and to which key. A removal is of something that was acknowledged.
    fn draw(&mut self) -> (Operation, u64) {
        let key = self.key();
        match self.operations.sample(&mut self.random) {
            0 => (Operation::Put, key),
            1 => match take_any(&mut self.puts, &mut self.random) {
                Some((_, key)) => (Operation::Delete, key),
                None => (Operation::Put, key),
            },
            2 => (Operation::PutExpiring, key),
            3 => (Operation::Increment, key),
            4 => (Operation::SetAdd, key),
            _ => match take_any(&mut self.members, &mut self.random) {
                Some((id, key)) => (Operation::SetRemove(id), key),
                None => (Operation::SetAdd, key),
            },
        }
    }

    fn key(&mut self) -> u64 {
        let keys = self.workload.keys;
        match (self.workload.pick, &self.zipf) {
            (_, Some(zipf)) => zipf.sample(&mut self.random) as u64,
            (Keys::Hot(share), None) if self.random.random_bool(share) => 0,
            _ => self.random.random_range(0..keys),
        }
    }
}

fn take_any<T>(from: &mut Vec<T>, random: &mut ChaCha8Rng) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(random.random_range(0..from.len())))
}

impl Order {
    /// Sends it; says how many values or members it removed.
    async fn send(&self, id: WriteId, value: String, ttl_ms: Option<u64>) -> Result<u64, ApiError> {
        let (client, key) = (&self.client, key_name(self.key).into_bytes());
        match self.operation {
            Operation::Put | Operation::PutExpiring => {
                let keyspace = if ttl_ms.is_some() { EXPIRING } else { REGISTERS };
                let put = client.put(keyspace, &key, value.into_bytes(), ttl_ms, &Precondition::Any);
                put.await.map(|_| 0)
            }
            Operation::Delete => client.delete(REGISTERS, &key, &Precondition::Any).await,
            Operation::Increment => client.increment(COUNTERS, &key, 1).await.map(|_| 0),
            Operation::SetAdd => {
                let members = Members { add: vec![member_name(id).into()], ..Members::default() };
                client.update_set(SETS, &key, &members).await.map(|_| 0)
            }
            Operation::SetRemove(of) => {
                let members = Members { remove: vec![member_name(of).into()], ..Members::default() };
                client.update_set(SETS, &key, &members).await
            }
        }
    }
}

/// Reads everything that the running replicas hold, each at itself.
pub async fn read_all(fleet: &Fleet) -> Result<BTreeMap<Member, Replica>> {
    let seats = fleet.seats();
    let running = fleet.replicas(State::Up);
    let reads = running.into_iter().filter_map(|member| Some((member, seats[member].client.clone()?)));
    let reads = stream::iter(reads).map(|(member, client)| async move {
        let failed = |source| Error::Api { name: format!("n{member:02}"), source };
        Ok((member, read(&client).await.map_err(failed)?))
    });
    reads.buffer_unordered(READS_AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

async fn read(client: &Client) -> Result<Replica, ApiError> {
    let mut replica = Replica::default();
    for (key, data) in list(client, REGISTERS).await? {
        replica.registers.entry(key).or_default().extend(values(&data));
    }
    for (key, data) in list(client, COUNTERS).await? {
        if let Data::Counter(counter) = data {
            replica.counters.insert(key, counter.value.0);
        }
    }
    for (key, data) in list(client, SETS).await? {
        let Data::Set(mut page) = data else { continue };
        let members = replica.sets.entry(key).or_default();
        loop {
            members
                .extend(page.members.iter().filter_map(|name| number::<WriteId>(name.0.strip_prefix(b"m")?)));
            let Some(next) = page.next else { break };
            let Some(more) = client.members(SETS, key_name(key).as_bytes(), Some(&next)).await? else {
                break;
            };
            page = more;
        }
    }
    Ok(replica)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_picked_as_the_scenario_says() {
        let picks = |pick| {
            let workload = Workload { keys: 100, pick, ..Workload::default() };
            let mut clients = Clients::new(&workload, 1).expect("valid");
            let mut counts = vec![0; 100];
            (0..10_000).for_each(|_| counts[clients.key() as usize] += 1);
            counts
        };
        let hot = picks(Keys::Hot(0.5));
        assert!((4_700..5_400).contains(&hot[0]) && hot[1] < 120, "{hot:?}");
        let zipf = picks(Keys::Zipf(1.0));
        // The first of 100 keys weighs 1 / H(100) = 0.193.
        assert!((1_750..2_100).contains(&zipf[0]) && zipf[0] > zipf[9] * 5, "{zipf:?}");
        assert!(picks(Keys::Uniform).iter().all(|count| (40..180).contains(count)));
    }
}
