//! The documents: links lead somewhere, the settings page is the binary's, and the commands of the README's tour and
//! of the recipes print what is shown there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use starling_tests::{DEADLINE, command, run, wait_until, without_settings};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

// ---- links

/// Every Markdown file of the workspace.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Lines outside of code blocks, without what is between backquotes.
fn prose(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if !is_code && !is_fence && !line.starts_with("    ") {
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`"));
        }
    }
    lines
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let whole = prose(text).join("\n");
    let targets = whole.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.split_whitespace().next().unwrap_or_default().to_owned()).collect()
}

/// Anchors of the headings, as GitHub derives them.
fn anchors(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        let Some(title) = line.strip_prefix('#').filter(|_| !is_code) else { continue };
        let title = title.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        let anchor: String =
            title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let earlier = found.iter().filter(|other| **other == anchor).count();
        found.push(if earlier == 0 { anchor } else { format!("{anchor}-{earlier}") });
    }
    found
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut all = Vec::new();
    documents(&root(), &mut all);
    let mut checked = 0;
    let mut broken = Vec::new();
    for document in &all {
        for link in links(&read(document)).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            let is_there = target.exists()
                && anchor.is_none_or(|anchor| anchors(&read(&target)).iter().any(|other| other == anchor));
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
            checked += 1;
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(checked >= 15, "only {checked} links in {} documents: the parser misses them", all.len());
}

#[test]
fn anchors_are_githubs() {
    let text = "# One `two`, three\n```\n# no heading\n```\n## It's _so_ (1)\n## It's _so_ (1)\n";
    assert_eq!(anchors(text), ["one-two-three", "its-_so_-1", "its-_so_-1-1"]);
    assert_eq!(links("[a](b#c) `[d](e)` [f](<g>)\n```\n[h](i)\n```\n"), ["b#c", "<g>"]);
}

#[test]
fn the_settings_page_is_the_binarys() {
    let page = read(&root().join("docs/settings.md"));
    let printed = run(["config", "--reference"], b"").ok();
    assert!(
        page.trim_end() == printed.trim_end(),
        "docs/settings.md is out of date: run  starling config --reference > docs/settings.md"
    );
}

// ---- the tour

/// A command of a document and the output that is shown under it.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The indented lines of a document that begin with `$`, each with the output under it.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_output = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(code) if code.starts_with("$ ") => {
                steps.push(Step { command: code[2..].to_owned(), shown: Vec::new() });
                is_output = true;
            }
            Some(code) if is_output => steps.last_mut().expect("a command").shown.push(code.to_owned()),
            _ => is_output = false,
        }
    }
    steps
}

/// Compares output with what a document shows. A line `...` stands for any number of lines, `...` at the end of a line
/// for the rest of it. The width of columns is ignored. Ids and versions differ from run to run, but each stands for the same one everywhere.
#[derive(Clone, Default)]
struct Comparison {
    ids: BTreeMap<String, String>,
}

/// Whether a word is an id (8 hexadecimal digits) or a version (16).
fn is_id(word: &str) -> bool {
    matches!(word.len(), 8 | 16) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn words(line: &str) -> Vec<&str> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).collect()
}

impl Comparison {
    fn line(&mut self, shown: &str, printed: &str) -> bool {
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let (shown, mut printed) = (squeezed(shown), squeezed(printed));
        let shown = match shown.strip_suffix("...") {
            Some(start) => {
                printed.truncate(start.len());
                start
            }
            None => &shown,
        };
        let (left, right) = (words(shown), words(&printed));
        let separators = |line: &str| line.replace(|c: char| c.is_ascii_alphanumeric(), "");
        left.len() == right.len()
            && separators(shown) == separators(&printed)
            && left.iter().zip(&right).all(|(a, b)| {
                if is_id(a) && is_id(b) && a.len() == b.len() {
                    self.ids.entry((*a).to_owned()).or_insert_with(|| (*b).to_owned()) == b
                } else {
                    a == b
                }
            })
    }

    fn lines(&mut self, shown: &[String], printed: &[String]) -> bool {
        let Some((first, rest)) = shown.split_first() else { return printed.is_empty() };
        if first == "..." || first.trim() == "..." {
            return (0..=printed.len()).any(|skipped| self.lines(rest, &printed[skipped..]));
        }
        printed.split_first().is_some_and(|(line, after)| self.line(first, line) && self.lines(rest, after))
    }
}

#[test]
fn output_is_compared_by_shape() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let same = |shown: &str, printed: &str| Comparison::default().lines(&lines(shown), &lines(printed));
    assert!(same("node anna (42777d1d) is up\n  ...\nend", "node anna (00000000) is up\na\nb\nend"));
    assert!(same("join starling1...", "join starling1abc"));
    assert!(!same("hello", "hello\nworld"));
    assert!(!same("hello\n...\nend", "hello\nworld"));
    assert!(same("42777d1d 42777d1d dbe6152e", "00000000 00000000 11111111"));
    assert!(!same("42777d1d 42777d1d", "00000000 11111111"), "one id stands for two");
}

/// An interactive session: bash in a folder of its own, with `starling` on its search path.
struct Session {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    ports: BTreeMap<&'static str, u16>,
    ids: Comparison,
    _home: tempfile::TempDir,
}

