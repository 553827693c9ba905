//! Faults: what a scenario's steps and its churn do to the network.

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::churn::{self, Comeback, End, Traced};
use crate::scenario::{Action, ChurnModel, Release, STRONG_KEYSPACE, Selection, UNSYNCED_S};
use crate::simulation::{Simulation, Task, us};
use crate::strong::Strong;
use crate::world::World;

/// How much later a fault is tried again while a voter asks the others what it has promised, seconds.
pub(crate) const RECALL_S: f64 = 0.1;

impl Simulation {
    /// The nodes of a selection, in order; those that are drawn, from the candidates.
    fn select(&mut self, selection: &Selection, is_candidate: impl Fn(&Self, usize) -> bool) -> Vec<usize> {
        let replica = |node: usize| self.world.nodes[node].is_replica();
        let all = 0..self.world.nodes.len();
        let mut candidates: Vec<usize> = all
            .filter(|&node| is_candidate(self, node) && (replica(node) != (*selection == Selection::Seeds)))
            .collect();
        let count = candidates.len();
        let rounded = |share: f64| (share * count as f64).round() as usize;
        match selection {
            Selection::All | Selection::Seeds => candidates,
            Selection::Share(share) => self.draw(candidates, rounded(*share)),
            Selection::Count(wanted) => self.draw(candidates, *wanted),
            Selection::First(share) => {
                candidates.truncate(rounded(*share));
                candidates
            }
            Selection::Node(node) => candidates.into_iter().filter(|candidate| candidate == node).collect(),
            Selection::Region(name) => {
                candidates.retain(|&node| self.region(node) == Some(name));
                candidates
            }
            Selection::AnyRegion => {
                let drawn = self.draw_name(self.scenario.region_names());
                candidates.retain(|&node| self.region(node) == drawn.as_ref());
                candidates
            }
            Selection::Zone(name) => {
                candidates.retain(|&node| self.zone(node).as_ref() == Some(name));
                candidates
            }
            Selection::AnyZone => {
                let drawn = self.draw_name(self.scenario.zone_names());
                candidates.retain(|&node| self.zone(node) == drawn);
                candidates
            }
            Selection::Leader | Selection::Voters(_) | Selection::Followers(_) => {
                let leader = self.world.leader(STRONG_KEYSPACE);
                let (_, voters) = self.world.members(STRONG_KEYSPACE);
                candidates.retain(|node| match selection {
                    Selection::Leader => leader == Some(*node),
                    Selection::Followers(_) => leader != Some(*node) && voters.contains(node),
                    _ => voters.contains(node),
                });
                match selection {
                    Selection::Voters(Some(wanted)) | Selection::Followers(wanted) => {
                        self.draw(candidates, *wanted)
                    }
                    _ => candidates,
                }
            }
        }
    }

    fn draw_name(&mut self, mut names: Vec<String>) -> Option<String> {
        (!names.is_empty()).then(|| names.swap_remove(self.rng.random_range(0..names.len())))
    }

    /// The name of a node's zone.
    pub(crate) fn zone(&self, node: usize) -> Option<String> {
        self.scenario.zone_in(self.region(node)?, node)
    }

    /// The name of a node's region. Several nodes in turn may be in one.
    pub(crate) fn region(&self, node: usize) -> Option<&String> {
        self.scenario.regions.get(self.world.nodes[node].region?)
    }

    fn draw(&mut self, mut candidates: Vec<usize>, count: usize) -> Vec<usize> {
        let count = count.min(candidates.len());
        let (drawn, _) = candidates.partial_shuffle(&mut self.rng, count);
        let mut drawn = drawn.to_vec();
        drawn.sort_unstable();
        drawn
    }

    fn live(&mut self, selection: &Selection) -> Vec<usize> {
        self.select(selection, |simulation, node| simulation.world.nodes[node].is_up())
    }

