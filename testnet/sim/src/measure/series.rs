//! Quantities over the measured time, once per virtual second.

use starling_report::Series;

use super::overlay::components;
use crate::world::World;

/// Above so many nodes the components are counted every tenth second only.
const COMPONENTS_NODES_MAX: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Timeline {
    live: Vec<(f64, f64)>,
    bytes: Vec<(f64, f64)>,
    open: Vec<(f64, f64)>,
    components: Vec<(f64, f64)>,
    bytes_before: u64,
    node_seconds_before: f64,
}

impl Timeline {
    /// Adds a point at so many seconds into the measured time. The world's counters go on from the
    /// former call's.
    pub fn add(&mut self, at_s: f64, world: &World) {
        let live = world.nodes.iter().filter(|node| node.is_up() && node.is_replica()).count();
        self.live.push((at_s, live as f64));
        self.open.push((at_s, world.recorder.writes.open() as f64));
        let bytes = world.recorder.traffic.bytes();
        let node_seconds = world.recorder.node_seconds(world.now_us());
        if node_seconds > self.node_seconds_before {
            let rate = (bytes - self.bytes_before) as f64 / (node_seconds - self.node_seconds_before);
            self.bytes.push((at_s, rate));
        }
        (self.bytes_before, self.node_seconds_before) = (bytes, node_seconds);
        if live <= COMPONENTS_NODES_MAX || self.live.len() % 10 == 1 {
            self.components.push((at_s, components(world) as f64));
        }
    }

    /// The report's part.
    pub fn report(self) -> Vec<Series> {
        let series = |name: &str, unit: &str, points| Series { name: name.into(), unit: unit.into(), points };
        vec![
            series("live nodes", "", self.live),
            series("bytes per node and second", "B/s", self.bytes),
            series("writes not yet on every node", "", self.open),
            series("components", "", self.components),
        ]
    }
}
