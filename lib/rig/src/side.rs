//! Ours or theirs: one test, run against our program or against the one it stands in for.
//!
//! `MAILSQL_THEIRS=saslauthd,maps` runs the tests that ask for these roles against Debian's programs; `MAILSQL_THEIRS=all`
//! does so for every role. A test that only one side can pass asks for that side outright.

/// Which program plays a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The program built from this workspace.
    Ours,
    /// The program of the distribution that ours replaces.
    Theirs,
}

impl Side {
    /// The side for a role (`saslauthd`, `pam`, `maps`, `lmtp`, `auth`, ...), from the environment; ours by default.
    #[must_use]
    pub fn of(role: &str) -> Self {
        Self::chosen(role, &std::env::var("MAILSQL_THEIRS").unwrap_or_default())
    }

    fn chosen(role: &str, theirs: &str) -> Self {
        if theirs.split(',').map(str::trim).any(|name| name == role || name == "all") {
            Self::Theirs
        } else {
            Self::Ours
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_the_side_role_by_role() {
        let table = [
            ("", "saslauthd", Side::Ours),
            ("saslauthd", "saslauthd", Side::Theirs),
            ("maps, saslauthd", "saslauthd", Side::Theirs),
            ("maps", "saslauthd", Side::Ours),
            ("all", "saslauthd", Side::Theirs),
        ];
        for (theirs, role, side) in table {
            assert_eq!(Side::chosen(role, theirs), side, "{theirs:?} {role}");
        }
    }
}