    /// Does what is due of steps and churn; nothing once the faults have ended.
    pub(crate) fn perform_fault(&mut self, task: Task) {
        if !self.is_active() {
            return;
        }
        if self.world.is_recalling() {
            // A voter that was set back needs the others until it knows what it has promised; that they are lost in the same
            // moment is no fault that a group survives.
            self.plan_in(RECALL_S, task);
            return;
        }
        self.with_strong(Strong::before_fault);
        match task {
            Task::Step(index) => self.perform_step(index),
            Task::Mend(number, what) => {
                self.world.mend(Some(number));
                self.heals(what);
            }
            Task::Sync(node, is_old) => {
                let disk = self.world.copy_disk(node);
                self.synced.insert(node, disk);
                if is_old {
                    self.world.copy_strong_disk(node);
                }
            }
            Task::PowerOff(node, for_s) => {
                if let Some(disk) = self.synced.remove(&node).filter(|_| self.world.nodes[node].is_up()) {
                    self.world.power_off(node, disk);
                    self.plan_return(node, for_s, Comeback::Restart);
                }
            }
            Task::SpeedUp(nodes) => {
                for &node in &nodes {
                    self.world.slow_down(node, 0);
                }
                self.heals(format!("{} nodes with slow links", nodes.len()));
            }
            Task::StartCopy(node, for_s) => self.start_copy(node, for_s),
            Task::Roll { left, gap_s, for_s, release } => self.roll(left, gap_s, for_s, release),
            Task::Departure => self.depart(),
            Task::SessionEnd(node) => self.end_session(node),
            Task::RegionFails => self.fail_region(),
            Task::Traced(node, what) => self.perform_traced(node, what),
            _ => unreachable!("not a fault"),
        }
        self.with_strong(Strong::after_fault);
    }

    fn perform_step(&mut self, index: usize) {
        let step = self.scenario.step[index].clone();
        *self.faults.entry(step.action.name()).or_default() += 1;
        self.act(&step.action);
        if let Some(repeat) = step.repeat {
            let next_us = self.world.now_us() + us(repeat.every_s);
            if next_us <= self.begin_us + us(repeat.until_s) {
                self.plan(next_us, Task::Step(index));
            } else if let Action::Stall { .. } = step.action {
                self.heals("the last stalls begun".into());
            }
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Partition { nodes, to, one_way, for_s } => {
                let _ = self.partition(nodes, to.as_ref(), *one_way, *for_s);
            }
            Action::Heal => {
                self.world.mend(None);
                self.heals("partitions healed".into());
            }
            Action::Kill { nodes, for_s } => self.take_down(nodes, "killed", *for_s, World::kill),
            Action::Leave { nodes, for_s } => self.take_down(nodes, "left", *for_s, World::leave),
            Action::PowerOff { nodes, for_s, loses_s } => self.power_off(nodes, *for_s, *loses_s),
            Action::Wipe { nodes, for_s } => {
                let nodes = self.live(nodes);
                for &node in &nodes {
                    self.world.kill(node);
                    self.plan_return(node, Some(*for_s), Comeback::Wipe);
                }
                self.plan_in(*for_s, Task::Heals(format!("{} nodes wiped", nodes.len())));
            }
            Action::Restart { nodes } => {
                let nodes = self.select(nodes, |simulation, node| !simulation.world.nodes[node].is_up());
                for &node in &nodes {
                    self.world.start(node);
                }
                self.heals(format!("{} nodes restarted", nodes.len()));
            }
            Action::Stall { nodes, for_s: [low, high] } => {
                for node in self.live(nodes) {
                    let for_us = us(self.rng.random_range(*low..=*high));
                    self.world.stall(node, self.world.now_us() + for_us);
                }
            }
            Action::Exhaust { nodes, for_s } => {
                let nodes = self.live(nodes);
                for &node in &nodes {
                    self.world.exhaust(node, self.world.now_us() + us(*for_s));
                }
                self.plan_in(*for_s, Task::Heals(format!("{} nodes without descriptors", nodes.len())));
            }
            Action::Revoke { nodes, for_s } => self.revoke(nodes, *for_s),
            Action::Join { count } => {
                let regions = self.scenario.regions.len();
                for index in 0..*count {
                    let node = self.add((regions > 0).then(|| index % regions));
                    self.world.start(node);
                }
                self.heals(format!("{count} nodes joined at once"));
            }
            Action::Skew { nodes, skew_ms, drift_ppm } => {
                for node in self.live(nodes) {
                    let mut within = |max: f64| self.rng.random_range(-max..=max);
                    let (skew_ms, drift_ppm) = (within(*skew_ms) as i64, within(*drift_ppm));
                    self.world.skew(node, skew_ms, drift_ppm);
                }
            }
            Action::Drift { nodes, permille } => {
                for node in self.live(nodes) {
                    let gain_ppm = self.rng.random_range(-permille * 1e3..=permille * 1e3) as i64;
                    self.world.gain(node, gain_ppm);
                }
            }
            Action::Clone { nodes, age_s, for_s } => {
                let nodes = self.live(nodes);
                self.copy_nodes(&nodes, *age_s, *for_s);
            }
            Action::Delay { nodes, delay_ms, for_s } => {
                let nodes = self.live(nodes);
                for &node in &nodes {
                    self.world.slow_down(node, us(delay_ms / 1e3));
                }
                self.plan_in(*for_s, Task::SpeedUp(nodes));
            }
            Action::Rivals { nodes, for_s } => {
                let (number, sides) = self.partition(nodes, None, false, Some(*for_s));
                self.with_strong(|strong, world| strong.begin_rivals(world, number, sides));
            }
            Action::ReplaceVoter => self.with_strong(Strong::replace_voter),
            Action::TransferLeader => self.with_strong(Strong::transfer_leader),
            Action::Forge => self.with_strong(Strong::forge),
            Action::Links { loss, drop, duplicate } => {
                let links = &mut self.world.links;
                links.loss = loss.unwrap_or(links.loss);
                links.drop = drop.unwrap_or(links.drop);
                links.duplicate = duplicate.unwrap_or(links.duplicate);
            }
            Action::RollingRestart { nodes, gap_s, for_s, release } => {
                let left = self.live(nodes).into_iter().rev().collect();
                self.roll(left, *gap_s, *for_s, *release);
            }
        }
    }

