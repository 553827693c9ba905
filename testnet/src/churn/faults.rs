//! What is done to the network: the scenario's steps and its churn, in real time.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, future};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use starling_report::Healing;
use starling_sim::churn::{
    Comeback, End, Traced, comeback, end, exponential, read_trace, weibull, weibull_left,
};
use starling_sim::scenario::{Action, ChurnModel, Release, Scenario, Selection, Step};
use tokio::time::{Instant, sleep_until};

use super::fleet::{Away, BOOTSTRAP, Disk, Fleet, State};
use super::links::{Cut, Paths};
use super::overlay::one_component;
use crate::error::{Error, Result};
use crate::lock;
use crate::network::generator;
use crate::relay::Member;

/// Why a process is not powered off.
const NO_POWER_OFF: &str = "a process cannot lose what the kernel has; use kill";
/// Why processes are not of two releases.
const ONE_RELEASE: &str = "all processes run one program, the one of --binary";

/// The faults of one run, from the beginning of the measured time to its end.
pub struct Faults<'s> {
    scenario: &'s Scenario,
    fleet: &'s Fleet,
    paths: Mutex<Paths>,
    random: Mutex<ChaCha8Rng>,
    began: Instant,
    end: Instant,
    healings: Mutex<Vec<Healing>>,
}

/// An error if real processes cannot do what the scenario asks for.
pub fn check(scenario: &Scenario) -> Result<()> {
    if scenario.strong.is_some() {
        return Err(Error::Unsupported(
            "clients of a strong keyspace are simulated only here. Run it with  testnet sim".into(),
        ));
    }
    if scenario.node.release != Release::Current {
        return Err(Error::Unsupported(format!(
            "node.release: {ONE_RELEASE}. Run it with  testnet sim, or leave it out"
        )));
    }
    let unsuitable = scenario.step.iter().enumerate().find_map(|(index, step)| match &step.action {
        Action::PowerOff { .. } => Some((index, NO_POWER_OFF)),
        Action::RollingRestart { release: Some(_), .. } => Some((index, ONE_RELEASE)),
        Action::Clone { .. } => Some((index, "second processes of an identity are simulated only")),
        Action::Revoke { .. } => Some((index, "the networks of processes have no authority")),
        Action::Skew { .. } | Action::Drift { .. } => {
            Some((index, "the clocks of processes are those of their machines"))
        }
        Action::Links { drop: Some(share), .. } | Action::Links { duplicate: Some(share), .. }
            if *share > 0.0 =>
        {
            Some((index, "TCP drops and doubles no message"))
        }
        _ => None,
    });
    match unsuitable {
        Some((index, reason)) => Err(Error::Unsupported(format!(
            "step {index} ({}): {reason}. Run it with  testnet sim, or leave the step out",
            scenario.step[index].action.name()
        ))),
        None => Ok(()),
    }
}

impl<'s> Faults<'s> {
    /// The measured time begins now.
    pub fn begin(scenario: &'s Scenario, fleet: &'s Fleet, paths: Paths) -> Self {
        let began = Instant::now();
        Self {
            scenario,
            fleet,
            paths: Mutex::new(paths),
            random: Mutex::new(generator(scenario.seed, 7)),
            began,
            end: began + Duration::from_secs_f64(scenario.measure_s),
            healings: Mutex::default(),
        }
    }

    /// Does it all. At the end of the measured time everything that was to come back comes back at once,
    /// and every cut is mended.
    pub async fn run(&self) -> Result<()> {
        let steps = future::try_join_all(self.scenario.step.iter().map(|step| self.step(step)));
        let (steps, churn) = tokio::join!(steps, self.churn());
        sleep_until(self.end).await;
        let mut paths = lock(&self.paths);
        paths.mend_all();
        paths.speed_up();
        steps.and(churn)
    }

    /// Whether nodes that run may be out of each other's reach.
    pub fn hinders(&self) -> bool {
        lock(&self.paths).is_impaired() || !self.fleet.replicas(State::Stopped).is_empty()
    }

    /// What was healed, in order.
    pub fn healings(&self) -> Vec<Healing> {
        let mut healings = lock(&self.healings).clone();
        healings.sort_by_key(|healing| healing.healed_at_ms);
        healings
    }

    /// Waits, but not beyond the end of the measured time.
    async fn pause(&self, seconds: f64) {
        self.pause_until(Instant::now() + Duration::from_secs_f64(seconds)).await;
    }

    async fn pause_until(&self, at: Instant) {
        sleep_until(at.min(self.end)).await;
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        draw(&mut lock(&self.random))
    }

