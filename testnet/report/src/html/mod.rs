//! One self-contained page: no network, no fonts or scripts from elsewhere, every text escaped.

mod axis;
mod charts;
mod escape;
mod layout;
mod plot;
mod topology;

use std::fmt::Write;

use serde_json::Value;

use self::escape::{Escaped, script_json};
use self::plot::Plot;
use crate::compare::{Compared, compare, header, labels};
use crate::figures::{self, Row, Section, sections};
use crate::format::{number, percent, short, thousands};
use crate::measurement::Curves;
use crate::model::Run;
use crate::table::{BARS, bar_row};
use crate::text::{setting, settings};
use crate::verdict::Verdict;

/// The page for one run, or for several with their plots overlaid. It opens without a network.
pub fn html(runs: &[Run]) -> String {
    let labels = labels(runs);
    let title = match runs {
        [run] => format!("Starling: {}", run.scenario),
        runs => format!("Starling: {} runs", runs.len()),
    };
    let mut page = Page::default();
    for (run, label) in runs.iter().zip(&labels) {
        page.head(run, label);
    }
    if let [run] = runs {
        page.tiles(run);
    }
    for (run, label) in runs.iter().zip(&labels) {
        page.bars(run, label);
    }
    let distributions = charts::distributions(runs, &labels);
    page.plots("Distributions", "How much of the sample does not exceed a value.", &distributions);
    let over_time = charts::over_time(runs, &labels);
    page.plots("Over time", &marks(&over_time), &over_time);
    page.tables(runs, &labels);
    page.overlay(runs, &labels);
    page.finish(&title)
}

/// The page for one measurement: its plots, and its text as a terminal shows it.
pub fn measurement(title: &str, curves: &[Curves], text: &str) -> String {
    let mut page = Page::default();
    let plots: Vec<Plot> = curves.iter().map(charts::curves).collect();
    page.plots("Curves", "", &plots);
    let _ = write!(page.body, "<section><div class=\"scroll\"><pre>{}</pre></div></section>", Escaped(text));
    page.finish(title)
}

/// What the marks of some plots are.
fn marks(plots: &[Plot]) -> String {
    let marks = plots.first().map_or(&[][..], |plot| plot.marks.as_slice());
    let named: Vec<String> = marks.iter().map(|(at, what)| format!("{what} ({} s)", short(*at))).collect();
    let since = "From the end of the warm-up.";
    if named.is_empty() {
        since.into()
    } else {
        format!("{since} Dotted, the ends of faults: {}.", named.join("; "))
    }
}

/// A page while it is written.
#[derive(Default)]
struct Page {
    body: String,
    /// The numbers behind the plots, by index.
    data: Vec<Value>,
}

impl Page {
    /// What was run, and how it went.
    fn head(&mut self, run: &Run, label: &str) {
        let verdict = Verdict::of(run);
        let class = if verdict.good { "run" } else { "run bad" };
        let _ = write!(self.body, "<section class=\"{class}\">");
        if !label.is_empty() {
            let _ = write!(self.body, "<p class=\"label\"><strong>{}</strong></p>", Escaped(label));
        }
        let _ = write!(
            self.body,
            "<p class=\"verdict\"><b>{}</b> {}</p>",
            verdict.word(),
            Escaped(&verdict.text),
        );
        for (class, text) in [("about", &run.about), ("setting", &setting(run)), ("setting", &settings(run))]
        {
            if !text.is_empty() {
                let _ = write!(self.body, "<p class=\"{class}\">{}</p>", Escaped(text));
            }
        }
        for limit in &run.limits {
            let _ = write!(self.body, "<p class=\"setting\">Note: {}</p>", Escaped(limit));
        }
        if !run.command.is_empty() {
            let _ = write!(
                self.body,
                "<p class=\"setting\">Again with: <code>{}</code></p>",
                Escaped(&run.command)
            );
        }
        self.body.push_str("</section>\n");
    }

    /// The figures that most people look for.
    fn tiles(&mut self, run: &Run) {
        let all = run.convergence.nodes_all;
        let mut tiles = Vec::new();
        if all.count > 0 {
            tiles.push(("on every node, median", format!("{} ms", number(all.p50_ms))));
            tiles.push(("on every node, p99", format!("{} ms", number(all.p99_ms))));
        }
        tiles.push(("lost or missing writes", thousands(run.writes.lost + run.writes.missing)));
        if run.dissemination.rumors > 0 {
            tiles.push(("redundancy (RMR)", number(run.dissemination.rmr)));
            tiles.extend(run.dissemination.residue.map(|residue| ("residue", percent(residue))));
        }
        if !run.traffic.classes.is_empty() {
            tiles.push(("bytes per payload byte", number(run.traffic.overhead)));
        }
        tiles.push(("false positives", thousands(run.detection.false_positives)));
        self.body.push_str("<dl class=\"tiles\">");
        for (name, value) in tiles {
            let _ = write!(self.body, "<div><dt>{name}</dt><dd>{value}</dd></div>");
        }
        self.body.push_str("</dl>\n");
    }

