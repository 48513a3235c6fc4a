//! Tables and JSON on standard output.

use crate::outcome::Outcome;
use comfy_table::{Table, presets};
use serde_json::Value;

/// Prints a line; a reader that has gone away is an end, not a panic.
pub(crate) fn line(text: &str) -> Result<(), Outcome> {
    use std::io::Write;
    writeln!(anstream::stdout(), "{text}").map_err(Outcome::from)
}

/// Prints rows as an aligned table with a header, or as a JSON array of objects.
pub(crate) fn rows(header: &[&str], rows: &[Vec<Value>], json: bool) -> Result<(), Outcome> {
    if json {
        let objects: Vec<Value> = rows.iter().map(|row| object(header, row)).collect();
        return line(&pretty(&Value::Array(objects)));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(cell).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    line(&text.join("\n"))
}

/// Prints one thing as `name: value` lines, or as a JSON object.
pub(crate) fn one(names: &[&str], values: &[Value], json: bool) -> Result<(), Outcome> {
    if json {
        return line(&pretty(&object(names, values)));
    }
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for (name, value) in names.iter().zip(values) {
        line(&format!("{name:width$}  {}", cell(value)))?;
    }
    Ok(())
}

/// A moment (seconds since 1970) as UTC: `2026-11-25T08:30:00Z`.
pub(crate) fn moment(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years: the leap day is the last of its year.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (date, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

fn object(names: &[&str], values: &[Value]) -> Value {
    Value::Object(names.iter().map(ToString::to_string).zip(values.iter().cloned()).collect())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_595_400, "2026-11-25T08:30:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(moment(seconds), shown);
        }
    }
}
