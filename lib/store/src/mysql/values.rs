//! Values on their way to a server and back.

use crate::query::{Row, Trouble, Value};
use mysql_async::{Params, Value as Native};
use std::sync::Arc;

/// Bound parameters.
pub(super) fn parameters(values: &[Value]) -> Params {
    if values.is_empty() {
        return Params::Empty;
    }
    let native = |value: &Value| match value {
        Value::Null => Native::NULL,
        Value::Int(number) => Native::Int(*number),
        Value::Text(text) => Native::Bytes(text.as_bytes().to_vec()),
    };
    Params::Positional(values.iter().map(native).collect())
}

/// An answer's rows. They share their column names.
pub(super) fn rows(rows: Vec<mysql_async::Row>) -> Result<Vec<Row>, Trouble> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[Box<str>]> = first.columns_ref().iter().map(|column| Box::from(&*column.name_str())).collect();
    let row = |row: mysql_async::Row| {
        let values = row.unwrap_raw().into_iter().map(|value| plain(value.unwrap_or(Native::NULL)));
        Ok(Row { columns: Arc::clone(&columns), values: values.collect::<Result<_, Trouble>>()? })
    };
    rows.into_iter().map(row).collect()
}

fn plain(value: Native) -> Result<Value, Trouble> {
    Ok(match value {
        Native::NULL => Value::Null,
        Native::Int(number) => Value::Int(number),
        Native::UInt(number) => Value::Int(i64::try_from(number).unwrap_or(i64::MAX)),
        Native::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => return Err(Trouble::Broken("a column holds bytes that are not UTF-8".into())),
        },
        other => Value::Text(other.as_sql(true).trim_matches('\'').into()),
    })
}
