//! The drawing of an overlay.

use std::fmt::Write;

use super::escape::Escaped;
use super::layout::{Place, layout};
use super::plot::colour;
use crate::format::thousands;
use crate::model::{Topology, TopologyLink};
use crate::topology::DRAWN_MAX;

/// Side of the drawing in its own units.
const SIDE: f64 = 600.0;
/// Room around the outermost nodes.
const MARGIN: f64 = 16.0;

/// The drawing as a figure; nothing if there is nothing to draw.
pub fn figure(topology: &Topology, label: &str) -> String {
    // A file may hold anything: a drawing of more nodes than we write would take minutes to lay out.
    let nodes = &topology.nodes[..topology.nodes.len().min(DRAWN_MAX)];
    if nodes.is_empty() {
        return String::new();
    }
    let known = |link: &TopologyLink| link.a.max(link.b) < nodes.len();
    let links: Vec<TopologyLink> = topology.links.iter().copied().filter(known).collect();
    let places = layout(nodes.len(), &links);
    let places: Vec<Place> = places.into_iter().map(|(x, y)| (placed(x), placed(y))).collect();
    let radius = (60.0 / (nodes.len() as f64).sqrt()).clamp(3.5, 9.0);
    let mut svg = String::new();
    for (class, eager, width) in [("lazy", false, 0.1), ("eager", true, 0.3)] {
        let drawn = links.iter().filter(|link| link.eager == eager);
        let path: String = drawn.map(|link| segment(places[link.a], places[link.b])).collect();
        let _ = write!(svg, "<path class=\"{class}\" stroke-width=\"{:.1}\" d=\"{path}\"/>", radius * width);
    }
    svg.push_str("<path class=\"near\"/>");
    let regions = regions(topology);
    for (node, (x, y)) in nodes.iter().zip(&places) {
        let region = node.region.as_deref().unwrap_or_default();
        let index = regions.iter().position(|known| *known == region).unwrap_or(0);
        let state = if node.up { "up" } else { "down" };
        let _ = write!(
            svg,
            "<circle class=\"{state} c{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{}</title></circle>",
            colour(index),
            Escaped(&describe(&node.name, region, node.up)),
        );
    }
    let pairs: Vec<String> = links.iter().map(|link| format!("{} {}", link.a, link.b)).collect();
    format!(
        "<figure class=\"topology\" data-links=\"{}\"><figcaption>{}</figcaption>{}\
         <svg viewBox=\"0 0 {SIDE} {SIDE}\" tabindex=\"0\" role=\"img\" aria-label=\"{}\">{svg}</svg>\
         <output aria-live=\"polite\"></output></figure>\n",
        pairs.join(","),
        Escaped(&caption(topology, label)),
        legend(&regions),
        Escaped(&format!("{} nodes and {} links, as a drawing", nodes.len(), links.len())),
    )
}

fn placed(part: f64) -> f64 {
    MARGIN + part * (SIDE - 2.0 * MARGIN)
}

fn segment(a: Place, b: Place) -> String {
    format!("M{:.0} {:.0}L{:.0} {:.0}", a.0, a.1, b.0, b.1)
}

fn describe(name: &str, region: &str, up: bool) -> String {
    let parts = [name, region, if up { "" } else { "dead" }];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The names of the regions in order; empty for nodes without one.
fn regions(topology: &Topology) -> Vec<&str> {
    let mut names: Vec<&str> =
        topology.nodes.iter().map(|node| node.region.as_deref().unwrap_or_default()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn caption(topology: &Topology, label: &str) -> String {
    let label = if label.is_empty() { String::new() } else { format!("{label}: ") };
    let (shown, of) = (topology.nodes.len().min(DRAWN_MAX), topology.of);
    if shown < of {
        format!(
            "{label}{} of the {} nodes with the links among them",
            thousands(shown as u64),
            thousands(of as u64)
        )
    } else {
        format!("{label}the overlay at the end")
    }
}

fn legend(regions: &[&str]) -> String {
    let entry = |sample: &str, name: &str| {
        format!("<li><svg viewBox=\"0 0 22 12\" aria-hidden=\"true\">{sample}</svg>{}</li>", Escaped(name))
    };
    let mut entries = entry("<path class=\"eager\" stroke-width=\"3\" d=\"M0 6H22\"/>", "eager link");
    entries += &entry("<path class=\"lazy\" stroke-width=\"1\" d=\"M0 6H22\"/>", "lazy link");
    entries += &entry("<circle class=\"down c0\" cx=\"11\" cy=\"6\" r=\"4.5\"/>", "dead node");
    for (index, name) in regions.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let sample = format!("<circle class=\"up c{}\" cx=\"11\" cy=\"6\" r=\"5\"/>", colour(index));
        entries += &entry(&sample, name);
    }
    format!("<ul class=\"legend\">{entries}</ul>")
}