    fn bars(&mut self, run: &Run, label: &str) {
        if run.bars.is_empty() {
            return;
        }
        let title = if label.is_empty() { "Targets".to_string() } else { format!("Targets of {label}") };
        let rows = run.bars.iter().map(|bar| bar_row(bar).to_vec());
        self.table(&title, "", &BARS.map(str::to_string), rows);
    }

    /// The same tables as on a terminal.
    fn tables(&mut self, runs: &[Run], labels: &[String]) {
        self.body.push_str("<div class=\"tables\">");
        if let [run] = runs {
            for Section { title, about, rows } in sections(run) {
                if let [Row { name, cells }] = rows.as_slice()
                    && name.is_empty()
                {
                    self.list(title, about, cells);
                    continue;
                }
                let columns = rows[0].cells.iter().map(|(column, _)| (*column).to_string());
                let head: Vec<String> = std::iter::once(String::new()).chain(columns).collect();
                let cells = |row: &Row| {
                    let values = row.cells.iter().map(|(_, value)| value.show());
                    std::iter::once(row.name.clone()).chain(values).collect()
                };
                self.table(title, about, &head, rows.iter().map(cells));
            }
        } else if !runs.is_empty() {
            for section in compare(runs) {
                self.table(
                    section.title,
                    section.about,
                    &header(labels),
                    section.rows.iter().map(Compared::cells),
                );
            }
        }
        self.body.push_str("</div>\n");
    }

    /// A single row of figures: as a list it can be read on a narrow screen too.
    fn list(&mut self, title: &str, about: &str, cells: &[(&str, figures::Value)]) {
        let _ = write!(
            self.body,
            "<section><h2>{title}</h2><p class=\"about\">{about}</p><dl class=\"figures-list\">"
        );
        for (name, value) in cells {
            let _ = write!(self.body, "<div><dt>{name}</dt><dd>{}</dd></div>", value.show());
        }
        self.body.push_str("</dl></section>\n");
    }

