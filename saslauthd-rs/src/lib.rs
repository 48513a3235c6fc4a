//! saslauthd on the mailsql account database.
