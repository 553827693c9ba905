//! A scenario as the text of a file.

use toml::{Table, Value};

use crate::scenario::Scenario;

/// What of a scenario is not as it is by default, as TOML. Its seed is not part of it.
pub fn text(scenario: &Scenario) -> String {
    let table = |scenario: &Scenario| Table::try_from(scenario).expect("a scenario is a table");
    let mut left = table(scenario);
    drop_defaults(&mut left, &table(&Scenario::default()));
    left.to_string()
}

fn drop_defaults(table: &mut Table, defaults: &Table) {
    table.retain(|key, value| match (value, defaults.get(key)) {
        // Enumerations are tables as well: what names the variant has to stay.
        (Value::Table(table), Some(Value::Table(defaults))) if table.keys().eq(defaults.keys()) => {
            drop_defaults(table, defaults);
            !table.is_empty()
        }
        (value, default) => Some(&*value) != default,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use crate::swarm::draw;

    #[test]
    fn the_text_of_every_drawn_scenario_says_the_same_and_passes_the_checks() {
        for seed in 0..300 {
            let drawn = draw(seed);
            let text = text(&drawn);
            let mut read = scenario::parse("swarm", &text, &[]).unwrap_or_else(|e| panic!("{e}\n{text}"));
            read.seed = seed;
            assert_eq!(read, drawn, "{text}");
        }
    }
}
