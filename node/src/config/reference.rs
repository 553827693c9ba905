//! The reference of all settings, as Markdown.

use super::FILE_NAME;
use super::table::SETTINGS;

/// A page that lists every setting with its default, unit, variable and purpose.
pub fn reference() -> String {
    let intro = format!(
        "# Settings\n\nA flag wins over an environment variable, that over the file (`--config FILE`, or `{FILE_NAME}` \
         in the data directory), that over the default. Any setting can be given as `--set KEY=VALUE`; in \
         variables and flags the items of a list are separated by commas.\n"
    );
    let header = "| key | default | unit | variable | what for |\n|---|---|---|---|---|".to_owned();
    let rows = SETTINGS.iter().map(|row| {
        let default = (row.default)();
        format!("| `{}` | `{default}` | {} | `{}` | {} |", row.key, row.unit, row.variable(), row.doc)
    });
    [intro, header].into_iter().chain(rows).chain([String::new()]).collect::<Vec<_>>().join("\n")
}
