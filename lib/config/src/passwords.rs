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
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            scheme: "sha512-crypt".into(),
            allow_weak: vec!["des-crypt".into(), "md5-crypt".into()],
            default_scheme: None,
        }
    }
}
