//! The mailsql command.
fn main() {}
