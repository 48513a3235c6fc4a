//! Blocking client of the mailsql daemon.