/// Printed after each command.
const MARK: &str = "end of the command";
/// Ports of the documents: of peers, then of the API.
const PORTS: [&str; 6] = ["7400", "7401", "7500", "7501", "7600", "7601"];

impl Session {
    fn begin() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        // All at once, so that they differ.
        let free: Vec<TcpListener> =
            PORTS.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: BTreeMap<_, _> = PORTS
            .into_iter()
            .zip(free.iter().map(|listener| listener.local_addr().expect("an address").port()))
            .collect();
        let binary = PathBuf::from(command().get_program());
        let search = std::env::var("PATH").expect("a search path");
        let mut bash = without_settings("bash");
        bash.current_dir(home.path())
            .env("HOME", home.path())
            .env("PATH", format!("{}:{search}", binary.parent().expect("a folder").display()))
            .env("STARLING_LISTEN", format!("/ip4/127.0.0.1/tcp/{}", ports["7400"]))
            .env("STARLING_API_LISTEN", format!("127.0.0.1:{}", ports["7401"]))
            .env("STARLING_API", format!("127.0.0.1:{}", ports["7401"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child =
            std::os::unix::process::CommandExt::process_group(&mut bash, 0).spawn().expect("bash");
        let mut input = child.stdin.take().expect("piped");
        writeln!(input, "exec 2>&1").expect("bash reads");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { child, input, lines, ports, ids: Comparison::default(), _home: home }
    }

    /// The text with this session's ports instead of the documents'.
    fn with_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (shown, port)| {
            text.replace(&format!(":{shown}"), &format!(":{port}"))
                .replace(&format!("/tcp/{shown}"), &format!("/tcp/{port}"))
        })
    }

    /// Runs a command and checks its output. One in the background is done when the last line shown was printed.
    fn step(&mut self, step: &Step) {
        let is_background = step.command.ends_with('&');
        let shown: Vec<String> = step.shown.iter().map(|line| self.with_ports(line)).collect();
        // A value is printed without a line feed where the output is no terminal.
        writeln!(self.input, "{}\nprintf '\\n{MARK}\\n'", self.with_ports(&step.command))
            .expect("bash reads");
        let mut printed = Vec::new();
        let mut is_marked = false;
        // A comparison that fails must leave no ids behind.
        let is_shown = |ids: &mut Comparison, printed: &[String]| {
            let mut compared = ids.clone();
            let is_equal = compared.lines(&shown, printed);
            if is_equal {
                *ids = compared;
            }
            is_equal
        };
        while !(is_marked && (!is_background || is_shown(&mut self.ids, &printed))) {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) if line == MARK => {
                    is_marked = true;
                    if printed.last().is_some_and(String::is_empty) {
                        printed.pop();
                    }
                }
                Ok(line) => printed.push(line),
                Err(error) => {
                    panic!("$ {}\nprinted, and then nothing ({error}):\n{}", step.command, printed.join("\n"))
                }
            }
        }
        assert!(
            is_shown(&mut self.ids, &printed),
            "$ {}\nprinted\n{}\nbut the document shows\n{}",
            step.command,
            printed.join("\n"),
            shown.join("\n")
        );
    }

    fn status(&self, api: &str) -> Result<Value, String> {
        let answer = run(["--api", &self.with_ports(api), "status", "--output", "json"], b"");
        serde_json::from_slice(&answer.stdout).map_err(|_| answer.stderr)
    }

    /// Waits until these nodes are neighbours and hold the same, as they do by the time that a person typed the next
    /// command.
    async fn settled(&self, apis: &[&str]) {
        wait_until("the nodes hold the same", async || {
            let statuses = apis.iter().map(|api| self.status(api)).collect::<Result<Vec<_>, _>>()?;
            let is_whole = statuses.iter().all(|status| {
                status["active"].as_u64() >= Some(apis.len() as u64 - 1)
                    && status["root"] == statuses[0]["root"]
            });
            if is_whole { Ok(()) } else { Err(format!("{statuses:?}")) }
        })
        .await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process number");
        // The group is gone if all ended by themselves.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_tour_and_the_recipes_print_what_they_show() {
    let mut tour = steps(&read(&root().join("README.md")));
    let recipes = steps(&read(&root().join("docs/recipes.md")));
    let end = tour.pop().expect("a tour");
    assert!(tour.len() > 15 && recipes.len() > 4, "{} and {} commands", tour.len(), recipes.len());
    assert!(end.command.starts_with("kill"), "the tour ends its nodes: {}", end.command);

    let mut session = Session::begin();
    let apis = ["127.0.0.1:7401", "127.0.0.1:7501", "127.0.0.1:7601"];
    let mut started = 0;
    for step in tour.iter().chain(&recipes) {
        session.step(step);
        started += usize::from(step.command.ends_with('&'));
        session.settled(&apis[..started]).await;
    }
    session.step(&end);
    wait_until("the nodes have ended", async || {
        let living = apis.iter().filter(|api| session.status(api).is_ok()).count();
        if living == 0 { Ok(()) } else { Err(format!("{living} answer")) }
    })
    .await;
    // Nothing else was printed meanwhile.
    let rest: Vec<String> = std::iter::from_fn(|| session.lines.recv_timeout(Duration::ZERO).ok()).collect();
    assert!(rest.is_empty(), "the nodes print while they are used: {rest:?}");
}
