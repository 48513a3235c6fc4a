//! What is wrong with a configuration, told with file and line.

use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl Error {
    /// An error about the file as a whole.
    pub fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, message: message.into() }
    }

    pub(crate) fn unreadable(path: &Path, trouble: &std::io::Error) -> Self {
        let advice = match trouble.kind() {
            std::io::ErrorKind::NotFound => "; `mailsql init` makes one, `--config FILE` names another",
            std::io::ErrorKind::PermissionDenied => "; run as root or as a member of group mailsql",
            _ => "",
        };
        Self::new(path, format!("{trouble}{advice}"))
    }

    pub(crate) fn syntax(path: &Path, text: &str, trouble: &toml::de::Error) -> Self {
        let offset = trouble.span().map(|span| span.start.min(text.len()));
        let line = offset.map(|offset| text[..offset].matches('\n').count() + 1);
        let section = offset.and_then(|offset| section_at(text, offset));
        let message = unknown_key(trouble.message(), section).unwrap_or_else(|| trouble.message().replace('\n', " "));
        Self { path: path.to_owned(), line, message }
    }
}

/// The section that the text is in at `offset`, unless the offset is on a section's own line.
fn section_at(text: &str, offset: usize) -> Option<&str> {
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    if text[line_start..].trim_start().starts_with('[') {
        return None;
    }
    text[..line_start]
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix('[')?.split(']').next())
        .map(|name| name.trim_start_matches('['))
}

/// Rewrites serde's "unknown field `x`, expected one of `a`, `b`".
fn unknown_key(message: &str, section: Option<&str>) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let nearest = known.iter().min_by_key(|name| distance(key, name)).filter(|name| distance(key, name) <= 3);
    Some(match (section, nearest) {
        (Some(section), Some(name)) => format!("unknown key `{key}` in [{section}]; did you mean `{name}`?"),
        (Some(section), None) => format!("unknown key `{key}` in [{section}]; known are {}", known.join(", ")),
        (None, Some(name)) => format!("unknown section [{key}]; did you mean [{name}]?"),
        (None, None) => format!("unknown section [{key}]; known are {}", known.join(", ")),
    })
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
