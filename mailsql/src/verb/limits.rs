//! `mailsql limits`: what the running daemons count. Only they know; they are asked on their control sockets.
//!
//! A daemon answers lines `WORD key=value …`; a value with blanks is in double quotes.

use crate::arguments::Limits;
use crate::outcome::Outcome;
use crate::print;
use mailsql_ask::ask::{LimitsAction, Reply, Request};
use mailsql_ask::{Client, Control};
use mailsql_config::Config;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// Longest wait for a daemon.
const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) fn run(config: &Path, verb: Limits) -> Result<(), Outcome> {
    let config = Config::load(config)?;
    let (action, who, json) = match &verb {
        Limits::List { json } => (LimitsAction::List, None, *json),
        Limits::Explain { login, json } => (LimitsAction::Explain, Some(login.as_str()), *json),
        Limits::Reset { login } => (LimitsAction::Reset, Some(login.as_str()), false),
    };
    let answers = ask_all(&config.control.dir, action, who)?;
    if answers.is_empty() {
        return Err(Outcome::temporary(format!("no daemon answers in {}", config.control.dir.display())));
    }
    let lines: Vec<(&str, &str)> =
        answers.iter().flat_map(|(name, text)| text.lines().map(move |line| (name.as_str(), line))).collect();
    if json {
        let objects: Vec<Value> = lines.iter().map(|(name, line)| object(name, line)).collect();
        return print::line(&format!("{:#}", Value::Array(objects)));
    }
    for (name, line) in &lines {
        print::line(&format!("{name}: {line}"))?;
    }
    match (lines.is_empty(), who) {
        (true, Some(who)) => Err(Outcome::no(format!("nothing is counted for {who}"))),
        _ => Ok(()),
    }
}

/// What each daemon on this host answers. One that is dead is removed; one that cannot tell ends the command.
pub(crate) fn ask_all(dir: &Path, action: LimitsAction, who: Option<&str>) -> Result<Vec<(String, String)>, Outcome> {
    let mut answers = Vec::new();
    for control in Control::find_all(dir)? {
        let request = Request::Limits { action, address: who.map(str::as_bytes) };
        let name = format!("{}.{}", control.program, control.pid);
        match Client::new(&control.path, DEADLINE).ask(&request) {
            Ok(Reply::Text(text)) => answers.push((name, String::from_utf8_lossy(&text).into_owned())),
            Ok(Reply::Refused { reason }) => return Err(Outcome::usage(String::from_utf8_lossy(&reason).into_owned())),
            Ok(other) => return Err(Outcome::temporary(format!("{name} answered {}", other.word()))),
            Err(trouble) if trouble.is_dead() => {
                let _ = std::fs::remove_file(&control.path);
            }
            Err(trouble) => return Err(Outcome::temporary(format!("{name} did not answer: {trouble}"))),
        }
    }
    Ok(answers)
}

/// A line as a JSON object.
fn object(daemon: &str, line: &str) -> Value {
    let mut object = Map::from_iter([("daemon".to_owned(), daemon.into())]);
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (key, value, after) = field(rest);
        let value = value.parse::<i64>().map_or_else(|_| Value::from(value), Value::from);
        object.insert(key.unwrap_or("what").to_owned(), value);
        rest = after.trim_start();
    }
    Value::Object(object)
}

/// The first field of a line: its key, its value, and what follows.
fn field(line: &str) -> (Option<&str>, &str, &str) {
    let end = line.find([' ', '=']).unwrap_or(line.len());
    let Some(value) = line[end..].strip_prefix('=') else { return (None, &line[..end], &line[end..]) };
    if let Some((quoted, after)) = value.strip_prefix('"').and_then(|value| value.split_once('"')) {
        return (Some(&line[..end]), quoted, after);
    }
    let (value, after) = value.split_at(value.find(' ').unwrap_or(value.len()));
    (Some(&line[..end]), value, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_becomes_an_object() {
        for (line, want) in [
            ("rate rule=a level=3", json!({"daemon": "p.1", "what": "rate", "rule": "a", "level": 3})),
            ("x key=\"a b\" c=", json!({"daemon": "p.1", "what": "x", "key": "a b", "c": ""})),
            ("x key=\"a b", json!({"daemon": "p.1", "what": "b", "key": "\"a"})),
            ("", json!({"daemon": "p.1"})),
        ] {
            assert_eq!(object("p.1", line), want, "{line}");
        }
    }
}
