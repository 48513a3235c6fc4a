//! `[passwords]`: what is accepted and what is made.

use serde::Deserialize;

/// `[passwords]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passwords {
    /// Scheme of new passwords: `sha512-crypt`, `argon2id`, `bcrypt` or `yescrypt`.
    pub scheme: String,
    /// Legacy schemes that still log in. The default is what `ENCRYPT()` made in the document's database.
    pub allow_weak: Vec<String>,
    /// Scheme of stored values that do not tell theirs, such as `md5` for bare hexadecimal digits.
    pub default_scheme: Option<String>,
    /// Whether a good login replaces a hash weaker than `scheme`: `true`, `false`, or `"dry-run"`, which only logs what
    /// would be replaced. Where the database may only be read, nothing is.
    pub upgrade: Upgrade,
}

/// Whether weak hashes are replaced at a good login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wish")]
pub enum Upgrade {
    /// They stay.
    Off,
    /// It is only logged which would be replaced.
    DryRun,
    /// They are replaced.
    On,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "upgrade is true, false or \"dry-run\"")]
enum Wish {
    Plain(bool),
    Word(String),
}

impl TryFrom<Wish> for Upgrade {
    type Error = String;

    fn try_from(wish: Wish) -> Result<Self, String> {
        match wish {
            Wish::Plain(true) => Ok(Self::On),
            Wish::Plain(false) => Ok(Self::Off),
            Wish::Word(word) if word == "dry-run" => Ok(Self::DryRun),
            Wish::Word(word) => Err(format!("\"{word}\" is none of true, false and \"dry-run\"")),
        }
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            scheme: "sha512-crypt".into(),
            allow_weak: vec!["des-crypt".into(), "md5-crypt".into()],
            default_scheme: None,
            upgrade: Upgrade::On,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrade_is_yes_no_or_a_rehearsal() {
        for (text, expected) in [("true", Upgrade::On), ("false", Upgrade::Off), ("\"dry-run\"", Upgrade::DryRun)] {
            let passwords: Passwords = toml::from_str(&format!("upgrade = {text}\n")).unwrap();
            assert_eq!(passwords.upgrade, expected);
        }
        for text in ["\"yes\"", "1", "[]"] {
            let error = toml::from_str::<Passwords>(&format!("upgrade = {text}\n")).unwrap_err().to_string();
            assert!(error.contains("dry-run"), "{text}: {error}");
        }
    }
}