    async fn step(&self, step: &Step) -> Result<()> {
        let mut times = vec![step.at_s];
        if let Some(repeat) = step.repeat {
            let further = std::iter::successors(Some(step.at_s), |at_s| Some(at_s + repeat.every_s));
            times.extend(further.skip(1).take_while(|at_s| *at_s <= repeat.until_s));
        }
        let occurrences = times.into_iter().map(|at_s| async move {
            self.pause_until(self.began + Duration::from_secs_f64(at_s)).await;
            if self.is_over() { Ok(()) } else { self.act(&step.action).await }
        });
        future::try_join_all(occurrences).await.map(drop)
    }

    async fn act(&self, action: &Action) -> Result<()> {
        match action {
            Action::Partition { nodes, to, one_way, for_s } => {
                let to = to.as_ref().map(|to| self.select(to, State::Up).into_iter().collect());
                let from = self.select(nodes, State::Up).into_iter().collect();
                self.partition(Cut { from, to, one_way: *one_way }, *for_s).await;
                Ok(())
            }
            Action::Heal => {
                let were = lock(&self.paths).mend_all();
                if were {
                    self.heal("every partition mended".into()).await;
                }
                Ok(())
            }
            Action::Kill { nodes, for_s } => {
                self.away(self.select(nodes, State::Up), Away::Kill, Disk::Kept, *for_s).await
            }
            Action::Leave { nodes, for_s } => {
                self.away(self.select(nodes, State::Up), Away::Leave, Disk::Kept, *for_s).await
            }
            Action::Wipe { nodes, for_s } => {
                self.away(self.select(nodes, State::Up), Away::Kill, Disk::Wiped, Some(*for_s)).await
            }
            Action::Restart { nodes } => {
                let nodes = self.select(nodes, State::Down);
                future::try_join_all(nodes.iter().map(|n| self.fleet.start(*n, Disk::Kept))).await?;
                self.heal(format!("{} nodes restarted", nodes.len())).await;
                Ok(())
            }
            Action::Stall { nodes, for_s: [least, most] } => {
                let stalls = self.select(nodes, State::Up).into_iter().map(|node| {
                    let seconds = self.draw(|random| random.random_range(*least..=*most));
                    self.stall(node, seconds)
                });
                future::try_join_all(stalls).await.map(drop)
            }
            Action::Exhaust { nodes, for_s } => {
                let nodes = self.select(nodes, State::Up);
                let what = format!("{} nodes without descriptors for {for_s} s", nodes.len());
                let until = self.end.min(Instant::now() + Duration::from_secs_f64(*for_s));
                future::try_join_all(nodes.into_iter().map(|node| self.fleet.exhaust(node, until))).await?;
                self.heal(what).await;
                Ok(())
            }
            Action::Join { count } => {
                future::try_join_all((0..*count).map(|_| self.join())).await?;
                self.heal(format!("{count} nodes joined at once")).await;
                Ok(())
            }
            Action::Links { loss, .. } => {
                if let Some(loss) = loss {
                    lock(&self.paths).lose(*loss);
                }
                Ok(())
            }
            Action::Delay { nodes, delay_ms, for_s } => {
                let nodes = self.select(nodes, State::Up);
                lock(&self.paths).slow_down(&nodes, Duration::from_secs_f64(delay_ms / 1e3));
                self.pause(*for_s).await;
                lock(&self.paths).slow_down(&nodes, Duration::ZERO);
                self.heal(format!("{} nodes with slow links", nodes.len())).await;
                Ok(())
            }
            Action::RollingRestart { nodes, gap_s, for_s, release: _ } => {
                let visits =
                    self.select(nodes, State::Up).into_iter().enumerate().map(async |(nth, node)| {
                        self.pause(nth as f64 * gap_s).await;
                        if self.is_over() {
                            Ok(())
                        } else {
                            self.visit(node, Away::Leave, Disk::Kept, Some(*for_s)).await
                        }
                    });
                future::try_join_all(visits).await.map(drop)
            }
            Action::PowerOff { .. }
            | Action::Skew { .. }
            | Action::Drift { .. }
            | Action::Clone { .. }
            | Action::Revoke { .. }
            | Action::Rivals { .. }
            | Action::ReplaceVoter
            | Action::TransferLeader
            | Action::Forge => Ok(()),
        }
    }

    async fn partition(&self, cut: Cut, for_s: Option<f64>) {
        lock(&self.paths).cut(cut.clone());
        let Some(for_s) = for_s else { return };
        self.pause(for_s).await;
        let lasted = lock(&self.paths).mend(&cut);
        if lasted {
            let all = self.fleet.seats().len();
            let others = cut.to.as_ref().map_or(all - cut.from.len(), BTreeSet::len);
            let way = if cut.one_way { ", one way" } else { "" };
            self.heal(format!(
                "{} of {} nodes cut off for {for_s} s{way}",
                cut.from.len(),
                cut.from.len() + others
            ))
            .await;
        }
    }

