//! Which plots a page has: what several runs measured under one name shares one plot.

use super::axis::Axis;
use super::plot::{Line, Plot, Shape};
use crate::measurement::{Curve, Curves};
use crate::model::{Distribution, Run, Series};

/// Ratio of the largest value to the median from which a distribution needs a logarithmic axis to be
/// legible at both.
const LOG_FROM: f64 = 12.0;
/// Bars of a histogram at most; more share a bar.
const BARS_MAX: usize = 40;

/// Named points of one run: the common part of a series and a distribution.
struct Named<'a> {
    name: &'a str,
    unit: &'a str,
    points: &'a [(f64, f64)],
}

/// Lines that share a plot.
struct Group {
    title: String,
    unit: String,
    lines: Vec<Line>,
}

/// The quantities over time, with the healed faults marked.
pub fn over_time(runs: &[Run], labels: &[String]) -> Vec<Plot> {
    let marks: Vec<(f64, String)> = match runs {
        [run] => run.healing.iter().map(|h| (h.healed_at_ms as f64 / 1e3, h.what.clone())).collect(),
        _ => Vec::new(),
    };
    let plot = |group: Group| {
        let (x_min, x_max) = ends(&group.lines, |p| p.0);
        let (y_min, y_max) = ends(&group.lines, |p| p.1);
        Plot {
            title: group.title,
            x_unit: "s".into(),
            y_unit: group.unit,
            x: Axis::tight(x_min, x_max, false),
            y: Axis::linear(y_min, y_max, whole(&group.lines)),
            shape: Shape::Line,
            lines: group.lines,
            marks: marks.clone(),
        }
    };
    groups(runs, labels, Named::series).into_iter().map(plot).collect()
}

/// Curves of a measurement; an axis is logarithmic where its values are far apart.
pub fn curves(curves: &Curves) -> Plot {
    let line = |(index, curve): (usize, &Curve)| {
        Line::thinned(curve.name.clone(), index, curve.points.iter().copied())
    };
    let lines: Vec<Line> = curves.lines.iter().enumerate().map(line).collect();
    let axis = |of: fn(&(f64, f64)) -> f64| {
        let (min, max) = ends(&lines, of);
        if min > 0.0 && max > min * LOG_FROM { Axis::log(min, max) } else { Axis::linear(min, max, false) }
    };
    Plot {
        title: curves.title.clone(),
        x_unit: curves.x_unit.clone(),
        y_unit: curves.y_unit.clone(),
        x: axis(|p| p.0),
        y: axis(|p| p.1),
        shape: Shape::Line,
        marks: Vec::new(),
        lines,
    }
}

/// The cumulative distributions.
pub fn distributions(runs: &[Run], labels: &[String]) -> Vec<Plot> {
    let plot = |group: Group| {
        let lines: Vec<Line> = group.lines.into_iter().map(in_percent).collect();
        Plot {
            title: group.title,
            x_unit: group.unit,
            y_unit: "%".into(),
            x: spread_axis(&lines),
            y: Axis::linear(0.0, 100.0, false),
            shape: Shape::Steps,
            lines,
            marks: Vec::new(),
        }
    };
    groups(runs, labels, Named::distributions).into_iter().map(plot).collect()
}

