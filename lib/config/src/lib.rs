//! mailsql.toml: one file a section.
