//! One plot as SVG, with the numbers that the page's script shows under the pointer.

use std::fmt::Write;

use serde_json::{Value, json};

use super::axis::Axis;
use super::escape::Escaped;
use crate::format::{number, short};

/// Size of a plot in its own units; about pixels, since the page gives a plot about this width.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 230.0;
/// Room for the marks of the axes.
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 36.0;
/// Points of a line at most; more could not be told apart.
const POINTS_MAX: usize = 400;

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A line from point to point: a quantity over time.
    Line,
    /// A value holds until the next point: a cumulative distribution.
    Steps,
    /// A bar for so many whole numbers from each point on: a histogram.
    Bars {
        /// Numbers that share a bar.
        width: usize,
    },
}

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name; empty if it is the only one.
    pub label: String,
    /// Which of the page's colours it has: its run's, or its own among the lines of one run.
    pub colour: usize,
    /// Its points by ascending x; all are finite.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// Unit of the horizontal axis.
    pub x_unit: String,
    /// Unit of the vertical axis.
    pub y_unit: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// How values are drawn.
    pub shape: Shape,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// Moments to point out: where, and what it is.
    pub marks: Vec<(f64, String)>,
}

impl Line {
    /// The line thinned to [`POINTS_MAX`] points: of each stretch the lowest and the highest.
    pub fn thinned(label: String, colour: usize, points: impl Iterator<Item = (f64, f64)>) -> Self {
        let all: Vec<(f64, f64)> = points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        if all.len() <= POINTS_MAX {
            return Self { label, colour, points: all };
        }
        let mut points = Vec::with_capacity(POINTS_MAX);
        for stretch in all.chunks(all.len().div_ceil(POINTS_MAX / 2)) {
            let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let ends = [stretch.iter().min_by(by_y), stretch.iter().max_by(by_y)];
            let mut ends: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            ends.dedup();
            points.extend(ends);
        }
        Self { label, colour, points }
    }
}