    async fn join(&self) -> Result<()> {
        let member = self.fleet.add()?;
        lock(&self.paths).apply();
        self.fleet.start(member, Disk::Kept).await
    }

    async fn stall(&self, node: Member, seconds: f64) -> Result<()> {
        self.fleet.stall(node, self.end.min(Instant::now() + Duration::from_secs_f64(seconds))).await
    }

    /// Nodes go away together and, if they are to, come back together.
    async fn away(&self, nodes: Vec<Member>, how: Away, disk: Disk, for_s: Option<f64>) -> Result<()> {
        let verb = match (how, disk) {
            (Away::Leave, _) => "left",
            (Away::Kill, Disk::Kept) => "killed",
            (Away::Kill, Disk::Wiped) => "wiped",
        };
        let what = format!("{} nodes of {} {verb}", nodes.len(), self.fleet.replicas(State::Up).len());
        future::try_join_all(nodes.iter().map(|node| self.fleet.end(*node, how))).await?;
        let back = async {
            let Some(seconds) = for_s else { return Ok(()) };
            self.pause(seconds).await;
            future::try_join_all(nodes.iter().map(|node| self.fleet.start(*node, disk))).await?;
            self.heal(format!("{what}, and back")).await;
            Ok(())
        };
        tokio::join!(self.heal(what.clone()), back).1
    }

    /// One node goes away and, if it is to, comes back.
    async fn visit(&self, node: Member, how: Away, disk: Disk, for_s: Option<f64>) -> Result<()> {
        self.fleet.end(node, how).await?;
        match for_s {
            Some(seconds) => {
                self.pause(seconds).await;
                self.fleet.start(node, disk).await
            }
            None => Ok(()),
        }
    }

    /// Notes how long the network takes from now on to be one component.
    async fn heal(&self, what: String) {
        if self.is_over() {
            return;
        }
        let began = Instant::now();
        let whole = one_component(self.fleet, self.end).await;
        lock(&self.healings).push(Healing {
            what,
            healed_at_ms: (began - self.began).as_millis() as u64,
            one_component_ms: whole.map(|whole| whole.as_millis() as u64),
            equal_ms: None,
        });
    }

    /// The members that a selection names; what is drawn is drawn from the replicas in this state.
    fn select(&self, nodes: &Selection, state: State) -> Vec<Member> {
        let mut all = self.fleet.replicas(state);
        let mut drawn = |count: usize| {
            self.draw(|random| all.shuffle(random));
            all.truncate(count);
            std::mem::take(&mut all)
        };
        let replicas = self.fleet.seats().len() - 1;
        let share = |share: f64| rounded(share, replicas);
        match nodes {
            Selection::All => all,
            Selection::Seeds => vec![BOOTSTRAP],
            Selection::Share(part) => drawn(share(*part)),
            Selection::Count(count) => drawn(*count),
            Selection::Node(index) => (*index < replicas).then_some(index + 1).into_iter().collect(),
            Selection::First(part) => (1..=share(*part)).collect(),
            // There is no strong keyspace.
            Selection::Leader | Selection::Voters(_) | Selection::Followers(_) => Vec::new(),
            Selection::Region(name) => self.in_region(Some(name), all),
            Selection::AnyRegion => {
                let name = self.draw_name(self.scenario.region_names());
                self.in_region(name.as_ref(), all)
            }
            Selection::Zone(name) => self.in_zone(Some(name), all),
            Selection::AnyZone => {
                let name = self.draw_name(self.scenario.zone_names());
                self.in_zone(name.as_ref(), all)
            }
        }
    }

    fn in_region(&self, name: Option<&String>, mut members: Vec<Member>) -> Vec<Member> {
        members.retain(|member| self.fleet.region(*member).as_ref() == name);
        members
    }

    fn in_zone(&self, name: Option<&String>, mut members: Vec<Member>) -> Vec<Member> {
        members.retain(|member| self.fleet.zone(*member).as_ref() == name);
        members
    }

    fn draw_name(&self, mut names: Vec<String>) -> Option<String> {
        (!names.is_empty())
            .then(|| names.swap_remove(self.draw(|random| random.random_range(0..names.len()))))
    }

