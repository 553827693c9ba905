//! What a tired person reads first.

use crate::format::thousands;
use crate::model::{Run, Source, Writes};

/// One sentence on a run, and whether it is good news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing was lost, nothing came back, the overlay is whole, and every target is met.
    pub good: bool,
    /// The sentence, without a full stop.
    pub text: String,
}

impl Verdict {
    /// Judges a run.
    pub fn of(run: &Run) -> Self {
        let (whole, mut clauses) = match &run.source {
            Source::Attached { .. } if run.writes.sent == 0 => (true, vec!["nothing was written".into()]),
            _ => writes(&run.writes),
        };
        let mut good = whole;
        if run.views.components > 1 {
            good = false;
            clauses.push(format!("the overlay is in {} parts", thousands(run.views.components as u64)));
        }
        if let (Source::Attached { .. }, Some(roots)) = (&run.source, run.roots) {
            let equal = roots.equal_after_ms.is_some() && roots.different <= 1;
            clauses.push(if equal { "equal roots on every node" } else { "roots differ" }.into());
        }
        let unhealed = run.healing.iter().filter(|h| h.one_component_ms.is_none() || h.equal_ms.is_none());
        match unhealed.count() {
            0 => {}
            count => {
                good = false;
                clauses.push(format!("{count} of {} faults not healed by the end", run.healing.len()));
            }
        }
        let broken = run.strong.iter().flat_map(|strong| &strong.violations);
        for violation in broken {
            good = false;
            clauses.push(format!("the strong keyspace broke a promise: {violation}"));
        }
        let missed = run.bars.iter().filter(|bar| !bar.met).count();
        if missed > 0 {
            good = false;
            clauses.push(format!("{missed} of {} targets missed", run.bars.len()));
        } else if !run.bars.is_empty() {
            clauses.push(format!("{0} of {0} targets met", run.bars.len()));
        }
        Self { good, text: clauses.join("; ") }
    }

    /// One word for it.
    pub fn word(&self) -> &'static str {
        if self.good { "GOOD" } else { "BAD" }
    }
}

fn writes(writes: &Writes) -> (bool, Vec<String>) {
    let Writes { acknowledged, missing, lost, resurrected, .. } = *writes;
    if acknowledged == 0 {
        return (resurrected == 0, vec!["no write was acknowledged".into()]);
    }
    let count = |n: u64, what: &str| format!("{} {what}", thousands(n));
    let mut clauses = Vec::new();
    if lost > 0 {
        clauses.push(count(lost, &format!("of {} acknowledged writes lost", thousands(acknowledged))));
    }
    if missing > 0 {
        let of = format!("of {} acknowledged writes missing from a live node", thousands(acknowledged));
        clauses.push(count(missing, &of));
    } else if lost == 0 {
        clauses.push(format!("all {} acknowledged writes on every live node", thousands(acknowledged)));
        clauses.push("nothing lost".into());
    }
    if resurrected > 0 {
        clauses.push(count(resurrected, "deleted writes came back"));
    }
    (lost + missing + resurrected == 0, clauses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Healing;
    use crate::model::example::example;

    fn of(change: impl Fn(&mut Run)) -> Verdict {
        let mut run = example("calm", 1);
        run.healing.clear();
        change(&mut run);
        Verdict::of(&run)
    }

    #[test]
    fn good_news_says_what_was_checked() {
        let verdict = of(|_| {});
        assert_eq!(
            verdict.text,
            "all 1,000 acknowledged writes on every live node; nothing lost; 2 of 2 targets met"
        );
        assert_eq!(verdict.word(), "GOOD");
    }

    #[test]
    fn of_a_network_that_was_only_looked_at_the_roots_are_told() {
        let attached = |run: &mut Run| {
            run.source = Source::Attached { asked: 2 };
            run.writes = Writes::default();
        };
        let verdict = of(attached);
        assert_eq!(verdict.text, "nothing was written; equal roots on every node; 2 of 2 targets met");
        let differ = of(|run| {
            attached(run);
            run.roots.as_mut().expect("there are some").different = 2;
        });
        assert!(differ.good && differ.text.contains("roots differ"), "{}", differ.text);
    }

    #[test]
    fn every_kind_of_bad_news_is_bad() {
        for (change, expected) in [
            ((|run| run.writes.lost = 2) as fn(&mut Run), "2 of 1,000 acknowledged writes lost; "),
            (|run| run.writes.missing = 3, "3 of 1,000 acknowledged writes missing from a live node; "),
            (|run| run.writes.resurrected = 1, "1 deleted writes came back"),
            (|run| run.views.components = 2, "the overlay is in 2 parts"),
            (|run| run.healing.push(Healing::default()), "1 of 1 faults not healed by the end"),
            (
                |run| run.strong.get_or_insert_default().violations.push("once: twice".into()),
                "the strong keyspace broke a promise: once: twice",
            ),
            (|run| run.bars[0].met = false, "1 of 2 targets missed"),
        ] {
            let verdict = of(change);
            assert!(!verdict.good && verdict.text.contains(expected), "{}", verdict.text);
        }
    }
}
