//! Tables on a terminal.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::format::number;
use crate::model::{Bar, Limit};

/// Lines around the head and below the last row, and no others.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// A table whose first column is text and whose others are numbers.
pub fn table<R>(header: impl IntoIterator<Item = String>, rows: impl IntoIterator<Item = R>) -> String
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.into_iter().collect::<Vec<_>>());
    table.add_rows(rows.into_iter().map(|row| row.into_iter().collect::<Vec<_>>()));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// The header of a table of figures and their targets.
pub const BARS: [&str; 4] = ["figure", "measured", "target", "met"];

/// The row of one figure and its target.
pub fn bar_row(bar: &Bar) -> [String; 4] {
    let show = |value: f64| format!("{} {}", number(value), bar.unit).trim_end().to_string();
    let limit = match bar.limit {
        Limit::AtMost(most) => format!("<= {}", show(most)),
        Limit::AtLeast(least) => format!(">= {}", show(least)),
    };
    [bar.figure.clone(), show(bar.measured), limit, if bar.met { "yes" } else { "NO" }.into()]
}
