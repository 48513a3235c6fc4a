//! The account database: MySQL-protocol servers and SQLite.
