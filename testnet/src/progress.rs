//! What the person sees on standard error while it works.

use std::time::Duration;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// One step of a run: a bar on a terminal while it lasts, one line when it is done.
#[derive(Debug)]
pub struct Phase {
    bar: ProgressBar,
    name: String,
    began: Instant,
}

impl Phase {
    /// Begins a step of `length` units; 0 where there is nothing to count.
    pub fn begin(name: impl Into<String>, length: u64) -> Self {
        let name = name.into();
        let bar = if length == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(length) };
        let template = if length == 0 {
            "{spinner} {msg} {elapsed}"
        } else {
            "{spinner} {msg} {bar:30} {pos}/{len} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, name, began: Instant::now() }
    }

    /// So many units more are done.
    pub fn advance(&self, units: u64) {
        self.bar.inc(units);
    }

    /// The step is done; `result` says what came of it.
    pub fn done(self, result: impl AsRef<str>) {
        self.bar.finish_and_clear();
        eprintln!("✓ {} {} ({:.1} s)", self.name, result.as_ref(), self.began.elapsed().as_secs_f64());
    }
}