/// Histograms of the overlay's degrees.
pub fn degrees(runs: &[Run], labels: &[String]) -> Vec<Plot> {
    type Histogram = (&'static str, &'static str, fn(&Run) -> &Vec<usize>);
    let histograms: [Histogram; 2] = [
        ("neighbours of a node (active view)", "neighbours", |run| &run.views.degrees),
        ("passive views that a node is in", "views", |run| &run.views.in_degrees),
    ];
    let plots = histograms.into_iter().map(|(title, unit, of)| {
        let longest = runs.iter().map(|run| of(run).len()).max().unwrap_or(0);
        let width = longest.div_ceil(BARS_MAX).max(1);
        let lines: Vec<Line> = runs
            .iter()
            .zip(labels)
            .enumerate()
            .map(|(index, (run, label))| bars(label, index, of(run), width))
            .collect();
        let most = ends(&lines, |p| p.1).1;
        let binned =
            if width > 1 { format!(" (from here, {width} numbers to a bar)") } else { String::new() };
        Plot {
            title: title.into(),
            x_unit: format!("{unit}{binned}"),
            y_unit: "% of nodes".into(),
            x: Axis::tight(0.0, ends(&lines, |p| p.0).1, true),
            y: Axis::linear(0.0, most, false),
            shape: Shape::Bars { width },
            lines,
            marks: Vec::new(),
        }
    });
    plots.filter(|plot| plot.lines.iter().any(|line| !line.points.is_empty())).collect()
}

impl<'a> Named<'a> {
    fn series(run: &'a Run) -> Vec<Self> {
        let of = |s: &'a Series| Self { name: &s.name, unit: &s.unit, points: &s.points };
        run.series.iter().map(of).collect()
    }

    fn distributions(run: &'a Run) -> Vec<Self> {
        let of = |d: &'a Distribution| Self { name: &d.name, unit: &d.unit, points: &d.points };
        run.distributions.iter().map(of).collect()
    }
}

/// One run: names that agree up to a colon share a plot. Several: equal names do, a line for each run.
fn groups<'a>(runs: &'a [Run], labels: &[String], named: fn(&'a Run) -> Vec<Named<'a>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (run_index, (run, run_label)) in runs.iter().zip(labels).enumerate() {
        for Named { name, unit, points } in named(run) {
            let (title, label) = match runs {
                [_] => name.split_once(": ").unwrap_or((name, "")),
                _ => (name, run_label.as_str()),
            };
            let points = points.iter().copied();
            let found = groups.iter_mut().find(|group| group.title == title && group.unit == unit);
            let place = found.as_ref().map_or(0, |group| group.lines.len());
            let line = Line::thinned(label.into(), if runs.len() > 1 { run_index } else { place }, points);
            if line.points.is_empty() {
                continue;
            }
            match found {
                Some(group) => group.lines.push(line),
                None => groups.push(Group { title: title.into(), unit: unit.into(), lines: vec![line] }),
            }
        }
    }
    groups
}

fn in_percent(mut line: Line) -> Line {
    for (_, share) in &mut line.points {
        *share *= 100.0;
    }
    line
}

/// An even axis where the whole of each distribution can be read on it, a logarithmic one otherwise.
fn spread_axis(lines: &[Line]) -> Axis {
    let (min, max) = ends(lines, |p| p.0);
    let median = |line: &Line| line.points.iter().find(|(_, share)| *share >= 50.0).map(|p| p.0);
    let least_median = lines.iter().filter_map(median).fold(f64::INFINITY, f64::min);
    if min > 0.0 && max > least_median * LOG_FROM {
        Axis::log(min, max)
    } else {
        Axis::linear(min, max, false)
    }
}

/// Whether fractions mean nothing: only whole numbers were seen.
fn whole(lines: &[Line]) -> bool {
    lines.iter().flat_map(|line| &line.points).all(|(_, y)| y.fract() == 0.0)
}

/// Least and largest of a coordinate over all lines.
fn ends(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
    let values = || lines.iter().flat_map(|line| &line.points).map(&of);
    (values().reduce(f64::min).unwrap_or(0.0), values().reduce(f64::max).unwrap_or(0.0))
}

/// Shares of a histogram, `width` numbers to a bar.
fn bars(label: &str, colour: usize, counts: &[usize], width: usize) -> Line {
    let total = counts.iter().sum::<usize>().max(1) as f64;
    let bar = |(index, counts): (usize, &[usize])| {
        ((index * width) as f64, counts.iter().sum::<usize>() as f64 / total * 100.0)
    };
    Line { label: label.into(), colour, points: counts.chunks(width).enumerate().map(bar).collect() }
}
