//! Postfix lookup tables on the mailsql account database.
