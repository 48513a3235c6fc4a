//! What is wrong with the statements, as far as the database itself can tell: asked at a daemon's start and by
//! `mailsql db status`.
//!
//! Two things are asked of each statement that reads, both without needing a row: which columns it brings (it is put
//! beside a row of our own, so that there is an answer even where it finds nothing), and how the database would look its
//! rows up. A lookup that reads a whole table is told about when no index could serve it, or when the table has more
//! than [`SMALL`] rows: with few, databases read the table although there is an index.

use crate::Store;
use crate::query::{Query, Row, Trouble, Value};
use crate::question::{self, Question};
use crate::schema::Backend;
use mailsql_core::Unavailable;
use std::fmt;

/// Rows up to which reading a whole table is nothing to tell about when an index exists.
const SMALL: i64 = 1000;

/// Something about a statement that the administrator ought to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The statement's name.
    pub query: String,
    /// Whether it cannot work as it is; otherwise it is slow.
    pub wrong: bool,
    /// What it is.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.query, self.text)
    }
}

impl Store {
    /// Looks at every statement that reads.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot be asked.
    pub async fn check(&self) -> Result<Vec<Finding>, Unavailable> {
        let plan = self.plan().await?;
        let mut findings = Vec::new();
        for name in ["domains", "domain", "account"] {
            if plan.find(name).is_none() {
                let text = "there is no statement for it".to_owned();
                findings.push(Finding { query: name.to_owned(), wrong: true, text });
            }
        }
        for (name, query) in plan.iter() {
            let question = question::find(name);
            if question.is_none() && !name.starts_with("custom ") {
                continue;
            }
            let mut tell = |wrong: bool, text: String| {
                findings.push(Finding { query: query.name.to_string(), wrong, text });
            };
            match self.columns(query).await {
                Ok(columns) => question
                    .into_iter()
                    .flat_map(|question| wrong_columns(question, &columns))
                    .for_each(|text| tell(true, text)),
                Err(trouble @ Trouble::Away(_)) if !is_statement_at_fault(&trouble) => return Err(trouble.into()),
                Err(trouble) => {
                    tell(true, trouble.to_string());
                    continue;
                }
            }
            if question.is_some_and(|question| question.list) {
                continue;
            }
            for table in self.scans(query).await? {
                tell(false, format!("reads all of {table}; an index on what it compares would spare that"));
            }
        }
        Ok(findings)
    }

    /// The columns that a statement brings.
    async fn columns(&self, query: &Query) -> Result<Vec<String>, Trouble> {
        let sql =
            format!("SELECT q.*, o.our_own FROM (SELECT 1 AS our_own) o LEFT JOIN ({}) q ON 1 = 1 LIMIT 1", query.sql);
        let beside = Query { name: query.name.clone(), sql: sql.into(), parameters: query.parameters.clone() };
        let rows = self.run(&beside, samples(query)).await?;
        let columns = rows.first().map(|row| row.columns.iter().map(|name| name.to_lowercase())).into_iter().flatten();
        Ok(columns.filter(|name| name != "our_own").collect())
    }

    /// The tables that a statement reads whole.
    async fn scans(&self, query: &Query) -> Result<Vec<String>, Trouble> {
        let verb = match self.backend() {
            Backend::Mysql => "EXPLAIN",
            Backend::Sqlite => "EXPLAIN QUERY PLAN",
        };
        let sql = format!("{verb} {}", query.sql);
        let explain = Query { name: query.name.clone(), sql: sql.into(), parameters: query.parameters.clone() };
        let rows = self.run(&explain, samples(query)).await?;
        Ok(rows
            .iter()
            .filter_map(|row| match self.backend() {
                Backend::Mysql => scanned_by_mysql(row),
                Backend::Sqlite => scanned_by_sqlite(row),
            })
            .collect())
    }
}

fn scanned_by_mysql(row: &Row) -> Option<String> {
    let whole = row.text("type").is_some_and(|kind| ["ALL", "index"].contains(&&*kind));
    let table = row.text("table")?;
    // <derived2> and the like are what another row of the plan has read.
    if !whole || table.starts_with('<') {
        return None;
    }
    let no_index = row.text("possible_keys").is_none();
    let many = row.int("rows").ok().flatten().is_some_and(|rows| rows > SMALL);
    (no_index || many).then(|| table.into_owned())
}

fn scanned_by_sqlite(row: &Row) -> Option<String> {
    let detail = row.text("detail")?;
    let table = detail.strip_prefix("SCAN ")?.split(' ').next()?;
    (!table.starts_with('(') && table != "CONSTANT" && !table.starts_with("subquery")).then(|| table.to_owned())
}

/// Something for each parameter that no account has.
fn samples(query: &Query) -> Vec<Value> {
    let sample = |name: &str| match name {
        "address" | "key" | "source" => "nobody.here@domain.invalid",
        "local" => "nobody.here",
        "domain" => "domain.invalid",
        "client_ip" => "192.0.2.1",
        _ => "",
    };
    query.parameters.iter().map(|name| sample(name).into()).collect()
}

/// SQLite's driver takes most errors for trouble with the file, as lookups must; these are the statement's.
fn is_statement_at_fault(trouble: &Trouble) -> bool {
    let text = trouble.to_string();
    ["ambiguous", "syntax error", "SQL logic error", "incomplete input"].iter().any(|sign| text.contains(sign))
}

fn wrong_columns(question: &Question, columns: &[String]) -> Vec<String> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let mut wrong = Vec::new();
    for need in question.needs.iter().filter(|need| !has(need)) {
        wrong.push(format!("has no column {need}; write `SELECT ... AS {need}`"));
    }
    if question.may.contains(&"address") && !has("address") && !(has("local") && has("domain")) {
        wrong.push("has neither a column address nor both local and domain".to_owned());
    }
    for column in columns {
        if !question.needs.contains(&column.as_str()) && !question.may.contains(&column.as_str()) {
            let known: Vec<&str> = question.needs.iter().chain(question.may).copied().collect();
            wrong.push(format!("has a column {column} that means nothing here; known are {}", known.join(", ")));
        }
    }
    wrong
}
