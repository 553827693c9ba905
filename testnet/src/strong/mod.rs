//! `testnet strong`: a strong keyspace on real processes, whose voters are killed and stopped while clients
//! do everything that can be done; then every answer is checked.

mod actors;
mod asking;
mod faults;
mod judge;
mod members;
mod registers;
mod report;
mod settle;
mod tally;
mod watchers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use starling_api::strong::{CreateKeyspace, Write};
use starling_history::{Call, Locker, Queuer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::Common;
use crate::error::{Error, Result};
use crate::network::{generator, wait_until};
use crate::progress::Phase;
use crate::show::start;
use actors::{LockClient, QueueClient};
use asking::{Asker, Fate, Manner};
use judge::{Histories, judge};
use members::Members;
use registers::RegisterClient;
use report::{Outcome, Ran};
use tally::Tally;
use watchers::{Ends, Watcher};

/// The keyspace.
const KEYSPACE: &str = "orders";
/// Clients of the lock, of the queue, and watchers by what they watch.
const LOCKERS: u64 = 3;
const QUEUERS: u64 = 2;
const WATCHED: [&[u8]; 5] = [b"", b"", b"r", b"lock", b"queue"];
/// Everything before the faults, and everything after them, has to come about within this time.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How often it is looked who leads.
const LEADER_POLL: Duration = Duration::from_millis(200);
/// Random generators by purpose; those of clients follow.
const FAULTS_STREAM: u64 = 8;
const CLIENTS_STREAM: u64 = 100;

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Number of voters: 3 or 5. One more node is outside of the group, or as many as --nodes leaves
    #[arg(long, default_value_t = 3, value_parser = parse_voters)]
    voters: usize,
    /// Time during which faults happen
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Milliseconds between two faults, on average
    #[arg(long, default_value_t = 2_000)]
    fault_ms: u64,
    /// Clients that write and read registers, in addition to those of the lock and the queue
    #[arg(long, default_value_t = 8)]
    clients: u32,
}

fn parse_voters(text: &str) -> std::result::Result<usize, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("3 or 5 nodes vote".into()),
    }
}

impl Options {
    /// Runs it and prints its report; an error if a promise was broken.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let plan = common.plan(self.voters + 1)?;
        if plan.nodes <= self.voters {
            return Err(Error::Unsupported(format!(
                "{} nodes, of which {} vote, leave none outside of the group: add  --nodes {}",
                plan.nodes,
                self.voters,
                self.voters + 1
            )));
        }
        let (network, _) = start(&plan).await?;
        let members = Members::of(network, self.voters)?;
        create(&members).await?;
        let outcome = self.drive(&members, common.seed).await?;
        common.output.print(&outcome.report());
        let again = format!(
            "./testnet/run strong --voters {} --nodes {} --seconds {} --fault-ms {} --clients {} --seed {}",
            self.voters, plan.nodes, self.seconds, self.fault_ms, self.clients, common.seed
        );
        outcome.verdict(&again)
    }

    /// Clients and faults, then peace, then the checks.
    async fn drive(&self, members: &Members, seed: u64) -> Result<Outcome> {
        let tally = Tally::begin();
        let mut clients = Clients::begin(members, &tally, seed, self.clients);
        let phase = Phase::begin(format!("killing and stopping voters for {} s", self.seconds), 0);
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let every = Duration::from_millis(self.fault_ms);
        let faults = faults::run(members, &tally, generator(seed, FAULTS_STREAM), every, end);
        tokio::select! {
            ended = faults => ended?,
            never = follow_leaders(members, &tally) => never,
        }
        let minority = members.minority();
        phase.done(format!("{} writes", tally.counts().writes));

        let phase = Phase::begin("everybody is back: every node has to take a write", 0);
        let recovery = settle::progress(members).await?;
        phase.done("");
        let phase = Phase::begin("clients end, leases run out, watches are told the rest", 0);
        let histories = clients.end(members).await?;
        phase.done(format!("{} calls", histories.calls.len()));
        let phase = Phase::begin("checking every answer", 0);
        let counts = tally.counts();
        let verdicts = judge(&histories, &counts.notes);
        phase.done("");
        let (voters, nodes) = (self.voters, members.count());
        let ran = Ran { voters, nodes, seed, counts, minority, recovery };
        Ok(Outcome::new(ran, &histories, verdicts))
    }
}

/// Makes the keyspace on the first nodes, and waits until every node serves it.
async fn create(members: &Members) -> Result<()> {
    let phase =
        Phase::begin(format!("a strong keyspace on {} of {} nodes", members.voters(), members.count()), 0);
    let on = (0..members.voters()).map(|voter| members.name(voter)).collect();
    let create = CreateKeyspace { name: KEYSPACE.into(), voters: members.voters() as u8, on, manual: false };
    let outsider = members.count() - 1;
    let client = settle::client(members, outsider)?;
    // It has to have heard of the others.
    wait_until("the keyspace is made", DEADLINE, POLL, async || {
        Ok(match client.create_keyspace(&create).await {
            Ok(_) => None,
            Err(error) if error.code == starling_api::ErrorCode::Conflict => None,
            Err(error) => Some(error.to_string()),
        })
    })
    .await?;
    settle::progress(members).await?;
    phase.done("");
    Ok(())
}

