//! What lies between the processes: the scenario's links, given to the relay.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use starling_sim::Delays;
use starling_sim::scenario::{Action, Latency, Links, Scenario, Step};

use crate::error::{Error, Result};
use crate::hosts::Hosts;
use crate::relay::{Member, Relay};

/// The links of one run.
#[derive(Debug)]
pub struct Paths {
    /// None if nothing is ever asked of it: then connections are direct.
    relay: Option<Arc<Relay>>,
    delays: Delays,
    jitter: Duration,
    bytes_per_s: Option<f64>,
    loss: f64,
    cuts: Vec<Cut>,
}

/// A partition: nothing passes from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// One side.
    pub from: BTreeSet<Member>,
    /// The other; none: everybody else.
    pub to: Option<BTreeSet<Member>>,
    /// Only this direction.
    pub one_way: bool,
}

impl Cut {
    fn holds(&self, from: Member, to: Member) -> bool {
        let crosses = |from: Member, to: Member| {
            self.from.contains(&from)
                && self.to.as_ref().map_or(!self.from.contains(&to), |side| side.contains(&to))
        };
        crosses(from, to) || !self.one_way && crosses(to, from)
    }
}

impl Paths {
    /// The links of a scenario, none of them cut. An error if the relay cannot do what it asks for.
    pub fn new(scenario: &Scenario, hosts: Option<&Arc<Hosts>>) -> Result<Self> {
        let Links { drop, duplicate, reorder, clog, .. } = &scenario.links;
        let unsuitable = [
            ("drop", *drop > 0.0),
            ("duplicate", *duplicate > 0.0),
            ("reorder", *reorder > 0.0),
            ("clog", clog.is_some()),
        ];
        if let Some((name, _)) = unsuitable.iter().find(|(_, is_set)| *is_set) {
            return Err(Error::Unsupported(format!(
                "links.{name}: TCP between processes does not do that; run it with  testnet sim, or leave it out"
            )));
        }
        let delays = Delays::new(&scenario.links.latency, scenario.regions.len(), scenario.seed)
            .map_err(|e| Error::Unsupported(e.to_string()))?;
        Ok(Self {
            relay: needs_relay(scenario)
                .then(|| Relay::start(scenario.seed, hosts).map(Arc::new))
                .transpose()?,
            delays,
            jitter: Duration::from_secs_f64(scenario.links.jitter_ms / 1000.0),
            bytes_per_s: Some(scenario.links.bandwidth_bytes_s).filter(|rate| *rate > 0.0),
            loss: scenario.links.loss,
            cuts: Vec::new(),
        })
    }

    /// What connections pass through, if anything.
    pub fn relay(&self) -> Option<Arc<Relay>> {
        self.relay.clone()
    }

    /// Packets are lost at another rate from now on.
    pub fn lose(&mut self, share: f64) {
        self.loss = share;
        self.apply();
    }

    /// Nothing passes here until the cut is mended.
    pub fn cut(&mut self, cut: Cut) {
        self.cuts.push(cut);
        self.apply();
    }

    /// Ends a cut, if it lasts.
    pub fn mend(&mut self, cut: &Cut) -> bool {
        let found = self.cuts.iter().position(|other| other == cut).map(|index| self.cuts.remove(index));
        self.apply();
        found.is_some()
    }

    /// Ends all cuts; says whether there was one.
    pub fn mend_all(&mut self) -> bool {
        let were = !std::mem::take(&mut self.cuts).is_empty();
        self.apply();
        were
    }

    /// Everything from and to these members takes this much longer from now on.
    pub fn slow_down(&mut self, members: &[Member], by: Duration) {
        for member in members {
            self.delays.slow_down(*member, by.as_micros() as u64);
        }
        self.apply();
    }

    /// No member's links are slow any more.
    pub fn speed_up(&mut self) {
        self.delays.speed_up();
        self.apply();
    }

    /// Whether anything is cut, or slow beyond the scenario's links.
    pub fn is_impaired(&self) -> bool {
        !self.cuts.is_empty() || self.delays.is_slow()
    }

    /// Tells the relay; to be called when members were added, too.
    pub fn apply(&self) {
        let Some(relay) = &self.relay else { return };
        relay.change(|from, to, conditions| {
            conditions.latency = Duration::from_micros(self.delays.one_way_us(from, to));
            conditions.jitter = self.jitter;
            conditions.bytes_per_s = self.bytes_per_s;
            conditions.loss = self.loss;
            conditions.cut = self.cuts.iter().any(|cut| cut.holds(from, to));
        });
    }
}

/// Whether the scenario's links differ from this machine's loopback interface, or ever will.
fn needs_relay(scenario: &Scenario) -> bool {
    let Links { latency, jitter_ms, loss, bandwidth_bytes_s, .. } = &scenario.links;
    let is_direct = matches!(latency, Latency::ConstantMs(ms) if *ms <= 0.0);
    let is_plain = [jitter_ms, loss, bandwidth_bytes_s].iter().all(|value| **value <= 0.0);
    let changes = |step: &Step| {
        matches!(step.action, Action::Partition { .. } | Action::Links { .. } | Action::Delay { .. })
    };
    !is_direct || !is_plain || scenario.step.iter().any(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_holds_between_its_sides_in_its_directions() {
        let side = |members: &[Member]| members.iter().copied().collect::<BTreeSet<_>>();
        let cut = Cut { from: side(&[1, 2]), to: None, one_way: false };
        assert!(cut.holds(1, 3) && cut.holds(3, 1) && !cut.holds(1, 2) && !cut.holds(3, 4));
        let cut = Cut { one_way: true, ..cut };
        assert!(cut.holds(1, 3) && !cut.holds(3, 1));
        let cut = Cut { to: Some(side(&[3])), one_way: false, ..cut };
        assert!(cut.holds(2, 3) && cut.holds(3, 2) && !cut.holds(1, 4));
    }
}
