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