    fn revoke(&mut self, nodes: &Selection, for_s: f64) {
        let (_, voters) = self.world.members(STRONG_KEYSPACE);
        let mut lost = self.live(nodes);
        lost.retain(|node| !voters.contains(node));
        let others = self.live(&Selection::All).into_iter().filter(|node| lost.binary_search(node).is_err());
        let others = others.collect();
        let Some(&by) = self.draw(others, 1).first() else { return };
        for &node in &lost {
            self.world.revoke(node, by);
        }
        self.plan_in(for_s, Task::EndRevoked);
    }

    /// Returns the number of the cut, and its sides.
    fn partition(
        &mut self,
        nodes: &Selection,
        to: Option<&Selection>,
        one_way: bool,
        for_s: Option<f64>,
    ) -> (u32, [Vec<usize>; 2]) {
        let everybody = |_: &Self, _: usize| true;
        let from = self.select(nodes, everybody);
        let to = match to {
            Some(to) => self.select(to, everybody),
            None => (0..self.world.nodes.len()).filter(|node| from.binary_search(node).is_err()).collect(),
        };
        let number = self.world.cut(&from, &to, !one_way);
        if let Some(for_s) = for_s {
            let way = if one_way { ", one way" } else { "" };
            let what =
                format!("{} of {} nodes cut off for {for_s} s{way}", from.len(), from.len() + to.len());
            self.plan_in(for_s, Task::Mend(number, what));
        }
        (number, [from, to])
    }

    fn take_down(
        &mut self,
        nodes: &Selection,
        how: &str,
        for_s: Option<f64>,
        end: impl Fn(&mut World, usize),
    ) {
        let up = self.world.nodes.iter().filter(|node| node.is_up() && node.is_replica()).count();
        let nodes = self.live(nodes);
        for &node in &nodes {
            end(&mut self.world, node);
            self.plan_return(node, for_s, Comeback::Restart);
        }
        let what = format!("{} nodes of {up} {how}", nodes.len());
        self.heals(what.clone());
        if let Some(for_s) = for_s {
            self.plan_in(for_s, Task::Heals(format!("{what}, and back")));
        }
    }

    /// Disks are synced some time before, each at a moment of its own.
    fn power_off(&mut self, nodes: &Selection, for_s: Option<f64>, loses_s: f64) {
        let nodes = self.live(nodes);
        for &node in &nodes {
            let synced_s = self.rng.random_range(0.0..loses_s);
            self.plan_in(synced_s, Task::Sync(node, loses_s > UNSYNCED_S));
            self.plan_in(loses_s, Task::PowerOff(node, for_s));
        }
        let back = for_s.map_or("", |_| ", and back");
        let what = format!("{} nodes without power{back}", nodes.len());
        self.plan_in(loses_s + for_s.unwrap_or(0.0), Task::Heals(what));
    }

    fn roll(&mut self, mut left: Vec<usize>, gap_s: f64, for_s: f64, release: Option<Release>) {
        match left.pop() {
            Some(node) => {
                // One that churn has taken down meanwhile comes back in the other release too.
                let now = &mut self.world.nodes[node].release;
                *now = release.unwrap_or(*now);
                self.world.leave(node);
                self.plan_return(node, Some(for_s), Comeback::Restart);
                self.plan_in(gap_s, Task::Roll { left, gap_s, for_s, release });
            }
            None => self.plan_in((for_s - gap_s).max(0.0), Task::Heals("the rolling restart".into())),
        }
    }

    fn plan_return(&mut self, node: usize, after_s: Option<f64>, comeback: Comeback) {
        let Some(after_s) = after_s else { return };
        match comeback {
            Comeback::Restart => self.plan_in(after_s, Task::Start(node)),
            Comeback::Wipe => self.plan_in(after_s, Task::Replace(node)),
            Comeback::Never => {}
        }
    }