impl Plot {
    /// The plot as a figure; `index` is its place in the page's list of numbers.
    pub fn figure(&self, index: usize) -> String {
        let mut svg = String::new();
        self.axes(&mut svg);
        for (at, what) in &self.marks {
            let x = self.place_x(*at);
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"><title>{}</title></line>",
                HEIGHT - BOTTOM,
                Escaped(what),
            );
        }
        for (index, line) in self.lines.iter().enumerate() {
            match self.shape {
                Shape::Bars { width } => self.bars(&mut svg, index, line, width),
                Shape::Line | Shape::Steps => self.path(&mut svg, line),
            }
        }
        format!(
            "<figure class=\"plot\" data-plot=\"{index}\"><figcaption>{}</figcaption>{}\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" tabindex=\"0\" role=\"img\" aria-label=\"{}\">{svg}\
             <g class=\"cross\"></g></svg><output aria-live=\"polite\"></output></figure>\n",
            Escaped(&self.title),
            self.legend(),
            Escaped(&self.summary()),
        )
    }

    /// The numbers behind it, for the script.
    pub fn data(&self) -> Value {
        let rounded = |value: f64| format!("{value:.5e}").parse::<f64>().unwrap_or(value);
        let points = |line: &Line| -> Vec<[f64; 2]> {
            line.points.iter().map(|(x, y)| [rounded(*x), rounded(*y)]).collect()
        };
        let lines: Vec<Value> =
            self.lines.iter().map(|line| json!({ "label": line.label, "points": points(line) })).collect();
        let axis = |axis: &Axis, unit: &str, from: f64, to: f64| json!({ "min": axis.min, "max": axis.max, "log": axis.log, "unit": unit, "from": from, "to": to });
        json!({
            "x": axis(&self.x, &self.x_unit, self.place_x(self.x.min), self.place_x(self.x.max)),
            "y": axis(&self.y, &self.y_unit, HEIGHT - BOTTOM, TOP),
            "steps": self.shape == Shape::Steps,
            "lines": lines,
        })
    }

    /// For those who cannot see it.
    fn summary(&self) -> String {
        let line = |line: &Line| {
            let ends = [line.points.first(), line.points.last()];
            let [Some(first), Some(last)] = ends else { return format!("{}: no values", line.label) };
            let at = |p: &(f64, f64)| {
                format!("{} {} at {} {}", number(p.1), self.y_unit, number(p.0), self.x_unit)
            };
            format!("{} from {} to {}", line.label, at(first), at(last)).trim_start().to_string()
        };
        let lines: Vec<String> = self.lines.iter().map(line).collect();
        format!("{}: {}", self.title, lines.join("; "))
    }

    fn legend(&self) -> String {
        if self.lines.iter().all(|line| line.label.is_empty()) {
            return String::new();
        }
        let entry = |line: &Line| {
            let sample = match self.shape {
                Shape::Bars { .. } => {
                    format!("<rect class=\"bar c{}\" width=\"22\" height=\"8\"/>", colour(line.colour))
                }
                Shape::Line | Shape::Steps => {
                    format!("<path class=\"line c{}\" d=\"M0 4H22\"/>", colour(line.colour))
                }
            };
            format!(
                "<li><svg viewBox=\"0 0 22 8\" aria-hidden=\"true\">{sample}</svg>{}</li>",
                Escaped(&line.label)
            )
        };
        format!("<ul class=\"legend\">{}</ul>", self.lines.iter().map(entry).collect::<String>())
    }

    fn axes(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &self.y.ticks {
            let y = self.place_y(*tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(*tick),
            );
        }
        for tick in &self.x.ticks {
            let x = self.place_x(*tick);
            let _ = write!(
                svg,
                "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 4.0,
                bottom + 16.0,
                short(*tick),
            );
        }
        let _ = write!(
            svg,
            "<text class=\"unit\" x=\"2\" y=\"10\">{}</text><text class=\"x unit\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            Escaped(&self.y_unit),
            f64::midpoint(LEFT, right),
            HEIGHT - 4.0,
            Escaped(&self.x_unit),
        );
    }

    fn path(&self, svg: &mut String, line: &Line) {
        let Some((first, rest)) = line.points.split_first() else { return };
        let (x, y) = (self.place_x(first.0), self.place_y(first.1));
        let mut path = match self.shape {
            Shape::Steps => format!("M{x:.1} {:.1}V{y:.1}", self.place_y(0.0)),
            Shape::Line | Shape::Bars { .. } => format!("M{x:.1} {y:.1}"),
        };
        for (x, y) in rest {
            let (x, y) = (self.place_x(*x), self.place_y(*y));
            let _ = match self.shape {
                Shape::Steps => write!(path, "H{x:.1}V{y:.1}"),
                Shape::Line | Shape::Bars { .. } => write!(path, "L{x:.1} {y:.1}"),
            };
        }
        let _ = write!(svg, "<path class=\"line c{}\" d=\"{path}\"/>", colour(line.colour));
    }

    /// Bars of several lines stand beside each other.
    fn bars(&self, svg: &mut String, index: usize, line: &Line, width: usize) {
        let slot = self.slot(width);
        let thick = slot * 0.8 / self.lines.len() as f64;
        for (x, y) in line.points.iter().filter(|(_, y)| *y > 0.0) {
            let left = self.place_x(*x) - slot * 0.4 + thick * index as f64;
            let (top, bottom) = (self.place_y(*y), HEIGHT - BOTTOM);
            let _ = write!(
                svg,
                "<rect class=\"bar c{}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{thick:.1}\" height=\"{:.1}\"/>",
                colour(line.colour),
                (bottom - top).max(0.5),
            );
        }
    }

    /// Room for the bars of one point.
    fn slot(&self, width: usize) -> f64 {
        let width = width as f64;
        (WIDTH - RIGHT - LEFT) * width / (self.x.max - self.x.min + width)
    }

    /// The first and the last bar need room beside their points.
    fn place_x(&self, value: f64) -> f64 {
        let inset = if let Shape::Bars { width } = self.shape { self.slot(width) / 2.0 } else { 0.0 };
        LEFT + inset + self.x.position(value) * (WIDTH - RIGHT - LEFT - 2.0 * inset)
    }

    fn place_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.position(value) * (HEIGHT - BOTTOM - TOP)
    }
}

/// Colours that the style sheet has.
const COLOURS: usize = 8;

/// The colour of the n-th thing.
pub fn colour(index: usize) -> usize {
    index % COLOURS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_keeps_its_peaks() {
        let spike = |t: i32| (f64::from(t), if t == 7777 { 99.0 } else { f64::from(t % 2) });
        let line = Line::thinned(String::new(), 0, (0..10_000).map(spike));
        assert!(line.points.len() <= POINTS_MAX, "{}", line.points.len());
        assert!(line.points.contains(&(7777.0, 99.0)));
        assert!(line.points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}
