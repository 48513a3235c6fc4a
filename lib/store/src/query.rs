//! A named query with bound parameters, and the plain values that come back.
//!
//! Placeholders are `:name` outside of quotes and comments, on both databases; they are turned into `?` once, when the
//! schema is read. No query text is ever made from input.

use mailsql_core::Unavailable;
use std::fmt;

/// The placeholders that a query may have.
pub const PLACEHOLDERS: &[&str] = &[
    "address",
    "local",
    "domain",
    "detail",
    "service",
    "client_ip",
    "key",
    "source",
    "allowed",
    "password",
    "old_password",
    "destination",
    "enabled",
    "expires_at",
    "quota_bytes",
    "quota_messages",
    "rule",
    "label",
    "services",
    "allow_nets",
    "created_at",
    "used_at",
    "used_from",
    "id",
];

/// A statement, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The name it goes by in the schema, for errors.
    pub name: Box<str>,
    /// The text with `?` for each parameter.
    pub sql: Box<str>,
    /// The parameters' names in order.
    pub parameters: Box<[Box<str>]>,
}

/// A value as both databases have it.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A whole number.
    Int(i64),
    /// Text.
    Text(Box<str>),
}

/// Values are shown by kind only: one of them may be a password.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Int(_) => "Int(..)",
            Self::Text(_) => "Text(..)",
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Int)
    }
}

/// A row: values by column name.
#[derive(Debug, Clone)]
pub struct Row {
    /// Column names, shared by all rows of an answer.
    pub columns: std::sync::Arc<[Box<str>]>,
    /// As many values.
    pub values: Box<[Value]>,
}

impl Row {
    fn find(&self, column: &str) -> Option<&Value> {
        let at = self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?;
        self.values.get(at)
    }

    /// Text of a column; `None` for NULL or a column that the query does not have.
    #[must_use]
    pub fn text(&self, column: &str) -> Option<std::borrow::Cow<'_, str>> {
        match self.find(column)? {
            Value::Null => None,
            Value::Int(number) => Some(number.to_string().into()),
            Value::Text(text) => Some((&**text).into()),
        }
    }

    /// All columns in their order; NULL is empty.
    pub fn texts(&self) -> impl Iterator<Item = Box<str>> {
        self.values.iter().map(|value| match value {
            Value::Null => Box::default(),
            Value::Int(number) => number.to_string().into(),
            Value::Text(text) => text.clone(),
        })
    }

    /// A whole number; `None` for NULL or an absent column.
    ///
    /// # Errors
    /// [`Trouble::Broken`] when the column holds something else.
    pub fn int(&self, column: &str) -> Result<Option<i64>, Trouble> {
        match self.find(column) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Int(number)) => Ok(Some(*number)),
            Some(Value::Text(text)) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Trouble::Broken(format!("column {column} holds something that is no whole number"))),
            },
        }
    }
}

/// What can go wrong with a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The database cannot be asked now: down, slow, overloaded, or its answer was lost.
    Away(String),
    /// A row with this key exists.
    Duplicate,
    /// Our account on the database may not do this, or the database is read-only.
    Denied(String),
    /// A table or column is not there.
    Schema(String),
    /// A row or a statement that makes no sense.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate => f.write_str("exists already"),
            Self::Away(text) | Self::Denied(text) | Self::Schema(text) | Self::Broken(text) => f.write_str(text),
        }
    }
}

/// For a lookup, all trouble is "could not find out".
impl From<Trouble> for Unavailable {
    fn from(trouble: Trouble) -> Self {
        Self::new(trouble.to_string())
    }
}

impl Query {
    /// Reads a statement with `:name` placeholders.
    ///
    /// # Errors
    /// What is wrong with it, for the administrator.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut sql = String::with_capacity(text.len());
        let mut parameters: Vec<Box<str>> = Vec::new();
        let mut rest = text.trim().trim_end_matches(';');
        while let Some(c) = rest.chars().next() {
            let taken = match c {
                '\'' | '"' | '`' => quoted(rest, c).ok_or_else(|| format!("query {name}: a {c} that does not end"))?,
                '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
                '/' if rest.starts_with("/*") => rest
                    .find("*/")
                    .map(|at| at + 2)
                    .ok_or_else(|| format!("query {name}: a comment that does not end"))?,
                '?' => return Err(format!("query {name}: write parameters as :name, not ?")),
                ';' => return Err(format!("query {name}: holds more than one statement")),
                ':' => {
                    let word = &rest[1..];
                    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
                    let word = &word[..end];
                    if !PLACEHOLDERS.contains(&word) {
                        let known = PLACEHOLDERS[..7].join(", :");
                        return Err(format!("query {name}: unknown placeholder :{word}; known are :{known}"));
                    }
                    parameters.push(word.into());
                    sql.push('?');
                    rest = &rest[1 + end..];
                    continue;
                }
                c => c.len_utf8(),
            };
            sql.push_str(&rest[..taken]);
            rest = &rest[taken..];
        }
        Ok(Self { name: name.into(), sql: sql.into(), parameters: parameters.into() })
    }

    /// The values in the order of the statement's parameters.
    ///
    /// # Errors
    /// [`Trouble::Broken`] when one was not given.
    pub fn bind(&self, given: &[(&str, Value)]) -> Result<Vec<Value>, Trouble> {
        let find = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        // Accounts are cached for all who ask: their statements may name these, but nobody in particular is meant.
        let nobody = |name: &str| ["detail", "service", "client_ip"].contains(&name).then(|| Value::from(""));
        self.parameters
            .iter()
            .map(|name| {
                let value = find(name).or_else(|| nobody(name));
                value.ok_or_else(|| Trouble::Broken(format!("query {} cannot use :{name}", self.name)))
            })
            .collect()
    }
}

/// The length of a quoted text with its quotes; a doubled quote or a backslash before one does not end it.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote != '`' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return Some(at + 1);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_question_marks_outside_quotes_and_comments_only() {
        for (text, sql, parameters) in [
            ("SELECT 1", "SELECT 1", vec![]),
            ("SELECT :local, :domain;", "SELECT ?, ?", vec!["local", "domain"]),
            ("SELECT ':local', \":x\", `:y`", "SELECT ':local', \":x\", `:y`", vec![]),
            ("SELECT 'it''s :local', :local", "SELECT 'it''s :local', ?", vec!["local"]),
            ("SELECT 'a\\':local' -- :x\n, :local", "SELECT 'a\\':local' -- :x\n, ?", vec!["local"]),
            ("SELECT /* :x */ :address", "SELECT /* :x */ ?", vec!["address"]),
        ] {
            let query = Query::parse("q", text).unwrap();
            assert_eq!((&*query.sql, query.parameters.iter().map(|p| &**p).collect::<Vec<_>>()), (sql, parameters));
        }
    }

    #[test]
    fn a_statement_that_cannot_be_meant_is_refused() {
        for (text, expected) in [
            ("SELECT :adress", "unknown placeholder :adress"),
            ("SELECT ?", "not ?"),
            ("SELECT 1; DROP TABLE users", "more than one statement"),
            ("SELECT 'x", "does not end"),
            ("SELECT /* x", "does not end"),
        ] {
            let error = Query::parse("q", text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