    /// Nodes that take part in churn.
    fn is_churning(&self, node: usize) -> bool {
        let stable = (self.scenario.churn.stable * self.scenario.nodes as f64).round() as usize;
        self.world.nodes[node].is_replica() && node >= stable
    }

    /// Churn begins, in the middle of things: sessions are under way.
    pub(crate) fn begin_churn(&mut self) {
        match self.scenario.churn.model.clone() {
            ChurnModel::None => {}
            ChurnModel::Poisson { per_s, .. } => self.plan_exponential(1.0 / per_s, Task::Departure),
            ChurnModel::Weibull { shape, scale_s, .. } => {
                let nodes: Vec<usize> =
                    (0..self.world.nodes.len()).filter(|&node| self.is_churning(node)).collect();
                for node in nodes {
                    let left_s = scale_s * churn::weibull_left(shape, &mut self.rng);
                    self.plan_in(left_s, Task::SessionEnd(node));
                }
            }
            ChurnModel::Correlated { every_s, .. } => self.plan_exponential(every_s, Task::RegionFails),
            ChurnModel::Trace { .. } => {
                for (at_ms, node, what) in self.traced.clone() {
                    self.plan_in(at_ms as f64 / 1e3, Task::Traced(node, what));
                }
            }
        }
    }

    fn plan_exponential(&mut self, mean_s: f64, task: Task) {
        let after_s = mean_s * churn::exponential(&mut self.rng);
        self.plan_in(after_s, task);
    }

    /// A node is up: with Weibull churn its session ends some time.
    pub(crate) fn begin_session(&mut self, node: usize) {
        if let ChurnModel::Weibull { shape, scale_s, .. } = self.scenario.churn.model
            && self.is_active()
            && self.is_churning(node)
        {
            let session_s = scale_s * churn::weibull(shape, &mut self.rng);
            self.plan_in(session_s, Task::SessionEnd(node));
        }
    }

    fn depart(&mut self) {
        let ChurnModel::Poisson { per_s, away_s } = self.scenario.churn.model else { return };
        self.plan_exponential(1.0 / per_s, Task::Departure);
        let candidates: Vec<usize> = (0..self.world.nodes.len())
            .filter(|&node| self.is_churning(node) && self.world.nodes[node].is_up())
            .collect();
        if let [node] = self.draw(candidates, 1)[..] {
            let away_s = away_s * churn::exponential(&mut self.rng);
            self.go_away(node, away_s);
        }
    }

    fn end_session(&mut self, node: usize) {
        let ChurnModel::Weibull { away_shape, away_scale_s, .. } = self.scenario.churn.model else { return };
        let away_s = away_scale_s * churn::weibull(away_shape, &mut self.rng);
        self.go_away(node, away_s);
    }

    fn go_away(&mut self, node: usize, away_s: f64) {
        let churn = &self.scenario.churn;
        let end = churn::end(&churn.away, &mut self.rng);
        let comeback = churn::comeback(&churn.back, &mut self.rng);
        *self.faults.entry("churn").or_default() += 1;
        match end {
            End::Kill => self.world.kill(node),
            End::Leave => self.world.leave(node),
            End::Stop => {
                self.world.stall(node, self.world.now_us() + us(away_s));
                self.plan_in(away_s, Task::Session(node));
                return;
            }
        }
        self.plan_return(node, Some(away_s), comeback);
    }

    fn fail_region(&mut self) {
        let ChurnModel::Correlated { every_s, away_s } = self.scenario.churn.model else { return };
        self.plan_exponential(every_s, Task::RegionFails);
        let drawn = self.rng.random_range(0..self.scenario.regions.len().max(1));
        let region = self.scenario.regions.get(drawn);
        let nodes: Vec<usize> = (0..self.world.nodes.len())
            .filter(|&node| self.is_churning(node) && self.world.nodes[node].is_up())
            .filter(|&node| self.region(node) == region)
            .collect();
        for node in nodes {
            self.go_away(node, away_s);
        }
    }

    fn perform_traced(&mut self, node: usize, what: Traced) {
        match what {
            Traced::Kill => self.world.kill(node),
            Traced::Leave => self.world.leave(node),
            Traced::PowerOff => {
                let disk = self.world.copy_disk(node);
                self.world.power_off(node, disk);
            }
            Traced::Restart => self.world.start(node),
            Traced::Wipe => {
                self.world.kill(node);
                self.plan_return(node, Some(0.0), Comeback::Wipe);
            }
        }
    }
}