/// Notes who leads, for ever.
async fn follow_leaders(members: &Members, tally: &Tally) {
    let mut ticks = interval(LEADER_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for info in members.infos().await {
            let Some(leader) = info.leader.as_deref().and_then(|name| members.called(name)) else { continue };
            tally.count(|counts| {
                let known = *counts.leaders.entry(info.term).or_insert(leader);
                if known != leader {
                    let [one, two] = [known, leader].map(|node| members.name(node));
                    counts.note(format!("term {} has two leaders: {one} and {two}", info.term));
                }
            });
        }
    }
}

/// What a client leaves behind.
enum Ended {
    Calls(Vec<Call>),
    Locker(Locker),
    Queuer(Queuer),
}

/// All clients of a run. They end when this is dropped.
struct Clients {
    tasks: JoinSet<Ended>,
    watchers: JoinSet<(usize, Watcher)>,
    stop: Arc<AtomicBool>,
    last: watch::Sender<Ends>,
    /// For what is asked in the end.
    asker: Asker,
}

impl Clients {
    fn begin(members: &Members, tally: &Tally, seed: u64, registers: u32) -> Self {
        let (stop, (last, end)) = (Arc::new(AtomicBool::new(false)), watch::channel(None));
        let mut stream = CLIENTS_STREAM;
        let mut random = || {
            stream += 1;
            generator(seed, stream)
        };
        let mut asker = || Asker::new(members.clone(), tally.clone(), random());
        let mut tasks = JoinSet::new();
        for number in 1..=registers {
            let (client, stop) = (RegisterClient::new(number, asker()), Arc::clone(&stop));
            tasks.spawn(async { Ended::Calls(client.run(stop).await) });
        }
        for number in 1..=LOCKERS {
            let (client, stop) = (LockClient::new(number, asker()), Arc::clone(&stop));
            tasks.spawn(async { Ended::Locker(client.run(stop).await) });
        }
        for number in 1..=QUEUERS {
            let (client, stop) = (QueueClient::new(number, asker()), Arc::clone(&stop));
            tasks.spawn(async { Ended::Queuer(client.run(stop).await) });
        }
        let asker = asker();
        let mut watchers = JoinSet::new();
        for (number, prefix) in WATCHED.into_iter().enumerate() {
            let watcher = Watcher::new(number, prefix, members.clone(), tally.clone(), random());
            let end = end.clone();
            watchers.spawn(async move { (number, watcher.run(end).await) });
        }
        Self { tasks, watchers, stop, last, asker }
    }

    /// Lets them end; returns what they recorded, and what every replica holds then.
    async fn end(&mut self, members: &Members) -> Result<Histories> {
        let mut histories = Histories::default();
        self.stop.store(true, Ordering::Relaxed);
        self.asker.tally.count(|counts| counts.is_over = true);
        let broken = |error| Error::Broken(format!("a client ended: {error}"));
        while let Some(ended) = self.tasks.join_next().await {
            match ended.map_err(broken)? {
                Ended::Calls(calls) => histories.calls.extend(calls),
                Ended::Locker(locker) => histories.lockers.push(locker),
                Ended::Queuer(queuer) => histories.queuers.push(queuer),
            }
        }
        settle::leases_end(members).await?;
        let ends = self.mark().await?;
        self.last.send_replace(Some(Arc::new(ends)));
        let mut ended = BTreeMap::new();
        let told = async {
            while let Some(watcher) = self.watchers.join_next().await {
                let (number, watcher) = watcher.map_err(broken)?;
                ended.insert(number, watcher);
            }
            Ok::<_, Error>(())
        };
        timeout(DEADLINE, told).await.map_err(|_| Error::Deadline {
            what: "every watcher has been told everything".into(),
            missing: format!("{} of them", self.watchers.len()),
            waited: DEADLINE,
        })??;
        histories.watchers = ended.into_values().collect();
        histories.states = settle::states(members).await?;
        Ok(histories)
    }

    /// Every watcher is told one change more, which is the last one for it; those of everything are told all of
    /// these.
    async fn mark(&mut self) -> Result<BTreeMap<&'static [u8], u64>> {
        let mut ends = BTreeMap::new();
        for prefix in WATCHED.into_iter().filter(|prefix| !prefix.is_empty()) {
            let request = Write::Put(settle::mark(prefix)).into();
            let asked = self.asker.ask("mark at the end", Manner::Named, request, None).await;
            let Fate::Done(answer) = asked.fate else {
                return Err(Error::Broken(format!("the last writes come to nothing: {:?}", asked.fate)));
            };
            ends.extend([(prefix, answer.revision), (b"".as_slice(), answer.revision)]);
        }
        Ok(ends)
    }
}