    fn table(&mut self, title: &str, about: &str, head: &[String], rows: impl Iterator<Item = Vec<String>>) {
        let _ = write!(self.body, "<section><h2>{}</h2>", Escaped(title));
        if !about.is_empty() {
            let _ = write!(self.body, "<p class=\"about\">{}</p>", Escaped(about));
        }
        let _ = write!(
            self.body,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>",
            Escaped(title),
        );
        for cell in head {
            let _ = write!(self.body, "<th scope=\"col\">{}</th>", Escaped(cell));
        }
        self.body.push_str("</tr></thead><tbody>");
        for row in rows {
            self.body.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let _ = match (index, cell.as_str()) {
                    (0, _) => write!(self.body, "<th scope=\"row\">{}</th>", Escaped(cell)),
                    (_, "NO") => write!(self.body, "<td class=\"no\">NO</td>"),
                    _ => write!(self.body, "<td>{}</td>", Escaped(cell)),
                };
            }
            self.body.push_str("</tr>");
        }
        self.body.push_str("</tbody></table></div></section>\n");
    }

    fn plots(&mut self, title: &str, about: &str, plots: &[Plot]) {
        if plots.is_empty() {
            return;
        }
        let figures = self.figures(plots);
        let about = Escaped(about);
        let _ = writeln!(
            self.body,
            "<h2>{title}</h2><p class=\"about\">{about}</p><div class=\"figures\">{figures}</div>"
        );
    }

    fn figures(&mut self, plots: &[Plot]) -> String {
        let mut figures = String::new();
        for plot in plots {
            figures.push_str(&plot.figure(self.data.len()));
            self.data.push(plot.data());
        }
        figures
    }

    fn overlay(&mut self, runs: &[Run], labels: &[String]) {
        let degrees = self.figures(&charts::degrees(runs, labels));
        let drawings: String =
            runs.iter().zip(labels).map(|(run, label)| topology::figure(&run.topology, label)).collect();
        if !(degrees.is_empty() && drawings.is_empty()) {
            let _ = write!(self.body, "<h2>Overlay</h2><div class=\"figures\">{drawings}{degrees}</div>");
        }
    }

    /// Forbids every request, so that the page stays what it says even if a text slipped through.
    fn finish(self, title: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title}</title>\n<style>\n{}</style></head>\n<body>\n<h1>{title}</h1>\n{}\
             <script type=\"application/json\" id=\"plots\">{}</script>\n<script>\n{}</script>\n</body></html>\n",
            include_str!("page.css"),
            self.body,
            script_json(&Value::Array(self.data)),
            include_str!("page.js"),
            title = Escaped(title),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::example::example;

    /// The tags of a page, each closed in order; the contents of `style` and `script` are skipped.
    fn assert_well_formed(page: &str) {
        let void = ["meta", "!doctype"];
        let mut open: Vec<String> = Vec::new();
        let mut rest = page;
        while let Some(at) = rest.find('<') {
            let end = at + rest[at..].find('>').expect("every tag ends");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            let name: String =
                tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default().into();
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(closed), "closed out of order");
            } else if !tag.ends_with('/') && !void.contains(&name.as_str()) {
                if name == "style" || name == "script" {
                    rest = &rest[rest.find(&format!("</{name}>")).expect("it is closed")..];
                }
                open.push(name);
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        }
        assert!(open.is_empty(), "still open: {open:?}");
    }

    #[test]
    fn a_page_is_well_formed_needs_no_network_and_shows_everything() {
        let run = example("churn", 1);
        let page = html(std::slice::from_ref(&run));
        assert_well_formed(&page);
        for reference in ["http://", "https://", "src=", "href=", "url(", "@import", "fetch(", "XMLHttp"] {
            assert!(!page.contains(reference), "{reference} in the page");
        }
        for name in ["live nodes", "bytes per node and second", "rumor", "time to the nodes", "50 %", "hops"]
        {
            assert!(page.contains(name), "{name} is missing");
        }
        for node in &run.topology.nodes {
            assert!(page.contains(&format!("<title>{},", node.name)), "{} is missing", node.name);
        }
        for Section { title, .. } in sections(&run) {
            assert!(page.contains(&format!("<h2>{title}</h2>")), "{title} is missing");
        }
        assert!(
            page.contains("split into 2") && page.contains("not by the end") && page.contains("&lt;= 0.050")
        );
    }

    #[test]
    fn names_from_files_are_text() {
        let evil = "</script><script>alert(1)</script>\"' onload=x <b>&";
        let mut run = example(evil, 1);
        run.about = evil.into();
        run.command = evil.into();
        run.settings = vec![(evil.into(), evil.into())];
        run.traffic.classes[0].class = evil.into();
        run.healing[0].what = evil.into();
        run.bars[0].figure = evil.into();
        for series in &mut run.series {
            series.name = evil.into();
            series.unit = evil.into();
        }
        run.distributions[0].name = format!("{evil}: {evil}");
        run.topology.nodes[0].name = evil.into();
        run.topology.nodes[1].region = Some(evil.into());
        for page in [html(&[run.clone()]), html(&[run, example("calm", 2)])] {
            assert_well_formed(&page);
            assert!(!page.contains("<script>alert") && !page.contains("<b>&"));
            assert_eq!(page.matches("</script>").count(), 2);
        }
    }

    #[test]
    fn several_runs_are_overlaid_in_one_plot_for_each_quantity() {
        let page = html(&[example("churn", 1), example("churn", 2)]);
        assert_well_formed(&page);
        assert_eq!(page.matches("<figcaption>live nodes</figcaption>").count(), 1);
        let mut lacking = example("churn", 2);
        let (own, other) = (&lacking.series[0].clone(), example("churn", 1));
        lacking.series = vec![crate::model::Series { name: "stalled nodes".into(), ..own.clone() }];
        let alone = html(&[other, lacking]);
        let figure = alone.split("<figcaption>stalled nodes</figcaption>").nth(1).expect("its plot");
        let legend = &figure[..figure.find("</ul>").expect("a legend")];
        assert!(legend.contains("seed 2") && legend.contains("line c1"), "the run of a lone line is named");
        assert!(page.contains(">seed 1</li>") && page.contains(">seed 2</li>") && page.contains("x2.00"));
    }

    #[test]
    fn odd_data_makes_no_odd_page() {
        let mut run = example("churn", 1);
        run.series[0].points = vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)];
        run.series[1].points = vec![(5.0, 5.0)];
        run.distributions[0].points = vec![(0.0, 1.0)];
        run.topology.links.push(crate::model::TopologyLink { a: 0, b: 999, eager: true });
        run.views.degrees = vec![0; 3];
        let pages = [html(&[]), html(&[Run::default()]), html(&[run.clone()]), html(&[run, Run::default()])];
        for page in pages {
            assert_well_formed(&page);
            assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
        }
    }

    #[test]
    fn the_page_of_a_large_run_stays_small() {
        let mut run = example("churn", 1);
        let name = |class: usize| format!("bytes per node and second: class {class}");
        let points = || (0..7200).map(|t| (f64::from(t), f64::from(t % 977) * 1.2345)).collect();
        let series = |class| crate::model::Series { name: name(class), unit: "B/s".into(), points: points() };
        run.series = (0..12).map(series).collect();
        let node = run.topology.nodes[0].clone();
        let link =
            |a| [3, 77, 501].map(|s| crate::model::TopologyLink { a, b: (a + s) % 10_000, eager: s == 3 });
        let links: Vec<_> = (0..10_000).flat_map(link).collect();
        run.topology = crate::model::Topology::of(vec![node; 10_000], &links);
        let page = html(&[run]);
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
    }
}