    async fn churn(&self) -> Result<()> {
        match &self.scenario.churn.model {
            ChurnModel::None => Ok(()),
            ChurnModel::Poisson { per_s, away_s } => self.poisson(1.0 / per_s, *away_s).await,
            ChurnModel::Weibull { shape, scale_s, away_shape, away_scale_s } => {
                let nodes = self.churning();
                let sessions = nodes.iter().map(|node| async move {
                    let mut session_s = scale_s * self.draw(|random| weibull_left(*shape, random));
                    while !self.is_over() {
                        self.pause(session_s).await;
                        let away_s = away_scale_s * self.draw(|random| weibull(*away_shape, random));
                        self.depart(*node, away_s).await?;
                        session_s = scale_s * self.draw(|random| weibull(*shape, random));
                    }
                    Ok(())
                });
                future::try_join_all(sessions).await.map(drop)
            }
            ChurnModel::Correlated { every_s, away_s } => {
                while !self.is_over() {
                    self.pause(every_s * self.draw(exponential)).await;
                    let Some(name) = self.draw(|random| {
                        let names = &self.scenario.regions;
                        (!names.is_empty()).then(|| names[random.random_range(0..names.len())].clone())
                    }) else {
                        break;
                    };
                    let nodes = self.select(&Selection::Region(name), State::Up);
                    self.away(nodes, Away::Kill, Disk::Kept, Some(*away_s)).await?;
                }
                Ok(())
            }
            ChurnModel::Trace { file } => {
                let events =
                    read_trace(file, self.scenario.nodes).map_err(|e| Error::Unsupported(e.to_string()))?;
                future::try_join_all(events.into_iter().map(|event| self.replay(event))).await.map(drop)
            }
        }
    }

    /// Departures as a Poisson process, of nodes drawn from those that run.
    async fn poisson(&self, mean_s: f64, away_s: f64) -> Result<()> {
        let mut departures = FuturesUnordered::new();
        let mut next = self.began;
        while !self.is_over() {
            next += Duration::from_secs_f64(mean_s * self.draw(exponential));
            let waits = self.pause_until(next);
            tokio::pin!(waits);
            loop {
                tokio::select! {
                    () = &mut waits => break,
                    Some(done) = departures.next() => { let (): () = done?; }
                }
            }
            let churning: BTreeSet<Member> = self.churning().into_iter().collect();
            let mut up = self.fleet.replicas(State::Up);
            up.retain(|node| churning.contains(node));
            if !up.is_empty() && !self.is_over() {
                let node = up[self.draw(|random| random.random_range(0..up.len()))];
                departures.push(self.depart(node, away_s * self.draw(exponential)));
            }
        }
        departures.try_collect().await
    }

    /// The replicas that take part in churn.
    fn churning(&self) -> Vec<Member> {
        let stable = rounded(self.scenario.churn.stable, self.scenario.nodes);
        (stable + 1..self.fleet.seats().len()).collect()
    }

    /// A session ends, in one of the ways of the scenario's churn.
    async fn depart(&self, node: Member, away_s: f64) -> Result<()> {
        let (away, back) = (self.scenario.churn.away, self.scenario.churn.back);
        let how = match self.draw(|random| end(&away, random)) {
            End::Kill => Away::Kill,
            End::Leave => Away::Leave,
            End::Stop => return self.stall(node, away_s).await,
        };
        let (disk, for_s) = match self.draw(|random| comeback(&back, random)) {
            Comeback::Restart => (Disk::Kept, Some(away_s)),
            Comeback::Wipe => (Disk::Wiped, Some(away_s)),
            Comeback::Never => (Disk::Kept, None),
        };
        self.visit(node, how, disk, for_s).await
    }

    /// One line of a trace: time, replica, and what happens to it.
    async fn replay(&self, (at_ms, replica, event): (u64, usize, Traced)) -> Result<()> {
        self.pause_until(self.began + Duration::from_millis(at_ms)).await;
        let member = replica + BOOTSTRAP + 1;
        match event {
            _ if self.is_over() => Ok(()),
            Traced::Kill => self.fleet.end(member, Away::Kill).await,
            Traced::Leave => self.fleet.end(member, Away::Leave).await,
            Traced::Restart => self.fleet.start(member, Disk::Kept).await,
            Traced::Wipe => {
                self.fleet.end(member, Away::Kill).await?;
                self.fleet.start(member, Disk::Wiped).await
            }
            Traced::PowerOff => Err(Error::Unsupported(format!("the trace at {at_ms} ms: {NO_POWER_OFF}"))),
        }
    }
}

/// A share of so many.
#[allow(clippy::cast_sign_loss, reason = "a scenario's shares are not negative")]
fn rounded(share: f64, of: usize) -> usize {
    (share * of as f64).round() as usize
}
